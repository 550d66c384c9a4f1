// Operations as text: `WHO WHAT key=value ...`. An Op of a suite has `kind`, `task`, `prot`,
// `flags`, `advice`, `fill`, `failure`, and numbers of its own; an OpLanguage says which of them
// are written for which kind, and how.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <vector>

#include "base/units.h"
#include "words.h"

namespace spillway::harness {

// A number of an operation, under the letter that OpSpec::fields has for it.
template <class Op>
struct NumberField {
  char letter;
  const char* name;
  enum Form : u8 {
    as_decimal,
    as_hex,
    unless_default,  // decimal, and left out when the operation has the default
  } form;
  // One of them is null.
  u64 Op::*wide;
  u32 Op::*narrow = nullptr;

  u64 of(const Op& op) const { return wide != nullptr ? op.*wide : op.*narrow; }
  bool parse(const std::string& value, Op* op) const {
    return wide != nullptr ? parse_number(value, &(op->*wide))
                           : parse_number(value, &(op->*narrow));
  }
};

// Letters of the other fields: p prot, g flags, v advice, f fill, w failure ("what").
template <class Op>
struct OpLanguage {
  char who;  // the letter before a task's number
  std::span<const OpSpec> specs;
  std::span<const NumberField<Op>> numbers;
  std::span<const Word> flags;
  std::span<const Word> advices;

  const OpSpec& spec(const Op& op) const { return specs[static_cast<u32>(op.kind)]; }
  // Whether a task performs the operation, not the machine.
  bool by_task(const Op& op) const { return spec(op).fields[0] == 'T'; }
  std::string print(const Op& op) const;
  // nullopt: not an operation; `*problem` says why.
  std::optional<Op> parse(const std::string& line, std::string* problem) const;

 private:
  std::string print_field(const Op& op, char letter) const;
  bool parse_field(const std::string& key, const std::string& value, Op* op) const;
};

template <class Op>
std::string OpLanguage<Op>::print_field(const Op& op, char letter) const {
  switch (letter) {
    case 'p': return print_prot(op.prot);
    case 'g': return print_flags("flags", flags, op.flags);
    case 'v': return print_word("advice", advices, static_cast<u64>(op.advice));
    case 'f': return std::string(" fill=") + name_of(op.fill);
    case 'w': return std::string(" what=") + name_of(op.failure);
    default: break;
  }
  for (const NumberField<Op>& n : numbers) {
    if (n.letter != letter) continue;
    if (n.form == NumberField<Op>::unless_default && n.of(op) == n.of(Op{})) return {};
    return n.form == NumberField<Op>::as_hex ? hex(n.name, n.of(op)) : decimal(n.name, n.of(op));
  }
  return {};
}

template <class Op>
std::string OpLanguage<Op>::print(const Op& op) const {
  std::string text = by_task(op) ? who + std::to_string(op.task) : "--";
  text += std::string(" ") + spec(op).name;
  for (const char* f = spec(op).fields + 1; *f != '\0'; ++f) text += print_field(op, *f);
  return text;
}

template <class Op>
bool OpLanguage<Op>::parse_field(const std::string& key, const std::string& value, Op* op) const {
  for (const NumberField<Op>& n : numbers) {
    if (key == n.name) return n.parse(value, op);
  }
  if (key == "prot") return parse_prot(value, &op->prot);
  if (key == "flags") return parse_flags(value, flags, &op->flags);
  if (key == "fill") return parse_name(value, kFillCount, &op->fill);
  if (key == "what") return parse_name(value, kFailureCount, &op->failure);
  u64 advice = 0;
  if (key != "advice" || !parse_word(value, advices, &advice)) return false;
  op->advice = static_cast<decltype(op->advice)>(advice);
  return true;
}

template <class Op>
std::optional<Op> OpLanguage<Op>::parse(const std::string& line, std::string* problem) const {
  std::istringstream words(line);
  Op op;
  u32 kind = 0;
  if (!parse_head(words, specs, who, &kind, &op.task, problem)) return std::nullopt;
  op.kind = static_cast<decltype(op.kind)>(kind);
  const auto field = [this](const std::string& key, const std::string& value, Op* o) {
    return parse_field(key, value, o);
  };
  if (!parse_fields(words, field, &op, problem)) return std::nullopt;
  return op;
}

// Simpler forms of one operation for shrink.h: without what is in `dropped`, shorter, fewer times,
// with a flag less.
template <class Op>
std::vector<Op> simpler_forms(const Op& op, std::initializer_list<u32 Op::*> dropped) {
  std::vector<Op> forms;
  const auto add = [&](auto change) {
    Op form = op;
    change(form);
    if (!(form == op)) forms.push_back(form);
  };
  for (u32 Op::*number : dropped) {
    add([number](Op& o) { o.*number = 0; });
  }
  for (u64 Op::*bytes : {&Op::len, &Op::newlen}) {
    add([bytes](Op& o) { o.*bytes = std::min(o.*bytes, kPageSize); });
    add([bytes](Op& o) { o.*bytes = o.*bytes / 2 & ~kPageMask; });
  }
  add([](Op& o) { o.number = std::min<u64>(o.number, 1); });
  add([](Op& o) { o.number = (o.number + 1) / 2; });
  add([](Op& o) { o.times = std::min<u64>(o.times, 1); });
  for (u32 bit = 0; bit < 32; ++bit) {
    add([bit](Op& o) { o.flags &= ~(1U << bit); });
  }
  return forms;
}

}  // namespace spillway::harness
