// Pages that come back from swap: the ones that were read from disk arrive here, and those that
// several entries may want go through the swap cache (do_swap_page, MECHANISMS 5.3).
#include "fault/fault_handler.h"
#include "fault/marks.h"

namespace spillway {

// The read failed, or nobody wants the page any more. Only the access that waits for the page
// gets its error; a page read ahead is asked for again when it is wanted.
void FaultHandler::drop_read(Pfn pfn, SlotId slot, Status status) {
  Page& page = mm_->frames[pfn];
  if (!status.ok() && status.error() == Error::io && (page.private_data & kAwaited) != 0) {
    mm_->swap.note_io_error(slot);
  }
  mm_->swap.delete_from_cache(pfn);
  page.clear_rmap();
  page.flags = 0;
  page.owner = PageOwner::none;
  mm_->frames.transition(pfn, PageState::reading, PageState::isolated);
  mm_->allocator.free(pfn, 0);
}

void FaultHandler::page_read(Pfn pfn, SlotId slot, Status status) {
  Page& page = mm_->frames[pfn];
  if (page.rmap == 0) {
    cached_page_read(pfn, slot, status);
    return;
  }
  AddressSpace* space = page.rmap == 0 ? nullptr : spaces_->find(page.rmap_space());
  Pte* pte = space == nullptr ? nullptr : space->table().find(page.rmap_vpn());
  const bool wanted = status.ok() && mm_->swap.shared(pfn) && pte != nullptr &&
                      pte->is(Pte::Kind::swapped) && pte->slot() == slot;
  if (!wanted) {
    drop_read(pfn, slot, status);
    return;
  }
  const bool urgent = (page.private_data & kReadUrgent) != 0;
  mm_->frames.transition(pfn, PageState::reading, PageState::unmapped);
  const RmapPlace place{page.rmap_space(), page.rmap_vpn()};
  page.clear_rmap();
  mm_->rmap.add(pfn, place);
  space->table().store(pte, Pte::unmapped(pfn).with_readahead(true));
  const u64 awaited = page.private_data & kAwaited;
  page.private_data = mm_->swap.shadow(slot) | awaited;
  mm_->observer.count(Counter::pswpin);
  if (awaited == 0) mm_->observer.count(Counter::pswpin_ra);
  if (!mm_->swap.worth_keeping(slot)) mm_->swap.delete_from_cache(pfn);
  mm_->swap.put(slot);  // the entry's reference
  const Area* area = space->find(page.rmap_vpn());
  if ((urgent || area->locked) && area->prot != Prot::none) {
    map_arrived(*space, *area, pfn);
  } else {
    mm_->reclaimer.page_added_unmapped(pfn);
  }
}

void FaultHandler::map_arrived(AddressSpace& space, const Area& area, Pfn pfn) {
  Page& page = mm_->frames[pfn];
  const Vpn vpn = page.rmap_vpn();
  mm_->machine.mmu.map(space.id(), addr_of(vpn), pfn, 1, area.prot);
  mm_->frames.transition(pfn, PageState::unmapped, PageState::mapped);
  space.table().store(space.table().find(vpn), Pte::present(pfn, area.prot));
  mm_->reclaimer.page_added(pfn, Arrival::refault, static_cast<u32>(page.private_data));
  if (area.locked) mm_->reclaimer.page_locked(pfn);
}

// A page that was read into the swap cache for whoever holds an entry of its slot.
void FaultHandler::cached_page_read(Pfn pfn, SlotId slot, Status status) {
  Page& page = mm_->frames[pfn];
  if (!status.ok() || !mm_->swap.shared(pfn)) {
    drop_read(pfn, slot, status);
    return;
  }
  mm_->frames.transition(pfn, PageState::reading, PageState::unmapped);
  const u64 awaited = page.private_data & kAwaited;
  page.private_data = mm_->swap.shadow(slot) | awaited | kUntouched;
  page.clear(PageFlag::dirty);
  mm_->observer.count(Counter::pswpin);
  if (awaited == 0) mm_->observer.count(Counter::pswpin_ra);
  mm_->reclaimer.page_added_unmapped(pfn);
}

// A frame for a page, or why there is none.
FaultOutcome FaultHandler::take_frame(AllocFlags flags, Pfn* out) {
  const WalkScope walk(mm_->observer.walk, "alloc_page", "{a} free, marks {b} {c}",
                       mm_->allocator.free_pages().v, mm_->allocator.marks().min.v,
                       mm_->allocator.marks().low.v);
  const Result<Pfn> pfn = mm_->allocator.alloc(0, flags);
  if (!pfn.ok()) {
    mm_->observer.step(pfn.error() == Error::wait ? "no frame now: wait for an I/O"
                                                  : "no frame, and nothing can be freed");
    return pfn.error() == Error::wait ? FaultOutcome::wait : FaultOutcome::oom;
  }
  mm_->observer.step("frame {a}", pfn.value().v);
  *out = pfn.value();
  return FaultOutcome::done;
}

// As take_frame for a copy of the page `held`, which stays meanwhile.
FaultOutcome FaultHandler::take_frame_beside(Pfn held, Pfn* out) {
  const PagePin pin(mm_->frames[held]);
  return take_frame(kAllocUser, out);
}

// Room for one more place of the page, which stays meanwhile.
FaultOutcome FaultHandler::reserve_place(Pfn pfn) {
  if (!mm_->rmap.needs_node(pfn)) return FaultOutcome::done;
  const PagePin pin(mm_->frames[pfn]);
  const Status reserved = mm_->rmap.reserve(1);
  if (reserved.ok()) return FaultOutcome::done;
  return reserved.error() == Error::wait ? FaultOutcome::wait : FaultOutcome::oom;
}

FaultOutcome FaultHandler::swap_fault(AddressSpace& space, Area& area, Vpn vpn, SlotId slot,
                                      Access access, u32 attempt) {
  const WalkScope walk(mm_->observer.walk, "do_swap_page", "{a:x} is in slot {b} of area {c}",
                       addr_of(vpn).v, slot.offset(), slot.area());
  Swap& swap = mm_->swap;
  Pfn pfn = swap.cached(slot);
  if (!pfn.valid()) {
    mm_->observer.step("lookup_swap_cache: not there");
    return swap_read(space, vpn, slot, attempt);
  }
  const Page& page = mm_->frames[pfn];
  if (page.state == PageState::reading) {
    mm_->observer.step("frame {a} is being read for it: wait", pfn.v);
    mm_->frames[pfn].private_data |= kAwaited;
    return FaultOutcome::wait;
  }
  if (page.has(PageFlag::writeback)) {
    mm_->observer.step("frame {a} is being written (locked): wait", pfn.v);
    return FaultOutcome::wait;
  }
  mm_->observer.step("lookup_swap_cache: frame {a} still holds it", pfn.v);
  const FaultOutcome room = reserve_place(pfn);
  if (room != FaultOutcome::done) return room;
  const Pte* now = space.table().find(vpn);
  if (now == nullptr || !now->is(Pte::Kind::swapped) || now->slot() != slot ||
      swap.cached(slot) != pfn) {
    return FaultOutcome::done;  // reserving reclaimed it: the access is tried again
  }
  install_swapped(space, area, vpn, slot, pfn, access);
  if (access == Access::write && !space.table().get(vpn).writable()) {
    return wp_fault(space, area, vpn);
  }
  return FaultOutcome::done;
}

void FaultHandler::install_swapped(AddressSpace& space, Area& area, Vpn vpn, SlotId slot, Pfn pfn,
                                   Access access) {
  Page& page = mm_->frames[pfn];
  Swap& swap = mm_->swap;
  const u64 marks = page.private_data;
  if ((marks & kUntouched) != 0) {
    const Arrival arrival = (marks & kAwaited) != 0 ? Arrival::refault : Arrival::readahead;
    if (arrival == Arrival::readahead) mm_->observer.count(Counter::swap_ra_hit);
    page.private_data = 0;
    mm_->reclaimer.page_removed(pfn);
    mm_->reclaimer.page_added(pfn, arrival, static_cast<u32>(marks));
  } else {
    mm_->reclaimer.page_mapped(pfn);
  }
  mm_->machine.mmu.map(space.id(), addr_of(vpn), pfn, 1, area.prot);
  if (page.state == PageState::unmapped) {
    mm_->frames.transition(pfn, PageState::unmapped, PageState::mapped);
  }
  mm_->rmap.add(pfn, {space.id(), vpn});
  Pte* pte = space.table().find(vpn);
  space.table().store(pte, Pte{});
  swap.put(slot);
  const bool exclusive = !swap.shared(pfn) && page.mapcount == 1;
  const bool write = access == Access::write && exclusive && allows(area.prot, Prot::write);
  space.table().store(
      pte, Pte::present(pfn, area.prot).with_writable(write).with_accessed(true).with_dirty(write));
  if (area.locked) mm_->reclaimer.page_locked(pfn);
  mm_->observer.event(EventKind::fault_swap_in, vpn.v, slot.v);
  mm_->observer.step(write       ? "swap_free: {a} references of the slot left; mapped writable"
                     : exclusive ? "swap_free: {a} references of the slot left; mapped read-only, "
                                   "the page stays in the swap cache"
                                 : "swap_free: {a} references of the slot left; shared, mapped "
                                   "read-only",
                     swap.refs(slot));
  // Swap is filling up: a page that nobody else wants need not keep its slot (vm_swap_full).
  const bool half_full = swap.areas().free_pages().v * 2 < swap.areas().total_pages().v;
  if (exclusive && slot.area() != 0 && half_full) {
    mm_->reclaimer.page_left_cache(pfn);
    swap.delete_from_cache(pfn);
    page.set(PageFlag::dirty);
    mm_->observer.step("swap is half full: the slot is given back");
  }
}

// Brings a page that is in no frame into the swap cache: read from a plain area with the pages
// around it, or decoded from the pool.
FaultOutcome FaultHandler::swap_read(AddressSpace& space, Vpn vpn, SlotId slot, u32 attempt) {
  Swap& swap = mm_->swap;
  // Room for the whole cluster, if it can be had; without it the page comes alone.
  SlotId window[kReadTargetsMax];
  const u32 slots = cluster_of(slot, window);
  if (slots > 1) (void)mm_->allocator.make_room(PageCount(slots));
  Pfn pfn;
  const FaultOutcome taken = take_frame(kAllocUser, &pfn);
  if (taken != FaultOutcome::done) return taken;
  const Pte now = space.table().get(vpn);
  if (!now.is(Pte::Kind::swapped) || now.slot() != slot || swap.cached(slot).valid()) {
    mm_->allocator.free(pfn, 0);
    return FaultOutcome::done;
  }
  const LoadOutcome outcome = swap.load(slot, pfn);
  switch (outcome) {
    case LoadOutcome::done: {
      Page& page = mm_->frames[pfn];
      page.owner = PageOwner::user;
      page.private_data = swap.shadow(slot) | kAwaited | kUntouched;
      mm_->frames.transition(pfn, PageState::isolated, PageState::unmapped);
      swap.get(slot);
      swap.add_to_cache(pfn, slot);
      mm_->observer.count(Counter::pswpin);
      if (attempt == 0) mm_->observer.count(Counter::pgmajfault);
      mm_->reclaimer.page_added_unmapped(pfn);
      return FaultOutcome::done;  // the retry finds it in the cache
    }
    case LoadOutcome::on_disk: break;
    case LoadOutcome::reading:
    case LoadOutcome::cached: mm_->allocator.free(pfn, 0); return FaultOutcome::wait;
    case LoadOutcome::io:
      mm_->allocator.free(pfn, 0);
      swap.clear_error(slot);  // this access fails; a later one tries the disk again
      mm_->observer.step("the slot could not be read: SIGBUS");
      return FaultOutcome::bus;
    case LoadOutcome::corrupt:
      mm_->allocator.free(pfn, 0);
      mm_->observer.step("the slot does not match its checksum: never handed out");
      return FaultOutcome::corrupt;
  }
  mm_->observer.count(Counter::pgmajfault);
  return read_cluster(slot, pfn);
}

// The slots worth reading together. Those of the tiers lie in the order of their ends, not of their
// pages: no cluster there.
u32 FaultHandler::cluster_of(SlotId slot, SlotId* out) const {
  return slot.area() == 0 ? 0 : mm_->swap.readahead_window(slot, config_.page_cluster, out);
}

// swapin_readahead: the aligned cluster around the slot goes into the swap cache with it.
FaultOutcome FaultHandler::read_cluster(SlotId slot, Pfn pfn) {
  const WalkScope walk(mm_->observer.walk, "swapin_readahead", "slot {a}, cluster of {b}",
                       slot.offset(), u64{1} << config_.page_cluster);
  ReadTarget targets[kReadTargetsMax];
  u32 count = 0;
  SlotId window[kReadTargetsMax];
  const u32 slots = cluster_of(slot, window);
  // In the order of the slots, so that neighbours share a request.
  u32 wanted = kReadTargetsMax;
  for (u32 i = 0; i < slots && count + 1 < kReadTargetsMax; ++i) {
    if (window[i] == slot) {
      wanted = count;
      targets[count++] = {slot, pfn};
      continue;
    }
    if (mm_->swap.cached(window[i]).valid()) continue;
    Pfn ahead;
    if (mm_->allocator.alloc_run(1, &ahead) == 0) continue;
    mm_->frames[ahead].private_data = 0;
    targets[count++] = {window[i], ahead};
  }
  if (wanted == kReadTargetsMax) {  // a free slot lies before it in the window
    wanted = count;
    targets[count++] = {slot, pfn};
  }
  mm_->frames[pfn].private_data = kAwaited;
  for (u32 i = 0; i < count; ++i) {
    mm_->frames.transition(targets[i].pfn, PageState::isolated, PageState::reading);
    mm_->frames[targets[i].pfn].owner = PageOwner::user;
  }
  mm_->observer.step("read_swap_cache_async: {a} pages", count);
  if (mm_->swap.read(targets, count).ok()) return FaultOutcome::wait;
  // Too much is in flight. The page alone may still fit.
  for (u32 i = 0; i < count; ++i) {
    if (i != wanted) give_up_read(targets[i].pfn);
  }
  if (count > 1 && mm_->swap.read(&targets[wanted], 1).ok()) return FaultOutcome::wait;
  give_up_read(pfn);
  return FaultOutcome::wait;
}

FaultOutcome FaultHandler::unuse_entry(AddressSpace& space, Vpn vpn) {
  Area* area = space.find(vpn);
  SPW_ASSERT(area != nullptr);
  const Pte entry = space.table().get(vpn);
  SPW_ASSERT(entry.is(Pte::Kind::swapped));
  return swap_fault(space, *area, vpn, entry.slot(), Access::read, 1);
}

FaultOutcome FaultHandler::unuse_shared(Mapping& mapping, u32 index, SlotId slot) {
  return shmem_swap_in(mapping, index, slot);
}

}  // namespace spillway
