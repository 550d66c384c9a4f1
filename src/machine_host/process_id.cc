#include "machine_host/process_id.h"

#include <fcntl.h>

#include "machine_host/syscalls.h"

namespace spillway {
namespace {

constexpr u32 kStatBytes = 1024;  // a stat line is below 400 bytes

// Reads /proc/PID/stat; 0 bytes or a negative errno on failure.
i64 read_stat(i32 pid, char (&text)[kStatBytes]) {
  char path[32] = "/proc/";
  u32 n = 6;
  char digits[12];
  u32 count = 0;
  for (u32 v = static_cast<u32>(pid); v != 0; v /= 10) {
    digits[count++] = static_cast<char>('0' + v % 10);
  }
  while (count > 0) path[n++] = digits[--count];
  for (const char* p = "/stat"; *p != '\0'; ++p) path[n++] = *p;
  path[n] = '\0';
  const i64 fd = sys::open(path, O_RDONLY | O_CLOEXEC);
  if (sys::failed(fd)) return fd;
  const i64 got = sys::read(static_cast<int>(fd), text, kStatBytes - 1);
  sys::close(static_cast<int>(fd));
  text[got > 0 ? got : 0] = '\0';
  return got;
}

// The text after the command's closing bracket: field 3 begins two characters later. A command
// may contain brackets and blanks itself, so the last bracket counts.
const char* after_command(const char* text) {
  const char* at = nullptr;
  for (const char* p = text; *p != '\0'; ++p) {
    if (*p == ')') at = p + 1;
  }
  return at;
}

}  // namespace

u64 stat_field(const char* text, u32 index) {
  const char* p = after_command(text);
  if (p == nullptr) return 0;
  for (u32 field = 2; *p != '\0'; ++p) {
    if (*p != ' ') continue;
    if (++field < index) continue;
    u64 value = 0;
    for (++p; *p >= '0' && *p <= '9'; ++p) value = value * 10 + static_cast<u64>(*p - '0');
    return value;
  }
  return 0;
}

u64 process_start_time(i32 pid) {
  char text[kStatBytes];
  constexpr u32 kStartTime = 22;
  return read_stat(pid, text) > 0 ? stat_field(text, kStartTime) : 0;
}

bool process_is_dead(i32 pid, u64 start_time) {
  char text[kStatBytes];
  const i64 got = read_stat(pid, text);
  if (got <= 0) {
    // Without /proc, signal 0 still tells whether the pid exists at all.
    return sys::call(SYS_kill, pid, 0) == sys::kSearch;
  }
  constexpr u32 kThreads = 20;
  constexpr u32 kStartTime = 22;
  const u64 now = stat_field(text, kStartTime);
  if (start_time != 0 && now != 0 && now != start_time) return true;
  const char* state = after_command(text);
  if (state == nullptr || state[0] == '\0') return false;
  // A leader that has exited while its threads go on is a zombie too, with more than one thread.
  const bool zombie = state[1] == 'Z' || state[1] == 'X';
  return zombie && stat_field(text, kThreads) <= 1;
}

}  // namespace spillway
