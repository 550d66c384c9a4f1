// Rows 26 to 44 of the acceptance table, and 72, on the policy that their ages belong to (linux24):
// 1024 frames, marks 10/20/30, 4096 slots, clusters of 8, unless a row says otherwise. Each row
// ends with the quiescent check: every invariant is audited.
#include <set>

#include "system/kernel_bed_test.h"

namespace spillway {
namespace {

KernelBedConfig linux24(u64 frames = 1024, u64 slots = 4097) {
  KernelBedConfig config;
  config.policy = Policy::linux24;
  config.frames = frames;
  config.disks = {2048, slots};
  return config;
}

class RowsSwap : public ::testing::Test {
 protected:
  void TearDown() override {
    if (bed_ == nullptr) return;
    bed_->settle();
    EXPECT_EQ(bed_->audit(), "");
  }
  KernelBed& start(const KernelBedConfig& config = linux24()) {
    bed_ = std::make_unique<KernelBed>(config);
    return *bed_;
  }
  u64 slots_used() {
    const MemInfo m = bed_->kernel().meminfo();
    return m.swap_total - m.swap_free;
  }
  u32 slot_count(SlotId slot) { return bed_->kernel().slot(slot).count; }
  // A child that is alone with its pages: their accessed bits are clear and their age is 2, because
  // only the parent touched them, and the parent is gone.
  Pid idle_child(Pid parent) {
    const Pid child = bed_->wait_for([&] { return bed_->kernel().fork(parent); }).value();
    bed_->kernel().set_catches(child, true);
    bed_->kernel().exit(parent, 0);
    return child;
  }
  // Visits the space until the page is unmapped; how many visits that took.
  u32 visits_until_unmapped(Pid pid, u64 at) {
    for (u32 n = 1; n <= 100; ++n) {
      (void)bed_->kernel().visit(pid);
      if (bed_->entry(pid, at).kind != Pte::Kind::present) return n;
    }
    return 0;
  }
  // Every page of the space is in swap and no frame holds it any more.
  void push_out(Pid pid, u64 at, u64 pages) {
    for (u32 round = 0; round < 400; ++round) {
      (void)bed_->kernel().visit(pid);
      (void)bed_->wait_for([&] {
        return bed_->kernel().madvise(pid, at, pages * kPageSize, 21 /* MADV_PAGEOUT */);
      });
      bed_->settle();
      bool out = true;
      for (u64 i = 0; i < pages && out; ++i) {
        const PteView e = bed_->entry(pid, at + i * kPageSize);
        out = e.kind == Pte::Kind::swapped && !bed_->kernel().slot(e.slot).cached.valid();
      }
      if (out) return;
      // Pages that wait on the lists, clean by now, go when somebody needs frames.
      press(200);
    }
    FAIL() << "pages stay in memory";
  }
  // A process that takes more frames than there are and ends.
  void press(u64 extra) {
    const Pid hog = bed_->spawn("hog");
    const u64 pages = bed_->free_frames() + extra;
    const u64 at = bed_->map(hog, pages);
    for (u64 i = 0; i < pages; ++i) (void)bed_->store(hog, at + i * kPageSize, 1);
    bed_->kernel().exit(hog, 0);
    (void)bed_->kernel().reap(hog);
    bed_->settle();
  }

