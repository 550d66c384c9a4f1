// Reaping: which cache loses slabs, how many, and which are spared. Method: idle caches with known
// numbers of empty slabs.
#include "slab/slab_chain.h"

#include <gtest/gtest.h>

#include <deque>
#include <vector>

#include "slab/slab_bed_test.h"

namespace spillway {
namespace {

class SlabChainTest : public SlabBed {
 protected:
  // A new cache with `empty` empty slabs; its growth has been seen when `seen`.
  KmemCache& idle(const char* name, u32 empty, KmemCacheConfig config = {}) {
    KmemCache& cache = caches_.emplace_back();
    config.name = name;
    if (config.size == 0) config.size = 128;
    init(cache, config);
    std::vector<void*> objects;
    for (u32 i = 0; i < empty * cache.objects_per_slab(); ++i) {
      objects.push_back(cache.alloc(kAllocKernel).value());
    }
    for (void* object : objects) cache.free(object);
    cache.drain(0);
    EXPECT_EQ(cache.slabs_empty(), empty);
    return cache;
  }
  std::deque<KmemCache> caches_;
};

TEST_F(SlabChainTest, row_60_reap_takes_most_of_the_idlest_cache_and_spares_the_others) {
  KmemCache& a = idle("a", 12);
  KmemCache& b = idle("b", 3);
  KmemCache& never = idle("never", 40, {.no_reap = true});
  EXPECT_EQ(chain_.reap(), 0U) << "all grew since the last reap: a second chance for each";
  EXPECT_EQ(chain_.reap(), 9U);
  EXPECT_EQ(a.slabs_empty(), 3U) << "(12 x 4 + 1) / 5 went";
  EXPECT_EQ(b.slabs_empty(), 3U);
  EXPECT_EQ(never.slabs_empty(), 40U);
  // A cache that grows again is passed over once.
  std::vector<void*> objects;
  for (u32 i = 0; i < 20 * a.objects_per_slab(); ++i) {
    objects.push_back(a.alloc(kAllocKernel).value());
  }
  for (void* object : objects) a.free(object);
  const u64 kept = a.slabs_empty();
  EXPECT_LT(10U, kept);
  EXPECT_EQ(chain_.reap(), 2U);
  EXPECT_EQ(b.slabs_empty(), 1U) << "(3 x 4 + 1) / 5 went";
  EXPECT_EQ(a.slabs_empty(), kept);
  EXPECT_LT(2U, chain_.reap());
  EXPECT_EQ(never.slabs_empty(), 40U);
  EXPECT_TRUE(consistent());
}

TEST_F(SlabChainTest, a_ctor_and_large_slabs_count_for_less) {
  KmemCache& plain = idle("plain", 7);
  KmemCache& built = idle("built", 8, {.ctor = [](void*, void*) {}});  // 8 x 4/5 -> 6
  KmemCache& large = idle("large", 4, {.size = 8192});                 // 8 frames -> 6
  (void)chain_.reap();
  EXPECT_EQ(chain_.reap(), 5U);
  EXPECT_EQ(plain.slabs_empty(), 2U) << "7 are worth more than 8 with a ctor or of two frames";
  EXPECT_EQ(chain_.reap(), 6U);
  EXPECT_EQ(built.slabs_empty(), 2U);
  EXPECT_EQ(chain_.reap(), 6U) << "three slabs of two frames";
  EXPECT_EQ(large.slabs_empty(), 1U);
}

TEST_F(SlabChainTest, the_hand_goes_on_where_it_stopped) {
  // 2 descriptor caches and 18 others: two reaps look at each once.
  std::vector<std::string> names;
  for (u32 i = 0; i < 18; ++i) names.push_back("c" + std::to_string(i));
  for (u32 i = 0; i < 18; ++i) (void)idle(names[i].c_str(), i == 3 || i == 15 ? 5 : 1);
  EXPECT_EQ(chain_.reap(), 0U);
  EXPECT_EQ(chain_.reap(), 0U);
  EXPECT_EQ(chain_.reap(), 4U);
  EXPECT_EQ(caches_[3].slabs_empty(), 1U);
  EXPECT_EQ(caches_[15].slabs_empty(), 5U) << "beyond the ten that were looked at";
  EXPECT_EQ(chain_.reap(), 4U);
  EXPECT_EQ(caches_[15].slabs_empty(), 1U);
}

TEST_F(SlabChainTest, the_hand_leaves_a_cache_that_goes) {
  std::vector<std::string> names;
  for (u32 i = 0; i < 18; ++i) names.push_back("c" + std::to_string(i));
  for (u32 i = 0; i < 18; ++i) (void)idle(names[i].c_str(), i == 15 ? 5 : 1);
  EXPECT_EQ(chain_.reap(), 0U);
  EXPECT_EQ(chain_.reap(), 0U);
  EXPECT_EQ(chain_.reap(), 1U) << "two descriptor caches and c0 to c7";
  EXPECT_TRUE(caches_[8].destroy().ok());
  EXPECT_EQ(chain_.reap(), 4U) << "on with c9";
  EXPECT_EQ(caches_[15].slabs_empty(), 1U);
}

TEST_F(SlabChainTest, ten_empty_slabs_end_the_search) {
  KmemCache& ten = idle("ten", 10);
  KmemCache& more = idle("more", 20);
  (void)chain_.reap();
  EXPECT_EQ(chain_.reap(), 8U);
  EXPECT_EQ(ten.slabs_empty(), 2U);
  EXPECT_EQ(more.slabs_empty(), 20U);
}

TEST_F(SlabChainTest, reap_empties_the_callers_magazine) {
  KmemCache& cache = idle("mag", 2);
  void* object = cache.alloc(kAllocKernel, 1).value();
  cache.free(object, 1);
  EXPECT_EQ(cache.slabs_empty(), 0U);
  (void)chain_.reap(1);
  EXPECT_EQ(chain_.reap(1), 1U);
  EXPECT_EQ(cache.objects_cached(), 0U);
}

TEST_F(SlabChainTest, as_a_shrinker_it_counts_and_frees_frames) {
  KmemCache& a = idle("a", 6);
  KmemCache& large = idle("large", 4, {.size = 8192});
  (void)idle("never", 5, {.no_reap = true});
  EXPECT_EQ(chain_.count_objects(), 6U + 8U);
  EXPECT_EQ(chain_.scan_objects({.nr_to_scan = 0}), 0U);
  const u64 before = bed_.allocator.free_pages().v;
  const u64 freed = chain_.scan_objects({.nr_to_scan = 100});
  EXPECT_EQ(freed, 6U + 8U + 1U) << "all there is, and the slab of the large ones' descriptors";
  EXPECT_LE(before + freed, bed_.allocator.free_pages().v);
  EXPECT_EQ(a.slabs() + large.slabs(), 0U);
  EXPECT_TRUE(consistent());
}

TEST_F(SlabChainTest, off_slab_descriptors_go_with_their_slabs) {
  KmemCache& cache = idle("off", 3, {.size = 1024});
  ASSERT_TRUE(cache.off_slab());
  EXPECT_EQ(chain_.find("slab_few")->objects_active(), 3U);
  EXPECT_EQ(chain_.shrink_all(), 4U) << "three slabs, and the one of their descriptors";
  EXPECT_EQ(chain_.find("slab_few")->slabs(), 0U);
}

TEST_F(SlabChainTest, finds_the_cache_of_any_object) {
  KmemCache& a = idle("a", 1);
  KmemCache& large = idle("large", 1, {.size = 32768});
  u8* object = static_cast<u8*>(large.alloc(kAllocKernel).value());
  EXPECT_EQ(chain_.cache_of(object + 32767), &large);
  EXPECT_EQ(chain_.cache_of(a.alloc(kAllocKernel).value()), &a);
  EXPECT_EQ(chain_.cache_of(&a), nullptr);
  EXPECT_EQ(chain_.cache_of(nullptr), nullptr);
}

TEST_F(SlabChainTest, a_growing_cache_is_left_alone) {
  // The allocator reclaims while the cache grows, and reclaim reaps.
  struct Reaper : FakeReclaimer {
    explicit Reaper(PageAllocator& allocator) : FakeReclaimer(allocator) {}
    ReclaimOutcome reclaim(PageCount want) override {
      for (u32 i = 0; i < 4; ++i) (void)chain->scan_objects({.nr_to_scan = 1000});
      return FakeReclaimer::reclaim(want);
    }
    SlabChain* chain = nullptr;
  } reaper(bed_.allocator);
  reaper.chain = &chain_;
  reaper.outcome = ReclaimOutcome::progress;
  KmemCache& cache = idle("grows", 4);
  KmemCache& other = idle("other", 4);
  bed_.allocator.set_reclaimer(reaper);
  for (Result<Pfn> p = bed_.allocator.alloc(0, AllocFlags{}); p.ok();
       p = bed_.allocator.alloc(0, AllocFlags{})) {
    reaper.hoard.push_back(p.value());
  }
  std::vector<void*> objects;
  while (objects.size() < 6 * cache.objects_per_slab()) {
    objects.push_back(cache.alloc(kAllocKernel).value());
  }
  EXPECT_EQ(other.slabs(), 0U) << "taken by the reaps";
  EXPECT_TRUE(chain_.validate());
  for (void* object : objects) cache.free(object);
  bed_.allocator.set_reclaimer(bed_.reclaimer);
}

// With no frame to spare, then with one, until an object can be had.
TEST_F(SlabChainTest, growth_that_fails_half_way_leaves_no_frame_behind) {
  for (const u32 limit : {0U, KmemCacheConfig::kLimitBySize}) {
    for (const auto& [size, frames] :
         std::vector<std::pair<u32, u32>>{{64, 1}, {1024, 2}, {8192, 3}}) {
      for (u32 leave = 0; leave <= frames; ++leave) {
        KmemCache cache;
        init(cache, {.name = "half_way", .size = size, .line = 32, .limit = limit});
        std::vector<Pfn> taken;
        while (bed_.allocator.free_pages().v > bed_.allocator.marks().min.v + leave) {
          taken.push_back(bed_.allocator.alloc(0, AllocFlags{}).value());
        }
        const u64 before = bed_.allocator.free_pages().v;
        const Result<void*> got = cache.alloc(AllocFlags{});
        EXPECT_EQ(got.ok(), leave == frames) << size << " with " << leave;
        if (got.ok()) {
          cache.free(got.value());
        } else {
          EXPECT_EQ(cache.slabs(), 0U);
          EXPECT_EQ(chain_.find("slab_few")->objects_active(), 0U);
          EXPECT_EQ(bed_.allocator.free_pages().v, before) << size << " with " << leave;
        }
        EXPECT_TRUE(consistent());
        for (const Pfn pfn : taken) bed_.allocator.free(pfn, 0);
        EXPECT_TRUE(cache.destroy().ok());
        (void)chain_.shrink_all();
        bed_.allocator.drain_pcp();
        EXPECT_EQ(bed_.allocator.free_pages(), bed_.allocator.online());
      }
    }
  }
}

// Reclaim frees objects of the very cache that asked for a frame: what came free serves it, even
// where no frame did, and is not reaped meanwhile.
TEST_F(SlabChainTest, a_cache_takes_back_what_reclaim_freed_while_it_grew) {
  struct Freer : FakeReclaimer {
    explicit Freer(PageAllocator& allocator) : FakeReclaimer(allocator) {}
    ReclaimOutcome reclaim(PageCount want) override {
      for (void* object : objects) cache->free(object);
      objects.clear();
      empty = cache->slabs_empty();
      for (u32 i = 0; i < 4; ++i) (void)chain->scan_objects({.nr_to_scan = 1000});
      empty_after = cache->slabs_empty();
      return FakeReclaimer::reclaim(want);
    }
    SlabChain* chain = nullptr;
    KmemCache* cache = nullptr;
    std::vector<void*> objects;
    u64 empty = 0;
    u64 empty_after = 0;
  } freer(bed_.allocator);
  freer.outcome = ReclaimOutcome::exhausted;
  for (const u32 limit : {0U, KmemCacheConfig::kLimitBySize}) {
    KmemCache& cache = idle(limit == 0 ? "direct" : "magazines", 0, {.size = 512, .limit = limit});
    freer.chain = &chain_;
    freer.cache = &cache;
    for (u32 i = 0; i < 3 * cache.objects_per_slab(); ++i) {
      freer.objects.push_back(cache.alloc(kAllocKernel).value());
    }
    bed_.allocator.set_reclaimer(freer);
    std::vector<Pfn> taken;
    for (Result<Pfn> p = bed_.allocator.alloc(0, AllocFlags{}); p.ok();
         p = bed_.allocator.alloc(0, AllocFlags{})) {
      taken.push_back(p.value());
    }
    const Result<void*> object = cache.alloc(kAllocKernel);
    ASSERT_TRUE(object.ok()) << limit;
    EXPECT_EQ(freer.empty, limit == 0 ? 3U : 0U);
    EXPECT_EQ(freer.empty_after, freer.empty) << "a growing cache is left alone";
    EXPECT_EQ(cache.objects_active(), 1U);
    cache.free(object.value());
    for (const Pfn pfn : taken) bed_.allocator.free(pfn, 0);
    bed_.allocator.set_reclaimer(bed_.reclaimer);
    EXPECT_TRUE(consistent());
  }
}

}  // namespace
}  // namespace spillway
