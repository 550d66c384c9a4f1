// Buddy allocator over one zone of frames: power-of-two blocks, complete merging (I5), no
// bitmaps: a free block's head frame carries its order. Blocks of order 0..kOrderMax.
//
// Costs: alloc and free O(kOrderMax). Thread safety: the zone lock, held by PageAllocator.
#pragma once

#include "page/page.h"

namespace spillway {

inline constexpr u32 kOrderMax = 9;  // 512 frames = 2 MiB, as MECHANISMS 6.1
inline constexpr u32 kOrderCount = kOrderMax + 1;

class Buddy {
 public:
  void init(FrameTable& frames) { frames_ = &frames; }

  // A block of 2^order frames, isolated; kNoPfn if no block is large enough.
  Pfn alloc(u32 order);
  // Up to `want` single frames for a CPU's list, in state pcp: those that as many alloc(0) would
  // hand out, in that order. Returns how many.
  u32 alloc_bulk(u32 want, u32* out);
  // Gives isolated frames [pfn, pfn + 2^order) back. `pfn` is a multiple of 2^order.
  void free(Pfn pfn, u32 order);
  // Gives single frames of a CPU's list back.
  void free_bulk(u32 count, const u32* pfns);
  // Up to `want` (1..512) consecutive frames, isolated: the largest piece at hand that is not
  // larger than needed. Returns how many; 0 if none is free.
  u32 alloc_run(u32 want, Pfn* first);

  PageCount free_pages() const { return free_pages_; }
  u32 blocks(u32 order) const { return lists_[order].count; }
  // O(frames): lists agree with descriptors, sums agree, no two free buddies (I1, I5).
  bool validate() const;

 private:
  struct List {
    u32 head = Pfn::kNone;
    u32 count = 0;
  };
  void push(Pfn pfn, u32 order);
  void unlink(Pfn pfn, u32 order);
  void merge(Pfn pfn, u32 order);

  FrameTable* frames_ = nullptr;
  List lists_[kOrderCount];
  PageCount free_pages_;
};

}  // namespace spillway
