// Kmalloc: general sizes on top of KmemCache: caches size-32, size-64, ... size-131072; an
// allocation takes the first that fits. free needs no size: the object's frame names the cache.
// Locking and slots as KmemCache, which see. Cost: as KmemCache.
#pragma once

#include "slab/slab_chain.h"

namespace spillway {

struct KmallocConfig {
  // At level full the largest size is checked as with sanity: red zones would not fit.
  SlabCheck check = SlabCheck::none;
  SlabLocking locking = SlabLocking::callers;
  u32 line = 64;
  u32 limit = KmemCacheConfig::kLimitBySize;  // of magazines
};

class Kmalloc {
 public:
  static constexpr u32 kClasses = 13;
  static constexpr u64 kSizeMin = 32;
  static constexpr u64 kSizeMax = kSizeMin << (kClasses - 1);  // 128 KiB

  Kmalloc() = default;
  Kmalloc(const Kmalloc&) = delete;
  Kmalloc& operator=(const Kmalloc&) = delete;

  // One per chain. no_memory, wait: nothing is left behind.
  Status init(SlabChain& chain, const KmallocConfig& config, AllocFlags flags = kAllocKernel);
  // busy: objects are in use; SlabChain::refused() names their cache, and all goes on. Owner of
  // all slots.
  Status destroy();

  // At least `size` bytes, aligned to a cache line or, if smaller, to the size's class; 0 is served
  // as 1. invalid: more than kSizeMax. Else as KmemCache::alloc.
  Result<void*> alloc(u64 size, AllocFlags flags, u32 slot = 0) {
    const u32 k = class_of(size);
    if (k >= kClasses) [[unlikely]]
      return Error::invalid;
    if (!flags.zero) [[likely]] {
      if (void* object = KmemCache::pop(*fast_[slot][k])) return object;
    }
    return caches_[k].alloc(flags, slot);
  }
  // Null is nothing. What no general cache handed out is a bug.
  void free(void* object, u32 slot = 0) {
    if (object == nullptr) return;
    const u32 k = class_of_frame(object);
    if (!KmemCache::push(*fast_[slot][k], object)) caches_[k].free_slow(object, slot);
  }
  // ksize: the bytes that may be used.
  u64 usable_size(const void* object) const { return kSizeMin << class_of_frame(object); }

  KmemCache& cache(u32 number) { return caches_[number]; }
  // kClasses or more: no class is so large.
  static constexpr u32 class_of(u64 size) {
    return static_cast<u32>(std::bit_width((size - (size != 0 ? 1 : 0)) >> 5));
  }

 private:
  u32 class_of_frame(const void* object) const {
    const u64 delta = reinterpret_cast<u64>(object) - base_;
    if (delta >= bytes_) [[unlikely]]
      slab_bug("foreign pointer", "kmalloc", object);
    const Page& page = pages_[delta >> kPageShift];
    const u32 k = page.index - 1;
    if (page.owner != PageOwner::slab || k >= kClasses) [[unlikely]] {
      slab_bug("foreign pointer", "kmalloc", object);
    }
    return k;
  }

  u64 base_ = 0;
  u64 bytes_ = 0;
  const Page* pages_ = nullptr;
  u32 count_ = 0;  // caches that exist
  KmemCache caches_[kClasses];
  // Each slot's magazines side by side: fast paths need nothing else of the caches.
  KmemCache::Magazine* fast_[KmemCache::kSlotsMax][16] = {};
};

}  // namespace spillway
