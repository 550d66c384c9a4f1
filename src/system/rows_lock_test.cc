// Locked memory (MECHANISMS 10): mlock, munlock, mlockall and their limits; I14 and row 32's other
// half. Method: entries and totals after each call; refusals are compared by the whole state.
#include "system/rows_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kPage = RowsBed::kPage;

struct LockRow {
  LockRow() : pid(bed.spawn()) {}
  Result<u64> lock(u64 addr, u64 bytes) {
    return bed.wait_for([&] { return bed.kernel().mlock(pid, addr, bytes); });
  }
  Result<u64> lock_all(u32 flags) {
    return bed.wait_for([&] { return bed.kernel().mlockall(pid, flags); });
  }
  RowsBed bed;
  Pid pid;
};

TEST(RowsLock, mlock_brings_in_what_is_away_and_breaks_copy_on_write) {
  LockRow row;
  const u64 at = row.bed.map(row.pid, 8);
  row.bed.fill(row.pid, at, 4);
  row.bed.push_out(row.pid, at, 2);
  const Pid child = row.bed.fork(row.pid);
  EXPECT_EQ(row.bed.load(row.pid, at + 5 * kPage), 0);  // the zero page
  const u64 anon = row.bed.kernel().meminfo().anon_pages;
  ASSERT_TRUE(row.lock(at + 100, 6 * kPage).ok());  // rounded outward: seven pages
  EXPECT_EQ(row.bed.task(row.pid).locked_vm, 7U);
  EXPECT_EQ(row.bed.task(row.pid).rss, 7U);
  EXPECT_EQ(row.bed.task(row.pid).swap_entries, 0U);
  for (u64 i = 0; i < 7; ++i) {
    const PteView e = row.bed.entry(row.pid, at + i * kPage);
    EXPECT_TRUE(e.kind == Pte::Kind::present && e.writable) << i;
    EXPECT_EQ(row.bed.kernel().frame(e.pfn).mapcount, 1U) << i;
    EXPECT_EQ(row.bed.kernel().frame(e.pfn).queue, PageQueue::locked) << i;
  }
  EXPECT_GE(row.bed.kernel().meminfo().anon_pages, anon + 5);
  EXPECT_TRUE(row.bed.holds(row.pid, at, 4));
  EXPECT_TRUE(row.bed.holds(child, at, 4, 0, row.pid));
  EXPECT_EQ(row.bed.quiet(), "");
  // Locks do not nest: one munlock undoes any number of them.
  ASSERT_TRUE(row.lock(at, 7 * kPage).ok());
  ASSERT_TRUE(row.bed.kernel().munlock(row.pid, at, 7 * kPage).ok());
  EXPECT_EQ(row.bed.task(row.pid).locked_vm, 0U);
  EXPECT_EQ(row.bed.kernel().meminfo().unevictable, 0U);
  EXPECT_EQ(row.bed.areas(row.pid).size(), 2U);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsLock, refusals_of_mlock_change_nothing) {
  LockRow row;
  const u64 at = row.bed.map(row.pid, 6);
  ASSERT_TRUE(row.bed.kernel().munmap(row.pid, at + 3 * kPage, kPage).ok());
  row.bed.kernel().set_limit(row.pid, Limit::memlock, 2 * kPage);
  const std::string before = row.bed.state(row.pid);
  EXPECT_EQ(row.lock(at, 3 * kPage).error(), Error::no_memory);
  EXPECT_EQ(row.lock(at + 2 * kPage, 2 * kPage).error(), Error::no_memory);  // a hole
  EXPECT_EQ(row.bed.kernel().munlock(row.pid, at + 2 * kPage, 2 * kPage).error(), Error::no_memory);
  EXPECT_EQ(row.lock_all(kMclCurrent).error(), Error::no_memory);
  EXPECT_EQ(row.lock_all(0).error(), Error::invalid);
  EXPECT_EQ(row.lock_all(8).error(), Error::invalid);
  row.bed.kernel().set_limit(row.pid, Limit::memlock, 0);
  EXPECT_EQ(row.lock(at, kPage).error(), Error::perm);
  EXPECT_EQ(row.lock_all(kMclFuture).error(), Error::perm);
  EXPECT_EQ(row.bed.state(row.pid), before);
  row.bed.kernel().set_limit(row.pid, Limit::memlock, 2 * kPage);
  ASSERT_TRUE(row.lock(at, 2 * kPage).ok());
  EXPECT_EQ(row.lock(at, 3 * kPage).error(), Error::no_memory);
  ASSERT_TRUE(row.lock(at + kPage, kPage).ok());  // what is locked already does not count twice
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsLock, mlockall_now_and_for_the_future) {
  LockRow row;
  const u64 at = row.bed.map(row.pid, 4);
  const u64 readonly = row.bed.map(row.pid, 2, kProtRead);
  const u64 nothing = row.bed.map(row.pid, 2, kProtNone);
  ASSERT_TRUE(row.lock_all(kMclCurrent | kMclFuture).ok());
  EXPECT_EQ(row.bed.task(row.pid).locked_vm, row.bed.task(row.pid).total_vm);
  EXPECT_EQ(row.bed.entry(row.pid, at + 3 * kPage).kind, Pte::Kind::present);
  EXPECT_NE(row.bed.entry(row.pid, readonly).kind, Pte::Kind::none);
  EXPECT_EQ(row.bed.entry(row.pid, nothing).kind, Pte::Kind::none);
  const u64 later = row.bed.map(row.pid, 3);
  EXPECT_EQ(row.bed.task(row.pid).locked_vm, row.bed.task(row.pid).total_vm);
  EXPECT_EQ(row.bed.entry(row.pid, later + 2 * kPage).kind, Pte::Kind::present);
  EXPECT_EQ(row.bed.quiet(), "");
  // The limit holds for what comes, too.
  row.bed.kernel().set_limit(row.pid, Limit::memlock, 13 * kPage);
  ASSERT_EQ(row.bed.task(row.pid).locked_vm, 12U);
  const std::string before = row.bed.state(row.pid);
  EXPECT_EQ(row.bed.mmap(row.pid, 0, 2, kProtRw, kPrivateAnon).error(), Error::again);
  EXPECT_EQ(row.bed.state(row.pid), before);
  // A child has neither locks nor the flag.
  const Pid child = row.bed.fork(row.pid);
  EXPECT_EQ(row.bed.task(child).locked_vm, 0U);
  row.bed.map(child, 5);
  EXPECT_EQ(row.bed.task(child).locked_vm, 0U);
  ASSERT_TRUE(row.bed.kernel().munlockall(row.pid).ok());
  EXPECT_EQ(row.bed.task(row.pid).locked_vm, 0U);
  row.bed.map(row.pid, 5);
  EXPECT_EQ(row.bed.task(row.pid).locked_vm, 0U);
  EXPECT_EQ(row.bed.kernel().meminfo().unevictable, 0U);
  EXPECT_EQ(row.bed.quiet(), "");
}

}  // namespace
}  // namespace spillway
