#include "space/space_table.h"

#include <new>

namespace spillway {

Status SpaceTable::init(MmContext& mm) {
  mm_ = &mm;
  mm.spaces = this;
  spaces_ = static_cast<AddressSpace*>(
      mm.machine.boot.alloc(kSpacesMax * sizeof(AddressSpace), alignof(AddressSpace)));
  if (spaces_ == nullptr) return Error::no_memory;
  return kOk;
}

Result<SpaceId> SpaceTable::create(VpnRange range, PageCount brk_pages) {
  if (range.empty() || range.end > kVpnEnd || brk_pages > range.pages()) return Error::invalid;
  for (u16 i = 1; i < kSpacesMax; ++i) {
    if (used_[i]) continue;
    AddressSpace* space = ::new (static_cast<void*>(&spaces_[i])) AddressSpace;
    SPW_TRY(space->init(*mm_, SpaceId(i), range, brk_pages));
    used_[i] = true;
    return SpaceId(i);
  }
  return Error::no_memory;
}

void SpaceTable::destroy(SpaceId id) {
  at(id).destroy();
  used_[id.v] = false;
  mm_->reclaimer.space_ended(id);
}

AddressSpace* SpaceTable::find(SpaceId id) {
  if (id.v >= kSpacesMax || !used_[id.v]) return nullptr;
  return &spaces_[id.v];
}

Pte* SpaceTable::entry_at(RmapPlace place) {
  Pte* pte = at(place.space).table().find(place.vpn);
  SPW_ASSERT(pte != nullptr);
  return pte;
}

bool SpaceTable::mapped_by_any(Pfn pfn) {
  bool present = false;
  mm_->rmap.for_each(pfn, [&](RmapPlace place) {
    present = entry_at(place)->is(Pte::Kind::present);
    return !present;
  });
  return present;
}

bool SpaceTable::locked_by_area(Pfn pfn) {
  bool locked = false;
  mm_->rmap.for_each(pfn, [&](RmapPlace place) {
    const Area* area = at(place.space).find(place.vpn);
    locked = area != nullptr && area->locked;
    return !locked;
  });
  return locked;
}

// Unmaps pages that lie at consecutive addresses of one area.
u32 SpaceTable::unmap_run(const Pfn* pfns, u32 count, bool* unmapped) {
  const Page& first = mm_->frames[pfns[0]];
  AddressSpace& space = at(first.rmap_space());
  const Vpn start = first.rmap_vpn();
  const Area* area = space.find(start);
  SPW_ASSERT(area != nullptr);
  u32 run = 1;
  while (run < count) {
    const Page& page = mm_->frames[pfns[run]];
    if (page.rmap_space() != space.id() || page.rmap_vpn() != start + run) break;
    if (!area->range().contains(start + run) || page.in_page_cache() || page.pins != 0) break;
    ++run;
  }
  const u32 done = mm_->machine.mmu.unmap(space.id(), addr_of(start), pfns, run, area->prot);
  for (u32 i = 0; i < done; ++i) {
    Pte* pte = space.table().find(start + i);
    SPW_ASSERT(pte != nullptr && pte->is(Pte::Kind::present) && pte->pfn() == pfns[i]);
    keep_dirty(pfns[i], *pte);
    space.table().store(pte, Pte::unmapped(pfns[i]));
    mm_->frames.transition(pfns[i], PageState::mapped, PageState::unmapped);
    mm_->observer.event(EventKind::reclaim_unmap, pfns[i].v, (start + i).v);
    unmapped[i] = true;
  }
  if (done < run) {
    unmapped[done] = false;
    mm_->observer.count(Counter::pgrotated);
    return done + 1;  // the held page is skipped
  }
  return run;
}

// The entry that goes may be the only one who knows that the page was written to.
void SpaceTable::keep_dirty(Pfn pfn, Pte entry) {
  if (!entry.dirty()) return;
  Page& page = mm_->frames[pfn];
  if (page.in_page_cache()) {
    mm_->cache.set_dirty(pfn);
  } else if (page.in_swap_cache()) {
    page.set(PageFlag::dirty);
  }
}

// As unmap_run for a page with several places: each present entry becomes a soft one.
bool SpaceTable::soft_unmap_shared(Pfn pfn) {
  bool all = true;
  mm_->rmap.for_each(pfn, [&](RmapPlace place) {
    Pte* pte = entry_at(place);
    if (!pte->is(Pte::Kind::present)) return true;
    AddressSpace& space = at(place.space);
    const Area* area = space.find(place.vpn);
    if (mm_->machine.mmu.unmap(space.id(), addr_of(place.vpn), &pfn, 1, area->prot) == 0) {
      all = false;
      return false;
    }
    keep_dirty(pfn, *pte);
    space.table().store(pte, Pte::unmapped(pfn));
    return true;
  });
  if (!all) {
    mm_->observer.count(Counter::pgrotated);
    return false;
  }
  mm_->frames.transition(pfn, PageState::mapped, PageState::unmapped);
  mm_->observer.event(EventKind::reclaim_unmap, pfn.v, mm_->rmap.first(pfn).vpn.v);
  return true;
}

void SpaceTable::unmap_pages(const Pfn* pfns, u32 count, bool* unmapped) {
  for (u32 i = 0; i < count;) {
    if (mm_->frames[pfns[i]].pins != 0) {
      unmapped[i++] = false;
      mm_->observer.count(Counter::pgrotated);
    } else if (mm_->frames[pfns[i]].in_page_cache()) {
      unmapped[i] = try_to_unmap(pfns[i]) == UnmapOutcome::unmapped;
      ++i;
    } else if ((mm_->frames[pfns[i]].rmap & Page::kRmapChain) != 0) {
      unmapped[i] = soft_unmap_shared(pfns[i]);
      ++i;
    } else {
      i += unmap_run(pfns + i, count - i, unmapped + i);
    }
  }
}

void SpaceTable::replace_by_slot(Pfn pfn, SlotId slot) {
  Page& page = mm_->frames[pfn];
  bool first = true;
  while (page.mapcount > 0) {
    const RmapPlace place = mm_->rmap.first(pfn);
    Pte* pte = entry_at(place);
    SPW_ASSERT(pte->is(Pte::Kind::unmapped) && pte->pfn() == pfn);
    at(place.space).table().store(pte, Pte::swapped(slot));
    mm_->rmap.remove(pfn, place);
    if (!first) mm_->swap.get(slot);
    first = false;
  }
}

UnmapOutcome SpaceTable::try_to_unmap(Pfn pfn) {
  Page& page = mm_->frames[pfn];
  const WalkScope walk(mm_->observer.walk, "try_to_unmap", "frame {a}, {b} mappings", pfn.v,
                       page.mapcount);
  if (locked_by_area(pfn)) {
    mm_->observer.step("a locked area maps it: it stays");
    return UnmapOutcome::locked;
  }
  SPW_ASSERT(page.in_page_cache() || page.in_swap_cache());
  while (page.mapcount > 0) {
    const RmapPlace place = mm_->rmap.first(pfn);
    if (!unmap_one(pfn, place)) {
      mm_->observer.step("somebody holds it: it stays");
      return UnmapOutcome::held;
    }
  }
  if (page.state == PageState::mapped) {
    mm_->frames.transition(pfn, PageState::mapped, PageState::unmapped);
  }
  return UnmapOutcome::unmapped;
}

bool SpaceTable::unmap_one(Pfn pfn, RmapPlace place) {
  Page& page = mm_->frames[pfn];
  AddressSpace& space = at(place.space);
  Pte* pte = entry_at(place);
  const Pte entry = *pte;
  SPW_ASSERT(entry.resident() && entry.pfn() == pfn);
  if (entry.is(Pte::Kind::present)) {
    const Area* area = space.find(place.vpn);
    if (mm_->machine.mmu.unmap(space.id(), addr_of(place.vpn), &pfn, 1, area->prot) == 0) {
      mm_->observer.count(Counter::pgrotated);
      return false;
    }
    keep_dirty(pfn, entry);
  }
  if (page.in_page_cache()) {
    space.table().store(pte, Pte{});
  } else {
    mm_->swap.get(page.slot);
    space.table().store(pte, Pte::swapped(page.slot));
  }
  mm_->rmap.remove(pfn, place);
  mm_->observer.event(EventKind::reclaim_unmap, pfn.v, place.vpn.v);
  return true;
}

void SpaceTable::unmap_mapping(Mapping& mapping, u32 first) {
  for (Area* a = mapping.areas; a != nullptr; a = a->share_next) {
    const u64 end_index = a->pgoff + a->pages().v;
    if (end_index <= first) continue;
    const u64 skip = a->pgoff >= first ? 0 : first - a->pgoff;
    a->space->zap({a->start + skip, a->end}, a->prot);
  }
}

bool SpaceTable::test_and_clear_young(Pfn pfn) {
  if (!mm_->machine.features.accessed_bit) return false;
  bool young = false;
  mm_->rmap.for_each(pfn, [&](RmapPlace place) {
    Pte* pte = entry_at(place);
    if (pte->is(Pte::Kind::present) && pte->accessed()) {
      young = true;
      *pte = pte->with_accessed(false);
    }
    return true;
  });
  return young;
}

PageReferences SpaceTable::look_at_references(Pfn pfn) {
  PageReferences found;
  mm_->rmap.for_each(pfn, [&](RmapPlace place) {
    const Area* area = at(place.space).find(place.vpn);
    if (area != nullptr && area->locked) found.locked = true;
    Pte* pte = entry_at(place);
    if (!pte->is(Pte::Kind::present) || !pte->accessed()) return true;
    *pte = pte->with_accessed(false);
    ++found.young;
    if (area != nullptr && allows(area->prot, Prot::exec)) found.executable = true;
    return true;
  });
  return found;
}

}  // namespace spillway
