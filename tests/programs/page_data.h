// Page contents that check themselves: what the programs of this folder write and verify.
//
// Every byte of a page is a function of one 64-bit key, so a page that was lost, swapped with a
// neighbour, torn or zeroed cannot pass. The first kilobyte is random and the rest repeats a
// word: such a page compresses about 4:1, as real heaps do, unless all of it is asked random.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace programs {

inline constexpr std::size_t kPageBytes = 4096;
inline constexpr std::size_t kPageWords = kPageBytes / sizeof(std::uint64_t);

enum class Content { mixed, incompressible, zero };

// splitmix64 (Steele, Lea, Flood): a bijection of 64 bits, so different keys stay different.
inline std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// A small generator for choices. Seeded, so a run repeats.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(mix(seed)) {}
  std::uint64_t next() { return mix(state_++); }
  std::uint64_t below(std::uint64_t bound) { return next() % bound; }

 private:
  std::uint64_t state_;
};

inline std::uint64_t word_of(std::uint64_t key, std::size_t index, Content content) {
  if (content == Content::zero) {
    return 0;
  }
  const bool random = content == Content::incompressible || index < kPageWords / 4;
  return mix(key + (random ? index * 0x2545F4914F6CDD1Du : 0));
}

// Fills words [first_word, kPageWords) of the page at `page`.
inline void fill_page(void* page, std::uint64_t key, Content content = Content::mixed,
                      std::size_t first_word = 0) {
  auto* words = static_cast<std::uint64_t*>(page);
  for (std::size_t i = first_word; i < kPageWords; ++i) {
    words[i] = word_of(key, i, content);
  }
}

inline bool page_is(const void* page, std::uint64_t key, Content content = Content::mixed,
                    std::size_t first_word = 0) {
  const auto* words = static_cast<const std::uint64_t*>(page);
  std::uint64_t difference = 0;
  for (std::size_t i = first_word; i < kPageWords; ++i) {
    difference |= words[i] ^ word_of(key, i, content);
  }
  return difference == 0;
}

}  // namespace programs
