#include "system/system.h"

#include <new>

#include "system/system_impl.h"

namespace spillway {
namespace {

// Frames given back to the budget by one background step: bounds the time under the lock.
constexpr u64 kShrinkBatch = 64;
// An engine keeps so many frames even when others are in need: less and it could not serve a
// fault.
constexpr u64 kKeepFrames = 256;

// In the upper half of the addresses, where Linux on x86-64 has its vmalloc area too. 64 GiB.
constexpr u64 kVmallocStart = u64{1} << 46;
constexpr u64 kVmallocPages = u64{1} << 24;

// Four segments: two to fill (pages that compress and pages that do not), two on their way.
constexpr u64 kPoolMinWithDisk = 4 * kSegmentFrames;

// The number may come from a program.
bool known(Advice advice) {
  switch (advice) {
    case Advice::normal:
    case Advice::random:
    case Advice::sequential:
    case Advice::willneed:
    case Advice::dontneed:
    case Advice::free:
    case Advice::cold:
    case Advice::pageout: return true;
  }
  return false;
}

bool in_space(const AddressSpace& space, VpnRange range) {
  return range.start >= space.range().start && range.end <= space.range().end;
}

// Frames that others in the budget should get back now.
u64 give_back_wanted(const SystemImpl& impl) {
  const u64 wanted = impl.machine.frames.quota_wanted_back().v;
  const u64 online = impl.allocator.online().v;
  const u64 spare = online > kKeepFrames ? online - kKeepFrames : 0;
  return wanted < spare ? wanted : spare;
}

// The pages of [addr, addr+length). invalid: not page-aligned, or it wraps around.
Result<VpnRange> pages_of(VirtAddr addr, u64 length) {
  if (!addr.page_aligned()) return Error::invalid;
  const u64 pages = pages_for(length).v;
  if (pages > kVpnEnd.v || addr.vpn().v + pages > kVpnEnd.v) return Error::invalid;
  return VpnRange{addr.vpn(), addr.vpn() + pages};
}

}  // namespace

ReclaimPolicy& SystemImpl::policy_of(const Config& chosen) {
  switch (chosen.policy) {
    case Policy::three_queue: break;
    case Policy::two_list: return two_list;
    case Policy::linux24: return linux24;
  }
  return three_queue;
}

Status SystemImpl::boot() {
  if (config.policy == Policy::linux24 && !Linux24Policy::supported(machine.features)) {
    return Error::not_supported;
  }
  const PageCount count = machine.frames.count();
  Page* pages = static_cast<Page*>(machine.boot.alloc(count.v * sizeof(Page), 64));
  if (pages == nullptr) return Error::no_memory;
  // Boot memory is zeroed, which is what an offline page is but for its links; these are
  // written when a frame first comes online, so that descriptors of frames that never do cost
  // nothing.
  frames.init(pages, count);
  allocator.init(machine, frames, observer);
  allocator.set_reclaimer(reclaim);
  if (config.reserved_runs > Config::kReservedRunsMax) return Error::invalid;
  for (u32 i = 0; i < config.reserved_runs; ++i) {
    const ReservedRun& run = config.reserved[i];
    SPW_TRY(allocator.reserve(Pfn(run.first), PageCount(run.count)));
  }
  if (config.watermark_high.v != 0) {
    allocator.set_marks({config.watermark_min, config.watermark_low, config.watermark_high});
  }
  slabs.init(allocator, frames, machine.frames);
  SPW_TRY(areas.init(slabs, KmemCacheConfig::core("area", sizeof(Area))));
  rmap.init(slabs, frames);
  commit.set(CommitMode::heuristic, config.commit_max);
  // A disk without a pool still needs segments to collect pages in before they are written.
  if (machine.swap_device != nullptr && config.pool_max.v < kPoolMinWithDisk) {
    config.pool_max = PageCount(kPoolMinWithDisk < count.v / 4 ? kPoolMinWithDisk : count.v / 4);
  }
  SPW_TRY(swap.init(machine, allocator, frames, observer, config.pool_max, config.slots_max));
  swap.set_swap_in_sink(fault);
  swap.set_reclaimer(reclaim);
  cache.init(slabs, allocator, frames, observer, machine.clock);
  cache.set_reclaimer(reclaim);
  SPW_TRY(spaces.init(mm));
  pageout.init(mm);
  SPW_TRY(init_vmalloc());
  pageout.shrinkers().add(slabs);
  three_queue.init(pageout, config.background_reclaim);
  two_list.init(pageout, config.background_reclaim);
  if (config.policy == Policy::linux24) {
    linux24.init(pageout, config.background_reclaim, config.page_cluster);
  }
  flusher.init(machine, cache, reclaim, observer);
  fault.init(
      mm, spaces,
      {config.readahead_min, config.readahead_max, config.fresh_around_max, config.page_cluster});
  if (machine.features.shared_frames) {
    BlockDevice* disk = config.file_device < machine.block_device_count
                            ? machine.block_devices[config.file_device]
                            : nullptr;
    if (disk != nullptr) {
      const Metadata metadata =
          config.file_metadata_on_device ? Metadata::on_device : Metadata::in_memory;
      SPW_TRY(files.init(machine, cache, allocator, frames, observer, disk, metadata));
      SPW_TRY(vfs.init(machine, cache, allocator, frames, observer, {}));
      file_areas.init(vfs);
      file_maps.init(spaces);
      vfs.set_mapped_pages(file_maps);
      pageout.shrinkers().add(vfs.dentries());
      pageout.shrinkers().add(vfs.inodes());
      flusher.add(vfs.inodes());
      if (files.buffers() != nullptr) flusher.add(*files.buffers());
    }
    SPW_TRY(shmem.init(mm));
  }
  if (allocator.grow(PageAllocator::kGrowBatch) < System::minimum_frames().v) {
    return Error::no_memory;
  }
  if (config.policy == Policy::linux24) {
    // Its shortages are those of a machine whose memory is all there.
    while (allocator.grow(PageAllocator::kGrowBatch) > 0) {
    }
    if (config.watermark_high.v == 0) {
      allocator.set_marks(Linux24Policy::marks_for(allocator.managed()));
    }
  }
  // A fresh file store has nothing to read, so this does not wait.
  if (files.present()) SPW_TRY(vfs.mount(files));
  return kOk;
}

Status SystemImpl::init_vmalloc() {
  VpnRange range = config.vmalloc_range;
  if (range.empty() && machine.features.shared_frames) {
    range = {VirtAddr(kVmallocStart).vpn(), VirtAddr(kVmallocStart).vpn() + kVmallocPages};
  }
  if (range.empty()) return kOk;
  SPW_TRY(vmalloc.init(machine, allocator, frames, slabs, observer, System::kernel_space(), range));
  pageout.shrinkers().add(vmalloc);
  return kOk;
}

Result<VirtAddr> System::vmalloc(u64 bytes) { return impl_.vmalloc.alloc(bytes); }
Status System::vfree(VirtAddr addr) { return impl_.vmalloc.free(addr); }

u64 SystemImpl::reserved_now(ReservedKind kind) const {
  if (booted && kind == ReservedKind::init) return 0;
  u64 sum = 0;
  for (u32 i = 0; i < config.reserved_runs; ++i) {
    if (config.reserved[i].kind == kind) sum += config.reserved[i].count;
  }
  return sum;
}

void SystemImpl::finish_boot() {
  if (booted) return;
  boot_line.total = allocator.online().v;
  boot_line.reserved = allocator.reserved().v;
  boot_line.available = allocator.managed().v;
  boot_line.code = reserved_now(ReservedKind::code);
  boot_line.data = reserved_now(ReservedKind::data);
  boot_line.init = reserved_now(ReservedKind::init);
  boot_line.bootmem = reserved_now(ReservedKind::bootmem);
  for (u32 i = 0; i < config.reserved_runs; ++i) {
    const ReservedRun& run = config.reserved[i];
    if (run.kind != ReservedKind::init) continue;
    allocator.release_reserved(Pfn(run.first), PageCount(run.count));
    boot_line.init_freed += run.count;
  }
  booted = true;
}

PageCount System::minimum_frames() {
  // Tables (4 levels), an area slab, slot records, an open segment, one page and the reserve.
  return PageCount(48);
}

Result<System*> System::boot(Machine& machine, const Config& config, Counters& counters,
                             TraceSink& trace) {
  void* memory = machine.boot.alloc(sizeof(SystemImpl), alignof(SystemImpl));
  if (memory == nullptr) return Error::no_memory;
  SystemImpl* impl = ::new (memory) SystemImpl(machine, config, counters, trace);
  SPW_TRY(impl->boot());
  impl->finish_boot();
  return &impl->system;
}

void System::set_counters(Counters& counters) { impl_.observer.counters = &counters; }

Result<SpaceId> System::create_space(VpnRange range, PageCount brk_pages) {
  SPW_TRY_ASSIGN(id, impl_.spaces.create(range, brk_pages));
  impl_.spaces.at(id).limits().memlock = impl_.config.mlock_max;
  return id;
}

void System::destroy_space(SpaceId space) { impl_.spaces.destroy(space); }

Result<u64> System::mmap(SpaceId id, const MmapRequest& request) {
  AddressSpace& space = impl_.spaces.at(id);
  if (request.length == 0) return Error::invalid;
  const bool fixed = request.fixed || request.noreplace;
  VirtAddr addr = request.addr;
  if (!fixed) addr = VirtAddr(addr.v & ~kPageMask);
  if (request.length > kVpnEnd.v << kPageShift) return Error::no_memory;
  if (!fixed && addr.vpn() + pages_for(request.length).v > kVpnEnd) addr = VirtAddr(0);
  SPW_TRY_ASSIGN(range, pages_of(addr, request.length));
  MapParams params;
  params.range = range;
  params.prot = request.prot;
  params.fixed = fixed;
  params.noreplace = request.noreplace;
  params.noreserve = request.noreserve;
  params.locked = request.locked;
  params.foreign = request.foreign;
  if (request.locked && space.locked_vm() + range.pages() > impl_.config.mlock_max) {
    return Error::again;
  }
  SPW_TRY_ASSIGN(start, space.map(params));
  if ((request.locked || request.populate) && !request.foreign) {
    // Best effort, as MAP_POPULATE is: what cannot come in now comes in when it is touched.
    (void)impl_.fault.populate(space, {start, start + range.pages().v});
  }
  return addr_of(start).v;
}

Result<u64> System::munmap(SpaceId id, VirtAddr addr, u64 length) {
  AddressSpace& space = impl_.spaces.at(id);
  if (length == 0) return Error::invalid;
  SPW_TRY_ASSIGN(range, pages_of(addr, length));
  if (!in_space(space, range)) return Error::invalid;
  SPW_TRY(space.unmap(range));
  return u64{0};
}

Result<u64> System::mprotect(SpaceId id, VirtAddr addr, u64 length, Prot prot) {
  AddressSpace& space = impl_.spaces.at(id);
  SPW_TRY_ASSIGN(range, pages_of(addr, length));
  if (!in_space(space, range)) return Error::no_memory;
  SPW_TRY(space.protect(range, prot));
  return u64{0};
}

Result<u64> System::mremap(SpaceId id, const MremapRequest& request) {
  AddressSpace& space = impl_.spaces.at(id);
  if (request.new_length == 0 || request.old_length == 0) return Error::invalid;
  if (request.fixed && !request.may_move) return Error::invalid;
  SPW_TRY_ASSIGN(old_range, pages_of(request.old_addr, request.old_length));
  SPW_TRY_ASSIGN(sized, pages_of(VirtAddr(0), request.new_length));
  if (!in_space(space, old_range)) return Error::fault;
  Vpn to{0};
  if (request.fixed) {
    SPW_TRY_ASSIGN(target, pages_of(request.new_addr, request.new_length));
    if (target.overlaps(old_range)) return Error::invalid;
    to = target.start;
  }
  const Area* area = space.find(old_range.start);
  const bool grows_locked = area != nullptr && area->locked && sized.pages() > old_range.pages();
  SPW_TRY_ASSIGN(start, space.remap(old_range, sized.pages(), request.may_move, request.fixed, to));
  if (grows_locked) {
    // Best effort, as mmap with MAP_LOCKED.
    (void)impl_.fault.populate(space, {start + old_range.pages().v, start + sized.pages().v});
  }
  return addr_of(start).v;
}

Result<u64> System::madvise(SpaceId id, VirtAddr addr, u64 length, Advice advice) {
  AddressSpace& space = impl_.spaces.at(id);
  if (!known(advice)) return Error::invalid;
  SPW_TRY_ASSIGN(range, pages_of(addr, length));
  if (range.empty()) return u64{0};
  if (!in_space(space, range)) return Error::no_memory;
  switch (advice) {
    case Advice::normal:
    case Advice::random:
    case Advice::sequential: SPW_TRY(space.check_mapped(range)); return u64{0};
    case Advice::willneed:
      SPW_TRY(space.check_mapped(range));
      impl_.fault.will_need(space, range);
      return u64{0};
    case Advice::dontneed:
    case Advice::free: SPW_TRY(space.discard(range)); return u64{0};
    case Advice::cold: SPW_TRY(space.cold(range)); return u64{0};
    case Advice::pageout: SPW_TRY(space.page_out(range)); return u64{0};
  }
  return Error::invalid;
}

Result<u64> System::brk(SpaceId id, VirtAddr addr) {
  SPW_TRY_ASSIGN(now, impl_.spaces.at(id).brk(addr));
  return now.v;
}

Result<u64> System::mlock(SpaceId id, VirtAddr addr, u64 length) {
  AddressSpace& space = impl_.spaces.at(id);
  const VirtAddr start{addr.v & ~kPageMask};
  SPW_TRY_ASSIGN(range, pages_of(start, length + (addr.v & kPageMask)));
  if (range.empty()) return u64{0};
  if (!in_space(space, range)) return Error::no_memory;
  SPW_TRY(space.set_locked(range, true, impl_.config.mlock_max));
  switch (impl_.fault.populate(space, range)) {
    case FaultOutcome::done: return u64{0};
    case FaultOutcome::wait: return Error::wait;
    case FaultOutcome::maperr:
    case FaultOutcome::accerr:
    case FaultOutcome::oom: return Error::no_memory;
    case FaultOutcome::bus: return Error::io;
    case FaultOutcome::corrupt: return Error::corrupt;
  }
  return Error::invalid;
}

Result<u64> System::munlock(SpaceId id, VirtAddr addr, u64 length) {
  AddressSpace& space = impl_.spaces.at(id);
  const VirtAddr start{addr.v & ~kPageMask};
  SPW_TRY_ASSIGN(range, pages_of(start, length + (addr.v & kPageMask)));
  if (range.empty()) return u64{0};
  if (!in_space(space, range)) return Error::no_memory;
  SPW_TRY(space.set_locked(range, false, PageCount(0)));
  return u64{0};
}

Result<u64> System::mincore(SpaceId id, VirtAddr addr, PageCount pages, u8* vec) {
  AddressSpace& space = impl_.spaces.at(id);
  SPW_TRY_ASSIGN(range, pages_of(addr, pages.bytes()));
  if (!in_space(space, range)) return Error::no_memory;
  SPW_TRY(space.resident(range, vec));
  return u64{0};
}

bool System::touches_foreign(SpaceId id, VirtAddr addr, u64 length) const {
  const VpnRange range{addr.vpn(), addr.vpn() + pages_for(length + (addr.v & kPageMask)).v};
  return impl_.spaces.at(id).touches_foreign(range);
}

FaultOutcome System::on_fault(SpaceId id, VirtAddr va, Access access, u32 attempt) {
  impl_.observer.event(EventKind::fault_begin, va.v, static_cast<u64>(access));
  AddressSpace* space = impl_.spaces.find(id);
  const FaultOutcome outcome =
      space == nullptr ? FaultOutcome::maperr : impl_.fault.handle(*space, va, access, attempt);
  impl_.observer.event(EventKind::fault_end, va.v, static_cast<u64>(outcome));
  return outcome;
}

BackgroundResult System::background_step() {
  PageAllocator& allocator = impl_.allocator;
  const u64 wanted = give_back_wanted(impl_);
  if (wanted > 0) {
    const u64 batch = wanted < kShrinkBatch ? wanted : kShrinkBatch;
    const u64 keep = allocator.marks().min.v;
    if (allocator.free_pages().v < keep + batch) {
      (void)impl_.reclaim.reclaim(PageCount(keep + batch - allocator.free_pages().v));
    }
    const u64 spare = allocator.free_pages().v > keep ? allocator.free_pages().v - keep : 0;
    const u32 done = allocator.shrink(static_cast<u32>(spare < batch ? spare : batch));
    return {.more = done > 0};
  }
  if (impl_.reclaim.background_wanted()) return {.more = impl_.reclaim.background_step()};
  return {.more = impl_.swap.background_step()};
}

bool System::background_wanted() const {
  if (impl_.reclaim.background_wanted()) return true;
  return impl_.swap.background_wanted() || give_back_wanted(impl_) > 0;
}

Status System::prepare_fork() {
  impl_.swap.set_quiesced(true);
  if (impl_.swap.io_in_flight()) return Error::wait;
  impl_.allocator.fold_counts();  // else parent and child would both count them
  return kOk;
}

void System::finish_fork() { impl_.swap.set_quiesced(false); }

Snapshot System::snapshot() const {
  impl_.allocator.fold_counts();
  const SystemImpl& s = impl_;
  const auto queue = [&](PageQueue q) { return s.reclaim.queue_size(q); };
  Snapshot out{};
  out.frames_total = s.frames.count().v;
  out.frames_online = s.allocator.online().v;
  out.frames_free = s.allocator.free_pages().v;
  out.frames_reserved = s.allocator.reserved().v;
  const VmallocUsage& vmalloc = s.vmalloc.usage();
  out.frames_kernel = s.slabs.frames() + s.stack_frames + vmalloc.pages + vmalloc.lazy_pages;
  out.frames_tables = vmalloc.tables;
  out.frames_pool = s.swap.pool().frames_used().v;
  out.frames_swap_meta = s.swap.meta_frames();
  out.probation = queue(PageQueue::probation);
  out.main = queue(PageQueue::main);
  out.unmapped = queue(PageQueue::unmapped);
  out.locked = queue(PageQueue::locked);
  out.frames_user = s.reclaim.evictable() + out.locked;
  out.mapped = out.frames_user - out.unmapped;
  out.watermark_min = s.allocator.marks().min.v;
  out.watermark_low = s.allocator.marks().low.v;
  out.watermark_high = s.allocator.marks().high.v;
  out.slots_used = s.swap.slots_used();
  out.pool_bytes_live = s.swap.pool().live_bytes();
  out.disk_segments_used = s.swap.disk().segments_used();
  out.disk_segments_total = s.swap.disk().segments_total();
  impl_.spaces.for_each([&](AddressSpace& space) {
    out.frames_tables += space.table().tables();
    out.areas += space.area_count();
    out.total_vm += space.total_vm().v;
  });
  return out;
}

BootLine System::boot_line() const { return impl_.boot_line; }

AuditReport System::audit() { return impl_.audit(); }

}  // namespace spillway
