// The page table against std::map, with pages far apart and close together, and with the
// allocation of a table failing at each level.
#include "pagetable/page_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "base/prng.h"
#include "page/page_bed_test.h"

namespace spillway {
namespace {

class PageTableTest : public ::testing::Test {
 protected:
  void SetUp() override {
    bed_.grow_all();
    ASSERT_TRUE(table_.init(bed_.allocator, bed_.frames, bed_.sim.machine().frames).ok());
  }
  void set(Vpn vpn, Pte value) {
    const Result<Pte*> pte = table_.ensure(vpn, kAllocKernel);
    ASSERT_TRUE(pte.ok());
    table_.store(pte.value(), value);
  }
  // Every entry that is not empty, found through next_span.
  std::map<u64, u64> contents(VpnRange range) {
    std::map<u64, u64> out;
    PageTable::Span span;
    Vpn before = range.start;
    for (Vpn at = range.start; table_.next_span(at, range.end, &span);
         at = span.start + span.count) {
      EXPECT_LE(before, span.start);
      EXPECT_LE(span.start + span.count, range.end);
      EXPECT_GT(span.count, 0U);
      before = span.start + span.count;
      for (u32 i = 0; i < span.count; ++i) {
        if (!span.ptes[i].none()) out[span.start.v + i] = span.ptes[i].bits();
      }
    }
    return out;
  }
  // Frames that carry the owner tag of tables.
  u64 table_frames() const {
    u64 count = 0;
    for (u32 i = 0; i < bed_.frames.count().v; ++i) {
      count += bed_.frames[Pfn(i)].owner == PageOwner::table ? 1 : 0;
    }
    return count;
  }

