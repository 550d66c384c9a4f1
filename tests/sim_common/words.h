// The words of operation languages: numbers, rights, flags and names as text and back. An
// operation is one line, `WHO WHAT key=value ...`; a suite says which fields its operations have.
#pragma once

#include <span>
#include <sstream>
#include <string>

#include "content.h"
#include "machine/pte.h"
#include "machine_sim/fault_plan.h"

namespace spillway::harness {

// An operation's name, and one letter for each of its fields.
struct OpSpec {
  const char* name;
  const char* fields;
};
// A name for a number: flags, advice, ...
struct Word {
  const char* name;
  u64 value;
};

// " key=value".
std::string hex(const char* key, u64 value);
std::string decimal(const char* key, u64 value);
std::string print_prot(Prot prot);
// Empty when no flag is set.
std::string print_flags(const char* key, std::span<const Word> words, u64 flags);
// The number itself where it has no name.
std::string print_word(const char* key, std::span<const Word> words, u64 value);

// False: the text is no such thing.
bool parse_number(const std::string& text, u64* out);
bool parse_number(const std::string& text, u32* out);
bool parse_prot(const std::string& text, Prot* out);
bool parse_flags(const std::string& text, std::span<const Word> words, u32* out);
bool parse_word(const std::string& text, std::span<const Word> words, u64* out);
template <class Enum>
bool parse_name(const std::string& text, u32 count, Enum* out) {
  for (u32 i = 0; i < count; ++i) {
    if (text != name_of(static_cast<Enum>(i))) continue;
    *out = static_cast<Enum>(i);
    return true;
  }
  return false;
}

// Reads `key=value` words into an operation; parse_field(key, value, op) says whether it could.
template <class Op, class ParseField>
bool parse_fields(std::istringstream& words, ParseField parse_field, Op* op, std::string* problem) {
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos ||
        !parse_field(word.substr(0, equals), word.substr(equals + 1), op)) {
      *problem = "cannot read '" + word + "'";
      return false;
    }
  }
  return true;
}

// Reads `WHO WHAT`: WHAT as a position in `specs`, WHO as a number behind `letter` when the
// operation's fields begin with a T (a task performs it).
bool parse_head(std::istringstream& words, std::span<const OpSpec> specs, char letter, u32* kind,
                u32* who, std::string* problem);

}  // namespace spillway::harness
