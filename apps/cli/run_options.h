// What `spillway run` was asked to do: its command line over its environment.
#pragma once

#include <string>
#include <vector>

#include "cli/budget.h"
#include "cli/sizes.h"
#include "mount/mount_options.h"
#include "scenario/command.h"

namespace spillway {

struct RunOptions {
  BudgetRequest budget;
  Setting swap_dir;
  Setting report;
  bool stats = false;
  bool quiet = false;
  bool verbose = false;
  bool help = false;
  std::vector<std::string> command;  // the program and its arguments
};

struct DoctorOptions {
  Setting swap_dir;
  bool json = false;
  bool help = false;
};

// Looks an environment variable up; null if it is not set.
using GetEnv = const char* (*)(const char* name);

// `arguments` follow the name of the subcommand. Options end at the first word that is not one,
// or at `--`; everything behind belongs to the program. Throws CliError.
RunOptions parse_run_options(const std::vector<std::string>& arguments, GetEnv environment);
DoctorOptions parse_doctor_options(const std::vector<std::string>& arguments, GetEnv environment);
// Options and words may mix: `run fork-and-exec --json`. Errors end with kScenarioBad.
ScenarioOptions parse_scenario_options(const std::vector<std::string>& arguments,
                                       GetEnv environment);

// Options and words may mix.
MountOptions parse_mount_options(const std::vector<std::string>& arguments, GetEnv environment);

// The value of an on/off variable such as SPILLWAY_STATS. Throws CliError for other words.
bool is_switched_on(const char* name, const char* value);

}  // namespace spillway
