// mmap, munmap, mprotect, mremap, brk by process: Linux's checks in Linux's order. MECHANISMS 8.2
// and 10; where 2.4 and later kernels differ, the later ones.
#include "system/kernel_impl.h"

namespace spillway {
namespace {

constexpr u32 kProtBits = 7;
constexpr u32 kMapType = 0x0f;
constexpr u32 kMapSharedValidate = 0x03;

constexpr bool aligned(u64 addr) { return (addr & kPageMask) == 0; }
constexpr Prot prot_of(u32 bits) { return static_cast<Prot>(bits & kProtBits); }
constexpr Prot without_write(Prot p) {
  return static_cast<Prot>(static_cast<u8>(p) & ~static_cast<u8>(Prot::write));
}

// Whether the range has locked private areas that may not be written.
bool has_locked_readonly(AddressSpace& space, VpnRange range) {
  for (Area* a = space.find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    if (a->locked && !a->shared && !allows(a->prot, Prot::write)) return true;
  }
  return false;
}

}  // namespace

// Brings the pages of a call that has done the rest of its work. With `must`, a page that cannot
// come makes the call fail; otherwise it comes, or fails, when it is touched.
Result<u64> KernelImpl::populate(Task& task, VpnRange range, u64 result, bool must, Vpn* reached) {
  switch (sys.fault.populate(space(task), range, reached)) {
    case FaultOutcome::done: return result;
    case FaultOutcome::wait: return Error::wait;
    case FaultOutcome::oom: return must ? Result<u64>(Error::again) : Result<u64>(result);
    case FaultOutcome::maperr:
    case FaultOutcome::accerr:
    case FaultOutcome::bus:
    case FaultOutcome::corrupt: break;
  }
  return must ? Result<u64>(Error::no_memory) : Result<u64>(result);
}

Result<u64> KernelImpl::populate_locked(Task& task, VpnRange range) {
  AddressSpace& mm = space(task);
  for (Area* a = mm.find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    if (!a->locked || a->shared || !allows(a->prot, Prot::write)) continue;
    SPW_TRY_ASSIGN(done, populate(task, intersection(a->range(), range), 0, false));
    (void)done;
  }
  return u64{0};
}

Result<u64> KernelImpl::finish_pending(Task& task, bool must) {
  VpnRange& range = task.pending.range;
  const Result<u64> result = populate(task, range, task.pending.result, must, &range.start);
  if (result.ok() || result.error() != Error::wait) task.pending = PendingCall{};
  return result;
}

Result<u64> Kernel::mmap(Pid pid, u64 addr, u64 length, u32 prot, u32 flags, i32 fd, u64 offset) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  if (task->pending.is("mmap", addr, length, flags)) return impl_.finish_pending(*task, false);
  AddressSpace& space = impl_.space(*task);
  const u64 asked = addr;
  const WalkScope walk(impl_.sys.observer.walk, "do_mmap", "{a:x}, {b} bytes", addr, length);
  const bool anonymous = (flags & kMapAnonymous) != 0;
  const u32 type = flags & kMapType;
  if (!aligned(offset)) return Error::invalid;
  OpenFile* file = nullptr;
  if (!anonymous) {
    SPW_TRY_ASSIGN(opened, impl_.open_file(*task, fd));
    file = opened;
  }
  if (length == 0) return Error::invalid;
  const u64 top = impl_.task_top();
  if (length > top) return Error::no_memory;
  const u64 pages = pages_for(length).v;
  if (!anonymous && (offset >> kPageShift) + pages > ~u32{0}) return Error::overflow;
  MapParams params;
  params.prot = prot_of(prot);
  params.noreplace = (flags & kMapFixedNoreplace) != 0;
  params.fixed = (flags & kMapFixed) != 0 || params.noreplace;
  if (params.fixed) {
    if (addr > top - length) return Error::no_memory;
    if (!aligned(addr)) return Error::invalid;
    if (addr_of(space.range().start).v > addr) return Error::perm;  // vm.mmap_min_addr
    const VpnRange place{VirtAddr(addr).vpn(), VirtAddr(addr).vpn() + pages};
    const Area* taken = space.find_above(place.start);
    if (params.noreplace && taken != nullptr && taken->start < place.end) return Error::exists;
  } else {
    addr &= ~kPageMask;
    if (addr != 0) {
      if (addr > top - length) addr = 0;
    }
  }
  params.range = {VirtAddr(addr).vpn(), VirtAddr(addr).vpn() + pages};
  params.noreserve = (flags & kMapNoreserve) != 0 && impl_.config.overcommit != Overcommit::never;
  params.locked = (flags & kMapLocked) != 0 || space.lock_future();
  if ((flags & kMapLocked) != 0 && space.limits().memlock.v == 0) return Error::perm;
  if (params.locked && space.locked_vm() + PageCount(pages) > space.limits().memlock) {
    return Error::again;
  }
  params.growsdown = (flags & kMapGrowsdown) != 0;
  ShmObject* object = nullptr;
  if (file != nullptr) {
    switch (type) {
      case kMapSharedValidate:
      case kMapShared:
        if (allows(params.prot, Prot::write)) {
          if (!file->can_write()) return Error::access;
          if (file->inode->append_only) return Error::access;
        }
        params.may_share = true;
        params.shared = file->can_write();
        if (!file->can_write()) params.may = without_write(params.may);
        [[fallthrough]];
      case kMapPrivate: break;
      default: return Error::invalid;
    }
    if (!file->can_read()) return Error::access;
    if (params.growsdown) return Error::invalid;
    params.mapping = &file->inode->mapping;
    params.ops = &impl_.sys.file_areas;
    params.file = file->dentry;
    params.pgoff = offset >> kPageShift;
  } else {
    switch (type) {
      case kMapShared:
        if (params.growsdown) return Error::invalid;
        params.shared = params.may_share = true;
        break;
      case kMapPrivate: break;
      default: return Error::invalid;
    }
    if (params.shared) {
      SPW_TRY_ASSIGN(made, impl_.sys.shmem.create(pages * kPageSize, false, 0, params.noreserve));
      object = made;
      params.mapping = &object->mapping;
      params.ops = &impl_.sys.shmem;
    }
  }
  const Result<Vpn> start = space.map(params);
  if (object != nullptr) impl_.sys.shmem.drop_unused(*object);  // only if nobody maps it
  if (!start.ok()) return start.error();
  const u64 result = addr_of(start.value()).v;
  impl_.sys.observer.step("area {a:x}-{b:x}", result, result + pages * kPageSize);
  if (!params.locked && (flags & kMapPopulate) == 0) return result;
  task->pending = {"mmap", asked, length, flags, result, {start.value(), start.value() + pages}};
  return impl_.finish_pending(*task, false);
}

