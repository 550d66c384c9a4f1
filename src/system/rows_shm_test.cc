// Rows 52-54 of the acceptance table: memory shared between processes.
// Method: segments attached by two processes, evicted, read back and removed; frames, slots and
// disk reads are counted, and every limit is met exactly and exceeded by one.
#include "system/rows_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kPage = RowsBed::kPage;

struct ShmRow {
  explicit ShmRow(const KernelBedConfig& config = {})
      : bed(config), a(bed.spawn("a")), b(bed.spawn("b")) {}
  u32 make(u64 pages, u32 key = kIpcPrivate) {
    return static_cast<u32>(
        bed.kernel().shmget(a, key, pages * kPage, kIpcCreate | kIpcExclusive).value());
  }
  u64 attach(Pid pid, u32 id, u32 flags = 0) {
    return bed.kernel().shmat(pid, id, 0, flags).value();
  }
  ShmView segment(u32 id) {
    std::vector<ShmView> all(64);
    all.resize(bed.kernel().segments(all.data(), 64));
    for (const ShmView& s : all) {
      if (s.id == id) return s;
    }
    return {};
  }
  bool exists(u32 id) { return segment(id).id == id; }
  RowsBed bed;
  Pid a, b;
};

TEST(RowsShm, row_52_two_attach_one_writes_the_other_reads) {
  ShmRow row;
  const u32 id = row.make(4);
  const u64 at_a = row.attach(row.a, id);
  const u64 at_b = row.attach(row.b, id);
  EXPECT_EQ(row.segment(id).attached, 2U);
  EXPECT_EQ(row.segment(id).resident, 0U);
  row.bed.fill(row.a, at_a, 4);
  EXPECT_TRUE(row.bed.holds(row.b, at_b, 4, 0, row.a));
  for (u64 i = 0; i < 4; ++i) {
    const PteView e = row.bed.entry(row.a, at_a + i * kPage);
    EXPECT_EQ(e.pfn, row.bed.entry(row.b, at_b + i * kPage).pfn);
    EXPECT_EQ(row.bed.kernel().frame(e.pfn).mapcount, 2U);
    EXPECT_EQ(row.bed.kernel().frame(e.pfn).count, 3U);
  }
  EXPECT_EQ(row.segment(id).resident, 4U);
  EXPECT_EQ(row.bed.kernel().meminfo().shmem, 4U);
  EXPECT_EQ(row.bed.quiet(), "");
  // Read-only for one of them.
  const u64 readonly = row.attach(row.b, id, kShmRdonly);
  EXPECT_EQ(row.bed.load(row.b, readonly), KernelBed::mark(row.a, 0, 0));
  EXPECT_EQ(row.bed.store(row.b, readonly, 1).code, kSegvAccerr);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsShm, row_52_removed_while_attached_lives_until_the_last_detach) {
  ShmRow row;
  const u64 frames = row.bed.free_frames();
  const MemInfo start = row.bed.kernel().meminfo();
  const u32 id = row.make(6, 42);
  const u64 at_a = row.attach(row.a, id);
  const u64 at_b = row.attach(row.b, id);
  row.bed.fill(row.a, at_a, 6);
  row.bed.push_out(row.a, at_a, 3);
  EXPECT_EQ(row.segment(id).swapped, 3U);
  EXPECT_EQ(row.bed.used_slots(), 3U);
  EXPECT_EQ(row.bed.kernel().meminfo().committed_as, start.committed_as + 6);
  ASSERT_TRUE(row.bed.kernel().shmctl(row.a, id, kIpcRmid).ok());
  EXPECT_TRUE(row.segment(id).dest);
  EXPECT_EQ(row.segment(id).key, kIpcPrivate);
  EXPECT_EQ(row.bed.kernel().shmget(row.a, 42, kPage, 0).error(), Error::no_entry);
  // A new segment may have the key meanwhile.
  const u32 second = row.make(1, 42);
  EXPECT_NE(second, id);
  ASSERT_TRUE(row.bed.kernel().shmctl(row.a, second, kIpcRmid).ok());
  EXPECT_FALSE(row.exists(second));
  // Both still see the data, and a child that is forked now attaches as well.
  const Pid child = row.bed.fork(row.b);
  EXPECT_EQ(row.segment(id).attached, 3U);
  EXPECT_EQ(row.bed.kernel().shmdt(row.a, at_a).value(), 0U);
  EXPECT_EQ(row.segment(id).attached, 2U);
  EXPECT_EQ(row.bed.load(row.a, at_a), -1);
  EXPECT_TRUE(row.bed.holds(row.b, at_b, 6, 0, row.a));
  row.bed.push_out(row.b, at_b, 6);
  EXPECT_EQ(row.segment(id).swapped, 6U);
  EXPECT_EQ(row.bed.kernel().shmdt(row.b, at_b).value(), 0U);
  EXPECT_TRUE(row.bed.holds(child, at_b, 2, 0, row.a));
  EXPECT_EQ(row.bed.quiet(), "");
  row.bed.kernel().exit(child, 0);
  EXPECT_FALSE(row.exists(id));
  EXPECT_EQ(row.bed.used_slots(), 0U);
  const MemInfo end = row.bed.kernel().meminfo();
  EXPECT_EQ(end.shmem + end.swap_cached, 0U);
  EXPECT_EQ(end.committed_as, start.committed_as);
  EXPECT_EQ(end.mem_free + (end.slab - start.slab) + (end.swap_meta - start.swap_meta) +
                (end.page_tables - start.page_tables) + (end.kernel_stack - start.kernel_stack),
            frames);
  EXPECT_EQ(row.bed.kernel().shmat(row.a, id, 0, 0).error(), Error::invalid);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsShm, row_52_exit_detaches_and_a_segment_without_mark_stays) {
  ShmRow row;
  const u32 id = row.make(2, 7);
  const u64 at = row.attach(row.a, id);
  row.bed.fill(row.a, at, 2);
  row.bed.kernel().exit(row.a, 0);
  EXPECT_EQ(row.segment(id).attached, 0U);
  EXPECT_EQ(row.segment(id).resident, 2U);
  // Nobody maps its pages; they can be found, and swapped, all the same.
  const u64 again =
      row.attach(row.b, static_cast<u32>(row.bed.kernel().shmget(row.b, 7, 0, 0).value()));
  EXPECT_TRUE(row.bed.holds(row.b, again, 2, 0, row.a));
  ASSERT_TRUE(row.bed.kernel().shmdt(row.b, again).ok());
  ASSERT_TRUE(row.bed.kernel().shmctl(row.b, id, kIpcRmid).ok());
  EXPECT_FALSE(row.exists(id));
  EXPECT_EQ(row.bed.kernel().meminfo().shmem, 0U);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsShm, row_52_a_segment_detached_in_pieces) {
  ShmRow row;
  const u32 id = row.make(6);
  const u64 at = row.attach(row.a, id);
  const u64 second = row.attach(row.a, id);
  row.bed.fill(row.a, at, 6);
  ASSERT_TRUE(row.bed.kernel().munmap(row.a, at + 2 * kPage, kPage).ok());
  EXPECT_EQ(row.segment(id).attached, 3U);  // one for each area
  EXPECT_EQ(row.bed.kernel().shmdt(row.a, at + kPage).error(), Error::invalid);
  EXPECT_EQ(row.bed.kernel().shmdt(row.a, at + 1).error(), Error::invalid);
  ASSERT_TRUE(row.bed.kernel().shmdt(row.a, at).ok());
  EXPECT_EQ(row.segment(id).attached, 1U);
  EXPECT_EQ(row.bed.load(row.a, at + 3 * kPage), -1);
  EXPECT_TRUE(row.bed.holds(row.a, second, 6));
  EXPECT_EQ(row.bed.kernel().shmdt(row.a, at).error(), Error::invalid);
  EXPECT_EQ(row.bed.quiet(), "");
}

