#include "op.h"

#include <sstream>

#include "words.h"

namespace spillway::sim {
namespace {

using harness::decimal;
using harness::hex;
using harness::Word;

constexpr harness::OpSpec kSpecs[] = {
#define X(id, fields, text) {#id, fields},
    SPW_SIM_OPS(X)
#undef X
};

constexpr Word kFlags[] = {
    {"fixed", kFlagFixed},      {"noreplace", kFlagNoreplace}, {"noreserve", kFlagNoreserve},
    {"locked", kFlagLocked},    {"populate", kFlagPopulate},   {"foreign", kFlagForeign},
    {"may_move", kFlagMayMove},
};
constexpr Word kAdvices[] = {
    {"normal", 0},   {"random", 1}, {"sequential", 2}, {"willneed", 3},
    {"dontneed", 4}, {"free", 8},   {"cold", 20},      {"pageout", 21},
};

std::string print_field(const Op& op, char field) {
  switch (field) {
    case 'a': return hex("at", op.at);
    case 'l': return hex("len", op.len);
    case 'b': return hex("to", op.to);
    case 'm': return hex("newlen", op.newlen);
    case 'p': return harness::print_prot(op.prot);
    case 'g': return harness::print_flags("flags", kFlags, op.flags);
    case 'v': return harness::print_word("advice", kAdvices, static_cast<u64>(op.advice));
    case 'f': return std::string(" fill=") + name_of(op.fill);
    case 's': return decimal("seed", op.seed);
    case 'n': return decimal("n", op.number);
    case 'k': return std::string(" what=") + name_of(op.failure);
    case 'x': return decimal("times", op.times);
    case 'c': return decimal("cpu", op.cpu);
    default: return {};
  }
}

bool parse_field(const std::string& key, const std::string& value, Op* op) {
  using harness::parse_name;
  using harness::parse_number;
  if (key == "at") return parse_number(value, &op->at);
  if (key == "len") return parse_number(value, &op->len);
  if (key == "to") return parse_number(value, &op->to);
  if (key == "newlen") return parse_number(value, &op->newlen);
  if (key == "seed") return parse_number(value, &op->seed);
  if (key == "n") return parse_number(value, &op->number);
  if (key == "times") return parse_number(value, &op->times);
  if (key == "prot") return harness::parse_prot(value, &op->prot);
  if (key == "flags") return harness::parse_flags(value, kFlags, &op->flags);
  if (key == "fill") return parse_name(value, kFillCount, &op->fill);
  if (key == "what") return parse_name(value, kFailureCount, &op->failure);
  if (key == "cpu") return parse_number(value, &op->cpu);
  u64 advice = 0;
  if (key != "advice" || !harness::parse_word(value, kAdvices, &advice)) return false;
  op->advice = static_cast<Advice>(advice);
  return true;
}

}  // namespace

const char* name_of(OpKind kind) { return kSpecs[static_cast<u32>(kind)].name; }
bool by_task(OpKind kind) { return kSpecs[static_cast<u32>(kind)].fields[0] == 'T'; }

std::string print(const Op& op) {
  std::ostringstream text;
  if (by_task(op.kind)) {
    text << 't' << op.task;
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
  if (!harness::parse_head(words, kSpecs, 't', &kind, &op.task, problem)) return std::nullopt;
  op.kind = static_cast<OpKind>(kind);
  if (!harness::parse_fields(words, parse_field, &op, problem)) return std::nullopt;
  return op;
}

}  // namespace spillway::sim
