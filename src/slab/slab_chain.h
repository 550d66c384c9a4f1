// SlabChain: all object caches that share a page allocator. It finds the cache of any object, takes
// empty slabs back under pressure, and sums up for views and audits.
//
// Caches join and leave, and reap runs, one call at a time (the engine lock, or one thread).
#pragma once

#include "page/shrinker.h"
#include "slab/kmem_cache.h"

namespace spillway {

class SlabChain final : public Shrinker {
 public:
  static constexpr u32 kReapScan = 10;  // caches that one reap looks at
  static constexpr u32 kNoSlot = ~u32{0};
  static constexpr u64 kReapPerfect = 10;  // empty slabs that end the search at once

  // `slots` is how many magazines each cache has, if it has any. `locking` is that of the caches
  // with the descriptors of off-slab caches: own, as soon as any off-slab cache has a lock of its
  // own.
  void init(PageAllocator& allocator, FrameTable& frames, Frames& memory, u32 slots = 1,
            SlabLocking locking = SlabLocking::callers);

  // kmem_cache_reap: from where the last one stopped, looks at up to kReapScan caches and takes
  // (4n+1)/5 of the n empty slabs of the one with most to give; a ctor or more than one frame per
  // slab make a cache less attractive. Caches with no_reap, and those that are growing, are left
  // alone; one that grew since it was last looked at is spared once. First empties the depot and
  // the magazine of `slot` (which the caller owns) of every cache that it considers, or with
  // kNoSlot asks their owners for them. Returns frames.
  u64 reap(u32 slot = 0);
  // Shrinks every cache; returns frames. Off-slab descriptors go last, with what they described.
  u64 shrink_all(OwnedSlots owned = OwnedSlots::all);

  // Shrinker: frames of empty slabs that reap may take; objects in depots count as the slabs that
  // they would fill.
  const char* shrinker_name() const override { return "slab"; }
  u64 count_objects() const override;
  u64 scan_objects(const ShrinkControl& control) override;

  KmemCache* first() const { return first_; }
  static KmemCache* next(const KmemCache& cache) { return cache.next_; }
  KmemCache* find(const char* name) const;
  // The cache that `object` belongs to, by its frame; null if no cache's slab is there.
  KmemCache* cache_of(const void* object) const;
  u32 caches() const { return count_; }
  u32 slots() const { return slots_; }
  FrameTable& frame_table() const { return *frames_; }
  Frames& memory() const { return *memory_; }
  // Frames of all caches: those with PageOwner::slab.
  u64 frames() const;
  u32 break_order() const;
  // The cache that last refused to be destroyed, since objects were in use; null if none did.
  const char* refused() const { return refused_; }
  // Every cache's validate().
  bool validate() const;

 private:
  friend class KmemCache;

  // The caches of off-slab descriptors, by how many objects they describe: an off-slab object has
  // at least kOffSlabMin bytes, so a slab of the break order has at most 32.
  static constexpr u32 kFewObjects = 10;
  static constexpr u32 kManyObjects = 32;

  void add(KmemCache& cache);
  void remove(KmemCache& cache);
  KmemCache& descriptors_for(u32 objects) {
    SPW_ASSERT_LE(objects, kManyObjects);
    return objects <= kFewObjects ? few_ : many_;
  }
  // What reap may expect of the cache, in frames scaled; 0 = leave it alone. Sets *empty.
  static u64 score(KmemCache& cache, u32 slot, u64* empty);

  PageAllocator* allocator_ = nullptr;
  FrameTable* frames_ = nullptr;
  Frames* memory_ = nullptr;
  u32 slots_ = 1;
  u32 count_ = 0;
  KmemCache* first_ = nullptr;
  KmemCache* last_ = nullptr;
  KmemCache* hand_ = nullptr;  // where the next reap begins; null = at the first
  const char* refused_ = nullptr;
  KmemCache few_;
  KmemCache many_;
};

}  // namespace spillway