  std::unique_ptr<KernelBed> bed_;
};

TEST_F(RowsSwap, row_26_twice_the_memory_comes_back_equal) {
  KernelBed& bed = start();
  const Pid pid = bed.spawn();
  const u64 at = bed.map(pid, 2048);
  bed.fill(pid, at, 2048);
  EXPECT_GT(slots_used(), 0U);
  EXPECT_TRUE(bed.holds(pid, at, 2048));
  EXPECT_GT(bed.count(Counter::pswpin), 0U);
  EXPECT_GT(bed.count(Counter::pswpout), 0U);
  EXPECT_EQ(bed.count(Counter::oom_kill), 0U);
  EXPECT_TRUE(bed.kernel().alive(pid));
}

TEST_F(RowsSwap, row_27_an_idle_page_of_age_2_goes_at_the_second_visit) {
  KernelBed& bed = start();
  const Pid parent = bed.spawn();
  const u64 at = bed.map(parent, 1);
  ASSERT_EQ(bed.store(parent, at, 42).signo, Signal::none);
  const Pid pid = idle_child(parent);
  ASSERT_FALSE(bed.entry(pid, at).accessed);
  ASSERT_EQ(bed.frame(pid, at).age, 2U);
  (void)bed.kernel().visit(pid);
  EXPECT_EQ(bed.entry(pid, at).kind, Pte::Kind::present);
  EXPECT_EQ(bed.frame(pid, at).age, 1U);
  (void)bed.kernel().visit(pid);
  const PteView gone = bed.entry(pid, at);
  ASSERT_EQ(gone.kind, Pte::Kind::swapped);
  EXPECT_EQ(slot_count(gone.slot), 2U) << "the swap cache and the entry";
  EXPECT_EQ(bed.load(pid, at), 42);
}

TEST_F(RowsSwap, row_28_ages_climb_by_3_and_halve) {
  KernelBed& bed = start();
  const Pid pid = bed.spawn();
  const u64 at = bed.map(pid, 1);
  ASSERT_EQ(bed.store(pid, at, 1).signo, Signal::none);
  for (u32 n = 1; n <= 21; ++n) {
    ASSERT_EQ(bed.store(pid, at, 1).signo, Signal::none);
    (void)bed.kernel().visit(pid);
    const u32 expected = 2 + 3 * n < 64 ? 2 + 3 * n : 64;
    ASSERT_EQ(bed.frame(pid, at).age, expected) << "after touched visit " << n;
  }
  for (u32 age : {32U, 16U, 8U, 4U, 2U, 1U}) {
    (void)bed.kernel().visit(pid);
    ASSERT_EQ(bed.frame(pid, at).age, age);
  }
  (void)bed.kernel().visit(pid);
  EXPECT_EQ(bed.entry(pid, at).kind, Pte::Kind::swapped) << "the seventh idle visit from 64";
}

TEST_F(RowsSwap, row_30_a_clean_file_page_leaves_no_slot_a_dirty_anonymous_one_does) {
  KernelBed& bed = start();
  const Pid pid = bed.spawn();
  ASSERT_TRUE(bed.kernel().create_file("data", kPageSize, 0).ok());
  const i32 fd = static_cast<i32>(bed.kernel().open(pid, "data", kOpenReadWrite).value());
  const u64 file =
      bed.wait_for([&] { return bed.kernel().mmap(pid, 0, kPageSize, 1, kMapPrivate, fd, 0); })
          .value();
  const u64 own = bed.map(pid, 1);
  EXPECT_EQ(bed.load(pid, file), 0);
  ASSERT_EQ(bed.store(pid, own, 5).signo, Signal::none);
  EXPECT_NE(visits_until_unmapped(pid, own), 0U);
  // A page of the page cache ages on the active list, which is scanned when frames are short.
  for (u32 n = 0; n < 50 && bed.entry(pid, file).kind == Pte::Kind::present; ++n) press(50);
  EXPECT_EQ(bed.entry(pid, file).kind, Pte::Kind::none);
  EXPECT_EQ(bed.entry(pid, own).kind, Pte::Kind::swapped);
  EXPECT_EQ(slots_used(), 1U);
}

TEST_F(RowsSwap, row_31_full_swap_leaves_the_entry_and_the_page) {
  KernelBed& bed = start(linux24(1024, 9));  // 8 slots
  const Pid pid = bed.spawn();
  const u64 at = bed.map(pid, 20);
  bed.fill(pid, at, 20);
  for (u32 n = 0; n < 12; ++n) (void)bed.kernel().visit(pid);
  EXPECT_EQ(slots_used(), 8U);
  u32 present = 0;
  for (u64 i = 0; i < 20; ++i) {
    if (bed.entry(pid, at + i * kPageSize).kind == Pte::Kind::present) ++present;
  }
  EXPECT_EQ(present, 12U);
  const u64 out = bed.count(Counter::pswpout);
  const u64 rss = bed.task(pid).rss;
  (void)bed.kernel().visit(pid);
  EXPECT_EQ(bed.count(Counter::pswpout), out);
  EXPECT_EQ(bed.task(pid).rss, rss);
  EXPECT_TRUE(bed.holds(pid, at, 20));
  EXPECT_EQ(bed.count(Counter::oom_kill), 0U);
}

TEST_F(RowsSwap, row_32_locked_pages_stay_under_pressure) {
  KernelBed& bed = start(linux24(256));
  const Pid pid = bed.spawn();
  const u64 locked = bed.map(pid, 40);
  ASSERT_TRUE(bed.wait_for([&] { return bed.kernel().mlock(pid, locked, 40 * kPageSize); }).ok());
  bed.fill(pid, locked, 40);
  const u64 other = bed.map(pid, 500);
  bed.fill(pid, other, 500, 1);
  EXPECT_GT(slots_used(), 0U);
  for (u64 i = 0; i < 40; ++i) {
    EXPECT_EQ(bed.entry(pid, locked + i * kPageSize).kind, Pte::Kind::present) << i;
  }
  EXPECT_EQ(bed.task(pid).locked_vm, 40U);
  EXPECT_TRUE(bed.holds(pid, locked, 40));
  EXPECT_TRUE(bed.holds(pid, other, 500, 1));
}

TEST_F(RowsSwap, row_33_a_page_of_three_spaces_goes_with_the_third_unmap) {
  KernelBed& bed = start();
  const Pid first = bed.spawn();
  const u64 at = bed.map(first, 1);
  ASSERT_EQ(bed.store(first, at, 9).signo, Signal::none);
  const Pid a = idle_child(first);
  const Pid b = bed.wait_for([&] { return bed.kernel().fork(a); }).value();
  const Pid c = bed.wait_for([&] { return bed.kernel().fork(a); }).value();
  const Pfn frame = bed.entry(a, at).pfn;
  EXPECT_EQ(bed.kernel().frame(frame).count, 3U);
  ASSERT_NE(visits_until_unmapped(b, at), 0U);
  EXPECT_EQ(bed.kernel().frame(frame).mapcount, 2U);
  const SlotId slot = bed.entry(b, at).slot;
  EXPECT_EQ(slot_count(slot), 2U);
  ASSERT_NE(visits_until_unmapped(c, at), 0U);
  EXPECT_EQ(bed.kernel().frame(frame).state, PageState::mapped);
  EXPECT_EQ(slot_count(slot), 3U);
  ASSERT_NE(visits_until_unmapped(a, at), 0U);
  EXPECT_EQ(slot_count(slot), 4U) << "the swap cache and three entries";
  EXPECT_EQ(bed.kernel().frame(frame).mapcount, 0U);
  EXPECT_EQ(bed.kernel().frame(frame).state, PageState::unmapped) << "only the cache holds it";
  for (Pid pid : {a, b, c}) EXPECT_EQ(bed.load(pid, at), 9);
}

TEST_F(RowsSwap, row_34_the_daemon_brings_free_to_high_and_sleeps) {
  KernelBed& bed = start(linux24(256));
  const Pid pid = bed.spawn();
  const u64 at = bed.map(pid, 300);
  // As many pages as bring free memory below the high mark.
  u64 filled = 0;
  while (bed.free_frames() >= 25) {
    ASSERT_EQ(bed.store(pid, at + filled++ * kPageSize, 3).signo, Signal::none);
  }
  const u64 high = bed.kernel().meminfo().watermark_high;
  ASSERT_EQ(high, 30U);
  u32 steps = 0;
  while (steps < 200) {
    if (!bed.kernel().wanted(Daemon::kswapd)) bed.sim().advance(1'000'000'000);
    (void)bed.kernel().step(Daemon::kswapd);
    bed.settle();
    ++steps;
    const MemInfo m = bed.kernel().meminfo();
    if (m.mem_free + m.inactive_clean >= high) break;
  }
  const MemInfo m = bed.kernel().meminfo();
  EXPECT_GE(m.mem_free + m.inactive_clean, high);
  EXPECT_LT(steps, 200U);
  // Its work is done: it sleeps, until its time has come.
  for (u32 n = 0; n < 100 && bed.kernel().wanted(Daemon::kswapd); ++n) {
    (void)bed.kernel().step(Daemon::kswapd);
    bed.settle();
  }
  EXPECT_FALSE(bed.kernel().wanted(Daemon::kswapd));
  for (u64 i = 0; i < filled; ++i) EXPECT_EQ(bed.load(pid, at + i * kPageSize), 3);
}

TEST_F(RowsSwap, row_35_and_37_a_page_that_came_back_keeps_its_slot) {
  KernelBed& bed = start();
  const Pid pid = bed.spawn();
  const u64 at = bed.map(pid, 1);
  ASSERT_EQ(bed.store(pid, at, 7).signo, Signal::none);
  push_out(pid, at, 1);
  const SlotId slot = bed.entry(pid, at).slot;
  EXPECT_EQ(slot_count(slot), 1U) << "the entry alone";
  // 35: by read, exclusive.
  EXPECT_EQ(bed.load(pid, at), 7);
  EXPECT_EQ(bed.frame(pid, at).slot, slot) << "in the swap cache";
  EXPECT_EQ(slot_count(slot), 1U) << "the cache alone";
  EXPECT_FALSE(bed.entry(pid, at).writable);
  push_out(pid, at, 1);
  EXPECT_EQ(bed.entry(pid, at).slot, slot) << "evicted untouched";
  EXPECT_EQ(bed.load(pid, at), 7);
  // 37: by write, exclusive: writable and dirty, and back to the same slot.
  push_out(pid, at, 1);
  ASSERT_EQ(bed.store(pid, at, 8).signo, Signal::none);
  EXPECT_TRUE(bed.entry(pid, at).writable);
  EXPECT_TRUE(bed.entry(pid, at).dirty);
  push_out(pid, at, 1);
  EXPECT_EQ(bed.entry(pid, at).slot, slot);
  EXPECT_EQ(bed.load(pid, at), 8);
}

TEST_F(RowsSwap, row_38_a_page_still_in_the_swap_cache_is_rescued_without_a_read) {
  KernelBed& bed = start();
  const Pid pid = bed.spawn();
  const u64 at = bed.map(pid, 1);
  ASSERT_EQ(bed.store(pid, at, 7).signo, Signal::none);
  ASSERT_NE(visits_until_unmapped(pid, at), 0U);
  const u64 reads = bed.count(Counter::disk_reads);
  EXPECT_EQ(bed.load(pid, at), 7);
  EXPECT_EQ(bed.count(Counter::disk_reads), reads);
}

TEST_F(RowsSwap, row_39_clusters_of_8_save_three_reads_of_four) {
  u64 reads[2] = {};
  for (u32 cluster : {0U, 3U}) {
    KernelBedConfig config = linux24(1024);
    config.kernel.mm.page_cluster = cluster;
    KernelBed& bed = start(config);
    const Pid pid = bed.spawn();
    const u64 at = bed.map(pid, 800);
    bed.fill(pid, at, 800);
    push_out(pid, at, 800);
    const u64 before = bed.count(Counter::disk_reads);
    EXPECT_TRUE(bed.holds(pid, at, 800));
    reads[cluster == 3] = bed.count(Counter::disk_reads) - before;
    EXPECT_EQ(bed.audit(), "");
  }
  EXPECT_EQ(reads[0], 800U);
  EXPECT_GE(reads[0], 4 * reads[1]) << reads[0] << " and " << reads[1];
}

TEST_F(RowsSwap, row_40_swapped_pages_across_fork) {
  KernelBed& bed = start();
  const Pid parent = bed.spawn();
  const u64 at = bed.map(parent, 1);
  ASSERT_EQ(bed.store(parent, at, 7).signo, Signal::none);
  push_out(parent, at, 1);
  const SlotId slot = bed.entry(parent, at).slot;
  const Pid child = bed.wait_for([&] { return bed.kernel().fork(parent); }).value();
  bed.kernel().set_catches(child, true);
  EXPECT_EQ(slot_count(slot), 2U) << "fork: one more";
  EXPECT_EQ(bed.load(parent, at), 7);
  EXPECT_EQ(bed.load(child, at), 7);
  EXPECT_EQ(bed.entry(parent, at).pfn, bed.entry(child, at).pfn) << "shared after both are in";
  const u64 copies = bed.count(Counter::pgcow);
  ASSERT_EQ(bed.store(child, at, 8).signo, Signal::none);
  EXPECT_EQ(bed.count(Counter::pgcow), copies + 1);
  EXPECT_EQ(bed.load(parent, at), 7);
  EXPECT_EQ(bed.load(child, at), 8);
  bed.kernel().exit(parent, 0);
  bed.kernel().exit(child, 0);
  bed.settle();
  EXPECT_EQ(slots_used(), 0U);
}

TEST_F(RowsSwap, row_41_a_read_error_is_sigbus_for_that_access_only) {
  KernelBed& bed = start();
  const Pid pid = bed.spawn();
  const u64 at = bed.map(pid, 2);
  bed.fill(pid, at, 2);
  push_out(pid, at, 2);
  const SlotId slot = bed.entry(pid, at).slot;
  bed.sim().block(1).failures().fail_block(IoOp::read, slot.offset());
  u8 byte = 0;
  const SignalInfo info = bed.access(pid, at, &byte, 1, Access::read);
  EXPECT_EQ(info.signo, Signal::bus);
  EXPECT_EQ(info.code, kBusAdrerr);
  EXPECT_EQ(info.addr.v, at);
  EXPECT_TRUE(bed.kernel().alive(pid));
  EXPECT_EQ(bed.load(pid, at + kPageSize), KernelBed::mark(pid, 1, 0)) << "the page beside it";
  bed.sim().block(1).failures().clear_blocks();
  EXPECT_EQ(bed.load(pid, at), KernelBed::mark(pid, 0, 0)) << "it was not lost";
}

TEST_F(RowsSwap, row_42_eight_threads_one_read_one_frame) {
  KernelBed& bed = start();
  const Pid pid = bed.spawn();
  const u64 at = bed.map(pid, 1);
  ASSERT_EQ(bed.store(pid, at, 7).signo, Signal::none);
  push_out(pid, at, 1);
  std::vector<Pid> threads;
  for (u32 i = 0; i < 8; ++i) threads.push_back(bed.kernel().clone_thread(pid).value());
  const u64 reads = bed.count(Counter::disk_reads);
  const SpaceId space = bed.kernel().space_of(pid);
  u8 bytes[8] = {};
  u32 waiting = 0;
  for (u32 i = 0; i < 8; ++i) {  // all ask before the read can end
    bed.kernel().run_on(0, threads[i]);
    const SimAccess a = bed.sim().load(bed.kernel(), space, VirtAddr(at), &bytes[i], 1);
    if (a.outcome == FaultOutcome::wait) ++waiting;
  }
  EXPECT_EQ(waiting, 8U);
  EXPECT_EQ(bed.sim().pending(), 1U);
  bed.settle();
  std::set<u32> frames;
  for (u32 i = 0; i < 8; ++i) {
    bed.kernel().run_on(0, threads[i]);
    const SimAccess a = bed.sim().load(bed.kernel(), space, VirtAddr(at), &bytes[i], 1, 1);
    EXPECT_EQ(a.outcome, FaultOutcome::done);
    EXPECT_EQ(bytes[i], 7);
    frames.insert(bed.entry(pid, at).pfn.v);
  }
  EXPECT_EQ(frames.size(), 1U);
  EXPECT_EQ(bed.count(Counter::disk_reads), reads + 1);
}

TEST_F(RowsSwap, row_43_swapoff_brings_everything_in_or_changes_nothing) {
  KernelBed& bed = start(linux24(1400));
  const Pid pid = bed.spawn();
  const u64 at = bed.map(pid, 1000);
  bed.fill(pid, at, 1000);
  push_out(pid, at, 1000);
  ASSERT_EQ(slots_used(), 1000U);
  ASSERT_TRUE(bed.wait_for([&] { return bed.kernel().swapoff(1); }).ok());
  EXPECT_EQ(bed.kernel().meminfo().swap_total, 0U);
  for (u64 i = 0; i < 1000; ++i) {
    ASSERT_EQ(bed.entry(pid, at + i * kPageSize).kind, Pte::Kind::present) << i;
  }
  EXPECT_TRUE(bed.holds(pid, at, 1000));
  // Again, with too little memory.
  bed.swap_on(1);
  const u64 more = bed.map(pid, 1200);
  bed.fill(pid, more, 1200, 1);
  const auto refused = bed.wait_for([&] { return bed.kernel().swapoff(1); });
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error(), Error::no_memory);
  EXPECT_GT(bed.kernel().meminfo().swap_total, 0U) << "usable as before";
  EXPECT_TRUE(bed.holds(pid, at, 1000));
  EXPECT_TRUE(bed.holds(pid, more, 1200, 1));
}

TEST_F(RowsSwap, row_72_one_hog_one_victim_and_nobody_else_is_hurt) {
  KernelBed& bed = start(linux24(256, 129));
  std::vector<Pid> small;
  std::vector<u64> at;
  for (u32 i = 0; i < 4; ++i) {
    small.push_back(bed.spawn("small"));
    at.push_back(bed.map(small[i], 8));
    bed.fill(small[i], at[i], 8);
  }
  const Pid hog = bed.spawn("hog");
  bed.kernel().set_catches(hog, false);
  const u64 much = bed.map(hog, 1000, 3, kMapPrivate | kMapAnonymous | kMapNoreserve);
  for (u64 i = 0; i < 1000 && bed.kernel().alive(hog); ++i) {
    (void)bed.store(hog, much + i * kPageSize, 1);
  }
  EXPECT_FALSE(bed.kernel().alive(hog));
  EXPECT_EQ(bed.kernel().last_signal(hog).signo, Signal::kill);
  EXPECT_EQ(bed.count(Counter::oom_kill), 1U);
  bed.settle();
  for (u32 i = 0; i < 4; ++i) {
    EXPECT_TRUE(bed.kernel().alive(small[i]));
    EXPECT_TRUE(bed.holds(small[i], at[i], 8)) << i;
  }
  EXPECT_GT(bed.free_frames(), 100U) << "the hog's frames are back";
}

}  // namespace
}  // namespace spillway