Result<u64> Kernel::munmap(Pid pid, u64 addr, u64 length) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  const WalkScope walk(impl_.sys.observer.walk, "do_munmap", "{a:x}, {b} bytes", addr, length);
  const u64 top = impl_.task_top();
  if (!aligned(addr) || addr > top || length > top - addr || length == 0) return Error::invalid;
  const VpnRange range{VirtAddr(addr).vpn(), VirtAddr(addr).vpn() + pages_for(length).v};
  SPW_TRY(impl_.space(*task).unmap(range));
  return u64{0};
}

Result<u64> Kernel::mprotect(Pid pid, u64 addr, u64 length, u32 prot) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  const WalkScope walk(impl_.sys.observer.walk, "sys_mprotect", "{a:x}, {b} bytes, prot {c}", addr,
                       length, prot);
  if (!aligned(addr)) return Error::invalid;
  if (length == 0) return u64{0};
  const u64 pages = pages_for(length).v;
  if (addr + pages * kPageSize <= addr) return Error::no_memory;
  if ((prot & ~kProtBits) != 0) return Error::invalid;
  if (pages > kVpnEnd.v || VirtAddr(addr).vpn().v + pages > kVpnEnd.v) return Error::no_memory;
  const VpnRange range{VirtAddr(addr).vpn(), VirtAddr(addr).vpn() + pages};
  AddressSpace& space = impl_.space(*task);
  if (!task->pending.is("mprotect", addr, length, prot)) {
    const bool breaks_cow = allows(prot_of(prot), Prot::write) && has_locked_readonly(space, range);
    SPW_TRY(space.protect(range, prot_of(prot)));
    if (!breaks_cow) return u64{0};
    task->pending = {"mprotect", addr, length, prot, 0, range};
  }
  // Private pages that stay for good are copied now, not at the first write.
  const Result<u64> populated = impl_.populate_locked(*task, range);
  if (populated.ok() || populated.error() != Error::wait) task->pending = PendingCall{};
  return populated;
}

