// The property test of a Kernel as a suite of tests/sim_common.
#pragma once

#include "command.h"
#include "driver.h"
#include "generator.h"

namespace spillway::ksim {

struct KsimSuite {
  static constexpr harness::Program kProgram{
      "spw_kernel_sim",
      "Runs random operations of several processes on simulated machines with failing devices and\n"
      "compares every byte with a model.",
      false};
  using Op = ksim::Op;
  using Case = KsimCase;
  using Driver = ksim::Driver;
  using Generator = ksim::Generator;
  static constexpr auto* parse_case = &ksim::parse_case;
  static std::vector<Op> simpler(const Op& op) { return harness::simpler_forms(op, {&Op::cpu}); }
};

using Runner = harness::Runner<KsimSuite>;
using RunResult = harness::RunResult<KsimSuite>;

}  // namespace spillway::ksim
