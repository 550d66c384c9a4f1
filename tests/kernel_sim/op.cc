#include "op.h"

#include <algorithm>
#include <sstream>

#include "words.h"

namespace spillway::ksim {
namespace {

using harness::decimal;
using harness::hex;
using harness::Word;

constexpr harness::OpSpec kSpecs[] = {
#define X(id, fields, text) {#id, fields},
    SPW_KSIM_OPS(X)
#undef X
};
constexpr Word kFlags[] = {
#define X(id) {#id, bit(FlagBit::id)},
    SPW_KSIM_FLAGS(X)
#undef X
};
constexpr Word kAdvices[] = {
    {"normal", 0},   {"random", 1},   {"sequential", 2},     {"willneed", 3},
    {"dontneed", 4}, {"free", 8},     {"dontfork", 10},      {"dofork", 11},
    {"cold", 20},    {"pageout", 21}, {"populate_read", 22}, {"populate_write", 23},
};

// A number under its letter: the plain fields.
struct Number {
  char letter;
  const char* name;
  bool hexadecimal;
  u64 Op::*wide;
  u32 Op::*narrow;
};
constexpr Number kNumbers[] = {
    {'a', "at", true, &Op::at, nullptr},
    {'l', "len", true, &Op::len, nullptr},
    {'b', "to", true, &Op::to, nullptr},
    {'m', "newlen", true, &Op::newlen, nullptr},
    {'o', "off", true, &Op::off, nullptr},
    {'s', "seed", false, &Op::seed, nullptr},
    {'n', "n", false, &Op::number, nullptr},
    {'x', "times", false, &Op::times, nullptr},
    {'k', "which", false, nullptr, &Op::which},
    {'c', "cpu", false, nullptr, &Op::cpu},
    {'q', "slot", false, nullptr, &Op::other},
    {'i', "file", false, nullptr, &Op::file},
    {'e', "segment", false, nullptr, &Op::segment},
    {'d', "device", false, nullptr, &Op::device},
};

std::string print_field(const Op& op, char field) {
  switch (field) {
    case 'p': return harness::print_prot(op.prot);
    case 'g': return harness::print_flags("flags", kFlags, op.flags);
    case 'v': return harness::print_word("advice", kAdvices, op.advice);
    case 'f': return std::string(" fill=") + name_of(op.fill);
    case 'w': return std::string(" what=") + name_of(op.failure);
    case 'i':
      if (op.file == kNoFile) return {};
      break;
    default: break;
  }
  for (const Number& n : kNumbers) {
    if (n.letter != field) continue;
    const u64 value = n.wide != nullptr ? op.*n.wide : op.*n.narrow;
    return n.hexadecimal ? hex(n.name, value) : decimal(n.name, value);
  }
  return {};
}

bool parse_field(const std::string& key, const std::string& value, Op* op) {
  using harness::parse_name;
  for (const Number& n : kNumbers) {
    if (key != n.name) continue;
    if (n.wide != nullptr) return harness::parse_number(value, &(op->*n.wide));
    return harness::parse_number(value, &(op->*n.narrow));
  }
  if (key == "prot") return harness::parse_prot(value, &op->prot);
  if (key == "flags") return harness::parse_flags(value, kFlags, &op->flags);
  if (key == "advice") return harness::parse_word(value, kAdvices, &op->advice);
  if (key == "fill") return parse_name(value, kFillCount, &op->fill);
  if (key == "what") return parse_name(value, kFailureCount, &op->failure);
  return false;
}

}  // namespace

const char* name_of(OpKind kind) { return kSpecs[static_cast<u32>(kind)].name; }
bool by_task(OpKind kind) { return kSpecs[static_cast<u32>(kind)].fields[0] == 'T'; }

std::string print(const Op& op) {
  std::ostringstream text;
  if (by_task(op.kind)) {
    text << 'p' << op.task;
  } else {
    text << "--";
  }
  text << ' ' << name_of(op.kind);
  for (const char* f = kSpecs[static_cast<u32>(op.kind)].fields + 1; *f != '\0'; ++f) {
    text << print_field(op, *f);
  }
  return text.str();
}

std::optional<Op> parse_op(const std::string& line, std::string* problem) {
  std::istringstream words(line);
  Op op;
  u32 kind = 0;
  if (!harness::parse_head(words, kSpecs, 'p', &kind, &op.task, problem)) return std::nullopt;
  op.kind = static_cast<OpKind>(kind);
  if (!harness::parse_fields(words, parse_field, &op, problem)) return std::nullopt;
  return op;
}

std::vector<Op> simpler_forms(const Op& op) {
  std::vector<Op> forms;
  const auto add = [&](auto change) {
    Op form = op;
    change(form);
    if (!(form == op)) forms.push_back(form);
  };
  add([](Op& o) { o.len = std::min(o.len, kPageSize); });
  add([](Op& o) { o.len = o.len / 2 & ~kPageMask; });
  add([](Op& o) { o.newlen = std::min(o.newlen, kPageSize); });
  add([](Op& o) { o.newlen = o.newlen / 2 & ~kPageMask; });
  add([](Op& o) { o.number = std::min<u64>(o.number, 1); });
  add([](Op& o) { o.number = (o.number + 1) / 2; });
  add([](Op& o) { o.times = std::min<u64>(o.times, 1); });
  add([](Op& o) { o.cpu = 0; });
  for (u32 b = 0; b < static_cast<u32>(FlagBit::kCount); ++b) {
    add([b](Op& o) { o.flags &= ~(1U << b); });
  }
  return forms;
}

}  // namespace spillway::ksim
