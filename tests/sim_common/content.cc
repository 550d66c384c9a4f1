#include "content.h"

#include <cstring>

#include "base/prng.h"

namespace spillway::harness {
namespace {

constexpr const char* kNames[] = {
#define X(id, text) #id,
    SPW_SIM_FILLS(X)
#undef X
};

// Four-byte tokens; sixteen of them in random order compress about five to one.
constexpr char kTokens[] =
    "the memory of programs is turned over page by page while nobody looks a";
static_assert(sizeof kTokens > 64);

void put_words(Prng& prng, u8* out, u64 bytes) {
  for (u64 i = 0; i < bytes; i += sizeof(u64)) {
    const u64 word = prng.next();
    std::memcpy(out + i, &word, sizeof word);
  }
}

void repeat_word(u64 word, u8* out) {
  for (u64 i = 0; i < kPageSize; i += sizeof word) std::memcpy(out + i, &word, sizeof word);
}

void put_text(Prng& prng, u8* out) {
  // The page names itself first; the rest is tokens.
  const u64 stamp = prng.next();
  std::memcpy(out, &stamp, sizeof stamp);
  for (u64 i = sizeof stamp; i < kPageSize; i += 16) {
    const u64 token = prng.below(4) * 16;
    const u64 rest = kPageSize - i;
    std::memcpy(out + i, kTokens + token, rest < 16 ? rest : 16);
  }
}

}  // namespace

const char* name_of(Fill fill) { return kNames[static_cast<u32>(fill)]; }

void make_page(Fill fill, u64 seed, u64 page, u8* out) {
  Prng prng(mix64(seed) ^ page);
  switch (fill) {
    case Fill::zero: std::memset(out, 0, kPageSize); return;
    case Fill::same: {
      const u64 value = prng.next() & 0xffff'ffff;
      repeat_word(value << 32 | value, out);
      return;
    }
    case Fill::pattern: repeat_word(prng.next(), out); return;
    case Fill::text: put_text(prng, out); return;
    case Fill::half:
      put_words(prng, out, kPageSize / 2);
      std::memset(out + kPageSize / 2, 0, kPageSize / 2);
      return;
    case Fill::random: put_words(prng, out, kPageSize); return;
    case Fill::kCount: break;
  }
}

}  // namespace spillway::harness
