// Goal: threads with a slot each allocate and free, also each other's objects, while one that owns
// no slot looks and shrinks; nothing is lost, nothing handed out twice. Method: real threads; each
// object carries a word that its holder checks. Meant to run under ThreadSanitizer as well.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/prng.h"
#include "slab/kmalloc.h"
#include "slab/slab_bed_test.h"

namespace spillway {
namespace {

constexpr u32 kThreads = 4;
constexpr u32 kOps = 30'000;

// One producer, one consumer.
class Ring {
 public:
  bool push(void* object) {
    const u32 at = end_.load(std::memory_order_relaxed);
    if (at - start_.load(std::memory_order_acquire) == kSize) return false;
    slot_[at % kSize] = object;
    end_.store(at + 1, std::memory_order_release);
    return true;
  }
  void* pop() {
    const u32 at = start_.load(std::memory_order_relaxed);
    if (at == end_.load(std::memory_order_acquire)) return nullptr;
    void* object = slot_[at % kSize];
    start_.store(at + 1, std::memory_order_release);
    return object;
  }

 private:
  static constexpr u32 kSize = 512;
  std::atomic<u32> start_{0};
  std::atomic<u32> end_{0};
  void* slot_[kSize] = {};
};

class SlabThreads : public ::testing::TestWithParam<SlabCheck> {
 protected:
  SlabThreads() {
    bed_.grow_all();
    chain_.init(bed_.allocator, bed_.frames, bed_.sim.machine().frames, kThreads, SlabLocking::own);
  }
  PageBed bed_{4096};
  SlabChain chain_;
};

TEST_P(SlabThreads, each_with_a_slot_and_a_neighbour_that_frees) {
  KmemCache cache;
  ASSERT_TRUE(cache
                  .init(chain_, {.name = "shared",
                                 .size = 96,
                                 .check = GetParam(),
                                 .locking = SlabLocking::own,
                                 .empty_max = 2,
                                 .limit = 32})
                  .ok());
  Kmalloc general;
  ASSERT_TRUE(
      general.init(chain_, {.check = GetParam(), .locking = SlabLocking::own, .limit = 16}).ok());
  Ring rings[kThreads];
  std::atomic<u32> running{kThreads};
  std::atomic<u32> faults{0};
  const auto check_and_free = [&](void* object, u32 slot) {
    u64* words = static_cast<u64*>(object);
    if (words[0] != reinterpret_cast<u64>(object)) ++faults;
    if (words[1] == 0) {
      cache.free(object, slot);
    } else {
      general.free(object, slot);
    }
  };
  std::vector<std::thread> threads;
  for (u32 slot = 0; slot < kThreads; ++slot) {
    threads.emplace_back([&, slot] {
      Prng prng(slot + 1);
      std::vector<void*> mine;
      for (u32 i = 0; i < kOps; ++i) {
        const u64 kind = prng.below(8);
        if (kind < 4) {
          const bool general_size = kind == 0;
          const Result<void*> got = general_size
                                        ? general.alloc(prng.between(16, 6000), kAllocAtomic, slot)
                                        : cache.alloc(kAllocAtomic, slot);
          if (!got.ok()) continue;
          u64* words = static_cast<u64*>(got.value());
          words[0] = reinterpret_cast<u64>(words);
          words[1] = general_size ? 1 : 0;
          if (kind < 2 || !rings[slot].push(words)) mine.push_back(words);
        } else if (kind < 6 && !mine.empty()) {
          check_and_free(mine.back(), slot);
          mine.pop_back();
        } else if (void* object = rings[(slot + 1) % kThreads].pop()) {
          check_and_free(object, slot);
        }
      }
      for (void* object : mine) check_and_free(object, slot);
      --running;
    });
  }
  // Who owns no slot: asks for objects, shrinks, looks.
  while (running.load() != 0) {
    (void)cache.shrink(OwnedSlots::none);
    (void)general.cache(2).shrink(OwnedSlots::none);
    const SlabInfo info = cache.info();
    if (info.slabs_active > info.slabs_total) ++faults;
    if (info.objects_active > info.objects_total || info.frees > info.allocs) ++faults;
    (void)chain_.count_objects();
    (void)chain_.scan_objects({.nr_to_scan = 8});
    std::this_thread::yield();
  }
  for (std::thread& thread : threads) thread.join();
  for (Ring& ring : rings) {
    while (void* object = ring.pop()) check_and_free(object, 0);
  }
  EXPECT_EQ(faults.load(), 0U);
  EXPECT_TRUE(chain_.validate());
  EXPECT_EQ(cache.objects_active(), 0U);
  EXPECT_TRUE(cache.destroy().ok());
  EXPECT_TRUE(general.destroy().ok());
  (void)chain_.shrink_all();
  EXPECT_EQ(chain_.frames(), 0U);
  EXPECT_TRUE(bed_.sum_holds());
}

// Who looks while a batch moves may count it on either side, but no more objects than there are.
TEST_P(SlabThreads, views_of_a_busy_cache_stay_possible) {
  KmemCache cache;
  ASSERT_TRUE(cache
                  .init(chain_, {.name = "viewed",
                                 .size = 96,
                                 .check = GetParam(),
                                 .locking = SlabLocking::own,
                                 .limit = 32})
                  .ok());
  std::atomic<bool> done{false};
  std::thread busy([&] {
    for (u32 i = 0; i < 2 * kOps; ++i) {
      const Result<void*> got = cache.alloc(kAllocAtomic, 1);
      if (got.ok()) cache.free(got.value(), 1);
      cache.drain(1);
    }
    done.store(true);
  });
  u64 impossible = 0;
  while (!done.load()) {
    if (cache.objects_active() > cache.slabs() * cache.objects_per_slab()) ++impossible;
    const SlabInfo info = cache.info();
    if (info.objects_active > info.objects_total || info.frees > info.allocs) ++impossible;
  }
  busy.join();
  EXPECT_EQ(impossible, 0U);
  EXPECT_EQ(cache.objects_active(), 0U);
  EXPECT_TRUE(cache.destroy().ok());
}

INSTANTIATE_TEST_SUITE_P(Levels, SlabThreads,
                         ::testing::Values(SlabCheck::none, SlabCheck::sanity, SlabCheck::full));

}  // namespace
}  // namespace spillway
