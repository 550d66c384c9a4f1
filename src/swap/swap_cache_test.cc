// The swap cache over the tiers: one page per slot, one reference per page, found from both sides.
#include <gtest/gtest.h>

#include "swap/swap_bed_test.h"

namespace spillway {
namespace {

class SwapCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(swap_
                    .init(bed_.machine(), bed_.allocator, bed_.frames, bed_.observer, PageCount(64),
                          1 << 16)
                    .ok());
  }
  SlotId store(u64 id) {
    const Pfn pfn = bed_.take();
    make_page(bed_.bytes(pfn), id, Bytes::text);
    const SlotId slot = swap_.store(pfn).value();
    bed_.allocator.free(pfn, 0);
    return slot;
  }
  // A frame with the page of `slot`, in the cache beside the reference that the caller has.
  Pfn bring_in(SlotId slot) {
    const Pfn pfn = bed_.take();
    EXPECT_EQ(swap_.load(slot, pfn), LoadOutcome::done);
    swap_.get(slot);
    swap_.add_to_cache(pfn, slot);
    return pfn;
  }
  SwapBed bed_{1024};
  Swap swap_;
};

TEST_F(SwapCacheTest, page_and_slot_find_each_other) {
  const SlotId slot = store(1);
  EXPECT_EQ(swap_.cached(slot), kNoPfn);
  const Pfn pfn = bring_in(slot);
  EXPECT_EQ(swap_.cached(slot), pfn);
  EXPECT_EQ(bed_.frames[pfn].slot, slot);
  EXPECT_FALSE(swap_.reading(slot));
  const Pfn other = bed_.take();
  EXPECT_EQ(swap_.load(slot, other), LoadOutcome::cached);
  EXPECT_TRUE(swap_.validate());
  swap_.delete_from_cache(pfn);
  EXPECT_EQ(swap_.cached(slot), kNoPfn);
  EXPECT_EQ(bed_.frames[pfn].slot, kNoSlot);
  EXPECT_EQ(swap_.refs(slot), 1U);
  EXPECT_EQ(swap_.load(slot, other), LoadOutcome::done);
}

TEST_F(SwapCacheTest, the_cache_has_one_reference_and_the_last_one_frees) {
  const SlotId slot = store(1);
  const Pfn pfn = bring_in(slot);
  EXPECT_EQ(swap_.refs(slot), 2U);
  EXPECT_TRUE(swap_.shared(pfn));
  swap_.put(slot);
  EXPECT_FALSE(swap_.shared(pfn));
  EXPECT_EQ(swap_.slots().used(), 1U);
  swap_.delete_from_cache(pfn);
  EXPECT_EQ(swap_.slots().used(), 0U);
  EXPECT_EQ(swap_.find_slot(slot), nullptr);
}

TEST_F(SwapCacheTest, an_unchanged_page_is_stored_beside_other_references) {
  const SlotId slot = store(1);
  const Pfn pfn = bring_in(slot);
  EXPECT_EQ(swap_.store(pfn).value(), slot);
  EXPECT_EQ(swap_.cached(slot), kNoPfn);
  EXPECT_EQ(swap_.refs(slot), 2U) << "the cache's is the caller's now";
  EXPECT_EQ(bed_.count(Counter::pswpout), 1U);
}

TEST_F(SwapCacheTest, there_is_no_slot_for_add_to_swap_without_an_area) {
  const Pfn pfn = bed_.take();
  EXPECT_EQ(swap_.add_to_swap(pfn).error(), Error::no_space);
  EXPECT_FALSE(bed_.frames[pfn].in_swap_cache());
  EXPECT_FALSE(bed_.frames[pfn].has(PageFlag::dirty));
}

TEST_F(SwapCacheTest, validate_sees_a_page_that_does_not_know_its_slot) {
  const SlotId slot = store(1);
  const Pfn pfn = bring_in(slot);
  bed_.frames[pfn].slot = kNoSlot;
  EXPECT_FALSE(swap_.validate());
  bed_.frames[pfn].slot = slot;
  EXPECT_TRUE(swap_.validate());
}

using SwapCacheDeathTest = SwapCacheTest;

TEST_F(SwapCacheDeathTest, one_page_per_slot_and_one_cache_per_page) {
  const SlotId slot = store(1);
  const SlotId second = store(2);
  const Pfn pfn = bring_in(slot);
  EXPECT_DEATH(swap_.add_to_cache(pfn, second), "");
  const Pfn other = bed_.take();
  EXPECT_DEATH(swap_.add_to_cache(other, slot), "");
  bed_.frames[other].owner = PageOwner::file;
  EXPECT_DEATH(swap_.add_to_cache(other, second), "");
  // The cache's reference is nobody else's to put.
  swap_.put(slot);
  EXPECT_DEATH(swap_.put(slot), "");
  // Others would read what this page says now.
  swap_.get(slot);
  bed_.bytes(pfn)[0] ^= 1;
  EXPECT_DEATH((void)swap_.store(pfn), "");
}

}  // namespace
}  // namespace spillway
