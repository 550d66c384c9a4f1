#include "cli/run_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "cli/exit_codes.h"
#include "cli/option_table.h"

namespace spillway {
namespace {

// One subcommand's parser, over the table that also makes its help. Written by hand because the
// rules are few and must hold exactly: options end at the program, and `--ram=` is an empty
// value, where CLI11 would take the next word for it.
class Parser {
 public:
  Parser(const CommandText& command, GetEnv environment, int exit_code = kExitFailure)
      : command_(command), environment_(environment), exit_code_(exit_code) {}

  // `name` is the long name. Every option of the table must be added.
  void add(const char* name, Setting& setting) { add(name, &setting, nullptr); }
  void add(const char* name, bool& on) { add(name, nullptr, &on); }

  // Returns what follows the options.
  std::vector<std::string> parse(const std::vector<std::string>& words) {
    std::size_t at = 0;
    while (at < words.size()) {
      const std::string& word = words[at];
      if (word.size() < 2 || word[0] != '-') break;
      ++at;
      if (word == "--") break;
      if (word[1] == '-') {
        at = take_long(words, at);
      } else {
        take_short(word);
      }
    }
    take_environment();
    return {words.begin() + static_cast<std::ptrdiff_t>(at), words.end()};
  }

 private:
  struct Option {
    const OptionText* text;
    std::string long_name;  // with its dashes
    char short_name;        // 0: none
    Setting* setting;
    bool* on;
  };

  void add(const char* name, Setting* setting, bool* on) {
    for (const OptionText& text : command_.options) {
      const std::string_view names = text.names;
      if (!names.ends_with(name)) continue;
      const char short_name = names.find(',') == std::string_view::npos ? '\0' : names[1];
      options_.push_back({&text, name, short_name, setting, on});
    }
  }

  // Takes words[at - 1], a long option, and its argument; returns where to go on.
  std::size_t take_long(const std::vector<std::string>& words, std::size_t at) {
    const std::string& word = words[at - 1];
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const auto found = std::find_if(options_.begin(), options_.end(),
                                    [&](const Option& o) { return o.long_name == name; });
    if (found == options_.end()) complain(name, "there is no such option");
    if (found->on != nullptr) {
      if (equals != std::string::npos) complain(word, "this option takes no argument");
      *found->on = true;
    } else if (equals != std::string::npos) {
      *found->setting = Setting{word.substr(equals + 1), name};
    } else if (at < words.size()) {
      *found->setting = Setting{words[at], name};
      ++at;
    } else {
      complain(name, "its argument is missing");
    }
    return at;
  }

  // `word` is a dash and one or more letters; no letter takes an argument.
  void take_short(const std::string& word) {
    for (const char letter : word.substr(1)) {
      const auto found = std::find_if(options_.begin(), options_.end(),
                                      [&](const Option& o) { return o.short_name == letter; });
      if (found == options_.end()) {
        complain(std::string("-") + letter, "there is no such option");
      }
      *found->on = true;
    }
  }

  void take_environment() {
    for (const Option& option : options_) {
      const char* variable = option.text->environment;
      const char* value = variable == nullptr ? nullptr : environment_(variable);
      // An empty variable counts as unset, so that `VAR= command` switches it off.
      if (value == nullptr || value[0] == '\0') continue;
      if (option.setting != nullptr && !option.setting->given()) {
        *option.setting = Setting{value, variable};
      } else if (option.on != nullptr && !*option.on) {
        *option.on = is_switched_on(variable, value);
      }
    }
  }

  [[noreturn]] void complain(const std::string& word, const char* wrong) const {
    throw CliError(fmt::format("{} {}", command_.name, word), wrong,
                   fmt::format("see 'spillway {} --help'", command_.name), exit_code_);
  }

