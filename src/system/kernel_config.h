// How a simulated kernel is set up: the memory manager's Config, and what processes see.
#pragma once

#include "system/config.h"

namespace spillway {

// Where a process's parts lie.
enum class Layout : u8 {
  classic,  // i386: 3 GiB, mmap from 1 GiB upward, stack at the top; the one books draw
  modern,   // x86-64: 128 TiB, mmap from below the stack downward
};

enum class Overcommit : u8 { heuristic = 0, always = 1, never = 2 };

struct KernelConfig {
  Config mm;
  Layout layout = Layout::classic;
  // Linux before 5.0: an access more than 32 bytes below the stack pointer does not extend the
  // stack (MECHANISMS 3).
  bool strict_stack = true;
  // Pages kept free below a stack; 0 = as Linux 2.4, 256 since 4.12.
  PageCount stack_guard_gap{0};
  Overcommit overcommit = Overcommit::heuristic;
  u32 overcommit_ratio = 50;  // percent of RAM that counts in mode never
  u32 map_count_max = 65530;
  // Which of Machine::block_devices holds the files; kNoDevice = none. The others can be
  // swapped on.
  static constexpr u32 kNoDevice = ~u32{0};
  u32 file_device = kNoDevice;
  u64 shm_max_bytes = u64{32} << 20;  // SHMMAX, SHMMNI and SHMALL of Linux 2.4
  u32 shm_segments_max = 4096;
  u64 shm_all_pages = 2097152;
};

// Limits of a process (RLIMIT_*). kUnlimited = none.
enum class Limit : u8 { stack, as, data, memlock };
inline constexpr u64 kUnlimited = ~u64{0};

}  // namespace spillway
