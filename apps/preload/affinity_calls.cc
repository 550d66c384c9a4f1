#include "preload/affinity_calls.h"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

#include <cerrno>

#include "machine_host/syscalls.h"
#include "preload/engine.h"
#include "preload/libc_symbols.h"

#define SPW_EXPORT __attribute__((visibility("default")))

namespace spillway {
namespace {

struct RealCalls {
  int (*create)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  int (*get_mask)(pid_t, size_t, cpu_set_t*);
  int (*set_mask)(pid_t, size_t, const cpu_set_t*);
  int (*get_thread_mask)(pthread_t, size_t, cpu_set_t*);
  int (*set_thread_mask)(pthread_t, size_t, const cpu_set_t*);
};
RealCalls g_real;

template <class Fn>
void resolve(Fn& fn, const char* name) {
  fn = reinterpret_cast<Fn>(libc_function(name));
}

}  // namespace

void resolve_affinity_calls() {
  resolve(g_real.create, "pthread_create");
  resolve(g_real.get_mask, "sched_getaffinity");
  resolve(g_real.set_mask, "sched_setaffinity");
  resolve(g_real.get_thread_mask, "pthread_getaffinity_np");
  resolve(g_real.set_thread_mask, "pthread_setaffinity_np");
}

void release_pair() {
  if (engine_ready()) host().handler().follower().pair().release(host_now_ns());
}

int call_execve(const char* path, char* const* argv, char* const* environment) {
  // Also runs in vfork children, which have the engine's memory but a mask of their own.
  if (engine_ready()) host().handler().follower().pair().restore_own();
  const i64 result = sys::call(SYS_execve, path, argv, environment);
  errno = static_cast<int>(-result);
  return -1;
}

}  // namespace spillway

using namespace spillway;

extern "C" {

SPW_EXPORT int execve(const char* path, char* const* argv, char* const* environment) noexcept {
  return call_execve(path, argv, environment);
}
SPW_EXPORT int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*start)(void*), void* argument) noexcept {
  release_pair();
  return g_real.create(thread, attributes, start, argument);
}
SPW_EXPORT int sched_getaffinity(pid_t pid, size_t bytes, cpu_set_t* mask) noexcept {
  release_pair();
  return g_real.get_mask(pid, bytes, mask);
}
SPW_EXPORT int sched_setaffinity(pid_t pid, size_t bytes, const cpu_set_t* mask) noexcept {
  release_pair();
  return g_real.set_mask(pid, bytes, mask);
}
SPW_EXPORT int pthread_getaffinity_np(pthread_t thread, size_t bytes, cpu_set_t* mask) noexcept {
  release_pair();
  return g_real.get_thread_mask(thread, bytes, mask);
}
SPW_EXPORT int pthread_setaffinity_np(pthread_t thread, size_t bytes,
                                      const cpu_set_t* mask) noexcept {
  release_pair();
  return g_real.set_thread_mask(thread, bytes, mask);
}
}
