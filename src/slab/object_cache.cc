#include "slab/object_cache.h"

#include <cstring>

namespace spillway {

void ObjectCache::init(PageAllocator& allocator, FrameTable& frames, Frames& memory,
                       const char* name, u32 size) {
  SPW_ASSERT(size >= 8 && size <= 2048);
  allocator_ = &allocator;
  frames_ = &frames;
  memory_ = &memory;
  name_ = name;
  size_ = (size + 15) & ~u32{15};
  per_slab_ = static_cast<u32>(kPageSize) / size_;
}

void ObjectCache::link_partial(Pfn slab) {
  Page& page = (*frames_)[slab];
  page.prev = Pfn::kNone;
  page.next = partial_head_;
  if (partial_head_ != Pfn::kNone) (*frames_)[Pfn(partial_head_)].prev = slab.v;
  partial_head_ = slab.v;
}

void ObjectCache::unlink_partial(Pfn slab) {
  Page& page = (*frames_)[slab];
  if (page.prev != Pfn::kNone) {
    (*frames_)[Pfn(page.prev)].next = page.next;
  } else {
    partial_head_ = page.next;
  }
  if (page.next != Pfn::kNone) (*frames_)[Pfn(page.next)].prev = page.prev;
  page.prev = page.next = Pfn::kNone;
}

Result<void*> ObjectCache::alloc(AllocFlags flags) {
  if (partial_head_ == Pfn::kNone) {
    SPW_TRY_ASSIGN(pfn, allocator_->alloc_kernel(PageOwner::slab, flags));
    // The allocation may have reclaimed, and reclaim may have freed objects of this cache: the
    // new slab joins the list either way.
    for (u32 i = 0; i < per_slab_; ++i) {
      const u16 next = i + 1 < per_slab_ ? static_cast<u16>(i + 1) : kEnd;
      std::memcpy(object_at(pfn, i), &next, sizeof next);
    }
    put((*frames_)[pfn], {0, 0});
    link_partial(pfn);
    ++slabs_;
    ++empty_;
  }
  const Pfn slab{partial_head_};
  Page& page = (*frames_)[slab];
  SlabState s = get(page);
  SPW_ASSERT_NE(s.free_head, kEnd);
  u8* object = object_at(slab, s.free_head);
  std::memcpy(&s.free_head, object, sizeof s.free_head);
  if (s.in_use == 0) --empty_;
  ++s.in_use;
  put(page, s);
  if (s.free_head == kEnd) unlink_partial(slab);
  ++active_;
  std::memset(object, 0, size_);
  return static_cast<void*>(object);
}

void ObjectCache::free(void* object) {
  const Pfn slab = memory_->pfn_of(object);
  Page& page = (*frames_)[slab];
  SPW_ASSERT_EQ(static_cast<u8>(page.owner), static_cast<u8>(PageOwner::slab));
  const u64 offset = static_cast<u64>(static_cast<u8*>(object) - memory_->bytes(slab));
  SPW_ASSERT_EQ(offset % size_, 0u);
  const u16 index = static_cast<u16>(offset / size_);
  SPW_ASSERT_LT(index, per_slab_);
  SlabState s = get(page);
  SPW_ASSERT_LT(0, s.in_use);
  SPW_ASSERT_NE(s.free_head, index);  // freed twice in a row
  const bool was_full = s.free_head == kEnd;
  std::memcpy(object, &s.free_head, sizeof s.free_head);
  s.free_head = index;
  --s.in_use;
  put(page, s);
  --active_;
  if (was_full) link_partial(slab);
  if (s.in_use == 0) {
    if (empty_ >= 1) {
      unlink_partial(slab);
      --slabs_;
      allocator_->free_kernel(slab, PageOwner::slab);
    } else {
      ++empty_;
    }
  }
}

u32 ObjectCache::shrink() {
  u32 done = 0;
  for (u32 at = partial_head_; at != Pfn::kNone && empty_ > 0;) {
    const Pfn slab{at};
    at = (*frames_)[slab].next;
    if (get((*frames_)[slab]).in_use != 0) continue;
    unlink_partial(slab);
    --slabs_;
    --empty_;
    allocator_->free_kernel(slab, PageOwner::slab);
    ++done;
  }
  return done;
}

bool ObjectCache::validate() const {
  u64 empty = 0;
  u64 listed = 0;
  for (u32 at = partial_head_; at != Pfn::kNone; at = (*frames_)[Pfn(at)].next) {
    const SlabState s = get((*frames_)[Pfn(at)]);
    u32 free_count = 0;
    for (u16 i = s.free_head; i != kEnd;) {
      if (i >= per_slab_ || ++free_count > per_slab_) return false;
      std::memcpy(&i, object_at(Pfn(at), i), sizeof i);
    }
    if (free_count == 0 || free_count + s.in_use != per_slab_) return false;
    if (s.in_use == 0) ++empty;
    if (++listed > slabs_) return false;
  }
  return empty == empty_ && active_ <= slabs_ * per_slab_;
}

}  // namespace spillway