  const CommandText& command_;
  GetEnv environment_;
  int exit_code_;
  std::vector<Option> options_;
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

namespace {

[[noreturn]] void bad_scenario_usage(const std::string& thing, const char* wrong) {
  throw CliError("scenario " + thing, wrong, "see 'spillway scenario --help'", kScenarioBad);
}

u64 parse_seed(const std::string& text) {
  u64 seed = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
  if (error != std::errc() || end != text.data() + text.size()) {
    bad_scenario_usage("--seed " + text, "is no number");
  }
  return seed;
}

ColourChoice parse_colour(const std::string& text) {
  if (text == "auto") return ColourChoice::automatic;
  if (text == "always") return ColourChoice::always;
  if (text == "never") return ColourChoice::never;
  bad_scenario_usage("--color=" + text, "is neither auto, always nor never");
}

}  // namespace

ScenarioOptions parse_scenario_options(const std::vector<std::string>& arguments,
                                       GetEnv environment) {
  ScenarioOptions options;
  Setting html;
  Setting seed;
  Setting colour;
  Parser parser(kScenarioText, environment, kScenarioBad);
  parser.add("--step", options.step);
  parser.add("--json", options.json);
  parser.add("--html", html);
  parser.add("--seed", seed);
  parser.add("--color", colour);
  parser.add("--quiet", options.quiet);
  parser.add("--help", options.help);
  // The parser stops at each word that is no option.
  std::vector<std::string> words;
  for (std::vector<std::string> rest = parser.parse(arguments); !rest.empty();) {
    words.push_back(rest[0]);
    rest.erase(rest.begin());
    rest = parser.parse(rest);
  }
  if (html.given()) options.html = html.text;
  if (html.given() && html.text.empty()) bad_scenario_usage("--html", "has no file");
  if (seed.given()) options.seed = parse_seed(seed.text);
  if (colour.given()) options.colour = parse_colour(colour.text);
  const char* folder = environment("SPILLWAY_SCENARIOS");
  if (folder != nullptr) options.folder = folder;
  if (options.help) return options;
  if (words.empty()) bad_scenario_usage("", "list, show or run is missing");
  const std::string& action = words[0];
  const std::size_t wanted = action == "list" ? 1 : 2;
  if (action == "show") {
    options.action = ScenarioAction::show;
  } else if (action == "run") {
    options.action = ScenarioAction::run;
  } else if (action != "list") {
    bad_scenario_usage(action, "there is no such action, only list, show and run");
  }
  if (words.size() < wanted) bad_scenario_usage(action, "the name of a scenario is missing");
  if (words.size() > wanted) bad_scenario_usage(words[wanted], "is one word too many");
  if (wanted == 2) options.name = words[1];
  if (options.step && options.json) bad_scenario_usage("--step --json", "do not go together");
  return options;
}

namespace {

u64 parse_seconds(const char* option, const Setting& setting, u64 standard) {
  if (!setting.given()) return standard;
  u64 seconds = 0;
  const std::string& text = setting.text;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  constexpr u64 kDay = 86'400;
  if (error != std::errc() || end != text.data() + text.size() || seconds > kDay) {
    throw CliError(fmt::format("mount {} {}", option, text), "is no number of seconds up to a day",
                   fmt::format("give a number such as {}", standard));
  }
  return seconds;
}

}  // namespace

MountOptions parse_mount_options(const std::vector<std::string>& arguments, GetEnv environment) {
  MountOptions options;
  Setting sync_interval;
  Setting kernel_cache;
  Parser parser(kMountText, environment);
  parser.add("--ram", options.ram);
  parser.add("--read-only", options.read_only);
  parser.add("--foreground", options.foreground);
  parser.add("--allow-other", options.allow_other);
  parser.add("--sync-interval", sync_interval);
  parser.add("--kernel-cache", kernel_cache);
  parser.add("--stats", options.stats);
  parser.add("--verbose", options.verbose);
  parser.add("--help", options.help);
  std::vector<std::string> words;
  for (std::vector<std::string> rest = parser.parse(arguments); !rest.empty();) {
    words.push_back(rest[0]);
    rest.erase(rest.begin());
    rest = parser.parse(rest);
  }
  options.sync_interval_s =
      parse_seconds("--sync-interval", sync_interval, options.sync_interval_s);
  options.kernel_cache_s = parse_seconds("--kernel-cache", kernel_cache, options.kernel_cache_s);
  if (options.help) return options;
  const char* see = "see 'spillway mount --help'";
  if (words.empty()) throw CliError("mount", "the image or directory to serve is missing", see);
  if (words.size() < 2) throw CliError("mount", "the directory to mount on is missing", see);
  if (words.size() > 2) {
    throw CliError(fmt::format("mount {}", words[2]), "is one word too many", see);
  }
  options.source = words[0];
  options.mountpoint = words[1];
  return options;
}

}  // namespace spillway
