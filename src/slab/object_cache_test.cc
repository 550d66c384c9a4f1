// The object cache: where objects lie, what it gives back and when, and what it refuses.
#include "slab/object_cache.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <vector>

#include "base/prng.h"
#include "machine_sim/panic_text_test.h"
#include "page/page_bed_test.h"

namespace spillway {
namespace {

class ObjectCacheTest : public ::testing::Test {
 protected:
  ObjectCacheTest() {
    bed_.grow_all();
    cache_.init(bed_.allocator, bed_.frames, bed_.sim.machine().frames, "test", 32);
  }
  void* alloc() { return cache_.alloc(kAllocKernel).value(); }

  PageBed bed_{512};
  ObjectCache cache_;
};

TEST_F(ObjectCacheTest, row_55_one_frame_holds_as_many_as_fit) {
  EXPECT_EQ(cache_.objects_per_slab(), 128U);
  const u64 before = bed_.allocator.free_pages().v;
  std::set<void*> seen;
  for (u32 i = 0; i < 128; ++i) EXPECT_TRUE(seen.insert(alloc()).second);
  EXPECT_EQ(cache_.slabs(), 1U);
  EXPECT_EQ(bed_.allocator.free_pages().v, before - 1);
  (void)alloc();
  EXPECT_EQ(cache_.slabs(), 2U);
  EXPECT_TRUE(cache_.validate());
}

TEST_F(ObjectCacheTest, sizes_are_rounded_and_objects_do_not_overlap) {
  for (u32 size : {8U, 17U, 48U, 88U, 700U, 2048U}) {
    ObjectCache cache;
    cache.init(bed_.allocator, bed_.frames, bed_.sim.machine().frames, "sizes", size);
    EXPECT_EQ(cache.objects_per_slab(), kPageSize / ((size + 15) / 16 * 16));
    std::vector<u8*> objects;
    for (u32 i = 0; i < cache.objects_per_slab() + 3; ++i) {
      objects.push_back(static_cast<u8*>(cache.alloc(kAllocKernel).value()));
      EXPECT_TRUE(all_bytes_are(objects.back(), 0, size)) << "objects are handed out zeroed";
      std::memset(objects.back(), static_cast<int>(i), size);
    }
    for (u32 i = 0; i < objects.size(); ++i) {
      EXPECT_TRUE(all_bytes_are(objects[i], static_cast<u8>(i), size)) << size << " " << i;
      cache.free(objects[i]);
    }
    EXPECT_EQ(cache.objects_active(), 0U);
  }
}

TEST_F(ObjectCacheTest, row_57_the_object_freed_last_comes_first) {
  (void)alloc();
  void* a = alloc();
  void* b = alloc();
  std::memset(b, 0x77, 32);
  cache_.free(a);
  cache_.free(b);
  EXPECT_EQ(alloc(), b);
  EXPECT_EQ(alloc(), a);
}

TEST_F(ObjectCacheTest, row_56_a_page_goes_when_its_last_object_does_and_one_is_kept) {
  std::vector<void*> objects;
  for (u32 i = 0; i < 3 * 128; ++i) objects.push_back(alloc());
  ASSERT_EQ(cache_.slabs(), 3U);
  // All but one of the first slab: the page stays.
  for (u32 i = 1; i < 128; ++i) cache_.free(objects[i]);
  EXPECT_EQ(cache_.slabs(), 3U);
  for (u32 i = 128; i < 3 * 128; ++i) cache_.free(objects[i]);
  EXPECT_EQ(cache_.slabs(), 2U) << "one empty slab is kept, the next goes";
  EXPECT_TRUE(cache_.validate());
  cache_.free(objects[0]);
  EXPECT_EQ(cache_.slabs(), 1U);
  EXPECT_EQ(cache_.objects_active(), 0U);
  EXPECT_TRUE(bed_.sum_holds());
  EXPECT_TRUE(cache_.validate());
}

TEST_F(ObjectCacheTest, shrink_gives_the_slab_kept_in_reserve_back_and_no_other) {
  const u64 before = bed_.allocator.free_pages().v;
  std::vector<void*> objects;
  for (u32 i = 0; i < 3 * 128; ++i) objects.push_back(alloc());
  for (u32 i = 0; i < 2 * 128; ++i) cache_.free(objects[i]);
  EXPECT_EQ(cache_.slabs(), 2U);  // the full one, and the reserve
  EXPECT_EQ(cache_.shrink(), 1U);
  EXPECT_EQ(cache_.shrink(), 0U);
  EXPECT_EQ(cache_.slabs(), 1U);
  EXPECT_TRUE(cache_.validate());
  for (u32 i = 2 * 128; i < 3 * 128; ++i) cache_.free(objects[i]);
  EXPECT_EQ(cache_.shrink(), 1U);
  EXPECT_EQ(bed_.allocator.free_pages().v, before);
  EXPECT_NE(alloc(), nullptr);
  EXPECT_TRUE(cache_.validate());
}

TEST_F(ObjectCacheTest, random_use_agrees_with_a_model) {
  std::vector<u64*> taken;
  Prng prng(27);
  for (u32 step = 0; step < 20'000; ++step) {
    if (taken.size() < 1000 && prng.below(100) < (step / 2000 % 2 == 0 ? 70U : 30U)) {
      u64* object = static_cast<u64*>(alloc());
      ASSERT_EQ(object[0] | object[3], 0U);
      object[0] = reinterpret_cast<u64>(object);
      taken.push_back(object);
    } else if (!taken.empty()) {
      const u64 i = prng.below(taken.size());
      ASSERT_EQ(*taken[i], reinterpret_cast<u64>(taken[i])) << "somebody else wrote it";
      cache_.free(taken[i]);
      taken[i] = taken.back();
      taken.pop_back();
    }
    ASSERT_EQ(cache_.objects_active(), taken.size());
    if (step % 500 == 0) {
      ASSERT_TRUE(cache_.validate());
    }
  }
}

TEST_F(ObjectCacheTest, a_failed_allocation_changes_nothing) {
  void* object = alloc();
  for (u32 i = 1; i < 128; ++i) (void)alloc();
  bed_.reclaimer.outcome = ReclaimOutcome::wait;
  while (bed_.allocator.alloc(0, AllocFlags{}).ok()) {
  }
  EXPECT_EQ(cache_.alloc(kAllocKernel).error(), Error::wait);
  bed_.reclaimer.outcome = ReclaimOutcome::exhausted;
  EXPECT_EQ(cache_.alloc(kAllocKernel).error(), Error::no_memory);
  EXPECT_EQ(cache_.slabs(), 1U);
  EXPECT_EQ(cache_.objects_active(), 128U);
  EXPECT_TRUE(cache_.validate());
  cache_.free(object);
  EXPECT_EQ(alloc(), object);
}

TEST_F(ObjectCacheTest, validate_sees_damage) {
  void* a = alloc();
  void* b = alloc();
  cache_.free(a);
  ASSERT_TRUE(cache_.validate());
  Page& page = bed_.frames[bed_.sim.machine().frames.pfn_of(b)];
  const u64 good = page.private_data;
  page.private_data = good + 1;
  EXPECT_FALSE(cache_.validate()) << "one object in use too many";
  page.private_data = good;
  u16 link;
  std::memcpy(&link, a, sizeof link);
  const u16 bad = 4000;
  std::memcpy(a, &bad, sizeof bad);
  EXPECT_FALSE(cache_.validate()) << "a free list that leaves the slab";
  std::memcpy(a, &link, sizeof link);
  EXPECT_TRUE(cache_.validate());
}

using ObjectCacheDeathTest = ObjectCacheTest;

TEST_F(ObjectCacheDeathTest, row_59_bad_frees_are_stopped) {
  print_panics();
  ObjectCache odd;
  odd.init(bed_.allocator, bed_.frames, bed_.sim.machine().frames, "odd", 48);
  u8* object = static_cast<u8*>(odd.alloc(kAllocKernel).value());
  EXPECT_DEATH(odd.free(object + 16), "offset") << "not the start of an object";
  EXPECT_DEATH(odd.free(object + 85 * 48), "per_slab") << "behind the last object";
  const Pfn foreign = bed_.allocator.alloc_kernel(PageOwner::pool, kAllocKernel).value();
  EXPECT_DEATH(odd.free(bed_.sim.machine().frames.bytes(foreign)), "owner");
  (void)odd.alloc(kAllocKernel);
  odd.free(object);
  EXPECT_DEATH(odd.free(object), "free_head") << "twice in a row";
}

}  // namespace
}  // namespace spillway
