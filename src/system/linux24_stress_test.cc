// The policy linux24 under random work: three processes that write, read, fork, map files and
// shared memory, lock and unmap, with far more pages than frames, and an audit after each step.
// What a program reads must be what it wrote last. A failure prints its seed.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <string>

#include "machine_sim/sim_machine.h"
#include "system/system_impl.h"
#include "vfs/test_file_test.h"

namespace spillway {
namespace {

constexpr VpnRange kRange{Vpn(1 << 20), Vpn((1 << 20) + (1 << 14))};
constexpr u64 kPrivatePages = 120;  // of each process
constexpr u64 kFilePages = 60;
constexpr u64 kShmPages = 40;
constexpr u32 kSpaces = 3;

class World {
 public:
  explicit World(u64 seed) : prng_(seed) {
    SimConfig config;
    config.seed = seed;
    config.frames = PageCount(100 + prng_.below(60));
    config.block_pages = {600, 1024, 300};
    config.busy_one_in = prng_.one_in(2) ? 17 : 0;
    sim_ = std::make_unique<SimMachine>(config);
    Config c;
    c.policy = Policy::linux24;
    c.file_device = 1;
    c.page_cluster = 2;
    c.fresh_around_max = prng_.one_in(2) ? 4 : 0;
    impl_ = std::make_unique<SystemImpl>(sim_->machine(), c, counters_, ring_);
    EXPECT_TRUE(impl_->boot().ok());
    for (u32 device : {0U, 2U}) {
      finish([&] { return impl_->swap.areas().format(device, {}); });
      finish([&] { return impl_->swap.areas().swap_on(device, -1, PageCount(0)); });
    }
    file_ = make_test_file(impl_->vfs, "data", kFilePages);
    shm_ = impl_->shmem.create(kShmPages * kPageSize, true, 1, false).value();
    for (u32 i = 0; i < kSpaces; ++i) make_space(i);
  }

  void run(u32 steps) {
    for (u32 i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
      step();
      const AuditReport report = impl_->audit();
      EXPECT_TRUE(report.ok) << "step " << i << ": " << report.what << " " << report.left << " "
                             << report.right;
      if (i % 16 == 0) {
        EXPECT_EQ(sim_->mmu().mirror_difference(), "") << "step " << i;
      }
    }
  }
  // Everything ends: no slot and no page of a program is left (I20).
  void end() {
    for (u32 i = 0; i < kSpaces; ++i) impl_->spaces.destroy(ids_[i]);
    while (sim_->complete_one()) {
    }
    impl_->shmem.remove_segment(*shm_);
    while (sim_->complete_one()) {
    }
    EXPECT_EQ(impl_->swap.slots_used(), 0U);
    EXPECT_EQ(impl_->swap.cached_pages().v, 0U);
    const AuditReport report = impl_->audit();
    EXPECT_TRUE(report.ok) << report.what << " " << report.left << " " << report.right;
  }
  u64 count(Counter counter) const { return counters_[counter]; }

 private:
  static constexpr u64 kFileAt = 1000;
  static constexpr u64 kShmAt = 2000;
  static VirtAddr va(u64 page) { return addr_of(kRange.start + page); }

  template <class Fn>
  void finish(Fn call) {
    for (u32 i = 0; i < 1000; ++i) {
      const auto result = call();
      if (result.ok()) return;
      ASSERT_EQ(result.error(), Error::wait);
      wait();
    }
    FAIL() << "a call that never ends";
  }
  // What an outer loop does with a wait: the next I/O, or else a daemon.
  void wait() {
    if (sim_->complete_one()) return;
    (void)impl_->system.background_step();
  }
  AddressSpace& space(u32 i) { return impl_->spaces.at(ids_[i]); }

