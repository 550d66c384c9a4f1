// Swap areas on and off. swapoff empties the area: every entry of every process, every page of
// shared memory that lies there comes into memory and leaves its slot (try_to_unuse, MECHANISMS
// 5.4). When memory does not suffice, the area goes on as before.
#include "system/kernel_impl.h"

namespace spillway {

// What may be committed follows what there is: RAM and swap.
void KernelImpl::update_commit() {
  const PageCount swap = sys.swap.areas().total_pages();
  const PageCount ram = sys.frames.count() - sys.allocator.reserved();
  switch (config.overcommit) {
    case Overcommit::heuristic: sys.commit.set(CommitMode::heuristic, ram + swap); return;
    case Overcommit::always: sys.commit.set(CommitMode::always, ram + swap); return;
    case Overcommit::never:
      sys.commit.set(CommitMode::never, PageCount(ram.v * config.overcommit_ratio / 100) + swap);
      return;
  }
}

Status Kernel::mkswap(u32 device) {
  if (device == impl_.config.file_device) return Error::busy;
  return impl_.sys.swap.areas().format(device, SwapFormat{});
}

Result<u64> Kernel::swapon(u32 device, i32 priority) {
  const WalkScope walk(impl_.sys.observer.walk, "sys_swapon", "device {a}", device);
  if (device == impl_.config.file_device) return Error::busy;
  const i32 wanted = priority < 0 ? SwapAreas::kPriorityDefault : priority;
  SPW_TRY_ASSIGN(area, impl_.sys.swap.areas().swap_on(device, wanted, PageCount(0)));
  impl_.update_commit();
  impl_.sys.observer.step("area {a}, {b} slots free in all", area,
                          impl_.sys.swap.areas().free_pages().v);
  return u64{0};
}

// The page has no entry in the area any more: it leaves the swap cache, and what only the cache
// held is free. Policies that keep only cached pages on lists hear of the change.
void KernelImpl::leave_area(Pfn pfn) {
  if (sys.frames[pfn].mapcount == 0) {
    release_user_page(sys.mm, pfn);
    return;
  }
  sys.reclaim.page_removed(pfn);
  sys.swap.delete_from_cache(pfn);
  sys.reclaim.page_added(pfn, Arrival::fresh, 0);
  if (sys.spaces.locked_by_area(pfn)) sys.reclaim.page_locked(pfn);
}

// A page that came in leaves its slot at once, if nobody else has an entry of it. If somebody has,
// its frame stays until he was served too: PageOut does not send it back.
void KernelImpl::keep_in(Pfn pfn, u32 area) {
  const Page& page = sys.frames[pfn];
  if (!page.in_swap_cache() || page.slot.area() != area || sys.swap.shared(pfn)) return;
  if (!page.has(PageFlag::writeback)) leave_area(pfn);
}

Status KernelImpl::empty_space(AddressSpace& target, u32 area) {
  PageTable::Span span;
  for (Vpn at{0}; target.table().next_span(at, kVpnEnd, &span); at = span.start + span.count) {
    for (u32 i = 0; i < span.count; ++i) {
      const Vpn vpn = span.start + i;
      // Bringing a page in may swap others out, but never to this area again.
      for (;;) {
        const Pte entry = target.table().get(vpn);
        if (!entry.is(Pte::Kind::swapped) || entry.slot().area() != area) break;
        switch (sys.fault.unuse_entry(target, vpn)) {
          case FaultOutcome::done: {
            const Pte now = target.table().get(vpn);
            if (now.is(Pte::Kind::present)) keep_in(now.pfn(), area);
            continue;
          }
          case FaultOutcome::wait: return Error::wait;
          case FaultOutcome::bus:
          case FaultOutcome::corrupt: return Error::io;
          case FaultOutcome::maperr:
          case FaultOutcome::accerr:
          case FaultOutcome::oom: return Error::no_memory;
        }
      }
    }
  }
  return kOk;
}

Status KernelImpl::empty_shmem(u32 area) {
  Status result = kOk;
  sys.shmem.for_each([&](ShmObject& object) {
    if (!result.ok()) return;
    u32 index = 0;
    u64 value = 0;
    while (object.mapping.nr_swapped > 0 && object.mapping.tree.next(&index, ~u32{0}, &value)) {
      const CacheEntry entry = CacheEntry::from_bits(value);
      if (entry.is(CacheEntry::Kind::swap) && entry.slot().area() == area) {
        switch (sys.fault.unuse_shared(object.mapping, index, entry.slot())) {
          case FaultOutcome::done: continue;  // look at the index again
          case FaultOutcome::wait: result = Error::wait; return;
          case FaultOutcome::bus:
          case FaultOutcome::corrupt: result = Error::io; return;
          case FaultOutcome::maperr:
          case FaultOutcome::accerr:
          case FaultOutcome::oom: result = Error::no_memory; return;
        }
      }
      if (++index == 0) break;
    }
  });
  return result;
}

// Pages that only their slots' cache entries tie to the area leave the cache, dirty.
Status KernelImpl::forget_cached(u32 area) {
  Swap& swap = sys.swap;
  for (SlotId slot = swap.areas().next_used(SlotId(area, 0)); slot.valid();
       slot = swap.areas().next_used(slot)) {
    const Pfn pfn = swap.cached(slot);
    if (!pfn.valid()) return Error::busy;  // somebody holds it that is neither space nor segment
    const Page& page = sys.frames[pfn];
    if (page.state == PageState::reading || page.has(PageFlag::writeback)) return Error::wait;
    if (swap.shared(pfn)) swap.reset_refs(slot, 1);  // a count that stuck (row 44)
    leave_area(pfn);
  }
  return kOk;
}

Status KernelImpl::empty_area(u32 area) {
  // Pages that are in memory and only keep their slot give it up first: as long as they have it,
  // they cannot be evicted.
  Swap& swap = sys.swap;
  for (SlotId slot = swap.areas().next_used(SlotId(area, 0)); slot.valid();
       slot = swap.areas().next_used(slot)) {
    const Pfn pfn = swap.cached(slot);
    if (pfn.valid() && sys.frames[pfn].state != PageState::reading) keep_in(pfn, area);
  }
  Status result = kOk;
  sys.spaces.for_each([&](AddressSpace& target) {
    if (result.ok()) result = empty_space(target, area);
  });
  SPW_TRY(result);
  SPW_TRY(empty_shmem(area));
  return forget_cached(area);
}

Result<u64> Kernel::swapoff(u32 device) {
  SwapAreas& areas = impl_.sys.swap.areas();
  const u32 area = device + 1;
  const WalkScope walk(impl_.sys.observer.walk, "sys_swapoff", "device {a}", device);
  if (impl_.swapoff_given_up == area) {
    impl_.swapoff_given_up = 0;
    return Error::no_memory;
  }
  if (impl_.area_going_off == 0) {
    const PageCount before = areas.total_pages();
    SPW_TRY(areas.begin_off(area));
    // What is promised must have its place without the area, now and while it is emptied.
    const Status promised = impl_.sys.commit.allows(before - areas.total_pages());
    if (!promised.ok()) {
      impl_.sys.observer.step("{a} pages are promised, {b} may be with the area: it stays on",
                              impl_.sys.commit.committed().v, impl_.sys.commit.most().v);
      SPW_TRY(areas.cancel_off(area));
      return promised.error();
    }
    impl_.area_going_off = area;
    impl_.update_commit();
  } else if (impl_.area_going_off != area) {
    return Error::busy;
  }
  const Status emptied = impl_.empty_area(area);
  if (!emptied.ok()) {
    if (emptied.error() == Error::wait) return Error::wait;
    impl_.sys.observer.step("not all pages could be brought in: the area stays on");
    impl_.area_going_off = 0;
    SPW_TRY(areas.cancel_off(area));
    impl_.update_commit();  // a swapon meanwhile did not count this area
    return emptied.error();
  }
  impl_.area_going_off = 0;
  SPW_TRY(areas.finish_off(area));
  impl_.update_commit();
  return u64{0};
}

}  // namespace spillway
