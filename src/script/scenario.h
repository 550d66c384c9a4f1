// Scenario: a parsed scenario file. The language is typed operations, one per line, that can be
// parsed, checked, run and printed; docs/scenario-language.md teaches it, verbs.h lists it.
//
//   parse_scenario(print_scenario(s)) == s, and printing is the canonical form of a file.
//
// Plain values without any lock; copyable. Positions do not take part in comparisons.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace spillway {

// Where in a file something stands; lines and columns (in bytes) count from 1.
struct Position {
  u32 line = 0;
  u32 column = 0;
};

// What is wrong with a scenario file, and what would be right.
struct Problem {
  Position at;
  std::string what;
  std::string allowed;
};
// `name:line:column: what; allowed`.
std::string describe(const Problem& problem, std::string_view name);

// What a number is a number of. `none`: a plain number; as a length, bytes.
enum class Unit : u8 { none, pages, kib, mib, gib, ns, us, ms, s };

struct Number {
  u64 value = 0;  // as written, before the unit
  Unit unit = Unit::none;
  bool negative = false;
  bool hex = false;  // written in hexadecimal, and printed so
  bool operator==(const Number&) const = default;

  // The unit applied: bytes, nanoseconds, or the value itself; without the sign. The parser has
  // made sure that it fits.
  u64 total() const;
  // Bytes rounded up to pages.
  u64 pages() const;
};

// A place in a process's address space, `buf+3p-8`: a name or an absolute address, and offsets.
struct Place {
  std::string base;  // empty: absolute
  u64 address = 0;   // when absolute
  std::vector<Number> offsets;
  bool operator==(const Place&) const = default;
};

// One operand. Which members count is told by `kind`.
struct Operand {
  enum class Kind : u8 {
    absent,
    word,     // text
    text,     // text, between quotes in the file
    number,   // number
    place,    // place
    target,   // text (a process) and place: the page there
    note,     // text: a value noted before, and number to add
    strings,  // list
  };
  Kind kind = Kind::absent;
  std::string text;
  Number number;
  Place place;
  std::vector<std::string> list;
  Position at;

  bool given() const { return kind != Kind::absent; }
  bool operator==(const Operand& o) const {
    return kind == o.kind && text == o.text && number == o.number && place == o.place &&
           list == o.list;
  }
};

enum class Compare : u8 { equal, not_equal, less, less_equal, greater, greater_equal };
const char* name_of(Compare compare);
bool holds(Compare compare, i64 left, i64 right);

enum class Verb : u8;      // verbs.h
enum class Quantity : u8;  // verbs.h

struct Statement {
  Position at;
  Verb verb{};
  std::vector<Operand> operands;  // one for each parameter of the verb
  // Of `expect` and `note`.
  Quantity quantity{};
  std::vector<Operand> subject;  // one for each parameter of the quantity
  Compare compare = Compare::equal;
  Operand value;
  std::vector<Statement> body;  // of `step` and `repeat`

  bool operator==(const Statement& o) const;
};

struct Scenario {
  std::string title;
  std::vector<Statement> statements;
  bool operator==(const Scenario&) const = default;
};

// Everything that is wrong goes to `problems`, in order, at most kProblemsMax of them; the
// scenario is complete only when there are none. Any bytes at all may be given.
inline constexpr std::size_t kProblemsMax = 20;
inline constexpr std::size_t kScenarioBytesMax = std::size_t{1} << 20;
inline constexpr u32 kNestingMax = 8;
Scenario parse_scenario(std::string_view text, std::vector<Problem>* problems);

std::string print_scenario(const Scenario& scenario);
// One statement in one line, without its body.
std::string print_statement(const Statement& statement);
std::string print_operand(const Operand& operand);
// `text` between quotes, as the lexer reads it.
std::string quoted(std::string_view text);

}  // namespace spillway
