// ShrinkerList: the caches of objects that reclaim asks to shrink, and how much is asked of each:
// as much of its objects, in proportion, as of the pages on the ageing lists, less where objects
// are dear to bring back (Linux's shrink_slab and do_shrink_slab).
// Thread safety: the engine lock.
#pragma once

#include "observe/observe.h"
#include "page/page_allocator.h"
#include "page/shrinker.h"

namespace spillway {

class ShrinkerList {
 public:
  static constexpr u64 kBatch = 128;  // objects of one scan: SHRINK_BATCH

  void init(PageAllocator& allocator, const Observer& observer) {
    allocator_ = &allocator;
    observer_ = &observer;
  }
  // The shrinker outlives the list, or is removed.
  void add(Shrinker& shrinker);
  void remove(Shrinker& shrinker);

  // Asks each cache for its unused objects >> priority, times 4 / seeks; what is less than an
  // object is remembered for the next time. Priority 0: all of them. Returns the objects freed.
  // Frames come free when whole slabs are empty.
  u64 shrink(u32 priority);
  // As Linux 2.4 asks dentry and inode caches: 1/divisor of the unused objects, whatever they cost.
  u64 shrink_share(u32 divisor);
  // Objects that could be asked for now.
  u64 count() const;

  // The priority at which as large a share is asked for as `scanned` is of `pages`.
  static u32 priority_for(u64 scanned, u64 pages);

 private:
  u64 scan(Shrinker& shrinker, u64 objects);

  PageAllocator* allocator_ = nullptr;
  const Observer* observer_ = nullptr;
  Shrinker* first_ = nullptr;
};

}  // namespace spillway
