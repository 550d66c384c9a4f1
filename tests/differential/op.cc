#include "op.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "base/prng.h"

namespace spillway::diff {
namespace {

struct Spec {
  const char* name;
  const char* fields;
};
constexpr Spec kSpecs[] = {
#define X(id, fields, text) {#id, fields},
    SPW_DIFF_OPS(X)
#undef X
};

struct Word {
  const char* name;
  u32 value;
};
constexpr Word kMapFlags[] = {
    {"shared", MAP_SHARED},       {"private", MAP_PRIVATE},
    {"fixed", MAP_FIXED},         {"anonymous", MAP_ANONYMOUS},
    {"growsdown", MAP_GROWSDOWN}, {"denywrite", MAP_DENYWRITE},
    {"locked", MAP_LOCKED},       {"noreserve", MAP_NORESERVE},
    {"populate", MAP_POPULATE},   {"noreplace", MAP_FIXED_NOREPLACE},
};
constexpr Word kRemapFlags[] = {{"maymove", MREMAP_MAYMOVE}, {"fixed", MREMAP_FIXED}};
constexpr Word kSyncFlags[] = {
    {"async", MS_ASYNC}, {"invalidate", MS_INVALIDATE}, {"sync", MS_SYNC}};
constexpr Word kLockFlags[] = {{"current", MCL_CURRENT}, {"future", MCL_FUTURE}};
constexpr Word kAdvices[] = {
    {"normal", MADV_NORMAL},     {"random", MADV_RANDOM},     {"sequential", MADV_SEQUENTIAL},
    {"willneed", MADV_WILLNEED}, {"dontneed", MADV_DONTNEED}, {"free", MADV_FREE},
    {"dontfork", MADV_DONTFORK}, {"dofork", MADV_DOFORK},     {"cold", MADV_COLD},
    {"pageout", MADV_PAGEOUT},
};

struct Words {
  const Word* begin;
  const Word* end;
};
template <std::size_t N>
constexpr Words words_of(const Word (&words)[N]) {
  return {words, words + N};
}
Words flag_words(char field) {
  switch (field) {
    case 'g': return words_of(kMapFlags);
    case 'r': return words_of(kRemapFlags);
    case 'y': return words_of(kSyncFlags);
    default: return words_of(kLockFlags);
  }
}

std::string hex(u64 value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

std::string print_flags(Words words, u32 flags) {
  std::string text;
  for (const Word* w = words.begin; w != words.end; ++w) {
    if ((flags & w->value) != w->value) continue;
    if (!text.empty()) text += '+';
    text += w->name;
    flags &= ~w->value;
  }
  // Bits without a name, for calls with bad arguments.
  if (flags != 0 || text.empty()) text += (text.empty() ? "" : "+") + hex(flags);
  return text;
}

std::string print_prot(u32 prot) {
  std::string text;
  text += (prot & PROT_READ) != 0 ? 'r' : '-';
  text += (prot & PROT_WRITE) != 0 ? 'w' : '-';
  text += (prot & PROT_EXEC) != 0 ? 'x' : '-';
  const u32 rest = prot & ~u32{PROT_READ | PROT_WRITE | PROT_EXEC};
  return rest == 0 ? text : text + "+" + hex(rest);
}

std::string print_advice(i32 advice) {
  for (const Word& a : kAdvices) {
    if (static_cast<i32>(a.value) == advice) return a.name;
  }
  return std::to_string(advice);
}

std::string print_field(const Op& op, char field) {
  switch (field) {
    case 'a': return " at=" + print(op.at);
    case 'l': return " len=" + hex(op.len);
    case 't': return " to=" + print(op.to);
    case 'm': return " newlen=" + hex(op.newlen);
    case 'p': return " prot=" + print_prot(op.prot);
    case 'g':
    case 'r':
    case 'y':
    case 'k': return " flags=" + print_flags(flag_words(field), op.flags);
    case 'd': return " fd=" + (op.file == kNoFile ? "none" : std::to_string(op.file));
    case 'o': return " off=" + hex(op.offset);
    case 'v': return " advice=" + print_advice(op.advice);
    case 's': return " seed=" + std::to_string(op.seed);
    case 'n': return " n=" + std::to_string(op.number);
    default: return {};
  }
}

bool parse_number(const std::string& text, u64* out) {
  char* end = nullptr;
  *out = std::strtoull(text.c_str(), &end, 0);
  return !text.empty() && *end == '\0';
}

template <class Int>
bool parse_int(const std::string& text, Int* out) {
  char* end = nullptr;
  *out = static_cast<Int>(std::strtoll(text.c_str(), &end, 0));
  return !text.empty() && *end == '\0';
}

bool parse_place(const std::string& text, Place* out) {
  if (text.size() < 3 || text[1] != ':') return false;
  switch (text[0]) {
    case 'w': out->base = Base::window; break;
    case 'h': out->base = Base::heap; break;
    case 'a': out->base = Base::absolute; break;
    default: return false;
  }
  return parse_number(text.substr(2), &out->offset);
}

bool parse_flags(Words words, const std::string& text, u32* out) {
  *out = 0;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, '+');) {
    u64 bits = 0;
    bool known = parse_number(part, &bits);
    for (const Word* w = words.begin; w != words.end; ++w) {
      if (part != w->name) continue;
      bits = w->value;
      known = true;
    }
    if (!known) return false;
    *out |= static_cast<u32>(bits);
  }
  return true;
}

bool parse_prot(const std::string& text, u32* out) {
  if (text.size() < 3) return false;
  *out = (text[0] == 'r' ? u32{PROT_READ} : 0U) | (text[1] == 'w' ? u32{PROT_WRITE} : 0U) |
         (text[2] == 'x' ? u32{PROT_EXEC} : 0U);
  if (text.size() == 3) return true;
  u64 rest = 0;
  if (text[3] != '+' || !parse_number(text.substr(4), &rest)) return false;
  *out |= static_cast<u32>(rest);
  return true;
}

bool parse_advice(const std::string& text, i32* out) {
  for (const Word& a : kAdvices) {
    if (text != a.name) continue;
    *out = static_cast<i32>(a.value);
    return true;
  }
  return parse_int(text, out);
}

bool parse_file(const std::string& text, i32* out) {
  *out = kNoFile;
  return text == "none" || parse_int(text, out);
}

bool parse_field(char field, const std::string& value, Op* op) {
  switch (field) {
    case 'a': return parse_place(value, &op->at);
    case 'l': return parse_number(value, &op->len);
    case 't': return parse_place(value, &op->to);
    case 'm': return parse_number(value, &op->newlen);
    case 'p': return parse_prot(value, &op->prot);
    case 'g':
    case 'r':
    case 'y':
    case 'k': return parse_flags(flag_words(field), value, &op->flags);
    case 'd': return parse_file(value, &op->file);
    case 'o': return parse_number(value, &op->offset);
    case 'v': return parse_advice(value, &op->advice);
    case 's': return parse_number(value, &op->seed);
    case 'n': return parse_int(value, &op->number);
    default: return false;
  }
}

// The field that `key` names among those of an operation; 0 if it has none of that name.
char field_of(const char* fields, const std::string& key) {
  for (const char* f = fields; *f != '\0'; ++f) {
    const std::string shown = print_field(Op{}, *f);
    if (shown.compare(1, shown.find('=') - 1, key) == 0) return *f;
  }
  return '\0';
}

}  // namespace