class RowsShmAgeing : public testing::TestWithParam<Policy> {};
INSTANTIATE_TEST_SUITE_P(All, RowsShmAgeing, testing::ValuesIn(kRowPolicies), policy_name);

TEST_P(RowsShmAgeing, row_53_evicted_read_by_one_and_then_by_the_other) {
  KernelBedConfig config;
  config.policy = GetParam();
  ShmRow row(config);
  const u32 id = row.make(1);
  const u64 at_a = row.attach(row.a, id);
  const u64 at_b = row.attach(row.b, id);
  row.bed.fill(row.a, at_a, 1);
  EXPECT_GE(row.bed.load(row.b, at_b), 0);
  row.bed.push_out(row.a, at_a, 1);
  // The entries empty as pages of the cache do; reclaim launders the page in the swap cache.
  const Pid hog = row.bed.spawn("hog");
  const u64 much = row.bed.map(hog, 1500);
  row.bed.fill(hog, much, 1500);
  row.bed.kernel().exit(hog, 0);
  row.bed.settle();
  EXPECT_EQ(row.bed.entry(row.a, at_a).kind, Pte::Kind::none);
  EXPECT_EQ(row.bed.entry(row.b, at_b).kind, Pte::Kind::none);
  ASSERT_EQ(row.segment(id).swapped, 1U);
  ASSERT_EQ(row.segment(id).resident, 0U);
  EXPECT_EQ(row.bed.kernel().meminfo().swap_cached, 0U);
  EXPECT_EQ(row.bed.used_slots(), 1U);
  ASSERT_EQ(row.bed.quiet(), "");

  const u64 in = row.bed.count(Counter::pswpin);
  const u64 reads = row.bed.count(Counter::disk_reads);
  EXPECT_EQ(row.bed.load(row.b, at_b), KernelBed::mark(row.a, 0, 0));
  EXPECT_EQ(row.bed.count(Counter::pswpin), in + 1);
  EXPECT_EQ(row.bed.used_slots(), 0U);
  EXPECT_EQ(row.segment(id).resident, 1U);
  EXPECT_EQ(row.segment(id).swapped, 0U);
  const FrameView frame = row.bed.frame(row.b, at_b);
  EXPECT_TRUE(frame.dirty);
  EXPECT_FALSE(frame.slot.valid());
  EXPECT_EQ(frame.owner, PageOwner::shmem);
  EXPECT_EQ(row.bed.task(row.b).maj_flt, 1U);
  EXPECT_EQ(row.bed.load(row.a, at_a), KernelBed::mark(row.a, 0, 0));
  EXPECT_EQ(row.bed.count(Counter::pswpin), in + 1);
  EXPECT_EQ(row.bed.count(Counter::disk_reads), reads + 1);
  EXPECT_EQ(row.bed.entry(row.a, at_a).pfn, row.bed.entry(row.b, at_b).pfn);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST_P(RowsShmAgeing, row_54_a_locked_segment_is_never_written_out) {
  KernelBedConfig config;
  config.frames = 256;
  config.policy = GetParam();
  ShmRow row(config);
  const u32 id = row.make(30);
  const u64 at = row.attach(row.a, id);
  const u32 loose = row.make(30);
  const u64 at_loose = row.attach(row.a, loose);
  ASSERT_TRUE(row.bed.kernel().shmctl(row.a, id, kShmLock).ok());
  EXPECT_TRUE(row.segment(id).locked);
  EXPECT_EQ(row.segment(id).resident, 0U);  // locking brings nothing in
  row.bed.fill(row.a, at, 30);
  row.bed.fill(row.a, at_loose, 30);
  const Pid hog = row.bed.spawn("hog");
  // Ages take several visits to fall, so the pressure goes on until the other segment is out.
  const u64 much = row.bed.map(hog, 600);
  const auto press_until_out = [&](u32 segment) {
    for (u32 i = 0; i < 20 && row.segment(segment).swapped < 30; ++i) {
      row.bed.fill(hog, much, 600, i);
      row.bed.settle();
    }
  };
  press_until_out(loose);
  EXPECT_EQ(row.segment(loose).swapped, 30U);
  EXPECT_EQ(row.segment(id).resident, 30U);
  EXPECT_EQ(row.segment(id).swapped, 0U);
  EXPECT_EQ(row.bed.quiet(), "");
  const u64 in = row.bed.count(Counter::pswpin);
  EXPECT_TRUE(row.bed.holds(row.a, at, 30));
  EXPECT_EQ(row.bed.count(Counter::pswpin), in);
  ASSERT_TRUE(row.bed.kernel().shmctl(row.a, id, kShmUnlock).ok());
  press_until_out(id);
  EXPECT_EQ(row.segment(id).swapped, 30U);
  EXPECT_TRUE(row.bed.holds(row.a, at, 30));
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsShm, row_54_limits_of_size_count_and_total) {
  KernelBedConfig config;
  config.kernel.shm_max_bytes = 10 * kPage;
  config.kernel.shm_segments_max = 4;
  config.kernel.shm_all_pages = 25;
  ShmRow row(config);
  Kernel& kernel = row.bed.kernel();
  const std::string before = row.bed.state(row.a);
  EXPECT_EQ(kernel.shmget(row.a, 1, 0, kIpcCreate).error(), Error::invalid);
  EXPECT_EQ(kernel.shmget(row.a, 1, 10 * kPage + 1, kIpcCreate).error(), Error::invalid);
  EXPECT_EQ(kernel.shmget(row.a, 1, 1, 0).error(), Error::no_entry);
  EXPECT_EQ(row.bed.state(row.a), before);
  const u32 first = row.make(10, 1);
  const u32 second = row.make(10, 2);
  EXPECT_EQ(kernel.shmget(row.a, 3, 6 * kPage, kIpcCreate).error(), Error::no_space);  // 26 pages
  const u32 third = row.make(3, 3);
  const u32 fourth = row.make(1, 4);
  EXPECT_EQ(kernel.shmget(row.a, 5, 1, kIpcCreate).error(), Error::no_space);  // the fifth
  EXPECT_EQ(kernel.shmget(row.a, kIpcPrivate, 1, 0).error(), Error::no_space);
  // By its key, and not larger than it is.
  EXPECT_EQ(kernel.shmget(row.b, 2, 10 * kPage, 0).value(), second);
  EXPECT_EQ(kernel.shmget(row.b, 2, 0, kIpcCreate).value(), second);
  EXPECT_EQ(kernel.shmget(row.b, 3, 3 * kPage + 1, 0).error(), Error::invalid);
  EXPECT_EQ(kernel.shmget(row.b, 3, 1, kIpcCreate | kIpcExclusive).error(), Error::exists);
  for (const u32 id : {first, second, third, fourth}) {
    ASSERT_TRUE(kernel.shmctl(row.a, id, kIpcRmid).ok());
    EXPECT_EQ(kernel.shmctl(row.a, id, kIpcRmid).error(), Error::invalid);
  }
  EXPECT_EQ(row.bed.state(row.a), before);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsShm, row_54_a_size_is_not_rounded_for_who_asks) {
  ShmRow row;
  const u32 id =
      static_cast<u32>(row.bed.kernel().shmget(row.a, 9, 2 * kPage + 5, kIpcCreate).value());
  const u64 at = row.attach(row.a, id);
  EXPECT_EQ(row.segment(id).size_bytes, 2 * kPage + 5);
  EXPECT_EQ(row.bed.store(row.a, at + 3 * kPage - 1, 8).signo, Signal::none);
  EXPECT_EQ(row.bed.store(row.a, at + 3 * kPage, 8).signo, Signal::segv);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsShm, row_54_not_more_than_may_be_committed) {
  KernelBedConfig config;
  config.kernel.overcommit = Overcommit::never;
  ShmRow row(config);
  const MemInfo m = row.bed.kernel().meminfo();
  const u64 left = m.commit_limit - m.committed_as;
  EXPECT_EQ(row.bed.kernel().shmget(row.a, 1, (left + 1) * kPage, kIpcCreate).error(),
            Error::no_memory);
  EXPECT_TRUE(row.bed.kernel().shmget(row.a, 1, left * kPage, kIpcCreate).ok());
  EXPECT_EQ(row.bed.kernel().meminfo().committed_as, m.commit_limit);
  EXPECT_EQ(row.bed.mmap(row.a, 0, 1, kProtRw, kMapShared | kMapAnonymous).error(),
            Error::no_memory);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsShm, row_52_where_a_segment_may_be_attached) {
  ShmRow row;
  Kernel& kernel = row.bed.kernel();
  const u32 id = row.make(2);
  constexpr u64 kPlace = u64{2} << 30;
  EXPECT_EQ(kernel.shmat(row.a, id, kPlace + 1, 0).error(), Error::invalid);
  EXPECT_EQ(kernel.shmat(row.a, id + 100, 0, 0).error(), Error::invalid);
  EXPECT_EQ(kernel.shmat(row.a, id, kPlace + 1, kShmRnd).value(), kPlace);
  EXPECT_EQ(kernel.shmat(row.a, id, kPlace + kPage, 0).error(), Error::invalid);  // taken
  EXPECT_EQ(kernel.shmat(row.a, id, RowsBed::kStackTop, 0).error(), Error::invalid);
  EXPECT_EQ(row.segment(id).attached, 1U);
  kernel.set_limit(row.a, Limit::as, (row.bed.task(row.a).total_vm + 1) * kPage);
  EXPECT_EQ(kernel.shmat(row.a, id, 0, 0).error(), Error::no_memory);
  EXPECT_EQ(row.segment(id).attached, 1U);
  EXPECT_EQ(kernel.shmctl(row.a, id, 999).error(), Error::invalid);
  EXPECT_EQ(row.bed.quiet(), "");
}

}  // namespace
}  // namespace spillway
