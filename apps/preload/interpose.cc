// What the library exports: its constructor, and functions that stand in front of libc's.
//   memory calls      for callers in other libraries, before and besides the patches
//   close and kin     keep the engine's descriptors out of the reach of "close everything"
//   vmsplice, zerocopy  would let the kernel read a frame after it was given to somebody else
//   (affinity_calls.cc: threads, CPU masks and exec, for machine_host/thread_pair.h)
//   __libc_start_main   tells children of a bare LD_PRELOAD about the budget
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdlib>

#include "machine_host/engine_fds.h"
#include "machine_host/syscalls.h"
#include "preload/affinity_calls.h"
#include "preload/engine.h"
#include "preload/libc_symbols.h"
#include "preload/memory_calls.h"

#define SPW_EXPORT __attribute__((visibility("default")))

namespace spillway {
namespace {

// libc's own functions, resolved by the constructor: a lookup at the time of the call might
// allocate, or find one of ours.
struct RealCalls {
  int (*close)(int);
  int (*setsockopt)(int, int, int, const void*, socklen_t);
  ssize_t (*writev)(int, const iovec*, int);
};
RealCalls g_real;

template <class Fn>
void resolve(Fn& fn, const char* name) {
  fn = reinterpret_cast<Fn>(libc_function(name));
}

// Closes [first, last] but for the engine's descriptors.
int close_range_around(unsigned first, unsigned last, int flags) {
  constexpr i64 kCloseRange = 436;
  int fds[static_cast<u32>(FdRole::kCount)];
  const u32 count = engine_fds(fds);
  unsigned from = first;
  for (;;) {
    // The lowest of ours in what is left.
    i64 ours = -1;
    for (u32 i = 0; i < count; ++i) {
      const i64 fd = fds[i];
      if (fd >= from && fd <= last && (ours < 0 || fd < ours)) ours = fd;
    }
    const unsigned to = ours < 0 ? last : static_cast<unsigned>(ours) - 1;
    if (ours < 0 || ours > from) {
      const i64 result = sys::call(kCloseRange, from, to, flags);
      if (result != 0) {
        errno = static_cast<int>(-result);
        return -1;
      }
    }
    if (ours < 0 || ours == last) return 0;
    from = static_cast<unsigned>(ours) + 1;
  }
}

using Main = int (*)(int, char**, char**);
Main g_main = nullptr;

// libc is complete and its environment is set: the time to tell later children of the budget
// that this process made for itself.
int main_with_budget(int argc, char** argv, char** environment) {
  if (own_ledger_fd() >= 0) {
    static Message entry;
    entry.text("SPILLWAY_LEDGER_FD=").number(static_cast<u64>(own_ledger_fd()));
    putenv(const_cast<char*>(entry.c_str()));
    environment = environ;
  }
  return g_main(argc, argv, environment);
}

// Starts the engine before any other constructor: -z initfirst.
__attribute__((constructor)) void start(int, char** argv, char** environment) {
  resolve(g_real.close, "close");
  resolve(g_real.setsockopt, "setsockopt");
  resolve(g_real.writev, "writev");
  resolve_affinity_calls();
  start_engine(argv, environment);
}

__attribute__((destructor)) void finish() { finish_engine(); }

}  // namespace
}  // namespace spillway

using namespace spillway;

