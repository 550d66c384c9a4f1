// Flusher in virtual time: when dirty blocks and pages of files are written, and by whom.
#include "vfs/flusher.h"
#include "vfs/buffer_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kSecond = 1'000'000'000;

struct FixedBase final : DirtyBase {
  u64 dirtyable_pages() const override { return pages; }
  bool short_of_clean_pages() const override { return short_of_clean; }
  u64 pages = 1'000'000;
  bool short_of_clean = false;
};

// Buffers on block0, files on block1.
struct FlushBed : BufferBed {
  FlushBed() : BufferBed(config_of_two(), 4096) {
    EXPECT_TRUE(
        files
            .init(sim.machine(), cache, allocator, frames, observer, sim.machine().block_devices[1])
            .ok());
    EXPECT_TRUE(vfs.init(sim.machine(), cache, allocator, frames, observer,
                         {.inode_hash_bits = 6, .dentry_hash_bits = 6})
                    .ok());
    EXPECT_TRUE(vfs.mount(files).ok());
    flusher.init(sim.machine(), cache, base, observer);
    flusher.add(buffers);
  }
  static SimConfig config_of_two() {
    SimConfig config = config_of(2048, 1024);
    config.block_pages = {1024, 256};
    return config;
  }
  void dirty(u64 first, u64 count) {
    for (u64 block = first; block < first + count; ++block) fill(block, 1);
  }
  Inode& file(const char* name, u64 pages) {
    NewInode made;
    made.capacity_pages = pages;
    Inode& inode = *vfs.create(vfs.root(), Name::of(name), made).value();
    const std::string text(pages * kPageSize, 'f');
    u64 done = 0;
    EXPECT_TRUE(
        vfs.write(inode, 0, reinterpret_cast<const u8*>(text.data()), text.size(), &done).ok());
    return inode;
  }
  // The daemons get the CPU whenever they want it.
  void pass(u64 ns) {
    constexpr u64 kTick = 10'000'000;
    const u64 end = sim.clock().now_ns() + ns;
    while (sim.clock().now_ns() < end) {
      for (u32 steps = 0; flusher.wanted(); ++steps) {
        ASSERT_LT(steps, 100U) << "wants to run without an end";
        (void)flusher.step();
      }
      const u64 left = end - sim.clock().now_ns();
      sim.advance(left < kTick ? left : kTick);
    }
  }
  u64 written() const { return count(Counter::nr_written); }

  FixedBase base;
  FileStore files;
  Vfs vfs;
  Flusher flusher;
};

TEST(FlusherTest, row_69_dirty_blocks_are_written_after_30_seconds_and_all_by_35) {
  FlushBed bed;
  bed.dirty(0, 100);
  const u64 start = bed.sim.clock().now_ns();
  bed.pass(29 * kSecond);
  EXPECT_EQ(bed.written(), 0U);
  EXPECT_EQ(bed.buffers.dirty(), 100U);
  EXPECT_EQ(bed.count(Counter::kupdate_run), 5U) << "each 5 seconds";
  bed.pass(start + 35 * kSecond - bed.sim.clock().now_ns());
  EXPECT_EQ(bed.buffers.dirty(), 0U);
  EXPECT_EQ(bed.written(), 100U);
  EXPECT_EQ(bed.count(Counter::bdflush_wakeup), 0U);
  EXPECT_TRUE(bed.buffers.validate());
}

TEST(FlusherTest, row_70_daemon_is_woken_above_30_percent_writer_flushes_above_60) {
  FlushBed bed;
  bed.base.pages = 200;  // limits at 60 and 120
  bed.dirty(0, 60);
  EXPECT_TRUE(bed.flusher.balance_dirty().ok());
  EXPECT_FALSE(bed.flusher.wanted());
  bed.dirty(60, 1);
  EXPECT_TRUE(bed.flusher.balance_dirty().ok());
  EXPECT_TRUE(bed.flusher.wanted()) << "woken";
  EXPECT_EQ(bed.count(Counter::bdflush_wakeup), 1U);
  EXPECT_EQ(bed.sim.pending(), 0U) << "the writer himself writes nothing";
  bed.dirty(61, 59);
  EXPECT_TRUE(bed.flusher.balance_dirty().ok());
  EXPECT_EQ(bed.sim.pending(), 0U);
  EXPECT_EQ(bed.count(Counter::balance_dirty_throttled), 0U);

  bed.dirty(120, 1);
  EXPECT_TRUE(bed.flusher.balance_dirty().ok()) << "64 writes bring it below the limit";
  EXPECT_EQ(bed.count(Counter::balance_dirty_throttled), 1U);
  EXPECT_EQ(bed.sim.pending(), 64U);
  EXPECT_EQ(bed.buffers.dirty(), 57U);
  EXPECT_NE(bed.cache.find(bed.buffers.mapping(), 120).pfn(), kNoPfn);
  EXPECT_TRUE(bed.buffers.find(120)->dirty) << "the oldest first";
  bed.complete_all();
  EXPECT_TRUE(bed.buffers.validate());
}

TEST(FlusherTest, a_writer_far_above_the_second_limit_waits_for_the_device) {
  FlushBed bed;
  bed.base.pages = 50;
  bed.dirty(0, 200);
  u32 waits = 0;
  for (;; ++waits) {
    const Status status = bed.flusher.balance_dirty();
    if (status.ok()) break;
    ASSERT_EQ(status.error(), Error::wait);
    ASSERT_TRUE(bed.sim.complete_one());
  }
  EXPECT_LE(200U - 64U - 30U, waits);
  EXPECT_LE(bed.buffers.dirty(), 30U);
}

