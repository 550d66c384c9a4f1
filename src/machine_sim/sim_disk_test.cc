#include "machine_sim/sim_disk.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "machine_sim/panic_text_test.h"
#include "machine_sim/sim_machine.h"

namespace spillway {
namespace {

constexpr u32 kFrames = 64;

class SimDiskTest : IoSink {
 public:
  explicit SimDiskTest(u64 seed = 1, bool shared = true) : sim(config(seed, shared)) {
    sim.frames().acquire_quota(PageCount(kFrames));
    SPW_ASSERT(sim.frames().bring_online(Pfn(0), PageCount(kFrames)).ok());
    segment = sim.disk().claim_segment().value();
  }
  static SimConfig config(u64 seed, bool shared) {
    SimConfig c;
    c.seed = seed;
    c.features.shared_frames = shared;
    c.frames = PageCount(kFrames);
    c.disk_pages = PageCount(4 * kIoFramesMax);
    return c;
  }
  IoRequest& submit(IoOp op, u64 block, u32 frame, u32 count) {
    IoRequest& r = requests_[next_++];
    r.op = op;
    r.block = segment * kIoFramesMax + block;
    r.count = count;
    for (u32 i = 0; i < count; ++i) r.frames[i] = Pfn(frame + i);
    r.sink = this;
    r.cookie = next_;
    sim.disk().submit(r);
    return r;
  }
  // Submits and completes; the error's name or "ok".
  std::string run(IoOp op, u64 block, u32 frame, u32 count) {
    submit(op, block, frame, count);
    while (sim.complete_one()) {
    }
    return last;
  }
  void fill(u32 frame, u8 value) { std::memset(home(frame), value, kPageSize); }
  u8* home(u32 frame) { return sim.frames().bytes(Pfn(frame)); }

  SimMachine sim;
  u64 segment;
  std::string last;
  std::string order;

