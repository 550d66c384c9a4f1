// The codec: every kind and length of content comes back, and bytes that are no stored page are
// refused without a write beyond the page (the address sanitizer watches).
#include "swap/codec.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "swap/swap_bed_test.h"

namespace spillway {
namespace {

class CodecTest : public ::testing::Test {
 protected:
  CodecTest() { EXPECT_TRUE(codec_.init(sim_.machine().boot).ok()); }
  // Encodes `page`, decodes it from a buffer of exactly the stored size, and compares.
  Encoded round_trip(const u8* page) {
    const Encoded e = codec_.encode(page);
    const auto out = std::make_unique<u8[]>(kPageSize);
    std::memset(out.get(), 0xA7, kPageSize);
    if (e.same_filled) {
      Codec::fill(e.fill, out.get());
    } else {
      const auto stored = std::make_unique<u8[]>(e.stored);
      std::memcpy(stored.get(), e.data, e.stored);
      const ObjectHeader header{7, e.stored, e.content};
      EXPECT_TRUE(codec_.decode(header, stored.get(), out.get()).ok());
    }
    EXPECT_EQ(std::memcmp(out.get(), page, kPageSize), 0);
    return e;
  }

  SimMachine sim_{SimConfig{}};
  Codec codec_;
  alignas(64) u8 page_[kPageSize];
};

TEST_F(CodecTest, row_76_one_repeated_word_keeps_no_bytes) {
  make_page(page_, 0, Bytes::zero);
  EXPECT_TRUE(round_trip(page_).same_filled);
  make_page(page_, 9, Bytes::same);
  EXPECT_TRUE(round_trip(page_).same_filled);
  // Every byte counts, the first and the last too.
  for (u64 at : {0UL, 3UL, 4UL, 7UL, 8UL, 2048UL, 4095UL}) {
    make_page(page_, 9, Bytes::same);
    page_[at] ^= 1;
    EXPECT_FALSE(round_trip(page_).same_filled) << at;
  }
}

TEST_F(CodecTest, row_76_text_shrinks_and_random_bytes_stay_as_they_are) {
  make_page(page_, 1, Bytes::text);
  const Encoded text = round_trip(page_);
  EXPECT_LT(text.stored, 600);
  EXPECT_NE(text.content & ObjectHeader::kCompressed, 0);
  make_page(page_, 1, Bytes::random);
  const Encoded random = round_trip(page_);
  EXPECT_EQ(random.stored, kPageSize);
  EXPECT_EQ(random.data, page_) << "not copied";
  make_page(page_, 1, Bytes::half);
  EXPECT_EQ(round_trip(page_).stored, kPageSize / 2) << "the zero tail costs nothing";
}

TEST_F(CodecTest, every_length_of_content_comes_back) {
  for (u32 length = 1; length <= kPageSize; ++length) {
    for (Bytes kind : {Bytes::random, Bytes::text}) {
      make_page(page_, length, kind);
      page_[length - 1] = 0x5a;
      std::memset(page_ + length, 0, kPageSize - length);
      const Encoded e = round_trip(page_);
      ASSERT_FALSE(HasFailure()) << length;
      ASSERT_LE(e.stored, (length + 7) & ~7U);
    }
  }
}

TEST_F(CodecTest, random_mixtures_come_back) {
  Prng prng(31);
  for (u32 round = 0; round < 2000; ++round) {
    std::memset(page_, static_cast<int>(prng.below(3)), kPageSize);
    for (u64 n = prng.below(40); n > 0; --n) {
      const u64 start = prng.below(kPageSize);
      const u64 length = std::min(prng.below(300), kPageSize - start);
      for (u64 i = 0; i < length; ++i) {
        page_[start + i] = static_cast<u8>(prng.one_in(2) ? prng.next() : 0);
      }
    }
    (void)round_trip(page_);
    ASSERT_FALSE(HasFailure()) << round;
  }
}

// Hostile storage: whatever header and bytes come from it, the answer is an error or a page.
TEST_F(CodecTest, hostile_bytes_never_write_past_the_page) {
  Prng prng(99);
  u32 refused = 0;
  for (u32 round = 0; round < 20'000; ++round) {
    const u16 stored = static_cast<u16>(prng.one_in(4) ? prng.next() : prng.below(kPageSize + 1));
    const u16 content = static_cast<u16>(
        prng.one_in(4) ? prng.next() : prng.below(kPageSize + 1) | (prng.one_in(2) ? 0x8000U : 0U));
    // The reader guarantees `stored` bytes only up to a page; more must be refused unread.
    const u64 size = std::min<u64>(stored, kPageSize);
    const auto data = std::make_unique<u8[]>(size + 1);
    make_page(page_, round, prng.one_in(2) ? Bytes::random : Bytes::text);
    if (prng.one_in(2)) {
      const Encoded e = codec_.encode(page_);
      std::memcpy(data.get(), e.data, std::min<u64>(size, e.stored));
      for (u32 flips = 0; flips < 3 && size > 0; ++flips) {
        data[prng.below(size)] ^= static_cast<u8>(1U << prng.below(8));
      }
    } else {
      std::memcpy(data.get(), page_, size);
    }
    const auto out = std::make_unique<u8[]>(kPageSize);
    const Status status = codec_.decode({1, stored, content}, data.get(), out.get());
    if (!status.ok()) {
      ASSERT_EQ(status.error(), Error::corrupt);
      ++refused;
    }
  }
  EXPECT_GT(refused, 5000U);
}

TEST(Codec, needs_boot_memory) {
  SimConfig config;
  config.boot_bytes_max = 1000;
  SimMachine sim(config);
  Codec codec;
  EXPECT_EQ(codec.init(sim.machine().boot).error(), Error::no_memory);
}

}  // namespace
}  // namespace spillway
