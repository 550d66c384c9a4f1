// What the simulated programs write: kinds of bytes that a swap tier treats differently.
#pragma once

#include "base/types.h"

namespace spillway::harness {

// X(identifier, what it is for a compressor)
#define SPW_SIM_FILLS(X)                                    \
  X(zero, "zeros: no bytes at all")                         \
  X(same, "one repeated 32-bit value: no bytes at all")     \
  X(pattern, "one repeated 64-bit value: a few bytes")      \
  X(text, "words from a small dictionary: compresses well") \
  X(half, "half random, half zeros: compresses two to one") \
  X(random, "does not compress")

enum class Fill : u8 {
#define X(id, text) id,
  SPW_SIM_FILLS(X)
#undef X
      kCount
};
inline constexpr u32 kFillCount = static_cast<u32>(Fill::kCount);

const char* name_of(Fill fill);

// The bytes that a store of `fill` and `seed` puts into the page at `page` (part of the pattern,
// so that misplaced pages are told apart): always the whole page, of which a store takes a part.
void make_page(Fill fill, u64 seed, u64 page, u8* out);

}  // namespace spillway::harness