 private:
  void io_done(IoRequest& request, Status status) override {
    last = status.ok() ? "ok" : name_of(status.error());
    order += static_cast<char>('a' + request.cookie);
  }
  IoRequest requests_[64];
  u32 next_ = 0;
};

TEST(SimDisk, requests_end_in_virtual_time_in_an_order_of_the_seed) {
  std::string orders[3];
  for (u64 i = 0; i < 3; ++i) {
    SimDiskTest t(i < 2 ? 7 : 8);
    const u64 start = t.sim.clock().now_ns();
    for (u32 k = 0; k < 10; ++k) t.submit(IoOp::write, k, k, 1);
    EXPECT_EQ(t.sim.pending(), 10U);
    t.sim.advance(10);
    EXPECT_EQ(t.sim.pending(), 10U) << "nothing ends before the shortest latency";
    t.sim.advance(500'000);
    EXPECT_EQ(t.sim.pending(), 0U);
    EXPECT_EQ(t.sim.clock().now_ns(), start + 500'010);
    orders[i] = t.order;
  }
  EXPECT_EQ(orders[0], orders[1]);
  EXPECT_NE(orders[0], orders[2]);
}

TEST(SimDisk, a_read_fills_its_frames_at_completion_only) {
  SimDiskTest t;
  t.fill(0, 1);
  EXPECT_EQ(t.run(IoOp::write, 0, 0, 1), "ok");
  t.fill(5, 9);
  t.submit(IoOp::read, 0, 5, 1);
  EXPECT_TRUE(all_bytes_are(t.home(5), SimFrames::kReadingPattern));
  EXPECT_TRUE(t.sim.complete_one());
  EXPECT_TRUE(all_bytes_are(t.home(5), 1));
  EXPECT_FALSE(t.sim.complete_one());
}

TEST(SimDisk, unwritten_and_released_blocks_hold_no_old_data) {
  SimDiskTest t;
  EXPECT_EQ(t.run(IoOp::read, 3, 0, 1), "ok");
  EXPECT_TRUE(all_bytes_are(t.home(0), SimDisk::kUnwrittenPattern));
  t.fill(0, 1);
  t.run(IoOp::write, 3, 0, 1);
  t.sim.disk().release_segment(t.segment);
  ASSERT_EQ(t.sim.disk().claim_segment().value(), t.segment);
  t.run(IoOp::read, 3, 0, 1);
  EXPECT_TRUE(all_bytes_are(t.home(0), SimDisk::kUnwrittenPattern));
}

TEST(SimDisk, fails_on_demand) {
  SimDiskTest t;
  FaultPlan& plan = t.sim.failures();
  for (u32 i = 0; i < 4; ++i) t.fill(i, 1);
  EXPECT_EQ(t.run(IoOp::write, 0, 0, 4), "ok");
  for (u32 i = 0; i < 4; ++i) t.fill(i, 2);
  plan.arm(Failure::write_io, 1);
  EXPECT_EQ(t.run(IoOp::write, 0, 0, 4), "EIO");
  t.run(IoOp::read, 0, 8, 4);
  EXPECT_TRUE(all_bytes_are(t.home(8), 1));
  plan.arm(Failure::write_no_space, 1);
  EXPECT_EQ(t.run(IoOp::write, 0, 0, 4), "ENOSPC");
  plan.arm(Failure::write_torn, 1);
  EXPECT_EQ(t.run(IoOp::write, 0, 0, 4), "EIO");
  EXPECT_EQ(t.sim.disk().damaged(), 0U) << "the failure was reported";
  plan.arm(Failure::write_lost, 1);
  for (u32 i = 0; i < 4; ++i) t.fill(i, 3);
  EXPECT_EQ(t.run(IoOp::write, 0, 0, 3), "ok");
  EXPECT_EQ(t.sim.disk().damaged(), 2U);
  t.run(IoOp::read, 0, 8, 4);
  EXPECT_TRUE(all_bytes_are(t.home(8), 3));
  EXPECT_TRUE(all_bytes_are(t.home(9), 3, kPageSize / 2));
  EXPECT_TRUE(all_bytes_are(t.home(9) + kPageSize / 2, 2, kPageSize / 2));
  EXPECT_TRUE(all_bytes_are(t.home(10), 1));
  plan.arm(Failure::read_io, 1);
  EXPECT_EQ(t.run(IoOp::read, 0, 8, 1), "EIO");
  plan.arm(Failure::read_flip, 1);
  EXPECT_EQ(t.run(IoOp::read, 0, 8, 1), "ok");
  EXPECT_FALSE(all_bytes_are(t.home(8), 3));
}

TEST(SimDisk, segments_run_out_and_relatives_keep_them) {
  SimDiskTest t;
  SimDisk& disk = t.sim.disk();
  disk.set_segments_max(2);
  const u64 other = disk.claim_segment().value();
  EXPECT_EQ(disk.claim_segment().error(), Error::no_space);
  t.fill(0, 1);
  t.run(IoOp::write, 0, 0, 1);
  disk.add_relative(t.segment);
  EXPECT_FALSE(disk.sole_owner(t.segment));
  disk.release_segment(t.segment);
  EXPECT_EQ(disk.segments_claimed(), 1U);
  EXPECT_NE(disk.claim_segment().value(), t.segment);
  disk.remove_relative(t.segment);
  disk.release_segment(other);
  EXPECT_EQ(disk.claim_segment().value(), t.segment);
  t.sim.failures().arm(Failure::claim_segment, 1);
  disk.release_segment(t.segment);
  EXPECT_EQ(disk.claim_segment().error(), Error::no_space);
}

TEST(SimDiskDeathTest, careless_use_is_a_panic) {
  print_panics();
  SimDiskTest t(1, false);
  t.submit(IoOp::write, 0, 0, 2);
  EXPECT_DEATH(t.submit(IoOp::read, 1, 8, 1), "overlap");
  EXPECT_DEATH(t.sim.disk().release_segment(t.segment), "while a write to it is in flight");
  EXPECT_DEATH(t.submit(IoOp::read, kIoFramesMax, 8, 1), "mine");
  EXPECT_DEATH(t.sim.frames().take_offline(Pfn(1), PageCount(1)), "transfers");
  EXPECT_DEATH(t.sim.mmu().map(SpaceId(1), VirtAddr(0), Pfn(0), 1, Prot::read), "transfers");
  t.home(1)[77] ^= 1;
  EXPECT_DEATH(t.sim.complete_one(), "buffer changed");
  t.home(1)[77] ^= 1;
  EXPECT_TRUE(t.sim.complete_one());
  t.sim.disk().add_relative(t.segment);
  EXPECT_DEATH(t.submit(IoOp::write, 0, 0, 1), "relatives");
}

}  // namespace
}  // namespace spillway
