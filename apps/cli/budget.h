// The numbers of a run: from what the user asked for and what the machine has to the sizes that
// the ledger holds. Pure: the caller gathers the facts.
#pragma once

#include <string>
#include <vector>

#include "base/types.h"
#include "cli/memory_limit.h"
#include "cli/sizes.h"

namespace spillway {

// Below this the engine's own tables and reserves would leave a program next to nothing.
inline constexpr u64 kRamBytesMin = u64{8} << 20;
// Frame numbers have 32 bits.
inline constexpr u64 kRamBytesMax = u64{1} << 44;
// Share of the usable RAM that a run takes when --ram does not say: the rest is for file pages,
// program text and neighbours.
inline constexpr u64 kDefaultRamPercent = 80;
// Default of --swap-max: so many times the RAM, but never more than this share of the free disk.
inline constexpr u64 kDefaultSwapFactor = 8;
inline constexpr u64 kDefaultDiskDivisor = 2;
// The engine starts with no less (machine_host/host_machine.cc).
inline constexpr u64 kReserveBytesMin = u64{256} << 20;

struct BudgetRequest {
  Setting ram;
  Setting swap_ram;
  Setting swap_max;
  Setting reserve;
};

struct HostFacts {
  MemoryLimit usable;       // tightest control group, or physical RAM
  u64 physical_bytes = 0;   // RAM of the machine
  u64 disk_bytes_free = 0;  // in the swap folder
  std::string swap_dir;     // for messages
};

struct Budget {
  u64 ram_bytes = 0;
  u64 swap_ram_bytes = 0;       // set aside for compressed pages; 0 when they live inside ram
  bool swap_ram_given = false;  // a given 0 differs from none: no compressed pages at all
  u64 swap_max_bytes = 0;       // 0: nothing goes to disk
  u64 reserve_bytes = 0;        // 0: the library's default
  u64 frames_total = 0;
  u64 pool_frames_max = 0;
  std::vector<std::string> notes;     // for -v: each number and where it comes from
  std::vector<std::string> warnings;  // for all but -q
};

// True if the swap folder matters, that is unless --swap-max is 0.
bool wants_disk(const BudgetRequest& request);

// Throws CliError for what cannot work.
Budget compute_budget(const BudgetRequest& request, const HostFacts& host);

}  // namespace spillway
