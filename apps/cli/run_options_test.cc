// Goal: options, environment and the program's own words are told apart, and help, manual and
// completion know the same options as the parser.
#include "cli/run_options.h"

#include <map>
#include <sstream>

#include "cli/option_table.h"
#include "cli/test_support.h"

namespace spillway {
namespace {

std::map<std::string, std::string> g_environment;

const char* environment(const char* name) {
  const auto found = g_environment.find(name);
  return found == g_environment.end() ? nullptr : found->second.c_str();
}

RunOptions parse(const std::vector<std::string>& words) {
  return parse_run_options(words, environment);
}

using Words = std::vector<std::string>;

TEST(RunOptions, everything_behind_the_program_is_its_own) {
  g_environment.clear();
  const RunOptions options = parse({"--ram", "512M", "sort", "-S", "1G", "--stats", "--", "-v"});
  EXPECT_EQ(options.budget.ram.text, "512M");
  EXPECT_EQ(options.budget.ram.origin, "--ram");
  EXPECT_FALSE(options.stats);
  EXPECT_EQ(options.command, (Words{"sort", "-S", "1G", "--stats", "--", "-v"}));
}

TEST(RunOptions, double_dash_ends_options) {
  g_environment.clear();
  EXPECT_EQ(parse({"--", "-x", "--ram", "1"}).command, (Words{"-x", "--ram", "1"}));
  EXPECT_EQ(parse({"-q", "--", "--", "a"}).command, (Words{"--", "a"}));
  EXPECT_EQ(parse({"--stats", "--", "run", "doctor"}).command, (Words{"run", "doctor"}));
}

TEST(RunOptions, forms_of_options) {
  g_environment.clear();
  const RunOptions options = parse({"--ram=1G", "--ram", "2G", "-qv", "--report", "a=b", "x"});
  EXPECT_EQ(options.budget.ram.text, "2G");
  EXPECT_TRUE(options.quiet);
  EXPECT_TRUE(options.verbose);
  EXPECT_EQ(options.report.text, "a=b");
  EXPECT_EQ(options.command, Words{"x"});
  const RunOptions empty = parse({"--ram=", "--report=a=b", "-", "x"});
  EXPECT_TRUE(empty.budget.ram.given());
  EXPECT_EQ(empty.budget.ram.text, "");
  EXPECT_EQ(empty.report.text, "a=b");
  EXPECT_EQ(empty.command, (Words{"-", "x"}));
}

TEST(RunOptions, environment_stands_in) {
  g_environment = {
      {"SPILLWAY_RAM", "1G"},    {"SPILLWAY_SWAP_RAM", "2G"}, {"SPILLWAY_SWAP_DIR", "/scratch"},
      {"SPILLWAY_SWAP_MAX", ""}, {"SPILLWAY_STATS", "1"},     {"SPILLWAY_REPORT", "r.json"}};
  const RunOptions options = parse({"--swap-ram", "3G", "x"});
  EXPECT_EQ(options.budget.ram.text, "1G");
  EXPECT_EQ(options.budget.ram.origin, "SPILLWAY_RAM");
  EXPECT_EQ(options.budget.swap_ram.text, "3G");
  EXPECT_FALSE(options.budget.swap_max.given());
  EXPECT_EQ(options.swap_dir.text, "/scratch");
  EXPECT_EQ(options.report.text, "r.json");
  EXPECT_TRUE(options.stats);
  g_environment = {{"SPILLWAY_STATS", "maybe"}};
  EXPECT_EQ(thrown_by([] { parse({"x"}); }).exit_code, 125);
}

TEST(RunOptions, mistakes_are_one_line) {
  g_environment.clear();
  for (const Words& words : {Words{}, Words{"--"}, Words{"--rma", "1G", "x"}, Words{"-z", "x"},
                             Words{"--ram"}, Words{"--stats=5x", "x"}, Words{"-qz", "x"}}) {
    const Thrown thrown = thrown_by([&] { parse(words); });
    EXPECT_EQ(thrown.exit_code, 125) << (words.empty() ? "" : words[0]);
    EXPECT_FALSE(contains(thrown.line, "\n")) << thrown.line;
    EXPECT_TRUE(contains(thrown.line, "; ")) << thrown.line;
  }
  EXPECT_TRUE(parse({"--help"}).help);
}

TEST(RunOptions, doctor_takes_no_words) {
  g_environment.clear();
  EXPECT_TRUE(parse_doctor_options({"--json"}, environment).json);
  EXPECT_EQ(thrown_by([] { parse_doctor_options({"x"}, environment); }).exit_code, 125);
}

// Every long option of `command`, and every variable, must occur in `text`.
void expect_mentioned(const CommandText& command, const std::string& text, bool variables,
                      const std::string& dash) {
  for (const OptionText& option : command.options) {
    std::string name = option.names;
    name = name.substr(name.find("--") + 2);
    std::string written = dash + dash;
    for (const char c : name) written += c == '-' ? dash : std::string(1, c);
    EXPECT_TRUE(contains(text, written)) << command.name << ": " << written;
    if (variables && option.environment != nullptr) {
      EXPECT_TRUE(contains(text, option.environment)) << command.name << ": " << option.environment;
    }
  }
}

std::string read(const std::string& name) {
  std::ifstream file(std::string(SPW_SOURCE_DIR) + "/" + name);
  EXPECT_TRUE(file) << name;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

ScenarioOptions parse_scenario(const Words& words) {
  return parse_scenario_options(words, environment);
}

TEST(ScenarioOptions, words_and_options_mix) {
  g_environment = {{"SPILLWAY_SCENARIOS", "/mine"}};
  const ScenarioOptions options = parse_scenario(
      {"--step", "run", "--html=x.html", "swap-in", "--seed", "7", "-q", "--color", "never"});
  EXPECT_EQ(options.action, ScenarioAction::run);
  EXPECT_EQ(options.name, "swap-in");
  EXPECT_EQ(options.html, "x.html");
  EXPECT_EQ(options.seed, 7U);
  EXPECT_EQ(options.colour, ColourChoice::never);
  EXPECT_EQ(options.folder, "/mine");
  EXPECT_TRUE(options.step);
  EXPECT_TRUE(options.quiet);
  g_environment.clear();
  EXPECT_EQ(parse_scenario({"list"}).action, ScenarioAction::list);
  EXPECT_EQ(parse_scenario({"show", "x"}).action, ScenarioAction::show);
  EXPECT_TRUE(parse_scenario({"--help"}).help);
}

TEST(ScenarioOptions, mistakes_are_one_line_and_end_with_2) {
  g_environment.clear();
  for (const Words& words : {Words{}, Words{"play"}, Words{"run"}, Words{"list", "x"},
                             Words{"run", "a", "b"}, Words{"run", "a", "--sed", "1"},
                             Words{"run", "a", "--seed", "x"}, Words{"run", "a", "--color=red"},
                             Words{"run", "a", "--html="}, Words{"run", "a", "--step", "--json"}}) {
    const Thrown thrown = thrown_by([&] { parse_scenario(words); });
    EXPECT_EQ(thrown.exit_code, 2) << (words.empty() ? "" : words[0]);
    EXPECT_FALSE(contains(thrown.line, "\n")) << thrown.line;
  }
}

TEST(Documents, help_manual_and_completion_agree) {
  for (const CommandText* command : {&kRunText, &kDoctorText, &kScenarioText}) {
    const std::string name = command->name;
    expect_mentioned(*command, command_help(*command), true, "-");
    expect_mentioned(*command, read("docs/man/spillway-" + name + ".1"), true, "\\-");
    expect_mentioned(*command, read("apps/cli/completions/spillway.bash"), false, "-");
    EXPECT_TRUE(contains(main_help(), "  " + name + " "));
    EXPECT_TRUE(contains(read("docs/man/spillway.1"), "spillway\\-" + name));
  }
}

TEST(Documents, help_fits_a_terminal) {
  for (const std::string& text : {main_help(), command_help(kRunText), command_help(kDoctorText),
                                  command_help(kScenarioText), version_text()}) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80u) << line;
  }
}

}  // namespace
}  // namespace spillway
