// Reclaim with everything below it real: which pages leave, what is left alone, and that it ends.
// Each test runs on a machine with accessed bits and on one like the host.
#include "reclaim/three_queue_policy.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "fault/fault_handler.h"
#include "space/space_bed_test.h"

namespace spillway {
namespace {

constexpr Vpn at(u64 page) { return Vpn(kSpaceRange.start.v + page); }
constexpr VpnRange pages(u64 first, u64 count) { return {at(first), at(first + count)}; }

class ReclaimTest : public ::testing::TestWithParam<bool>, protected FaultSink {
 protected:
  struct World : SwapBed {
    World(const SimConfig& config, u64 pool) : SwapBed(config) {
      allocator.set_reclaimer(reclaim);
      slabs.init(allocator, frames, machine().frames);
      EXPECT_TRUE(areas.init(slabs, KmemCacheConfig::core("area", sizeof(Area))).ok());
      rmap.init(slabs, frames);
      cache.init(slabs, allocator, frames, observer, sim.clock());
      cache.set_reclaimer(reclaim);
      EXPECT_TRUE(swap.init(machine(), allocator, frames, observer, PageCount(pool), 1 << 16).ok());
      EXPECT_TRUE(spaces.init(mm).ok());
      swap.set_reclaimer(reclaim);
      pageout.init(mm);
      reclaim.init(pageout, true);
      fault.init(mm, spaces, {1, 1, 0, 0});  // no windows: pages are touched one by one
      swap.set_swap_in_sink(fault);
      space = &spaces.at(spaces.create(kSpaceRange, PageCount(0)).value());
    }
    SlabChain slabs;
    KmemCache areas;
    Rmap rmap;
    PageCache cache;
    Commit commit;
    Swap swap;
    SpaceTable spaces;
    PageOut pageout;
    ThreeQueuePolicy reclaim;
    FaultHandler fault;
    MmContext mm{machine(), frames, allocator, swap, reclaim, observer, areas, rmap, cache, commit};
    AddressSpace* space = nullptr;
  };
  void start(u64 frame_count, u64 pool, u64 disk = 0) {
    SimConfig config = SwapBed::with_disk(frame_count, disk);
    config.features = Features{};
    if (GetParam()) config.features = SimConfig().features;
    config.features.zero_page = false;
    world_ = std::make_unique<World>(config, pool);
  }
  FaultOutcome on_fault(SpaceId, VirtAddr va, Access access, u32 attempt) override {
    return world_->fault.handle(*world_->space, va, access, attempt);
  }
  void map(u64 first, u64 count) {
    MapParams params;
    params.range = pages(first, count);
    params.prot = Prot::read_write;
    params.fixed = true;
    ASSERT_TRUE(world_->space->map(params).ok());
  }
  FaultOutcome touch(u64 page) {
    u8 byte;
    for (u32 attempt = 0; attempt < 1000; ++attempt) {
      const FaultOutcome outcome =
          world_->sim.load(*this, world_->space->id(), addr_of(at(page)), &byte, 1, attempt)
              .outcome;
      if (outcome != FaultOutcome::wait || !world_->sim.complete_one()) return outcome;
    }
    return FaultOutcome::wait;
  }
  FaultOutcome write(u64 page, Bytes kind = Bytes::text) {
    u8 bytes[kPageSize];
    make_page(bytes, page + 1, kind);
    for (u32 attempt = 0; attempt < 1000; ++attempt) {
      const FaultOutcome outcome =
          world_->sim
              .store(*this, world_->space->id(), addr_of(at(page)), bytes, kPageSize, attempt)
              .outcome;
      if (outcome != FaultOutcome::wait || !world_->sim.complete_one()) return outcome;
    }
    return FaultOutcome::wait;
  }
  void fill(u64 first, u64 count, Bytes kind = Bytes::text) {
    map(first, count);
    for (u64 i = first; i < first + count; ++i) ASSERT_EQ(write(i, kind), FaultOutcome::done);
  }
  void expect_page(u64 page, Bytes kind = Bytes::text) {
    ASSERT_EQ(touch(page), FaultOutcome::done);
    u8 bytes[kPageSize];
    ASSERT_FALSE(world_->sim.mmu()
                     .load(0, world_->space->id(), addr_of(at(page)), bytes, kPageSize)
                     .has_value());
    ASSERT_TRUE(is_page(bytes, page + 1, kind)) << page;
  }
  ReclaimOutcome reclaim(u64 want) { return world_->reclaim.reclaim(PageCount(want)); }
  u64 free_pages() const { return world_->allocator.free_pages().v; }
  bool evicted(u64 page) const {
    return world_->space->table().get(at(page)).is(Pte::Kind::swapped);
  }
  u64 count(Counter c) const { return world_->count(c); }
  void expect_sound() {
    EXPECT_TRUE(world_->space->validate());
    EXPECT_TRUE(world_->swap.validate());
    EXPECT_TRUE(world_->allocator.validate());
    EXPECT_TRUE(world_->reclaim.queues().validate());
    EXPECT_EQ(world_->sim.mmu().mirror_difference(), "");
  }

