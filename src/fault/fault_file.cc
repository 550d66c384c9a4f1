// Pages of mapped files and of shared memory (do_no_page, filemap_nopage, shmem_nopage; MECHANISMS
// 8.3 and 9).
#include "fault/fault_handler.h"
#include "fault/marks.h"

namespace spillway {

FaultOutcome FaultHandler::file_fault(AddressSpace& space, Area& area, Vpn vpn, Access access,
                                      u32 attempt) {
  Mapping& mapping = *area.mapping;
  const u32 index = area.index_of(vpn);
  const bool shmem = mapping.owner == PageOwner::shmem;
  const WalkScope walk(mm_->observer.walk, shmem ? "shmem_nopage" : "filemap_nopage",
                       "page {a} of mapping {b}", index, mapping.id);
  if (index >= mapping.size_pages()) {
    mm_->observer.step("beyond the last page, {a}: SIGBUS", mapping.size_pages());
    return FaultOutcome::bus;
  }
  // The table first: everything that may reclaim comes before the page is looked up.
  const Result<Pte*> leaf = space.table().ensure(vpn, kAllocKernel);
  if (!leaf.ok()) return leaf.error() == Error::wait ? FaultOutcome::wait : FaultOutcome::oom;
  Result<Pfn> found = mm_->cache.lookup(mapping, index);
  if (!found.ok() && found.error() == Error::no_entry) {
    const FaultOutcome missed = file_miss(area, index, mm_->cache.find(mapping, index));
    if (missed != FaultOutcome::done) return missed;
    found = mm_->cache.lookup(mapping, index);
    if (!found.ok() && found.error() == Error::no_entry) return FaultOutcome::done;
  }
  if (!found.ok()) {
    if (found.error() == Error::wait) {
      if (attempt == 0) mm_->observer.count(Counter::pgmajfault);
      mm_->observer.step("its page is being read: wait");
      return FaultOutcome::wait;
    }
    mm_->observer.step("it could not be read: SIGBUS");
    return FaultOutcome::bus;
  }
  const Pfn pfn = found.value();
  const bool early_cow = access == Access::write && !area.shared;
  Pfn copy;
  // Held meanwhile: with one frame left that can be reclaimed, making room for the copy would take
  // the page itself, for ever.
  const PagePin pin(mm_->frames[pfn]);
  const FaultOutcome room = early_cow ? take_frame_beside(pfn, &copy) : reserve_place(pfn);
  if (room != FaultOutcome::done) return room;
  if (mm_->cache.find(mapping, index) != CacheEntry::page(pfn) || !space.table().get(vpn).none()) {
    if (early_cow) mm_->allocator.free(copy, 0);
    return FaultOutcome::done;  // making room reclaimed it: the access is tried again
  }
  if (early_cow) {
    mm_->reclaimer.page_touched(pfn);
    mm_->observer.step("a private write: copied from frame {a} to frame {b}", pfn.v, copy.v);
    __builtin_memcpy(mm_->machine.frames.bytes(copy), mm_->machine.frames.bytes(pfn), kPageSize);
    install_anonymous(space, area, vpn, copy);
    mm_->observer.count(Counter::pgcow);
    return FaultOutcome::done;
  }
  mm_->reclaimer.page_mapped(pfn);
  map_cached(space, area, vpn, pfn, access);
  return FaultOutcome::done;
}

void FaultHandler::map_cached(AddressSpace& space, Area& area, Vpn vpn, Pfn pfn, Access access) {
  Page& page = mm_->frames[pfn];
  mm_->machine.mmu.map(space.id(), addr_of(vpn), pfn, 1, area.prot);
  if (page.state == PageState::unmapped) {
    mm_->frames.transition(pfn, PageState::unmapped, PageState::mapped);
  }
  mm_->rmap.add(pfn, {space.id(), vpn});
  const bool writable = area.shared && allows(area.prot, Prot::write);
  space.table().store(space.table().find(vpn), Pte::present(pfn, area.prot)
                                                   .with_writable(writable)
                                                   .with_accessed(true)
                                                   .with_dirty(access == Access::write));
  if (area.locked) mm_->reclaimer.page_locked(pfn);
  mm_->observer.step(writable ? "frame {a} mapped, writable, {b} mappings"
                              : "frame {a} mapped read-only, {b} mappings",
                     pfn.v, page.mapcount);
}

// No page is at the index. done: there is one now.
FaultOutcome FaultHandler::file_miss(Area& area, u32 index, CacheEntry entry) {
  Mapping& mapping = *area.mapping;
  if (entry.is(CacheEntry::Kind::swap)) return shmem_swap_in(mapping, index, entry.slot());
  if (mapping.owner == PageOwner::shmem) {
    const Result<Pfn> fresh = mm_->cache.add_new(mapping, index, true, kAllocUser);
    if (!fresh.ok()) {
      return fresh.error() == Error::wait ? FaultOutcome::wait : FaultOutcome::oom;
    }
    mm_->observer.step("first touch: frame {a}, cleared, enters the page cache", fresh.value().v);
    mm_->cache.set_dirty(fresh.value());  // it exists nowhere else
    return FaultOutcome::done;
  }
  const u32 wanted = 1U << config_.page_cluster;
  const u32 cluster = wanted < PageCache::kReadMax ? wanted : PageCache::kReadMax;
  const bool alone = area.hint == AccessHint::random;
  const u32 first = alone ? index : index & ~(cluster - 1);
  const Status started =
      mm_->cache.start_read(mapping, first, alone ? 1 : cluster, index, kAllocUser);
  if (!started.ok()) {
    switch (started.error()) {
      case Error::wait: return FaultOutcome::wait;
      case Error::no_memory: return FaultOutcome::oom;
      default: return FaultOutcome::bus;
    }
  }
  // Pages that were never written to the device are there at once.
  const Pfn now = mm_->cache.find(mapping, index).pfn();
  if (now.valid() && mm_->frames[now].state != PageState::reading) return FaultOutcome::done;
  mm_->observer.count(Counter::pgmajfault);
  mm_->observer.step(alone ? "not in the page cache: page {a} is read alone (MADV_RANDOM)"
                           : "not in the page cache: the cluster from page {b} is read",
                     index, first);
  return FaultOutcome::wait;
}

// Shared memory comes back: the page moves from the slot to the page cache and the slot is given
// up, so that an index is in one place only (I25).
FaultOutcome FaultHandler::shmem_swap_in(Mapping& mapping, u32 index, SlotId slot) {
  Swap& swap = mm_->swap;
  Pfn pfn = swap.cached(slot);
  u32 shadow = 0;  // what the policy left behind, if the page was really out
  if (pfn.valid()) {
    Page& page = mm_->frames[pfn];
    if (page.state == PageState::reading || page.has(PageFlag::writeback)) {
      page.private_data |= kAwaited;
      mm_->observer.step("frame {a} is in transfer: wait", pfn.v);
      return FaultOutcome::wait;
    }
    mm_->observer.step("lookup_swap_cache: frame {a} still holds it", pfn.v);
    if ((page.private_data & kUntouched) != 0) shadow = static_cast<u32>(page.private_data);
    mm_->reclaimer.page_removed(pfn);
    // The table's reference first: a dirty page leaves the swap cache only as the last to want it.
    swap.put(slot);
    swap.delete_from_cache(pfn);
    page.flags = 0;
    page.private_data = 0;
    page.owner = PageOwner::none;
    mm_->frames.transition(pfn, PageState::unmapped, PageState::isolated);
  } else {
    const FaultOutcome taken = take_frame(kAllocUser, &pfn);
    if (taken != FaultOutcome::done) return taken;
    if (mm_->cache.find(mapping, index) != CacheEntry::swap(slot) || swap.cached(slot).valid()) {
      mm_->allocator.free(pfn, 0);
      return FaultOutcome::wait;
    }
    const LoadOutcome outcome = swap.load(slot, pfn);
    if (outcome == LoadOutcome::on_disk) {
      mm_->observer.count(Counter::pgmajfault);
      return read_cluster(slot, pfn);
    }
    if (outcome != LoadOutcome::done) {
      mm_->allocator.free(pfn, 0);
      if (outcome == LoadOutcome::io) swap.clear_error(slot);
      return outcome == LoadOutcome::corrupt ? FaultOutcome::corrupt : FaultOutcome::bus;
    }
    shadow = swap.shadow(slot);
    swap.put(slot);
    mm_->observer.count(Counter::pgmajfault);
    mm_->observer.count(Counter::pswpin);
  }
  const Status added = mm_->cache.add_frame(mapping, index, pfn, kAllocReclaim);
  SPW_ASSERT(added.ok());  // the tree node of the slot is there
  mm_->cache.set_dirty(pfn);
  if (shadow != 0) mm_->reclaimer.page_refaulted(pfn, shadow);
  mm_->observer.step("frame {a} enters the page cache, dirty; the slot is given back", pfn.v);
  return FaultOutcome::done;
}

void FaultHandler::file_will_need(Area& area, VpnRange range) {
  Mapping& mapping = *area.mapping;
  if (mapping.owner == PageOwner::shmem) return;
  const u64 end = mapping.size_pages();
  for (Vpn vpn = range.start; vpn < range.end; vpn = vpn + PageCache::kReadMax) {
    const u32 index = area.index_of(vpn);
    if (index >= end || mm_->allocator.below_high()) return;
    const u64 left = range.end.v - vpn.v;
    const u32 count = left < PageCache::kReadMax ? static_cast<u32>(left) : PageCache::kReadMax;
    (void)mm_->cache.start_read(mapping, index, count, PageCache::kNobodyWants, kAllocUser);
  }
}

}  // namespace spillway
