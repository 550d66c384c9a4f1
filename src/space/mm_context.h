// What the rooms above swap share: the one set of lower rooms that a System is made of.
#pragma once

#include "pagecache/page_cache.h"
#include "slab/slab_chain.h"
#include "space/commit.h"
#include "space/rmap.h"
#include "swap/swap.h"

namespace spillway {

class SpaceTable;

struct MmContext {
  Machine& machine;
  FrameTable& frames;
  PageAllocator& allocator;
  Swap& swap;
  Reclaimer& reclaimer;
  const Observer& observer;
  KmemCache& areas;
  Rmap& rmap;
  PageCache& cache;
  Commit& commit;
  SpaceTable* spaces = nullptr;  // set by SpaceTable::init
};

// Gives a resident anonymous page up that nobody maps: it leaves ageing and the swap cache, and
// its frame is free. The page is unmapped from the machine already.
void release_user_page(MmContext& mm, Pfn pfn);

// One entry ceased to hold the page: the place leaves the reverse map. `dirty` is the entry's dirty
// bit. With the last place the page becomes unmapped, or, if no cache holds it, free.
void forget_mapping(MmContext& mm, Pfn pfn, RmapPlace place, bool dirty);

// A swap entry ceased to exist: its reference of the slot. A page that only the swap cache holds
// then goes too, at once or when its transfer ends.
void forget_swap_entry(MmContext& mm, SlotId slot);

}  // namespace spillway
