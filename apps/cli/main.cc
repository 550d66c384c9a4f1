// The command `spillway`: picks the subcommand, prints help and version, turns errors into exit
// codes. Everything else is in the files named after what they do.
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cli/doctor.h"
#include "cli/exit_codes.h"
#include "cli/option_table.h"
#include "cli/run_command.h"
#include "cli/run_options.h"
#include "mount/command.h"
#include "scenario/command.h"

namespace spillway {
namespace {

const char* environment(const char* name) { return std::getenv(name); }

int print(const std::string& text) {
  fmt::print("{}", text);
  return std::fflush(stdout) == 0 ? 0 : kExitFailure;
}

int help(const std::vector<std::string>& arguments) {
  if (arguments.empty()) return print(main_help());
  if (arguments[0] == kRunText.name) return print(command_help(kRunText));
  if (arguments[0] == kDoctorText.name) return print(command_help(kDoctorText));
  if (arguments[0] == kScenarioText.name) return print(command_help(kScenarioText));
  if (arguments[0] == kMountText.name) return print(command_help(kMountText));
  throw CliError(fmt::format("help {}", arguments[0]), "there is no such command",
                 "see 'spillway --help'");
}

int dispatch(const std::vector<std::string>& words) {
  if (words.empty()) throw CliError("command", "is missing", "see 'spillway --help'");
  const std::string& command = words[0];
  const std::vector<std::string> arguments(words.begin() + 1, words.end());
  if (command == "--help" || command == "-h") return print(main_help());
  if (command == "--version" || command == "-V") return print(version_text());
  if (command == "help") return help(arguments);
  if (command == kRunText.name) {
    const RunOptions options = parse_run_options(arguments, environment);
    return options.help ? print(command_help(kRunText)) : run_command(options);
  }
  if (command == kDoctorText.name) {
    const DoctorOptions options = parse_doctor_options(arguments, environment);
    return options.help ? print(command_help(kDoctorText)) : doctor_command(options);
  }
  if (command == kScenarioText.name) {
    const ScenarioOptions options = parse_scenario_options(arguments, environment);
    return options.help ? print(command_help(kScenarioText)) : scenario_command(options);
  }
  if (command == kMountText.name) {
    const MountOptions options = parse_mount_options(arguments, environment);
    return options.help ? print(command_help(kMountText)) : mount_command(options);
  }
  const char* what =
      command.starts_with("-") ? "there is no such option" : "there is no such command";
  throw CliError(command, what, "see 'spillway --help'");
}

}  // namespace
}  // namespace spillway

int main(int count, char** words) {
  try {
    return spillway::dispatch(std::vector<std::string>(words + (count > 0 ? 1 : 0), words + count));
  } catch (const spillway::CliError& error) {
    fmt::print(stderr, "spillway: {}\n", error.what());
    return error.exit_code();
  } catch (const std::exception& error) {
    fmt::print(stderr, "spillway: internal error: {}; please report it\n", error.what());
    return spillway::kExitFailure;
  }
}
