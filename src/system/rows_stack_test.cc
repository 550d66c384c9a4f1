// Rows 11-16 of the acceptance table: the stack grows when it is touched below its end.
// Method: a process of the simulated kernel, its stack pointer set by hand, accesses at exact
// distances; after each row areas, totals and frames are compared with the numbers of the row.
#include "system/rows_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kPage = RowsBed::kPage;
constexpr u64 kTop = RowsBed::kStackTop;

struct StackRow {
  explicit StackRow(const KernelBedConfig& config = {}) : bed(config), pid(bed.spawn()) {
    // The first page is in use, as any program's is: tables are there, and sp is where it is.
    EXPECT_EQ(bed.store(pid, kTop - 1, 1).signo, Signal::none);
    bed.kernel().set_stack_pointer(pid, VirtAddr(kTop - kPage));
  }
  AreaView stack() {
    for (const AreaView& a : bed.areas(pid)) {
      if (a.growsdown) return a;
    }
    ADD_FAILURE() << "no stack";
    return {};
  }
  void lower_sp(u64 addr) { bed.kernel().set_stack_pointer(pid, VirtAddr(addr)); }
  // The access is refused with SIGSEGV, SEGV_MAPERR, and nothing has changed.
  void refused(u64 addr) {
    const std::string before = bed.state(pid);
    const SignalInfo signal = bed.store(pid, addr, 1);
    EXPECT_EQ(signal.signo, Signal::segv);
    EXPECT_EQ(signal.code, kSegvMaperr);
    EXPECT_EQ(signal.addr.v, addr);
    EXPECT_EQ(bed.state(pid), before);
  }
  RowsBed bed;
  Pid pid;
};

TEST(RowsStack, row_11_thirty_two_bytes_below_the_stack_pointer_and_no_more) {
  {
    StackRow row;
    EXPECT_EQ(row.bed.load(row.pid, kTop - kPage - 32), 0);
    EXPECT_EQ(addr_of(row.stack().range.start).v, kTop - 2 * kPage);
    EXPECT_EQ(row.bed.task(row.pid).total_vm, 2U);
    std::vector<u8> page(kPage, 1);
    EXPECT_EQ(row.bed.store(row.pid, kTop - kPage - 32, 9).signo, Signal::none);
    EXPECT_EQ(row.bed.access(row.pid, kTop - 2 * kPage, page.data(), kPage, Access::read).signo,
              Signal::none);
    std::vector<u8> wanted(kPage, 0);
    wanted[kPage - 32] = 9;
    EXPECT_EQ(page, wanted);
    EXPECT_EQ(row.bed.quiet(), "");
  }
  StackRow row;
  row.refused(kTop - kPage - 33);
  EXPECT_EQ(row.bed.task(row.pid).total_vm, 1U);
  EXPECT_EQ(row.bed.task(row.pid).min_flt + row.bed.task(row.pid).maj_flt,
            2U);  // the one of the first page, and the refused one
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsStack, row_11_later_kernels_have_no_such_rule) {
  KernelBedConfig config;
  config.kernel.strict_stack = false;
  StackRow row(config);
  EXPECT_EQ(row.bed.store(row.pid, kTop - 5 * kPage, 9).signo, Signal::none);
  EXPECT_EQ(addr_of(row.stack().range.start).v, kTop - 5 * kPage);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsStack, row_12_ten_pages_at_once_take_one_frame_and_one_fault) {
  StackRow row;
  const u64 bottom = kTop - kPage;
  row.lower_sp(bottom - 10 * kPage);
  const TaskView before = row.bed.task(row.pid);
  const MemInfo memory = row.bed.kernel().meminfo();
  EXPECT_EQ(row.bed.store(row.pid, bottom - 10 * kPage, 9).signo, Signal::none);
  const TaskView after = row.bed.task(row.pid);
  EXPECT_EQ(addr_of(row.stack().range.start).v, bottom - 10 * kPage);
  EXPECT_EQ(after.total_vm, before.total_vm + 10);
  EXPECT_EQ(after.stack_vm, before.stack_vm + 10);
  EXPECT_EQ(after.rss, before.rss + 1);
  EXPECT_EQ(after.min_flt, before.min_flt + 1);
  EXPECT_EQ(after.maj_flt, before.maj_flt);
  EXPECT_EQ(after.page_tables, before.page_tables);
  const MemInfo now = row.bed.kernel().meminfo();
  EXPECT_EQ(now.mem_free, memory.mem_free - 1);
  EXPECT_EQ(now.anon_pages, memory.anon_pages + 1);
  EXPECT_EQ(now.committed_as, memory.committed_as + 10);
  // The pages between have no frame, but they are there.
  EXPECT_EQ(row.bed.load(row.pid, bottom - 5 * kPage), 0);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsStack, row_13_up_to_the_limit_and_not_one_page_more) {
  StackRow row;
  constexpr u64 kLimit = u64{64} << 10;
  row.bed.kernel().set_limit(row.pid, Limit::stack, kLimit);
  row.lower_sp(kTop - 2 * kLimit);
  EXPECT_EQ(row.bed.store(row.pid, kTop - kLimit, 9).signo, Signal::none);
  EXPECT_EQ(row.stack().range.pages().bytes(), kLimit);
  EXPECT_EQ(row.bed.task(row.pid).total_vm, kLimit / kPage);
  row.refused(kTop - kLimit - 1);
  row.refused(kTop - kLimit - kPage);
  EXPECT_EQ(row.bed.quiet(), "");
  // The stack never shrinks: with the stack pointer back up its pages are still there.
  row.lower_sp(kTop - kPage);
  EXPECT_EQ(row.bed.load(row.pid, kTop - kLimit), 9);
}

