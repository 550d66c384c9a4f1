#include "words.h"

#include <cstdio>
#include <cstdlib>

namespace spillway::harness {

std::string hex(const char* key, u64 value) {
  char text[48];
  std::snprintf(text, sizeof text, " %s=0x%llx", key, static_cast<unsigned long long>(value));
  return text;
}

std::string decimal(const char* key, u64 value) {
  return std::string(" ") + key + "=" + std::to_string(value);
}

std::string print_prot(Prot prot) {
  std::string text = " prot=";
  text += allows(prot, Prot::read) ? 'r' : '-';
  text += allows(prot, Prot::write) ? 'w' : '-';
  text += allows(prot, Prot::exec) ? 'x' : '-';
  return text;
}

std::string print_flags(const char* key, std::span<const Word> words, u64 flags) {
  std::string text;
  for (const Word& w : words) {
    if ((flags & w.value) == 0) continue;
    text += text.empty() ? std::string(" ") + key + "=" : "+";
    text += w.name;
  }
  return text;
}

std::string print_word(const char* key, std::span<const Word> words, u64 value) {
  for (const Word& w : words) {
    if (w.value == value) return std::string(" ") + key + "=" + w.name;
  }
  return decimal(key, value);
}

bool parse_number(const std::string& text, u64* out) {
  char* end = nullptr;
  *out = std::strtoull(text.c_str(), &end, 0);
  return !text.empty() && *end == '\0';
}

bool parse_number(const std::string& text, u32* out) {
  u64 number = 0;
  if (!parse_number(text, &number)) return false;
  *out = static_cast<u32>(number);
  return true;
}

bool parse_prot(const std::string& text, Prot* out) {
  if (text.size() != 3) return false;
  const u32 bits =
      (text[0] == 'r' ? 1U : 0U) | (text[1] == 'w' ? 2U : 0U) | (text[2] == 'x' ? 4U : 0U);
  *out = static_cast<Prot>(bits);
  return true;
}

bool parse_flags(const std::string& text, std::span<const Word> words, u32* out) {
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, '+');) {
    u64 value = 0;
    bool known = false;
    for (const Word& w : words) {
      if (part != w.name) continue;
      value = w.value;
      known = true;
    }
    if (!known) return false;
    *out |= static_cast<u32>(value);
  }
  return true;
}

bool parse_word(const std::string& text, std::span<const Word> words, u64* out) {
  for (const Word& w : words) {
    if (text != w.name) continue;
    *out = w.value;
    return true;
  }
  return parse_number(text, out);
}

bool parse_head(std::istringstream& words, std::span<const OpSpec> specs, char letter, u32* kind,
                u32* who, std::string* problem) {
  std::string name;
  std::string what;
  words >> name >> what;
  *kind = 0;
  while (*kind < specs.size() && what != specs[*kind].name) ++*kind;
  if (*kind == specs.size()) {
    *problem = "unknown operation '" + what + "'";
    return false;
  }
  *who = 0;
  if (specs[*kind].fields[0] != 'T') return true;
  if (name.size() >= 2 && name[0] == letter && parse_number(name.substr(1), who)) return true;
  *problem = "'" + name + "' is no task (" + letter + "0, " + letter + "1...)";
  return false;
}

}  // namespace spillway::harness
