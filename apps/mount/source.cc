#include "mount/source.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <vector>

#include "cli/exit_codes.h"

namespace spillway {
namespace {

namespace files = std::filesystem;

std::string resolved(const std::string& what, const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                         &std::free);
  if (real == nullptr) {
    throw CliError(fmt::format("mount {}", path), std::strerror(errno),
                   fmt::format("give the path of {}", what));
  }
  return real.get();
}

std::string contents_of(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream out;
  out << file.rdbuf();
  return out.str();
}

// /proc writes blanks, tabs, line ends and backslashes of names as three octal digits.
std::string unescaped(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>(std::strtol(text.substr(i + 1, 3).c_str(), nullptr, 8));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// Devices that stand for the file: loop devices over it.
std::vector<std::string> loop_devices_of(const std::string& path) {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& entry : files::directory_iterator("/sys/block", error)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("loop")) continue;
    std::string backing = contents_of(entry.path() / "loop" / "backing_file");
    if (!backing.empty() && backing.back() == '\n') backing.pop_back();
    if (backing == path) out.push_back("/dev/" + name);
  }
  return out;
}

}  // namespace

bool is_mounted_source(const std::string& mountinfo, const std::string& source) {
  std::istringstream lines(mountinfo);
  for (std::string line; std::getline(lines, line);) {
    // ... - type source options
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream fields(line.substr(dash + 3));
    std::string type;
    std::string from;
    if (fields >> type >> from && unescaped(from) == source) return true;
  }
  return false;
}

SourceKind check_source(std::string& path) {
  path = resolved("an image or a directory", path);
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) {
    throw CliError(fmt::format("mount {}", path), std::strerror(errno), "check the path");
  }
  if (S_ISDIR(status.st_mode)) return SourceKind::directory;
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    throw CliError(fmt::format("mount {}", path),
                   "is neither a file, a block device nor a directory",
                   "give an ext2, ext3 or ext4 image, or a directory");
  }
  const std::string mountinfo = contents_of("/proc/self/mountinfo");
  std::vector<std::string> names = loop_devices_of(path);
  names.push_back(path);
  for (const std::string& name : names) {
    if (!is_mounted_source(mountinfo, name)) continue;
    throw CliError(fmt::format("mount {}", path),
                   fmt::format("is mounted already{}", name == path ? "" : " through " + name),
                   "unmount it first: two at a time would destroy it");
  }
  return SourceKind::image;
}

void check_mountpoint(std::string& path, const std::string& source, SourceKind kind) {
  path = resolved("the directory to mount on", path);
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) {
    throw CliError(fmt::format("mount {}", path), std::strerror(errno), "check the path");
  }
  if (!S_ISDIR(status.st_mode)) {
    throw CliError(fmt::format("mount {}", path), "is no directory", "mount on a directory");
  }
  const bool inside = path == source || path.starts_with(source == "/" ? "/" : source + "/");
  if (kind == SourceKind::directory && inside) {
    throw CliError(fmt::format("mount {}", path),
                   "lies in the directory that is to be served, so that serving it would wait for "
                   "itself",
                   "mount on a directory outside of it");
  }
}

}  // namespace spillway
