// The conformance suite's part about swap devices; see conformance.h.
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
    BlockDevice& disk = *this->m().swap_device;
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

REGISTER_TYPED_TEST_SUITE_P(DiskConformance, what_was_written_is_read_back,
                            many_requests_at_once_all_end, a_transfer_beyond_the_end_is_an_error,
                            segments_are_claimed_once);

}  // namespace spillway