  void map(AddressSpace& where, u64 first, u64 pages, Mapping* mapping, AreaOps* ops) {
    MapParams params;
    params.range = {kRange.start + first, kRange.start + first + pages};
    params.prot = Prot::read_write;
    params.fixed = true;
    params.shared = mapping != nullptr;
    params.mapping = mapping;
    params.ops = ops;
    finish([&] { return where.map(params); });
  }
  void make_space(u32 i) {
    finish([&] {
      const Result<SpaceId> id = impl_->spaces.create(kRange, PageCount(0));
      if (id.ok()) ids_[i] = id.value();
      return id;
    });
    map(space(i), 0, kPrivatePages, nullptr, nullptr);
    map(space(i), kFileAt, kFilePages, &file_->mapping, &impl_->file_areas);
    map(space(i), kShmAt, kShmPages, &shm_->mapping, &impl_->shmem);
    private_[i].clear();
  }

  template <class Fn>
  FaultOutcome access(Fn once) {
    for (u32 attempt = 0; attempt < 3000; ++attempt) {
      const FaultOutcome outcome = once(attempt).outcome;
      if (outcome != FaultOutcome::wait) return outcome;
      wait();
    }
    return FaultOutcome::wait;
  }
  void write(u32 i, u64 page, std::map<u64, u64>& model) {
    const u64 value = ++next_value_;
    const FaultOutcome outcome = access([&](u32 attempt) {
      return sim_->store(impl_->system, ids_[i], va(page), &value, sizeof value, attempt);
    });
    EXPECT_EQ(static_cast<int>(outcome), static_cast<int>(FaultOutcome::done)) << "write " << page;
    model[page] = value;
  }
  void read(u32 i, u64 page, std::map<u64, u64>& model) {
    u64 value = 0;
    const FaultOutcome outcome = access([&](u32 attempt) {
      return sim_->load(impl_->system, ids_[i], va(page), &value, sizeof value, attempt);
    });
    EXPECT_EQ(static_cast<int>(outcome), static_cast<int>(FaultOutcome::done)) << "read " << page;
    EXPECT_EQ(value, model.contains(page) ? model[page] : 0U) << "space " << i << " page " << page;
  }
  void touch(u32 i) {
    const bool writes = prng_.one_in(2);
    const u64 kind = prng_.below(8);
    u64 page = prng_.one_in(2) ? prng_.below(20) : prng_.below(kPrivatePages);
    std::map<u64, u64>* model = &private_[i];
    if (kind == 0) page = kShmAt + prng_.below(kShmPages);
    if (kind <= 2 && kind > 0) page = kFileAt + prng_.below(kFilePages);
    if (kind <= 2) model = &shared_;
    if (writes) {
      write(i, page, *model);
    } else {
      read(i, page, *model);
    }
  }
  // Process i ends and comes back as a copy of another.
  void fork(u32 i) {
    const u32 parent = (i + 1) % kSpaces;
    impl_->spaces.destroy(ids_[i]);
    for (u32 attempt = 0; attempt < 1000; ++attempt) {
      const Result<SpaceId> id = impl_->spaces.create(kRange, PageCount(0));
      if (id.ok()) {
        ids_[i] = id.value();
        const Status copied = space(i).fork_from(space(parent));
        if (copied.ok()) {
          private_[i] = private_[parent];
          return;
        }
        impl_->spaces.destroy(ids_[i]);
        ASSERT_EQ(static_cast<int>(copied.error()), static_cast<int>(Error::wait));
      }
      wait();
    }
    FAIL() << "fork never ends";
  }
  void lock(u32 i) {
    const u64 first =
        prng_.one_in(2) ? prng_.below(kPrivatePages - 4) : kFileAt + prng_.below(kFilePages - 4);
    const VpnRange range{kRange.start + first, kRange.start + first + 4};
    (void)space(i).set_locked(range, true, PageCount(8));
    if (!prng_.one_in(3)) return;
    (void)space(i).set_locked({kRange.start, kRange.start + kPrivatePages}, false, PageCount(0));
    (void)space(i).set_locked({kRange.start + kFileAt, kRange.start + kFileAt + kFilePages}, false,
                              PageCount(0));
  }
  void advise(u32 i) {
    const u64 first = prng_.below(kPrivatePages - 8);
    const VpnRange range{kRange.start + first, kRange.start + first + 8};
    switch (prng_.below(4)) {
      case 0: (void)space(i).cold(range); break;
      case 1: (void)space(i).page_out(range); break;
      case 2: impl_->fault.will_need(space(i), range); break;
      default:
        if (!space(i).discard(range).ok()) break;  // a part is locked
        for (u64 page = first; page < first + 8; ++page) private_[i].erase(page);
    }
  }
  void step() {
    const u32 i = static_cast<u32>(prng_.below(kSpaces));
    switch (prng_.below(40)) {
      case 0: fork(i); break;
      case 1:
        impl_->spaces.destroy(ids_[i]);
        make_space(i);
        break;
      case 2: lock(i); break;
      case 3:
      case 4: advise(i); break;
      case 5: impl_->linux24.age(); break;
      case 6: (void)impl_->linux24.reclaimd_step(); break;
      case 7: sim_->advance(prng_.below(2'000'000'000)); break;
      case 8: space(i).collect_dirty({kRange.start + kFileAt, kRange.end}); break;
      case 9: (void)impl_->vfs.fsync(*file_); break;
      case 10:
      case 11: (void)sim_->complete_one(); break;
      case 12: (void)impl_->reclaim.reclaim(PageCount(1 + prng_.below(20))); break;
      default:
        for (u32 n = 0; n < 4; ++n) touch(i);
    }
    sim_->mmu().unpin_all();
    if (impl_->system.background_wanted()) (void)impl_->system.background_step();
  }

  Prng prng_;
  std::unique_ptr<SimMachine> sim_;
  Counters counters_{};
  EventRing ring_;
  std::unique_ptr<SystemImpl> impl_;
  Inode* file_ = nullptr;
  ShmObject* shm_ = nullptr;
  SpaceId ids_[kSpaces] = {};
  std::map<u64, u64> private_[kSpaces];
  std::map<u64, u64> shared_;
  u64 next_value_ = 0;
};

TEST(Linux24Stress, random_work_loses_nothing) {
  u64 out = 0;
  u64 in = 0;
  u64 files = 0;
  for (u64 seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World world(seed);
    world.run(700);
    if (HasFailure()) return;
    world.end();
    out += world.count(Counter::pswpout);
    in += world.count(Counter::pswpin);
    files += world.count(Counter::pgpgout);
  }
  // Or the pressure was not worth its name.
  EXPECT_GT(out, 100U);
  EXPECT_GT(in, 100U);
  EXPECT_GT(files, 100U);
}

TEST(Linux24Boot, refused_on_machines_that_cannot) {
  for (u32 missing = 0; missing < 3; ++missing) {
    SimConfig config;
    if (missing == 0) config.features.accessed_bit = false;
    if (missing == 1) config.features.dirty_bit = false;
    if (missing == 2) config.features.shared_frames = false;
    SimMachine sim(config);
    Counters counters{};
    EventRing ring;
    Config c;
    c.policy = Policy::linux24;
    const Result<System*> system = System::boot(sim.machine(), c, counters, ring);
    ASSERT_FALSE(system.ok());
    EXPECT_EQ(static_cast<int>(system.error()), static_cast<int>(Error::not_supported));
  }
}

TEST(Linux24Boot, all_memory_is_online_with_the_marks_of_linux) {
  SimMachine sim(SimConfig{});
  Counters counters{};
  EventRing ring;
  Config c;
  c.policy = Policy::linux24;
  System* system = System::boot(sim.machine(), c, counters, ring).value();
  const Snapshot snapshot = system->snapshot();
  EXPECT_EQ(snapshot.frames_online, 1024U);
  EXPECT_EQ(snapshot.watermark_min, 10U);
  EXPECT_EQ(snapshot.watermark_high, 30U);
}

}  // namespace
}  // namespace spillway
