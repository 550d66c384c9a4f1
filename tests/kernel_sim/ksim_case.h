// A case: a machine, a Kernel on it, and operations. Its text runs again.
#pragma once

#include <optional>
#include <string>

#include "case_text.h"
#include "machine_sim/sim_config.h"
#include "op.h"
#include "system/kernel_config.h"

namespace spillway::ksim {

// X(identifier, default, what it is)
#define SPW_KSIM_SETUP(X)                                               \
  X(seed, 1, "of the machine's random choices")                         \
  X(frames, 256, "RAM")                                                 \
  X(cpus, 1, "")                                                        \
  X(accessed_bit, 1, "Features::accessed_bit")                          \
  X(zero_page, 1, "Features::zero_page")                                \
  X(latency_min_ns, 20000, "shortest transfer")                         \
  X(latency_max_ns, 200000, "longest transfer")                         \
  X(busy_one_in, 0, "unmap finds a page held once in so many")          \
  X(file_pages, 1024, "size of the device that holds files")            \
  X(swap1, 0, "size of device 1, a swap area; 0: there is none")        \
  X(swap2, 0, "of device 2, if there is a device 1")                    \
  X(swap3, 0, "of device 3, if there is a device 2")                    \
  X(disk_pages, 0, "size of the tiers' swap device")                    \
  X(pool_max, 0, "Config::pool_max")                                    \
  X(policy, 0, "Config::policy: 0 three_queue, 1 linux24, 2 two_list")  \
  X(cluster, 1, "Config::swap_readahead is by cluster")                 \
  X(page_cluster, 3, "Config::page_cluster")                            \
  X(readahead_min, 1, "Config::readahead_min")                          \
  X(readahead_max, 1, "Config::readahead_max")                          \
  X(fresh_around, 0, "Config::fresh_around_max")                        \
  X(watermark, 0, "Config::watermark_min; low and high are 2, 3 times") \
  X(mlock_max, 1048576, "Config::mlock_max")                            \
  X(slots_max, 65536, "Config::slots_max")                              \
  X(overcommit, 0, "0 heuristic, 1 always, 2 never")                    \
  X(overcommit_ratio, 50, "")                                           \
  X(modern, 0, "Layout::modern")                                        \
  X(strict_stack, 1, "")                                                \
  X(guard_gap, 0, "pages kept free below a stack")                      \
  X(map_count_max, 65530, "")                                           \
  X(slots, 4, "processes and threads at most")                          \
  X(audit_every, 1, "operations between two audits")

struct Setup {
#define X(id, value, text) u64 id = value;
  SPW_KSIM_SETUP(X)
#undef X
  SimConfig machine() const;
  KernelConfig kernel() const;
  // Block devices, the one with files among them.
  u32 devices() const {
    return 1 + (swap1 != 0) + (swap1 != 0 && swap2 != 0) + (swap1 != 0 && swap2 != 0 && swap3 != 0);
  }
  bool operator==(const Setup&) const = default;
};

using KsimCase = harness::CaseOf<Setup, Op>;

// One line, with the values that differ from the defaults.
std::string print(const Setup& setup);
// nullopt: `*problem` names line and reason.
std::optional<KsimCase> parse_case(const std::string& text, std::string* problem);

}  // namespace spillway::ksim
