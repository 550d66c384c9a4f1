// Locking, advice, msync and mincore by process (MECHANISMS 10, later kernels' errors).
#include "system/kernel_impl.h"

namespace spillway {
namespace {

constexpr bool aligned(u64 addr) { return (addr & kPageMask) == 0; }

// madvise values of Linux beyond enum Advice.
constexpr i32 kAdviceDontfork = 10;
constexpr i32 kAdviceDofork = 11;
constexpr i32 kAdvicePopulateRead = 22;
constexpr i32 kAdvicePopulateWrite = 23;

// mlock rounds the address down and the end up, in arithmetic that wraps around.
struct LockSpan {
  u64 start;
  u64 bytes;
  bool wraps() const { return start + bytes < start; }
  bool too_high() const { return pages_in(start + bytes).v > kVpnEnd.v; }
  VpnRange range() const { return {VirtAddr(start).vpn(), VirtAddr(start + bytes).vpn()}; }
};
LockSpan lock_span(u64 addr, u64 length) {
  return {addr & ~kPageMask, (length + (addr & kPageMask) + kPageMask) & ~kPageMask};
}

// Pages of the span that are locked already.
PageCount locked_pages(AddressSpace& space, const LockSpan& span) {
  const VpnRange range{VirtAddr(span.start).vpn(),
                       span.wraps() || span.too_high() ? kVpnEnd : span.range().end};
  PageCount pages;
  for (Area* a = space.find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    if (a->locked) pages += intersection(a->range(), range).pages();
  }
  return pages;
}

// Whether mlock could not bring in some page of the range for a reason that stays: Linux finds out
// when the areas are locked already, and leaves them so.
bool cannot_populate(AddressSpace& space, VpnRange range) {
  for (Area* a = space.find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    if (a->foreign) continue;
    if (a->prot == Prot::none) return true;
    if (a->mapping == nullptr) continue;
    const VpnRange part = intersection(a->range(), range);
    if (a->index_of(part.end - 1) >= pages_for(a->mapping->size_bytes).v) return true;
  }
  return false;
}

// Advice that a kind of area refuses.
bool refuses(const Area& area, i32 advice) {
  switch (advice) {
    case static_cast<i32>(Advice::free): return area.mapping != nullptr || area.locked;
    case static_cast<i32>(Advice::dontneed):
    case static_cast<i32>(Advice::cold):
    case static_cast<i32>(Advice::pageout): return area.locked;
    default: return false;
  }
}

// `range` lies in one area.
Status follow(KernelImpl& impl, AddressSpace& space, VpnRange range, i32 advice) {
  switch (advice) {
    case static_cast<i32>(Advice::normal): return space.set_hint(range, AccessHint::normal);
    case static_cast<i32>(Advice::random): return space.set_hint(range, AccessHint::random);
    case static_cast<i32>(Advice::sequential): return space.set_hint(range, AccessHint::sequential);
    case static_cast<i32>(Advice::willneed): impl.sys.fault.will_need(space, range); return kOk;
    case static_cast<i32>(Advice::dontneed): return space.discard(range);
    case static_cast<i32>(Advice::free): return space.discard_free(range);
    case static_cast<i32>(Advice::cold): return space.cold(range);
    case static_cast<i32>(Advice::pageout): return space.page_out(range);
    case kAdviceDontfork: return space.set_dontcopy(range, true);
    case kAdviceDofork: return space.set_dontcopy(range, false);
    default: return Error::invalid;
  }
}

// MADV_POPULATE_READ and _WRITE, from the lowest page up to the first that cannot come. `left`
// becomes what is still to be done, for the call's repetition.
Result<u64> populate_advised(KernelImpl& impl, AddressSpace& space, VpnRange* left, Populate how) {
  while (!left->empty()) {
    const Area* area = space.find(left->start);
    if (area == nullptr) return Error::no_memory;
    if (area->foreign) return Error::not_supported;
    const Prot needed = how == Populate::write ? Prot::write : Prot::read;
    if (!allows(area->prot, needed)) return Error::invalid;
    const VpnRange part = intersection(area->range(), *left);
    switch (impl.sys.fault.populate(space, part, &left->start, how)) {
      case FaultOutcome::done: break;
      case FaultOutcome::wait: return Error::wait;
      case FaultOutcome::oom: return Error::no_memory;
      case FaultOutcome::maperr:
      case FaultOutcome::accerr:
      case FaultOutcome::bus:
      case FaultOutcome::corrupt: return Error::fault;
    }
    left->start = part.end;
  }
  return u64{0};
}

// Areas that end at page `progress.done` or before have been stored.
Result<u64> sync_areas(KernelImpl& impl, AddressSpace& space, VpnRange range, u32 flags,
                       SyncProgress& progress) {
  bool hole = false;
  Vpn at = range.start;
  for (Area* a = space.find_above(at); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    if (a->start > at) hole = true;
    at = a->end;
    if ((flags & kMsInvalidate) != 0 && a->locked) return Error::busy;
    if ((flags & kMsSync) == 0 || a->mapping == nullptr || !a->shared) continue;
    if (at.v <= progress.done) continue;
    const VpnRange part = intersection(a->range(), range);
    // Dirty bits of every process that maps the file count, not only our own.
    if (!progress.ticket.in_round) impl.sys.file_maps.collect_dirty(*a->mapping);
    SPW_TRY(impl.sys.cache.sync(*a->mapping, a->index_of(part.start), a->index_of(part.end - 1),
                                progress.ticket));
    progress.done = at.v;
  }
  if (at < range.end) hole = true;
  if (hole) return Error::no_memory;
  return u64{0};
}

}  // namespace

Result<u64> Kernel::mlock(Pid pid, u64 addr, u64 length) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  AddressSpace& space = impl_.space(*task);
  const WalkScope walk(impl_.sys.observer.walk, "sys_mlock", "{a:x}, {b} bytes", addr, length);
  if (space.limits().memlock.v == 0) return Error::perm;
  const LockSpan span = lock_span(addr, length);
  // The limit is looked at before the range.
  const PageCount locked = space.locked_vm() + pages_in(span.bytes) - locked_pages(space, span);
  if (locked > space.limits().memlock) return Error::no_memory;
  if (span.wraps()) return Error::invalid;
  if (span.bytes == 0) return u64{0};
  if (span.too_high()) return Error::no_memory;
  const VpnRange range = span.range();
  SPW_TRY(space.check_mapped(range));
  if (cannot_populate(space, range)) return Error::no_memory;
  // Repetition after a wait finds the areas locked already and goes on bringing pages in.
  SPW_TRY(space.set_locked(range, true, space.limits().memlock));
  return impl_.populate(*task, range, 0, true);
}

