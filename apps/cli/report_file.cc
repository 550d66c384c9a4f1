#include "cli/report_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "cli/exit_codes.h"

namespace spillway {
namespace {

std::string neighbour_template(const std::string& path) { return path + ".XXXXXX"; }

bool write_all(int fd, const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t wrote = ::write(fd, text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return false;
    done += static_cast<std::size_t>(wrote);
  }
  return true;
}

}  // namespace

ReportFile::ReportFile(const std::string& origin, const std::string& path)
    : thing_(fmt::format("{} {}", origin, path)), path_(path) {
  if (path.empty()) fail("cannot be written", ENOENT);
  struct stat link;
  struct stat target;
  const bool exists = ::lstat(path.c_str(), &link) == 0;
  if (exists) {
    // Only stat follows the links of /proc/self/fd, which /dev/stdout leads to.
    if (::stat(path.c_str(), &target) != 0) fail("cannot be written", errno);
    if (S_ISDIR(target.st_mode)) fail("cannot be written", EISDIR);
    if (::access(path.c_str(), W_OK) != 0) fail("cannot be written", errno);
    place_ = S_ISREG(target.st_mode) ? Place::file : Place::device;
    // Renaming over the file behind stdout or stderr would lose what the program wrote there.
    for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
      struct stat own;
      if (::fstat(fd, &own) == 0 && own.st_dev == target.st_dev && own.st_ino == target.st_ino) {
        place_ = Place::descriptor;
        fd_ = fd;
        break;
      }
    }
  }
  if (place_ != Place::file) return;
  char absolute[PATH_MAX];
  if (exists) {
    if (::realpath(path.c_str(), absolute) == nullptr) fail("cannot be written", errno);
    path_ = absolute;  // a link is followed, not replaced
  }
  std::string name = neighbour_template(path_);
  const int fd = ::mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0) fail("cannot be written", errno);
  ::unlink(name.c_str());
  ::close(fd);
}

void ReportFile::fail(const char* what, int error) const {
  throw CliError(thing_, fmt::format("{}: {}", what, std::strerror(error)),
                 "name a file in a folder that exists and that this user may write to");
}

void ReportFile::write(const std::string& text) const {
  switch (place_) {
    case Place::file: return replace(text);
    case Place::descriptor:
      if (!write_all(fd_, text)) fail("cannot be written", errno);
      return;
    case Place::device: break;
  }
  const int fd = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) fail("cannot be written", errno);
  const bool written = write_all(fd, text);
  const int error = errno;
  ::close(fd);
  if (!written) fail("cannot be written", error);
}

void ReportFile::replace(const std::string& text) const {
  std::string name = neighbour_template(path_);
  const int fd = ::mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0) fail("cannot be written", errno);
  // mkostemp makes private files; the report is an ordinary one.
  const mode_t mask = ::umask(0);
  ::umask(mask);
  const bool written = write_all(fd, text) && ::fchmod(fd, 0666 & ~mask) == 0 &&
                       ::rename(name.c_str(), path_.c_str()) == 0;
  const int error = errno;
  ::close(fd);
  if (!written) {
    ::unlink(name.c_str());
    fail("cannot be written", error);
  }
}

}  // namespace spillway
