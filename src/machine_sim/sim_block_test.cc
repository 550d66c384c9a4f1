// Plain block devices: failures of their own, the order of completions over all devices, and
// writes of pages that programs use meanwhile.
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "machine_sim/panic_text_test.h"
#include "machine_sim/sim_machine.h"

namespace spillway {
namespace {

constexpr u32 kFrames = 64;
constexpr SpaceId kSpace{1};

class SimBlockTest : IoSink {
 public:
  explicit SimBlockTest(SimConfig c = {}) : sim(adjust(std::move(c))) {
    sim.frames().acquire_quota(PageCount(kFrames));
    SPW_ASSERT(sim.frames().bring_online(Pfn(0), PageCount(kFrames)).ok());
  }
  IoRequest& submit(SimDisk& disk, IoOp op, u64 block, u32 frame, u32 count = 1) {
    IoRequest& r = requests_[next_++];
    r.op = op;
    r.block = block;
    r.count = count;
    for (u32 i = 0; i < count; ++i) r.frames[i] = Pfn(frame + i);
    r.sink = this;
    r.cookie = next_ - 1;
    disk.submit(r);
    return r;
  }
  // Submits and completes; the error's name or "ok".
  std::string run(u32 device, IoOp op, u64 block, u32 frame, u32 count = 1) {
    submit(sim.block(device), op, block, frame, count);
    while (sim.complete_one()) {
    }
    return last;
  }
  void fill(u32 frame, u8 value) { std::memset(home(frame), value, kPageSize); }
  u8* home(u32 frame) { return sim.frames().bytes(Pfn(frame)); }
  void map(u32 frame) {
    sim.mmu().map(kSpace, VirtAddr(0x1000) + frame * kPageSize, Pfn(frame), 1, Prot::read_write);
  }
  void drop(u32 frame) {
    const Pfn pfn(frame);
    sim.mmu().drop(kSpace, VirtAddr(0x1000) + frame * kPageSize, &pfn, 1, Prot::read_write);
  }

  SimMachine sim;
  std::string last;
  std::string order;

