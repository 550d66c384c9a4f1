// Who is alive: pids are reused, so a process is known by pid and start time together.
#pragma once

#include "base/types.h"

namespace spillway {

// Field 22 of /proc/PID/stat, in clock ticks since boot; 0 when it cannot be read.
u64 process_start_time(i32 pid);

// Whether the process `pid` that began at `start_time` certainly is gone or a zombie without
// threads. When /proc does not tell, the answer is no: in doubt it lives.
bool process_is_dead(i32 pid, u64 start_time);

// The value of field `index` (from 1, at least 3) in the text of a /proc stat file; 0 if missing.
u64 stat_field(const char* text, u32 index);

}  // namespace spillway
