// From old to free under linux24: page_launder, reclaim_page, the attempts of __alloc_pages, kswapd
// and kreclaimd. Rows are those of docs/acceptance.md.
#include <gtest/gtest.h>

#include "reclaim/linux24_bed_test.h"

namespace spillway {
namespace {

class Linux24Reclaim : public ::testing::Test {
 protected:
  void SetUp() override { start(); }
  void start(u64 frame_count = 1024, u64 swap_pages = 4096) {
    bed_ = std::make_unique<Linux24Bed>(frame_count, swap_pages);
    a_ = bed_->a;
    b_ = bed_->b;
  }
  void TearDown() override { EXPECT_EQ(bed_->unsound(), ""); }
  u64 count(Counter counter) const { return bed_->count(counter); }
  Linux24Policy& policy() { return bed_->policy; }

  // `pages` pages of a file, read and then forgotten: on inactive_clean.
  void make_clean_pages(u64 pages) {
    file_ = bed_->make_file("clean", pages);
    bed_->map_file(*a_, file_, 0, pages);
    for (u64 i = 0; i < pages; ++i) ASSERT_EQ(bed_->touch(*a_, i), FaultOutcome::done);
    for (u64 i = 0; i < pages; ++i) {
      bed_->page_of(*a_, i).age = 0;
      bed_->clear_accessed(*a_, i);
    }
    ASSERT_EQ(policy().visit(*a_), pages);
    ASSERT_EQ(policy().page_launder(false), pages);
    ASSERT_EQ(bed_->size_of(PageQueue::inactive_clean), pages);
  }
  // Anonymous pages that were unmapped and are dirty in the swap cache.
  void make_dirty_pages(u64 pages) {
    bed_->map_anonymous(*a_, 0, pages);
    bed_->fill(*a_, 0, pages);
    for (u32 i = 0; i < 4; ++i) (void)policy().visit(*a_);
    ASSERT_EQ(a_->table().resident(), 0U);
    ASSERT_EQ(bed_->size_of(PageQueue::inactive_dirty), pages);
  }

