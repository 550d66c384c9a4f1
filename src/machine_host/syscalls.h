// Raw Linux system calls. Engine code may not go through libc's wrappers: they write errno, which
// lives in the thread block of the program, and the wrappers of memory calls are the very ones
// that the preload library redirects to the engine.
//
// Every function returns the kernel's value: -errno on failure.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>

#include "base/types.h"

namespace spillway::sys {

template <class T>
inline u64 word(T x) {
  if constexpr (requires { reinterpret_cast<u64>(x); }) {
    return reinterpret_cast<u64>(x);
  } else {
    return static_cast<u64>(x);
  }
}

template <class A = u64, class B = u64, class C = u64, class D = u64, class E = u64, class F = u64>
inline i64 call(i64 number, A a = {}, B b = {}, C c = {}, D d = {}, E e = {}, F f = {}) {
  i64 result;
  const u64 fourth = word(d);
  const u64 fifth = word(e);
  const u64 sixth = word(f);
  register u64 r10 asm("r10") = fourth;
  register u64 r8 asm("r8") = fifth;
  register u64 r9 asm("r9") = sixth;
  asm volatile("syscall"
               : "=a"(result)
               : "0"(number), "D"(word(a)), "S"(word(b)), "d"(word(c)), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

inline constexpr i64 kPerm = -1;
inline constexpr i64 kNoEntry = -2;
inline constexpr i64 kSearch = -3;
inline constexpr i64 kInterrupted = -4;
inline constexpr i64 kBadFd = -9;
inline constexpr i64 kAgain = -11;
inline constexpr i64 kNoMemory = -12;
inline constexpr i64 kBusy = -16;
inline constexpr i64 kExists = -17;
inline constexpr i64 kInvalid = -22;
inline constexpr i64 kNoSpace = -28;
inline constexpr i64 kNotSupported = -95;
inline constexpr i64 kTimedOut = -110;

constexpr bool failed(i64 result) { return result < 0 && result >= -4095; }

inline i64 mmap(u64 addr, u64 length, int prot, int flags, int fd = -1, u64 offset = 0) {
  return call(SYS_mmap, addr, length, prot, flags, fd, offset);
}
inline i64 munmap(u64 addr, u64 length) { return call(SYS_munmap, addr, length); }
inline i64 mprotect(u64 addr, u64 length, int prot) {
  return call(SYS_mprotect, addr, length, prot);
}
inline i64 madvise(u64 addr, u64 length, int advice) {
  return call(SYS_madvise, addr, length, advice);
}
inline i64 mincore(u64 addr, u64 length, u8* vec) { return call(SYS_mincore, addr, length, vec); }
inline i64 ioctl(int fd, u64 request, void* arg) { return call(SYS_ioctl, fd, request, arg); }
inline i64 open(const char* path, int flags, u32 mode = 0) {
  constexpr int kAtCwd = -100;
  return call(SYS_openat, kAtCwd, path, flags, mode);
}
inline i64 close(int fd) { return call(SYS_close, fd); }
inline i64 read(int fd, void* data, u64 bytes) { return call(SYS_read, fd, data, bytes); }
inline i64 write(int fd, const void* data, u64 bytes) { return call(SYS_write, fd, data, bytes); }
inline i64 pread(int fd, void* data, u64 bytes, u64 offset) {
  return call(SYS_pread64, fd, data, bytes, offset);
}
inline i32 getpid() { return static_cast<i32>(call(SYS_getpid)); }
inline i32 gettid() { return static_cast<i32>(call(SYS_gettid)); }
[[noreturn]] inline void exit_group(int code) {
  for (;;) call(SYS_exit_group, code);
}

struct TimeSpec {
  i64 seconds;
  i64 nanoseconds;
};
constexpr TimeSpec time_spec(u64 ns) {
  return {static_cast<i64>(ns / 1'000'000'000), static_cast<i64>(ns % 1'000'000'000)};
}

enum class Sharing : u8 { this_process, processes };

// Sleeps while *word == expected; a timeout of 0 waits for ever.
inline i64 futex_wait(const void* word, u32 expected, u64 timeout_ns, Sharing sharing) {
  const TimeSpec ts = time_spec(timeout_ns);
  const int op = FUTEX_WAIT | (sharing == Sharing::this_process ? FUTEX_PRIVATE_FLAG : 0);
  return call(SYS_futex, word, op, expected, timeout_ns == 0 ? nullptr : &ts);
}
inline i64 futex_wake(const void* word, u32 count, Sharing sharing) {
  const int op = FUTEX_WAKE | (sharing == Sharing::this_process ? FUTEX_PRIVATE_FLAG : 0);
  return call(SYS_futex, word, op, count);
}

// Blocks every signal for the calling thread, or restores what was blocked before.
inline u64 block_signals() {
  const u64 all = ~u64{0};
  u64 old = 0;
  call(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &all, &old, sizeof(old));
  return old;
}
inline void restore_signals(u64 old) {
  call(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &old, nullptr, sizeof(old));
}

}  // namespace spillway::sys
