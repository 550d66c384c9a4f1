#include "swap/swap_area.h"

namespace spillway {

void SwapArea::init(Frames& memory, PageAllocator& allocator) {
  memory_ = &memory;
  allocator_ = &allocator;
}

Status SwapArea::add_chunk(u32 c) {
  AllocFlags flags = kAllocKernel;
  flags.zero = true;
  u32& directory = root_[c / kPerDirectory];
  if (directory == 0) {
    SPW_TRY_ASSIGN(pfn, allocator_->alloc_kernel(PageOwner::swap_meta, flags));
    directory = pfn.v + 1;
    ++meta_frames_;
  }
  SPW_TRY_ASSIGN(pfn, allocator_->alloc_kernel(PageOwner::swap_meta, flags));
  ++meta_frames_;
  Slot* slots = reinterpret_cast<Slot*>(memory_->bytes(pfn));
  u32 usable = 0;
  for (u32 i = 0; i < kPerChunk; ++i) {
    const u32 offset = c * kPerChunk + i;
    slots[i].cache_pfn = Pfn::kNone;
    if (offset == 0 || offset >= pages_) {
      slots[i].word = SlotWord::unusable();
    } else {
      ++usable;
    }
  }
  chunk(c) = {pfn.v + 1, usable};
  free_ += usable;
  return kOk;
}

Status SwapArea::reserve(u32 pages) {
  SPW_ASSERT_LT(1U, pages);
  SPW_ASSERT(reserved_ == 0 || pages_ == pages);
  pages_ = pages;
  for (; reserved_ < chunk_count(); ++reserved_) {
    const Status status = add_chunk(reserved_);
    if (status.ok()) continue;
    if (status.error() != Error::wait) release();
    return status;
  }
  lowest_ = 1;
  highest_ = pages - 1;
  run_left_ = 0;
  return kOk;
}

void SwapArea::release() {
  for (u32 c = 0; c < reserved_; ++c) {
    allocator_->free_kernel(Pfn(chunk(c).pfn - 1), PageOwner::swap_meta);
  }
  for (u32& directory : root_) {
    if (directory == 0) continue;
    allocator_->free_kernel(Pfn(directory - 1), PageOwner::swap_meta);
    directory = 0;
  }
  pages_ = bad_ = free_ = meta_frames_ = reserved_ = 0;
  lowest_ = highest_ = run_next_ = run_left_ = 0;
}

Slot* SwapArea::find(u32 offset) const {
  if (offset >= pages_) return nullptr;
  const Chunk& records = chunk(offset / kPerChunk);
  return reinterpret_cast<Slot*>(memory_->bytes(Pfn(records.pfn - 1))) + offset % kPerChunk;
}

void SwapArea::mark_bad(u32 offset) {
  Slot* slot = find(offset);
  SPW_ASSERT(slot != nullptr && offset != 0);
  if (slot->word.state() == SlotState::bad) return;
  SPW_ASSERT(slot->word.state() == SlotState::free);
  slot->word = SlotWord::unusable();
  --chunk(offset / kPerChunk).free;
  --free_;
  ++bad_;
}

// The first free slot from `from` to highest_, 0 if there is none.
u32 SwapArea::next_free(u32 from) const {
  for (u32 offset = from; offset <= highest_;) {
    if (chunk(offset / kPerChunk).free == 0) {
      offset = (offset / kPerChunk + 1) * kPerChunk;
    } else if (is_free(offset)) {
      return offset;
    } else {
      ++offset;
    }
  }
  return 0;
}

// The start of the lowest kRunLength free slots in a row, 0 if there are none. Any such run
// contains a whole chunk, so only the ends of wholly free chunks are looked at slot by slot.
u32 SwapArea::find_run() const {
  static_assert(kRunLength >= 2 * kPerChunk);
  const u32 last = highest_ / kPerChunk;
  for (u32 c = lowest_ / kPerChunk; c <= last; ++c) {
    if (chunk(c).free != kPerChunk) continue;
    u32 start = c * kPerChunk;
    while (is_free(start - 1)) --start;  // ends at slot 0, which is bad
    u32 end = (c + 1) * kPerChunk;
    while (end - start < kRunLength && is_free(end)) ++end;
    if (end - start >= kRunLength) return start;
  }
  return 0;
}

void SwapArea::take(u32 offset) {
  Slot& slot = *find(offset);
  SPW_ASSERT(slot.word.state() == SlotState::free);
  slot.word = SlotWord::empty();
  slot.cache_pfn = Pfn::kNone;
  slot.shadow = 0;
  slot.set_error(SlotError::none);
  --chunk(offset / kPerChunk).free;
  --free_;
  if (offset == lowest_) ++lowest_;
  if (offset == highest_) --highest_;
}

u32 SwapArea::alloc() {
  if (free_ == 0) return 0;
  u32 offset = run_left_ > 0 ? next_free(run_next_) : 0;
  if (offset == 0) {
    run_left_ = kRunLength;
    offset = find_run();
  }
  if (offset == 0) {
    offset = next_free(lowest_);
    lowest_ = offset;
  }
  SPW_ASSERT_NE(offset, 0U);
  take(offset);
  --run_left_;
  run_next_ = offset + 1;
  return offset;
}

void SwapArea::free(u32 offset) {
  Slot& slot = *find(offset);
  SPW_ASSERT_EQ(slot.cache_pfn, Pfn::kNone);
  SPW_ASSERT(slot.word.state() == SlotState::empty || slot.word.state() == SlotState::plain);
  slot.word = SlotWord();
  ++chunk(offset / kPerChunk).free;
  ++free_;
  if (offset < lowest_) lowest_ = offset;
  if (offset > highest_) highest_ = offset;
}

u32 SwapArea::next_used(u32 offset) const {
  for (u32 next = offset + 1; next < pages_;) {
    if (next % kPerChunk == 0 && chunk(next / kPerChunk).free == kPerChunk) {
      next += kPerChunk;
      continue;
    }
    const SlotState state = find(next)->word.state();
    if (state != SlotState::free && state != SlotState::bad) return next;
    ++next;
  }
  return 0;
}

bool SwapArea::validate() const {
  u32 unused = 0;
  u32 bad = 0;
  for (u32 c = 0; c < chunk_count(); ++c) {
    u32 here = 0;
    for (u32 offset = c * kPerChunk; offset < (c + 1) * kPerChunk && offset < pages_; ++offset) {
      const Slot& slot = *find(offset);
      switch (slot.word.state()) {
        case SlotState::free:
          ++here;
          if (offset < lowest_ || offset > highest_ || slot.cache_pfn != Pfn::kNone) return false;
          break;
        case SlotState::bad:
          bad += offset == 0 ? 0 : 1;
          if (slot.word.refs() != 0 || slot.cache_pfn != Pfn::kNone) return false;
          break;
        case SlotState::empty:
          // What was never written is in the cache or lost.
          if (slot.cache_pfn == Pfn::kNone) return false;
          [[fallthrough]];
        case SlotState::plain:
          if (offset == 0 || slot.word.refs() == 0) return false;
          break;
        case SlotState::same_filled:
        case SlotState::pool:
        case SlotState::disk: return false;
      }
    }
    if (here != chunk(c).free) return false;
    unused += here;
  }
  return unused == free_ && bad == bad_;
}

}  // namespace spillway
