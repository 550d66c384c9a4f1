// SlabBed: a chain of caches on the simulated machine, with three slots.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "machine_sim/panic_text_test.h"
#include "page/page_bed_test.h"
#include "slab/slab_chain.h"

namespace spillway {

class SlabBed : public ::testing::Test {
 protected:
  SlabBed() {
    bed_.grow_all();
    chain_.init(bed_.allocator, bed_.frames, memory(), 3, SlabLocking::own);
  }
  Frames& memory() { return bed_.sim.machine().frames; }
  void init(KmemCache& cache, const KmemCacheConfig& config) {
    ASSERT_TRUE(cache.init(chain_, config).ok());
  }
  void* alloc() { return cache_.alloc(kAllocKernel).value(); }
  Pfn frame_of(const void* object) { return memory().pfn_of(object); }
  u64 offset_of(const void* object) { return reinterpret_cast<u64>(object) % kPageSize; }
  // Every cache is sound, and every frame with the owner tag slab is some cache's.
  bool consistent() {
    u64 owned = 0;
    for (u32 i = 0; i < bed_.frames.count().v; ++i) {
      if (bed_.frames[Pfn(i)].owner == PageOwner::slab) ++owned;
    }
    return chain_.validate() && owned == chain_.frames() && bed_.sum_holds();
  }
  // For a cache on the test's stack whose objects are still out: forgets them.
  void leak(KmemCache& cache);

  PageBed bed_{2048};
  SlabChain chain_;
  KmemCache cache_;
};

inline void SlabBed::leak(KmemCache& cache) {
  // The slabs are full: hand every object back by its place.
  for (u32 i = 0; i < bed_.frames.count().v; ++i) {
    const Page& page = bed_.frames[Pfn(i)];
    if (page.owner != PageOwner::slab || page.private_data == 0) continue;
    Slab& slab = *KmemCache::debug_slab(bed_.frames, Pfn(i));
    if (slab.cache != &cache || slab.first != i) continue;
    const SlabLayout& layout = cache.layout();
    for (u32 k = 0; k < layout.objects; ++k) cache.free(slab.start + k * layout.stride);
  }
  ASSERT_TRUE(cache.destroy().ok());
}

}  // namespace spillway
