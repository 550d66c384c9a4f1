#include "cli/run_options.h"

#include <fmt/format.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <functional>
#include <string_view>

#include "cli/exit_codes.h"
#include "cli/option_table.h"

namespace spillway {
namespace {

const OptionText& text_of(const CommandText& command, std::string_view name) {
  const auto found = std::find_if(
      command.options.begin(), command.options.end(),
      [&](const OptionText& option) { return std::string_view(option.names).ends_with(name); });
  return *found;
}

// One subcommand's parser. CLI11 does the splitting; our own table names the options.
class Parser {
 public:
  Parser(const CommandText& command, GetEnv environment)
      : command_(command), environment_(environment) {
    app_.set_help_flag();
    app_.prefix_command();
  }

  void add(const char* name, Setting& setting) {
    const OptionText& text = text_of(command_, name);
    // The last one wins, as for every GNU tool.
    app_.add_option_function<std::string>(text.names,
                                          [&setting, name](const std::string& value) {
                                            setting = Setting{value, name};
                                          })
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    settings_.push_back({&setting, text.environment});
  }

  void add(const char* name, bool& on) {
    const OptionText& text = text_of(command_, name);
    app_.add_flag_callback(text.names, [&on] { on = true; })->disable_flag_override();
    switches_.push_back({&on, text.environment});
  }

  // Returns what follows the options.
  std::vector<std::string> parse(const std::vector<std::string>& arguments) {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    try {
      app_.parse(reversed);
    } catch (const CLI::Error& error) {
      throw CliError(command_.name, plain(error.what()), usage_hint());
    }
    take_environment();
    std::vector<std::string> rest = app_.remaining();
    if (rest.empty()) return rest;
    if (rest[0] == "--") {
      rest.erase(rest.begin());
    } else if (rest[0].starts_with("-")) {
      throw CliError(fmt::format("{} {}", command_.name, rest[0]), "there is no such option",
                     usage_hint());
    }
    return rest;
  }

 private:
  std::string usage_hint() const { return fmt::format("see 'spillway {} --help'", command_.name); }

  // One line, without a full stop.
  static std::string plain(std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    while (!text.empty() && (text.back() == '.' || text.back() == ' ')) text.pop_back();
    return text;
  }

  void take_environment() {
    for (const auto& [setting, variable] : settings_) {
      const char* value = variable == nullptr ? nullptr : environment_(variable);
      // An empty variable counts as unset, so that `VAR= command` switches it off.
      if (!setting->given() && value != nullptr && value[0] != '\0') {
        *setting = Setting{value, variable};
      }
    }
    for (const auto& [on, variable] : switches_) {
      const char* value = variable == nullptr ? nullptr : environment_(variable);
      if (!*on && value != nullptr) *on = is_switched_on(variable, value);
    }
  }

  const CommandText& command_;
  GetEnv environment_;
  CLI::App app_;
  std::vector<std::pair<Setting*, const char*>> settings_;
  std::vector<std::pair<bool*, const char*>> switches_;
};

}  // namespace

bool is_switched_on(const char* name, const char* value) {
  const std::string_view text = value;
  if (text.empty() || text == "0" || text == "no" || text == "off" || text == "false") return false;
  if (text == "1" || text == "yes" || text == "on" || text == "true") return true;
  throw CliError(fmt::format("{}={}", name, value), "is neither on nor off", "set it to 1 or 0");
}

RunOptions parse_run_options(const std::vector<std::string>& arguments, GetEnv environment) {
  RunOptions options;
  Parser parser(kRunText, environment);
  parser.add("--ram", options.budget.ram);
  parser.add("--swap-ram", options.budget.swap_ram);
  parser.add("--swap-dir", options.swap_dir);
  parser.add("--swap-max", options.budget.swap_max);
  parser.add("--reserve", options.budget.reserve);
  parser.add("--stats", options.stats);
  parser.add("--report", options.report);
  parser.add("--quiet", options.quiet);
  parser.add("--verbose", options.verbose);
  parser.add("--help", options.help);
  options.command = parser.parse(arguments);
  if (options.command.empty() && !options.help) {
    throw CliError("run", "there is no program to run",
                   "name one, for example: spillway run --ram 512M -- python3 script.py");
  }
  return options;
}

DoctorOptions parse_doctor_options(const std::vector<std::string>& arguments, GetEnv environment) {
  DoctorOptions options;
  Parser parser(kDoctorText, environment);
  parser.add("--swap-dir", options.swap_dir);
  parser.add("--json", options.json);
  parser.add("--help", options.help);
  const std::vector<std::string> rest = parser.parse(arguments);
  if (!rest.empty()) {
    throw CliError(fmt::format("doctor {}", rest[0]), "is one word too many",
                   "see 'spillway doctor --help'");
  }
  return options;
}

}  // namespace spillway
