// How a System is set up. Every number has its default and its reason here.
#pragma once

#include "base/units.h"

namespace spillway {

struct Config {
  // Most frames that the compressed pool may take. 0 = no compressed tier.
  PageCount pool_max{0};
  // Swap slots at most; bounds the slot tables. 2^26 slots = 256 GiB of swapped memory.
  u64 slots_max = u64{1} << 26;
  // Pages that may be committed in one request beyond all RAM and swap (heuristic overcommit,
  // as Linux's mode 0): requests larger than this are refused with ENOMEM.
  PageCount commit_max{u64{1} << 36};
  // Readahead window, in pages: doubles from min to max while a stream goes on.
  u32 readahead_min = 4;
  u32 readahead_max = 32;
  // First-touch windows for sequential streams (0 = one page at a time).
  u32 fresh_around_max = 16;
  // Whether background_step reclaims up to the high watermark when few frames are free. Off where
  // unmapping from another CPU costs more than it saves (HOST.md 2.2).
  bool background_reclaim = true;
  // Limit of mlock in pages (RLIMIT_MEMLOCK).
  PageCount mlock_max{2048};
};

}  // namespace spillway
