// The swap cache: which frame holds the page of a slot. See swap.h.
#include "swap/swap.h"

namespace spillway {

const Slot* Swap::find_slot(SlotId id) const {
  const Slot* slot = slots_.find(id);
  return slot == nullptr || slot->word.state() == SlotState::free ? nullptr : slot;
}

bool Swap::reading(SlotId id) const {
  const Pfn pfn = cached(id);
  return pfn.valid() && (*frames_)[pfn].state == PageState::reading;
}

void Swap::add_to_cache(Pfn pfn, SlotId id) {
  Page& page = (*frames_)[pfn];
  Slot& slot = slots_[id];
  SPW_ASSERT(!page.in_swap_cache() && !page.in_page_cache());  // I18
  SPW_ASSERT_EQ(slot.cache_pfn, Pfn::kNone);                   // I17
  SPW_ASSERT_LT(0U, slot.word.refs());
  slot.cache_pfn = pfn.v;
  page.slot = id;
}

// The cache's reference is the caller's now.
void Swap::leave_cache(Pfn pfn) {
  Page& page = (*frames_)[pfn];
  Slot& slot = slots_[page.slot];
  SPW_ASSERT_EQ(slot.cache_pfn, pfn.v);
  slot.cache_pfn = Pfn::kNone;
  page.slot = kNoSlot;
}

void Swap::delete_from_cache(Pfn pfn) {
  const SlotId id = (*frames_)[pfn].slot;
  leave_cache(pfn);
  put(id);
}

Result<SlotId> Swap::add_to_swap(Pfn) { return Error::no_space; }

}  // namespace spillway
