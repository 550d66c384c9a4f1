// Copy on write (do_wp_page, MECHANISMS 4.2): a write to a page that is mapped without the right to
// write. Nobody else uses the page: it becomes writable. Otherwise the writer gets a copy.
#include "fault/fault_handler.h"

namespace spillway {

// An isolated frame with its contents becomes the area's own page, mapped writable.
void FaultHandler::install_anonymous(AddressSpace& space, Area& area, Vpn vpn, Pfn pfn) {
  Page& page = mm_->frames[pfn];
  page.owner = PageOwner::user;
  page.private_data = 0;
  mm_->machine.mmu.map(space.id(), addr_of(vpn), pfn, 1, area.prot);
  mm_->frames.transition(pfn, PageState::isolated, PageState::mapped);
  mm_->rmap.add(pfn, {space.id(), vpn});
  Pte* pte = space.table().find(vpn);
  space.table().store(
      pte,
      Pte::present(pfn, area.prot).with_accessed(true).with_dirty(allows(area.prot, Prot::write)));
  mm_->reclaimer.page_added(pfn, Arrival::fresh, 0);
  if (area.locked) mm_->reclaimer.page_locked(pfn);
  mm_->observer.count(Counter::pgfresh);
}

FaultOutcome FaultHandler::wp_fault(AddressSpace& space, Area& area, Vpn vpn) {
  const Pte entry = space.table().get(vpn);
  const Pfn old = entry.pfn();
  Page& page = mm_->frames[old];
  const WalkScope walk(mm_->observer.walk, "do_wp_page", "{a:x}, frame {b}, count {c}",
                       addr_of(vpn).v, old.v, page.count());
  const bool cached = page.in_page_cache();
  const bool alone = !cached && page.mapcount == 1 && !page.has(PageFlag::writeback) &&
                     (!page.in_swap_cache() || !mm_->swap.shared(old));
  if (area.shared || alone) {
    mm_->observer.step(area.shared ? "a shared mapping: it becomes writable"
                                   : "nobody else uses the page: it becomes writable, no copy");
    Pte* pte = space.table().find(vpn);
    space.table().store(pte, entry.with_writable(true).with_accessed(true).with_dirty(true));
    mm_->machine.mmu.refresh(space.id(), addr_of(vpn), 1);
    mm_->observer.count(Counter::pgreuse);
    return FaultOutcome::done;
  }
  Pfn copy;
  const FaultOutcome taken = take_frame_beside(old, &copy);
  if (taken != FaultOutcome::done) return taken;
  const Pte now = space.table().get(vpn);
  if (!now.is(Pte::Kind::present) || now.pfn() != old || now.writable()) {
    mm_->observer.step("the entry changed meanwhile: the new frame goes back");
    mm_->allocator.free(copy, 0);
    return FaultOutcome::done;
  }
  mm_->observer.step("{a} others use it: copied to frame {b}", page.count() - 1, copy.v);
  __builtin_memcpy(mm_->machine.frames.bytes(copy), mm_->machine.frames.bytes(old), kPageSize);
  mm_->machine.mmu.drop(space.id(), addr_of(vpn), &old, 1, area.prot);
  space.table().store(space.table().find(vpn), Pte{});
  forget_mapping(*mm_, old, {space.id(), vpn}, now.dirty());
  install_anonymous(space, area, vpn, copy);
  mm_->observer.count(Counter::pgcow);
  return FaultOutcome::done;
}

}  // namespace spillway
