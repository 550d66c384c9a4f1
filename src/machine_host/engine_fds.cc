#include "machine_host/engine_fds.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "machine_host/syscalls.h"

namespace spillway {
namespace {

constexpr u32 kRoles = static_cast<u32>(FdRole::kCount);
// One more than the descriptor, so that zeroed memory means "none".
int g_fds[kRoles] = {};

int lowest_number() {
  rlimit limit = {};
  if (sys::call(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit) != 0) return kEngineFdFirst;
  constexpr u64 kRoom = 16;  // our roles, for two engines: a child adopts before it closes
  if (limit.rlim_cur >= kEngineFdFirst + kRoom) return kEngineFdFirst;
  return limit.rlim_cur > 2 * kRoom ? static_cast<int>(limit.rlim_cur - kRoom) : 3;
}

}  // namespace

int engine_fd_adopt(FdRole role, int fd, FdExec exec) {
  const int command = exec == FdExec::close ? F_DUPFD_CLOEXEC : F_DUPFD;
  const i64 moved = sys::call(SYS_fcntl, fd, command, lowest_number());
  if (sys::failed(moved)) return static_cast<int>(moved);
  sys::close(fd);
  g_fds[static_cast<u32>(role)] = static_cast<int>(moved) + 1;
  return static_cast<int>(moved);
}

void engine_fd_note(FdRole role, int fd) { g_fds[static_cast<u32>(role)] = fd + 1; }

int engine_fd(FdRole role) { return g_fds[static_cast<u32>(role)] - 1; }

void engine_fd_close(FdRole role) {
  if (engine_fd(role) >= 0) sys::close(engine_fd(role));
  g_fds[static_cast<u32>(role)] = 0;
}

bool is_engine_fd(int fd) {
  for (int one : g_fds) {
    if (one != 0 && one == fd + 1) return true;
  }
  return false;
}

u32 engine_fds(int (&fds)[static_cast<u32>(FdRole::kCount)]) {
  u32 count = 0;
  for (int one : g_fds) {
    if (one != 0) fds[count++] = one - 1;
  }
  return count;
}

}  // namespace spillway