extern "C" {

SPW_EXPORT void* mmap(void* addr, size_t length, int prot, int flags, int fd,
                      off_t offset) noexcept {
  return call_mmap(addr, length, prot, flags, fd, offset);
}
SPW_EXPORT void* mmap64(void* addr, size_t length, int prot, int flags, int fd,
                        off64_t offset) noexcept {
  return call_mmap(addr, length, prot, flags, fd, offset);
}
SPW_EXPORT int munmap(void* addr, size_t length) noexcept { return call_munmap(addr, length); }
SPW_EXPORT int mprotect(void* addr, size_t length, int prot) noexcept {
  return call_mprotect(addr, length, prot);
}
SPW_EXPORT int madvise(void* addr, size_t length, int advice) noexcept {
  return call_madvise(addr, length, advice);
}
SPW_EXPORT void* mremap(void* old_addr, size_t old_length, size_t new_length, int flags,
                        ...) noexcept {
  void* new_addr = nullptr;
  if ((flags & MREMAP_FIXED) != 0) {
    va_list rest;
    va_start(rest, flags);
    new_addr = va_arg(rest, void*);
    va_end(rest);
  }
  return call_mremap(old_addr, old_length, new_length, flags, new_addr);
}
SPW_EXPORT int mlock(const void* addr, size_t length) noexcept { return call_mlock(addr, length); }
SPW_EXPORT int mlock2(const void* addr, size_t length, unsigned flags) noexcept {
  return call_mlock2(addr, length, flags);
}
SPW_EXPORT int munlock(const void* addr, size_t length) noexcept {
  return call_munlock(addr, length);
}
SPW_EXPORT int mlockall(int flags) noexcept { return call_mlockall(flags); }
SPW_EXPORT int munlockall() noexcept { return call_munlockall(); }
SPW_EXPORT int mincore(void* addr, size_t length, unsigned char* vec) noexcept {
  return call_mincore(addr, length, vec);
}
SPW_EXPORT int pkey_mprotect(void* addr, size_t length, int prot, int pkey) noexcept {
  return call_pkey_mprotect(addr, length, prot, pkey);
}

SPW_EXPORT int close(int fd) {
  if (engine_ready() && is_engine_fd(fd)) {
    errno = EBADF;
    return -1;
  }
  return g_real.close != nullptr ? g_real.close(fd) : static_cast<int>(sys::close(fd));
}
SPW_EXPORT int close_range(unsigned first, unsigned last, int flags) noexcept {
  return close_range_around(first, last, flags);
}
SPW_EXPORT void closefrom(int first) noexcept {
  close_range_around(first < 0 ? 0 : static_cast<unsigned>(first), ~0U, 0);
}
SPW_EXPORT int dup3(int from, int to, int flags) noexcept {
  if (engine_ready() && (is_engine_fd(to) || is_engine_fd(from))) {
    errno = EBADF;
    return -1;
  }
  const i64 result = sys::call(SYS_dup3, from, to, flags);
  if (!sys::failed(result)) return static_cast<int>(result);
  errno = static_cast<int>(-result);
  return -1;
}
SPW_EXPORT int dup2(int from, int to) noexcept {
  if (engine_ready() && (is_engine_fd(to) || is_engine_fd(from))) {
    errno = EBADF;
    return -1;
  }
  const i64 result = sys::call(SYS_dup2, from, to);
  if (!sys::failed(result)) return static_cast<int>(result);
  errno = static_cast<int>(-result);
  return -1;
}

// Into a pipe, vmsplice lends the pages themselves, and a frame that is moved on while the pipe
// still refers to it would show its next owner's bytes. A copy is what the call may do anyway.
SPW_EXPORT ssize_t vmsplice(int fd, const iovec* pieces, size_t count, unsigned flags) {
  const i64 mode = sys::call(SYS_fcntl, fd, F_GETFL);
  if (!sys::failed(mode) && (mode & O_ACCMODE) != O_RDONLY) {
    const size_t most = count < 1024 ? count : 1024;  // IOV_MAX: the rest is a short write
    return g_real.writev(fd, pieces, static_cast<int>(most));
  }
  const i64 result = sys::call(SYS_vmsplice, fd, pieces, count, flags);
  if (!sys::failed(result)) return result;
  errno = static_cast<int>(-result);
  return -1;
}

// Zero-copy sends have the same flaw. Without this option the kernel copies, whatever flags a
// send has, and programs know how to go on without it.
SPW_EXPORT int setsockopt(int fd, int level, int name, const void* value,
                          socklen_t length) noexcept {
  constexpr int kZerocopy = 60;  // SO_ZEROCOPY
  if (level == SOL_SOCKET && name == kZerocopy) {
    errno = EOPNOTSUPP;
    return -1;
  }
  return g_real.setsockopt(fd, level, name, value, length);
}

// Puts main_with_budget in front of the program's main function.
SPW_EXPORT int __libc_start_main(Main main, int argc, char** argv, void (*init)(), void (*fini)(),
                                 void (*rtld_fini)(), void* stack_end) {
  using Start = int (*)(Main, int, char**, void (*)(), void (*)(), void (*)(), void*);
  Start real = nullptr;
  resolve(real, "__libc_start_main");
  g_main = main;
  return real(main_with_budget, argc, argv, init, fini, rtld_fini, stack_end);
}

// Without the C++ runtime: reached only by a call of a pure virtual function, which is a bug.
__attribute__((visibility("hidden"))) void __cxa_pure_virtual() { __builtin_trap(); }
}