 private:
  static SimConfig adjust(SimConfig c) {
    c.frames = PageCount(kFrames);
    c.disk_pages = PageCount(4 * kIoFramesMax);
    c.block_pages = {100, 33};
    return c;
  }
  void io_done(IoRequest& request, Status status) override {
    last = status.ok() ? "ok" : name_of(status.error());
    order += static_cast<char>('a' + request.cookie);
  }
  IoRequest requests_[64];
  u32 next_ = 0;
};

TEST(SimBlock, devices_are_known_by_number_and_name) {
  SimBlockTest t;
  Machine& m = t.sim.machine();
  ASSERT_EQ(m.block_device_count, 2U);
  EXPECT_EQ(t.sim.block_count(), 2U);
  EXPECT_EQ(m.block_devices[0], &t.sim.block(0));
  EXPECT_EQ(m.block_devices[1], &t.sim.block(1));
  EXPECT_EQ(m.block_devices[2], nullptr);
  EXPECT_EQ(t.sim.block(1).size().v, 33U);
  EXPECT_STREQ(t.sim.block(1).name(), "block1");
  EXPECT_EQ(t.sim.find_disk("block1"), &t.sim.block(1));
  EXPECT_EQ(t.sim.find_disk("swap"), &t.sim.disk());
  EXPECT_EQ(t.sim.find_disk("block2"), nullptr);
}

TEST(SimBlock, a_prepared_medium_is_read_and_written_pages_can_be_seen) {
  SimBlockTest t;
  SimDisk& disk = t.sim.block(0);
  u8 page[kPageSize];
  std::memset(page, 3, sizeof page);
  disk.store(17, page);
  EXPECT_EQ(t.run(0, IoOp::read, 16, 0, 2), "ok");
  EXPECT_TRUE(all_bytes_are(t.home(0), 0));
  EXPECT_TRUE(all_bytes_are(t.home(1), 3));
  EXPECT_EQ(disk.stored(18), nullptr);
  t.fill(4, 9);
  EXPECT_EQ(t.run(0, IoOp::write, 18, 4), "ok");
  EXPECT_TRUE(all_bytes_are(disk.stored(18), 9));
}

// Completions of all devices come in the order of their times, and equal times in the order of
// the devices.
TEST(SimBlock, completions_are_merged_in_time_order) {
  std::string orders[2];
  for (std::string& order : orders) {
    SimBlockTest t;
    SimDisk* disks[] = {&t.sim.block(1), &t.sim.disk(), &t.sim.block(0)};
    const u64 base = t.sim.disk().claim_segment().value() * kIoFramesMax;
    u64 due[12];
    for (u32 i = 0; i < 12; ++i) {
      t.submit(*disks[i % 3], IoOp::read, base + i, i);
    }
    EXPECT_EQ(t.sim.pending(), 12U);
    for (u32 i = 0; i < 12; ++i) {
      due[i] = t.sim.disk().next_completion_ns();
      for (u32 d = 0; d < 2; ++d) due[i] = std::min(due[i], t.sim.block(d).next_completion_ns());
      EXPECT_TRUE(t.sim.complete_one());
      EXPECT_EQ(t.sim.clock().now_ns(), due[i]);
      EXPECT_LE(due[i == 0 ? 0 : i - 1], due[i]);
    }
    EXPECT_EQ(t.sim.pending(), 0U);
    EXPECT_FALSE(t.sim.complete_one());
    order = t.order;
  }
  EXPECT_EQ(orders[0], orders[1]);

  SimConfig equal;
  equal.disk_latency_min_ns = equal.disk_latency_max_ns = 1000;
  SimBlockTest t(equal);
  const u64 base = t.sim.disk().claim_segment().value() * kIoFramesMax;
  t.submit(t.sim.block(1), IoOp::read, 0, 0);
  t.submit(t.sim.block(0), IoOp::read, 0, 1);
  t.submit(t.sim.disk(), IoOp::read, base, 2);
  t.submit(t.sim.block(0), IoOp::read, 1, 3);
  t.sim.advance(999);
  EXPECT_EQ(t.order, "");
  t.sim.advance(1);
  EXPECT_EQ(t.order, "cbda");
}

TEST(SimBlock, failures_belong_to_one_device) {
  SimBlockTest t;
  t.sim.block(0).failures().arm(Failure::read_io, 2);
  EXPECT_EQ(t.run(1, IoOp::read, 0, 0), "ok");
  EXPECT_EQ(t.run(1, IoOp::read, 0, 0), "ok");
  EXPECT_EQ(t.run(0, IoOp::read, 0, 0), "ok");
  EXPECT_EQ(t.run(0, IoOp::read, 0, 0), "EIO");
  EXPECT_EQ(t.run(0, IoOp::read, 0, 0), "ok");
  EXPECT_EQ(t.sim.block(0).failures().fired(Failure::read_io), 1U);
  EXPECT_EQ(t.sim.failures().fired(Failure::read_io), 0U);
  // The machine's plan is the swap device's.
  t.sim.failures().arm(Failure::write_io, 1, FaultPlan::kAlways);
  EXPECT_EQ(&t.sim.disk().failures(), &t.sim.failures());
  EXPECT_EQ(t.run(0, IoOp::write, 0, 0), "ok");
  // A full device stays full until it is called off.
  t.sim.block(1).failures().arm(Failure::write_no_space, 1, FaultPlan::kAlways);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(t.run(1, IoOp::write, 5, 0), "ENOSPC");
  EXPECT_EQ(t.run(1, IoOp::read, 5, 0), "ok");
  t.sim.block(1).failures().disarm(Failure::write_no_space);
  EXPECT_EQ(t.run(1, IoOp::write, 5, 0), "ok");
}

TEST(SimBlock, a_bad_block_fails_until_it_is_cleared) {
  SimBlockTest t;
  FaultPlan& plan = t.sim.block(0).failures();
  plan.fail_block(IoOp::read, 17);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(t.run(0, IoOp::read, 17, 0), "EIO");
    EXPECT_EQ(t.run(0, IoOp::read, 16, 0, 4), "EIO");
    EXPECT_EQ(t.run(0, IoOp::read, 10, 0, 7), "ok") << "ends before the block";
    EXPECT_EQ(t.run(0, IoOp::read, 18, 0, 4), "ok");
  }
  EXPECT_EQ(t.run(0, IoOp::write, 17, 0), "ok") << "writes are another matter";
  EXPECT_EQ(t.run(1, IoOp::read, 17, 0), "ok") << "and so are other devices";
  EXPECT_EQ(plan.fired(Failure::read_io), 6U);
  plan.fail_block(IoOp::write, 17);
  plan.fail_block(Failure::write_no_space, 40);
  EXPECT_EQ(t.run(0, IoOp::write, 17, 0), "EIO");
  EXPECT_EQ(t.run(0, IoOp::write, 38, 0, 4), "ENOSPC");
  plan.clear_block(17);
  EXPECT_EQ(t.run(0, IoOp::read, 17, 0), "ok");
  EXPECT_EQ(t.run(0, IoOp::write, 17, 0), "ok");
  EXPECT_EQ(t.run(0, IoOp::write, 40, 0), "ENOSPC");
  t.sim.disarm_all();
  EXPECT_EQ(t.run(0, IoOp::write, 40, 0), "ok");
}

TEST(SimBlock, torn_and_lost_writes_end_in_the_bad_block) {
  SimBlockTest t;
  SimDisk& disk = t.sim.block(0);
  for (u32 i = 0; i < 4; ++i) t.fill(i, 1);
  disk.failures().fail_block(Failure::write_torn, 12);
  EXPECT_EQ(t.run(0, IoOp::write, 10, 0, 4), "EIO");
  EXPECT_TRUE(all_bytes_are(disk.stored(11), 1));
  EXPECT_TRUE(all_bytes_are(disk.stored(12), 1, kPageSize / 2));
  EXPECT_TRUE(all_bytes_are(disk.stored(12) + kPageSize / 2, 0, kPageSize / 2));
  EXPECT_EQ(disk.stored(13), nullptr);
  EXPECT_EQ(disk.damaged(), 0U) << "the failure was reported";
  disk.failures().clear_blocks();
  disk.failures().fail_block(Failure::write_lost, 20);
  EXPECT_EQ(t.run(0, IoOp::write, 20, 0, 4), "ok");
  EXPECT_TRUE(all_bytes_are(disk.stored(20), 1, kPageSize / 2));
  EXPECT_EQ(disk.stored(21), nullptr);
  EXPECT_EQ(disk.damaged(), 4U);
  disk.failures().fail_block(Failure::read_flip, 11);
  EXPECT_EQ(t.run(0, IoOp::read, 10, 8, 2), "ok");
  EXPECT_TRUE(all_bytes_are(t.home(8), 1));
  EXPECT_FALSE(all_bytes_are(t.home(9), 1));
}

// A program writes to the page while the device does: each sector is old or new, both happen,
// and what is written afterwards does not arrive.
TEST(SimBlock, a_mapped_page_is_written_as_a_mixture) {
  SimBlockTest t;
  u32 old_sectors = 0;
  u32 new_sectors = 0;
  for (u32 frame = 0; frame < 8; ++frame) {
    t.fill(frame, 1);
    // Mapped before the write begins, or while it is in flight, and perhaps gone before it ends.
    if (frame % 2 == 0) t.map(frame);
    t.submit(t.sim.block(0), IoOp::write, frame, frame);
    if (frame % 2 == 1) t.map(frame);
    t.fill(frame, 2);
    if (frame % 4 < 2) t.drop(frame);
    EXPECT_TRUE(t.sim.complete_one());
    EXPECT_EQ(t.last, "ok");
    t.fill(frame, 3);
    const u8* page = t.sim.block(0).stored(frame);
    for (u64 at = 0; at < kPageSize; at += SimDisk::kSectorSize) {
      ASSERT_TRUE(all_bytes_are(page + at, page[at], SimDisk::kSectorSize));
      old_sectors += page[at] == 1 ? 1 : 0;
      new_sectors += page[at] == 2 ? 1 : 0;
    }
  }
  EXPECT_EQ(old_sectors + new_sectors, 8 * kPageSize / SimDisk::kSectorSize);
  EXPECT_GT(old_sectors, 10U);
  EXPECT_GT(new_sectors, 10U);
}

TEST(SimBlockDeathTest, careless_use_is_a_panic) {
  print_panics();
  SimBlockTest t;
  EXPECT_DEATH((void)t.sim.block(0).claim_segment(), "plain device");
  EXPECT_DEATH(t.sim.block(0).release_segment(0), "plain device");
  EXPECT_DEATH((void)t.sim.block(0).sole_owner(0), "plain device");
  t.map(0);
  EXPECT_DEATH(t.submit(t.sim.block(0), IoOp::read, 0, 0), "read into a mapped frame");
  t.submit(t.sim.block(0), IoOp::read, 0, 1);
  EXPECT_DEATH(t.map(1), "reads");
  t.submit(t.sim.block(0), IoOp::write, 1, 2);
  EXPECT_DEATH(t.submit(t.sim.block(0), IoOp::write, 1, 3), "overlap");
  t.submit(t.sim.block(1), IoOp::write, 1, 3);
  // Never mapped: the bytes must stay as they were.
  t.home(2)[7] ^= 1;
  EXPECT_DEATH(
      {
        while (t.sim.complete_one()) {
        }
      },
      "buffer changed");
  EXPECT_DEATH(t.sim.block(0).failures().fail_block(Failure::protect, 1), "write_no_space");
}

}  // namespace
}  // namespace spillway
