// KmemCache: how slabs are cut, where objects lie, what comes back when, and how magazines move
// objects. Method: caches on the simulated machine, counted against what the layout says.
#include "slab/kmem_cache.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <set>
#include <vector>

#include "base/prng.h"
#include "slab/slab_bed_test.h"

namespace spillway {
namespace {

using KmemCacheTest = SlabBed;

constexpr KmemCacheConfig sized(const char* name, u32 size, u32 line = 32) {
  return {.name = name, .size = size, .line = line};
}

TEST(SlabLayout, gives_the_numbers_of_2_4_with_lines_of_32_bytes) {
  struct Row {
    u32 size, objects, colours;
    bool off_slab;
  };
  for (const Row& r : {Row{32, 113, 0, false}, Row{64, 59, 1, false}, Row{128, 30, 3, false},
                       Row{256, 15, 5, false}, Row{512, 8, 0, true}, Row{1024, 4, 0, true},
                       Row{2048, 2, 0, true}, Row{4096, 1, 0, true}}) {
    const SlabLayout l = slab_layout(sized("x", r.size), kSlabBreakOrderHigh);
    EXPECT_EQ(l.order, 0U) << r.size;
    EXPECT_EQ(l.objects, r.objects) << r.size;
    EXPECT_EQ(l.colours, r.colours) << r.size;
    EXPECT_EQ(l.header == 0, r.off_slab) << r.size;
  }
}

TEST(SlabLayout, takes_more_frames_while_an_eighth_is_wasted_and_no_more_than_the_break_order) {
  // 1400: 2 in 4096 waste 1296, 5 in 8192 waste 1192 > 1024, 11 in 16384 waste 984 <= 2048.
  EXPECT_EQ(slab_layout(sized("x", 1400), kSlabBreakOrderLow).order, 1U);
  EXPECT_EQ(slab_layout(sized("x", 1400), kSlabBreakOrderHigh).order, 2U);
  // An object that needs more frames gets them, up to 32.
  EXPECT_EQ(slab_layout(sized("x", 3 * 4096), kSlabBreakOrderLow).order, 2U);
  EXPECT_EQ(slab_layout(sized("x", 131072), kSlabBreakOrderLow).order, 5U);
  EXPECT_EQ(slab_layout(sized("x", 131072), kSlabBreakOrderLow).objects, 1U);
}

TEST(SlabLayout, a_large_object_keeps_its_descriptor_in_the_slab_where_there_is_room) {
  const SlabLayout l = slab_layout(sized("x", 536), kSlabBreakOrderHigh);
  EXPECT_EQ(l.objects, 7U);
  EXPECT_EQ(l.header, 64U);
  EXPECT_EQ(slab_layout(sized("x", 512), kSlabBreakOrderHigh).header, 0U);
}

TEST_F(KmemCacheTest, row_55_one_frame_holds_113_objects_of_32_bytes) {
  init(cache_, sized("test", 32));
  const u64 before = bed_.allocator.free_pages().v;
  std::set<void*> seen;
  for (u32 i = 0; i < 113; ++i) {
    EXPECT_TRUE(seen.insert(alloc()).second);
    EXPECT_EQ(before - bed_.allocator.free_pages().v, 1U);
  }
  EXPECT_EQ(cache_.slabs(), 1U);
  (void)alloc();
  EXPECT_EQ(cache_.slabs(), 2U);
  EXPECT_EQ(before - bed_.allocator.free_pages().v, 2U);
  EXPECT_TRUE(consistent());
}

TEST_F(KmemCacheTest, row_56_a_slab_goes_after_its_last_object_and_a_shrink_or_reap) {
  init(cache_, sized("test", 32));
  std::vector<void*> objects;
  for (u32 i = 0; i < 113; ++i) objects.push_back(alloc());
  const Pfn frame = frame_of(objects[0]);
  for (u32 i = 1; i < 113; ++i) cache_.free(objects[i]);
  EXPECT_EQ(cache_.shrink(), 0U);
  (void)chain_.reap();
  EXPECT_EQ(chain_.reap(), 0U);
  EXPECT_EQ(cache_.slabs(), 1U);
  EXPECT_EQ(bed_.frames[frame].owner, PageOwner::slab) << "one object keeps the page";
  cache_.free(objects[0]);
  EXPECT_EQ(cache_.slabs(), 1U) << "the page stays until somebody asks";
  EXPECT_EQ(cache_.shrink(), 1U);
  EXPECT_EQ(cache_.slabs(), 0U);
  EXPECT_EQ(bed_.frames[frame].owner, PageOwner::none);
  EXPECT_TRUE(consistent());
}

struct Ctors {
  std::map<void*, u32> made, ended;
  static void ctor(void* object, void* self) {
    ++static_cast<Ctors*>(self)->made[object];
    std::memset(object, 0x11, 48);
  }
  static void dtor(void* object, void* self) { ++static_cast<Ctors*>(self)->ended[object]; }
};

TEST_F(KmemCacheTest, row_57_the_object_freed_last_comes_first_and_the_ctor_ran_once) {
  for (const u32 limit : {0U, 4U, KmemCacheConfig::kLimitBySize}) {
    Ctors ctors;
    KmemCache cache;
    KmemCacheConfig config = sized("ctor", 48);
    config.ctor = Ctors::ctor;
    config.dtor = Ctors::dtor;
    config.context = &ctors;
    config.limit = limit;
    init(cache, config);
    void* a = cache.alloc(kAllocKernel).value();
    void* b = cache.alloc(kAllocKernel).value();
    EXPECT_TRUE(all_bytes_are(static_cast<u8*>(a), 0x11, 48)) << "handed out constructed";
    cache.free(a);
    cache.free(b);
    EXPECT_EQ(cache.alloc(kAllocKernel).value(), b);
    EXPECT_EQ(cache.alloc(kAllocKernel).value(), a);
    for (u32 i = 0; i < 1000; ++i) {
      cache.free(a);
      ASSERT_EQ(cache.alloc(kAllocKernel).value(), a);
    }
    EXPECT_EQ(ctors.made.size(), cache.objects_per_slab()) << "once per object of the slab";
    for (const auto& [object, count] : ctors.made) EXPECT_EQ(count, 1U) << object;
    EXPECT_TRUE(ctors.ended.empty());
    cache.free(a);
    cache.free(b);
    EXPECT_EQ(cache.shrink(), 1U);
    EXPECT_EQ(ctors.ended, ctors.made);
    EXPECT_TRUE(cache.destroy().ok());
  }
}

TEST_F(KmemCacheTest, row_58_slabs_start_their_objects_at_different_colours) {
  init(cache_, sized("colour", 128));
  std::vector<u64> first;
  std::map<u32, u64> lowest;
  for (u32 i = 0; i < 4 * 30; ++i) {
    const u64 offset = offset_of(alloc());
    lowest.try_emplace(i / 30, offset);
    lowest[i / 30] = std::min(lowest[i / 30], offset);
  }
  ASSERT_EQ(cache_.slabs(), 4U);
  EXPECT_EQ(lowest[1] - lowest[0], 32U);
  EXPECT_EQ(lowest[2] - lowest[0], 64U);
  EXPECT_EQ(lowest[3], lowest[0]);
}

TEST_F(KmemCacheTest, objects_of_every_size_are_aligned_and_do_not_overlap) {
  u32 number = 0;
  for (const SlabCheck check : {SlabCheck::none, SlabCheck::sanity, SlabCheck::full}) {
    for (u32 size : {8U, 13U, 17U, 48U, 88U, 536U, 700U, 2048U, 4096U, 5000U, 20000U, 131072U}) {
      for (u32 align : {8U, 64U, 256U}) {
        if (check == SlabCheck::full && size == 131072) continue;  // no room for red zones
        const std::string name = "sizes" + std::to_string(number++);
        KmemCache cache;
        init(cache,
             {.name = name.c_str(), .size = size, .align = align, .zero = true, .check = check});
        std::vector<u8*> objects;
        for (u32 i = 0; i < cache.objects_per_slab() + 2; ++i) {
          objects.push_back(static_cast<u8*>(cache.alloc(kAllocKernel).value()));
          ASSERT_EQ(reinterpret_cast<u64>(objects.back()) % align, 0U) << size;
          ASSERT_TRUE(all_bytes_are(objects.back(), 0, size)) << "handed out zeroed";
          std::memset(objects.back(), static_cast<int>(i), size);
          for (u32 at : {0U, size - 1}) {
            ASSERT_EQ(chain_.cache_of(objects.back() + at), &cache) << "every frame leads to it";
          }
        }
        EXPECT_TRUE(consistent());
        for (u32 i = 0; i < objects.size(); ++i) {
          ASSERT_TRUE(all_bytes_are(objects[i], static_cast<u8>(i), size)) << size << " " << i;
          cache.free(objects[i]);
        }
        EXPECT_EQ(cache.objects_active(), 0U);
        EXPECT_TRUE(consistent());
        EXPECT_TRUE(cache.destroy().ok());
      }
    }
  }
  (void)chain_.shrink_all();
  EXPECT_EQ(chain_.frames(), 0U);
}

TEST_F(KmemCacheTest, hwcache_align_halves_the_line_while_two_objects_fit) {
  for (const auto& [size, align] : std::map<u32, u32>{{8, 8}, {12, 16}, {24, 32}, {33, 64}}) {
    KmemCacheConfig config = sized("x", size, 64);
    config.hwcache_align = true;
    EXPECT_EQ(slab_layout(config, 1).align, align) << size;
  }
}

TEST_F(KmemCacheTest, partial_slabs_are_used_before_empty_ones) {
  KmemCacheConfig config = sized("order", 128);
  config.limit = 0;
  init(cache_, config);
  std::vector<void*> objects;
  for (u32 i = 0; i < 3 * 30; ++i) objects.push_back(alloc());
  for (u32 i = 0; i < 30; ++i) cache_.free(objects[i]);  // the first is empty
  cache_.free(objects[40]);                              // the second has one
  cache_.free(objects[70]);                              // the third, which is the latest
  EXPECT_EQ(alloc(), objects[70]);
  EXPECT_EQ(alloc(), objects[40]);
  EXPECT_EQ(frame_of(alloc()), frame_of(objects[0]));
  EXPECT_TRUE(consistent());
}

TEST_F(KmemCacheTest, the_slab_that_has_been_empty_for_longest_is_used_first) {
  KmemCacheConfig config = sized("empties", 128);
  config.limit = 0;
  init(cache_, config);
  std::vector<void*> objects;
  for (u32 i = 0; i < 3 * 30; ++i) objects.push_back(alloc());
  for (u32 i : {1U, 2U, 0U}) {
    for (u32 k = 0; k < 30; ++k) cache_.free(objects[30 * i + k]);
  }
  EXPECT_EQ(frame_of(alloc()), frame_of(objects[30]));
  EXPECT_TRUE(consistent());
}

TEST_F(KmemCacheTest, a_full_magazine_that_is_asked_for_its_objects_at_every_level) {
  for (const SlabCheck check : {SlabCheck::none, SlabCheck::sanity, SlabCheck::full}) {
    KmemCache cache;
    KmemCacheConfig config = sized("asked", 64);
    config.check = check;
    config.limit = 1;
    init(cache, config);
    void* a = cache.alloc(kAllocKernel).value();
    void* b = cache.alloc(kAllocKernel).value();
    cache.free(a);
    cache.request_drain();
    cache.free(b);
    EXPECT_TRUE(consistent());
    EXPECT_TRUE(cache.destroy().ok());
  }
}

TEST_F(KmemCacheTest, empty_max_gives_the_next_empty_slab_back_at_once) {
  init(cache_, KmemCacheConfig::core("core", 32));
  const u32 per_slab = cache_.objects_per_slab();
  std::vector<void*> objects;
  for (u32 i = 0; i < 3 * per_slab; ++i) {
    objects.push_back(alloc());
    EXPECT_TRUE(all_bytes_are(static_cast<u8*>(objects.back()), 0, 32));
    std::memset(objects.back(), 0xee, 32);
  }
  for (u32 i = 1; i < per_slab; ++i) cache_.free(objects[i]);
  EXPECT_EQ(cache_.slabs(), 3U);
  for (u32 i = per_slab; i < 3 * per_slab; ++i) cache_.free(objects[i]);
  EXPECT_EQ(cache_.slabs(), 2U) << "one empty slab is kept, the next goes";
  cache_.free(objects[0]);
  EXPECT_EQ(cache_.slabs(), 1U);
  EXPECT_EQ(cache_.objects_active(), 0U);
  EXPECT_TRUE(consistent());
}

// An only slab with free objects stays at hand when it becomes empty; once another has some, it is
// an empty one like all others.
TEST_F(KmemCacheTest, an_object_that_comes_and_goes_leaves_its_slab_at_hand) {
  init(cache_, KmemCacheConfig::core("alone", 64));
  void* a = alloc();
  cache_.free(a);
  EXPECT_EQ(cache_.slabs_empty(), 1U);
  ASSERT_TRUE(consistent());
  EXPECT_EQ(alloc(), a);
  EXPECT_EQ(cache_.slabs_empty(), 0U);
  std::vector<void*> full{a};
  while (full.size() < cache_.objects_per_slab()) full.push_back(alloc());
  void* b = alloc();
  cache_.free(b);
  EXPECT_EQ(cache_.slabs_empty(), 1U);
  cache_.free(full.back());
  ASSERT_TRUE(consistent());
  EXPECT_EQ(alloc(), full.back()) << "the partial slab before the empty one";
  EXPECT_EQ(alloc(), b);
  cache_.free(b);
  EXPECT_EQ(cache_.shrink(), 1U);
  EXPECT_EQ(cache_.slabs(), 1U);
  ASSERT_TRUE(consistent());
  for (void* object : full) cache_.free(object);
  EXPECT_EQ(cache_.shrink(), 1U);
  EXPECT_TRUE(consistent());
}

TEST_F(KmemCacheTest, magazines_refill_and_flush_by_half) {
  KmemCacheConfig config = sized("mags", 64);
  init(cache_, config);
  EXPECT_EQ(cache_.limit(), 252U);
  EXPECT_EQ(cache_.info().batch, 126U);
  std::vector<void*> objects;
  for (u32 i = 0; i < 59; ++i) objects.push_back(alloc());
  EXPECT_EQ(cache_.objects_cached(), 0U);
  for (u32 i = 0; i < 300; ++i) objects.push_back(alloc());
  while (objects.size() > 100) {
    cache_.free(objects.back());
    objects.pop_back();
  }
  // 259 were freed: at the 253rd a batch went back.
  EXPECT_EQ(cache_.objects_cached() - (359 + 59 - 1) / 59 * 59 + 359, 259U - 126U);
  EXPECT_EQ(cache_.objects_active(), 100U);
  EXPECT_TRUE(consistent());
  for (void* object : objects) cache_.free(object);
  cache_.drain(0);
  EXPECT_EQ(cache_.objects_cached(), 0U);
  EXPECT_EQ(cache_.slabs_empty(), cache_.slabs());
  EXPECT_TRUE(consistent());
}

TEST_F(KmemCacheTest, magazines_have_limits_by_size) {
  EXPECT_EQ(magazine_limit_for(8), 252U);
  EXPECT_EQ(magazine_limit_for(256), 252U);
  EXPECT_EQ(magazine_limit_for(257), 124U);
  EXPECT_EQ(magazine_limit_for(1024), 124U);
  EXPECT_EQ(magazine_limit_for(1025), 60U);
  EXPECT_EQ(magazine_limit_for(4096), 60U);
  EXPECT_EQ(magazine_limit_for(4097), 0U);
}

TEST_F(KmemCacheTest, who_does_not_own_a_slot_gets_its_objects_at_the_owners_next_free) {
  KmemCacheConfig config = sized("remote", 64);
  config.locking = SlabLocking::own;
  init(cache_, config);
  void* a = cache_.alloc(kAllocKernel, 1).value();
  void* b = cache_.alloc(kAllocKernel, 1).value();
  cache_.free(a, 1);
  EXPECT_EQ(cache_.shrink(OwnedSlots::none), 0U) << "the objects are the owner's";
  EXPECT_EQ(cache_.objects_cached(), 58U);
  cache_.free(b, 1);
  EXPECT_LE(cache_.objects_cached(), 1U);
  EXPECT_TRUE(consistent());
  // Asked only once: the magazine works again.
  a = cache_.alloc(kAllocKernel, 1).value();
  b = cache_.alloc(kAllocKernel, 1).value();
  cache_.free(a, 1);
  cache_.free(b, 1);
  EXPECT_EQ(cache_.objects_cached(), 59U);
}

TEST_F(KmemCacheTest, the_depot_takes_what_magazines_give_back_and_hands_it_to_any_slot) {
  KmemCacheConfig config = sized("depot", 64);
  config.locking = SlabLocking::own;
  config.limit = 20;
  config.depot_frames = 2;
  config.check = SlabCheck::sanity;
  init(cache_, config);
  std::vector<void*> objects;
  for (u32 i = 0; i < 3000; ++i) objects.push_back(alloc());
  const u64 slabs = cache_.slabs();
  for (void* object : objects) cache_.free(object);
  // Two frames hold 51 batches of ten each; the rest went to the slabs.
  EXPECT_EQ(cache_.objects_cached(), 1020U + 20U);
  EXPECT_EQ(cache_.objects_active(), 0U);
  EXPECT_LT(0U, cache_.slabs_empty());
  EXPECT_TRUE(consistent()) << "the depot's frames are counted";
  const u64 empty = cache_.slabs_empty();
  std::set<void*> seen;
  for (u32 i = 0; i < 1020; ++i) {
    EXPECT_TRUE(seen.insert(cache_.alloc(kAllocKernel, 2).value()).second);
  }
  EXPECT_EQ(cache_.slabs_empty(), empty) << "none of it from the slabs";
  EXPECT_EQ(cache_.objects_cached(), 20U);
  for (void* object : seen) cache_.free(object, 1);
  EXPECT_TRUE(consistent());
  EXPECT_EQ(cache_.shrink(), slabs);
  EXPECT_EQ(cache_.objects_cached(), 0U);
  EXPECT_TRUE(consistent());
}

TEST_F(KmemCacheTest, without_frames_to_spare_the_depot_is_passed_over) {
  KmemCacheConfig config = sized("depot", 64);
  config.locking = SlabLocking::own;
  config.limit = 20;
  init(cache_, config);
  std::vector<void*> objects;
  for (u32 i = 0; i < 300; ++i) objects.push_back(alloc());
  std::vector<Pfn> taken;
  for (Result<Pfn> p = bed_.allocator.alloc(0, AllocFlags{}); p.ok();
       p = bed_.allocator.alloc(0, AllocFlags{})) {
    taken.push_back(p.value());
  }
  for (void* object : objects) cache_.free(object);
  EXPECT_LE(cache_.objects_cached(), 20U);
  EXPECT_TRUE(consistent());
}

TEST_F(KmemCacheTest, growing_colours_and_counts_are_in_slabinfo) {
  KmemCacheConfig config = sized("info", 32);
  init(cache_, config);
  std::vector<void*> objects;
  for (u32 i = 0; i < 200; ++i) objects.push_back(alloc());
  for (u32 i = 0; i < 50; ++i) {
    cache_.free(objects.back());
    objects.pop_back();
  }
  const SlabInfo info = cache_.info();
  EXPECT_STREQ(info.name, "info");
  EXPECT_EQ(info.objects_active, 150U);
  EXPECT_EQ(info.objects_total, 226U);
  EXPECT_EQ(info.slabs_total, 2U);
  EXPECT_EQ(info.slabs_active, 2U);
  EXPECT_EQ(info.object_size, 32U);
  EXPECT_EQ(info.objects_per_slab, 113U);
  EXPECT_EQ(info.pages_per_slab, 1U);
  EXPECT_EQ(info.allocs, 200U);
  EXPECT_EQ(info.frees, 50U);
  EXPECT_EQ(info.grown, 2U);
  EXPECT_EQ(info.reaped, 0U);
  EXPECT_EQ(info.high_mark, 226U) << "what was in magazines counts";
  EXPECT_EQ(info.errors, 0U);
  for (void* object : objects) cache_.free(object);
  EXPECT_EQ(cache_.shrink(), 2U);
  EXPECT_EQ(cache_.info().reaped, 2U);
  EXPECT_EQ(cache_.info().frees, 200U);
  EXPECT_EQ(cache_.info().slabs_total, 0U);
}

TEST_F(KmemCacheTest, a_failed_allocation_changes_nothing) {
  for (const u32 size : {32U, 512U}) {  // on-slab, off-slab
    KmemCache cache;
    init(cache, sized("fails", size));
    void* object = cache.alloc(kAllocKernel).value();
    for (u32 i = 1; i < cache.objects_per_slab(); ++i) (void)cache.alloc(kAllocKernel);
    bed_.reclaimer.outcome = ReclaimOutcome::wait;
    std::vector<Pfn> taken;
    for (Result<Pfn> p = bed_.allocator.alloc(0, AllocFlags{}); p.ok();
         p = bed_.allocator.alloc(0, AllocFlags{})) {
      taken.push_back(p.value());
    }
    EXPECT_EQ(cache.alloc(kAllocKernel).error(), Error::wait);
    EXPECT_EQ(cache.alloc(kAllocAtomic).error(), Error::no_memory);
    bed_.reclaimer.outcome = ReclaimOutcome::exhausted;
    EXPECT_EQ(cache.alloc(kAllocKernel).error(), Error::no_memory);
    EXPECT_EQ(cache.slabs(), 1U);
    EXPECT_EQ(cache.objects_active(), cache.objects_per_slab());
    EXPECT_EQ(cache.info().errors, 3U);
    EXPECT_TRUE(consistent());
    cache.free(object);
    EXPECT_EQ(cache.alloc(kAllocKernel).value(), object);
    for (const Pfn pfn : taken) bed_.allocator.free(pfn, 0);
    leak(cache);
  }
}

TEST_F(KmemCacheTest, a_cache_with_objects_in_use_is_not_destroyed) {
  KmemCache cache;
  init(cache, sized("stays", 64));
  void* object = cache.alloc(kAllocKernel).value();
  EXPECT_EQ(chain_.refused(), nullptr);
  EXPECT_EQ(cache.destroy().error(), Error::busy);
  EXPECT_STREQ(chain_.refused(), "stays");
  EXPECT_EQ(chain_.find("stays"), &cache);
  cache.free(object);
  EXPECT_TRUE(cache.destroy().ok());
  EXPECT_EQ(chain_.find("stays"), nullptr);
  EXPECT_EQ(chain_.frames(), 0U);
  EXPECT_TRUE(bed_.sum_holds());
}

TEST_F(KmemCacheTest, validate_sees_damage) {
  KmemCacheConfig config = sized("damage", 64);
  config.check = SlabCheck::full;
  init(cache_, config);
  u8* a = static_cast<u8*>(alloc());
  u8* b = static_cast<u8*>(alloc());
  u8* c = static_cast<u8*>(alloc());
  cache_.free(a);
  cache_.drain(0);
  cache_.free(c);
  ASSERT_TRUE(cache_.validate());
  Slab& slab = *KmemCache::debug_slab(bed_.frames, frame_of(b));
  const auto broken = [&](auto& place, auto value, const char* what) {
    const auto good = place;
    place = static_cast<std::remove_reference_t<decltype(place)>>(value);
    EXPECT_FALSE(cache_.validate()) << what;
    place = good;
    EXPECT_TRUE(cache_.validate()) << what;
  };
  broken(slab.in_use, slab.in_use + 1, "one object in use too many");
  broken(slab.stack(slab.in_use), 4000, "a stack that leaves the slab");
  broken(slab.stack(slab.in_use), slab.stack(slab.in_use + 1U), "an object twice on the stack");
  broken(slab.state(0), 7, "a state that does not exist");
  broken(slab.start, slab.start + 8, "objects that begin elsewhere");
  Page& page = bed_.frames[frame_of(b)];
  broken(page.prev, 1U, "a list that is not linked back");
  broken(a[5], 0, "a free object was written to");
  broken(c[63], 0, "an object in a magazine was written to");
  broken(b[64], 0, "somebody wrote past the end");
  broken(b[-8], 0, "somebody wrote before the object");
}

TEST_F(KmemCacheTest, random_use_agrees_with_a_model) {
  for (const u32 limit : {0U, 6U, KmemCacheConfig::kLimitBySize}) {
    KmemCache cache;
    KmemCacheConfig config = sized("random", 32);
    config.limit = limit;
    config.check = SlabCheck::sanity;
    config.zero = true;
    init(cache, config);
    std::vector<u64*> taken;
    Prng prng(27);
    for (u32 step = 0; step < 20'000; ++step) {
      if (taken.size() < 1000 && prng.below(100) < (step / 2000 % 2 == 0 ? 70U : 30U)) {
        u64* object = static_cast<u64*>(cache.alloc(kAllocKernel).value());
        ASSERT_EQ(object[0] | object[3], 0U);
        object[0] = reinterpret_cast<u64>(object);
        taken.push_back(object);
      } else if (!taken.empty()) {
        const u64 i = prng.below(taken.size());
        ASSERT_EQ(*taken[i], reinterpret_cast<u64>(taken[i])) << "somebody else wrote it";
        cache.free(taken[i]);
        taken[i] = taken.back();
        taken.pop_back();
      }
      ASSERT_EQ(cache.objects_active(), taken.size());
      if (step % 500 == 0) {
        ASSERT_TRUE(consistent());
      }
    }
    for (u64* object : taken) cache.free(object);
    EXPECT_TRUE(cache.destroy().ok());
  }
}

}  // namespace
}  // namespace spillway
