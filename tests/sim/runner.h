// Runner: runs cases in processes of their own, so that a panic, a crash or an endless loop of
// the core is a result like any other.
#pragma once

#include <functional>
#include <string>

#include "sim_case.h"

namespace spillway::sim {

struct RunResult {
  bool ok = false;
  std::string failure;  // what went wrong, empty if nothing
  std::string history;  // the last events before a panic
  SimCase ran;          // setup and operations up to the failure
  u64 digest = 0;       // of everything observable
  u64 counters[64] = {};
  u32 counter_count = 0;
  u64 fired[kFailureCount] = {};  // injected failures that happened
};

// Runs what the generator draws from `seed`.
RunResult run_seed(u64 seed, u32 steps, u32 seconds_max);
// Runs a case as it is.
RunResult run_case(const SimCase& c, u32 seconds_max);

// Two failures of one kind: equal but for numbers.
bool same_failure(const std::string& a, const std::string& b);

// Calls run_seed for all seeds first..last in `jobs` processes and `done` for each result, in no
// particular order. Stops early when `done` returns false.
void run_seeds(u64 first, u64 last, u32 steps, u32 seconds_max, u32 jobs,
               const std::function<bool(u64 seed, const RunResult&)>& done);

// The text that a person needs: what failed and the operations that show it again.
std::string report(const RunResult& result, const SimCase& shortest);

}  // namespace spillway::sim