Result<u64> Kernel::munlock(Pid pid, u64 addr, u64 length) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  const LockSpan span = lock_span(addr, length);
  if (span.wraps()) return Error::invalid;
  if (span.bytes == 0) return u64{0};
  if (span.too_high()) return Error::no_memory;
  SPW_TRY(impl_.space(*task).set_locked(span.range(), false, PageCount(0)));
  return u64{0};
}

Result<u64> Kernel::mlockall(Pid pid, u32 flags) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  AddressSpace& space = impl_.space(*task);
  if (flags == 0 || (flags & ~(kMclCurrent | kMclFuture)) != 0) return Error::invalid;
  if (space.limits().memlock.v == 0) return Error::perm;
  const bool now = (flags & kMclCurrent) != 0;
  if (now && space.total_vm() > space.limits().memlock) return Error::no_memory;
  // A repetition goes on where it was: from the start, the last pages that fit would take each
  // other's frame for ever.
  PendingCall& pending = task->pending;
  if (!pending.is("mlockall", flags)) {
    space.set_lock_future((flags & kMclFuture) != 0);
    if (!now) return u64{0};
    for (Area* a = space.areas().first(); a != nullptr; a = AreaTree::next(a)) {
      const Vpn next = a->end;
      SPW_TRY(space.set_locked(a->range(), true, PageCount(~u64{0})));
      a = space.find(next - 1);  // locking may have joined it with its neighbours
    }
    pending = {"mlockall", flags, 0, 0, 0, {Vpn(0), kVpnEnd}};
  }
  for (Area* a = space.find_above(pending.range.start); a != nullptr; a = AreaTree::next(a)) {
    const VpnRange part = intersection(a->range(), pending.range);
    const Result<u64> populated = impl_.populate(*task, part, 0, false, &pending.range.start);
    if (!populated.ok()) return populated.error();
  }
  pending = PendingCall{};
  return u64{0};
}

Result<u64> Kernel::munlockall(Pid pid) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  AddressSpace& space = impl_.space(*task);
  space.set_lock_future(false);
  for (Area* a = space.areas().first(); a != nullptr; a = AreaTree::next(a)) {
    const Vpn next = a->end;
    SPW_TRY(space.set_locked(a->range(), false, PageCount(0)));
    a = space.find(next - 1);
  }
  return u64{0};
}

