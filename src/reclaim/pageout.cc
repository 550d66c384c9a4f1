#include "reclaim/pageout.h"

namespace spillway {
namespace {

bool in_transfer(const Page& page) {
  return page.state == PageState::reading || page.has(PageFlag::writeback) || page.pins > 0;
}

}  // namespace

bool PageOut::io_in_flight() const {
  return mm_->swap.io_in_flight() || mm_->cache.writeback() > 0 || mm_->cache.reading() > 0;
}

// Whether the page's slot is to be emptied by swapoff. Evicted into it again, it would have to be
// brought in again, for ever on a machine that is short of frames.
bool PageOut::area_goes_off(const Page& page) const {
  return page.in_swap_cache() && page.slot.area() != 0 &&
         mm_->swap.areas().going_off(page.slot.area());
}

PageOutcome PageOut::run(Pfn pfn, u32 shadow) {
  const Page& page = mm_->frames[pfn];
  if (in_transfer(page) || area_goes_off(page)) return PageOutcome::keep;
  if (page.in_page_cache()) return cached_out(pfn, shadow);
  const bool plain = page.in_swap_cache() ? page.slot.area() != 0 : mm_->swap.has_plain();
  if (!plain) return tiered_out(pfn, shadow);
  const PageOutcome outcome = plain_out(pfn, shadow);
  if (outcome == PageOutcome::no_space && mm_->swap.has_tiers()) return tiered_out(pfn, shadow);
  return outcome;
}

PageOutcome PageOut::cached_out(Pfn pfn, u32 shadow) {
  Page& page = mm_->frames[pfn];
  // Entries that a policy made soft hold the page as well.
  if (page.mapcount > 0 && mm_->spaces->try_to_unmap(pfn) != UnmapOutcome::unmapped) {
    return PageOutcome::keep;
  }
  if (page.has(PageFlag::dirty)) {
    Mapping& mapping = *mapping_of(page);
    const u32 index = page.index;
    switch (mm_->cache.write_page(pfn)) {
      case WriteOutcome::started: return PageOutcome::started;
      case WriteOutcome::moved: {
        if (page.in_swap_cache()) return PageOutcome::moved;
        // The tiers took it, and its frame is free already.
        const SlotId slot = mm_->cache.find(mapping, index).slot();
        mm_->swap.set_shadow(slot, shadow);
        mm_->observer.count(Counter::pgsteal);
        mm_->observer.event(EventKind::reclaim_evict, pfn.v, slot.v);
        return PageOutcome::freed;
      }
      case WriteOutcome::refused: return PageOutcome::keep;
      case WriteOutcome::wait: return PageOutcome::wait;
    }
  }
  return free_cached(pfn, shadow) ? PageOutcome::freed : PageOutcome::keep;
}

// A clean page of the page cache; false if its backing still needs it.
bool PageOut::free_cached(Pfn pfn, u32 shadow) {
  Mapping& mapping = *mapping_of(mm_->frames[pfn]);
  if (!mapping.backing->release_page(mapping, pfn)) return false;
  mm_->cache.free_page(pfn, shadow);
  mm_->observer.count(Counter::pgsteal);
  mm_->observer.event(EventKind::reclaim_evict, pfn.v, 0);
  return true;
}

// The page leaves the swap cache and its frame is free; its slot has the content.
void PageOut::free_anonymous(Pfn pfn) {
  const SlotId slot = mm_->frames[pfn].slot;
  release_user_page(*mm_, pfn);
  mm_->observer.count(Counter::pgsteal);
  mm_->observer.event(EventKind::reclaim_evict, pfn.v, slot.v);
}

PageOutcome PageOut::plain_out(Pfn pfn, u32 shadow) {
  Page& page = mm_->frames[pfn];
  if (!page.in_swap_cache()) {
    if (mm_->spaces->locked_by_area(pfn)) return PageOutcome::keep;
    const Result<SlotId> slot = mm_->swap.add_to_swap(pfn);
    if (!slot.ok()) {
      return slot.error() == Error::wait ? PageOutcome::wait : PageOutcome::no_space;
    }
    mm_->reclaimer.page_entered_cache(pfn);
  }
  if (page.mapcount > 0 && mm_->spaces->try_to_unmap(pfn) != UnmapOutcome::unmapped) {
    return PageOutcome::keep;
  }
  if (!mm_->swap.shared(pfn)) {  // nobody wants it any more
    free_anonymous(pfn);
    return PageOutcome::freed;
  }
  const bool dirty_bits = mm_->machine.features.dirty_bit;
  if (page.has(PageFlag::dirty) || (!dirty_bits && !mm_->swap.same_as_slot(pfn))) {
    page.set(PageFlag::dirty);
    mm_->swap.set_shadow(page.slot, shadow);
    return mm_->swap.write(pfn).ok() ? PageOutcome::started : PageOutcome::wait;
  }
  mm_->swap.set_shadow(page.slot, shadow);
  mm_->observer.count(Counter::swap_clean);
  free_anonymous(pfn);
  return PageOutcome::freed;
}

PageOutcome PageOut::tiered_out(Pfn pfn, u32 shadow) {
  Page& page = mm_->frames[pfn];
  if (page.in_swap_cache() && mm_->swap.shared(pfn)) {
    if (mm_->spaces->try_to_unmap(pfn) != UnmapOutcome::unmapped) return PageOutcome::keep;
    // Others had entries of the slot, so nobody could write to the page: it is what the slot has.
    // Unless it was written before and its entries became slots one by one: then the slot has to
    // have what the page has, for all of them.
    if (page.has(PageFlag::dirty)) {
      const Result<SlotId> slot = mm_->swap.store(pfn);
      if (!slot.ok()) {
        return slot.error() == Error::wait ? PageOutcome::wait : PageOutcome::no_space;
      }
      mm_->swap.set_shadow(slot.value(), shadow);
      mm_->swap.put(slot.value());  // what was the cache's reference
      release_user_page(*mm_, pfn);
      mm_->observer.count(Counter::pgsteal);
      mm_->observer.event(EventKind::reclaim_evict, pfn.v, slot.value().v);
      return PageOutcome::freed;
    }
    mm_->swap.set_shadow(page.slot, shadow);
    free_anonymous(pfn);
    return PageOutcome::freed;
  }
  if (page.state == PageState::mapped) {
    if (mm_->spaces->locked_by_area(pfn)) return PageOutcome::keep;
    bool unmapped = false;
    mm_->spaces->unmap_pages(&pfn, 1, &unmapped);
    if (!unmapped) return PageOutcome::keep;
  }
  const Result<SlotId> slot = mm_->swap.store(pfn);
  if (!slot.ok()) return slot.error() == Error::wait ? PageOutcome::wait : PageOutcome::no_space;
  mm_->swap.set_shadow(slot.value(), shadow);
  mm_->spaces->replace_by_slot(pfn, slot.value());
  release_user_page(*mm_, pfn);
  mm_->observer.count(Counter::pgsteal);
  mm_->observer.event(EventKind::reclaim_evict, pfn.v, slot.value().v);
  return PageOutcome::freed;
}

bool PageOut::free_clean(Pfn pfn, u32 shadow) {
  const Page& page = mm_->frames[pfn];
  if (in_transfer(page) || page.mapcount > 0 || page.has(PageFlag::dirty)) return false;
  if (page.in_page_cache()) return free_cached(pfn, shadow);
  if (!page.in_swap_cache() || area_goes_off(page)) return false;
  mm_->swap.set_shadow(page.slot, shadow);
  free_anonymous(pfn);
  return true;
}

PageOutcome PageOut::unmap_entry(AddressSpace& space, Vpn vpn) {
  const Pte entry = space.table().get(vpn);
  SPW_ASSERT(entry.resident());
  const Pfn pfn = entry.pfn();
  Page& page = mm_->frames[pfn];
  if (in_transfer(page) || area_goes_off(page)) return PageOutcome::keep;
  const bool fresh = !page.in_page_cache() && !page.in_swap_cache();
  if (fresh) {
    const Result<SlotId> slot = mm_->swap.add_to_swap(pfn);
    if (!slot.ok()) {
      mm_->observer.step("get_swap_page: no slot is free, the entry is put back");
      return PageOutcome::no_space;
    }
    mm_->reclaimer.page_entered_cache(pfn);
  }
  if (!mm_->spaces->unmap_one(pfn, {space.id(), vpn})) {
    if (fresh) {
      mm_->reclaimer.page_left_cache(pfn);
      mm_->swap.delete_from_cache(pfn);
    }
    return PageOutcome::keep;
  }
  if (page.mapcount == 0 && page.state == PageState::mapped) {
    mm_->frames.transition(pfn, PageState::mapped, PageState::unmapped);
  }
  if (page.in_swap_cache()) {
    mm_->observer.step(
        fresh ? "get_swap_page: slot {a} of area {b}; the page enters the swap cache, dirty; the "
                "entry names the slot, which has {c} references"
        : page.has(PageFlag::dirty)
            ? "in the swap cache under slot {a} of area {b} already, and dirty; the entry names "
              "the slot, which has {c} references"
            : "in the swap cache under slot {a} of area {b} already, and clean: no write will be "
              "needed; the entry names the slot, which has {c} references",
        page.slot.offset(), page.slot.area(), mm_->swap.refs(page.slot));
  } else {
    mm_->observer.step(
        page.has(PageFlag::dirty)
            ? "page {a} of mapping {b}, dirty: the entry becomes empty, the data is in the page "
              "cache"
            : "page {a} of mapping {b}, clean: the entry becomes empty",
        page.index, mapping_of(page)->id);
  }
  return PageOutcome::freed;
}

}  // namespace spillway
