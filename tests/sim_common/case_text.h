// Cases as text: a line `setup name=value ...` and one operation per line. What follows a # and
// empty lines are skipped.
#pragma once

#include <optional>
#include <vector>

#include "words.h"

namespace spillway::harness {

// A number that describes a case's machine or manager.
template <class Setup>
struct SetupField {
  const char* name;
  u64 Setup::*member;
};

template <class Setup>
bool parse_setup_word(const std::string& word, std::span<const SetupField<Setup>> fields,
                      Setup* setup) {
  const std::size_t equals = word.find('=');
  if (equals == std::string::npos) return false;
  for (const SetupField<Setup>& field : fields) {
    if (word.substr(0, equals) != field.name) continue;
    return parse_number(word.substr(equals + 1), &(setup->*field.member));
  }
  return false;
}

// One line, with the values that differ from the defaults.
template <class Setup>
std::string print_setup(const Setup& setup, std::span<const SetupField<Setup>> fields) {
  const Setup defaults;
  std::string text = "setup";
  for (const SetupField<Setup>& field : fields) {
    if (setup.*field.member != defaults.*field.member) {
      text += decimal(field.name, setup.*field.member);
    }
  }
  return text;
}

// `parse(line, setup, problem)` reads an operation and checks that it suits the setup. nullopt:
// `*problem` names line and reason.
template <class Case, class ParseOp>
std::optional<Case> parse_case_text(const std::string& text,
                                    std::span<const SetupField<decltype(Case::setup)>> fields,
                                    ParseOp parse, std::string* problem) {
  Case c;
  std::istringstream lines(text);
  u32 number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    line = line.substr(0, line.find('#'));
    const std::string where = "line " + std::to_string(number) + ": ";
    std::istringstream words(line);
    std::string word;
    if (!(words >> word)) continue;
    if (word == "setup") {
      while (words >> word) {
        if (parse_setup_word(word, fields, &c.setup)) continue;
        *problem = where + "cannot read '" + word + "'";
        return std::nullopt;
      }
      continue;
    }
    const auto op = parse(line, c.setup, problem);
    if (!op.has_value()) {
      *problem = where + *problem;
      return std::nullopt;
    }
    c.ops.push_back(*op);
  }
  return c;
}

}  // namespace spillway::harness
