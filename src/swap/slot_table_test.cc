// The swap map: numbers handed out and taken back, chunks of records that come and go, and the
// one word that says where a page is.
#include "swap/slot_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "swap/swap_bed_test.h"

namespace spillway {
namespace {

TEST(SlotWord, keeps_its_fields_apart) {
  Prng prng(5);
  for (u32 i = 0; i < 10'000; ++i) {
    const Place place{static_cast<u32>(prng.below(SlotWord::kSegmentMax + 1)),
                      static_cast<u32>(prng.below(4096)) * 16,
                      static_cast<u32>(prng.below(kPageSize + 1))};
    const u32 refs = static_cast<u32>(prng.below(SlotWord::kRefsMax + 1));
    const SlotState tier = prng.one_in(2) ? SlotState::pool : SlotState::disk;
    const SlotWord word = SlotWord::object(tier, place).with_refs(refs);
    ASSERT_EQ(word.state(), tier);
    ASSERT_EQ(word.place(), place);
    ASSERT_EQ(word.refs(), refs);
    ASSERT_TRUE(word.in(tier, place));
    const u32 fill = static_cast<u32>(prng.next());
    const SlotWord same = SlotWord::same_filled(fill).with_refs(refs);
    ASSERT_EQ(same.fill(), fill);
    ASSERT_EQ(same.refs(), refs);
    ASSERT_EQ(same.state(), SlotState::same_filled);
  }
  EXPECT_EQ(SlotWord::empty().refs(), 1U);
  EXPECT_EQ(SlotWord().state(), SlotState::free);
}

class SlotTableTest : public ::testing::Test {
 protected:
  void start(u64 slots_max) {
    ASSERT_TRUE(table_.init(bed_.machine(), bed_.allocator, bed_.frames, slots_max).ok());
  }
  SwapBed bed_{512};
  SlotTable table_;
};

TEST_F(SlotTableTest, slot_0_is_never_handed_out) {
  start(256);
  std::set<u32> seen;
  for (u32 i = 0; i < 255; ++i) {
    const SlotId id = table_.alloc(kAllocReclaim).value();
    EXPECT_NE(id.v, 0U);
    EXPECT_LT(id.v, 256U);
    EXPECT_TRUE(seen.insert(id.v).second);
    EXPECT_EQ(table_[id].word.refs(), 1U);
  }
  EXPECT_EQ(table_.alloc(kAllocReclaim).error(), Error::no_space);
  EXPECT_EQ(table_.used(), 255U);
  EXPECT_EQ(table_.find(SlotId(0)), nullptr);
  EXPECT_EQ(table_.find(SlotId(1'000'000)), nullptr);
}

TEST_F(SlotTableTest, chunks_of_records_go_when_they_are_empty) {
  start(10 * SlotTable::kPerChunk);
  std::vector<SlotId> ids;
  for (u32 i = 0; i < 5 * SlotTable::kPerChunk; ++i) {
    ids.push_back(table_.alloc(kAllocReclaim).value());
  }
  EXPECT_EQ(table_.chunks(), 6U);  // the first one lacks slot 0
  const u64 free_before = bed_.allocator.free_pages().v;
  for (SlotId id : ids) {
    if (id.v / SlotTable::kPerChunk == 2) table_.free(id);
  }
  EXPECT_EQ(table_.chunks(), 5U);
  EXPECT_EQ(bed_.allocator.free_pages().v, free_before + 1);
  EXPECT_EQ(table_.find(SlotId(2 * SlotTable::kPerChunk + 3)), nullptr);
  // The hole in the directory is used again.
  for (u32 i = 0; i < SlotTable::kPerChunk * 2; ++i) (void)table_.alloc(kAllocReclaim).value();
  EXPECT_NE(table_.find(SlotId(2 * SlotTable::kPerChunk + 3)), nullptr);
  EXPECT_TRUE(bed_.sum_holds());
}

TEST_F(SlotTableTest, agrees_with_a_set) {
  start(20 * SlotTable::kPerChunk);
  std::vector<SlotId> taken;
  Prng prng(8);
  for (u32 step = 0; step < 30'000; ++step) {
    if (taken.size() < 2000 && prng.below(100) < (step / 5000 % 2 == 0 ? 65U : 35U)) {
      const SlotId id = table_.alloc(kAllocReclaim).value();
      Slot& slot = table_[id];
      ASSERT_EQ(slot.word.state(), SlotState::empty);
      ASSERT_EQ(slot.error(), SlotError::none);
      ASSERT_EQ(slot.cache_pfn, Pfn::kNone);
      slot.checksum = id.v;
      taken.push_back(id);
    } else if (!taken.empty()) {
      const u64 i = prng.below(taken.size());
      ASSERT_EQ(table_[taken[i]].checksum, taken[i].v);
      table_.free(taken[i]);
      taken[i] = taken.back();
      taken.pop_back();
    }
  }
  std::set<u32> want;
  for (SlotId id : taken) want.insert(id.v);
  std::set<u32> got;
  table_.for_each([&](SlotId id, const Slot&) { got.insert(id.v); });
  EXPECT_EQ(got, want);
  EXPECT_EQ(table_.used(), want.size());
  for (SlotId id : taken) table_.free(id);
  // Only the chunk that slot 0 lies in may remain.
  EXPECT_LE(table_.chunks(), 1U);
  EXPECT_EQ(table_.used(), 0U);
}

TEST_F(SlotTableTest, no_frame_for_records_is_an_error_that_changes_nothing) {
  start(1024);
  while (bed_.allocator.alloc(0, kAllocReclaim).ok()) {
  }
  EXPECT_EQ(table_.alloc(kAllocReclaim).error(), Error::no_memory);
  EXPECT_EQ(table_.used(), 0U);
  EXPECT_EQ(table_.chunks(), 0U);
}

TEST(SlotTable, needs_boot_memory_for_its_directory) {
  SimConfig config = SwapBed::config_of(64);
  config.boot_bytes_max = u64{1} << 20;
  SwapBed bed(config);
  SlotTable table;
  EXPECT_EQ(table.init(bed.machine(), bed.allocator, bed.frames, u64{1} << 26).error(),
            Error::no_memory);
}

using SlotTableDeathTest = SlotTableTest;

TEST_F(SlotTableDeathTest, a_slot_that_is_not_in_use_is_not_touched) {
  start(1024);
  const SlotId id = table_.alloc(kAllocReclaim).value();
  (void)table_.alloc(kAllocReclaim);
  table_.free(id);
  EXPECT_DEATH(table_.free(id), "");
  EXPECT_DEATH(table_[SlotId(0)].set_error(SlotError::io), "");
}

}  // namespace
}  // namespace spillway
