#include "cli/uffd_access.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "cli/child_environment.h"
#include "cli/exit_codes.h"

namespace spillway {
namespace {

int inheritable_or_throw(int fd) {
  const int copy = fd < 0 ? -1 : make_inheritable(fd);
  if (copy >= 0) return copy;
  throw CliError("/dev/userfaultfd", fmt::format("cannot be handed on: {}", std::strerror(errno)),
                 "raise 'ulimit -n'");
}

[[noreturn]] void refuse(const UffdReport& report) {
  const int device_error = static_cast<int>(-report.device.error);
  if (!report.user_mode_only.usable && device_error == ENOENT && report.syscall.error == -ENOSYS) {
    throw CliError("userfaultfd", "this kernel is built without it",
                   "use a kernel with CONFIG_USERFAULTFD, 5.7 or later");
  }
  throw CliError("userfaultfd",
                 report.user_mode_only.usable
                     ? "this user may catch page faults of user code only, and system calls on "
                       "swapped-out memory would fail"
                     : fmt::format("this user may not use it (/dev/userfaultfd: {})",
                                   std::strerror(device_error)),
                 kUffdRemedy);
}

}  // namespace

const char* const kUffdRemedy =
    "let a group use /dev/userfaultfd with the udev rule KERNEL==\"userfaultfd\", "
    "GROUP=\"spillway\", MODE=\"0660\" (in a container: --device /dev/userfaultfd), or run as root "
    "or with CAP_SYS_PTRACE";

int inherited_uffd_fd() {
  const char* text = std::getenv("SPILLWAY_UFFD_FD");
  if (text == nullptr) return -1;
  int fd = -1;
  const char* end = text + std::strlen(text);
  const std::from_chars_result parsed = std::from_chars(text, end, fd);
  return parsed.ec == std::errc() && parsed.ptr == end && fd >= 0 ? fd : -1;
}

UffdAccess require_uffd() {
  const int inherited = inherited_uffd_fd();
  const UffdReport report = uffd_probe(inherited);
  UffdAccess access;
  if (report.inherited.usable) {
    // The caller's descriptor stays what it is: a copy goes to the program.
    access.device_fd = inheritable_or_throw(::fcntl(inherited, F_DUPFD_CLOEXEC, 3));
    access.source = "userfaultfd through the inherited descriptor of SPILLWAY_UFFD_FD";
  } else if (report.device.usable) {
    access.device_fd = inheritable_or_throw(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
    access.source = "userfaultfd through /dev/userfaultfd";
  } else if (report.syscall.usable) {
    access.source = "userfaultfd by its system call";
  } else {
    refuse(report);
  }
  return access;
}

}  // namespace spillway