Result<u64> Kernel::madvise(Pid pid, u64 addr, u64 length, i32 advice) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  AddressSpace& space = impl_.space(*task);
  const WalkScope walk(impl_.sys.observer.walk, "sys_madvise", "{a:x}, {b} bytes, advice {c}", addr,
                       length, static_cast<u64>(advice));
  const bool populate = advice == kAdvicePopulateRead || advice == kAdvicePopulateWrite;
  switch (advice) {
    case static_cast<i32>(Advice::normal):
    case static_cast<i32>(Advice::random):
    case static_cast<i32>(Advice::sequential):
    case static_cast<i32>(Advice::willneed):
    case static_cast<i32>(Advice::dontneed):
    case static_cast<i32>(Advice::free):
    case static_cast<i32>(Advice::cold):
    case static_cast<i32>(Advice::pageout):
    case kAdviceDontfork:
    case kAdviceDofork:
    case kAdvicePopulateRead:
    case kAdvicePopulateWrite: break;
    default: return Error::invalid;
  }
  if (!aligned(addr)) return Error::invalid;
  const u64 bytes = (length + kPageMask) & ~kPageMask;
  if ((length != 0 && bytes == 0) || addr + bytes < addr) return Error::invalid;
  const VpnRange range{VirtAddr(addr).vpn(), VirtAddr(addr + bytes).vpn()};
  if (range.empty()) return u64{0};
  if (populate) {
    const u64 number = static_cast<u64>(advice);
    if (!task->pending.is("madvise", addr, length, number)) {
      task->pending = {"madvise", addr, length, number, 0, range};
    }
    const Result<u64> result =
        populate_advised(impl_, space, &task->pending.range,
                         advice == kAdvicePopulateWrite ? Populate::write : Populate::read);
    if (result.ok() || result.error() != Error::wait) task->pending = PendingCall{};
    return result;
  }
  for (Area* a = space.find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    if (a->foreign) return Error::not_supported;
    if (refuses(*a, advice)) return Error::invalid;
  }
  // Holes are no reason not to go on: they are reported at the end.
  Vpn at = range.start;
  bool hole = false;
  while (at < range.end) {
    const Area* area = space.find_above(at);
    hole = hole || area == nullptr || area->start > at;
    if (area == nullptr || area->start >= range.end) break;
    const VpnRange part = intersection(area->range(), {at, range.end});
    const Status followed = follow(impl_, space, part, advice);
    // No room for the areas that the advice needs: Linux calls that a shortage that may end.
    if (!followed.ok() && followed.error() == Error::no_memory) return Error::again;
    SPW_TRY(followed);
    at = part.end;
  }
  if (hole) return Error::no_memory;
  return u64{0};
}

Result<u64> Kernel::msync(Pid pid, u64 addr, u64 length, u32 flags, SyncProgress* progress) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  const WalkScope walk(impl_.sys.observer.walk, "sys_msync", "{a:x}, {b} bytes", addr, length);
  if ((flags & ~(kMsAsync | kMsInvalidate | kMsSync)) != 0) return Error::invalid;
  if (!aligned(addr)) return Error::invalid;
  if ((flags & kMsAsync) != 0 && (flags & kMsSync) != 0) return Error::invalid;
  const u64 bytes = (length + kPageMask) & ~kPageMask;
  if (addr + bytes < addr) return Error::no_memory;
  if (bytes == 0) return u64{0};
  const VpnRange range{VirtAddr(addr).vpn(), VirtAddr(addr + bytes).vpn()};
  SyncProgress anew;
  SyncProgress& used = progress != nullptr ? *progress : anew;
  const Result<u64> result = sync_areas(impl_, impl_.space(*task), range, flags, used);
  if (result.ok() || result.error() != Error::wait) used = SyncProgress{};
  return result;
}

Result<u64> Kernel::mincore(Pid pid, u64 addr, u64 length, u8* vec) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  AddressSpace& space = impl_.space(*task);
  if (!aligned(addr)) return Error::invalid;
  const u64 pages = pages_for(length).v;
  if (pages > kVpnEnd.v || VirtAddr(addr).vpn().v + pages > kVpnEnd.v) return Error::no_memory;
  const VpnRange range{VirtAddr(addr).vpn(), VirtAddr(addr).vpn() + pages};
  SPW_TRY(space.check_mapped(range));
  for (u64 i = 0; i < pages; ++i) {
    const Vpn vpn = range.start + i;
    const Area* area = space.find(vpn);
    const Pte entry = space.table().get(vpn);
    bool resident = entry.resident() || entry.is(Pte::Kind::zero);
    if (entry.is(Pte::Kind::swapped)) {
      const Pfn pfn = impl_.sys.swap.cached(entry.slot());
      resident = pfn.valid() && impl_.sys.frames[pfn].state != PageState::reading;
    }
    if (entry.none() && area->mapping != nullptr) {
      const Pfn pfn = impl_.sys.cache.find(*area->mapping, area->index_of(vpn)).pfn();
      resident = pfn.valid() && impl_.sys.frames[pfn].has(PageFlag::uptodate);
    }
    vec[i] = resident ? 1 : 0;
  }
  return u64{0};
}

}  // namespace spillway
