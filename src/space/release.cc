// What becomes of a page when an entry ceases to hold it.
#include "space/space_table.h"

namespace spillway {

void release_user_page(MmContext& mm, Pfn pfn) {
  Page& page = mm.frames[pfn];
  SPW_ASSERT_EQ(page.mapcount, 0u);
  mm.reclaimer.page_removed(pfn);
  if (page.in_swap_cache()) mm.swap.delete_from_cache(pfn);
  page.owner = PageOwner::none;
  page.flags = 0;
  page.age = 0;
  mm.frames.transition(pfn, page.state, PageState::isolated);
  mm.allocator.free(pfn, 0);
}

void forget_mapping(MmContext& mm, Pfn pfn, RmapPlace place, bool dirty) {
  Page& page = mm.frames[pfn];
  if (dirty && page.in_page_cache()) mm.cache.set_dirty(pfn);
  if (dirty && page.in_swap_cache()) page.set(PageFlag::dirty);
  mm.rmap.remove(pfn, place);
  if (page.queue == PageQueue::locked && !mm.spaces->locked_by_area(pfn)) {
    mm.reclaimer.page_unlocked(pfn);
  }
  if (page.mapcount > 0) {
    // Perhaps the others hold it softly: then nobody maps it any more.
    if (page.state != PageState::mapped || mm.spaces->mapped_by_any(pfn)) return;
    mm.frames.transition(pfn, PageState::mapped, PageState::unmapped);
    mm.reclaimer.page_unmapped(pfn);
    return;
  }
  const bool kept = page.in_page_cache() || page.has(PageFlag::writeback) || page.pins > 0 ||
                    (page.in_swap_cache() && mm.swap.shared(pfn));
  if (!kept) {
    release_user_page(mm, pfn);
    return;
  }
  if (page.state == PageState::mapped) {
    mm.frames.transition(pfn, PageState::mapped, PageState::unmapped);
  }
  mm.reclaimer.page_unmapped(pfn);
  if (page.in_swap_cache() && !mm.swap.shared(pfn)) page.set(PageFlag::free_after_io);
}

void forget_swap_entry(MmContext& mm, SlotId slot) {
  const Pfn pfn = mm.swap.cached(slot);
  mm.swap.put(slot);
  if (!pfn.valid() || mm.swap.shared(pfn)) return;
  Page& page = mm.frames[pfn];
  if (page.state == PageState::reading || page.has(PageFlag::writeback)) {
    if (page.mapcount == 0) page.clear_rmap();  // the place that it was read for
    page.set(PageFlag::free_after_io);          // whoever hears of the end of the transfer frees it
    return;
  }
  if (page.mapcount == 0) release_user_page(mm, pfn);
}

}  // namespace spillway
