// Goal: whatever is done in whatever order, objects never overlap, never change while in use, and
// every frame stays counted. Method: seeded random operations over several caches of different
// kinds, each object filled with a pattern of its own that is checked before it is freed.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "base/prng.h"
#include "slab/kmalloc.h"
#include "slab/slab_bed_test.h"

namespace spillway {
namespace {

struct Held {
  KmemCache* cache;  // null: general
  u8* at;
  u64 size;
  u64 pattern;
};

void fill(const Held& h) {
  Prng prng(h.pattern);
  u64 i = 0;
  for (; i + 8 <= h.size; i += 8) {
    const u64 word = prng.next();
    std::memcpy(h.at + i, &word, 8);
  }
  std::memset(h.at + i, static_cast<int>(h.pattern & 0xff), h.size - i);
}

bool intact(const Held& h) {
  Prng prng(h.pattern);
  u64 i = 0;
  for (; i + 8 <= h.size; i += 8) {
    const u64 word = prng.next();
    if (std::memcmp(h.at + i, &word, 8) != 0) return false;
  }
  for (; i < h.size; ++i) {
    if (h.at[i] != static_cast<u8>(h.pattern & 0xff)) return false;
  }
  return true;
}

void construct(void* object, void* size) {
  std::memset(object, 0x3c, *static_cast<const u32*>(size));
}

class SlabModel : public SlabBed, public ::testing::WithParamInterface<u64> {
 protected:
  static constexpr u32 kCaches = 6;

  void set_up_caches(Prng& prng) {
    static constexpr const char* kNames[kCaches] = {"m0", "m1", "m2", "m3", "m4", "m5"};
    for (u32 i = 0; i < kCaches; ++i) {
      KmemCacheConfig config;
      config.name = kNames[i];
      sizes_[i] = static_cast<u32>(prng.one_in(3) ? prng.between(8, 9000) : prng.between(8, 300));
      config.size = sizes_[i];
      config.align = 8U << prng.below(5);
      config.hwcache_align = prng.one_in(3);
      config.check = static_cast<SlabCheck>(prng.below(3));
      config.locking = prng.one_in(2) ? SlabLocking::own : SlabLocking::callers;
      config.line = prng.one_in(2) ? 32 : 64;
      if (prng.one_in(3)) config.empty_max = static_cast<u32>(prng.below(3));
      if (prng.one_in(2)) config.limit = static_cast<u32>(prng.below(20));
      if (prng.one_in(3)) {
        config.ctor = construct;
        config.context = &sizes_[i];
        if (prng.one_in(2)) config.dtor = [](void*, void*) {};
      } else {
        config.zero = prng.one_in(2);
      }
      init(caches_[i], config);
    }
    const bool checked = prng.one_in(2);
    ASSERT_TRUE(general_.init(chain_, {.check = checked ? SlabCheck::full : SlabCheck::none}).ok());
  }
  void alloc_one(Prng& prng) {
    const u32 slot = static_cast<u32>(prng.below(3));
    const u32 which = static_cast<u32>(prng.below(kCaches + 2));
    Held h{nullptr, nullptr, 0, prng.next()};
    Result<void*> got = Error::invalid;
    if (which < kCaches) {
      h.cache = &caches_[which];
      h.size = h.cache->object_size();
      got = h.cache->alloc(kAllocAtomic, slot);
    } else {
      h.size = prng.one_in(8) ? prng.between(1, 131072) : prng.between(1, 2000);
      got = general_.alloc(h.size, kAllocAtomic, slot);
      if (got.ok()) {
        ASSERT_LE(h.size, general_.usable_size(got.value()));
      }
    }
    if (!got.ok()) {
      ASSERT_EQ(got.error(), Error::no_memory);
      return;
    }
    h.at = static_cast<u8*>(got.value());
    if (h.cache != nullptr && h.cache->config().zero) {
      ASSERT_TRUE(all_bytes_are(h.at, 0, h.size));
    }
    if (h.cache != nullptr && h.cache->config().ctor != nullptr) {
      ASSERT_TRUE(all_bytes_are(h.at, 0x3c, h.size)) << "constructed";
    }
    fill(h);
    held_.push_back(h);
  }
  void free_one(Prng& prng) {
    const u64 i = prng.one_in(2) ? held_.size() - 1 : prng.below(held_.size());
    const Held h = held_[i];
    held_[i] = held_.back();
    held_.pop_back();
    give_back(h, static_cast<u32>(prng.below(3)));
  }
  void give_back(const Held& h, u32 slot) {
    ASSERT_TRUE(intact(h)) << "size " << h.size;
    if (h.cache == nullptr) {
      general_.free(h.at, slot);
      return;
    }
    if (h.cache->config().ctor != nullptr) construct(h.at, h.cache->config().context);
    h.cache->free(h.at, slot);
  }
  void disturb(Prng& prng) {
    KmemCache& cache = caches_[prng.below(kCaches)];
    switch (prng.below(6)) {
      case 0: (void)chain_.reap(static_cast<u32>(prng.below(3))); break;
      case 1: (void)cache.shrink(); break;
      case 2: cache.drain(static_cast<u32>(prng.below(3))); break;
      case 3: cache.request_drain(); break;
      case 4: (void)chain_.scan_objects({.nr_to_scan = prng.below(20)}); break;
      default: (void)chain_.shrink_all(prng.one_in(2) ? OwnedSlots::all : OwnedSlots::none); break;
    }
  }

  u32 sizes_[kCaches] = {};
  KmemCache caches_[kCaches];
  Kmalloc general_;
  std::vector<Held> held_;
};

TEST_P(SlabModel, objects_keep_their_bytes_and_every_frame_is_counted) {
  Prng prng(GetParam());
  set_up_caches(prng);
  for (u32 step = 0; step < 4000; ++step) {
    const bool rising = step / 500 % 2 == 0;
    if (held_.empty() || prng.below(100) < (rising ? 65U : 35U)) {
      alloc_one(prng);
    } else {
      free_one(prng);
    }
    if (prng.one_in(50)) disturb(prng);
    if (step % 400 == 0) {
      ASSERT_TRUE(consistent()) << "step " << step;
    }
    if (HasFatalFailure()) return;
  }
  ASSERT_TRUE(consistent());
  u64 per_cache[kCaches] = {};
  for (const Held& h : held_) {
    if (h.cache != nullptr) ++per_cache[h.cache - caches_];
  }
  for (u32 i = 0; i < kCaches; ++i) {
    ASSERT_EQ(caches_[i].objects_active(), per_cache[i]);
    const SlabInfo info = caches_[i].info();
    ASSERT_EQ(info.allocs - info.frees, per_cache[i]);
  }
  for (const Held& h : held_) give_back(h, 0);
  for (KmemCache& cache : caches_) ASSERT_TRUE(cache.destroy().ok());
  ASSERT_TRUE(general_.destroy().ok());
  (void)chain_.shrink_all();
  ASSERT_EQ(chain_.frames(), 0U) << "all frames are back";
}

INSTANTIATE_TEST_SUITE_P(Seeds, SlabModel, ::testing::Range<u64>(1, 41));

}  // namespace
}  // namespace spillway
