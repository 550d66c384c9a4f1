#include "cli/tree_sampler.h"

#include <algorithm>
#include <fstream>

namespace spillway {

u64 TreeSampler::resident_bytes(pid_t pid, bool shared) const {
  const std::string folder = proc_ + "/" + std::to_string(pid);
  if (shared) {
    // Pss divides a page by the number of processes that map it, so the sum counts it once.
    std::ifstream file(folder + "/smaps_rollup");
    for (std::string word; file >> word;) {
      u64 kib = 0;
      if (word == "Pss:" && file >> kib) return kib * 1024;
    }
    // Not readable for us, or gone: the simple count below is better than nothing.
  }
  std::ifstream file(folder + "/statm");
  u64 size = 0;
  u64 resident = 0;
  if (!(file >> size >> resident)) return 0;
  return resident * kPageSize;
}

TreeSample TreeSampler::sample(pid_t child) {
  TreeSample now;
  const bool forked = ledger_.forked.load(std::memory_order_relaxed) != 0;
  u32 live = 0;
  for (const LedgerProcess& process : ledger_.process) {
    const u32 state = process.state.load(std::memory_order_relaxed);
    if (state == static_cast<u32>(EngineState::live)) ++live;
  }
  const bool shared = forked && live > 1;
  bool child_seen = false;
  for (const LedgerProcess& process : ledger_.process) {
    const u32 state = process.state.load(std::memory_order_relaxed);
    if (state != static_cast<u32>(EngineState::live) &&
        state != static_cast<u32>(EngineState::starting)) {
      continue;
    }
    const pid_t pid = process.pid.load(std::memory_order_relaxed);
    if (pid <= 0) continue;
    const u64 bytes = resident_bytes(pid, shared);
    if (bytes == 0) continue;  // died without leaving: its entry waits to be reaped
    child_seen = child_seen || pid == child;
    now.rss_bytes += bytes;
    now.swapped_bytes += process.snapshot.slots_used * kPageSize;
    ++now.processes;
  }
  if (!child_seen) {
    const u64 bytes = resident_bytes(child, shared);
    now.rss_bytes += bytes;
    now.processes += bytes != 0 ? 1 : 0;
  }
  peak_bytes_ = std::max(peak_bytes_, now.rss_bytes);
  return now;
}

}  // namespace spillway
