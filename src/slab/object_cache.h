// ObjectCache: objects of one size, cut from single frames (slabs), as a kernel's kmem_cache.
// A freed object is the next one handed out (LIFO within its slab); a slab whose objects are all
// free is kept once as a reserve and otherwise given back to the page allocator.
//
// Layout of a slab: the frame is an array of objects; free ones are linked through their first
// word. The frame's descriptor holds the rest: private_data = free-list head and objects in use.
// Thread safety: the engine lock. Cost: alloc and free O(1).
#pragma once

#include "page/page_allocator.h"

namespace spillway {

class ObjectCache {
 public:
  // `size` is 8..2048 bytes and is rounded up to 16. `name` outlives the cache.
  void init(PageAllocator& allocator, FrameTable& frames, Frames& memory, const char* name,
            u32 size);

  // Zeroed memory for one object. no_memory, or wait (see PageAllocator::alloc).
  Result<void*> alloc(AllocFlags flags);
  // `object` came from this cache and is not free already; both are checked.
  void free(void* object);

  // Gives slabs with no object in use back (kmem_cache_shrink); returns how many. O(partial slabs).
  u32 shrink();

  const char* name() const { return name_; }
  u64 objects_active() const { return active_; }
  u64 slabs() const { return slabs_; }
  u32 objects_per_slab() const { return per_slab_; }
  // O(objects): counts agree with the slabs on the partial list.
  bool validate() const;

 private:
  // Packs a slab's state into Page::private_data.
  struct SlabState {
    u16 in_use;
    u16 free_head;  // index of the first free object, kEnd if none
  };
  static constexpr u16 kEnd = 0xffff;
  static SlabState get(const Page& page) {
    return {static_cast<u16>(page.private_data), static_cast<u16>(page.private_data >> 16)};
  }
  static void put(Page& page, SlabState s) {
    page.private_data = s.in_use | (u64{s.free_head} << 16);
  }
  u8* object_at(Pfn slab, u32 index) const { return memory_->bytes(slab) + index * size_; }
  void link_partial(Pfn slab);
  void unlink_partial(Pfn slab);

  PageAllocator* allocator_ = nullptr;
  FrameTable* frames_ = nullptr;
  Frames* memory_ = nullptr;
  const char* name_ = "";
  u32 size_ = 0;
  u32 per_slab_ = 0;
  u32 partial_head_ = Pfn::kNone;  // slabs with a free object
  u64 active_ = 0;
  u64 slabs_ = 0;
  u64 empty_ = 0;  // slabs on the partial list with nothing in use; at most one is kept
};

}  // namespace spillway
