// One plain area: which slots are handed out, and that counts, hints and records agree.
#include "swap/swap_area.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "swap/swap_bed_test.h"

namespace spillway {
namespace {

constexpr u32 kRun = SwapArea::kRunLength;

class SwapAreaTest : public ::testing::Test {
 protected:
  void start(u32 pages) {
    area_.init(bed_.machine().frames, bed_.allocator);
    ASSERT_TRUE(area_.reserve(pages).ok());
  }
  // A slot as good as stored.
  u32 take() {
    const u32 offset = area_.alloc();
    if (offset != 0) area_.find(offset)->word = SlotWord::plain();
    return offset;
  }
  SwapBed bed_{512};
  SwapArea area_;
};

TEST_F(SwapAreaTest, hands_out_every_good_slot_once) {
  start(1000);
  for (u32 bad : {1U, 17U, 500U, 999U, 17U}) area_.mark_bad(bad);
  EXPECT_EQ(area_.good(), 995U);
  EXPECT_EQ(area_.bad(), 4U);
  std::set<u32> seen;
  for (u32 i = 0; i < 995; ++i) {
    const u32 offset = take();
    ASSERT_TRUE(offset > 1 && offset < 999 && offset != 17 && offset != 500) << offset;
    ASSERT_TRUE(seen.insert(offset).second);
  }
  EXPECT_EQ(take(), 0U);
  EXPECT_EQ(area_.used(), 995U);
  EXPECT_TRUE(area_.validate());
  area_.free(600);
  EXPECT_EQ(take(), 600U);
}

TEST_F(SwapAreaTest, a_run_goes_on_over_used_slots_and_then_a_free_run_is_looked_for) {
  start(2000);
  for (u32 i = 1; i <= kRun; ++i) ASSERT_EQ(take(), i);
  area_.free(5);
  // The first run is over; the lowest free run begins after it, not in the hole.
  EXPECT_EQ(take(), kRun + 1);
  area_.free(kRun + 1);
  EXPECT_EQ(take(), kRun + 2) << "the run goes on, it does not go back";
  for (u32 i = 3; i <= kRun; ++i) ASSERT_EQ(take(), kRun + i);
  // Slot kRun + 1 is free, so the next free run of this length begins after the second.
  EXPECT_EQ(take(), 2 * kRun + 1);
}

TEST_F(SwapAreaTest, without_a_free_run_the_lowest_free_slot_is_taken) {
  start(600);
  while (take() != 0) {
  }
  for (u32 offset : {400U, 90U, 91U}) area_.free(offset);
  EXPECT_EQ(take(), 90U);
  EXPECT_EQ(take(), 91U);
  EXPECT_EQ(take(), 400U);
  EXPECT_EQ(take(), 0U);
  for (u32 offset = 200; offset < 200 + kRun; ++offset) area_.free(offset);
  area_.free(3);
  // What is left of the run leads from slot 401 to the end, where nothing is free.
  EXPECT_EQ(take(), 401U);
}

TEST_F(SwapAreaTest, a_run_may_begin_anywhere) {
  start(1000);
  while (take() != 0) {
  }
  for (u32 offset = 300; offset < 300 + kRun - 1; ++offset) area_.free(offset);
  area_.free(10);
  while (area_.find(10)->word.state() == SlotState::free) ASSERT_NE(take(), 0U);
  EXPECT_EQ(area_.find(301)->word.state(), SlotState::free) << "one slot too few for a run";
}

// The records that are taken are counted, and all of them come back.
TEST_F(SwapAreaTest, records_come_and_go) {
  const u64 before = bed_.allocator.free_pages().v;
  start(1000);
  EXPECT_EQ(area_.meta_frames(), 8U + 1);
  EXPECT_EQ(bed_.allocator.free_pages().v, before - 9);
  area_.release();
  EXPECT_EQ(bed_.allocator.free_pages().v, before);
  EXPECT_EQ(area_.meta_frames(), 0U);
  start(100);
  EXPECT_EQ(take(), 1U);
  EXPECT_EQ(area_.find(100), nullptr);
  EXPECT_EQ(area_.find(1u << 30), nullptr);
}

TEST_F(SwapAreaTest, too_little_memory_for_records_changes_nothing) {
  area_.init(bed_.machine().frames, bed_.allocator);
  const u64 before = bed_.allocator.free_pages().v;
  EXPECT_EQ(area_.reserve(1 << 20).error(), Error::no_memory);
  EXPECT_EQ(bed_.allocator.free_pages().v, before);
  EXPECT_EQ(area_.meta_frames(), 0U);
  // A wait keeps what it has, and goes on.
  bed_.reclaimer.outcome = ReclaimOutcome::wait;
  EXPECT_EQ(area_.reserve(1 << 17).error(), Error::wait);
  EXPECT_GT(area_.meta_frames(), 100U);
  area_.release();
  EXPECT_EQ(bed_.allocator.free_pages().v, before);
}

TEST_F(SwapAreaTest, next_used_walks_what_is_in_use) {
  start(1000);
  area_.mark_bad(3);
  std::set<u32> want;
  for (u32 i = 0; i < 900; ++i) want.insert(take());
  Prng prng(3);
  while (want.size() > 40) {
    const u32 offset = *std::next(want.begin(), static_cast<i64>(prng.below(want.size())));
    area_.free(offset);
    want.erase(offset);
  }
  std::set<u32> got;
  for (u32 o = area_.next_used(0); o != 0; o = area_.next_used(o)) got.insert(o);
  EXPECT_EQ(got, want);
}

// The rule in its plainest form, slot by slot.
struct Model {
  explicit Model(u32 pages) : free(pages, true) { free[0] = false; }
  u32 first_free(u32 from) const {
    for (u32 i = from; i < free.size(); ++i) {
      if (free[i]) return i;
    }
    return 0;
  }
  u32 first_run() const {
    for (u32 i = 0, length = 0; i < free.size(); ++i) {
      length = free[i] ? length + 1 : 0;
      if (length == kRun) return i + 1 - kRun;
    }
    return 0;
  }
  u32 alloc() {
    u32 at = left > 0 ? first_free(next) : 0;
    if (at == 0) {
      left = kRun;
      at = first_run();
    }
    if (at == 0) at = first_free(0);
    if (at == 0) return 0;
    free[at] = false;
    --left;
    next = at + 1;
    return at;
  }
  std::vector<bool> free;
  u32 next = 0;
  u32 left = 0;
};

TEST_F(SwapAreaTest, agrees_with_a_model) {
  for (u64 seed = 1; seed <= 12; ++seed) {
    Prng prng(seed);
    const u32 pages = static_cast<u32>(prng.between(2, 3000));
    start(pages);
    Model model(pages);
    u32 good = pages - 1;
    for (u64 i = prng.below(20); i > 0 && good > 1; --i) {
      const u32 bad = static_cast<u32>(prng.between(1, pages - 1));
      area_.mark_bad(bad);
      if (model.free[bad]) --good;
      model.free[bad] = false;
    }
    std::vector<u32> used;
    u32 fill = 50;
    for (u32 step = 0; step < 6000; ++step) {
      if (step % 500 == 0) fill = static_cast<u32>(prng.between(5, 95));
      if (prng.below(100) < fill) {
        const bool full = used.size() == good;
        const u32 want = full ? 0 : model.alloc();
        ASSERT_EQ(take(), want) << "seed " << seed << " step " << step;
        if (want != 0) used.push_back(want);
      } else if (!used.empty()) {
        // Often whole stretches, so that free runs come into being.
        const u32 stretch = prng.one_in(50) ? 300 : 1;
        const u32 from = used[prng.below(used.size())];
        for (u32 o = from; o < from + stretch && o < pages; ++o) {
          const auto it = std::find(used.begin(), used.end(), o);
          if (it == used.end()) continue;
          area_.free(o);
          model.free[o] = true;
          *it = used.back();
          used.pop_back();
        }
      }
      ASSERT_EQ(area_.used(), used.size());
      if (step % 1000 == 0) {
        ASSERT_TRUE(area_.validate()) << "seed " << seed << " step " << step;
      }
    }
    area_.release();
  }
}

TEST_F(SwapAreaTest, validate_sees_damage) {
  start(300);
  area_.mark_bad(7);
  const u32 offset = take();
  ASSERT_TRUE(area_.validate());
  Slot& slot = *area_.find(offset);
  const SlotWord word = slot.word;
  for (SlotWord wrong : {SlotWord(), SlotWord::unusable(), SlotWord::empty(), word.with_refs(0),
                         SlotWord::same_filled(0)}) {
    slot.word = wrong;
    EXPECT_FALSE(area_.validate()) << static_cast<u32>(wrong.state());
  }
  slot.word = word;
  area_.find(7)->word = SlotWord();
  EXPECT_FALSE(area_.validate()) << "a bad slot that became good";
  area_.find(7)->word = SlotWord::unusable();
  area_.find(0)->word = SlotWord::plain();
  EXPECT_FALSE(area_.validate()) << "the header in use";
  area_.find(0)->word = SlotWord::unusable();
  EXPECT_TRUE(area_.validate());
}

using SwapAreaDeathTest = SwapAreaTest;

TEST_F(SwapAreaDeathTest, only_slots_in_use_are_freed) {
  start(300);
  area_.mark_bad(7);
  const u32 offset = take();
  area_.free(offset);
  EXPECT_DEATH(area_.free(offset), "");
  EXPECT_DEATH(area_.free(7), "");
  EXPECT_DEATH(area_.free(0), "");
  EXPECT_DEATH(area_.mark_bad(0), "");
}

}  // namespace
}  // namespace spillway
