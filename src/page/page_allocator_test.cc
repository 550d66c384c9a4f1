// The page allocator on the simulated machine with a scripted reclaimer: watermarks, growth and
// shrinking under failures of the budget, and what an allocation does when there is nothing left.
// CPU lists and threads: page_lists_test.cc.
#include "page/page_allocator.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "machine_sim/panic_text_test.h"
#include "page/page_bed_test.h"

namespace spillway {
namespace {

constexpr AllocFlags kNoWait{};

TEST(Watermarks, are_ordered_and_leave_most_of_memory_to_programs) {
  for (u64 n : {1ULL, 48ULL, 256ULL, 1024ULL, 65536ULL, 1ULL << 20, 1ULL << 30}) {
    const Watermarks w = watermarks_for(PageCount(n));
    EXPECT_LE(w.min, w.low);
    EXPECT_LE(w.low, w.high);
    EXPECT_LE(w.high.v * 2, n) << n;
    EXPECT_LE(w.min.v, 2048U);
  }
  EXPECT_EQ(watermarks_for(PageCount(65536)).min.v, 512U);
}

TEST(PageAllocator, row_06_an_order_that_does_not_exist_is_refused_at_once) {
  PageBed bed(1024);
  bed.grow_all();
  EXPECT_EQ(bed.allocator.alloc(kOrderMax + 1, kAllocUser).error(), Error::no_memory);
  EXPECT_EQ(bed.reclaimer.calls, 0U);
}

// Ours differ from 2.4.0's min/4: callers without the reserve stop at min.
TEST(PageAllocator, row_07_only_the_reserve_goes_below_min_and_down_to_zero) {
  PageBed bed(1024);
  bed.grow_all();
  PageAllocator& a = bed.allocator;
  const Watermarks w = a.marks();
  ASSERT_EQ(w.min.v, 64U);
  std::vector<Pfn> taken;
  const auto take_down_to = [&](PageCount left, AllocFlags flags) {
    while (a.free_pages() > left) taken.push_back(a.alloc(0, flags).value());
  };
  take_down_to(w.high, kNoWait);
  EXPECT_FALSE(a.below_high());
  take_down_to(w.low, kNoWait);
  EXPECT_TRUE(a.below_high());
  EXPECT_FALSE(a.below_low());
  take_down_to(w.min, kNoWait);
  EXPECT_TRUE(a.below_low());
  EXPECT_EQ(a.alloc(0, kNoWait).error(), Error::no_memory);
  EXPECT_EQ(a.free_pages(), w.min);
  EXPECT_EQ(bed.reclaimer.calls, 0U) << "a caller that may not reclaim did";
  Pfn run;
  EXPECT_EQ(a.alloc_run(4, &run), 0U);
  take_down_to(PageCount(0), kAllocReclaim);
  EXPECT_EQ(a.alloc(0, kAllocReclaim).error(), Error::no_memory);
  EXPECT_TRUE(bed.sum_holds());
  for (Pfn pfn : taken) a.free(pfn, 0);
  a.drain_pcp();
  EXPECT_EQ(a.blocks(kOrderMax), 2U);
  EXPECT_TRUE(a.validate());
}

TEST(PageAllocator, inside_reclaim_context_the_reserve_is_open_and_reclaim_is_not) {
  PageBed bed(1024);
  bed.grow_all();
  while (bed.allocator.alloc(0, kNoWait).ok()) {
  }
  bed.allocator.enter_reclaim();
  EXPECT_TRUE(bed.allocator.alloc(0, kAllocUser).ok());
  while (bed.allocator.alloc(0, kAllocUser).ok()) {
  }
  bed.allocator.leave_reclaim();
  EXPECT_EQ(bed.reclaimer.calls, 0U);
  EXPECT_EQ(bed.allocator.free_pages().v, 0U);
}

TEST(PageAllocator, row_65_frames_are_back_when_the_call_returns_and_zero_means_zero) {
  PageBed bed(512);
  bed.grow_all();
  const Pfn block = bed.allocator.alloc(3, kNoWait).value();
  std::memset(bed.sim.machine().frames.bytes(block), 0xEE, kPageSize * 8);
  bed.allocator.free(block, 3);
  EXPECT_EQ(bed.allocator.blocks(kOrderMax), 1U);
  const Pfn again = bed.allocator.alloc(3, AllocFlags{.zero = true}).value();
  EXPECT_TRUE(all_bytes_are(bed.sim.machine().frames.bytes(again), 0, kPageSize * 8));
}

// Each order: back and merged before the call returns, and what the last owner left is not seen.
TEST(PageAllocator, row_65_every_order_merges_at_once_and_leaves_nothing_to_the_next_owner) {
  PageBed bed(1024);
  bed.grow_all();
  const AllocFlags zeroed{.zero = true};
  for (u32 order = 1; order <= kOrderMax; ++order) {
    const u64 bytes = kPageSize << order;
    const Result<Pfn> block = bed.allocator.alloc_kernel(PageOwner::stack, kAllocKernel, order);
    ASSERT_TRUE(block.ok()) << order;
    EXPECT_EQ(block.value().v % (1U << order), 0U);
    EXPECT_EQ(bed.allocator.free_pages().v, 1024U - (1U << order));
    std::memset(bed.sim.machine().frames.bytes(block.value()), 0xEE, bytes);
    bed.allocator.free_kernel(block.value(), PageOwner::stack, order);
    ASSERT_EQ(bed.allocator.blocks(kOrderMax), 2U) << order;
    const Pfn again = bed.allocator.alloc(order, zeroed).value();
    EXPECT_EQ(again, block.value());
    EXPECT_TRUE(all_bytes_are(bed.sim.machine().frames.bytes(again), 0, bytes)) << order;
    bed.allocator.free(again, order);
  }
  // A single frame stays in its CPU's list, free all the same; asked for zeroes it has them.
  const Pfn single = bed.allocator.alloc(0, kNoWait).value();
  std::memset(bed.sim.machine().frames.bytes(single), 0xEE, kPageSize);
  bed.allocator.free(single, 0);
  EXPECT_EQ(bed.allocator.free_pages().v, 1024U);
  EXPECT_EQ(bed.allocator.alloc(0, zeroed).value(), single);
  EXPECT_TRUE(all_bytes_are(bed.sim.machine().frames.bytes(single), 0, kPageSize));
  bed.allocator.free(single, 0);
  EXPECT_TRUE(bed.allocator.validate());
}

TEST(PageAllocatorDeathTest, a_block_is_not_freed_with_a_larger_order) {
  print_panics();
  PageBed bed(64);
  bed.grow_all();
  const Pfn block = bed.allocator.alloc(1, kNoWait).value();
  ASSERT_EQ(block.v % 4, 0U);
  EXPECT_DEATH(bed.allocator.free(block, 2), "state");
}

TEST(PageAllocator, alloc_run_is_consecutive_and_keeps_min) {
  PageBed bed(1024);
  bed.grow_all();
  Pfn first;
  EXPECT_EQ(bed.allocator.alloc_run(300, &first), 300U);
  for (u32 i = 0; i < 300; ++i) EXPECT_EQ(bed.frames[first + i].state, PageState::isolated);
  u64 got = 300;
  while (const u32 n = bed.allocator.alloc_run(512, &first)) got += n;
  EXPECT_EQ(got, 1024U - bed.allocator.marks().min.v);
  EXPECT_TRUE(bed.sum_holds());
}

TEST(PageAllocator, kernel_frames_carry_their_owner) {
  PageBed bed(512);
  bed.grow_all();
  const Pfn before = bed.allocator.alloc(0, kAllocKernel).value();
  bed.frames[before].private_data = 7;  // what the last owner thought of the frame
  bed.allocator.free(before, 0);
  const Pfn pfn = bed.allocator.alloc_kernel(PageOwner::table, kAllocKernel).value();
  ASSERT_EQ(pfn, before);
  EXPECT_EQ(bed.frames[pfn].private_data, 0U);
  EXPECT_EQ(bed.frames[pfn].state, PageState::kernel);
  EXPECT_EQ(bed.frames[pfn].owner, PageOwner::table);
  EXPECT_TRUE(bed.sum_holds());
  bed.allocator.free_kernel(pfn, PageOwner::table);
  EXPECT_EQ(bed.frames[pfn].owner, PageOwner::none);
  EXPECT_TRUE(bed.allocator.validate());
}

// Growth.

TEST(PageAllocator, grows_on_demand_up_to_the_budget) {
  PageBed bed(2048);
  bed.sim.frames().set_budget(PageCount(700));
  EXPECT_EQ(bed.allocator.online().v, 0U);
  u64 got = 0;
  while (bed.allocator.alloc(0, kNoWait).ok()) ++got;
  EXPECT_EQ(bed.allocator.online().v, 700U);
  EXPECT_EQ(got, 700U - bed.allocator.marks().min.v);
  EXPECT_EQ(bed.count(Counter::quota_grow), 700U);
  EXPECT_EQ(bed.count(Counter::frames_online_max), 700U);
}

TEST(PageAllocator, shrinks_and_grows_again) {
  PageBed bed(1024);
  bed.grow_all();
  const Pfn held = bed.allocator.alloc(0, kNoWait).value();
  EXPECT_EQ(bed.allocator.shrink(300), 300U);
  EXPECT_EQ(bed.allocator.online().v, 724U);
  EXPECT_EQ(bed.allocator.marks().high, watermarks_for(PageCount(724)).high);
  EXPECT_EQ(bed.sim.frames().granted().v, 724U);
  EXPECT_TRUE(bed.sum_holds());
  EXPECT_TRUE(bed.allocator.validate());
  EXPECT_EQ(bed.allocator.shrink(5000), 723U) << "a frame that is in use stays";
  EXPECT_EQ(bed.allocator.marks().high, watermarks_for(PageCount(1)).high);
  EXPECT_EQ(bed.frames[held].state, PageState::isolated);
  EXPECT_EQ(bed.allocator.grow(5000), 1023U);
  EXPECT_EQ(bed.allocator.marks().high, watermarks_for(PageCount(1024)).high);
  bed.allocator.free(held, 0);
  bed.allocator.drain_pcp();
  EXPECT_EQ(bed.allocator.blocks(kOrderMax), 2U);
  EXPECT_TRUE(bed.allocator.validate());
}

// Fail the first request for quota (or memory), then the second, until none fails.
TEST(PageAllocator, every_failure_of_growth_leaves_a_sound_allocator) {
  for (Failure failure : {Failure::acquire_quota, Failure::bring_online}) {
    for (u64 nth = 1;; ++nth) {
      PageBed bed(1024);
      bed.sim.failures().arm(failure, nth);
      std::vector<Pfn> taken;
      u32 refused = 0;
      for (u32 i = 0; i < 800; ++i) {
        const Result<Pfn> pfn = bed.allocator.alloc(0, kNoWait);
        if (pfn.ok()) {
          taken.push_back(pfn.value());
        } else {
          ++refused;
        }
        if (i == 300) (void)bed.allocator.shrink(100);
      }
      ASSERT_TRUE(bed.sum_holds());
      ASSERT_EQ(bed.sim.frames().granted(), bed.allocator.online()) << "quota leaked";
      for (Pfn pfn : taken) bed.allocator.free(pfn, 0);
      ASSERT_TRUE(bed.allocator.validate());
      (void)bed.allocator.grow(1024);
      (void)bed.allocator.grow(1024);
      bed.allocator.drain_pcp();
      ASSERT_EQ(bed.allocator.free_pages().v, 1024U);
      ASSERT_EQ(bed.allocator.blocks(kOrderMax), 2U);
      if (bed.sim.failures().fired(failure) == 0) {
        ASSERT_EQ(refused, 0U);
        ASSERT_GT(nth, 3U) << "the loop never reached a failure";
        break;
      }
    }
  }
}

// Static memory, rows 1 to 3: two reserved runs, one at the start of the arena and one that the
// first batch of growth must pass over.
TEST(PageAllocator, row_01_to_03_reserved_frames_stay_and_an_init_region_goes_once) {
  PageBed bed(1024);
  ASSERT_TRUE(bed.allocator.reserve(Pfn(0), PageCount(24)).ok());
  ASSERT_TRUE(bed.allocator.reserve(Pfn(100), PageCount(8)).ok());
  EXPECT_EQ(bed.allocator.reserve(Pfn(107), PageCount(2)).error(), Error::invalid) << "overlap";
  EXPECT_EQ(bed.allocator.reserve(Pfn(1023), PageCount(2)).error(), Error::invalid);
  bed.grow_all();
  EXPECT_EQ(bed.allocator.online().v, 1024U);
  EXPECT_EQ(bed.allocator.reserved().v, 32U);
  EXPECT_EQ(bed.allocator.managed().v, 992U);
  EXPECT_EQ(bed.allocator.free_pages().v, 992U);
  // A free of one changes nothing but the counter.
  bed.allocator.free(Pfn(3), 0);
  bed.allocator.free(Pfn(100), 3);
  EXPECT_EQ(bed.count(Counter::pgfree_reserved), 2U);
  EXPECT_EQ(bed.count(Counter::pgfree), 0U);
  EXPECT_EQ(bed.allocator.free_pages().v, 992U);
  EXPECT_TRUE(bed.sum_holds());
  EXPECT_TRUE(bed.allocator.validate());
  // Everything that can be had is none of them.
  std::vector<Pfn> all;
  for (Result<Pfn> pfn = bed.allocator.alloc(0, kAllocReclaim); pfn.ok();
       pfn = bed.allocator.alloc(0, kAllocReclaim)) {
    all.push_back(pfn.value());
    ASSERT_TRUE(pfn.value().v >= 24 && (pfn.value().v < 100 || pfn.value().v >= 108));
  }
  EXPECT_EQ(all.size(), 992U);
  EXPECT_TRUE(bed.sum_holds());
  bed.allocator.release_reserved(Pfn(100), PageCount(8));
  EXPECT_EQ(bed.allocator.managed().v, 1000U);
  EXPECT_EQ(bed.allocator.blocks(3), 0U) << "frames 100 and 104 each start a block of four";
  EXPECT_EQ(bed.allocator.blocks(2), 2U);
  EXPECT_TRUE(bed.sum_holds());
  for (Pfn pfn : all) bed.allocator.free(pfn, 0);
  bed.allocator.drain_pcp();
  EXPECT_TRUE(bed.allocator.validate());
  EXPECT_EQ(bed.allocator.shrink(2000), 1000U) << "reserved frames do not go offline";
  EXPECT_EQ(bed.allocator.grow(2000), 1000U);
  EXPECT_EQ(bed.allocator.reserved().v, 24U);
  EXPECT_TRUE(bed.allocator.validate());
  bed.frames[Pfn(5)].owner = PageOwner::none;
  EXPECT_FALSE(bed.allocator.validate()) << "reserved by nobody";
}

TEST(PageAllocator, a_reservation_that_the_machine_refuses_changes_nothing) {
  for (Failure failure : {Failure::acquire_quota, Failure::bring_online}) {
    PageBed bed(64);
    bed.sim.failures().arm(failure, 1);
    EXPECT_EQ(bed.allocator.reserve(Pfn(0), PageCount(4)).error(), Error::no_memory);
    EXPECT_EQ(bed.sim.frames().granted().v, 0U);
    EXPECT_EQ(bed.allocator.online().v, 0U);
    ASSERT_TRUE(bed.allocator.reserve(Pfn(0), PageCount(4)).ok());
    EXPECT_TRUE(bed.sum_holds());
  }
}

TEST(PageAllocatorDeathTest, an_init_region_is_not_released_twice) {
  print_panics();
  PageBed bed(64);
  ASSERT_TRUE(bed.allocator.reserve(Pfn(0), PageCount(8)).ok());
  bed.allocator.release_reserved(Pfn(0), PageCount(4));
  EXPECT_DEATH(bed.allocator.release_reserved(Pfn(0), PageCount(4)), "state");
}

TEST(PageAllocator, a_budget_that_grants_less_than_asked_is_used_as_it_comes) {
  SimConfig config = PageBed::config_of(1024);
  config.quota_short_one_in = 2;
  PageBed bed(config);
  bed.grow_all();
  EXPECT_EQ(bed.allocator.online().v, 1024U);
  EXPECT_EQ(bed.allocator.blocks(kOrderMax), 2U);
}

// Reclaim.

class PageAllocatorReclaim : public ::testing::Test {
 protected:
  // All that callers without the reserve may have is taken; `hoard` frames of it can be reclaimed.
  void exhaust(u64 hoard) {
    bed_.grow_all();
    for (;;) {
      const Result<Pfn> pfn = bed_.allocator.alloc(0, kNoWait);
      if (!pfn.ok()) break;
      if (bed_.reclaimer.hoard.size() < hoard) bed_.reclaimer.hoard.push_back(pfn.value());
    }
  }
  PageBed bed_{1024};
};

TEST_F(PageAllocatorReclaim, progress_is_followed_by_another_try) {
  exhaust(8);
  bed_.reclaimer.outcome = ReclaimOutcome::progress;
  for (u32 i = 0; i < 8; ++i) EXPECT_TRUE(bed_.allocator.alloc(0, kAllocUser).ok());
  EXPECT_EQ(bed_.reclaimer.calls, 8U);
  EXPECT_EQ(bed_.count(Counter::allocstall), 8U);
}

TEST_F(PageAllocatorReclaim, wait_and_exhausted_are_passed_on) {
  exhaust(0);
  bed_.reclaimer.outcome = ReclaimOutcome::wait;
  EXPECT_EQ(bed_.allocator.alloc(0, kAllocUser).error(), Error::wait);
  bed_.reclaimer.outcome = ReclaimOutcome::exhausted;
  EXPECT_EQ(bed_.allocator.alloc(0, kAllocUser).error(), Error::no_memory);
  EXPECT_EQ(bed_.reclaimer.calls, 2U);
}

TEST_F(PageAllocatorReclaim, progress_that_frees_nothing_is_believed_a_limited_number_of_times) {
  exhaust(0);
  bed_.reclaimer.outcome = ReclaimOutcome::progress;
  EXPECT_EQ(bed_.allocator.alloc(0, kAllocUser).error(), Error::no_memory);
  EXPECT_EQ(bed_.reclaimer.calls, PageAllocator::kRetryMax);
  EXPECT_EQ(bed_.count(Counter::limit_hit), 1U);
}

TEST_F(PageAllocatorReclaim, the_budget_is_asked_before_reclaim) {
  bed_.sim.frames().set_budget(PageCount(512));
  exhaust(0);
  bed_.sim.frames().set_budget(PageCount(1024));
  EXPECT_TRUE(bed_.allocator.alloc(0, kAllocUser).ok());
  EXPECT_EQ(bed_.reclaimer.calls, 0U);
}

TEST_F(PageAllocatorReclaim, make_room_asks_for_what_is_missing_above_min) {
  exhaust(100);
  bed_.reclaimer.outcome = ReclaimOutcome::progress;
  bed_.reclaimer.frees_per_call = 100;
  EXPECT_EQ(bed_.allocator.make_room(PageCount(40)), ReclaimOutcome::progress);
  EXPECT_EQ(bed_.reclaimer.wanted, 40U);
  EXPECT_EQ(bed_.allocator.make_room(PageCount(40)), ReclaimOutcome::progress);
  EXPECT_EQ(bed_.reclaimer.calls, 1U);
  const u64 above = bed_.allocator.free_pages().v - bed_.allocator.marks().min.v;
  ASSERT_GT(above, 0U);
  (void)bed_.allocator.make_room(PageCount(above + 7));
  EXPECT_EQ(bed_.reclaimer.wanted, 40U + 7U) << "what is free already is not asked for";
}

// Free memory in single frames: what is missing is a block, not a number of frames.
TEST_F(PageAllocatorReclaim, row_09_a_fragmented_zone_is_reclaimed_until_a_block_appears) {
  bed_.grow_all();
  std::vector<Pfn> all;
  while (bed_.allocator.free_pages().v > 0) {
    all.push_back(bed_.allocator.alloc(0, kAllocReclaim).value());
  }
  for (Pfn pfn : all) {
    if (pfn.v % 2 == 0) {
      bed_.allocator.free(pfn, 0);
    } else if (pfn.v > 900) {
      bed_.reclaimer.hoard.push_back(pfn);
    }
  }
  bed_.reclaimer.outcome = ReclaimOutcome::progress;
  const Result<Pfn> pair = bed_.allocator.alloc(1, kAllocKernel);
  ASSERT_TRUE(pair.ok());
  EXPECT_EQ(pair.value().v % 2, 0U);
  bed_.reclaimer.hoard.clear();
  bed_.reclaimer.outcome = ReclaimOutcome::exhausted;
  EXPECT_EQ(bed_.allocator.alloc(4, kAllocKernel).error(), Error::no_memory);
}

TEST_F(PageAllocatorReclaim, row_09_a_fragmented_zone_grows_before_it_reclaims) {
  bed_.sim.frames().set_budget(PageCount(512));
  bed_.grow_all();
  std::vector<Pfn> all;
  while (bed_.allocator.free_pages().v > 0) {
    all.push_back(bed_.allocator.alloc(0, kAllocReclaim).value());
  }
  for (Pfn pfn : all) {
    if (pfn.v % 2 == 0) bed_.allocator.free(pfn, 0);
  }
  bed_.sim.frames().set_budget(PageCount(1024));
  EXPECT_TRUE(bed_.allocator.alloc(1, kAllocKernel).ok());
  EXPECT_EQ(bed_.reclaimer.calls, 0U);
}

TEST_F(PageAllocatorReclaim, i37_an_atomic_caller_does_not_share_the_reserve_of_reclaim) {
  exhaust(0);
  const PageCount min = bed_.allocator.marks().min;
  ASSERT_EQ(bed_.allocator.free_pages(), min);
  bed_.allocator.enter_reclaim();
  EXPECT_EQ(bed_.allocator.alloc(0, kAllocAtomic).error(), Error::no_memory);
  EXPECT_EQ(bed_.allocator.free_pages(), min);
  EXPECT_TRUE(bed_.allocator.alloc(0, kAllocKernel).ok()) << "who reclaims has it";
  bed_.allocator.leave_reclaim();
}

// Breaking it.

TEST(PageAllocator, validate_sees_damage) {
  PageBed bed(512);
  bed.grow_all();
  const Pfn pfn = bed.allocator.alloc(0, kNoWait).value();
  ASSERT_TRUE(bed.allocator.validate());
  bed.frames[pfn].state = PageState::pcp;
  EXPECT_FALSE(bed.allocator.validate()) << "a frame that claims to be on a CPU list";
  bed.frames[pfn].state = PageState::offline;
  EXPECT_FALSE(bed.allocator.validate()) << "an online frame that claims to be offline";
  bed.frames[pfn].state = PageState::isolated;
  bed.allocator.free(pfn, 0);
  bed.frames[pfn].set_rmap(SpaceId(1), Vpn(1));
  EXPECT_FALSE(bed.allocator.validate()) << "a free frame that somebody maps";
  bed.frames[pfn].clear_rmap();
  bed.frames[pfn].slot = SlotId(3);
  EXPECT_FALSE(bed.allocator.validate()) << "a free frame with a clean copy";
}

TEST(PageAllocatorDeathTest, bad_frees_are_stopped) {
  print_panics();
  PageBed bed(512);
  bed.grow_all();
  const Pfn pfn = bed.allocator.alloc(0, kNoWait).value();
  bed.frames[pfn].set_rmap(SpaceId(1), Vpn(1));
  EXPECT_DEATH(bed.allocator.free(pfn, 0), "rmap");
  bed.frames[pfn].clear_rmap();
  bed.frames[pfn].queue = PageQueue::main;
  EXPECT_DEATH(bed.allocator.free(pfn, 0), "queue");
  bed.frames[pfn].queue = PageQueue::none;
  bed.frames[pfn].slot = SlotId(3);
  EXPECT_DEATH(bed.allocator.free(pfn, 0), "slot");
  bed.frames[pfn].slot = kNoSlot;
  bed.allocator.free(pfn, 0);
  EXPECT_DEATH(bed.allocator.free(pfn, 0), "state") << "twice";
  const Pfn kernel = bed.allocator.alloc_kernel(PageOwner::slab, kNoWait).value();
  EXPECT_DEATH(bed.allocator.free_kernel(kernel, PageOwner::pool), "owner");
}

}  // namespace
}  // namespace spillway
