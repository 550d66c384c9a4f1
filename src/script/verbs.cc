#include "script/verbs.h"

#include <array>

#include "base/assert.h"
#include "base/result.h"
#include "observe/counters.h"
#include "page/page.h"

namespace spillway {
namespace {

struct Row {
  const char* name;
  const char* usage;
  const char* help;
};
constexpr Row kVerbs[] = {
#define X(id, signature, text) {#id, signature, text},
    SPW_VERBS(X)
#undef X
};
constexpr Row kQuantities[] = {
#define X(id, signature, text) {#id, signature, text},
    SPW_QUANTITIES(X)
#undef X
};

struct TypeRow {
  const char* name;  // in signatures
  ParamType type;
  const char* text;
};
constexpr TypeRow kTypes[] = {
    {"TEXT", ParamType::text, "a text between quotes"},
    {"PROCESS", ParamType::process, "the name of a process"},
    {"CHILD", ParamType::child, "a name for the process, such as A"},
    {"NAME", ParamType::name, "a name, such as buf"},
    {"SEGMENT", ParamType::segment, "the name of a segment"},
    {"PLACE", ParamType::place, "a place such as buf, heap+3p, stack-8 or 0x8000"},
    {"TARGET", ParamType::target, "a process and a place, or @NOTE"},
    {"SIZE", ParamType::size, "a size: bytes, or pages as in 3p, or 64k, 1m"},
    {"NUMBER", ParamType::number, "a number such as 7"},
    {"INTEGER", ParamType::integer, "a number such as 7 or -1"},
    {"LIMIT", ParamType::limit, "a size such as 16p, or unlimited"},
    {"DATA", ParamType::data, "a byte such as 0x41, or a text between quotes"},
    {"PROT", ParamType::prot, "none, or letters of rwx in this order"},
    {"TOGGLE", ParamType::toggle, "on or off"},
    {"?", ParamType::yesno, "yes or no"},
    {"TIME", ParamType::time, "a time such as 30s, 5ms or 20us"},
    {"DEVICE", ParamType::device, "a device: swap0, swap1 and so on, files, or disk0"},
    {"SIGNAL", ParamType::signal, "a signal"},
    {"ERROR", ParamType::error, "an error"},
    {"QUEUE", ParamType::queue, "an ageing list"},
    {"STATE", ParamType::state, "the state of a frame"},
    {"OWNER", ParamType::owner, "the owner of a frame"},
    {"KIND", ParamType::kind, "the kind of an entry"},
    {"COUNTER", ParamType::counter, "a counter"},
};

ParamType type_named(std::string_view name) {
  for (const TypeRow& row : kTypes) {
    if (name == row.name) return row.type;
  }
  SPW_PANIC("workload: a signature names an unknown type");
}

// Splits "a?|b:PROT|c" at the bars.
std::vector<Choice> choices_of(std::string_view text) {
  std::vector<Choice> out;
  while (!text.empty()) {
    const std::size_t bar = text.find('|');
    std::string_view word = text.substr(0, bar);
    Choice choice;
    if (word.ends_with('?')) {
      choice.answer = ParamType::yesno;
      word.remove_suffix(1);
    } else if (const std::size_t colon = word.find(':'); colon != std::string_view::npos) {
      choice.answer = type_named(word.substr(colon + 1));
      word = word.substr(0, colon);
    }
    choice.word = word;
    out.push_back(choice);
    text = bar == std::string_view::npos ? std::string_view{} : text.substr(bar + 1);
  }
  return out;
}

Param typed(Param::Mode mode, std::string_view key, std::string_view type) {
  Param param;
  param.mode = mode;
  param.key = key;
  if (type.starts_with('{')) {
    param.type = ParamType::choice;
    param.choices = choices_of(type.substr(1, type.size() - 2));
  } else {
    param.type = type_named(type);
  }
  return param;
}

Param param_of(std::string_view item) {
  if (item.starts_with('[')) {
    const std::string_view inside = item.substr(1, item.size() - 2);
    const std::size_t equals = inside.find('=');
    if (equals != std::string_view::npos) {
      return typed(Param::Mode::option, inside.substr(0, equals), inside.substr(equals + 1));
    }
    Param param;
    param.mode = Param::Mode::word;
    param.type = ParamType::choice;
    param.key = inside;
    param.choices = choices_of(inside);
    return param;
  }
  if (item.ends_with("...")) {
    return typed(Param::Mode::rest, item, item.substr(0, item.size() - 3));
  }
  return typed(Param::Mode::required, item, item);
}

Signature read_signature(std::string_view text) {
  Signature signature;
  while (!text.empty()) {
    const std::size_t blank = text.find(' ');
    const std::string_view item = text.substr(0, blank);
    if (item == "?") {
      signature.answer = ParamType::yesno;
    } else if (item.starts_with(':')) {
      signature.answer = type_named(item.substr(1));
    } else {
      signature.params.push_back(param_of(item));
    }
    text = blank == std::string_view::npos ? std::string_view{} : text.substr(blank + 1);
  }
  return signature;
}

template <std::size_t N>
std::array<Signature, N> read_signatures(const Row (&rows)[N]) {
  std::array<Signature, N> out;
  for (std::size_t i = 0; i < N; ++i) out[i] = read_signature(rows[i].usage);
  return out;
}

template <std::size_t N>
std::optional<std::size_t> row_named(const Row (&rows)[N], std::string_view name) {
  for (std::size_t i = 0; i < N; ++i) {
    if (name == rows[i].name) return i;
  }
  return std::nullopt;
}

template <class Enum>
std::vector<std::string> names_of(u32 count) {
  std::vector<std::string> out;
  for (u32 i = 0; i < count; ++i) out.emplace_back(name_of(static_cast<Enum>(i)));
  return out;
}

bool is_named(const Param& param, std::string_view name) {
  if (param.key == name) return true;
  if (param.mode != Param::Mode::word) return false;
  for (const Choice& choice : param.choices) {
    if (choice.word == name) return true;
  }
  return false;
}

u32 nth_index(const Signature& signature, std::string_view name, u32 nth) {
  for (u32 i = 0; i < signature.params.size(); ++i) {
    if (is_named(signature.params[i], name) && nth-- == 0) return i;
  }
  SPW_PANIC("workload: a parameter that its signature does not have");
}

}  // namespace

std::string describe(ParamType type) {
  std::string text;
  for (const TypeRow& row : kTypes) {
    if (row.type == type) text = row.text;
  }
  const bool says_it_all = type == ParamType::toggle || type == ParamType::yesno;
  const std::vector<std::string> words = words_of(type);
  for (std::size_t i = 0; i < words.size() && !says_it_all; ++i) {
    text += (i == 0 ? ": " : ", ") + words[i];
  }
  return text;
}

std::vector<std::string> words_of(ParamType type) {
  switch (type) {
    case ParamType::toggle: return {"on", "off"};
    case ParamType::yesno: return {"yes", "no"};
    case ParamType::signal:
      return {"none", "SEGV_MAPERR", "SEGV_ACCERR", "BUS_ADRERR", "KILL", "TERM"};
    case ParamType::queue: return names_of<PageQueue>(kPageQueueCount);
    case ParamType::state: return names_of<PageState>(kPageStateCount);
    case ParamType::owner: return names_of<PageOwner>(kPageOwnerCount);
    case ParamType::kind: return {"none", "present", "zero", "unmapped", "swapped"};
    case ParamType::error: return names_of<Error>(static_cast<u32>(Error::wait));
    case ParamType::counter: return names_of<Counter>(kCounterCount);
    case ParamType::text:
    case ParamType::process:
    case ParamType::child:
    case ParamType::name:
    case ParamType::segment:
    case ParamType::place:
    case ParamType::target:
    case ParamType::size:
    case ParamType::number:
    case ParamType::integer:
    case ParamType::limit:
    case ParamType::data:
    case ParamType::prot:
    case ParamType::time:
    case ParamType::device:
    case ParamType::choice: return {};
  }
  return {};
}

const char* name_of(Verb verb) { return kVerbs[static_cast<u32>(verb)].name; }
const char* usage_of(Verb verb) { return kVerbs[static_cast<u32>(verb)].usage; }
const char* help_of(Verb verb) { return kVerbs[static_cast<u32>(verb)].help; }

const Signature& signature_of(Verb verb) {
  static const auto table = [] {
    auto t = read_signatures(kVerbs);
    t[static_cast<u32>(Verb::step)].has_body = true;
    t[static_cast<u32>(Verb::repeat)].has_body = true;
    return t;
  }();
  return table[static_cast<u32>(verb)];
}

std::optional<Verb> verb_named(std::string_view name) {
  const auto row = row_named(kVerbs, name);
  return row ? std::optional<Verb>(static_cast<Verb>(*row)) : std::nullopt;
}

const char* name_of(Quantity quantity) { return kQuantities[static_cast<u32>(quantity)].name; }
const char* usage_of(Quantity quantity) { return kQuantities[static_cast<u32>(quantity)].usage; }
const char* help_of(Quantity quantity) { return kQuantities[static_cast<u32>(quantity)].help; }

const Signature& signature_of(Quantity quantity) {
  static const auto table = read_signatures(kQuantities);
  return table[static_cast<u32>(quantity)];
}

std::optional<Quantity> quantity_named(std::string_view name) {
  const auto row = row_named(kQuantities, name);
  return row ? std::optional<Quantity>(static_cast<Quantity>(*row)) : std::nullopt;
}

ParamType answer_of(Quantity quantity, const std::vector<Operand>& subject) {
  const Signature& signature = signature_of(quantity);
  ParamType answer = signature.answer;
  for (std::size_t i = 0; i < signature.params.size() && i < subject.size(); ++i) {
    for (const Choice& choice : signature.params[i].choices) {
      if (choice.word == subject[i].text && choice.answer != ParamType::number) {
        answer = choice.answer;
      }
    }
  }
  return answer;
}

u32 param_index(const Signature& signature, std::string_view name) {
  return nth_index(signature, name, 0);
}

const Operand& operand(const Statement& statement, std::string_view name, u32 nth) {
  return statement.operands[nth_index(signature_of(statement.verb), name, nth)];
}

const Operand& subject(const Statement& statement, std::string_view name, u32 nth) {
  return statement.subject[nth_index(signature_of(statement.quantity), name, nth)];
}

}  // namespace spillway
