// What the comparison with a real kernel (tests/differential) found to be different, one test for
// each rule of Linux. Method: the call, its errno, and what it has or has not changed.
#include "system/kernel_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kAt = 0x200000000000;  // far from heap, mmap area and stack
constexpr u64 kPage = kPageSize;
constexpr u32 kAnon = kMapPrivate | kMapAnonymous;

KernelBedConfig modern() {
  KernelBedConfig config;
  config.kernel.layout = Layout::modern;
  config.kernel.strict_stack = false;
  config.kernel.stack_guard_gap = PageCount(256);
  return config;
}

// 0, or the errno of a call that is repeated while it must wait.
struct ErrnoTest : testing::Test {
  ErrnoTest() : bed(modern()), pid(bed.spawn()) {}
  template <class Call>
  int error_of(Call call) {
    const Result<u64> r = bed.wait_for(call);
    return r.ok() ? 0 : errno_of(r.error());
  }
  Kernel& k() { return bed.kernel(); }
  int mmap(u64 page, u64 pages, u32 prot, u32 flags, i32 fd = -1) {
    return error_of(
        [&] { return k().mmap(pid, kAt + page * kPage, pages * kPage, prot, flags, fd, 0); });
  }
  int map(u64 page, u64 pages, u32 prot = 3) { return mmap(page, pages, prot, kAnon | kMapFixed); }
  int mprotect(u64 page, u64 pages, u32 prot) {
    return error_of([&] { return k().mprotect(pid, kAt + page * kPage, pages * kPage, prot); });
  }
  int madvise(u64 page, u64 pages, Advice advice) {
    return error_of([&] {
      return k().madvise(pid, kAt + page * kPage, pages * kPage, static_cast<i32>(advice));
    });
  }
  int mlock(u64 addr, u64 length) {
    return error_of([&] { return k().mlock(pid, addr, length); });
  }
  int mremap(u64 page, u64 pages, u64 new_pages, u32 flags = 0, u64 to = 0) {
    return error_of([&] {
      return k().mremap(pid, kAt + page * kPage, pages * kPage, new_pages * kPage, flags,
                        kAt + to * kPage);
    });
  }
  i32 open(const char* path, u32 flags) {
    return static_cast<i32>(bed.wait_for([&] { return k().open(pid, path, flags); }).value());
  }
  u64 at(u64 page) const { return kAt + page * kPage; }

  KernelBed bed;
  Pid pid;
};

TEST_F(ErrnoTest, madvise_goes_on_behind_a_hole_and_reports_it) {
  ASSERT_EQ(map(0, 1), 0);
  ASSERT_EQ(map(2, 1), 0);
  bed.store(pid, at(0), 1);
  bed.store(pid, at(2), 1);
  EXPECT_EQ(madvise(0, 3, Advice::dontneed), errno_of(Error::no_memory));
  EXPECT_EQ(bed.load(pid, at(0)), 0);
  EXPECT_EQ(bed.load(pid, at(2)), 0);
  // Addresses that no process has are a hole too.
  EXPECT_EQ(error_of([&] { return k().madvise(pid, ~u64{0} << 40, kPage, 0); }),
            errno_of(Error::no_memory));
}

TEST_F(ErrnoTest, madvise_refused_by_one_area_does_nothing) {
  ASSERT_EQ(bed.kernel().create_file("f", kPage, 0).ok(), true);
  const i32 fd = open("f", kOpenReadWrite);
  ASSERT_EQ(map(0, 1), 0);
  ASSERT_EQ(mmap(2, 1, 3, kMapPrivate | kMapFixed, fd), 0);
  bed.store(pid, at(0), 1);
  EXPECT_EQ(madvise(0, 3, Advice::free), errno_of(Error::invalid));
  EXPECT_EQ(bed.load(pid, at(0)), 1);
}

