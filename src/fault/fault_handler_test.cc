// The fault handler on the simulated machine: what each kind of entry becomes, how many faults a
// scan costs, what waits and what fails. Ageing is faked: nothing is evicted but by the test.
#include "fault/fault_handler.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "space/space_bed_test.h"

namespace spillway {
namespace {

constexpr Vpn at(u64 page) { return Vpn(kSpaceRange.start.v + page); }
constexpr VpnRange pages(u64 first, u64 count) { return {at(first), at(first + count)}; }

class FaultTest : public ::testing::Test, protected FaultSink {
 protected:
  void start(u64 frame_count = 4096, u64 disk = 0, Features features = {},
             FaultConfig config = {4, 32, 16}) {
    bed_ = std::make_unique<SpaceBed>(frame_count, disk, features);
    handler_ = std::make_unique<FaultHandler>();
    handler_->init(bed_->mm, bed_->spaces, config);
    bed_->swap.set_swap_in_sink(*handler_);
  }
  FaultOutcome on_fault(SpaceId, VirtAddr va, Access access, u32 attempt) override {
    return handler_->handle(*bed_->space, va, access, attempt);
  }
  // Reads the page as a program does; counts its waits.
  FaultOutcome read(Vpn vpn, u8* out) {
    for (u32 attempt = 0; attempt < 1000; ++attempt) {
      const FaultOutcome outcome =
          bed_->sim.load(*this, bed_->space->id(), addr_of(vpn), out, kPageSize, attempt).outcome;
      if (outcome != FaultOutcome::wait) return outcome;
      ++waits_;
      if (!bed_->sim.complete_one()) return outcome;
    }
    return FaultOutcome::wait;
  }
  FaultOutcome write(Vpn vpn, u64 id, Bytes kind = Bytes::text) {
    u8 page[kPageSize];
    make_page(page, id, kind);
    return bed_->sim.store(*this, bed_->space->id(), addr_of(vpn), page, kPageSize).outcome;
  }
  void expect_page(Vpn vpn, u64 id, Bytes kind = Bytes::text) {
    u8 page[kPageSize];
    ASSERT_EQ(read(vpn, page), FaultOutcome::done);
    ASSERT_TRUE(is_page(page, id, kind)) << vpn.v - kSpaceRange.start.v;
  }
  // Pages [first, first + count) hold contents i + 1 and are all swapped out, in order.
  void swap_out(u64 first, u64 count, Bytes kind = Bytes::text) {
    ASSERT_TRUE(bed_->map_at(at(first), count).ok());
    for (u64 i = 0; i < count; ++i) {
      bed_->touch(at(first + i), first + i + 1, kind);
      bed_->evict(at(first + i));
    }
    if (bed_->sim.has_disk()) bed_->spill();
  }
  u64 faults_of(u64 first, i64 stride, u64 count, Bytes kind) {
    const u64 before = this->count(Counter::pgfault);
    for (u64 i = 0; i < count; ++i) {
      const u64 page = static_cast<u64>(static_cast<i64>(first) + stride * static_cast<i64>(i));
      expect_page(at(page), page + 1, kind);
      if (HasFatalFailure()) break;
    }
    return this->count(Counter::pgfault) - before;
  }
  u64 count(Counter c) const { return bed_->count(c); }
  FaultOutcome fault(u64 page, Access access = Access::read) {
    return handler_->handle(*bed_->space, addr_of(at(page)), access, 0);
  }