  PageBed bed_{2048};
  PageTable table_;
};

TEST_F(PageTableTest, an_empty_table_is_one_frame_and_finds_nothing) {
  EXPECT_EQ(table_.tables(), 1U);
  EXPECT_EQ(table_.find(Vpn(0)), nullptr);
  EXPECT_EQ(table_.find(kVpnEnd - 1), nullptr);
  PageTable::Span span;
  EXPECT_FALSE(table_.next_span(Vpn(0), kVpnEnd, &span));
  table_.destroy();
  EXPECT_EQ(table_frames(), 0U);
}

TEST_F(PageTableTest, tables_are_shared_by_neighbours_and_split_at_their_ends) {
  set(Vpn(0), Pte::swapped(SlotId(1)));
  EXPECT_EQ(table_.tables(), 4U);
  set(Vpn(511), Pte::swapped(SlotId(2)));
  EXPECT_EQ(table_.tables(), 4U);
  set(Vpn(512), Pte::swapped(SlotId(3)));
  EXPECT_EQ(table_.tables(), 5U);
  set(kVpnEnd - 1, Pte::swapped(SlotId(4)));
  EXPECT_EQ(table_.tables(), 8U);
  PageTable::Span span;
  ASSERT_TRUE(table_.next_span(Vpn(510), Vpn(600), &span));
  EXPECT_EQ(span.start, Vpn(510));
  EXPECT_EQ(span.count, 2U);
  ASSERT_TRUE(table_.next_span(Vpn(1024), kVpnEnd, &span));
  EXPECT_EQ(span.start, kVpnEnd - 512);
  EXPECT_EQ(table_.get(kVpnEnd - 1).slot(), SlotId(4));
}

TEST_F(PageTableTest, agrees_with_a_map) {
  std::map<u64, u64> model;
  Prng prng(12);
  // Clusters, so that tables fill and empty; far apart, so that every level is used.
  const auto pick = [&] {
    constexpr u64 kPlaces[] = {0, 500, u64{1} << 18, (u64{1} << 27) - 3, (u64{1} << 36) - 1500};
    return Vpn(kPlaces[prng.below(5)] + prng.below(1500));
  };
  for (u32 step = 0; step < 20'000; ++step) {
    const Vpn vpn = pick();
    switch (prng.below(8)) {
      case 0: {  // a range becomes empty, as munmap does it
        const VpnRange range{vpn, Vpn(std::min(vpn.v + prng.between(1, 700), kVpnEnd.v))};
        for (auto it = model.lower_bound(range.start.v);
             it != model.end() && it->first < range.end.v;) {
          table_.store(table_.find(Vpn(it->first)), Pte{});
          it = model.erase(it);
        }
        table_.free_empty(range);
        break;
      }
      case 1:
        if (Pte* pte = table_.find(vpn)) {
          table_.store(pte, Pte{});
          model.erase(vpn.v);
        }
        break;
      default: {
        const Pte value = Pte::swapped(SlotId(static_cast<u32>(prng.between(1, 1 << 30))));
        set(vpn, value);
        model[vpn.v] = value.bits();
      }
    }
    ASSERT_EQ(table_.get(vpn).bits(), model.contains(vpn.v) ? model[vpn.v] : 0);
    if (step % 500 == 0) {
      ASSERT_EQ(contents({Vpn(0), kVpnEnd}), model);
      ASSERT_EQ(table_frames(), table_.tables());
    }
  }
  for (const auto& [vpn, bits] : model) table_.store(table_.find(Vpn(vpn)), Pte{});
  table_.free_empty({Vpn(0), kVpnEnd});
  EXPECT_EQ(table_.tables(), 1U) << "a table that became empty was kept";
  table_.destroy();
  EXPECT_EQ(table_frames(), 0U);
  EXPECT_TRUE(bed_.sum_holds());
}

TEST_F(PageTableTest, free_empty_leaves_tables_that_hold_something) {
  set(Vpn(5), Pte::swapped(SlotId(1)));
  set(Vpn(600), Pte::swapped(SlotId(2)));
  table_.store(table_.find(Vpn(600)), Pte{});
  table_.free_empty({Vpn(0), Vpn(2048)});
  EXPECT_EQ(table_.tables(), 4U);
  EXPECT_EQ(table_.get(Vpn(5)).slot(), SlotId(1));
  EXPECT_EQ(table_.find(Vpn(600)), nullptr);
}

// With `left` frames, a page that needs three tables gets `left` of them; what was made stays
// and is used by the next try.
TEST_F(PageTableTest, a_failure_at_each_level_leaves_a_table_that_a_retry_completes) {
  const Vpn vpn{u64{1} << 30};
  for (u64 left = 0; left < 3; ++left) {
    std::vector<Pfn> taken;
    while (bed_.allocator.free_pages().v > left) {
      taken.push_back(bed_.allocator.alloc(0, kAllocReclaim).value());
    }
    EXPECT_EQ(table_.ensure(vpn, kAllocReclaim).error(), Error::no_memory);
    EXPECT_EQ(table_.tables(), 1 + left);
    EXPECT_EQ(table_frames(), table_.tables());
    EXPECT_EQ(table_.find(vpn), nullptr);
    EXPECT_TRUE(contents({Vpn(0), kVpnEnd}).empty());
    for (Pfn pfn : taken) bed_.allocator.free(pfn, 0);
    if (left == 1) {
      // Tables on the way without a leaf can be given back too.
      table_.free_empty({Vpn(0), kVpnEnd});
      EXPECT_EQ(table_.tables(), 1U);
    } else {
      EXPECT_TRUE(table_.ensure(vpn, kAllocKernel).ok());
      EXPECT_EQ(table_.tables(), 4U);
      table_.free_empty({Vpn(0), kVpnEnd});
    }
  }
}

TEST_F(PageTableTest, reclaim_that_must_wait_is_passed_on) {
  while (bed_.allocator.alloc(0, AllocFlags{}).ok()) {
  }
  bed_.reclaimer.outcome = ReclaimOutcome::wait;
  EXPECT_EQ(table_.ensure(Vpn(0), kAllocKernel).error(), Error::wait);
}

using PageTableDeathTest = PageTableTest;

TEST_F(PageTableDeathTest, a_table_with_entries_is_not_destroyed) {
  set(Vpn(1), Pte::swapped(SlotId(1)));
  EXPECT_DEATH(table_.destroy(), "");
}

}  // namespace
}  // namespace spillway