TEST_F(ErrnoTest, mlock_of_what_cannot_be_populated_locks_nothing) {
  ASSERT_EQ(bed.kernel().create_file("f", kPage, 0).ok(), true);
  const i32 fd = open("f", kOpenReadWrite);
  ASSERT_EQ(map(0, 1), 0);
  ASSERT_EQ(map(1, 1, 0), 0);
  EXPECT_EQ(mlock(at(0), 2 * kPage), errno_of(Error::no_memory));  // PROT_NONE
  ASSERT_EQ(mmap(1, 2, 3, kMapShared | kMapFixed, fd), 0);
  EXPECT_EQ(mlock(at(0), 3 * kPage), errno_of(Error::no_memory));  // beyond the end of the file
  EXPECT_EQ(bed.task(pid).locked_vm, 0U);
  EXPECT_EQ(mlock(at(0), 2 * kPage), 0);
  EXPECT_EQ(bed.task(pid).locked_vm, 2U);
}

TEST_F(ErrnoTest, mlock_rounds_and_wraps_as_linux_does) {
  EXPECT_EQ(mlock(at(0), ~u64{0}), 0);  // rounded up, nothing is left
  EXPECT_EQ(mlock(at(0), ~u64{0} - 2 * kPage), errno_of(Error::invalid));
  k().set_limit(pid, Limit::memlock, 4 * kPage);
  EXPECT_EQ(mlock(at(0), ~u64{0} - 2 * kPage), errno_of(Error::no_memory));
}

TEST_F(ErrnoTest, noreplace_is_tested_before_locks_and_rights) {
  ASSERT_EQ(bed.kernel().create_file("f", kPage, 0).ok(), true);
  const i32 write_only = open("f", kOpenWrite);
  k().set_limit(pid, Limit::memlock, 0);
  ASSERT_EQ(map(0, 1), 0);
  const u32 flags = kMapPrivate | kMapFixedNoreplace;
  EXPECT_EQ(mmap(0, 1, 3, flags, write_only), errno_of(Error::exists));
  EXPECT_EQ(mmap(1, 1, 3, flags, write_only), errno_of(Error::access));
  EXPECT_EQ(mmap(0, 1, 3, flags | kMapAnonymous | kMapLocked), errno_of(Error::exists));
  EXPECT_EQ(mmap(1, 1, 3, flags | kMapAnonymous | kMapLocked), errno_of(Error::perm));
}

TEST_F(ErrnoTest, mprotect_reports_what_the_lowest_address_meets) {
  ASSERT_EQ(bed.kernel().create_file("f", kPage, 0).ok(), true);
  const i32 read_only = open("f", kOpenRead);
  ASSERT_EQ(mmap(1, 1, 1, kMapShared | kMapFixed, read_only), 0);
  EXPECT_EQ(mprotect(1, 2, 3), errno_of(Error::access));
  EXPECT_EQ(mprotect(0, 2, 3), errno_of(Error::no_memory));
  // Unknown bits before what lies there.
  EXPECT_EQ(error_of([&] { return k().mprotect(pid, ~u64{0} << 40, kPage, 0x10); }),
            errno_of(Error::invalid));
}

TEST_F(ErrnoTest, mremap_shrinks_over_anything) {
  ASSERT_EQ(map(0, 1), 0);
  ASSERT_EQ(map(2, 1, 1), 0);
  bed.store(pid, at(0), 7);
  EXPECT_EQ(mremap(0, 3, 1), 0);
  EXPECT_EQ(bed.load(pid, at(2)), -1);
  // Before it moves, too; but what moves must be one area.
  ASSERT_EQ(map(2, 1, 1), 0);
  EXPECT_EQ(mremap(0, 3, 2, kMremapMaymove | kMremapFixed, 8), errno_of(Error::fault));
  EXPECT_EQ(mremap(0, 3, 1, kMremapMaymove | kMremapFixed, 8), 0);
  EXPECT_EQ(bed.load(pid, at(8)), 7);
  EXPECT_EQ(bed.load(pid, at(2)), -1);
}

TEST_F(ErrnoTest, mremap_grows_into_the_guard_of_a_stack) {
  ASSERT_EQ(map(0, 1), 0);
  ASSERT_EQ(mmap(3, 1, 3, kAnon | kMapFixed | kMapGrowsdown), 0);
  EXPECT_EQ(mremap(0, 1, 3), 0);
  EXPECT_EQ(mremap(0, 3, 4), errno_of(Error::no_memory));
}

