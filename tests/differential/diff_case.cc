#include "diff_case.h"

#include <cstdlib>
#include <sstream>

namespace spillway::diff {
namespace {

bool parse_setting(const std::string& word, Setup* setup) {
  const std::size_t equals = word.find('=');
  if (equals == std::string::npos) return false;
  const std::string key = word.substr(0, equals);
  const std::string text = word.substr(equals + 1);
  char* end = nullptr;
  const u64 value = text == "none" ? kNoLimit : std::strtoull(text.c_str(), &end, 0);
  if (text.empty() || (end != nullptr && *end != '\0')) return false;
#define X(id, default_value, what) \
  if (key == #id) {                \
    setup->id = value;             \
    return true;                   \
  }
  SPW_DIFF_SETUP(X)
#undef X
  return false;
}

}  // namespace

std::string print(const Setup& setup) {
  const Setup usual;
  std::string text = "setup";
#define X(id, default_value, what)                                                    \
  if (setup.id != usual.id) {                                                         \
    text += " " #id "=" + (setup.id == kNoLimit ? "none" : std::to_string(setup.id)); \
  }
  SPW_DIFF_SETUP(X)
#undef X
  return text;
}

std::string print(const DiffCase& c) {
  std::string text = print(c.setup) + "\n";
  for (const Op& op : c.ops) text += print(op) + "\n";
  return text;
}

std::optional<DiffCase> parse_case(const std::string& text, std::string* problem) {
  DiffCase c;
  std::istringstream lines(text);
  u32 number = 0;
  const auto bad = [&](const std::string& what) {
    *problem = "line " + std::to_string(number) + ": " + what;
    return std::nullopt;
  };
  for (std::string line; std::getline(lines, line);) {
    ++number;
    line = line.substr(0, line.find('#'));
    std::istringstream words(line);
    std::string word;
    if (!(words >> word)) continue;
    if (word == "setup") {
      while (words >> word) {
        if (!parse_setting(word, &c.setup)) return bad("cannot read '" + word + "'");
      }
      continue;
    }
    std::string what;
    const std::optional<Op> op = parse_op(line, &what);
    if (!op.has_value()) return bad(what);
    c.ops.push_back(*op);
  }
  return c;
}

}  // namespace spillway::diff