const char* name_of(OpKind kind) { return kSpecs[static_cast<u32>(kind)].name; }

std::string print(Place place) {
  constexpr char kBases[] = {'w', 'h', 'a'};
  return std::string(1, kBases[static_cast<u32>(place.base)]) + ":" + hex(place.offset);
}

std::string print(const Op& op) {
  const Spec& spec = kSpecs[static_cast<u32>(op.kind)];
  std::string text = "p" + std::to_string(op.process) + " " + spec.name;
  for (const char* f = spec.fields; *f != '\0'; ++f) text += print_field(op, *f);
  return text;
}

std::optional<Op> parse_op(const std::string& line, std::string* problem) {
  std::istringstream words(line);
  std::string who;
  std::string what;
  words >> who >> what;
  Op op;
  if (who.size() != 2 || who[0] != 'p' || who[1] < '0' || who[1] >= char{'0' + kProcessesMax}) {
    *problem = "'" + who + "' is no process";
    return std::nullopt;
  }
  op.process = static_cast<u32>(who[1] - '0');
  u32 kind = 0;
  while (kind < kOpKindCount && what != kSpecs[kind].name) ++kind;
  if (kind == kOpKindCount) {
    *problem = "unknown operation '" + what + "'";
    return std::nullopt;
  }
  op.kind = static_cast<OpKind>(kind);
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    const char field = field_of(kSpecs[kind].fields, word.substr(0, equals));
    if (equals == std::string::npos || field == '\0' ||
        !parse_field(field, word.substr(equals + 1), &op)) {
      *problem = "cannot read '" + word + "'";
      return std::nullopt;
    }
  }
  return op;
}

void make_bytes(u64 seed, u64 bytes, u8* out) {
  if (bytes == 0) return;
  // Some stores write zeros, some write code that can be called.
  if (seed % 8 < 2) {
    std::memset(out, seed % 8 == 0 ? 0 : kReturnInstruction, bytes);
    return;
  }
  Prng prng(seed);
  for (u64 i = 0; i < bytes; ++i) out[i] = static_cast<u8>(prng.next() >> 32);
}

std::string errno_name(int error) {
  if (error == 0) return "ok";
  const char* name = strerrorname_np(error);
  return name != nullptr ? name : "errno " + std::to_string(error);
}

}  // namespace spillway::diff
