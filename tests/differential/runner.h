// Runner: runs cases in processes of their own, so that a panic, a crash or an endless loop of
// the core is a result like any other.
#pragma once

#include <functional>
#include <string>

#include "driver.h"

namespace spillway::diff {

enum class Against : u8 {
  model,   // the simulated machine
  kernel,  // the kernel once more: what differs then is the test's own fault
};

struct RunOptions {
  Against against = Against::model;
  std::string actor_path;
  u32 seconds_max = 30;  // of one case
};

struct RunResult {
  bool ok = false;
  bool cannot_run = false;  // the host forbids it: `text` says what
  std::string kind;         // of the difference, one line
  std::string text;
  u64 step = 0;  // operations before the one that differs
  Reached reached;
};

RunResult run_case(const DiffCase& c, const RunOptions& options);

// Calls `done` with the result of what each seed draws, in `jobs` processes, in no particular
// order. Stops early when `done` returns false.
void run_seeds(u64 first, u64 last, u32 steps, u32 jobs, const RunOptions& options,
               const std::function<bool(u64 seed, const RunResult&)>& done);

}  // namespace spillway::diff
