// A System on the simulated machine: whole scenarios through the public calls, with an audit
// after each. The property test in tests/sim goes much further; these are the readable cases.
#include "system/system.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "machine_sim/sim_machine.h"
#include "system/system_impl.h"

namespace spillway {
namespace {

constexpr VirtAddr kBase{u64{1} << 32};
constexpr VpnRange kRange{kBase.vpn(), kBase.vpn() + (u64{1} << 24)};

// What a page is filled with.
enum class Fill { compressible, random, same };

class SystemTest : public ::testing::Test {
 protected:
  void start(u64 frames, u64 pool, u64 disk, bool host_like = true) {
    SimConfig config;
    config.frames = PageCount(frames);
    config.disk_pages = PageCount(disk);
    if (host_like) config.features = Features{};
    sim_ = std::make_unique<SimMachine>(config);
    Config c;
    c.pool_max = PageCount(pool);
    const Result<System*> system = System::boot(sim_->machine(), c, counters_, ring_);
    ASSERT_TRUE(system.ok()) << name_of(system.error());
    system_ = system.value();
    const Result<SpaceId> space = system_->create_space(kRange, PageCount(1 << 20));
    ASSERT_TRUE(space.ok());
    space_ = space.value();
  }
  void audit() {
    const AuditReport report = system_->audit();
    ASSERT_TRUE(report.ok) << report.what << " " << report.left << " " << report.right;
    ASSERT_EQ(sim_->mmu().mirror_difference(), "");
  }
  VirtAddr map(u64 pages, Prot prot = Prot::read_write) {
    MmapRequest request;
    request.length = pages * kPageSize;
    request.prot = prot;
    const Result<u64> at = system_->mmap(space_, request);
    EXPECT_TRUE(at.ok());
    return VirtAddr(at.value());
  }
  // Repeats an access that waits until it has an outcome.
  template <class Fn>
  FaultOutcome finish(Fn access) {
    for (u32 attempt = 0; attempt < 10000; ++attempt) {
      const FaultOutcome outcome = access(attempt).outcome;
      if (outcome != FaultOutcome::wait) return outcome;
      if (!sim_->complete_one()) return FaultOutcome::wait;
    }
    return FaultOutcome::wait;
  }
  template <class Fn>
  Result<u64> finish_call(Fn call) {
    for (;;) {
      const Result<u64> result = call();
      if (result.ok() || result.error() != Error::wait) return result;
      if (!sim_->complete_one()) return result;
    }
  }
  static void make_page(u8* page, u64 id, Fill fill) {
    switch (fill) {
      case Fill::same: std::memset(page, static_cast<int>(id & 0xff), kPageSize); break;
      case Fill::compressible:
        std::memset(page, 0, kPageSize);
        for (u64 i = 0; i < kPageSize; i += 64) std::memcpy(page + i, &id, sizeof id);
        break;
      case Fill::random: {
        Prng prng(id);
        for (u64 i = 0; i < kPageSize; i += 8) {
          const u64 v = prng.next();
          std::memcpy(page + i, &v, 8);
        }
      }
    }
  }
  FaultOutcome store_page(VirtAddr va, u64 id, Fill fill) {
    u8 page[kPageSize];
    make_page(page, id, fill);
    return finish([&](u32 n) { return sim_->store(*system_, space_, va, page, kPageSize, n); });
  }
  void expect_page(VirtAddr va, u64 id, Fill fill) {
    u8 want[kPageSize];
    u8 got[kPageSize] = {};
    make_page(want, id, fill);
    ASSERT_EQ(finish([&](u32 n) { return sim_->load(*system_, space_, va, got, kPageSize, n); }),
              FaultOutcome::done);
    ASSERT_EQ(std::memcmp(want, got, kPageSize), 0) << "page " << id;
  }
  u64 count(Counter c) const { return counters_[c]; }

