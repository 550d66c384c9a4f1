// A case: a machine, a System on it, and operations. Its text runs again:
//
//   setup seed=7 frames=256 features=adbz disk=1024 pool=64 tasks=2 spaces=1 ...
//   t0 mmap at=0x0 len=0x8000 prot=rw-
//   ...
#pragma once

#include <optional>
#include <string>

#include "case_text.h"
#include "machine_sim/sim_config.h"
#include "op.h"
#include "system/config.h"

namespace spillway::sim {

// X(identifier, default, what it is)
#define SPW_SIM_SETUP(X)                                             \
  X(seed, 1, "of the machine's random choices")                      \
  X(frames, 256, "size of the arena")                                \
  X(budget, 256, "frames that the shared budget grants")             \
  X(cpus, 1, "")                                                     \
  X(accessed_bit, 1, "Features::accessed_bit")                       \
  X(dirty_bit, 1, "Features::dirty_bit")                             \
  X(bytes_while_mapped, 1, "Features::frame_bytes_while_mapped")     \
  X(zero_page, 1, "Features::zero_page")                             \
  X(disk_pages, 0, "size of the swap device")                        \
  X(latency_min_ns, 20000, "shortest transfer")                      \
  X(latency_max_ns, 200000, "longest transfer")                      \
  X(busy_one_in, 0, "unmap finds a page held once in so many")       \
  X(quota_short_one_in, 0, "the budget grants less once in so many") \
  X(pool_max, 64, "Config::pool_max")                                \
  X(slots_max, 65536, "Config::slots_max")                           \
  X(commit_max, 1048576, "Config::commit_max")                       \
  X(readahead_min, 4, "Config::readahead_min")                       \
  X(readahead_max, 32, "Config::readahead_max")                      \
  X(fresh_around, 16, "Config::fresh_around_max")                    \
  X(mlock_max, 64, "Config::mlock_max")                              \
  X(tasks, 1, "logical threads")                                     \
  X(spaces, 1, "address spaces; task t lives in space t mod spaces") \
  X(space_pages, 4096, "managed addresses of each space")            \
  X(brk_pages, 64, "kept for brk at the start of each space")        \
  X(audit_every, 1, "operations between two audits")

struct Setup {
#define X(id, value, text) u64 id = value;
  SPW_SIM_SETUP(X)
#undef X
  SimConfig machine() const;
  Config system() const;
  bool operator==(const Setup&) const = default;
};

using SimCase = harness::CaseOf<Setup, Op>;

// One line, with the values that differ from the defaults.
std::string print(const Setup& setup);
// Empty lines and what follows a # are skipped. nullopt: `*problem` names line and reason.
std::optional<SimCase> parse_case(const std::string& text, std::string* problem);

}  // namespace spillway::sim