  std::unique_ptr<Linux24Bed> bed_;
  AddressSpace* a_ = nullptr;
  AddressSpace* b_ = nullptr;
  Inode* file_ = nullptr;
};

TEST_F(Linux24Reclaim, watermarks_of_a_zone) {
  EXPECT_EQ(Linux24Policy::marks_for(PageCount(1024)).min.v, 10U);
  EXPECT_EQ(Linux24Policy::marks_for(PageCount(28672)).low.v, 448U);
  EXPECT_EQ(Linux24Policy::marks_for(PageCount(28672)).high.v, 672U);
  EXPECT_EQ(Linux24Policy::marks_for(PageCount(1 << 20)).min.v, 255U);
}

TEST_F(Linux24Reclaim, pressure_counts_allocations_and_decays) {
  const u64 start = policy().memory_pressure();
  std::vector<Pfn> taken;
  for (u32 i = 0; i < 640; ++i) taken.push_back(bed_->take());
  EXPECT_EQ(policy().memory_pressure(), start + 640);
  EXPECT_EQ(policy().inactive_target(), (start + 640) / 64);
  const u64 before = policy().memory_pressure();
  bed_->sim.advance(Linux24Policy::kSecond);
  (void)policy().background_step();
  EXPECT_EQ(policy().memory_pressure(), before - before / 64);
  for (const Pfn pfn : taken) bed_->allocator.free(pfn, 0);
  EXPECT_EQ(policy().memory_pressure(), before - before / 64 - 640);
  for (u32 i = 0; i < 100; ++i) bed_->allocator.free(bed_->take(), 0);
  EXPECT_GE(policy().memory_pressure(), 2U) << "never below the number of CPUs";
}

TEST_F(Linux24Reclaim, shortages) {
  bed_->drain_to(100);
  const u64 target = policy().inactive_target();
  ASSERT_GT(target, 3U);
  EXPECT_EQ(policy().free_shortage(), 0U);
  bed_->drain_to(25);
  const u64 now = policy().inactive_target();
  EXPECT_EQ(policy().free_shortage(), 30 + now / 3 - 25);
  EXPECT_EQ(policy().inactive_shortage(), 30 + now - 25);
  bed_->release_hoard();
}

TEST_F(Linux24Reclaim, dirty_pages_are_written_in_the_second_pass_and_collected_later) {
  make_dirty_pages(20);
  EXPECT_EQ(policy().page_launder(false), 0U);
  EXPECT_EQ(count(Counter::pswpout), 0U) << "enough is free: no second pass";
  bed_->drain_to(15);
  EXPECT_EQ(policy().page_launder(true), 0U);
  EXPECT_EQ(count(Counter::pswpout), 20U);
  EXPECT_EQ(bed_->size_of(PageQueue::inactive_dirty), 20U) << "they stay until the write ends";
  bed_->settle_io();
  EXPECT_EQ(policy().page_launder(true), 20U);
  EXPECT_EQ(bed_->size_of(PageQueue::inactive_clean), 20U);
  bed_->release_hoard();
  for (u64 i = 0; i < 20; ++i) bed_->expect_page(*a_, i, i + 1);
  EXPECT_EQ(count(Counter::disk_reads), 1U) << "swap_on read the header, nothing else was read";
}

TEST_F(Linux24Reclaim, one_call_starts_max_launder_file_writes) {
  Inode* file = bed_->make_file("f", 100);
  bed_->map_file(*a_, file, 0, 100);
  bed_->fill(*a_, 0, 100);
  for (u64 i = 0; i < 100; ++i) {
    bed_->page_of(*a_, i).age = 0;
    bed_->clear_accessed(*a_, i);
  }
  ASSERT_EQ(policy().visit(*a_), 100U);
  bed_->drain_to(15);
  (void)policy().page_launder(false);
  EXPECT_EQ(bed_->cache.writeback(), 32U) << "4 x 2^page_cluster";
  bed_->settle_io();
  bed_->release_hoard();
}

TEST_F(Linux24Reclaim, a_failed_write_keeps_the_page_and_its_bytes) {
  make_dirty_pages(4);
  bed_->drain_to(15);
  bed_->sim.block(0).failures().arm(Failure::write_io, 1, FaultPlan::kAlways);
  (void)policy().page_launder(false);
  EXPECT_EQ(count(Counter::pswpout), 4U);
  bed_->settle_io();
  EXPECT_EQ(bed_->size_of(PageQueue::active), 4U) << "others are tried first";
  bed_->sim.disarm_all();
  bed_->release_hoard();
  for (u64 i = 0; i < 4; ++i) bed_->expect_page(*a_, i, i + 1);
}

TEST_F(Linux24Reclaim, touched_pages_are_found_in_use) {
  make_clean_pages(10);
  ASSERT_EQ(bed_->touch(*a_, 3), FaultOutcome::done);
  EXPECT_EQ(bed_->page_of(*a_, 3).queue, PageQueue::active);
  EXPECT_EQ(bed_->page_of(*a_, 3).age, 5U);
  EXPECT_EQ(bed_->size_of(PageQueue::inactive_clean), 9U);
  EXPECT_EQ(count(Counter::pgactivate), 1U);
}

TEST_F(Linux24Reclaim, row_36_and_37_an_untouched_page_is_not_written_again) {
  make_dirty_pages(2);
  const SlotId slots[] = {bed_->entry(*a_, 0).slot(), bed_->entry(*a_, 1).slot()};
  const auto out = [&] {
    bed_->drain_to(15);
    (void)policy().page_launder(false);
    bed_->settle_io();
    (void)policy().page_launder(false);
    for (u32 i = 0; i < 2; ++i) {
      const Pfn pfn = policy().reclaim_page();
      ASSERT_TRUE(pfn.valid());
      bed_->allocator.free(pfn, 0);
    }
    bed_->release_hoard();
  };
  out();
  EXPECT_EQ(count(Counter::pswpout), 2U);
  bed_->expect_page(*a_, 0, 1);  // row 35
  EXPECT_EQ(bed_->swap.refs(slots[0]), 1U) << "the swap cache";
  EXPECT_FALSE(bed_->entry(*a_, 0).writable());
  ASSERT_EQ(bed_->write(*a_, 1, 99), FaultOutcome::done);
  EXPECT_TRUE(bed_->entry(*a_, 1).writable() && bed_->entry(*a_, 1).dirty());
  for (u64 i = 0; i < 2; ++i) {
    bed_->page_of(*a_, i).age = 0;
    bed_->clear_accessed(*a_, i);
  }
  EXPECT_EQ(policy().visit(*a_), 2U);
  out();
  EXPECT_EQ(count(Counter::pswpout), 3U) << "only the page that was written to";
  EXPECT_EQ(bed_->entry(*a_, 1).slot(), slots[1]) << "to the same slot";
  bed_->expect_page(*a_, 0, 1);
  bed_->expect_page(*a_, 1, 99);
}

TEST_F(Linux24Reclaim, row_08_a_clean_page_is_used_directly) {
  make_clean_pages(40);
  bed_->drain_to(12);  // below min + 8
  u32 blocks[kOrderMax + 1];
  for (u32 order = 0; order <= kOrderMax; ++order) blocks[order] = bed_->allocator.blocks(order);
  const Pfn oldest = bed_->cache.find(file_->mapping, 0).pfn();
  const Result<Pfn> pfn = bed_->allocator.alloc(0, kAllocUser);
  ASSERT_TRUE(pfn.ok());
  EXPECT_EQ(pfn.value(), oldest);
  EXPECT_EQ(bed_->frames[pfn.value()].state, PageState::isolated) << "the caller's alone";
  EXPECT_EQ(bed_->frames[pfn.value()].age, 2U);
  EXPECT_TRUE(bed_->cache.find(file_->mapping, 0).is(CacheEntry::Kind::none));
  EXPECT_EQ(bed_->free_pages(), 12U);
  for (u32 order = 0; order <= kOrderMax; ++order) {
    EXPECT_EQ(bed_->allocator.blocks(order), blocks[order]) << order;
  }
  bed_->allocator.free(pfn.value(), 0);
  bed_->release_hoard();
}

TEST_F(Linux24Reclaim, row_07_marks_and_a_caller_that_does_not_wait) {
  bed_->map_anonymous(*a_, 0, 100);
  bed_->fill(*a_, 0, 100);
  bed_->drain_to(400);
  EXPECT_FALSE(policy().kswapd_woken()) << "no shortage yet";
  const auto no_wait = [&] { return bed_->allocator.alloc(0, AllocFlags{}); };
  std::vector<Pfn> taken;
  while (!policy().kswapd_woken()) {
    const Result<Pfn> pfn = no_wait();
    ASSERT_TRUE(pfn.ok());
    taken.push_back(pfn.value());
  }
  EXPECT_GE(bed_->free_pages() + 1, bed_->allocator.marks().high.v) << "woken at the shortage";
  for (;;) {
    const u64 free = bed_->free_pages();
    const Result<Pfn> pfn = no_wait();
    if (!pfn.ok()) {
      EXPECT_EQ(pfn.error(), Error::no_memory);
      EXPECT_EQ(free, 10U / 4);
      break;
    }
    EXPECT_GE(bed_->free_pages(), 10U / 4) << "I37";
    taken.push_back(pfn.value());
  }
  while (bed_->free_pages() > 0) bed_->hoard.push_back(bed_->take());
  EXPECT_FALSE(bed_->allocator.alloc(0, kAllocReclaim).ok());
  for (const Pfn pfn : taken) bed_->allocator.free(pfn, 0);
  bed_->release_hoard();
  EXPECT_EQ(count(Counter::pgsteal), 0U) << "nobody reclaimed";
}

TEST_F(Linux24Reclaim, i37_clean_pages_do_not_let_others_empty_the_zone) {
  make_clean_pages(200);
  bed_->drain_to(12);
  while (bed_->allocator.alloc(0, AllocFlags{}).ok()) {
  }
  EXPECT_EQ(bed_->free_pages(), 10U / 4);
  EXPECT_TRUE(policy().reclaimd_wanted());
  (void)policy().reclaimd_step();
  EXPECT_GE(bed_->free_pages(), 20U) << "kreclaimd brings the zone back to its low mark";
  EXPECT_FALSE(policy().reclaimd_wanted());
}

TEST_F(Linux24Reclaim, i37_a_block_counts_with_all_its_frames) {
  PageAllocator& allocator = bed_->allocator;
  allocator.drain_pcp();
  u32 top = kOrderMax;
  while (allocator.blocks(top) == 0) --top;
  ASSERT_GE(top, 7U);
  // One block of the largest order stays, and single frames.
  std::vector<std::pair<Pfn, u32>> taken;
  for (u32 order = top; order > 0; --order) {
    while (allocator.blocks(order) > (order == top ? 1 : 0)) {
      taken.emplace_back(allocator.alloc(order, kAllocReclaim).value(), order);
    }
  }
  const u64 rest = bed_->free_pages() - (u64{1} << top);
  const u64 min = 4 * (rest + 1);
  ASSERT_LT(min, bed_->free_pages());
  allocator.set_marks({PageCount(min), PageCount(min), PageCount(min)});
  EXPECT_EQ(allocator.alloc(top, AllocFlags{}).error(), Error::no_memory)
      << "free is above all marks, what the block leaves is not a quarter of the min mark";
  const Result<Pfn> reserve = allocator.alloc(top, kAllocReclaim);
  EXPECT_TRUE(reserve.ok()) << "that is for memory which frees memory";
  if (reserve.ok()) taken.emplace_back(reserve.value(), top);
  for (const auto& [pfn, order] : taken) allocator.free(pfn, order);
}

TEST_F(Linux24Reclaim, row_09_clean_pages_are_freed_until_a_block_comes_together) {
  make_clean_pages(700);
  bed_->drain_to(12);
  // No two neighbours are free.
  std::vector<Pfn> kept;
  for (Result<Pfn> block = bed_->allocator.alloc(1, kAllocReclaim); block.ok();
       block = bed_->allocator.alloc(1, kAllocReclaim)) {
    bed_->allocator.free(block.value(), 0);
    kept.push_back(block.value() + 1);
  }
  ASSERT_EQ(bed_->allocator.blocks(1), 0U);
  const Result<Pfn> pair = bed_->allocator.alloc(1, kAllocKernel);
  ASSERT_TRUE(pair.ok());
  EXPECT_LT(bed_->size_of(PageQueue::inactive_clean), 700U);
  EXPECT_GT(bed_->size_of(PageQueue::inactive_clean), 0U);
  bed_->allocator.free(pair.value(), 1);
  for (const Pfn pfn : kept) bed_->allocator.free(pfn, 0);
  bed_->release_hoard();
}

TEST_F(Linux24Reclaim, a_block_that_cannot_come_together_is_refused) {
  bed_->drain_to(15);
  std::vector<Pfn> kept;
  for (Result<Pfn> block = bed_->allocator.alloc(1, kAllocReclaim); block.ok();
       block = bed_->allocator.alloc(1, kAllocReclaim)) {
    bed_->allocator.free(block.value(), 0);
    kept.push_back(block.value() + 1);
  }
  EXPECT_EQ(bed_->allocator.alloc(1, kAllocKernel).error(), Error::no_memory);
  for (const Pfn pfn : kept) bed_->allocator.free(pfn, 0);
  bed_->release_hoard();
}

TEST_F(Linux24Reclaim, a_waiting_caller_gets_a_frame_when_writes_have_ended) {
  bed_->map_anonymous(*a_, 0, 900);
  bed_->fill(*a_, 0, 900);
  bed_->drain_to(10);
  u32 waits = 0;
  Result<Pfn> pfn = bed_->allocator.alloc(0, kAllocUser);
  while (!pfn.ok()) {
    ASSERT_EQ(pfn.error(), Error::wait);
    ASSERT_TRUE(bed_->sim.complete_one());
    ++waits;
    pfn = bed_->allocator.alloc(0, kAllocUser);
  }
  EXPECT_GT(waits, 0U);
  EXPECT_LE(count(Counter::pswpout), 4U * 900 / 32) << "a few turns of swap_out";
  bed_->allocator.free(pfn.value(), 0);
  bed_->release_hoard();
  bed_->settle_io();
  for (u64 i = 0; i < 900; ++i) bed_->expect_page(*a_, i, i + 1);
}

TEST_F(Linux24Reclaim, row_50_clean_file_pages_are_dropped_without_a_write) {
  Inode* file = bed_->make_file("f", 900);
  bed_->map_file(*b_, file, 0, 900);
  bed_->fill(*b_, 0, 900);
  bed_->finish([&] {
    b_->collect_dirty({bed_->at(0), bed_->at(900)});
    return bed_->vfs.fsync(*file);
  });
  const u64 written = count(Counter::pgpgout);
  bed_->map_anonymous(*a_, 0, 600);
  bed_->fill(*a_, 0, 600);
  EXPECT_GT(count(Counter::pgsteal), 500U);
  EXPECT_EQ(count(Counter::pgpgout), written);
  const u64 swapped = count(Counter::pswpout);
  for (u64 i = 0; i < 900; ++i) bed_->expect_page(*b_, i, i + 1);
  for (u64 i = 0; i < 600; ++i) bed_->expect_page(*a_, i, i + 1);
  EXPECT_EQ(count(Counter::pgpgout), written);
  EXPECT_GE(count(Counter::pswpout), swapped);
}

TEST_F(Linux24Reclaim, row_53_shared_memory_goes_to_swap_and_comes_back_once) {
  ShmObject* object = bed_->make_shm(1);
  bed_->map_shm(*a_, object, 0, 1);
  bed_->map_shm(*b_, object, 0, 1);
  ASSERT_EQ(bed_->write(*a_, 0, 7), FaultOutcome::done);
  bed_->expect_page(*b_, 0, 7);
  const Pfn pfn = bed_->entry(*a_, 0).pfn();
  bed_->frames[pfn].age = 0;
  bed_->clear_accessed(*a_, 0);
  bed_->clear_accessed(*b_, 0);
  EXPECT_EQ(policy().visit(*a_) + policy().visit(*b_), 2U);
  EXPECT_TRUE(bed_->entry(*a_, 0).none()) << "the table of the object knows the page";
  bed_->drain_to(15);
  (void)policy().page_launder(false);
  EXPECT_TRUE(bed_->frames[pfn].in_swap_cache()) << "first it moves";
  EXPECT_EQ(bed_->frames[pfn].queue, PageQueue::inactive_dirty) << "old as it was";
  EXPECT_EQ(object->mapping.nr_swapped, 1U);
  const SlotId slot = bed_->frames[pfn].slot;
  EXPECT_EQ(bed_->swap.refs(slot), 2U) << "the object's table and the swap cache";
  EXPECT_EQ(count(Counter::pswpout), 0U);
  (void)policy().page_launder(false);
  EXPECT_EQ(count(Counter::pswpout), 1U) << "then it is written";
  bed_->settle_io();
  (void)policy().page_launder(false);
  ASSERT_EQ(policy().reclaim_page(), pfn);
  bed_->allocator.free(pfn, 0);
  bed_->release_hoard();
  const u64 reads = count(Counter::disk_reads);
  bed_->expect_page(*b_, 0, 7);
  bed_->expect_page(*a_, 0, 7);
  EXPECT_EQ(count(Counter::disk_reads), reads + 1);
  EXPECT_EQ(bed_->swap.slots_used(), 0U);
  EXPECT_TRUE(bed_->page_of(*a_, 0).has(PageFlag::dirty));
}

TEST_F(Linux24Reclaim, shared_memory_locked_in_ram_is_refused_and_stays) {
  ShmObject* object = bed_->make_shm(4);
  object->mapping.no_writeback = true;
  bed_->map_shm(*a_, object, 0, 4);
  bed_->fill(*a_, 0, 4);
  for (u64 i = 0; i < 4; ++i) {
    bed_->page_of(*a_, i).age = 0;
    bed_->clear_accessed(*a_, i);
  }
  ASSERT_EQ(policy().visit(*a_), 4U);
  bed_->drain_to(10);
  EXPECT_EQ(bed_->allocator.alloc(0, kAllocUser).error(), Error::no_memory) << "and it ends";
  EXPECT_EQ(count(Counter::pswpout), 0U);
  bed_->release_hoard();
  for (u64 i = 0; i < 4; ++i) bed_->expect_page(*a_, i, i + 1);
}

TEST_F(Linux24Reclaim, row_34_kswapd_balances_and_sleeps) {
  bed_->map_anonymous(*a_, 0, 600);
  bed_->fill(*a_, 0, 600);
  Inode* file = bed_->make_file("f", 256);
  bed_->map_file(*b_, file, 0, 256);
  for (u64 i = 0; i < 256; ++i) ASSERT_EQ(bed_->touch(*b_, i), FaultOutcome::done);
  bed_->drain_to(15);
  ASSERT_LT(bed_->available(), 30U);
  u32 turns = 0;
  while (policy().background_wanted()) {
    ASSERT_LT(++turns, 200U) << "i38";
    if (!policy().background_step()) {
      bed_->settle_io();
      if (policy().free_shortage() > 0) bed_->sim.advance(Linux24Policy::kSecond);
    }
  }
  EXPECT_GE(bed_->available(), 30U);
  EXPECT_EQ(policy().free_shortage(), 0U);
  EXPECT_FALSE(policy().background_wanted()) << "it sleeps";
  // From now on the list is looked at 1/64 in each second.
  bed_->release_hoard();
  const u64 active = bed_->size_of(PageQueue::active);
  ASSERT_GE(active, 64U);
  const u64 scanned = count(Counter::pgscan);
  bed_->sim.advance(Linux24Policy::kSecond);
  ASSERT_TRUE(policy().background_wanted());
  EXPECT_FALSE(policy().background_step());
  EXPECT_EQ(count(Counter::pgscan) - scanned, active / 64);
  EXPECT_FALSE(policy().background_wanted());
  for (u64 i = 0; i < 600; ++i) bed_->expect_page(*a_, i, i + 1);
}

TEST_F(Linux24Reclaim, a_caller_who_asks_for_free_frames_gets_them) {
  bed_->map_anonymous(*a_, 0, 900);
  bed_->fill(*a_, 0, 900);
  const u64 free = bed_->free_pages();
  u32 waits = 0;
  while (bed_->free_pages() < free + 50) {
    const ReclaimOutcome outcome = policy().reclaim(PageCount(free + 50 - bed_->free_pages()));
    ASSERT_NE(outcome, ReclaimOutcome::exhausted);
    if (outcome == ReclaimOutcome::wait) {
      ASSERT_TRUE(bed_->sim.complete_one());
      ++waits;
    }
  }
  EXPECT_GT(waits, 0U);
  EXPECT_FALSE(bed_->allocator.in_reclaim());
  bed_->settle_io();
  for (u64 i = 0; i < 900; ++i) bed_->expect_page(*a_, i, i + 1);
}

TEST_F(Linux24Reclaim, i35_never_runs_inside_itself) {
  make_dirty_pages(10);
  bed_->allocator.enter_reclaim();
  EXPECT_EQ(policy().reclaim(PageCount(10)), ReclaimOutcome::exhausted);
  (void)policy().background_step();
  EXPECT_TRUE(bed_->allocator.in_reclaim()) << "kswapd leaves the context as it was";
  bed_->allocator.leave_reclaim();
}

TEST_F(Linux24Reclaim, out_of_memory_when_all_is_used_up) {
  start(1024, 65);
  bed_->map_anonymous(*a_, 0, 2000);
  u64 filled = 0;
  FaultOutcome outcome = FaultOutcome::done;
  while (filled < 2000 && outcome == FaultOutcome::done) {
    if (bed_->free_pages() > 10) {
      EXPECT_FALSE(policy().out_of_memory());
    }
    outcome = bed_->write(*a_, filled, filled + 1);
    if (outcome == FaultOutcome::done) ++filled;
  }
  EXPECT_EQ(outcome, FaultOutcome::oom);
  EXPECT_TRUE(policy().out_of_memory());
  EXPECT_GT(filled, 1024U) << "swap was used too";
  for (u64 i = 0; i < filled; ++i) {
    if (bed_->present(*a_, i)) bed_->expect_page(*a_, i, i + 1);
  }
  // The end of a process helps.
  bed_->spaces.destroy(a_->id());
  bed_->settle_io();
  EXPECT_FALSE(policy().out_of_memory());
  EXPECT_EQ(bed_->swap.slots_used(), 0U);
}

TEST_F(Linux24Reclaim, row_26_twice_as_much_as_fits) {
  bed_->map_anonymous(*a_, 0, 2048);
  bed_->fill(*a_, 0, 2048);
  for (u64 i = 0; i < 2048; ++i) bed_->expect_page(*a_, i, i + 1);
  EXPECT_GT(bed_->swap.slots_used(), 1000U);
  EXPECT_GT(count(Counter::pswpout), 1000U);
  EXPECT_GT(count(Counter::pswpin), 1000U);
}

TEST_F(Linux24Reclaim, row_29_cold_pages_leave_and_hot_ones_stay) {
  start(2048, 4096);
  constexpr u64 kHot = 250;
  constexpr u64 kCold = 700;
  bed_->map_anonymous(*a_, 0, kHot + kCold);
  Prng prng(29);
  std::vector<bool> hot(kHot + kCold);
  for (u64 i = 0; i < hot.size(); ++i) {
    hot[i] = prng.below(hot.size()) < kHot;
    ASSERT_EQ(bed_->write(*a_, i, i + 1), FaultOutcome::done);
  }
  u64 hot_out = 0;
  u64 cold_out = 0;
  for (u32 round = 0; round < 12; ++round) {
    for (u64 i = 0; i < hot.size(); ++i) {
      if (hot[i]) {
        ASSERT_EQ(bed_->touch(*a_, i), FaultOutcome::done);
      }
    }
    policy().age();
    for (u64 i = 0; i < hot.size(); ++i) {
      if (!bed_->present(*a_, i)) ++(hot[i] ? hot_out : cold_out);
    }
  }
  EXPECT_EQ(hot_out, 0U) << "i39";
  EXPECT_GT(cold_out, kCold / 2);
}

TEST_F(Linux24Reclaim, advice_about_single_pages) {
  bed_->map_anonymous(*a_, 0, 20);
  bed_->fill(*a_, 0, 20);
  policy().page_cold(bed_->entry(*a_, 5).pfn());
  EXPECT_EQ(policy().visit(*a_), 1U);
  EXPECT_FALSE(bed_->present(*a_, 5));
  EXPECT_EQ(policy().page_out(bed_->entry(*a_, 6).pfn()), ReclaimOutcome::exhausted)
      << "its write is in flight";
  const SlotId slot = bed_->entry(*a_, 6).slot();
  ASSERT_TRUE(bed_->entry(*a_, 6).is(Pte::Kind::swapped));
  bed_->settle_io();
  EXPECT_FALSE(bed_->swap.cached(slot).valid()) << "gone with the end of the write";
  for (u64 i = 0; i < 20; ++i) bed_->expect_page(*a_, i, i + 1);
}

TEST_F(Linux24Reclaim, validate_sees_a_page_on_the_wrong_list) {
  make_clean_pages(5);
  EXPECT_TRUE(policy().validate());
  Page& page = bed_->frames[bed_->cache.find(file_->mapping, 2).pfn()];
  page.age = 1;
  EXPECT_FALSE(policy().validate());
  page.age = 0;
  page.set(PageFlag::dirty);
  EXPECT_FALSE(policy().validate());
  page.clear(PageFlag::dirty);
  page.queue = PageQueue::active;
  EXPECT_FALSE(policy().validate());
  page.queue = PageQueue::inactive_clean;
  EXPECT_TRUE(policy().validate());
}

}  // namespace
}  // namespace spillway
