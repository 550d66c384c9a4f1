// The swap cache, which frame holds the page of a slot, and the slots of plain areas. See swap.h.
#include "swap/swap.h"

namespace spillway {

const Slot* Swap::find_slot(SlotId id) const {
  const Slot* slot = id.area() == 0 ? slots_.find(id) : areas_.find(id);
  if (slot == nullptr || slot->word.state() == SlotState::bad) return nullptr;
  return slot->word.state() == SlotState::free ? nullptr : slot;
}

bool Swap::reading(SlotId id) const {
  const Pfn pfn = cached(id);
  return pfn.valid() && (*frames_)[pfn].state == PageState::reading;
}

void Swap::add_to_cache(Pfn pfn, SlotId id) {
  Page& page = (*frames_)[pfn];
  Slot& slot = slot_at(id);
  SPW_ASSERT(!page.in_swap_cache() && !page.in_page_cache());  // I18
  SPW_ASSERT_EQ(slot.cache_pfn, Pfn::kNone);                   // I17
  SPW_ASSERT_LT(0U, slot.word.refs());
  slot.cache_pfn = pfn.v;
  page.slot = id;
  cached_pages_ += PageCount(1);
}

// The cache's reference is the caller's now.
void Swap::leave_cache(Pfn pfn) {
  Page& page = (*frames_)[pfn];
  Slot& slot = slot_at(page.slot);
  SPW_ASSERT_EQ(slot.cache_pfn, pfn.v);
  slot.cache_pfn = Pfn::kNone;
  page.slot = kNoSlot;
  page.clear(PageFlag::dirty);
  page.clear(PageFlag::error);
  cached_pages_ -= PageCount(1);
}

void Swap::delete_from_cache(Pfn pfn) {
  const Page& page = (*frames_)[pfn];
  const SlotId id = page.slot;
  SPW_ASSERT(!page.has(PageFlag::writeback));
  // Other references than the cache's will look for the page in the slot.
  SPW_ASSERT(id.area() == 0 || !shared(pfn) || (on_disk(id) && !page.has(PageFlag::dirty)));
  leave_cache(pfn);
  put(id);
}

Result<SlotId> Swap::add_to_swap(Pfn pfn) {
  SPW_TRY_ASSIGN(id, areas_.alloc());
  add_to_cache(pfn, id);
  (*frames_)[pfn].set(PageFlag::dirty);
  return id;
}

Status Swap::write(Pfn pfn) {
  if (quiesced_) return Error::wait;
  return plain_io_.write(pfn);
}

bool Swap::same_as_slot(Pfn pfn) const {
  const SlotId id = (*frames_)[pfn].slot;
  const Slot& slot = slot_at(id);
  if (slot.word.state() == SlotState::empty) return false;
  return slot_checksum(id, slot.generation, machine_->frames.bytes(pfn)) == slot.checksum;
}

u32 Swap::readahead_window(SlotId slot, u32 page_cluster, SlotId* out) const {
  SPW_ASSERT_LE(page_cluster, kPageClusterMax);
  SPW_ASSERT_NE(slot.area(), 0U);
  const u32 size = u32{1} << page_cluster;
  const u32 start = slot.offset() & ~(size - 1);
  u32 count = 0;
  for (u32 offset = start == 0 ? 1 : start; offset < start + size; ++offset) {
    const SlotId id(slot.area(), offset);
    if (find_slot(id) == nullptr) break;
    out[count++] = id;
  }
  return count;
}

void Swap::reset_refs(SlotId id, u32 refs) {
  Slot& slot = slot_at(id);
  SPW_ASSERT(refs > 0 && refs < SlotWord::kRefsMax);
  SPW_ASSERT_EQ(slot.word.refs(), SlotWord::kRefsMax);
  slot.word = slot.word.with_refs(refs);
}

}  // namespace spillway