TEST(RowsStack, row_13_the_default_limit_is_eight_megabytes) {
  StackRow row;
  row.lower_sp(0);
  EXPECT_EQ(row.bed.store(row.pid, kTop - (u64{8} << 20), 9).signo, Signal::none);
  row.refused(kTop - (u64{8} << 20) - 1);
}

TEST(RowsStack, row_14_one_page_short_of_the_address_space_limit) {
  StackRow row;
  row.lower_sp(0);
  row.bed.map(row.pid, 7);
  const u64 total = row.bed.task(row.pid).total_vm;
  row.bed.kernel().set_limit(row.pid, Limit::as, (total + 9) * kPage);
  row.refused(kTop - 11 * kPage);  // ten pages more
  EXPECT_EQ(row.bed.store(row.pid, kTop - 10 * kPage, 9).signo, Signal::none);
  EXPECT_EQ(row.bed.task(row.pid).total_vm, total + 9);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsStack, row_14_an_area_directly_below_ends_the_growth) {
  StackRow row;
  row.lower_sp(0);
  const u64 below = kTop - 6 * kPage;
  ASSERT_TRUE(row.bed.mmap(row.pid, below, 1, kProtRead, kPrivateAnon | kMapFixed).ok());
  EXPECT_EQ(row.bed.store(row.pid, below + kPage, 9).signo, Signal::none);  // they touch now
  const std::string before = row.bed.state(row.pid);
  const SignalInfo signal = row.bed.store(row.pid, below + kPage - 1, 9);
  EXPECT_EQ(signal.signo, Signal::segv);
  EXPECT_EQ(signal.code, kSegvAccerr);  // it is the neighbour's page by now
  EXPECT_EQ(row.bed.state(row.pid), before);
  row.refused(below - 1);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsStack, row_14_with_the_gap_on_growth_ends_above_it) {
  KernelBedConfig config;
  config.kernel.stack_guard_gap = PageCount(256);
  StackRow row(config);
  row.lower_sp(0);
  const u64 end_of_below = kTop - 300 * kPage;
  ASSERT_TRUE(
      row.bed.mmap(row.pid, end_of_below - kPage, 1, kProtRead, kPrivateAnon | kMapFixed).ok());
  row.refused(end_of_below + 255 * kPage);
  EXPECT_EQ(row.bed.store(row.pid, end_of_below + 256 * kPage, 9).signo, Signal::none);
  row.refused(end_of_below + 256 * kPage - 1);
  EXPECT_EQ(addr_of(row.stack().range.start).v, end_of_below + 256 * kPage);
  // mmap keeps out of the gap as well, unless it is told the very place.
  const u64 hint = kTop - 256 * kPage;
  const u64 placed = row.bed.mmap(row.pid, hint, 1, kProtRw, kPrivateAnon).value();
  EXPECT_NE(placed, hint);
  // An area without any right is a guard by itself and needs no gap.
  ASSERT_TRUE(row.bed.kernel().mprotect(row.pid, end_of_below - kPage, kPage, kProtNone).ok());
  EXPECT_EQ(row.bed.store(row.pid, end_of_below, 9).signo, Signal::none);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsStack, row_15_a_locked_stack_counts_what_it_grows_by) {
  StackRow row;
  row.lower_sp(0);
  ASSERT_TRUE(
      row.bed.wait_for([&] { return row.bed.kernel().mlock(row.pid, kTop - kPage, kPage); }).ok());
  EXPECT_EQ(row.bed.task(row.pid).locked_vm, 1U);
  const TaskView before = row.bed.task(row.pid);
  EXPECT_EQ(row.bed.store(row.pid, kTop - 11 * kPage, 9).signo, Signal::none);
  const TaskView after = row.bed.task(row.pid);
  EXPECT_EQ(after.locked_vm, before.locked_vm + 10);
  EXPECT_EQ(after.total_vm, before.total_vm + 10);
  EXPECT_EQ(after.rss, before.rss + 1);
  EXPECT_EQ(row.bed.frame(row.pid, kTop - 11 * kPage).queue, PageQueue::locked);
  EXPECT_EQ(row.bed.quiet(), "");
  // With a strict limit: four pages more, and not one beyond.
  row.bed.kernel().set_limit(row.pid, Limit::memlock, 15 * kPage);
  row.refused(kTop - 16 * kPage);
  EXPECT_EQ(row.bed.store(row.pid, kTop - 15 * kPage, 9).signo, Signal::none);
  EXPECT_EQ(row.bed.task(row.pid).locked_vm, 15U);
  row.refused(kTop - 16 * kPage);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsStack, an_area_made_with_map_growsdown_is_a_stack_too) {
  StackRow row;
  const u64 at = (u64{2} << 30);
  ASSERT_TRUE(row.bed.mmap(row.pid, at, 1, kProtRw, kPrivateAnon | kMapFixed | kMapGrowsdown).ok());
  row.lower_sp(at);
  EXPECT_EQ(row.bed.store(row.pid, at - 32, 9).signo, Signal::none);
  row.refused(at - kPage - 33);
  EXPECT_EQ(row.bed.task(row.pid).total_vm, 3U);
  // Neither a file nor shared memory can grow down.
  EXPECT_EQ(
      row.bed.mmap(row.pid, 0, 1, kProtRw, kMapShared | kMapAnonymous | kMapGrowsdown).error(),
      Error::invalid);
  EXPECT_EQ(row.bed.quiet(), "");
}

