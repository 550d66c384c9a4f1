// Calls at the edges: page numbers beyond what a mapping can have, the most areas a process may
// have, memory shared by all, threads and exec. What Linux answers was tried on a real kernel.
// Method: the call, its errno, and what it has or has not changed.
#include "system/rows_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kPage = kPageSize;
constexpr u64 kAt = 0x2000'0000'0000;
constexpr i32 kPopulateRead = 22;
constexpr i32 kPopulateWrite = 23;
constexpr u64 kIndexes = u64{1} << 32;  // page numbers of a mapping

KernelBedConfig modern() {
  KernelBedConfig config;
  config.kernel.layout = Layout::modern;
  config.kernel.strict_stack = false;
  return config;
}

struct EdgesTest : testing::Test {
  explicit EdgesTest(const KernelBedConfig& config = modern()) : bed(config), pid(bed.spawn()) {}
  Kernel& k() { return bed.kernel(); }
  // 0, or the errno of a call that is repeated while it must wait.
  template <class Call>
  int error_of(Call call) {
    const Result<u64> r = bed.wait_for(call);
    return r.ok() ? 0 : errno_of(r.error());
  }
  int mremap(u64 addr, u64 pages, u64 new_pages, u32 flags = 0) {
    return error_of(
        [&] { return k().mremap(pid, addr, pages * kPage, new_pages * kPage, flags, 0); });
  }
  int madvise(u64 addr, u64 pages, i32 advice) {
    return error_of([&] { return k().madvise(pid, addr, pages * kPage, advice); });
  }
  int mprotect(u64 addr, u64 pages, u32 prot) {
    return error_of([&] { return k().mprotect(pid, addr, pages * kPage, prot); });
  }

  RowsBed bed;
  Pid pid;
};

TEST_F(EdgesTest, an_area_does_not_grow_past_the_last_page_number_of_its_file) {
  const i32 fd = bed.make_file(pid, "data", 2);
  const u64 first = kIndexes - 4;
  const u64 at = bed.mmap(pid, kAt, 1, kProtRw, kMapShared | kMapFixed, fd, first).value();
  const std::string before = bed.state(pid);
  // In place and by moving: page 4 of the area would be page 0 of the file.
  EXPECT_EQ(mremap(at, 1, 16), errno_of(Error::invalid));
  EXPECT_EQ(mremap(at, 1, 16, kMremapMaymove), errno_of(Error::invalid));
  EXPECT_EQ(bed.state(pid), before);
  EXPECT_EQ(mremap(at, 1, 3), 0);
  EXPECT_EQ(bed.access(pid, at + 2 * kPage, nullptr, 0, Access::read).signo, Signal::none);
  EXPECT_EQ(bed.load(pid, at + 2 * kPage), -1);
  EXPECT_EQ(k().last_signal(pid).signo, Signal::bus);
  EXPECT_EQ(bed.quiet(), "");
}

TEST_F(EdgesTest, shared_memory_has_no_more_pages_than_page_numbers) {
  const u32 flags = kMapShared | kMapAnonymous | kMapNoreserve;
  const std::string before = bed.state(pid);
  // Its page 2^32 would be its page 0.
  EXPECT_EQ(bed.mmap(pid, 0, kIndexes + 1, kProtRw, flags).error(), Error::no_memory);
  EXPECT_EQ(bed.state(pid), before);
  const u64 at = bed.mmap(pid, 0, kIndexes - 1, kProtRw, flags).value();
  bed.store(pid, at, 1);
  bed.store(pid, at + (kIndexes - 2) * kPage, 2);
  EXPECT_EQ(bed.load(pid, at), 1);
  EXPECT_EQ(bed.load(pid, at + (kIndexes - 2) * kPage), 2);
  EXPECT_EQ(bed.quiet(), "");
}

TEST_F(EdgesTest, what_was_attached_read_only_stays_so) {
  const u32 id = static_cast<u32>(k().shmget(pid, kIpcPrivate, 2 * kPage, kIpcCreate).value());
  const u64 at = k().shmat(pid, id, 0, kShmRdonly).value();
  EXPECT_EQ(mprotect(at, 1, kProtRw), errno_of(Error::access));
  EXPECT_EQ(bed.store(pid, at, 1).code, kSegvAccerr);
  const u64 writable = k().shmat(pid, id, 0, 0).value();
  EXPECT_EQ(mprotect(writable, 1, kProtRead), 0);
  EXPECT_EQ(mprotect(writable, 1, kProtRw), 0);
  EXPECT_EQ(bed.quiet(), "");
}