  std::unique_ptr<SpaceBed> bed_;
  std::unique_ptr<FaultHandler> handler_;
  u32 waits_ = 0;
};

TEST_F(FaultTest, outcomes_that_are_decided_by_the_area) {
  start();
  ASSERT_TRUE(bed_->map_at(at(1000), 1, Prot::read).ok());
  ASSERT_TRUE(bed_->map_at(at(1001), 1, Prot::none).ok());
  ASSERT_TRUE(bed_->map_at(at(1002), 1, Prot::read_write).ok());
  EXPECT_EQ(fault(999), FaultOutcome::maperr);
  EXPECT_EQ(fault(1000, Access::write), FaultOutcome::accerr);
  EXPECT_EQ(fault(1000, Access::exec), FaultOutcome::accerr);
  EXPECT_EQ(fault(1001), FaultOutcome::accerr);
  EXPECT_EQ(fault(1002, Access::exec), FaultOutcome::accerr);
  EXPECT_EQ(count(Counter::pgfault), 0U) << "refused accesses are no faults served";
  EXPECT_EQ(fault(1000), FaultOutcome::done);
  EXPECT_EQ(fault(1000), FaultOutcome::done) << "somebody else was faster";
  EXPECT_EQ(count(Counter::pgfault), 1U);
  MapParams params;
  params.range = pages(2000, 1);
  params.fixed = true;
  params.foreign = true;
  ASSERT_TRUE(bed_->space->map(params).ok());
  EXPECT_EQ(fault(2000), FaultOutcome::done) << "not our business any more";
}

TEST_F(FaultTest, a_first_touch_reads_zeros_from_a_used_frame) {
  start();
  for (u32 i = 0; i < 300; ++i) {
    const Pfn pfn = bed_->take();
    std::memset(bed_->bytes(pfn), 0xAA, kPageSize);
    bed_->allocator.free(pfn, 0);
  }
  ASSERT_TRUE(bed_->map_at(at(1000), 64).ok());
  u8 page[kPageSize];
  for (u64 i = 0; i < 64; ++i) {
    ASSERT_EQ(read(at(1000 + i), page), FaultOutcome::done);
    ASSERT_TRUE(all_bytes_are(page, 0));
  }
  EXPECT_EQ(count(Counter::pgfresh), 64U);
  EXPECT_TRUE(bed_->sound());
}

TEST_F(FaultTest, row_19_and_20_reads_share_the_zero_page_and_a_write_gets_its_own) {
  start(2048, 0, SimConfig().features);
  ASSERT_TRUE(bed_->map_at(at(1000), 1000).ok());
  const u64 user_pages = bed_->sim.mmu().mapped_pages();
  u8 page[kPageSize];
  for (u64 i = 0; i < 1000; ++i) {
    ASSERT_EQ(read(at(1000 + i), page), FaultOutcome::done);
    ASSERT_TRUE(all_bytes_are(page, 0));
  }
  EXPECT_EQ(bed_->sim.mmu().mapped_pages(), user_pages);
  EXPECT_EQ(count(Counter::pgfresh), 0U);
  ASSERT_EQ(write(at(1500), 7), FaultOutcome::done);
  EXPECT_EQ(count(Counter::pgfresh), 1U);
  expect_page(at(1500), 7);
  ASSERT_EQ(read(at(1501), page), FaultOutcome::done);
  EXPECT_TRUE(all_bytes_are(page, 0));
  EXPECT_TRUE(bed_->sound());
}

TEST_F(FaultTest, a_soft_fault_brings_the_same_frame_back) {
  start();
  ASSERT_TRUE(bed_->map_at(at(1000), 4).ok());
  bed_->touch(at(1001), 5);
  const Pfn pfn = bed_->space->table().get(at(1001)).pfn();
  bed_->unmap_page(at(1001));
  expect_page(at(1001), 5);
  EXPECT_EQ(bed_->space->table().get(at(1001)).pfn(), pfn);
  EXPECT_EQ(count(Counter::pgsoftfault), 1U);
  EXPECT_EQ(count(Counter::pgmajfault), 0U);
}

TEST_F(FaultTest, first_touches_of_a_scan_come_in_windows) {
  start();
  ASSERT_TRUE(bed_->map_at(at(1000), 1024).ok());
  for (u64 i = 0; i < 1024; ++i) ASSERT_EQ(write(at(1000 + i), i), FaultOutcome::done);
  EXPECT_LT(count(Counter::pgfault), 80U);  // 16 a time
  EXPECT_EQ(count(Counter::pgfresh), 1024U);
  EXPECT_EQ(count(Counter::pgfault_around), 1024U - count(Counter::pgfault));
}

TEST_F(FaultTest, first_touches_can_come_one_by_one) {
  start(4096, 0, {}, {4, 32, 0});
  ASSERT_TRUE(bed_->map_at(at(1000), 100).ok());
  for (u64 i = 0; i < 100; ++i) ASSERT_EQ(write(at(1000 + i), i), FaultOutcome::done);
  EXPECT_EQ(count(Counter::pgfault), 100U);
}

TEST_F(FaultTest, scans_of_the_pool_take_few_faults) {
  start();
  swap_out(1000, 1024);
  EXPECT_LT(faults_of(1000, 1, 1024, Bytes::text), 50U) << "forward";
  start();
  swap_out(1000, 1024);
  EXPECT_LT(faults_of(2023, -1, 1024, Bytes::text), 50U) << "backward";
  start();
  swap_out(1000, 3000);
  EXPECT_LT(faults_of(1000, 3, 1000, Bytes::text), 55U) << "every third page";
  EXPECT_EQ(count(Counter::pswpin), count(Counter::pswpin_ra) + count(Counter::pgfault));
  EXPECT_TRUE(bed_->sound());
}

TEST_F(FaultTest, random_reads_of_the_pool_bring_in_nothing_else) {
  start(8192);
  swap_out(1000, 4000);
  Prng prng(1);
  for (u32 i = 0; i < 300; ++i) {
    const u64 page = 1000 + prng.below(4000);
    expect_page(at(page), page + 1);
  }
  EXPECT_LT(count(Counter::pswpin_ra), 60U);
}

TEST_F(FaultTest, row_39_a_scan_of_the_disk_reads_windows_and_ahead) {
  start(4096, 4096);
  swap_out(1000, 1024, Bytes::random);
  const u64 reads_before = count(Counter::disk_reads);
  waits_ = 0;
  const u64 faults = faults_of(1000, 1, 1024, Bytes::random);
  EXPECT_LT(faults, 1024U / 8);
  EXPECT_LT(count(Counter::disk_reads) - reads_before, 1024U / 4);
  EXPECT_GT(count(Counter::swap_ra_hit), 900U);
  EXPECT_LT(waits_, 200U);
  EXPECT_TRUE(bed_->sound());
}

// A page that a program waited for was not read ahead of its use.
TEST_F(FaultTest, a_page_that_was_waited_for_is_no_readahead_hit) {
  start(4096, 4096);
  swap_out(1000, 1024, Bytes::random);
  Prng prng(9);
  u64 on_disk = 0;
  for (u32 i = 0; i < 100; ++i) {
    const u64 page = 1000 + i * 10 + prng.below(3);
    const Pte pte = bed_->space->table().get(at(page));
    if (pte.is(Pte::Kind::swapped) && bed_->swap.on_disk(pte.slot())) ++on_disk;
    expect_page(at(page), page + 1, Bytes::random);
  }
  ASSERT_GT(on_disk, 50U);
  EXPECT_GE(bed_->ageing.refaults, on_disk * 9 / 10);
  EXPECT_LE(count(Counter::swap_ra_hit), count(Counter::pswpin_ra));
}

TEST_F(FaultTest, row_38_a_page_from_disk_keeps_its_copy_until_it_changes) {
  start(4096, 8192);
  swap_out(1000, 200, Bytes::random);
  expect_page(at(1000), 1001, Bytes::random);
  const Pfn pfn = bed_->space->table().get(at(1000)).pfn();
  const SlotId slot = bed_->frames[pfn].slot;
  ASSERT_TRUE(slot.valid());
  EXPECT_EQ(bed_->swap.refs(slot), 1U);
  const u64 writes = count(Counter::pswpout);
  bed_->evict(at(1000));
  EXPECT_EQ(count(Counter::pswpout), writes);
  EXPECT_EQ(bed_->space->table().get(at(1000)).slot(), slot);
  // Row 37: written, it goes out again under the same number.
  expect_page(at(1000), 1001, Bytes::random);
  ASSERT_EQ(write(at(1000), 77, Bytes::random), FaultOutcome::done);
  bed_->evict(at(1000));
  EXPECT_EQ(count(Counter::pswpout), writes + 1);
  EXPECT_EQ(bed_->space->table().get(at(1000)).slot(), slot);
  expect_page(at(1000), 77, Bytes::random);
  EXPECT_TRUE(bed_->sound());
}

TEST_F(FaultTest, row_42_many_waiters_share_one_read) {
  start(4096, 4096);
  swap_out(1000, 200, Bytes::random);
  const u64 reads = count(Counter::disk_reads);
  for (u32 i = 0; i < 8; ++i) EXPECT_EQ(fault(1000), FaultOutcome::wait);
  EXPECT_EQ(count(Counter::disk_reads), reads + 1);
  while (bed_->sim.complete_one()) {
  }
  expect_page(at(1000), 1001, Bytes::random);
  EXPECT_EQ(count(Counter::disk_reads), reads + 1);
}

TEST_F(FaultTest, row_41_a_read_error_is_a_bus_error_once) {
  start(4096, 4096);
  swap_out(1000, 200, Bytes::random);
  bed_->sim.failures().arm(Failure::read_io, 1);
  u8 page[kPageSize];
  EXPECT_EQ(read(at(1000), page), FaultOutcome::bus);
  expect_page(at(1000), 1001, Bytes::random);
  EXPECT_TRUE(bed_->sound());
}

TEST_F(FaultTest, a_corrupt_page_is_never_mapped) {
  start(4096, 4096);
  swap_out(1000, 200, Bytes::random);
  for (u64 block = 0; block < 4096; ++block) bed_->sim.disk().flip_bit(block, 777);
  u8 page[kPageSize];
  for (u32 i = 0; i < 3; ++i) EXPECT_EQ(read(at(1000), page), FaultOutcome::corrupt);
  EXPECT_TRUE(bed_->space->table().get(at(1000)).is(Pte::Kind::swapped));
}

TEST_F(FaultTest, memory_that_is_full_is_an_outcome_and_changes_nothing) {
  start(1024);
  swap_out(1000, 64);
  std::vector<Pfn> taken;
  for (Result<Pfn> p = bed_->allocator.alloc(0, AllocFlags{}); p.ok();
       p = bed_->allocator.alloc(0, AllocFlags{})) {
    taken.push_back(p.value());
  }
  bed_->ageing.outcome = ReclaimOutcome::exhausted;
  EXPECT_EQ(fault(1000), FaultOutcome::oom);
  EXPECT_EQ(fault(1001), FaultOutcome::oom);
  bed_->ageing.outcome = ReclaimOutcome::wait;
  EXPECT_EQ(fault(1000), FaultOutcome::wait);
  EXPECT_TRUE(bed_->sound());
  // With a few frames, a window is as small as it must be.
  for (u32 i = 0; i < 3; ++i) {
    bed_->allocator.free(taken.back(), 0);
    taken.pop_back();
  }
  for (u64 i = 0; i < 3; ++i) expect_page(at(1000 + i), 1001 + i);
  for (Pfn pfn : taken) bed_->allocator.free(pfn, 0);
  for (u64 i = 3; i < 64; ++i) expect_page(at(1000 + i), 1001 + i);
  EXPECT_TRUE(bed_->sound());
}

// With n frames left, a fault in a fresh place fails in its first, second, third table and its
// page.
TEST_F(FaultTest, every_allocation_of_a_fault_fails_once) {
  start(1024);
  ASSERT_TRUE(bed_->map_at(at(1000), 64).ok());
  std::vector<Pfn> taken;
  for (Result<Pfn> p = bed_->allocator.alloc(0, AllocFlags{}); p.ok();
       p = bed_->allocator.alloc(0, AllocFlags{})) {
    taken.push_back(p.value());
  }
  for (u32 left = 0; left < 4; ++left) {
    EXPECT_EQ(fault(1000, Access::write), FaultOutcome::oom) << left;
    EXPECT_TRUE(bed_->sound());
    bed_->allocator.free(taken.back(), 0);
    taken.pop_back();
  }
  EXPECT_EQ(fault(1000, Access::write), FaultOutcome::done);
  EXPECT_TRUE(bed_->sound());
}

TEST_F(FaultTest, populate_makes_a_range_present_and_waits_for_the_disk) {
  start(4096, 4096);
  swap_out(1000, 100, Bytes::random);
  ASSERT_TRUE(bed_->map_at(at(1100), 50).ok());
  bed_->touch(at(1120), 5);
  bed_->unmap_page(at(1120));
  FaultOutcome outcome = FaultOutcome::wait;
  for (u32 i = 0; i < 1000 && outcome == FaultOutcome::wait; ++i) {
    outcome = handler_->populate(*bed_->space, pages(990, 170));
    if (outcome == FaultOutcome::wait) {
      ASSERT_TRUE(bed_->sim.complete_one());
    }
  }
  ASSERT_EQ(outcome, FaultOutcome::done);
  for (u64 i = 1000; i < 1150; ++i) {
    ASSERT_TRUE(bed_->space->table().get(at(i)).is(Pte::Kind::present)) << i;
  }
  expect_page(at(1050), 1051, Bytes::random);
  EXPECT_TRUE(bed_->sound());
}

TEST_F(FaultTest, will_need_uses_free_frames_only) {
  start(1024, 4096);
  swap_out(1000, 300, Bytes::text);
  handler_->will_need(*bed_->space, pages(1000, 300));
  while (bed_->sim.complete_one()) {
  }
  EXPECT_GT(count(Counter::pswpin), 20U);
  EXPECT_EQ(bed_->reclaimer.calls + bed_->ageing.calls, 0U) << "advice evicted something";
  EXPECT_TRUE(bed_->sound());
  for (u64 i = 0; i < 300; ++i) expect_page(at(1000 + i), 1001 + i);
  EXPECT_GT(count(Counter::swap_ra_hit), 20U);
}

TEST_F(FaultTest, windows_end_where_their_area_does) {
  start();
  ASSERT_TRUE(bed_->map_at(at(1000), 10).ok());
  ASSERT_TRUE(bed_->map_at(at(1010), 10, Prot::read).ok());
  for (u64 i = 0; i < 10; ++i) ASSERT_EQ(write(at(1000 + i), i), FaultOutcome::done);
  EXPECT_TRUE(bed_->space->table().get(at(1010)).none());
}

}  // namespace
}  // namespace spillway
