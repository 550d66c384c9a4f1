// What the rooms above swap share: the one set of lower rooms that a System is made of.
#pragma once

#include "slab/object_cache.h"
#include "swap/swap.h"

namespace spillway {

struct MmContext {
  Machine& machine;
  FrameTable& frames;
  PageAllocator& allocator;
  Swap& swap;
  Reclaimer& reclaimer;
  const Observer& observer;
  ObjectCache& areas;
};

// Gives a resident page of a program up: frees its frame and its clean copy on disk. The page is
// unmapped from the machine already, its table entry is or will be rewritten by the caller.
void release_user_page(MmContext& mm, Pfn pfn);

}  // namespace spillway
