// The depot: free objects in batches, between the magazines and the slabs.
#include <cstring>

#include "slab/kmem_cache.h"

namespace spillway {

bool KmemCache::flush_to_depot(Magazine& m, u32 count) {
  if (config_.depot_frames == 0) return false;
  const u64 word = m.word.load(std::memory_order_relaxed);
  void** const objects = m.entries() + ((word & Magazine::kAvail) - count);
  bool room = true;
  for (bool again = true;;) {
    {
      GuardIf guard(own_lock_, lock_);
      room = put_to_depot(objects, count);
      if (room) m.word.store(word - count, std::memory_order_relaxed);
    }
    if (room || !again || !add_depot_frame()) return room;
    again = false;
  }
}

bool KmemCache::put_to_depot(void** objects, u32 count) {
  if (depot_top_ == Pfn::kNone || depot_frame(depot_top_).count + count > DepotFrame::kEntries) {
    if (depot_spare_ == Pfn::kNone) return false;
    DepotFrame& spare = depot_frame(depot_spare_);
    const u32 frame = depot_spare_;
    depot_spare_ = spare.below;
    spare.below = depot_top_;
    depot_top_ = frame;
  }
  DepotFrame& top = depot_frame(depot_top_);
  std::memcpy(top.entry + top.count, objects, count * sizeof(void*));
  top.count += count;
  depot_count_.store(depot_count_.load(std::memory_order_relaxed) + count,
                     std::memory_order_relaxed);
  return true;
}

u32 KmemCache::take_from_depot(void** out, u32 want) {
  if (depot_top_ == Pfn::kNone) return 0;
  DepotFrame& top = depot_frame(depot_top_);
  const u32 got = top.count < want ? top.count : want;
  top.count -= got;
  std::memcpy(out, top.entry + top.count, got * sizeof(void*));
  if (top.count == 0) {
    const u32 frame = depot_top_;
    depot_top_ = top.below;
    top.below = depot_spare_;
    depot_spare_ = frame;
  }
  depot_count_.store(depot_count_.load(std::memory_order_relaxed) - got, std::memory_order_relaxed);
  return got;
}

bool KmemCache::add_depot_frame() {
  if (depot_frames_.load(std::memory_order_relaxed) >= config_.depot_frames) return false;
  // Only what is free anyway: this is a free, and it must not lead to another.
  const Result<Pfn> frame = allocator_->alloc(0, kAllocAtomic);
  if (!frame.ok()) return false;
  tag_frames(frame.value(), 0, nullptr);
  DepotFrame& depot = depot_frame(frame.value().v);
  depot.count = 0;
  GuardIf guard(own_lock_, lock_);
  depot.below = depot_spare_;
  depot_spare_ = frame.value().v;
  depot_frames_.store(depot_frames_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  return true;
}

void KmemCache::drain_depot() {
  // As many frames as there are now: others may go on adding some.
  for (u32 left = depot_frames_.load(std::memory_order_relaxed); left > 0; --left) {
    u32 frame = Pfn::kNone;
    Pfn dead;
    {
      GuardIf guard(own_lock_, lock_);
      u32& list = depot_top_ != Pfn::kNone ? depot_top_ : depot_spare_;
      if (list == Pfn::kNone) return;
      frame = list;
      DepotFrame& depot = depot_frame(frame);
      list = depot.below;
      put_batch(depot.entry, depot.count);
      depot_count_.store(depot_count_.load(std::memory_order_relaxed) - depot.count,
                         std::memory_order_relaxed);
      depot_frames_.store(depot_frames_.load(std::memory_order_relaxed) - 1,
                          std::memory_order_relaxed);
      dead = take_surplus();
    }
    free_frames(Pfn(frame), 0);
    (void)release(dead);
  }
}

bool KmemCache::validate_depot() const {
  u64 objects = 0;
  u64 frames = 0;
  for (u32 at = depot_top_; at != Pfn::kNone; at = depot_frame(at).below) {
    const DepotFrame& depot = depot_frame(at);
    if (++frames > depot_frames_ || depot.count == 0 || depot.count > DepotFrame::kEntries) {
      return false;
    }
    if (!validate_cached(depot.entry, depot.count)) return false;
    objects += depot.count;
  }
  for (u32 at = depot_spare_; at != Pfn::kNone; at = depot_frame(at).below) {
    if (++frames > depot_frames_ || depot_frame(at).count != 0) return false;
  }
  return objects == depot_count_ && frames == depot_frames_;
}

}  // namespace spillway
