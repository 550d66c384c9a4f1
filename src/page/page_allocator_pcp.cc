// What CPU lists do in batches, and for others: filling, emptying, draining, counting.
#include <cstring>

#include "page/page_allocator.h"

namespace spillway {

u64 PageAllocator::pcp_free() const {
  u64 sum = 0;
  for (u32 i = 0; i < pcp_count_; ++i) sum += pcp_[i].count.load(std::memory_order_relaxed);
  return sum;
}

// Its own counts stay zero until there is something to add, so folding is as cheap as the batch.
void PageAllocator::fold(Pcp& pcp) {
  if (pcp.allocated != 0) observer_->count(Counter::pgalloc, pcp.allocated);
  if (pcp.freed != 0) observer_->count(Counter::pgfree, pcp.freed);
  pcp.allocated = pcp.freed = 0;
}

u32 PageAllocator::refill(Pcp& pcp) {
  Guard zone(zone_lock_);
  u32 batch[kPcpBatch];
  const u32 got = buddy_.alloc_bulk(kPcpBatch, batch);
  note_buddy();
  fold(pcp);
  // The lowest on top, so that they are handed out rising.
  for (u32 i = 0; i < got; ++i) pcp.frames[got - 1 - i] = batch[i];
  pcp.count.store(got, std::memory_order_relaxed);
  return got;
}

void PageAllocator::spill(Pcp& pcp, u32 count) {
  const u32 rest = pcp.count.load(std::memory_order_relaxed) - count;
  Guard zone(zone_lock_);
  // Out of one sum before they are in the other.
  pcp.count.store(rest, std::memory_order_relaxed);
  buddy_.free_bulk(count, pcp.frames);
  std::memmove(pcp.frames, pcp.frames + count, rest * sizeof(u32));
  note_buddy();
  fold(pcp);
}

void PageAllocator::drain_pcp() {
  for (u32 i = 0; i < pcp_count_; ++i) {
    Pcp& pcp = pcp_[i];
    Guard guard(pcp.lock);
    spill(pcp, pcp.count.load(std::memory_order_relaxed));
  }
}

void PageAllocator::fold_counts() {
  for (u32 i = 0; i < pcp_count_; ++i) {
    Pcp& pcp = pcp_[i];
    Guard guard(pcp.lock);
    Guard zone(zone_lock_);
    fold(pcp);
  }
}

// Every entry is a frame in state pcp, and none is there twice; with as many frames in that state
// as entries, each is in one list (I2). O(square of the entries).
bool PageAllocator::pcp_lists_are_sound() const SPW_NO_THREAD_SAFETY {
  for (u32 i = 0; i < pcp_count_; ++i) {
    const u32 count = pcp_[i].count.load(std::memory_order_relaxed);
    if (count > kPcpHigh) return false;
    for (u32 k = 0; k < count; ++k) {
      const u32 pfn = pcp_[i].frames[k];
      if (pfn >= frames_->count().v || (*frames_)[Pfn(pfn)].state != PageState::pcp) return false;
      for (u32 other = i; other < pcp_count_; ++other) {
        const u32 end = pcp_[other].count.load(std::memory_order_relaxed);
        for (u32 at = other == i ? k + 1 : 0; at < end; ++at) {
          if (pcp_[other].frames[at] == pfn) return false;
        }
      }
    }
  }
  return true;
}

}  // namespace spillway
