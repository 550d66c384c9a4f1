// What the words of the scenario language (verb_list.h) mean to the parser, the printer, error
// messages and the test of docs/scenario-language.md: verbs, quantities and their signatures.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "script/scenario.h"
#include "script/verb_list.h"

namespace spillway {

enum class Verb : u8 {
#define X(id, signature, text) id,
  SPW_VERBS(X)
#undef X
      kCount
};
inline constexpr u32 kVerbCount = static_cast<u32>(Verb::kCount);

enum class Quantity : u8 {
#define X(id, signature, text) id,
  SPW_QUANTITIES(X)
#undef X
      kCount
};
inline constexpr u32 kQuantityCount = static_cast<u32>(Quantity::kCount);

enum class ParamType : u8 {
  text,     // "..."
  process,  // a process made before
  child,    // a process made here
  name,     // an area named here
  segment,  // a shared memory segment
  place,    // buf+3p, stack-8, 0x8000
  target,   // PROCESS PLACE, or @NOTE
  size,     // 4096, 3p, 64k
  number,   // 7
  integer,  // -1
  limit,    // a size, or unlimited
  data,     // 0x41, or "text"
  prot,     // none, or letters of rwx
  toggle,   // on, off
  yesno,    // yes, no
  time,     // 30s, 5ms
  device,   // swap0, swap1, files, disk0
  signal,   // SEGV_MAPERR
  error,    // ENOMEM
  queue,    // active
  state,    // mapped
  owner,    // user
  kind,     // of an entry: swapped
  counter,  // pgfault
  choice,   // one of Param::choices
};
// What to write for an operand of the type: "a number such as 7".
std::string describe(ParamType type);
// The words that the type knows; empty when it takes more than words.
std::vector<std::string> words_of(ParamType type);

struct Choice {
  std::string word;
  ParamType answer = ParamType::number;  // of quantities
};

struct Param {
  enum class Mode : u8 { required, word, option, rest };
  Mode mode = Mode::required;
  ParamType type = ParamType::text;
  std::string key;  // of an option; else the word of the signature
  std::vector<Choice> choices;
};

struct Signature {
  std::vector<Param> params;
  ParamType answer = ParamType::number;  // of a quantity without choices
  bool has_body = false;
};

const char* name_of(Verb verb);
const char* usage_of(Verb verb);  // the signature as written
const char* help_of(Verb verb);
const Signature& signature_of(Verb verb);
std::optional<Verb> verb_named(std::string_view name);

const char* name_of(Quantity quantity);
const char* usage_of(Quantity quantity);
const char* help_of(Quantity quantity);
const Signature& signature_of(Quantity quantity);
std::optional<Quantity> quantity_named(std::string_view name);

// What an expectation of this quantity about this subject is compared with.
ParamType answer_of(Quantity quantity, const std::vector<Operand>& subject);
// The parameter of this name: the key of an option, an optional word, or the word of the
// signature. It must exist.
u32 param_index(const Signature& signature, std::string_view name);
// Of several equal ones: the nth, from 0.
const Operand& operand(const Statement& statement, std::string_view name, u32 nth = 0);
const Operand& subject(const Statement& statement, std::string_view name, u32 nth = 0);

}  // namespace spillway
