// The buddy allocator alone, on bare descriptors: rows 4, 5 and 6 of the acceptance table, and a
// validator that sees every kind of damage.
#include "page/buddy.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "base/prng.h"

namespace spillway {
namespace {

class BuddyTest : public ::testing::Test {
 protected:
  // `count` frames, all free.
  void start(u32 count) {
    pages_.assign(count, Page{});
    for (Page& page : pages_) page.state = PageState::isolated;
    frames_.init(pages_.data(), PageCount(count));
    buddy_.init(frames_);
    for (u32 i = 0; i < count; ++i) buddy_.free(Pfn(i), 0);
  }
  using Lists = std::array<u32, kOrderCount>;
  Lists lists() const {
    Lists out;
    for (u32 order = 0; order < kOrderCount; ++order) out[order] = buddy_.blocks(order);
    return out;
  }

  std::vector<Page> pages_;
  FrameTable frames_;
  Buddy buddy_;
};

TEST_F(BuddyTest, single_frames_merge_completely) {
  start(1024 + 5);
  EXPECT_EQ(buddy_.blocks(9), 2U);
  EXPECT_EQ(buddy_.blocks(2), 1U);
  EXPECT_EQ(buddy_.blocks(0), 1U);
  EXPECT_EQ(buddy_.free_pages().v, 1029U);
  EXPECT_TRUE(buddy_.validate());
}

// Frames for a CPU's list are those that single requests would get, and come back the same way.
TEST_F(BuddyTest, bulk_is_the_same_as_one_by_one) {
  constexpr u32 kCount = 1024 + 37;
  start(kCount);
  std::vector<Page> other_pages(kCount);
  for (Page& page : other_pages) page.state = PageState::isolated;
  FrameTable other_frames;
  other_frames.init(other_pages.data(), PageCount(kCount));
  Buddy other;
  other.init(other_frames);
  for (u32 i = 0; i < kCount; ++i) other.free(Pfn(i), 0);
  Prng prng(11);
  std::vector<u32> taken;
  for (u32 step = 0; step < 5'000; ++step) {
    u32 batch[64];
    const u32 want = 1 + static_cast<u32>(prng.below(64));
    if (prng.one_in(2)) {
      const u32 got = buddy_.alloc_bulk(want, batch);
      for (u32 i = 0; i < got; ++i) {
        ASSERT_EQ(other.alloc(0).v, batch[i]) << step;
        ASSERT_EQ(frames_[Pfn(batch[i])].state, PageState::pcp);
        taken.push_back(batch[i]);
      }
      if (got < want) {
        ASSERT_EQ(other.alloc(0), kNoPfn);
      }
    } else {
      u32 count = 0;
      for (; count < want && !taken.empty(); ++count) {
        std::swap(taken[prng.below(taken.size())], taken.back());
        batch[count] = taken.back();
        taken.pop_back();
        other.free(Pfn(batch[count]), 0);
      }
      buddy_.free_bulk(count, batch);
    }
    for (u32 order = 0; order < kOrderCount; ++order) {
      ASSERT_EQ(buddy_.blocks(order), other.blocks(order)) << step;
    }
    ASSERT_EQ(buddy_.free_pages(), other.free_pages());
    if (step % 100 == 0) {
      ASSERT_TRUE(buddy_.validate() && other.validate());
    }
  }
}

TEST_F(BuddyTest, row_04_random_orders_end_with_the_initial_lists) {
  start(1024 + 37);
  const Lists initial = lists();
  struct Block {
    Pfn pfn;
    u32 order;
  };
  std::vector<Block> taken;
  u64 taken_pages = 0;
  Prng prng(4);
  constexpr u32 kSteps = 1'000'000;
  for (u32 step = 0; step < kSteps; ++step) {
    const u32 order = static_cast<u32>(prng.below(kOrderCount));
    if (prng.one_in(2)) {
      const Pfn pfn = buddy_.alloc(order);
      if (pfn.valid()) {
        ASSERT_EQ(pfn.v % (1U << order), 0U);
        taken.push_back({pfn, order});
        taken_pages += u64{1} << order;
      }
    } else if (!taken.empty()) {
      const u64 i = prng.below(taken.size());
      buddy_.free(taken[i].pfn, taken[i].order);
      taken_pages -= u64{1} << taken[i].order;
      taken[i] = taken.back();
      taken.pop_back();
    }
    ASSERT_EQ(buddy_.free_pages().v + taken_pages, frames_.count().v);
    if (step % 50'000 == 0) {
      ASSERT_TRUE(buddy_.validate()) << step;
    }
  }
  for (const Block& block : taken) buddy_.free(block.pfn, block.order);
  EXPECT_EQ(lists(), initial);
  EXPECT_TRUE(buddy_.validate());
}

TEST_F(BuddyTest, row_05_half_of_memory_free_and_no_pair) {
  start(1024);
  for (u32 i = 0; i < 1024; ++i) ASSERT_TRUE(buddy_.alloc(0).valid());
  for (u32 i = 0; i < 1024; i += 2) buddy_.free(Pfn(i), 0);
  EXPECT_EQ(buddy_.free_pages().v, 512U);
  EXPECT_FALSE(buddy_.alloc(1).valid());
  buddy_.free(Pfn(77), 0);
  EXPECT_EQ(buddy_.alloc(1), Pfn(76));
  EXPECT_TRUE(buddy_.validate());
}

TEST_F(BuddyTest, row_06_an_order_that_does_not_exist) {
  start(2048);
  const Lists initial = lists();
  EXPECT_FALSE(buddy_.alloc(kOrderMax + 1).valid());
  EXPECT_EQ(lists(), initial);
}

TEST_F(BuddyTest, frames_of_a_split_block_are_handed_out_rising) {
  start(512);
  for (u32 i = 0; i < 512; ++i) ASSERT_EQ(buddy_.alloc(0), Pfn(i));
  EXPECT_FALSE(buddy_.alloc(0).valid());
}

TEST_F(BuddyTest, a_run_is_consecutive_and_its_tail_goes_back) {
  start(512);
  Pfn first;
  ASSERT_EQ(buddy_.alloc_run(21, &first), 21U);
  for (u32 i = 0; i < 21; ++i) EXPECT_EQ(frames_[first + i].state, PageState::isolated);
  EXPECT_EQ(buddy_.free_pages().v, 512U - 21U);
  EXPECT_TRUE(buddy_.validate());
  for (u32 i = 0; i < 21; ++i) buddy_.free(first + i, 0);
  EXPECT_EQ(buddy_.blocks(9), 1U);
}

TEST_F(BuddyTest, a_run_is_shorter_when_memory_is_in_pieces) {
  start(64);
  for (u32 i = 0; i < 64; ++i) ASSERT_TRUE(buddy_.alloc(0).valid());
  Pfn first;
  EXPECT_EQ(buddy_.alloc_run(8, &first), 0U);
  for (u32 i = 32; i < 36; ++i) buddy_.free(Pfn(i), 0);
  EXPECT_EQ(buddy_.alloc_run(8, &first), 4U);
  EXPECT_EQ(first, Pfn(32));
}

TEST_F(BuddyTest, a_block_at_the_odd_end_has_no_buddy) {
  start(3);
  EXPECT_EQ(buddy_.blocks(1), 1U);
  EXPECT_EQ(buddy_.blocks(0), 1U);
  EXPECT_EQ(buddy_.alloc(0), Pfn(2));
  buddy_.free(Pfn(2), 0);
  EXPECT_TRUE(buddy_.validate());
}

TEST_F(BuddyTest, validate_sees_every_kind_of_damage) {
  start(16);
  const Pfn single = buddy_.alloc(0);
  ASSERT_TRUE(buddy_.validate());
  const std::vector<Page> good = pages_;
  const auto sees = [&](const char* what) {
    EXPECT_FALSE(buddy_.validate()) << what;
    pages_ = good;
    EXPECT_TRUE(buddy_.validate()) << what;
  };
  pages_[single.v].state = PageState::free;  // free, on no list
  sees("a free frame that no block covers");
  pages_[8].order = 2;  // head of the block of 8
  sees("an order that is not its list's");
  pages_[9].state = PageState::isolated;
  sees("a taken frame inside a free block");
  pages_[9].order = 0;
  sees("a head inside a block");
  pages_[8].next = 8;
  sees("a list that runs in a circle");
  pages_[8].state = PageState::isolated;
  sees("a taken head on a list");
}

TEST(BuddyDeathTest, a_frame_is_not_freed_twice) {
  std::vector<Page> pages(4);
  for (Page& page : pages) page.state = PageState::isolated;
  FrameTable frames;
  frames.init(pages.data(), PageCount(4));
  Buddy buddy;
  buddy.init(frames);
  buddy.free(Pfn(0), 0);
  EXPECT_DEATH(buddy.free(Pfn(0), 0), "");
  EXPECT_DEATH(buddy.free(Pfn(1), 1), "") << "not a multiple of its size";
}

}  // namespace
}  // namespace spillway
