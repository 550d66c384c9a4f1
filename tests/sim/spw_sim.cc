// spw_sim: the property test of the whole System as a command. See README.md.

#include "suite.h"

namespace spillway::sim {
namespace {

// Every opportunity of every kind of failure fails once, in a run of its own; beyond the first
// few only some of them, ever further apart. Returns the first run that fails, if one does.
std::optional<RunResult> sweep_case(const SimCase& base, u32 seconds, u64* runs) {
  for (u32 kind = 0; kind < kFailureCount; ++kind) {
    for (u64 nth = 1;; nth += 1 + nth / 16) {
      SimCase c = base;
      Op fail;
      fail.kind = OpKind::fail;
      fail.failure = static_cast<Failure>(kind);
      fail.number = nth;
      c.ops.insert(c.ops.begin(), fail);
      const RunResult r = Runner::run_case(c, seconds);
      ++*runs;
      if (!r.ok) return r;
      if (r.fired[kind] == 0) break;
    }
  }
  return std::nullopt;
}

int sweep(const harness::Options& o) {
  u64 runs = 0;
  for (u64 seed = o.first; seed <= o.last; ++seed) {
    SimCase base = Runner::run_seed(seed, o.steps, o.seconds).ran;
    std::erase_if(base.ops, [](const Op& op) { return op.kind == OpKind::fail; });
    const std::optional<RunResult> failed = sweep_case(base, o.seconds, &runs);
    if (failed.has_value()) return harness::Command<SimSuite>(o).shrink_and_report(*failed);
  }
  std::printf("spw_sim: %llu runs with one failure each passed\n",
              static_cast<unsigned long long>(runs));
  return 0;
}

}  // namespace
}  // namespace spillway::sim

int main(int argc, char** argv) {
  using namespace spillway;
  const harness::Options o = harness::parse_options(sim::SimSuite::kProgram, argc, argv);
  if (o.sweep && o.replay.empty()) return sim::sweep(o);
  return harness::run_command<sim::SimSuite>(o);
}
