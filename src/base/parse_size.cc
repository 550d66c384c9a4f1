#include "base/parse_size.h"

namespace spillway {
namespace {

constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

// The multiplier that the suffix at `s` stands for; 0 if it is none.
u64 suffix_value(const char* s) {
  if (s[0] == '\0' || (lower(s[0]) == 'b' && s[1] == '\0')) return 1;
  constexpr char kLetters[] = {'k', 'm', 'g', 't'};
  for (int i = 0; i < 4; ++i) {
    if (lower(s[0]) != kLetters[i]) continue;
    u64 binary = 1;
    u64 decimal = 1;
    for (int k = 0; k <= i; ++k) {
      binary *= 1024;
      decimal *= 1000;
    }
    const char second = lower(s[1]);
    if (second == '\0') return binary;
    if (second == 'b' && s[2] == '\0') return decimal;
    if (second == 'i' && (s[2] == '\0' || (lower(s[2]) == 'b' && s[3] == '\0'))) return binary;
  }
  return 0;
}

}  // namespace

Result<u64> parse_size(const char* text, u64 whole) {
  if (text == nullptr || !is_digit(text[0])) return Error::invalid;
  u64 integer = 0;
  const char* p = text;
  for (; is_digit(*p); ++p) {
    if (__builtin_mul_overflow(integer, u64{10}, &integer) ||
        __builtin_add_overflow(integer, static_cast<u64>(*p - '0'), &integer)) {
      return Error::no_space;
    }
  }
  // Up to six decimals: enough for 0.5G, and no rounding that anybody would notice.
  u64 fraction = 0;
  u64 scale = 1;
  if (*p == '.') {
    ++p;
    if (!is_digit(*p)) return Error::invalid;
    for (; is_digit(*p); ++p) {
      if (scale < 1'000'000) {
        fraction = fraction * 10 + static_cast<u64>(*p - '0');
        scale *= 10;
      }
    }
  }
  __extension__ using Wide = unsigned __int128;
  Wide value;
  if (p[0] == '%' && p[1] == '\0') {
    value = (Wide{integer} * scale + fraction) * whole / scale / 100;
  } else {
    const u64 unit = suffix_value(p);
    if (unit == 0) return Error::invalid;
    value = (Wide{integer} * scale + fraction) * unit / scale;
  }
  if (value > ~u64{0}) return Error::no_space;
  return static_cast<u64>(value);
}

}  // namespace spillway
