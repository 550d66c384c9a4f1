#include "cli/swap_dir.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "cli/exit_codes.h"

namespace spillway {
namespace {

constexpr const char* kDefaultSwapDir = "/var/tmp";
constexpr const char* kElsewhere = "choose another folder with --swap-dir";

// A new file without a name in `path`, or -1 with errno. Nothing stays behind.
int open_unnamed(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC | flags, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
  // Some file systems (NFS, older overlays) have no unnamed files.
  std::string name = path + "/.spillway-XXXXXX";
  const int named = ::mkostemp(name.data(), O_CLOEXEC | flags);
  const int error = errno;
  if (named >= 0) ::unlink(name.c_str());
  errno = error;
  return named;
}

}  // namespace

SwapDir check_swap_dir(const Setting& setting, const char* tmpdir) {
  SwapDir dir;
  if (setting.given()) {
    dir.path = setting.text;
    dir.source = setting.origin;
  } else if (tmpdir != nullptr && tmpdir[0] != '\0') {
    dir.path = tmpdir;
    dir.source = "TMPDIR";
  } else {
    dir.path = kDefaultSwapDir;
    dir.source = "the default";
  }
  const std::string thing = fmt::format("swap folder {} ({})", dir.path, dir.source);

  char absolute[PATH_MAX];
  struct stat status;
  if (::realpath(dir.path.c_str(), absolute) == nullptr || ::stat(absolute, &status) != 0) {
    const bool missing = errno == ENOENT;
    throw CliError(thing, missing ? "does not exist" : std::strerror(errno),
                   missing ? std::string("create it, or ") + kElsewhere : kElsewhere);
  }
  if (!S_ISDIR(status.st_mode)) throw CliError(thing, "is not a folder", kElsewhere);
  dir.path = absolute;
  const bool others_write = (status.st_mode & (S_IWGRP | S_IWOTH)) != 0;
  if (others_write && (status.st_mode & S_ISVTX) == 0) {
    throw CliError(thing, "other users may write to it",
                   fmt::format("make it private (chmod go-w {}), or {}", dir.path, kElsewhere));
  }
  const int fd = open_unnamed(dir.path, 0);
  if (fd < 0) {
    throw CliError(thing, fmt::format("no file can be created in it: {}", std::strerror(errno)),
                   std::string("make it writable for this user, or ") + kElsewhere);
  }
  struct statfs system;
  if (::fstatfs(fd, &system) == 0) {
    dir.bytes_free = static_cast<u64>(system.f_bavail) * static_cast<u64>(system.f_bsize);
    dir.in_ram = system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC;
  }
  ::close(fd);
  return dir;
}

bool supports_direct_io(const std::string& path) {
  const int fd = open_unnamed(path, O_DIRECT);
  if (fd < 0) return false;
  // Some file systems accept the flag and refuse the write.
  alignas(kPageSize) static char page[kPageSize];
  const bool written = ::pwrite(fd, page, sizeof page, 0) == static_cast<ssize_t>(sizeof page);
  ::close(fd);
  return written;
}

}  // namespace spillway
