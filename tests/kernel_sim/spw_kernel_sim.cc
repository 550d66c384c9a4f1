// spw_kernel_sim: the property test of a Kernel as a command. See README.md.

#include "suite.h"

int main(int argc, char** argv) {
  using namespace spillway;
  const harness::Options o = harness::parse_options(ksim::KsimSuite::kProgram, argc, argv);
  return harness::run_command<ksim::KsimSuite>(o);
}
