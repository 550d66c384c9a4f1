// The property test of one System as a suite of tests/sim_common.
#pragma once

#include "command.h"
#include "driver.h"
#include "generator.h"

namespace spillway::sim {

struct SimSuite {
  static constexpr harness::Program kProgram{
      "spw_sim",
      "Runs random operations on simulated machines and compares every answer with a model.", true};
  using Op = sim::Op;
  using Case = SimCase;
  using Driver = sim::Driver;
  using Generator = sim::Generator;
  static constexpr auto* parse_case = &sim::parse_case;
  static std::vector<Op> simpler(const Op& op) { return harness::simpler_forms(op, {&Op::task}); }
};

using Runner = harness::Runner<SimSuite>;
using RunResult = harness::RunResult<SimSuite>;

}  // namespace spillway::sim