Result<u64> Kernel::mremap(Pid pid, u64 old_addr, u64 old_length, u64 new_length, u32 flags,
                           u64 new_addr) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  if (task->pending.is("mremap", old_addr, old_length, new_length)) {
    return impl_.finish_pending(*task, false);
  }
  AddressSpace& space = impl_.space(*task);
  const WalkScope walk(impl_.sys.observer.walk, "do_mremap", "{a:x}, {b} -> {c} bytes", old_addr,
                       old_length, new_length);
  const bool may_move = (flags & kMremapMaymove) != 0;
  const bool fixed = (flags & kMremapFixed) != 0;
  if ((flags & ~(kMremapMaymove | kMremapFixed)) != 0) return Error::invalid;
  if (fixed && !may_move) return Error::invalid;
  if (!aligned(old_addr)) return Error::invalid;
  const u64 top = impl_.task_top();
  const u64 old_pages = pages_for(old_length).v;
  const u64 new_pages = pages_for(new_length).v;
  if (new_pages == 0 || old_pages == 0) return Error::invalid;
  if (new_pages > pages_in(top).v) return Error::invalid;
  const VpnRange old_range{VirtAddr(old_addr).vpn(), VirtAddr(old_addr).vpn() + old_pages};
  if (fixed) {
    if (!aligned(new_addr) || new_addr > top - new_pages * kPageSize) return Error::invalid;
    // In bytes and wrapping around, as Linux does it: an end past all addresses overlaps nothing.
    const u64 old_end = old_addr + old_pages * kPageSize;
    if (old_end > new_addr && new_addr + new_pages * kPageSize > old_addr) return Error::invalid;
    if (addr_of(space.range().start).v > new_addr) return Error::perm;
  }
  const Area* area = space.find(old_range.start);
  if (old_pages > pages_in(top).v || old_addr > top - old_pages * kPageSize) {
    // The start decides first; then shrinking begins with munmap of the tail, and its check.
    if (area == nullptr || new_pages >= old_pages) return Error::fault;
    const bool gone = fixed && old_addr - new_addr < new_pages * kPageSize;  // with the target
    const bool outside = fixed && area->end < old_range.start + new_pages;
    return gone || outside ? Error::fault : Error::invalid;
  }
  const bool grows_locked = area != nullptr && area->locked && new_pages > old_pages;
  SPW_TRY_ASSIGN(start, space.remap(old_range, PageCount(new_pages), may_move, fixed,
                                    VirtAddr(new_addr).vpn()));
  const u64 result = addr_of(start).v;
  if (!grows_locked) return result;
  task->pending = {"mremap",   old_addr, old_length,
                   new_length, result,   {start + old_pages, start + new_pages}};
  return impl_.finish_pending(*task, false);
}

Result<u64> Kernel::brk(Pid pid, u64 addr) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  if (task->pending.is("brk", addr)) return impl_.finish_pending(*task, false);
  AddressSpace& space = impl_.space(*task);
  const WalkScope walk(impl_.sys.observer.walk, "sys_brk", "{a:x}", addr);
  const VirtAddr before = space.brk_now();
  SPW_TRY_ASSIGN(now, space.brk(VirtAddr(addr)));
  impl_.sys.observer.step("the break is {a:x}", now.v);
  if (now <= before || !space.lock_future()) return now.v;
  const VpnRange growth{Vpn(pages_for(before.v).v), Vpn(pages_for(now.v).v)};
  task->pending = {"brk", addr, 0, 0, now.v, growth};
  return impl_.finish_pending(*task, false);
}

}  // namespace spillway
