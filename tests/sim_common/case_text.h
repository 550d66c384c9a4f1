// Cases as text: a line `setup name=value ...` and one operation per line. What follows a # and
// empty lines are skipped.
#pragma once

#include <optional>
#include <vector>

#include "op_text.h"
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

// A machine and what runs on it, and operations.
template <class Setup, class Op>
struct CaseOf {
  Setup setup;
  std::vector<Op> ops;
};

template <class Setup, class Op>
std::string print(const CaseOf<Setup, Op>& c) {
  std::string text = print(c.setup) + "\n";
  for (const Op& op : c.ops) text += print(op) + "\n";
  return text;
}

// How a suite writes cases: its setup, its operations, and who performs them.
template <class Setup, class Op>
struct CaseLanguage {
  std::span<const SetupField<Setup>> fields;
  const OpLanguage<Op>& ops;
  u64 Setup::*tasks;    // how many tasks there are,
  const char* no_task;  // and what is wrong with a number that is not below it
  // nullopt: `*problem` names line and reason.
  std::optional<CaseOf<Setup, Op>> parse(const std::string& text, std::string* problem) const;

 private:
  std::optional<Op> parse_op(const std::string& line, const Setup& setup,
                             std::string* problem) const {
    std::optional<Op> op = ops.parse(line, problem);
    if (op.has_value() && ops.by_task(*op) && op->task >= setup.*tasks) {
      *problem = no_task;
      op.reset();
    }
    return op;
  }
};

template <class Setup, class Op>
std::optional<CaseOf<Setup, Op>> CaseLanguage<Setup, Op>::parse(const std::string& text,
                                                                std::string* problem) const {
  CaseOf<Setup, Op> c;
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
    const std::optional<Op> op = parse_op(line, c.setup, problem);
    if (!op.has_value()) {
      *problem = where + *problem;
      return std::nullopt;
    }
    c.ops.push_back(*op);
  }
  return c;
}

}  // namespace spillway::harness
