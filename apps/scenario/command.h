// `spillway scenario`: lists, shows and runs scenarios.
#pragma once

#include <optional>
#include <string>

#include "base/types.h"
#include "system/config.h"

namespace spillway {

enum class ColourChoice : u8 { automatic, always, never };
enum class ScenarioAction : u8 { list, show, run };

struct ScenarioOptions {
  ScenarioAction action = ScenarioAction::list;
  std::string name;    // of a shipped scenario, or a file
  std::string html;    // file to write, or empty
  std::string folder;  // where more scenarios are: SPILLWAY_SCENARIOS
  std::optional<u64> seed;
  std::optional<Policy> policy;  // for tests: every policy must keep what scenarios expect of all
  ColourChoice colour = ColourChoice::automatic;
  bool step = false;
  bool json = false;
  bool quiet = false;
  bool help = false;
};

// Exit codes of the command.
inline constexpr int kScenarioGood = 0;
inline constexpr int kScenarioUnmet = 1;      // an expectation did not hold
inline constexpr int kScenarioBad = 2;        // bad usage, or a bad scenario file
inline constexpr int kScenarioInvariant = 3;  // the memory manager itself is broken

int scenario_command(const ScenarioOptions& options);

}  // namespace spillway
