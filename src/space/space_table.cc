#include "space/space_table.h"

#include <new>

namespace spillway {

Status SpaceTable::init(MmContext& mm) {
  mm_ = &mm;
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
}

AddressSpace* SpaceTable::find(SpaceId id) {
  if (id.v >= kSpacesMax || !used_[id.v]) return nullptr;
  return &spaces_[id.v];
}

Pte* SpaceTable::entry_of(Pfn pfn) {
  const Page& page = mm_->frames[pfn];
  Pte* pte = at(page.rmap_space()).table().find(page.rmap_vpn());
  SPW_ASSERT(pte != nullptr);
  return pte;
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
    if (!area->range().contains(start + run)) break;
    ++run;
  }
  const u32 done = mm_->machine.mmu.unmap(space.id(), addr_of(start), pfns, run, area->prot);
  for (u32 i = 0; i < done; ++i) {
    Pte* pte = space.table().find(start + i);
    SPW_ASSERT(pte != nullptr && pte->is(Pte::Kind::present) && pte->pfn() == pfns[i]);
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

void SpaceTable::unmap_pages(const Pfn* pfns, u32 count, bool* unmapped) {
  for (u32 i = 0; i < count;) i += unmap_run(pfns + i, count - i, unmapped + i);
}

void SpaceTable::replace_by_slot(Pfn pfn, SlotId slot) {
  Page& page = mm_->frames[pfn];
  Pte* pte = entry_of(pfn);
  SPW_ASSERT(pte->is(Pte::Kind::unmapped) && pte->pfn() == pfn);
  at(page.rmap_space()).table().store(pte, Pte::swapped(slot));
  page.clear_rmap();
}

UnmapOutcome SpaceTable::try_to_unmap(Pfn) { SPW_PANIC("no shared frames yet"); }

bool SpaceTable::test_and_clear_young(Pfn pfn) {
  if (!mm_->machine.features.accessed_bit) return false;
  Pte* pte = entry_of(pfn);
  if (!pte->accessed()) return false;
  *pte = pte->with_accessed(false);
  return true;
}

}  // namespace spillway
