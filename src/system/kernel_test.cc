// The kernel facade end to end on the simulated machine: life of processes, sharing, files, swap.
// The rows of the acceptance table are in rows_*_test.cc.
#include "system/kernel_bed_test.h"

namespace spillway {
namespace {

TEST(Kernel, a_process_is_born_touches_memory_and_leaves_nothing) {
  KernelBed bed;
  bed.kernel().exit(bed.spawn(), 0);  // caches that keep one slab in reserve have it from now on
  const u64 before = bed.free_frames();
  const Pid pid = bed.spawn();
  const u64 heap = bed.map(pid, 100);
  bed.fill(pid, heap, 50);
  EXPECT_TRUE(bed.holds(pid, heap, 50));
  EXPECT_EQ(bed.load(pid, heap + 60 * kPageSize), 0);
  EXPECT_EQ(bed.task(pid).rss, 50U);
  EXPECT_EQ(bed.audit(), "");
  bed.kernel().exit(pid, 3);
  EXPECT_EQ(bed.audit(), "");
  EXPECT_EQ(bed.kernel().reap(pid).value(), 3U);
  EXPECT_EQ(bed.free_frames(), before);
}

TEST(Kernel, fork_shares_pages_until_somebody_writes) {
  KernelBed bed;
  const Pid parent = bed.spawn();
  const u64 at = bed.map(parent, 20);
  bed.fill(parent, at, 20);
  const Pid child = bed.wait_for([&] { return bed.kernel().fork(parent); }).value();
  EXPECT_EQ(bed.audit(), "");
  EXPECT_EQ(bed.entry(parent, at).pfn, bed.entry(child, at).pfn);
  EXPECT_TRUE(bed.holds(child, at, 20, 0, parent));
  bed.fill(child, at, 10, 1);
  EXPECT_EQ(bed.audit(), "");
  EXPECT_TRUE(bed.holds(parent, at, 20));
  EXPECT_TRUE(bed.holds(child, at, 10, 1));
  bed.kernel().exit(parent, 0);
  EXPECT_EQ(bed.audit(), "");
  EXPECT_TRUE(bed.holds(child, at, 10, 1));
}

TEST(Kernel, more_memory_than_there_is_goes_to_swap_and_comes_back) {
  KernelBedConfig config;
  config.frames = 256;
  KernelBed bed(config);
  const Pid pid = bed.spawn();
  const u64 at = bed.map(pid, 600);
  bed.fill(pid, at, 600);
  EXPECT_EQ(bed.audit(), "");
  EXPECT_TRUE(bed.holds(pid, at, 600));
  EXPECT_EQ(bed.audit(), "");
  EXPECT_GT(bed.count(Counter::pswpin), 0U);
  bed.kernel().exit(pid, 0);
  bed.settle();
  EXPECT_EQ(bed.audit(), "");
}

TEST(Kernel, a_page_that_came_back_from_swap_and_changed_is_written_again) {
  KernelBed bed;
  const Pid pid = bed.spawn();
  const u64 at = bed.map(pid, 3);
  bed.fill(pid, at, 3);
  const auto push_out = [&] {
    constexpr i32 kPageout = 21;
    for (u32 i = 0; i < 10; ++i) {
      (void)bed.wait_for([&] { return bed.kernel().madvise(pid, at, 3 * kPageSize, kPageout); });
      bed.settle();
    }
    EXPECT_EQ(bed.task(pid).swap_entries, 3U);
  };
  push_out();
  EXPECT_TRUE(bed.holds(pid, at, 3));
  bed.fill(pid, at, 2, 1);  // their slots hold what is old by now
  push_out();
  EXPECT_TRUE(bed.holds(pid, at, 2, 1));
  EXPECT_EQ(bed.load(pid, at + 2 * kPageSize), KernelBed::mark(pid, 2, 0));
  EXPECT_EQ(bed.audit(), "");
}

TEST(Kernel, a_shared_mapping_is_one_memory_for_parent_and_child) {
  KernelBed bed;
  const Pid parent = bed.spawn();
  const u64 at = bed.map(parent, 4, 3, kMapShared | kMapAnonymous);
  EXPECT_EQ(bed.store(parent, at, 7).signo, Signal::none);
  const Pid child = bed.wait_for([&] { return bed.kernel().fork(parent); }).value();
  EXPECT_EQ(bed.store(child, at + kPageSize, 9).signo, Signal::none);
  EXPECT_EQ(bed.load(parent, at + kPageSize), 9);
  EXPECT_EQ(bed.load(child, at), 7);
  EXPECT_EQ(bed.audit(), "");
}

TEST(Kernel, a_file_is_mapped_written_and_read_back) {
  KernelBed bed;
  const Pid pid = bed.spawn();
  ASSERT_TRUE(bed.kernel().create_file("data", 8 * kPageSize, 0).ok());
  const i32 fd = static_cast<i32>(bed.kernel().open(pid, "data", kOpenReadWrite).value());
  const u64 at =
      bed.wait_for([&] { return bed.kernel().mmap(pid, 0, 8 * kPageSize, 3, kMapShared, fd, 0); })
          .value();
  bed.fill(pid, at, 8);
  EXPECT_TRUE(
      bed.wait_for([&] { return bed.kernel().msync(pid, at, 8 * kPageSize, kMsSync); }).ok());
  EXPECT_EQ(bed.kernel().meminfo().dirty, 0U);
  std::vector<u8> page(kPageSize);
  u64 done = 0;
  EXPECT_EQ(bed.wait_for([&] {
                 return bed.kernel().pread(pid, fd, page.data(), kPageSize, 3 * kPageSize, &done);
               })
                .value(),
            kPageSize);
  EXPECT_EQ(page, std::vector<u8>(kPageSize, KernelBed::mark(pid, 3, 0)));
  EXPECT_EQ(bed.audit(), "");
  bed.kernel().exit(pid, 0);
  EXPECT_EQ(bed.audit(), "");
}

}  // namespace
}  // namespace spillway
