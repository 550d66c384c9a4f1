// The conformance suite's part about block devices; see conformance.h.
#pragma once

#include "machine/conformance_fixture.h"

namespace spillway {

// Collects what the device reports.
struct IoLog final : IoSink {
  u32 done = 0;
  u32 failed = 0;
  u64 cookies = 0;
  void io_done(IoRequest& request, Status status) override {
    ++done;
    failed += status.ok() ? 0 : 1;
    cookies += request.cookie;
  }
};

template <class Environment>
class DiskConformance : public MachineConformance<Environment> {
 protected:
  virtual BlockDevice& device() { return *this->m().swap_device; }
  void transfer(IoOp op, u64 block, u32 first, u32 count) {
    IoRequest request;
    request.op = op;
    request.block = block;
    request.count = count;
    for (u32 i = 0; i < count; ++i) request.frames[i] = Pfn(first + i);
    request.sink = &log_;
    request.cookie = 1000 + block;
    submit_and_wait(&request, 1);
  }
  void submit_and_wait(IoRequest* requests, u32 count) {
    BlockDevice& disk = device();
    const u32 done_before = log_.done;
    for (u32 i = 0; i < count; ++i) disk.submit(requests[i]);
    while (log_.done < done_before + count) {
      ASSERT_NE(disk.in_flight(), 0U);
      this->env_.wait_for_io();
    }
    EXPECT_EQ(disk.in_flight(), 0U);
  }
  IoLog log_;
};
TYPED_TEST_SUITE_P(DiskConformance);

TYPED_TEST_P(DiskConformance, what_was_written_is_read_back) {
  this->online(0, 2 * kIoFramesMax);
  const u64 segment = this->m().swap_device->claim_segment().value();
  const u64 block = segment * kIoFramesMax;
  this->fill(0, kIoFramesMax);
  this->transfer(IoOp::write, block, 0, kIoFramesMax);
  for (u32 i = 0; i < kIoFramesMax; ++i) EXPECT_EQ(this->home(Pfn(i)), this->stamp(i));
  this->transfer(IoOp::read, block + 3, kIoFramesMax, 2);
  EXPECT_EQ(this->home(Pfn(kIoFramesMax)), this->stamp(3));
  EXPECT_EQ(this->home(Pfn(kIoFramesMax + 1)), this->stamp(4));
  EXPECT_EQ(this->log_.failed, 0U);
  EXPECT_EQ(this->log_.cookies, 1000 + block + 1000 + block + 3);
  this->m().swap_device->release_segment(segment);
}

TYPED_TEST_P(DiskConformance, many_requests_at_once_all_end) {
  this->online(0, 8);
  const u64 block = this->m().swap_device->claim_segment().value() * kIoFramesMax;
  this->fill(0, 8);
  IoRequest requests[8];
  for (u32 pass = 0; pass < 2; ++pass) {
    for (u32 i = 0; i < 8; ++i) {
      requests[i] = IoRequest{};
      requests[i].op = pass == 0 ? IoOp::write : IoOp::read;
      requests[i].block = block + i;
      requests[i].count = 1;
      requests[i].frames[0] = Pfn(pass == 0 ? i : 7 - i);
      requests[i].sink = &this->log_;
    }
    this->submit_and_wait(requests, 8);
  }
  for (u32 i = 0; i < 8; ++i) EXPECT_EQ(this->home(Pfn(7 - i)), this->stamp(i));
  EXPECT_EQ(this->log_.failed, 0U);
}

TYPED_TEST_P(DiskConformance, a_transfer_beyond_the_end_is_an_error) {
  this->online(0, 2);
  const u64 size = this->m().swap_device->size().v;
  ASSERT_LE(TestFixture::kDiskPages, size);
  this->transfer(IoOp::read, size, 0, 1);
  this->transfer(IoOp::write, size + 1000, 0, 1);
  EXPECT_EQ(this->log_.failed, 2U);
}

TYPED_TEST_P(DiskConformance, segments_are_claimed_once) {
  BlockDevice& disk = *this->m().swap_device;
  const u64 first = disk.claim_segment().value();
  const u64 second = disk.claim_segment().value();
  EXPECT_NE(first, second);
  EXPECT_LE((first + 1) * kIoFramesMax, disk.size().v);
  EXPECT_TRUE(disk.sole_owner(first));
  disk.release_segment(first);
  EXPECT_TRUE(disk.sole_owner(second));
  u64 claimed = 1;
  while (claimed <= disk.size().v / kIoFramesMax) {
    const Result<u64> more = disk.claim_segment();
    if (!more.ok()) {
      EXPECT_EQ(more.error(), Error::no_space);
      break;
    }
    EXPECT_NE(more.value(), second);
    ++claimed;
  }
  EXPECT_EQ(claimed, disk.size().v / kIoFramesMax);
}

TYPED_TEST_P(DiskConformance, a_mapped_page_can_be_written_out) {
  if (!this->m().features.frame_bytes_while_mapped) {
    GTEST_SKIP() << "frames of requests are at home on this machine";
  }
  this->online(0, 2);
  const u64 block = this->m().swap_device->claim_segment().value() * kIoFramesMax;
  this->map(0, 0, 1, Prot::read_write);
  ASSERT_TRUE(this->write(0, this->stamp(150)));
  this->transfer(IoOp::write, block, 0, 1);
  this->transfer(IoOp::read, block, 1, 1);
  EXPECT_EQ(this->log_.failed, 0U);
  EXPECT_EQ(this->home(Pfn(1)), this->stamp(150));
  EXPECT_EQ(this->read(0), this->stamp(150));
}

// The plain devices, one after the other.
template <class Environment>
class PlainDiskConformance : public DiskConformance<Environment> {
 protected:
  void SetUp() override {
    if (this->m().block_device_count == 0) GTEST_SKIP() << "the machine has no plain devices";
  }
  BlockDevice& device() override { return *this->m().block_devices[number_]; }
  u32 number_ = 0;
};
TYPED_TEST_SUITE_P(PlainDiskConformance);

TYPED_TEST_P(PlainDiskConformance, unwritten_pages_are_zeros_and_written_ones_stay) {
  const u32 count = this->m().block_device_count;
  ASSERT_LE(count, Machine::kBlockDevicesMax);
  this->online(0, count + 2);
  this->fill(0, count);
  for (this->number_ = 0; this->number_ < count; ++this->number_) {
    ASSERT_LE(TestFixture::kDiskPages, this->device().size().v);
    this->transfer(IoOp::write, 5, this->number_, 1);
  }
  // Twice, and after all were written: devices share nothing, and reading takes nothing away.
  for (u32 pass = 0; pass < 2; ++pass) {
    for (this->number_ = 0; this->number_ < count; ++this->number_) {
      this->transfer(IoOp::read, 5, count, 2);
      EXPECT_EQ(this->home(Pfn(count)), this->stamp(this->number_));
      EXPECT_TRUE(this->home(Pfn(count + 1)).is_zero());
    }
  }
  EXPECT_EQ(this->log_.failed, 0U);
}

TYPED_TEST_P(PlainDiskConformance, the_last_page_is_there_and_the_next_one_is_not) {
  this->online(0, 3);
  this->fill(0, 2);
  const u64 size = this->device().size().v;
  this->transfer(IoOp::write, size - 1, 0, 1);
  this->transfer(IoOp::read, size - 1, 2, 1);
  EXPECT_EQ(this->home(Pfn(2)), this->stamp(0));
  EXPECT_EQ(this->log_.failed, 0U);
  this->transfer(IoOp::write, size - 1, 0, 2);
  this->transfer(IoOp::read, size, 2, 1);
  EXPECT_EQ(this->log_.failed, 2U);
}

REGISTER_TYPED_TEST_SUITE_P(PlainDiskConformance, unwritten_pages_are_zeros_and_written_ones_stay,
                            the_last_page_is_there_and_the_next_one_is_not);
REGISTER_TYPED_TEST_SUITE_P(DiskConformance, what_was_written_is_read_back,
                            many_requests_at_once_all_end, a_transfer_beyond_the_end_is_an_error,
                            segments_are_claimed_once, a_mapped_page_can_be_written_out);

}  // namespace spillway
