#include "slab/slab_chain.h"

#include <cstring>

namespace spillway {

void SlabChain::init(PageAllocator& allocator, FrameTable& frames, Frames& memory, u32 slots,
                     SlabLocking locking) {
  SPW_ASSERT(slots > 0 && slots <= KmemCache::kSlotsMax);
  allocator_ = &allocator;
  frames_ = &frames;
  memory_ = &memory;
  slots_ = slots;
  KmemCacheConfig config{.name = "slab_few",
                         .size = slab_descriptor_bytes(kFewObjects),
                         .check = SlabCheck::sanity,
                         .locking = locking,
                         .limit = 0};
  // Without magazines nothing can fail.
  Status status = few_.init(*this, config);
  SPW_ASSERT(status.ok());
  config.name = "slab_many";
  config.size = slab_descriptor_bytes(kManyObjects);
  status = many_.init(*this, config);
  SPW_ASSERT(status.ok());
}

u32 SlabChain::break_order() const {
  return memory_->count().bytes() > (u64{32} << 20) ? kSlabBreakOrderHigh : kSlabBreakOrderLow;
}

void SlabChain::add(KmemCache& cache) {
  cache.next_ = nullptr;
  if (last_ != nullptr) {
    last_->next_ = &cache;
  } else {
    first_ = &cache;
  }
  last_ = &cache;
  ++count_;
}

void SlabChain::remove(KmemCache& cache) {
  KmemCache* before = nullptr;
  for (KmemCache* at = first_; at != &cache; at = at->next_) {
    SPW_ASSERT(at != nullptr);
    before = at;
  }
  (before != nullptr ? before->next_ : first_) = cache.next_;
  if (last_ == &cache) last_ = before;
  if (hand_ == &cache) hand_ = cache.next_;
  cache.next_ = nullptr;
  --count_;
}

KmemCache* SlabChain::find(const char* name) const {
  for (KmemCache* cache = first_; cache != nullptr; cache = cache->next_) {
    if (std::strcmp(cache->name(), name) == 0) return cache;
  }
  return nullptr;
}

KmemCache* SlabChain::cache_of(const void* object) const {
  const Slab* slab = KmemCache::slab_of(*frames_, *memory_, object);
  return slab == nullptr ? nullptr : slab->cache;
}

u64 SlabChain::frames() const {
  u64 sum = 0;
  for (const KmemCache* cache = first_; cache != nullptr; cache = cache->next_) {
    sum += cache->frames();
  }
  return sum;
}

bool SlabChain::validate() const {
  u32 count = 0;
  for (const KmemCache* cache = first_; cache != nullptr; cache = cache->next_) {
    if (++count > count_ || !cache->validate()) return false;
  }
  return count == count_;
}

u64 SlabChain::score(KmemCache& cache, u32 slot, u64* empty) {
  if (cache.config_.no_reap) return 0;
  {
    GuardIf guard(cache.own_lock_, cache.lock_);
    if (cache.growing_ != 0) return 0;
    if (cache.grown_) {
      cache.grown_ = false;
      return 0;
    }
  }
  if (slot != kNoSlot) {
    cache.drain(slot);
  } else if (cache.own_lock_) {
    cache.request_drain();
  } else {
    cache.drain(0);
  }
  cache.drain_depot();
  *empty = cache.slabs_empty();
  u64 pages = *empty << cache.layout_.order;
  // Dear to make anew: the ctor runs for all objects; blocks of frames are rarer than frames.
  if (cache.config_.ctor != nullptr) pages = (pages * 4 + 1) / 5;
  if (cache.layout_.order > 0) pages = (pages * 4 + 1) / 5;
  return pages;
}

u64 SlabChain::reap(u32 slot) {
  KmemCache* best = nullptr;
  u64 best_pages = 0;
  u64 best_empty = 0;
  KmemCache* at = hand_ != nullptr ? hand_ : first_;
  const u32 scan = count_ < kReapScan ? count_ : kReapScan;
  for (u32 i = 0; i < scan; ++i) {
    u64 empty = 0;
    const u64 pages = score(*at, slot, &empty);
    if (pages > best_pages) {
      best = at;
      best_pages = pages;
      best_empty = empty;
    }
    at = at->next_ != nullptr ? at->next_ : first_;
    if (best != nullptr && best_empty >= kReapPerfect) break;
  }
  hand_ = at;
  if (best == nullptr) return 0;
  return u64{best->release_empty((best_empty * 4 + 1) / 5)} << best->layout_.order;
}

u64 SlabChain::shrink_all(OwnedSlots owned) {
  u64 freed = 0;
  for (KmemCache* cache = first_; cache != nullptr; cache = cache->next_) {
    freed += u64{cache->shrink(owned)} << cache->layout_.order;
  }
  for (KmemCache* cache : {&few_, &many_}) {
    freed += u64{cache->shrink(owned)} << cache->layout_.order;
  }
  return freed;
}

u64 SlabChain::count_objects() const {
  u64 sum = 0;
  for (const KmemCache* cache = first_; cache != nullptr; cache = cache->next_) {
    if (cache->config_.no_reap) continue;
    // What the depot holds comes to so many slabs if it lies well.
    const u64 in_depot = cache->depot_count_.load(std::memory_order_relaxed);
    sum += (cache->slabs_empty() + in_depot / cache->layout_.objects) << cache->layout_.order;
  }
  return sum;
}

u64 SlabChain::scan_objects(const ShrinkControl& control) {
  u64 freed = 0;
  // A round of the hand takes so many reaps; the first may find only caches that grew.
  const u32 round = (count_ + kReapScan - 1) / kReapScan;
  for (u32 fruitless = 0; freed < control.nr_to_scan && fruitless <= round;) {
    const u64 got = reap(kNoSlot);
    fruitless = got == 0 ? fruitless + 1 : 0;
    freed += got;
  }
  return freed;
}

}  // namespace spillway