TEST_F(ErrnoTest, mremap_counts_growth_before_its_target_is_replaced) {
  ASSERT_EQ(map(0, 1), 0);
  ASSERT_EQ(map(8, 4), 0);
  k().set_limit(pid, Limit::as, (bed.task(pid).total_vm + 2) * kPage);
  EXPECT_EQ(mremap(0, 1, 4, kMremapMaymove | kMremapFixed, 8), errno_of(Error::no_memory));
  EXPECT_EQ(mmap(8, 4, 3, kAnon | kMapFixed), 0);  // mmap counts the other way round
}

TEST_F(ErrnoTest, the_zero_page_moves_along) {
  ASSERT_EQ(map(0, 2), 0);
  EXPECT_EQ(bed.load(pid, at(0)), 0);
  ASSERT_EQ(mremap(0, 2, 2, kMremapMaymove | kMremapFixed, 8), 0);
  u8 vec[2] = {9, 9};
  ASSERT_EQ(error_of([&] { return k().mincore(pid, at(8), 2 * kPage, vec); }), 0);
  EXPECT_EQ(vec[0], 1);
  EXPECT_EQ(vec[1], 0);
  EXPECT_EQ(bed.audit(), "");
}

TEST_F(ErrnoTest, the_break_stays_off_the_guard_of_a_stack) {
  const u64 start = k().brk(pid, 0).value();
  const u64 base = (start + kPage - 1) & ~kPageMask;
  const u64 stack = base + 300 * kPage;
  ASSERT_EQ(error_of([&] {
              return k().mmap(pid, stack, kPage, 3, kAnon | kMapFixed | kMapGrowsdown, -1, 0);
            }),
            0);
  EXPECT_EQ(k().brk(pid, base + 44 * kPage).value(), start);
  EXPECT_EQ(k().brk(pid, base + 43 * kPage).value(), base + 43 * kPage);
}

TEST_F(ErrnoTest, negative_positions_are_seen_before_the_descriptor) {
  constexpr i32 kNotOpen = 9;
  u8 byte = 0;
  u64 done = 0;
  EXPECT_EQ(error_of([&] { return k().pread(pid, kNotOpen, &byte, 1, ~u64{0}, &done); }),
            errno_of(Error::invalid));
  EXPECT_EQ(error_of([&] { return k().pwrite(pid, kNotOpen, &byte, 1, ~u64{0}, &done); }),
            errno_of(Error::invalid));
  EXPECT_EQ(error_of([&] { return k().ftruncate(pid, kNotOpen, ~u64{0}); }),
            errno_of(Error::invalid));
  EXPECT_EQ(error_of([&] { return k().ftruncate(pid, kNotOpen, 0); }), errno_of(Error::bad_fd));
}

TEST_F(ErrnoTest, mprotect_that_lets_locked_private_pages_be_written_copies_them) {
  ASSERT_EQ(bed.kernel().create_file("f", kPage, 0).ok(), true);
  const i32 fd = open("f", kOpenReadWrite);
  ASSERT_EQ(mmap(0, 1, 1, kMapPrivate | kMapFixed | kMapLocked, fd), 0);
  ASSERT_EQ(mprotect(0, 1, 3), 0);
  u8 byte = 9;
  u64 done = 0;
  ASSERT_EQ(error_of([&] { return k().pwrite(pid, fd, &byte, 1, 0, &done); }), 0);
  EXPECT_EQ(bed.load(pid, at(0)), 0);
  EXPECT_EQ(bed.audit(), "");
}

TEST_F(ErrnoTest, a_shared_page_of_a_write_only_area_can_be_read) {
  ASSERT_EQ(map(0, 1, 2), 0);
  bed.store(pid, at(0), 5);
  const Pid child = bed.wait_for([&] { return k().fork(pid); }).value();
  ASSERT_EQ(madvise(0, 1, Advice::cold), 0);
  EXPECT_EQ(bed.load(pid, at(0)), 5);
  EXPECT_EQ(bed.load(child, at(0)), 5);
  EXPECT_EQ(bed.store(child, at(0), 6).signo, Signal::none);
  EXPECT_EQ(bed.load(pid, at(0)), 5);
  EXPECT_EQ(bed.audit(), "");
}

}  // namespace
}  // namespace spillway
