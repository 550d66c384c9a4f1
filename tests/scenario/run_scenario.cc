// spw_scenario_run FILE [--policy NAME] [--html PAGE | --json]: a scenario as `spillway scenario
// run` plays it, in a program that does not need the host machine. Prints only what does not hold,
// and JSON.
#include <cstdio>
#include <string_view>

#include "scenario/command.h"

int main(int count, char** words) {
  spillway::ScenarioOptions options;
  options.action = spillway::ScenarioAction::run;
  options.quiet = true;
  for (int i = 1; i < count; ++i) {
    const std::string_view word = words[i];
    if (word == "--json") {
      options.json = true;
    } else if (word == "--html" && i + 1 < count) {
      options.html = words[++i];
    } else if (word == "--policy" && i + 1 < count) {
      const std::string_view policy = words[++i];
      options.policy = policy == "two_list"      ? spillway::Policy::two_list
                       : policy == "three_queue" ? spillway::Policy::three_queue
                                                 : spillway::Policy::linux24;
    } else {
      options.name = word;
    }
  }
  if (options.name.empty()) {
    std::fputs("usage: spw_scenario_run FILE [--policy NAME] [--html PAGE | --json]\n", stderr);
    return spillway::kScenarioBad;
  }
  return spillway::scenario_command(options);
}