  Counters counters_{};
  EventRing ring_;
  std::unique_ptr<SimMachine> sim_;
  System* system_ = nullptr;
  SpaceId space_;
};

TEST_F(SystemTest, untouched_memory_reads_as_zero) {
  start(512, 128, 0);
  const VirtAddr at = map(10);
  u64 word = 1;
  ASSERT_EQ(
      finish([&](u32 n) { return sim_->load(*system_, space_, at + 8 * kPageSize, &word, 8, n); }),
      FaultOutcome::done);
  EXPECT_EQ(word, 0u);
  audit();
}

TEST_F(SystemTest, row_26_twice_the_memory_comes_back_from_the_pool) {
  start(1024, 500, 0);
  const u64 pages = 2048;
  const VirtAddr at = map(pages);
  for (u64 i = 0; i < pages; ++i) {
    ASSERT_EQ(store_page(at + i * kPageSize, i + 1, Fill::compressible), FaultOutcome::done);
  }
  audit();
  for (u64 i = 0; i < pages; ++i) expect_page(at + i * kPageSize, i + 1, Fill::compressible);
  audit();
  EXPECT_GT(count(Counter::pswpout), 0u);
  EXPECT_GT(count(Counter::pswpin), 0u);
}

TEST_F(SystemTest, row_26_random_pages_go_to_disk_and_back) {
  start(1024, 256, 8192);
  const u64 pages = 3000;
  const VirtAddr at = map(pages);
  for (u64 i = 0; i < pages; ++i) {
    ASSERT_EQ(store_page(at + i * kPageSize, i + 1, Fill::random), FaultOutcome::done) << i;
  }
  audit();
  Prng prng(7);
  for (u64 i = 0; i < pages; ++i) {
    const u64 k = prng.below(pages);
    expect_page(at + k * kPageSize, k + 1, Fill::random);
  }
  audit();
  EXPECT_GT(count(Counter::disk_reads), 0u);
}

TEST_F(SystemTest, row_36_clean_pages_are_not_written_again) {
  start(1024, 256, 16384);
  const u64 pages = 3000;
  const VirtAddr at = map(pages);
  for (u64 i = 0; i < pages; ++i) {
    ASSERT_EQ(store_page(at + i * kPageSize, i + 1, Fill::random), FaultOutcome::done);
  }
  for (u64 i = 0; i < pages; ++i) expect_page(at + i * kPageSize, i + 1, Fill::random);
  for (u64 i = 0; i < pages; ++i) expect_page(at + i * kPageSize, i + 1, Fill::random);
  EXPECT_GT(count(Counter::swap_clean), 1000u);
  audit();
}

TEST_F(SystemTest, row_76_same_filled_pages_cost_no_bytes) {
  start(256, 64, 0);
  const u64 pages = 4000;
  const VirtAddr at = map(pages);
  for (u64 i = 0; i < pages; ++i) {
    ASSERT_EQ(store_page(at + i * kPageSize, i, Fill::same), FaultOutcome::done);
  }
  EXPECT_EQ(system_->snapshot().pool_bytes_live, 0u);
  for (u64 i = 0; i < pages; ++i) expect_page(at + i * kPageSize, i, Fill::same);
  audit();
}

TEST_F(SystemTest, memory_and_swap_exhausted_is_an_outcome) {
  start(256, 64, 0);
  const u64 pages = 1000;
  const VirtAddr at = map(pages);
  FaultOutcome outcome = FaultOutcome::done;
  u64 stored = 0;
  for (; stored < pages && outcome == FaultOutcome::done; ++stored) {
    outcome = store_page(at + stored * kPageSize, stored + 1, Fill::random);
  }
  EXPECT_EQ(outcome, FaultOutcome::oom);
  audit();
  // Nothing is lost: once the program gives some memory up, every other page is there.
  ASSERT_TRUE(system_->munmap(space_, at, 64 * kPageSize).ok());
  for (u64 i = 64; i + 1 < stored; ++i) expect_page(at + i * kPageSize, i + 1, Fill::random);
  audit();
}

TEST_F(SystemTest, row_73_everything_ends_and_everything_is_back) {
  start(512, 128, 4096);
  const VirtAddr at = map(1500);
  for (u64 i = 0; i < 1500; ++i) {
    ASSERT_EQ(store_page(at + i * kPageSize, i + 1, i % 3 == 0 ? Fill::random : Fill::compressible),
              FaultOutcome::done);
  }
  while (sim_->complete_one()) {
  }
  system_->destroy_space(space_);
  audit();
  const Snapshot s = system_->snapshot();
  EXPECT_EQ(s.slots_used, 0u);
  EXPECT_EQ(s.frames_user, 0u);
  EXPECT_EQ(s.disk_segments_used, 0u);
  EXPECT_EQ(s.frames_tables, 0u);
}

TEST_F(SystemTest, row_51_munmap_in_the_middle_and_mremap_of_swapped_pages) {
  start(512, 400, 0);
  const u64 pages = 900;
  const VirtAddr at = map(pages);
  for (u64 i = 0; i < pages; ++i) {
    ASSERT_EQ(store_page(at + i * kPageSize, i + 1, Fill::compressible), FaultOutcome::done);
  }
  ASSERT_TRUE(system_->munmap(space_, at + 300 * kPageSize, 100 * kPageSize).ok());
  EXPECT_EQ(system_->snapshot().areas, 2u);
  u8 byte = 0;
  EXPECT_EQ(sim_->load(*system_, space_, at + 350 * kPageSize, &byte, 1).outcome,
            FaultOutcome::maperr);
  MremapRequest move;
  move.old_addr = at;
  move.old_length = 300 * kPageSize;
  move.new_length = 600 * kPageSize;
  move.may_move = true;
  const Result<u64> to = finish_call([&] { return system_->mremap(space_, move); });
  ASSERT_TRUE(to.ok());
  audit();
  for (u64 i = 0; i < 300; ++i) {
    expect_page(VirtAddr(to.value()) + i * kPageSize, i + 1, Fill::compressible);
  }
  for (u64 i = 400; i < pages; ++i) expect_page(at + i * kPageSize, i + 1, Fill::compressible);
  EXPECT_EQ(sim_->load(*system_, space_, at, &byte, 1).outcome, FaultOutcome::maperr);
  audit();
}

TEST_F(SystemTest, row_25_protections) {
  start(512, 128, 0);
  const VirtAddr at = map(4);
  ASSERT_EQ(store_page(at, 1, Fill::compressible), FaultOutcome::done);
  ASSERT_TRUE(system_->mprotect(space_, at, kPageSize, Prot::read).ok());
  u8 byte = 9;
  EXPECT_EQ(sim_->store(*system_, space_, at, &byte, 1).outcome, FaultOutcome::accerr);
  EXPECT_EQ(sim_->load(*system_, space_, at, &byte, 1).outcome, FaultOutcome::done);
  ASSERT_TRUE(system_->mprotect(space_, at, kPageSize, Prot::none).ok());
  EXPECT_EQ(sim_->load(*system_, space_, at, &byte, 1).outcome, FaultOutcome::accerr);
  audit();
  ASSERT_TRUE(system_->mprotect(space_, at, kPageSize, Prot::read_write).ok());
  expect_page(at, 1, Fill::compressible);
  audit();
}

TEST_F(SystemTest, row_32_locked_pages_stay) {
  start(512, 400, 0);
  const VirtAddr locked = map(50);
  ASSERT_TRUE(finish_call([&] { return system_->mlock(space_, locked, 50 * kPageSize); }).ok());
  const VirtAddr at = map(900);
  for (u64 i = 0; i < 900; ++i) {
    ASSERT_EQ(store_page(at + i * kPageSize, i + 1, Fill::compressible), FaultOutcome::done);
  }
  u8 vec[50];
  ASSERT_TRUE(system_->mincore(space_, locked, PageCount(50), vec).ok());
  for (u8 v : vec) EXPECT_EQ(v, 1);
  EXPECT_EQ(system_->snapshot().locked, 50u);
  ASSERT_TRUE(system_->munlock(space_, locked, 50 * kPageSize).ok());
  EXPECT_EQ(system_->snapshot().locked, 0u);
  audit();
}

TEST_F(SystemTest, row_17_and_18_brk) {
  start(512, 128, 0);
  const u64 start_brk = system_->brk(space_, VirtAddr(0)).value();
  EXPECT_EQ(system_->brk(space_, VirtAddr(start_brk + 100 * kPageSize)).value(),
            start_brk + 100 * kPageSize);
  for (u64 i = 0; i < 3; ++i) {
    ASSERT_EQ(store_page(VirtAddr(start_brk + i * kPageSize), i + 1, Fill::compressible),
              FaultOutcome::done);
  }
  EXPECT_EQ(system_->snapshot().total_vm, 100u);
  EXPECT_EQ(system_->brk(space_, VirtAddr(start_brk - 1)).value(), start_brk + 100 * kPageSize);
  EXPECT_EQ(system_->brk(space_, VirtAddr(start_brk + kPageSize)).value(), start_brk + kPageSize);
  EXPECT_EQ(system_->snapshot().total_vm, 1u);
  audit();
}

TEST_F(SystemTest, row_41_a_read_error_hits_one_access_only) {
  start(256, 64, 4096);
  const u64 pages = 600;
  const VirtAddr at = map(pages);
  for (u64 i = 0; i < pages; ++i) {
    ASSERT_EQ(store_page(at + i * kPageSize, i + 1, Fill::random), FaultOutcome::done);
  }
  while (sim_->complete_one()) {
  }
  sim_->failures().arm(Failure::read_io, 1);
  u8 byte;
  const FaultOutcome outcome =
      finish([&](u32 n) { return sim_->load(*system_, space_, at, &byte, 1, n); });
  EXPECT_EQ(outcome, FaultOutcome::bus);
  audit();
  expect_page(at, 1, Fill::random);
}

TEST_F(SystemTest, damaged_storage_is_never_handed_out) {
  start(256, 64, 4096);
  const u64 pages = 600;
  const VirtAddr at = map(pages);
  for (u64 i = 0; i < pages; ++i) {
    ASSERT_EQ(store_page(at + i * kPageSize, i + 1, Fill::random), FaultOutcome::done);
  }
  while (sim_->complete_one()) {
  }
  for (u64 block = 0; block < 4096; ++block) sim_->disk().flip_bit(block, 12345);
  u8 byte;
  EXPECT_EQ(finish([&](u32 n) { return sim_->load(*system_, space_, at, &byte, 1, n); }),
            FaultOutcome::corrupt);
}

TEST_F(SystemTest, row_39_sequential_reads_take_few_faults) {
  start(1024, 900, 0);
  const u64 pages = 2000;
  const VirtAddr at = map(pages);
  for (u64 i = 0; i < pages; ++i) {
    ASSERT_EQ(store_page(at + i * kPageSize, i + 1, Fill::compressible), FaultOutcome::done);
  }
  const u64 before = count(Counter::pgfault);
  for (u64 i = 0; i < pages; ++i) expect_page(at + i * kPageSize, i + 1, Fill::compressible);
  EXPECT_LT(count(Counter::pgfault) - before, pages / 10);
}

// Every frame that is online is somebody's.
TEST_F(SystemTest, a_snapshot_adds_up_with_vmalloc_areas) {
  start(512, 128, 0, false);
  const VirtAddr at = map(20);
  for (u64 i = 0; i < 20; ++i) {
    EXPECT_EQ(store_page(at + i * kPageSize, i, Fill::random), FaultOutcome::done);
  }
  const Result<VirtAddr> area = system_->vmalloc(10 * kPageSize);
  ASSERT_TRUE(area.ok());
  for (const bool lazy : {false, true}) {
    if (lazy) {
      EXPECT_TRUE(system_->vfree(area.value()).ok());
    }
    const Snapshot s = system_->snapshot();
    EXPECT_EQ(s.frames_online, s.frames_free + s.frames_reserved + s.frames_kernel +
                                   s.frames_tables + s.frames_swap_meta + s.frames_pool +
                                   s.frames_user)
        << lazy;
  }
}

// On every kind of machine: with nothing to evict, empty slabs are what reclaim can give back.
TEST_F(SystemTest, row_60_reclaim_takes_empty_slabs_on_every_machine) {
  for (const bool host_like : {true, false}) {
    SimConfig config;
    config.frames = PageCount(512);
    if (host_like) config.features = Features{};
    SimMachine sim(config);
    SystemImpl impl(sim.machine(), Config{}, counters_, ring_);
    ASSERT_TRUE(impl.boot().ok());
    KmemCache cache;
    ASSERT_TRUE(cache.init(impl.slabs, {.name = "idle", .size = 1024, .limit = 0}).ok());
    std::vector<void*> objects;
    for (u32 i = 0; i < 64; ++i) objects.push_back(cache.alloc(kAllocKernel).value());
    for (void* object : objects) cache.free(object);
    const u64 free_before = impl.allocator.free_pages().v;
    ASSERT_EQ(cache.slabs_empty(), 16U);
    EXPECT_EQ(impl.reclaim.reclaim(PageCount(8)), ReclaimOutcome::progress) << host_like;
    EXPECT_GE(impl.allocator.free_pages().v, free_before + 8) << host_like;
    EXPECT_TRUE(impl.audit().ok);
    EXPECT_TRUE(cache.destroy().ok());
  }
}

}  // namespace
}  // namespace spillway
