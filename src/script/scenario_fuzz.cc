// Any bytes are a scenario or are told what is wrong with them; a scenario prints and reads back.
// Begin with the shipped ones: scenario_fuzz -max_len=4096 corpus/ scenarios/
#include "base/assert.h"
#include "script/scenario.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace spillway;
  std::vector<Problem> problems;
  const Scenario scenario =
      parse_scenario(std::string_view(reinterpret_cast<const char*>(data), size), &problems);
  if (!problems.empty()) {
    for (const Problem& problem : problems) SPW_ASSERT_NE(problem.at.line, 0U);
    return 0;
  }
  const std::string printed = print_scenario(scenario);
  const Scenario again = parse_scenario(printed, &problems);
  SPW_ASSERT(problems.empty());
  SPW_ASSERT(scenario == again);
  SPW_ASSERT(print_scenario(again) == printed);
  return 0;
}
