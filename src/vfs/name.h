// Name: one component of a path. Not null-terminated; the bytes are the caller's.
#pragma once

#include <cstring>

#include "base/types.h"

namespace spillway {

struct Name {
  static constexpr u32 kMax = 255;  // NAME_MAX
  const char* text = nullptr;
  u32 length = 0;

  static Name of(const char* text) { return {text, static_cast<u32>(std::strlen(text))}; }
  bool operator==(const Name& o) const {
    return length == o.length && std::memcmp(text, o.text, length) == 0;
  }
  bool is_dot() const { return length == 1 && text[0] == '.'; }
  bool is_dot_dot() const { return length == 2 && text[0] == '.' && text[1] == '.'; }
  // Fit to be made: 1..255 bytes, no '/' and no zero byte, not "." or "..".
  bool valid() const {
    return length > 0 && length <= kMax && !is_dot() && !is_dot_dot() &&
           std::memchr(text, '/', length) == nullptr && std::memchr(text, 0, length) == nullptr;
  }
};

}  // namespace spillway