TEST_F(EdgesTest, memory_attached_under_mlockall_is_locked) {
  const u32 id = static_cast<u32>(k().shmget(pid, kIpcPrivate, 2 * kPage, kIpcCreate).value());
  ASSERT_EQ(error_of([&] { return k().mlockall(pid, kMclFuture); }), 0);
  k().set_limit(pid, Limit::memlock, kPage);
  EXPECT_EQ(error_of([&] { return k().shmat(pid, id, 0, 0); }), errno_of(Error::again));
  k().set_limit(pid, Limit::memlock, 2 * kPage);
  const u64 at = bed.wait_for([&] { return k().shmat(pid, id, 0, 0); }).value();
  EXPECT_EQ(bed.task(pid).locked_vm, 2U);
  EXPECT_EQ(bed.entry(pid, at + kPage).kind, Pte::Kind::present);
  EXPECT_EQ(bed.quiet(), "");
}

TEST_F(EdgesTest, madvise_that_populates_has_errors_of_its_own) {
  const u64 at = bed.mmap(pid, kAt, 8, kProtRead, kPrivateAnon | kMapFixed).value();
  EXPECT_EQ(madvise(at, 2, kPopulateWrite), errno_of(Error::invalid));
  EXPECT_EQ(madvise(at, 2, kPopulateRead), 0);
  ASSERT_EQ(mprotect(at + 4 * kPage, 2, kProtNone), 0);
  EXPECT_EQ(madvise(at + 4 * kPage, 1, kPopulateRead), errno_of(Error::invalid));
  EXPECT_EQ(madvise(at + 3 * kPage, 2, kPopulateRead), errno_of(Error::invalid));
  ASSERT_EQ(mprotect(at + 4 * kPage, 2, kProtRw), 0);
  ASSERT_EQ(error_of([&] { return k().munmap(pid, at + 6 * kPage, kPage); }), 0);
  EXPECT_EQ(madvise(at + 5 * kPage, 2, kPopulateWrite), errno_of(Error::no_memory));
  EXPECT_EQ(bed.entry(pid, at + 5 * kPage).kind, Pte::Kind::present) << "up to the hole";
  const i32 fd = bed.make_file(pid, "data", 1);
  const u64 file = bed.mmap(pid, 0, 4, kProtRw, kMapShared, fd).value();
  EXPECT_EQ(madvise(file, 2, kPopulateRead), errno_of(Error::fault));
  EXPECT_EQ(madvise(file, 2, kPopulateWrite), errno_of(Error::fault));
  EXPECT_EQ(bed.quiet(), "");
}

TEST_F(EdgesTest, populating_by_reading_leaves_the_zero_page) {
  const u64 at = bed.mmap(pid, 0, 2, kProtRw, kPrivateAnon).value();
  EXPECT_EQ(madvise(at, 1, kPopulateRead), 0);
  EXPECT_EQ(bed.entry(pid, at).kind, Pte::Kind::zero);
  EXPECT_EQ(madvise(at, 1, kPopulateWrite), 0);
  EXPECT_EQ(bed.entry(pid, at).kind, Pte::Kind::present);
  EXPECT_EQ(bed.quiet(), "");
}

// The stack, and 4 areas of which the last has 9 pages, with a limit of `most`.
struct FullTest : EdgesTest {
  FullTest() : EdgesTest(full()) {
    for (u64 i = 0; i < 3; ++i) {
      EXPECT_TRUE(bed.mmap(pid, kAt + 2 * i * kPage, 1, kProtRw, kPrivateAnon | kMapFixed).ok());
    }
    at = bed.mmap(pid, kAt + 16 * kPage, 9, kProtRw, kPrivateAnon | kMapFixed).value();
  }
  static KernelBedConfig full() {
    KernelBedConfig config = modern();
    config.kernel.map_count_max = 6;
    return config;
  }
  u64 at = 0;
};

TEST_F(FullTest, no_call_splits_an_area_when_there_may_be_no_more) {
  const std::string before = bed.state(pid);
  // Its middle would make two areas more, and only one more may be.
  const u64 middle = at + 4 * kPage;
  EXPECT_EQ(mprotect(middle, 1, kProtRead), errno_of(Error::no_memory));
  EXPECT_EQ(error_of([&] { return k().mlock(pid, middle, kPage); }), errno_of(Error::no_memory));
  EXPECT_EQ(madvise(middle, 1, static_cast<i32>(Advice::random)), errno_of(Error::again));
  EXPECT_EQ(madvise(middle, 1, 10), errno_of(Error::again));  // MADV_DONTFORK
  EXPECT_EQ(bed.state(pid), before);
  EXPECT_EQ(error_of([&] { return k().munlock(pid, middle, kPage); }), 0) << "nothing to change";
  EXPECT_EQ(madvise(middle, 1, static_cast<i32>(Advice::normal)), 0);
  EXPECT_EQ(bed.areas(pid).size(), 5U);
  // Its end makes one.
  EXPECT_EQ(mprotect(at + 8 * kPage, 1, kProtRead), 0);
  EXPECT_EQ(bed.areas(pid).size(), 6U);
  EXPECT_EQ(mprotect(at, 1, kProtRead), errno_of(Error::no_memory));
  EXPECT_EQ(error_of([&] { return k().mlock(pid, at, kPage); }), errno_of(Error::no_memory));
  // An edge that only moves makes none.
  EXPECT_EQ(mprotect(at + 7 * kPage, 1, kProtRead), 0);
  EXPECT_EQ(bed.areas(pid).size(), 6U);
  EXPECT_EQ(bed.quiet(), "");
}

