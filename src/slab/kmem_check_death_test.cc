// What each level of checking stops, with the name of the cache. Method: death tests that do one
// wrong thing each; and, so that the header's promises stay honest, what a level does not see.
#include <gtest/gtest.h>

#include <cstring>

#include "slab/slab_bed_test.h"

namespace spillway {
namespace {

class SlabCheckDeathTest : public SlabBed {
 protected:
  void make(SlabCheck check, u32 limit = KmemCacheConfig::kLimitBySize, u32 size = 48) {
    print_panics();
    init(cache_, {.name = "victim", .size = size, .check = check, .limit = limit});
  }
  u8* take() { return static_cast<u8*>(alloc()); }
};

TEST_F(SlabCheckDeathTest, row_59_bad_frees_and_writes_are_reported_with_the_cache) {
  make(SlabCheck::full);
  KmemCache other;
  init(other, {.name = "other", .size = 48});
  u8* a = take();
  u8* b = take();
  (void)take();
  EXPECT_DEATH(cache_.free(a + 16), "pointer into the middle in cache victim");
  EXPECT_DEATH(cache_.free(other.alloc(kAllocKernel).value()),
               "object of another cache in cache victim");
  const Pfn foreign = bed_.allocator.alloc_kernel(PageOwner::pool, kAllocKernel).value();
  EXPECT_DEATH(cache_.free(memory().bytes(foreign)), "foreign pointer in cache victim");
  int local = 0;
  EXPECT_DEATH(cache_.free(&local), "foreign pointer in cache victim");
  EXPECT_DEATH(
      {
        cache_.free(a);
        cache_.free(b);
        cache_.free(a);
      },
      "double free in cache victim");
  EXPECT_DEATH(
      {
        a[48] = 1;
        cache_.free(a);
      },
      "write past the end in cache victim");
  EXPECT_DEATH(
      {
        a[-1] = 1;
        cache_.free(a);
      },
      "write before the object in cache victim");
  EXPECT_DEATH(
      {
        cache_.free(a);
        a[20] = 1;
        (void)take();
      },
      "write after free in cache victim");
}

TEST_F(SlabCheckDeathTest, one_byte_past_an_odd_size_is_seen) {
  make(SlabCheck::full, KmemCacheConfig::kLimitBySize, 13);
  u8* a = take();
  std::memset(a, 0xff, 13);
  cache_.free(a);
  a = take();
  EXPECT_DEATH(
      {
        a[13] = 0;
        cache_.free(a);
      },
      "write past the end");
}

TEST_F(SlabCheckDeathTest, freed_objects_read_as_poison_and_are_checked_when_their_slab_goes) {
  make(SlabCheck::full);
  u8* a = take();
  std::memset(a, 1, 48);
  cache_.free(a);
  EXPECT_TRUE(all_bytes_are(a, kPoison, 47));
  EXPECT_EQ(a[47], kPoisonEnd);
  EXPECT_DEATH(
      {
        a[47] = 0;
        (void)cache_.shrink();
      },
      "write after free in cache victim");
}

TEST_F(SlabCheckDeathTest, a_constructed_object_keeps_its_state_and_late_writes_are_seen) {
  print_panics();
  init(cache_, {.name = "built",
                .size = 40,
                .ctor = [](void* object, void*) { std::memset(object, 3, 40); },
                .check = SlabCheck::full});
  u8* a = take();
  EXPECT_TRUE(all_bytes_are(a, 3, 40));
  cache_.free(a);
  EXPECT_TRUE(all_bytes_are(a, 3, 40));
  EXPECT_EQ(take(), a);
  cache_.free(a);
  EXPECT_DEATH(
      {
        a[7] = 4;
        (void)take();
      },
      "write after free, or before the object in cache built");
}

TEST_F(SlabCheckDeathTest, level_sanity_stops_every_double_free_while_the_object_is_free) {
  for (const u32 limit : {0U, 8U}) {
    KmemCache cache;
    const std::string name = "sane" + std::to_string(limit);
    print_panics();
    init(cache, {.name = name.c_str(), .size = 48, .check = SlabCheck::sanity, .limit = limit});
    void* a = cache.alloc(kAllocKernel).value();
    void* b = cache.alloc(kAllocKernel).value();
    EXPECT_DEATH(
        {
          cache.free(a);
          cache.free(b);
          cache.free(a);
        },
        "double free in cache sane");
    EXPECT_DEATH(cache.free(static_cast<u8*>(a) + 8), "pointer into the middle");
    cache.free(a);
    cache.free(b);
    EXPECT_TRUE(cache.destroy().ok());
  }
}

TEST_F(SlabCheckDeathTest, level_none_looks_when_objects_go_back_to_their_slab) {
  make(SlabCheck::none);
  u8* a = take();
  u8* b = take();
  EXPECT_DEATH(
      {
        cache_.free(a);
        cache_.free(a);
        cache_.drain(0);
      },
      "double free in cache victim");
  EXPECT_DEATH(
      {
        cache_.free(b + 8);
        cache_.drain(0);
      },
      "pointer into the middle");
  int local = 0;
  EXPECT_DEATH(
      {
        cache_.free(&local);
        cache_.drain(0);
      },
      "foreign pointer");
}

TEST_F(SlabCheckDeathTest, caches_that_cannot_be_are_refused) {
  print_panics();
  KmemCache bad;
  EXPECT_DEATH((void)bad.init(chain_, {.name = "small", .size = 4}), "size");
  EXPECT_DEATH((void)bad.init(chain_, {.name = "large", .size = 131073}), "size");
  EXPECT_DEATH((void)bad.init(chain_, {.name = "a_name_of_19_letters", .size = 8}), "name");
  EXPECT_DEATH((void)bad.init(chain_, {.size = 8}), "name");
  EXPECT_DEATH((void)bad.init(chain_, {.name = "slab_few", .size = 8}), "name");
  EXPECT_DEATH((void)bad.init(chain_, {.name = "dtor", .size = 8, .dtor = [](void*, void*) {}}),
               "dtor");
  SlabChain chain;  // whose descriptors have no lock
  chain.init(bed_.allocator, bed_.frames, memory());
  EXPECT_DEATH(
      (void)bad.init(chain, {.name = "off", .size = 1024, .locking = SlabLocking::own, .limit = 0}),
      "own_lock_");
}

}  // namespace
}  // namespace spillway
