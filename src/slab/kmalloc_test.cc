// Kmalloc: every size gets the first class that fits, and free and usable_size find it again.
#include "slab/kmalloc.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "slab/slab_bed_test.h"

namespace spillway {
namespace {

class KmallocTest : public SlabBed {
 protected:
  void make(const KmallocConfig& config) { ASSERT_TRUE(general_.init(chain_, config).ok()); }
  void* get(u64 size) { return general_.alloc(size, kAllocKernel).value(); }
  Kmalloc general_;
};

TEST_F(KmallocTest, takes_the_first_class_that_fits) {
  make({});
  for (const auto& [size, usable] : std::vector<std::pair<u64, u64>>{{0, 32},
                                                                     {1, 32},
                                                                     {32, 32},
                                                                     {33, 64},
                                                                     {64, 64},
                                                                     {65, 128},
                                                                     {1000, 1024},
                                                                     {4096, 4096},
                                                                     {4097, 8192},
                                                                     {65537, 131072},
                                                                     {131072, 131072}}) {
    void* object = get(size);
    EXPECT_EQ(general_.usable_size(object), usable) << size;
    EXPECT_EQ(reinterpret_cast<u64>(object) % (usable < 64 ? usable : 64), 0U) << size;
    std::memset(object, 0xff, usable);
    EXPECT_EQ(general_.usable_size(static_cast<u8*>(object) + usable - 1), usable)
        << "each frame of a slab leads to its cache";
    general_.free(object);
  }
  EXPECT_EQ(general_.alloc(131073, kAllocKernel).error(), Error::invalid);
  EXPECT_EQ(general_.alloc(~u64{0}, kAllocKernel).error(), Error::invalid);
  general_.free(nullptr);
  EXPECT_TRUE(consistent());
  EXPECT_TRUE(general_.destroy().ok());
  (void)chain_.shrink_all();
  EXPECT_EQ(chain_.frames(), 0U);
}

TEST_F(KmallocTest, has_the_caches_of_2_4_with_their_numbers) {
  make({.line = 32});
  const u32 objects[] = {113, 59, 30, 15, 8, 4, 2, 1, 1, 1, 1, 1, 1};
  u32 k = 0;
  for (KmemCache* c = chain_.find("size-32"); c != nullptr; c = SlabChain::next(*c), ++k) {
    const std::string name = "size-" + std::to_string(32U << k);
    EXPECT_EQ(name, c->name());
    EXPECT_EQ(c->objects_per_slab(), objects[k]) << name;
    EXPECT_EQ(1U << c->layout().order, k < 8 ? 1U : 1U << (k - 7)) << name;
    EXPECT_EQ(c->off_slab(), k >= 4) << name;
  }
  EXPECT_EQ(k, Kmalloc::kClasses);
}

TEST_F(KmallocTest, zeroes_are_given_to_who_asks_for_them) {
  for (const SlabCheck check : {SlabCheck::none, SlabCheck::sanity, SlabCheck::full}) {
    for (const u32 limit : {0U, KmemCacheConfig::kLimitBySize}) {
      Kmalloc general;
      ASSERT_TRUE(general.init(chain_, {.check = check, .limit = limit}).ok());
      for (const u64 size : {u64{20}, u64{700}, u64{8192}, Kmalloc::kSizeMax}) {
        void* const used = general.alloc(size, kAllocKernel).value();
        std::memset(used, 0xee, size);
        general.free(used);
        void* const again = general.alloc(size, kAllocUserZero).value();
        EXPECT_EQ(again, used);
        EXPECT_TRUE(all_bytes_are(static_cast<u8*>(again), 0, general.usable_size(again))) << size;
        general.free(again);
      }
      EXPECT_TRUE(general.destroy().ok());
    }
  }
}

TEST_F(KmallocTest, is_not_destroyed_with_objects_in_use) {
  make({.check = SlabCheck::full});
  void* object = get(100);
  EXPECT_EQ(general_.destroy().error(), Error::busy);
  EXPECT_STREQ(chain_.refused(), "size-128");
  void* second = get(2000);
  general_.free(second);
  general_.free(object);
  EXPECT_TRUE(general_.destroy().ok());
  EXPECT_TRUE(bed_.sum_holds());
}

TEST_F(KmallocTest, an_init_without_memory_leaves_nothing) {
  std::vector<Pfn> taken;
  for (Result<Pfn> p = bed_.allocator.alloc(0, AllocFlags{}); p.ok();
       p = bed_.allocator.alloc(0, AllocFlags{})) {
    taken.push_back(p.value());
  }
  for (u32 give_back = 0; !general_.init(chain_, {}, AllocFlags{}).ok(); ++give_back) {
    EXPECT_EQ(chain_.frames(), 0U);
    EXPECT_EQ(chain_.find("size-32"), nullptr);
    ASSERT_FALSE(taken.empty());
    bed_.allocator.free(taken.back(), 0);
    taken.pop_back();
  }
  EXPECT_TRUE(chain_.validate());
}

TEST_F(KmallocTest, foreign_pointers_are_reported) {
  print_panics();
  make({});
  KmemCache other;
  init(other, {.name = "other", .size = 64});
  int local = 0;
  EXPECT_DEATH(general_.free(&local), "foreign pointer in cache kmalloc");
  EXPECT_DEATH(general_.free(other.alloc(kAllocKernel).value()), "foreign pointer");
  EXPECT_DEATH((void)general_.usable_size(&local), "foreign pointer");
}

}  // namespace
}  // namespace spillway