class RowsStackAgeing : public testing::TestWithParam<Policy> {};
INSTANTIATE_TEST_SUITE_P(All, RowsStackAgeing, testing::ValuesIn(kRowPolicies), policy_name);

TEST_P(RowsStackAgeing, row_16_an_idle_stack_goes_to_swap_and_comes_back) {
  KernelBedConfig config;
  config.frames = 256;
  config.policy = GetParam();
  StackRow row(config);
  constexpr u64 kPages = 20;
  const u64 bottom = kTop - kPages * kPage;
  row.lower_sp(bottom);
  row.bed.fill(row.pid, bottom, kPages);
  const Pid hog = row.bed.spawn("hog");
  const u64 at = row.bed.map(hog, 600);
  row.bed.fill(hog, at, 600);
  row.bed.settle();
  const TaskView out = row.bed.task(row.pid);
  EXPECT_EQ(out.rss, 0U);
  EXPECT_EQ(out.swap_entries, kPages);
  EXPECT_EQ(out.total_vm, kPages);
  EXPECT_GE(row.bed.count(Counter::pswpout), kPages);
  EXPECT_EQ(row.bed.quiet(), "");
  const u64 before = row.bed.count(Counter::pswpin);
  EXPECT_TRUE(row.bed.holds(row.pid, bottom, kPages));
  EXPECT_GE(row.bed.count(Counter::pswpin), before + kPages);
  EXPECT_EQ(row.bed.task(row.pid).swap_entries, 0U);
  EXPECT_EQ(row.bed.quiet(), "");
}

}  // namespace
}  // namespace spillway
