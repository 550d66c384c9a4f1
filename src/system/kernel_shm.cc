// System V shared memory by process (MECHANISMS 9; errors of later kernels).
#include "system/kernel_impl.h"

namespace spillway {
Result<u64> Kernel::shmget(Pid pid, u32 key, u64 size, u32 flags) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  const WalkScope walk(impl_.sys.observer.walk, "sys_shmget", "key {a}, {b} bytes", key, size);
  Shmem& shmem = impl_.sys.shmem;
  if (key != kIpcPrivate) {
    if (ShmObject* found = shmem.find_key(key)) {
      if ((flags & kIpcCreate) != 0 && (flags & kIpcExclusive) != 0) return Error::exists;
      if (size > found->mapping.size_bytes) return Error::invalid;
      return u64{found->id};
    }
    if ((flags & kIpcCreate) == 0) return Error::no_entry;
  }
  if (size < 1 || size > impl_.config.shm_max_bytes) return Error::invalid;
  if (shmem.segment_pages() + pages_for(size).v > impl_.config.shm_all_pages) {
    return Error::no_space;
  }
  if (shmem.segments() >= impl_.config.shm_segments_max) return Error::no_space;
  SPW_TRY_ASSIGN(object, shmem.create(size, true, key, false));
  object->creator = task->pid;
  return u64{object->id};
}

Result<u64> Kernel::shmat(Pid pid, u32 id, u64 addr, u32 flags) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  AddressSpace& space = impl_.space(*task);
  if (task->pending.is("shmat", addr, id, flags)) return impl_.finish_pending(*task, false);
  const u64 asked = addr;
  const WalkScope walk(impl_.sys.observer.walk, "sys_shmat", "segment {a}", id);
  if ((addr & kPageMask) != 0) {
    if ((flags & kShmRnd) == 0) return Error::invalid;
    addr &= ~kPageMask;
  }
  ShmObject* object = impl_.sys.shmem.find_segment(id);
  if (object == nullptr) return Error::invalid;
  if (object->dest && object->areas == 0) return Error::removed;
  MapParams params;
  const u64 pages = object->mapping.size_pages();
  params.range = {VirtAddr(addr).vpn(), VirtAddr(addr).vpn() + pages};
  if ((flags & kShmRdonly) != 0) {
    params.prot = Prot::read;
    params.may = Prot::read_exec;
  } else {
    params.prot = Prot::read_write;
  }
  params.locked = space.lock_future();
  params.shared = params.may_share = true;
  params.fixed = params.noreplace = addr != 0;
  params.mapping = &object->mapping;
  params.ops = &impl_.sys.shmem;
  if (addr != 0 && addr > impl_.task_top() - pages * kPageSize) return Error::invalid;
  if (addr != 0 && addr_of(space.range().start).v > addr) return Error::perm;  // mmap_min_addr
  if (params.locked && space.locked_vm() + PageCount(pages) > space.limits().memlock) {
    return Error::again;
  }
  const Result<Vpn> start = space.map(params);
  if (!start.ok()) return start.error() == Error::exists ? Error::invalid : start.error();
  const u64 result = addr_of(start.value()).v;
  if (!params.locked) return result;
  task->pending = {"shmat", asked, id, flags, result, {start.value(), start.value() + pages}};
  return impl_.finish_pending(*task, false);
}

Result<u64> Kernel::shmdt(Pid pid, u64 addr) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  AddressSpace& space = impl_.space(*task);
  if ((addr & kPageMask) != 0) return Error::invalid;
  const Vpn base = VirtAddr(addr).vpn();
  // The segment attached there, perhaps in pieces by now: each area that shows its page at the
  // distance from `addr` at which shmat put it.
  const Mapping* segment = nullptr;
  bool found = false;
  for (Area* a = space.find_above(base); a != nullptr;) {
    Area* next = AreaTree::next(a);
    const bool ours = a->mapping != nullptr && a->mapping->owner == PageOwner::shmem &&
                      Shmem::object_of(*a->mapping).segment && a->start >= base &&
                      a->pgoff == a->start.v - base.v &&
                      (segment == nullptr || segment == a->mapping);
    if (ours) {
      segment = a->mapping;
      const Vpn end = a->end;
      SPW_TRY(space.unmap(a->range()));
      found = true;
      next = space.find_above(end);
    }
    a = next;
  }
  return found ? Result<u64>(u64{0}) : Result<u64>(Error::invalid);
}

Result<u64> Kernel::shmctl(Pid pid, u32 id, u32 command) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  (void)task;
  ShmObject* object = impl_.sys.shmem.find_segment(id);
  if (object == nullptr) return Error::invalid;
  switch (command) {
    case kIpcRmid: impl_.sys.shmem.remove_segment(*object); return u64{0};
    case kShmLock: object->mapping.no_writeback = true; return u64{0};
    case kShmUnlock: object->mapping.no_writeback = false; return u64{0};
    default: return Error::invalid;
  }
}

}  // namespace spillway
