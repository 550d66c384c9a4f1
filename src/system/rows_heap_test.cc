// Rows 17-20 of the acceptance table: the heap, and the first touch of anonymous pages.
// Method: brk by a process, refused for each reason in turn, with its whole state compared; reads
// and writes of fresh pages with frames, entries and totals counted exactly.
#include "system/rows_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kPage = RowsBed::kPage;

struct HeapRow {
  explicit HeapRow(const KernelBedConfig& config = {}) : bed(config), pid(bed.spawn()) {
    EXPECT_EQ(bed.store(pid, RowsBed::kStackTop - 1, 1).signo, Signal::none);
    start = bed.task(pid).start_brk.v;
  }
  u64 brk(u64 addr) {
    return bed.wait_for([&] { return bed.kernel().brk(pid, addr); }).value();
  }
  // The break stays where it is, and all else too.
  void refused(u64 addr) {
    const std::string before = bed.state(pid);
    const u64 now = bed.task(pid).brk.v;
    EXPECT_EQ(brk(addr), now);
    EXPECT_EQ(bed.state(pid), before);
  }
  RowsBed bed;
  Pid pid;
  u64 start = 0;
};

TEST(RowsHeap, row_17_a_hundred_pages_up_and_three_touched) {
  HeapRow row;
  const TaskView before = row.bed.task(row.pid);
  EXPECT_EQ(before.brk.v, row.start);
  EXPECT_EQ(row.brk(row.start + 100 * kPage), row.start + 100 * kPage);
  const MemInfo memory = row.bed.kernel().meminfo();
  for (const u64 page : {0, 50, 99}) {
    EXPECT_EQ(row.bed.store(row.pid, row.start + page * kPage, 9).signo, Signal::none);
  }
  const TaskView after = row.bed.task(row.pid);
  EXPECT_EQ(after.total_vm, before.total_vm + 100);
  EXPECT_EQ(after.rss, before.rss + 3);
  EXPECT_EQ(after.min_flt, before.min_flt + 3);
  EXPECT_EQ(row.bed.kernel().meminfo().anon_pages, memory.anon_pages + 3);
  EXPECT_EQ(row.bed.kernel().meminfo().committed_as, memory.committed_as);
  EXPECT_STREQ(row.bed.areas(row.pid)[0].name, "[heap]");
  EXPECT_EQ(row.bed.areas(row.pid).size(), 2U);  // the heap is one area, however it grew
  row.refused(row.start - 1);
  row.refused(0);
  EXPECT_EQ(row.bed.quiet(), "");
  // Down again: pages and promises go back.
  EXPECT_EQ(row.brk(row.start + 50 * kPage), row.start + 50 * kPage);
  EXPECT_EQ(row.bed.task(row.pid).total_vm, before.total_vm + 50);
  EXPECT_EQ(row.bed.task(row.pid).rss, before.rss + 1);
  EXPECT_EQ(row.bed.load(row.pid, row.start + 50 * kPage), -1);
  EXPECT_EQ(row.brk(row.start + 60 * kPage), row.start + 60 * kPage);
  EXPECT_EQ(row.bed.load(row.pid, row.start + 50 * kPage), 0);  // not what was there
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsHeap, row_17_the_break_is_a_byte) {
  HeapRow row;
  EXPECT_EQ(row.brk(row.start + 1), row.start + 1);
  EXPECT_EQ(row.bed.task(row.pid).total_vm, 2U);
  EXPECT_EQ(row.brk(row.start + kPage), row.start + kPage);
  EXPECT_EQ(row.bed.task(row.pid).total_vm, 2U);
  EXPECT_EQ(row.brk(row.start + kPage + 1), row.start + kPage + 1);
  EXPECT_EQ(row.bed.task(row.pid).total_vm, 3U);
  EXPECT_EQ(row.brk(row.start), row.start);
  EXPECT_EQ(row.bed.task(row.pid).total_vm, 1U);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsHeap, row_18_into_another_area) {
  HeapRow row;
  const u64 wall = row.start + 20 * kPage;
  ASSERT_TRUE(row.bed.mmap(row.pid, wall, 1, kProtRead, kPrivateAnon | kMapFixed).ok());
  row.refused(wall + 1);
  row.refused(wall + 5 * kPage);
  row.refused(wall);  // one page before the next area stays free
  EXPECT_EQ(row.brk(wall - kPage), wall - kPage);
  row.refused(wall);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsHeap, row_18_beyond_the_data_limit) {
  HeapRow row;
  row.bed.kernel().set_limit(row.pid, Limit::data, 10 * kPage);
  row.refused(row.start + 10 * kPage + 1);
  EXPECT_EQ(row.brk(row.start + 10 * kPage), row.start + 10 * kPage);
  row.refused(row.start + 11 * kPage);
  // The limit counts bytes.
  row.bed.kernel().set_limit(row.pid, Limit::data, 10 * kPage + 100);
  EXPECT_EQ(row.brk(row.start + 10 * kPage + 100), row.start + 10 * kPage + 100);
  row.refused(row.start + 10 * kPage + 101);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsHeap, row_18_beyond_the_address_space_limit_and_the_number_of_areas) {
  KernelBedConfig config;
  config.kernel.map_count_max = 4;
  HeapRow row(config);
  row.bed.kernel().set_limit(row.pid, Limit::as, 10 * kPage);  // one is the stack's
  row.refused(row.start + 10 * kPage);
  EXPECT_EQ(row.brk(row.start + 9 * kPage), row.start + 9 * kPage);
  row.refused(row.start + 9 * kPage + 1);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsHeap, row_18_beyond_what_may_be_committed) {
  HeapRow row;  // mode heuristic: one request may not exceed RAM and swap
  const MemInfo memory = row.bed.kernel().meminfo();
  const u64 most = row.bed.sim().config().frames.v + memory.swap_total;
  EXPECT_EQ(memory.commit_limit, most);
  row.refused(row.start + (most + 1) * kPage);
  EXPECT_EQ(row.brk(row.start + most * kPage), row.start + most * kPage);
  // The next request is asked for by itself only.
  EXPECT_EQ(row.brk(row.start + 2 * most * kPage), row.start + 2 * most * kPage);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsHeap, row_18_mode_never_counts_all_promises_and_mode_always_none) {
  KernelBedConfig config;
  config.kernel.overcommit = Overcommit::never;
  HeapRow row(config);
  const MemInfo memory = row.bed.kernel().meminfo();
  EXPECT_EQ(memory.commit_limit, row.bed.sim().config().frames.v / 2 + memory.swap_total);
  const u64 left = memory.commit_limit - memory.committed_as;
  row.refused(row.start + (left + 1) * kPage);
  EXPECT_EQ(row.brk(row.start + left * kPage), row.start + left * kPage);
  EXPECT_EQ(row.bed.kernel().meminfo().committed_as, memory.commit_limit);
  row.refused(row.start + (left + 1) * kPage);
  // Nor may anything else promise more: mmap, fork, or making a private mapping writable.
  EXPECT_EQ(row.bed.mmap(row.pid, 0, 1, kProtRw, kPrivateAnon).error(), Error::no_memory);
  EXPECT_EQ(row.bed.mmap(row.pid, 0, 1, kProtRw, kPrivateAnon | kMapNoreserve).error(),
            Error::no_memory);
  const u64 at = row.bed.map(row.pid, 1, kProtRead);
  EXPECT_EQ(row.bed.kernel().mprotect(row.pid, at, kPage, kProtRw).error(), Error::no_memory);
  EXPECT_EQ(row.bed.kernel().fork(row.pid).error(), Error::no_memory);
  EXPECT_EQ(row.bed.store(row.pid, row.start + left * kPage - 1, 1).signo, Signal::none);
  EXPECT_EQ(row.bed.quiet(), "");

  config.kernel.overcommit = Overcommit::always;
  HeapRow always(config);
  const u64 much = 20 * memory.commit_limit * kPage;
  EXPECT_EQ(always.brk(always.start + much), always.start + much);
  EXPECT_EQ(always.bed.quiet(), "");
}