TEST_F(EdgesTest, shared_memory_is_nothing_to_flush) {
  const u64 pages = 500;  // of 1024 frames
  const u64 at = bed.mmap(pid, 0, pages, kProtRw, kMapShared | kMapAnonymous).value();
  bed.fill(pid, at, pages);
  EXPECT_EQ(k().meminfo().dirty, 0U);
  EXPECT_FALSE(k().wanted(Daemon::flush)) << "no step of the flusher would ever change that";
  EXPECT_EQ(bed.quiet(), "");
}

TEST(Edges, an_area_that_stays_on_counts_as_swap_again) {
  KernelBedConfig config;
  config.frames = 256;
  config.disks = {64, 1024, 64};
  config.kernel.overcommit = Overcommit::never;
  config.kernel.overcommit_ratio = 300;  // more than RAM, so that the promises allow a swapoff
  RowsBed bed(config);
  Kernel& k = bed.kernel();
  const Pid pid = bed.spawn();
  const u64 at = bed.map(pid, 600);
  bed.fill(pid, at, 600);
  bed.settle();
  ASSERT_EQ(k.swapoff(1).error(), Error::wait);
  bed.swap_on(2);  // meanwhile
  EXPECT_FALSE(bed.wait_for([&] { return k.swapoff(1); }).ok());
  EXPECT_TRUE(k.alive(pid));
  const MemInfo m = k.meminfo();
  EXPECT_EQ(m.swap_total, 1023U + 63U);
  EXPECT_EQ(m.commit_limit, 256 * config.kernel.overcommit_ratio / 100 + m.swap_total);
  EXPECT_TRUE(bed.holds(pid, at, 600));
  EXPECT_EQ(bed.quiet(), "");
}

TEST(Edges, swapoff_does_not_break_promises) {
  KernelBedConfig config;
  config.frames = 256;
  config.disks = {64, 1024, 1024};
  config.kernel.overcommit = Overcommit::never;
  RowsBed bed(config);
  Kernel& k = bed.kernel();
  const Pid pid = bed.spawn();
  const u64 ram = 256 * config.kernel.overcommit_ratio / 100;
  const u64 before = k.meminfo().committed_as;
  ASSERT_EQ(k.meminfo().commit_limit, ram + 1023);
  // One page more than there may be without the area, though nothing of it is used.
  const u64 at = bed.map(pid, ram - before + 1);
  EXPECT_EQ(bed.wait_for([&] { return k.swapoff(1); }).error(), Error::no_memory);
  EXPECT_EQ(k.meminfo().swap_total, 1023U);
  EXPECT_EQ(k.meminfo().commit_limit, ram + 1023);
  ASSERT_TRUE(k.munmap(pid, at, kPageSize).ok());
  // What is promised is kept in the area. While that comes back, nobody is promised its room.
  bed.fill(pid, at + kPageSize, ram - before);
  bed.push_out(pid, at + kPageSize, ram - before);
  ASSERT_EQ(k.swapoff(1).error(), Error::wait);
  EXPECT_EQ(k.meminfo().commit_limit, ram);
  EXPECT_EQ(bed.mmap(pid, 0, 1, kProtRw, kMapPrivate | kMapAnonymous).error(), Error::no_memory);
  EXPECT_TRUE(bed.wait_for([&] { return k.swapoff(1); }).ok());
  EXPECT_EQ(k.meminfo().commit_limit, ram);
  EXPECT_TRUE(bed.holds(pid, at + kPageSize, ram - before));
  // With another area there is room again.
  bed.swap_on(2);
  EXPECT_TRUE(bed.mmap(pid, 0, 1000, kProtRw, kMapPrivate | kMapAnonymous).ok());
  EXPECT_EQ(bed.wait_for([&] { return k.swapoff(2); }).error(), Error::no_memory);
  EXPECT_EQ(k.swapoff(1).error(), Error::invalid) << "what is off is told before";
  EXPECT_EQ(bed.quiet(), "");
}

TEST_F(EdgesTest, no_signal_is_no_signal) {
  EXPECT_EQ(bed.load(pid, kAt), -1);
  ASSERT_EQ(k().last_signal(pid).signo, Signal::segv);
  k().kill(pid, Signal::none);
  EXPECT_EQ(k().last_signal(pid).signo, Signal::segv);
  EXPECT_TRUE(k().alive(pid));
}

}  // namespace
}  // namespace spillway