  std::unique_ptr<World> world_;
};

std::string machine_name(const ::testing::TestParamInfo<bool>& p) {
  return p.param ? "accessed_bit" : "host_like";
}
INSTANTIATE_TEST_SUITE_P(Machines, ReclaimTest, ::testing::Bool(), machine_name);

TEST_P(ReclaimTest, frees_what_it_is_asked_for_and_contents_come_back) {
  start(1024, 512);
  fill(0, 400);
  const u64 before = free_pages();
  EXPECT_EQ(reclaim(50), ReclaimOutcome::progress);
  EXPECT_GE(free_pages(), before + 50);
  EXPECT_LT(free_pages(), before + 120) << "far more than was asked for";
  EXPECT_FALSE(world_->allocator.in_reclaim());
  expect_sound();
  for (u64 i = 0; i < 400; ++i) expect_page(i);
}

TEST_P(ReclaimTest, i35_never_runs_inside_itself) {
  start(1024, 512);
  fill(0, 100);
  world_->allocator.enter_reclaim();
  EXPECT_EQ(reclaim(10), ReclaimOutcome::exhausted);
  EXPECT_EQ(world_->reclaim.page_out(world_->space->table().get(at(5)).pfn()),
            ReclaimOutcome::exhausted);
  EXPECT_TRUE(world_->allocator.in_reclaim());
  world_->allocator.leave_reclaim();
  EXPECT_EQ(count(Counter::pgsteal), 0U);
}

TEST_P(ReclaimTest, nothing_to_evict_is_exhausted) {
  start(1024, 512);
  EXPECT_EQ(reclaim(10), ReclaimOutcome::exhausted);
}

TEST_P(ReclaimTest, held_pages_are_rotated_and_others_taken) {
  start(1024, 512);
  fill(0, 200);
  for (u64 i = 0; i < 100; ++i) {
    ASSERT_TRUE(world_->sim.mmu().pin(world_->space->id(), at(i)));
  }
  EXPECT_EQ(reclaim(60), ReclaimOutcome::progress);
  for (u64 i = 0; i < 100; ++i)
    EXPECT_TRUE(world_->sim.mmu().is_mapped(world_->space->id(), at(i)));
  EXPECT_GT(count(Counter::pgrotated), 50U);
  expect_sound();
  world_->sim.mmu().unpin_all();
}

TEST_P(ReclaimTest, a_run_over_held_pages_ends) {
  start(1024, 512);
  fill(0, 200);
  for (u64 i = 0; i < 200; ++i) {
    ASSERT_TRUE(world_->sim.mmu().pin(world_->space->id(), at(i)));
  }
  EXPECT_EQ(reclaim(60), ReclaimOutcome::exhausted);
  EXPECT_LT(count(Counter::pgscan), 2000U);
  expect_sound();
  world_->sim.mmu().unpin_all();
  EXPECT_EQ(reclaim(60), ReclaimOutcome::progress);
}

TEST_P(ReclaimTest, a_run_looks_at_a_bounded_number_of_pages) {
  start(8192, 4096);
  fill(0, 6000);
  const u64 scanned = count(Counter::pgscan);
  EXPECT_EQ(reclaim(1), ReclaimOutcome::progress);
  // With accessed bits every page is young at first; still no run goes through all of them.
  EXPECT_LT(count(Counter::pgscan) - scanned, 4000U);
}

TEST_P(ReclaimTest, row_32_locked_pages_stay) {
  start(1024, 512);
  fill(0, 300);
  ASSERT_TRUE(world_->space->set_locked(pages(100, 50), true, PageCount(100)).ok());
  for (u32 i = 0; i < 6; ++i) (void)reclaim(50);
  for (u64 i = 100; i < 150; ++i) {
    EXPECT_TRUE(world_->space->table().get(at(i)).is(Pte::Kind::present)) << i;
  }
  expect_sound();
}

TEST_P(ReclaimTest, row_29_cold_pages_leave_and_hot_ones_stay) {
  start(2048, 1024);
  constexpr u64 kHot = 250;
  constexpr u64 kCold = 700;
  map(0, kHot + kCold);
  // Mixed in time and place, so that order of arrival says nothing.
  Prng prng(29);
  std::vector<u64> hot;
  std::vector<u64> cold;
  for (u64 i = 0; i < kHot + kCold; ++i) {
    const bool is_hot = prng.below(kHot + kCold) < kHot;
    (is_hot ? hot : cold).push_back(i);
    ASSERT_EQ(write(i), FaultOutcome::done);
  }
  u64 hot_evicted = 0;
  while (count(Counter::pgsteal) < cold.size() * 7 / 10) {
    for (u64 page : hot) {
      hot_evicted += evicted(page) ? 1 : 0;
      ASSERT_EQ(touch(page), FaultOutcome::done);
    }
    ASSERT_EQ(reclaim(16), ReclaimOutcome::progress);
  }
  EXPECT_LE(hot_evicted * 100, count(Counter::pgsteal) * 5)
      << hot_evicted << " of " << count(Counter::pgsteal);
  expect_sound();
}

TEST_P(ReclaimTest, row_31_swap_that_is_full_leaves_pages_as_they_are) {
  start(1024, 64);
  fill(0, 500, Bytes::random);
  ReclaimOutcome outcome = ReclaimOutcome::progress;
  for (u32 i = 0; i < 100 && outcome == ReclaimOutcome::progress; ++i) outcome = reclaim(16);
  EXPECT_EQ(outcome, ReclaimOutcome::exhausted);
  expect_sound();
  for (u64 i = 0; i < 500; ++i) expect_page(i, Bytes::random);
  expect_sound();
}

TEST_P(ReclaimTest, eviction_to_a_busy_disk_waits_and_goes_on) {
  start(1024, 64, 4096);
  fill(0, 500, Bytes::random);
  u32 waits = 0;
  for (u32 i = 0; i < 100; ++i) {
    const ReclaimOutcome outcome = reclaim(16);
    ASSERT_NE(outcome, ReclaimOutcome::exhausted) << i;
    if (outcome == ReclaimOutcome::wait) {
      ++waits;
      ASSERT_TRUE(world_->sim.complete_one());
    }
    if (world_->reclaim.queues().resident() < 100) break;
  }
  EXPECT_LT(world_->reclaim.queues().resident(), 200U);
  EXPECT_GT(waits, 0U);
  while (world_->sim.complete_one()) {
  }
  expect_sound();
  for (u64 i = 0; i < 500; ++i) expect_page(i, Bytes::random);
}

TEST_P(ReclaimTest, advice_about_single_pages) {
  start(1024, 512);
  fill(0, 100);
  const Pfn cold = world_->space->table().get(at(50)).pfn();
  world_->reclaim.page_cold(cold);
  EXPECT_EQ(world_->frames[cold].state, PageState::unmapped);
  EXPECT_EQ(world_->reclaim.queues().next_to_evict(), cold);
  world_->reclaim.page_cold(cold);
  EXPECT_EQ(world_->reclaim.page_out(cold), ReclaimOutcome::progress);
  EXPECT_TRUE(evicted(50));
  EXPECT_EQ(world_->reclaim.page_out(world_->space->table().get(at(51)).pfn()),
            ReclaimOutcome::progress);
  ASSERT_TRUE(world_->sim.mmu().pin(world_->space->id(), at(52)));
  EXPECT_EQ(world_->reclaim.page_out(world_->space->table().get(at(52)).pfn()),
            ReclaimOutcome::exhausted);
  world_->sim.mmu().unpin_all();
  for (u64 i = 49; i < 54; ++i) expect_page(i);
  expect_sound();
}

TEST_P(ReclaimTest, a_page_back_from_disk_soon_goes_to_main) {
  start(1024, 256, 4096);
  fill(0, 300, Bytes::random);
  for (u64 i = 100; i < 200; ++i) {
    world_->reclaim.page_cold(world_->space->table().get(at(i)).pfn());
    ASSERT_EQ(touch(i), FaultOutcome::done);  // a soft fault: to M
  }
  ASSERT_GE(world_->reclaim.queues().main(), 100U);
  for (u64 i = 0; i < 40; ++i) {
    ASSERT_EQ(world_->reclaim.page_out(world_->space->table().get(at(i)).pfn()),
              ReclaimOutcome::progress);
  }
  while (world_->swap.background_step()) {
  }
  while (world_->sim.complete_one()) {
  }
  u64 on_disk = 0;
  for (u64 i = 0; i < 40; ++i) {
    if (!world_->swap.on_disk(world_->space->table().get(at(i)).slot())) continue;
    ++on_disk;
    ASSERT_NO_FATAL_FAILURE(expect_page(i, Bytes::random));
    EXPECT_EQ(world_->frames[world_->space->table().get(at(i)).pfn()].queue, PageQueue::main);
  }
  EXPECT_GT(on_disk, 20U);
  EXPECT_EQ(count(Counter::workingset_activate), on_disk);
  expect_sound();
}

// Devices hold a page once in a while, growth fails, the disk is slow: it must neither end in
// disorder nor lose a byte.
TEST_P(ReclaimTest, random_touches_under_pressure_lose_nothing) {
  for (u64 seed = 1; seed <= 3; ++seed) {
    SimConfig config = SwapBed::with_disk(512, 2048);
    config.seed = seed;
    config.busy_one_in = 13;
    config.features = Features{};
    config.features.accessed_bit = GetParam();
    world_ = std::make_unique<World>(config, 96);
    map(0, 1500);
    std::vector<bool> written(1500);
    Prng prng(seed);
    for (u32 step = 0; step < 6000; ++step) {
      const u64 page = prng.one_in(2) ? prng.below(200) : prng.below(1500);
      const Bytes kind = kAllBytes[page % 5];
      if (!written[page]) {
        ASSERT_EQ(write(page, kind), FaultOutcome::done) << step;
        written[page] = true;
      } else {
        ASSERT_NO_FATAL_FAILURE(expect_page(page, kind)) << step;
      }
    }
    expect_sound();
  }
}

}  // namespace
}  // namespace spillway