TEST(FlusherTest, bdflush_writes_the_oldest_until_it_is_below_the_limit) {
  FlushBed bed;
  bed.base.pages = 500;  // 150
  bed.dirty(0, 300);
  EXPECT_TRUE(bed.flusher.balance_dirty().ok());
  bed.pass(kSecond);
  EXPECT_EQ(bed.buffers.dirty(), 300U - 3 * 64U) << "ndirty at a time";
  for (u64 block = 0; block < 300; ++block) {
    ASSERT_EQ(bed.buffers.find(block)->dirty, block >= 3 * 64) << block;
  }
  EXPECT_FALSE(bed.flusher.wanted());
}

TEST(FlusherTest, bdflush_runs_when_the_policy_wants_clean_pages) {
  FlushBed bed;
  bed.dirty(0, 10);
  EXPECT_TRUE(bed.flusher.balance_dirty().ok());
  EXPECT_FALSE(bed.flusher.wanted());
  bed.base.short_of_clean = true;
  EXPECT_TRUE(bed.flusher.balance_dirty().ok());
  EXPECT_TRUE(bed.flusher.wanted());
  bed.pass(kSecond);
  EXPECT_EQ(bed.buffers.dirty(), 0U);
  EXPECT_FALSE(bed.flusher.wanted()) << "there is nothing left that it could do";
}

TEST(FlusherTest, pages_of_files_are_written_after_30_seconds_too) {
  FlushBed bed;
  Inode& early = bed.file("early", 20);
  bed.pass(7 * kSecond);
  Inode& late = bed.file("late", 20);
  bed.pass(22 * kSecond);
  EXPECT_EQ(bed.written(), 0U);
  bed.pass(7 * kSecond);
  EXPECT_EQ(early.mapping.nr_dirty, 0U);
  EXPECT_EQ(late.mapping.nr_dirty, 20U);
  bed.pass(7 * kSecond);
  EXPECT_EQ(late.mapping.nr_dirty, 0U);
  EXPECT_TRUE(bed.cache.validate(early.mapping) && bed.cache.validate(late.mapping));
}

TEST(FlusherTest, what_has_been_dirty_for_longest_is_written_first_whatever_it_is) {
  for (const bool blocks_first : {true, false}) {
    FlushBed bed;
    bed.base.pages = 200;  // 60
    if (blocks_first) bed.dirty(0, 50);
    bed.sim.advance(kSecond);
    Inode& file = bed.file("file", 50);
    bed.sim.advance(kSecond);
    if (!blocks_first) bed.dirty(0, 50);
    EXPECT_TRUE(bed.flusher.balance_dirty().ok());
    (void)bed.flusher.step();
    EXPECT_EQ(bed.buffers.dirty(), blocks_first ? 0U : 36U);
    EXPECT_EQ(file.mapping.nr_dirty, blocks_first ? 36U : 0U);
  }
}

TEST(FlusherTest, interval_0_stops_kupdate_but_not_bdflush) {
  FlushBed bed;
  FlusherConfig config;
  config.interval_ns = 0;
  bed.flusher.configure(config);
  bed.dirty(0, 10);
  bed.pass(100 * kSecond);
  EXPECT_EQ(bed.written(), 0U);
  EXPECT_EQ(bed.count(Counter::kupdate_run), 0U);
  bed.flusher.wake();
  EXPECT_TRUE(bed.flusher.wanted());
  bed.pass(kSecond);
  EXPECT_EQ(bed.written(), 10U);
  bed.dirty(10, 10);
  bed.flusher.configure(FlusherConfig{});
  bed.pass(29 * kSecond);
  EXPECT_EQ(bed.written(), 10U);
  bed.pass(6 * kSecond);
  EXPECT_EQ(bed.written(), 20U);
}

TEST(FlusherTest, a_device_that_fails_every_write_keeps_nobody_busy) {
  FlushBed bed;
  bed.base.pages = 100;
  bed.disk().failures().arm(Failure::write_io, 1, FaultPlan::kAlways);
  bed.dirty(0, 80);
  while (!bed.flusher.balance_dirty().ok()) ASSERT_TRUE(bed.sim.complete_one());
  bed.pass(20 * kSecond);
  EXPECT_EQ(bed.buffers.dirty(), 80U);
  EXPECT_LE(bed.count(Counter::io_error), 80U) << "tried once";
  while (!bed.flusher.balance_dirty().ok()) {
    ASSERT_TRUE(bed.sim.complete_one()) << "waits for what does not come";
  }
  EXPECT_LE(bed.count(Counter::io_error), 80U);
  bed.pass(20 * kSecond);
  EXPECT_LT(80U, bed.count(Counter::io_error)) << "again when their time has come";
  EXPECT_LE(bed.count(Counter::io_error), 160U);
  bed.disk().failures().disarm_all();
  bed.pass(40 * kSecond);
  EXPECT_EQ(bed.buffers.dirty(), 0U);
  EXPECT_EQ(bed.stored(79), std::string(4096, 1));
}

TEST(FlusherTest, a_source_that_left_is_not_asked) {
  FlushBed bed;
  bed.dirty(0, 10);
  bed.flusher.remove(bed.buffers);
  bed.pass(50 * kSecond);
  EXPECT_EQ(bed.written(), 0U);
}

}  // namespace
}  // namespace spillway
