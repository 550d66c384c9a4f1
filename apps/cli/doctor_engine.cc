// The doctor about what the engine does inside a program: its library, the patches to libc, the
// kernel's page moves and asynchronous disk I/O.
#include <dlfcn.h>
#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "cli/doctor.h"
#include "cli/exit_codes.h"
#include "cli/preload_library.h"

namespace spillway {
namespace {

void check_library(std::vector<Check>& checks) {
  try {
    const std::string path = find_preload_library(own_folder());
    checks.push_back({"library", CheckStatus::ok, "preload library", path, ""});
  } catch (const CliError& error) {
    const std::string line = error.what();
    const std::size_t cut = line.rfind("; ");
    checks.push_back({"library", CheckStatus::missing, "preload library", line.substr(0, cut),
                      line.substr(cut + 2)});
  }
}

// Whether libc's text may be made writable. Asked in a child, so that nothing changes here:
// hardened systems (SELinux without execmod) forbid it.
int patch_error() {
  void* entry = ::dlsym(RTLD_DEFAULT, "mmap");
  if (entry == nullptr) return ENOENT;
  const pid_t child = ::fork();
  if (child < 0) return errno;
  if (child == 0) {
    const std::uintptr_t page = reinterpret_cast<std::uintptr_t>(entry) & ~kPageMask;
    // Executable all along: mprotect itself may stand on that page.
    if (::mprotect(reinterpret_cast<void*>(page), kPageSize, PROT_READ | PROT_WRITE | PROT_EXEC) !=
        0) {
      ::_exit(errno);
    }
    volatile char* byte = static_cast<volatile char*>(entry);
    *byte = *byte;
    ::_exit(0);
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return EFAULT;
  return WEXITSTATUS(status);
}

void check_libc(std::vector<Check>& checks) {
  const int error = patch_error();
  const std::string version = fmt::format("glibc {}", ::gnu_get_libc_version());
  if (error == 0) {
    checks.push_back({"libc", CheckStatus::ok, "libc",
                      version + "; its memory calls can be redirected, its internal ones too", ""});
  } else {
    checks.push_back({"libc", CheckStatus::warn, "libc",
                      fmt::format("{}; its code cannot be patched ({}), so calls inside libc are "
                                  "not seen and some memory stays outside the budget",
                                  version, std::strerror(error)),
                      "allow text relocations for these programs (SELinux: execmod)"});
  }
}

void check_io_uring(std::vector<Check>& checks) {
  io_uring_params params{};
  const long fd = ::syscall(__NR_io_uring_setup, 1, &params);
  if (fd >= 0) {
    ::close(static_cast<int>(fd));
    checks.push_back({"io_uring", CheckStatus::ok, "io_uring", "available", ""});
    return;
  }
  checks.push_back({"io_uring", CheckStatus::unused, "io_uring",
                    fmt::format("not available ({}); the disk is then read and written by ordinary "
                                "calls",
                                std::strerror(errno)),
                    ""});
}

}  // namespace

void check_engine(std::vector<Check>& checks) {
  check_library(checks);
  check_libc(checks);
  check_io_uring(checks);
}

}  // namespace spillway
