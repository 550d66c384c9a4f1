// What the preloaded library is told by the environment.
//
//   SPILLWAY_RAM, SPILLWAY_SWAP_RAM, SPILLWAY_SWAP_DIR, SPILLWAY_SWAP_MAX, SPILLWAY_RESERVE,
//   SPILLWAY_STATS            one per option of `spillway run`
//   SPILLWAY_OPTIONS          "ram=256M,swap-dir=/x": all in one, for a bare LD_PRELOAD
//   SPILLWAY_LEDGER_FD        the budget of the process tree, handed down by the launcher or by
//                             the first preloaded program
//   SPILLWAY_UFFD_FD          an open /dev/userfaultfd
//   SPILLWAY_IO               "threads": the swap file without io_uring
//   SPILLWAY_PAIR=0           never narrow a thread's CPU mask (machine_host/thread_pair.h)
//   SPILLWAY_PARANOID=1       check every page move by the page table, audit at exit
//
// With a ledger, sizes come from it and only the swap directory and the reserve are read here.
#pragma once

#include "base/types.h"
#include "machine_host/stop.h"

namespace spillway {

struct Settings {
  const char* ram = nullptr;
  const char* swap_ram = nullptr;
  const char* swap_dir = nullptr;
  const char* swap_max = nullptr;
  const char* reserve = nullptr;
  int ledger_fd = -1;
  int uffd_fd = -1;
  bool stats = false;
  bool paranoid = false;
  bool pair = true;
  bool io_threads = false;
  bool allow_copy_backend = false;
};

// False with a reason in `why` for what cannot be understood.
bool read_settings(char** environment, Settings& settings, Message& why);

// Sizes of a budget of one's own, when there is no ledger.
struct OwnBudget {
  u64 frames_total;
  u64 pool_frames_max;
  u64 swap_max_bytes;
};
bool compute_own_budget(const Settings& settings, OwnBudget& budget, Message& why);
// "1T", or what SPILLWAY_RESERVE says.
bool reserve_bytes(const Settings& settings, u64& bytes, Message& why);

}  // namespace spillway
