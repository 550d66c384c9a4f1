// How much RAM the program and its descendants hold, read from /proc while they run.
#pragma once

#include <sys/types.h>

#include <string>

#include "machine_host/ledger.h"

namespace spillway {

struct TreeSample {
  u64 rss_bytes = 0;      // of all processes together
  u64 swapped_bytes = 0;  // pages that are swapped out now
  u32 processes = 0;
};

// Not thread safe; a sample costs one small read per process, or a walk of its page tables once
// processes share pages by fork.
class TreeSampler {
 public:
  // `proc` is /proc outside tests. The ledger must outlive the sampler.
  explicit TreeSampler(const Ledger& ledger, std::string proc = "/proc")
      : ledger_(ledger), proc_(std::move(proc)) {}

  // Looks at `child` and at every process with a live engine.
  TreeSample sample(pid_t child);
  u64 peak_bytes() const { return peak_bytes_; }

 private:
  u64 resident_bytes(pid_t pid, bool shared) const;

  const Ledger& ledger_;
  std::string proc_;
  u64 peak_bytes_ = 0;
};

}  // namespace spillway
