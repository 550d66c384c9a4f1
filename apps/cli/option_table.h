// The options of each subcommand, once: the parser, --help and the test that compares the manual
// pages and the completions with the command all read this table.
#pragma once

#include <span>
#include <string>

namespace spillway {

struct OptionText {
  const char* names;        // "--ram" or "-q,--quiet"; a letter takes no argument
  const char* argument;     // nullptr for a switch
  const char* environment;  // the variable that stands for it, or nullptr
  const char* help;         // what it does; lines are wrapped when printed
};

struct CommandText {
  const char* name;
  const char* synopsis;
  const char* purpose;
  std::span<const OptionText> options;
  const char* footer;
};

extern const CommandText kRunText;
extern const CommandText kDoctorText;
extern const CommandText kScenarioText;
extern const CommandText kMountText;

// The text of `spillway --help` and of `spillway COMMAND --help`.
std::string main_help();
std::string command_help(const CommandText& command);
// The text of `spillway --version`.
std::string version_text();

}  // namespace spillway
