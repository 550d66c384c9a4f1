// Shrinker: the port through which reclaim asks caches of objects (dentries, inodes, empty slabs,
// tree nodes) to let go of what nobody uses. Rooms that keep such caches implement it; room reclaim
// keeps the list and decides how much is asked of whom (Linux's register_shrinker, count_objects
// and scan_objects). Thread safety: the engine lock.
#pragma once

#include "base/types.h"

namespace spillway {

struct ShrinkControl {
  u64 nr_to_scan = 0;
  // False: somebody further up holds state of a file system, so nothing may be written and no
  // file system entered (GFP_NOFS; PageAllocator::NoFs). Caches whose objects need that to go
  // free nothing then.
  bool may_enter_fs = true;
};

class Shrinker {
 public:
  // A page of the page cache costs so much to bring back.
  static constexpr u32 kDefaultSeeks = 2;

  // For views and events; outlives the shrinker.
  virtual const char* shrinker_name() const = 0;
  // Objects that a scan may look at now: those that nobody uses. O(1).
  virtual u64 count_objects() const = 0;
  // Looks at up to nr_to_scan objects, the least valuable first, and frees those that it may; an
  // object that was used since it was last looked at is spared and costs one all the same. Returns
  // how many were freed. Never allocates without AllocFlags::memalloc, never waits.
  virtual u64 scan_objects(const ShrinkControl& control) = 0;
  // What it costs to make an object again, where a page of the page cache counts kDefaultSeeks. The
  // dearer, the fewer are asked for.
  virtual u32 seeks() const { return kDefaultSeeks; }

 protected:
  ~Shrinker() = default;

 private:
  friend class ShrinkerList;
  Shrinker* next_ = nullptr;
  u64 deferred_ = 0;  // asked for so far without a whole object coming of it, in 1/1024 objects
};

}  // namespace spillway
