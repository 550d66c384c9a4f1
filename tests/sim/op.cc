#include "op.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <sstream>

namespace spillway::sim {
namespace {

struct Spec {
  const char* name;
  const char* fields;
};
constexpr Spec kSpecs[] = {
#define X(id, fields, text) {#id, fields},
    SPW_SIM_OPS(X)
#undef X
};

struct Word {
  const char* name;
  i32 value;
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

std::string hex(const char* key, u64 value) {
  char text[40];
  std::snprintf(text, sizeof text, " %s=0x%llx", key, static_cast<unsigned long long>(value));
  return text;
}

std::string decimal(const char* key, u64 value) {
  return std::string(" ") + key + "=" + std::to_string(value);
}

std::string print_flags(u32 flags) {
  std::string text;
  for (const Word& f : kFlags) {
    if ((flags & static_cast<u32>(f.value)) == 0) continue;
    text += text.empty() ? " flags=" : "+";
    text += f.name;
  }
  return text;
}

std::string print_prot(Prot prot) {
  std::string text = " prot=";
  text += allows(prot, Prot::read) ? 'r' : '-';
  text += allows(prot, Prot::write) ? 'w' : '-';
  text += allows(prot, Prot::exec) ? 'x' : '-';
  return text;
}

std::string print_advice(Advice advice) {
  for (const Word& a : kAdvices) {
    if (a.value == static_cast<i32>(advice)) return std::string(" advice=") + a.name;
  }
  return " advice=" + std::to_string(static_cast<i32>(advice));
}

std::string print_field(const Op& op, char field) {
  switch (field) {
    case 'a': return hex("at", op.at);
    case 'l': return hex("len", op.len);
    case 'b': return hex("to", op.to);
    case 'm': return hex("newlen", op.newlen);
    case 'p': return print_prot(op.prot);
    case 'g': return print_flags(op.flags);
    case 'v': return print_advice(op.advice);
    case 'f': return std::string(" fill=") + name_of(op.fill);
    case 's': return decimal("seed", op.seed);
    case 'n': return decimal("n", op.number);
    case 'k': return std::string(" what=") + name_of(op.failure);
    case 'x': return decimal("times", op.times);
    case 'c': return decimal("cpu", op.cpu);
    default: return {};
  }
}

bool parse_number(const std::string& text, u64* out) {
  char* end = nullptr;
  *out = std::strtoull(text.c_str(), &end, 0);
  return !text.empty() && *end == '\0';
}

bool parse_flags(const std::string& text, u32* out) {
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, '+');) {
    bool known = false;
    for (const Word& f : kFlags) {
      if (word != f.name) continue;
      *out |= static_cast<u32>(f.value);
      known = true;
    }
    if (!known) return false;
  }
  return true;
}

bool parse_prot(const std::string& text, Prot* out) {
  if (text.size() != 3) return false;
  const u32 bits =
      (text[0] == 'r' ? 1U : 0U) | (text[1] == 'w' ? 2U : 0U) | (text[2] == 'x' ? 4U : 0U);
  *out = static_cast<Prot>(bits);
  return true;
}

bool parse_advice(const std::string& text, Advice* out) {
  for (const Word& a : kAdvices) {
    if (text != a.name) continue;
    *out = static_cast<Advice>(a.value);
    return true;
  }
  u64 value = 0;
  if (!parse_number(text, &value)) return false;
  *out = static_cast<Advice>(value);
  return true;
}

template <class Enum>
bool parse_name(const std::string& text, u32 count, Enum* out) {
  for (u32 i = 0; i < count; ++i) {
    if (text != name_of(static_cast<Enum>(i))) continue;
    *out = static_cast<Enum>(i);
    return true;
  }
  return false;
}

bool parse_field(const std::string& key, const std::string& value, Op* op) {
  u64 number = 0;
  if (key == "at") return parse_number(value, &op->at);
  if (key == "len") return parse_number(value, &op->len);
  if (key == "to") return parse_number(value, &op->to);
  if (key == "newlen") return parse_number(value, &op->newlen);
  if (key == "seed") return parse_number(value, &op->seed);
  if (key == "n") return parse_number(value, &op->number);
  if (key == "times") return parse_number(value, &op->times);
  if (key == "prot") return parse_prot(value, &op->prot);
  if (key == "flags") return parse_flags(value, &op->flags);
  if (key == "advice") return parse_advice(value, &op->advice);
  if (key == "fill") return parse_name(value, kFillCount, &op->fill);
  if (key == "what") return parse_name(value, kFailureCount, &op->failure);
  if (key == "cpu" && parse_number(value, &number)) {
    op->cpu = static_cast<u32>(number);
    return true;
  }
  return false;
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
  std::string who;
  std::string what;
  words >> who >> what;
  Op op;
  u32 kind = 0;
  while (kind < kOpKindCount && what != kSpecs[kind].name) ++kind;
  if (kind == kOpKindCount) {
    *problem = "unknown operation '" + what + "'";
    return std::nullopt;
  }
  op.kind = static_cast<OpKind>(kind);
  u64 task = 0;
  if (by_task(op.kind) &&
      (who.size() < 2 || who[0] != 't' || !parse_number(who.substr(1), &task))) {
    *problem = "'" + who + "' is no task (t0, t1...)";
    return std::nullopt;
  }
  op.task = static_cast<u32>(task);
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos ||
        !parse_field(word.substr(0, equals), word.substr(equals + 1), &op)) {
      *problem = "cannot read '" + word + "'";
      return std::nullopt;
    }
  }
  return op;
}

}  // namespace spillway::sim