TEST(RowsHeap, row_18_a_locked_heap_has_the_limit_of_mlock) {
  HeapRow row;
  row.bed.kernel().set_limit(row.pid, Limit::memlock, 5 * kPage);
  ASSERT_TRUE(
      row.bed.wait_for([&] { return row.bed.kernel().mlockall(row.pid, kMclFuture); }).ok());
  row.refused(row.start + 6 * kPage);
  EXPECT_EQ(row.brk(row.start + 5 * kPage), row.start + 5 * kPage);
  EXPECT_EQ(row.bed.task(row.pid).locked_vm, 5U);
  EXPECT_EQ(row.bed.task(row.pid).rss, 6U);  // populated, beside the page of the stack
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsHeap, row_19_a_thousand_reads_take_no_frame) {
  HeapRow row;
  const u64 at = row.bed.map(row.pid, 1000);
  const TaskView before = row.bed.task(row.pid);
  const MemInfo memory = row.bed.kernel().meminfo();
  const u64 given = row.bed.count(Counter::pgalloc);
  for (u64 i = 0; i < 1000; ++i) ASSERT_EQ(row.bed.load(row.pid, at + i * kPage + i), 0);
  const TaskView after = row.bed.task(row.pid);
  const MemInfo now = row.bed.kernel().meminfo();
  EXPECT_EQ(after.rss, before.rss);
  EXPECT_EQ(after.min_flt, before.min_flt + 1000);
  EXPECT_EQ(now.anon_pages, memory.anon_pages);
  const u64 tables = after.page_tables - before.page_tables;
  EXPECT_LE(tables, 4U);  // leaves for 1000 pages, and what leads there
  EXPECT_EQ(now.mem_free, memory.mem_free - tables);
  EXPECT_EQ(row.bed.count(Counter::pgalloc), given + tables);
  EXPECT_EQ(row.bed.entry(row.pid, at).kind, Pte::Kind::zero);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsHeap, row_20_a_write_takes_one_zeroed_frame) {
  HeapRow row;
  const u64 at = row.bed.map(row.pid, 1000);
  for (u64 i = 0; i < 1000; ++i) ASSERT_EQ(row.bed.load(row.pid, at + i * kPage), 0);
  // Frames that others have used before are the ones that must be cleared.
  const Pid other = row.bed.spawn();
  row.bed.fill(other, row.bed.map(other, 700), 700);
  row.bed.kernel().exit(other, 0);
  for (const u64 page : {500, 999}) {
    const TaskView before = row.bed.task(row.pid);
    const MemInfo memory = row.bed.kernel().meminfo();
    EXPECT_EQ(row.bed.store(row.pid, at + page * kPage + 77, 9).signo, Signal::none);
    const TaskView after = row.bed.task(row.pid);
    const MemInfo now = row.bed.kernel().meminfo();
    EXPECT_EQ(after.rss, before.rss + 1);
    EXPECT_EQ(now.anon_pages, memory.anon_pages + 1);
    EXPECT_EQ(now.mem_free, memory.mem_free - 1);
    EXPECT_EQ(after.min_flt, before.min_flt + 1);
    std::vector<u8> bytes(kPage);
    std::vector<u8> wanted(kPage, 0);
    wanted[77] = 9;
    row.bed.access(row.pid, at + page * kPage, bytes.data(), kPage, Access::read);
    EXPECT_EQ(bytes, wanted);
    const PteView entry = row.bed.entry(row.pid, at + page * kPage);
    EXPECT_TRUE(entry.kind == Pte::Kind::present && entry.writable && entry.dirty);
  }
  EXPECT_EQ(row.bed.load(row.pid, at + 501 * kPage + 77), 0);  // the zero page is still that
  EXPECT_EQ(row.bed.quiet(), "");
}

}  // namespace
}  // namespace spillway
