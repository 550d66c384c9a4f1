#include "fault/fault_handler.h"

namespace spillway {

void FaultHandler::init(MmContext& mm, SpaceTable& spaces, const FaultConfig& config) {
  mm_ = &mm;
  spaces_ = &spaces;
  config_ = config;
  SPW_ASSERT_LE(config.readahead_max, kWindowMax);
  SPW_ASSERT_LE(config.readahead_max, kReadTargetsMax);
  streams_.init(config.readahead_min, config.readahead_max);
}

FaultOutcome FaultHandler::handle(AddressSpace& space, VirtAddr va, Access access, u32 attempt,
                                  const FaultTask& task) {
  const WalkScope walk(mm_->observer.walk, "do_page_fault",
                       access == Access::write  ? "write at {a:x}"
                       : access == Access::read ? "read at {a:x}"
                                                : "instruction fetch at {a:x}",
                       va.v);
  const Vpn vpn = va.vpn();
  Area* area = space.find_above(vpn);
  if (area == nullptr) {
    mm_->observer.step("find_vma: no area ends above it: SIGSEGV, SEGV_MAPERR");
    return FaultOutcome::maperr;
  }
  if (area->start > vpn) {
    const FaultOutcome grown = grow_stack(space, *area, va, task);
    if (grown != FaultOutcome::done) return grown;
  } else {
    mm_->observer.step("find_vma: {a:x}-{b:x}", addr_of(area->start).v, addr_of(area->end).v);
  }
  if (area->foreign) return FaultOutcome::done;  // the kernel's business, by now
  if (!permits(area->prot, access)) {
    mm_->observer.step("the area forbids it: SIGSEGV, SEGV_ACCERR");
    return FaultOutcome::accerr;
  }
  const Pte entry = space.table().get(vpn);
  if (entry.is(Pte::Kind::present) && (access != Access::write || entry.writable())) {
    return FaultOutcome::done;  // somebody else was faster, or it was served as part of a window
  }
  if (attempt == 0) {
    mm_->observer.count(Counter::pgfault);
    if (entry.is(Pte::Kind::swapped) && !mm_->machine.features.shared_frames) {
      mm_->observer.count(Counter::pgmajfault);
    }
    if (entry.is(Pte::Kind::unmapped) && !entry.readahead()) {
      mm_->observer.count(Counter::pgsoftfault);
    }
  } else {
    mm_->observer.count(Counter::pgfault_retry);
  }
  return resolve(space, *area, vpn, access, attempt);
}

// The hole below an area: a stack that may grow, or nothing.
FaultOutcome FaultHandler::grow_stack(AddressSpace& space, Area& area, VirtAddr va,
                                      const FaultTask& task) {
  if (!area.growsdown) {
    mm_->observer.step("find_vma: {a:x}-{b:x} starts above it: SIGSEGV, SEGV_MAPERR",
                       addr_of(area.start).v, addr_of(area.end).v);
    return FaultOutcome::maperr;
  }
  mm_->observer.step("find_vma: the stack {a:x}-{b:x} starts above it", addr_of(area.start).v,
                     addr_of(area.end).v);
  // pusha stores 32 bytes before it moves the stack pointer: nothing legal touches lower.
  if (task.strict_stack && va.v + 32 < task.sp.v) {
    mm_->observer.step("{a} bytes below the stack pointer, 32 are allowed: SIGSEGV, SEGV_MAPERR",
                       task.sp.v - va.v);
    return FaultOutcome::maperr;
  }
  return space.expand_stack(&area, va.vpn()).ok() ? FaultOutcome::done : FaultOutcome::maperr;
}

// handle_pte_fault: what the entry is decides. The area permits the access.
FaultOutcome FaultHandler::resolve(AddressSpace& space, Area& area, Vpn vpn, Access access,
                                   u32 attempt) {
  const WalkScope walk(mm_->observer.walk, "handle_mm_fault", "{a:x}", addr_of(vpn).v);
  const Pte entry = space.table().get(vpn);
  if (mm_->machine.features.shared_frames) {
    switch (entry.kind()) {
      case Pte::Kind::present: return wp_fault(space, area, vpn);
      case Pte::Kind::swapped:
        if (!swapped_alone(entry.slot())) {
          return swap_fault(space, area, vpn, entry.slot(), access, attempt);
        }
        if (attempt == 0) mm_->observer.count(Counter::pgmajfault);
        break;
      case Pte::Kind::none:
        if (area.mapping != nullptr) return file_fault(space, area, vpn, access, attempt);
        break;
      case Pte::Kind::table:
      case Pte::Kind::zero:
      case Pte::Kind::unmapped: break;
    }
  }
  const WalkScope anonymous(mm_->observer.walk,
                            entry.is(Pte::Kind::zero) ? "do_wp_page" : "do_anonymous_page");
  job_.begin(space, area, vpn, access, streams_.on_fault(space.id(), vpn));
  job_.urgent = attempt >= kUrgentAttempt;
  const FaultOutcome outcome = serve(job_);
  if (mm_->observer.walk != nullptr && outcome == FaultOutcome::done) {
    const Pte now = space.table().get(vpn);
    if (now.is(Pte::Kind::zero)) mm_->observer.step("nothing written yet: the shared zero page");
    if (now.is(Pte::Kind::present)) {
      mm_->observer.step("frame {a}, cleared, mapped writable", now.pfn().v);
    }
  }
  if (outcome != FaultOutcome::done || access != Access::write) return outcome;
  const Pte now = space.table().get(vpn);
  if (now.is(Pte::Kind::present) && !now.writable()) return wp_fault(space, area, vpn);
  return outcome;
}

// Brings one page in as a program's access would.
FaultOutcome FaultHandler::populate_one(AddressSpace& space, Area& area, Vpn vpn, Populate how) {
  const bool write = how == Populate::as_area ? allows(area.prot, Prot::write) && !area.shared
                                              : how == Populate::write;
  const Access access = write ? Access::write : Access::read;
  for (u32 attempt = 0; attempt < kPopulateAttempts; ++attempt) {
    const Pte entry = space.table().get(vpn);
    if (entry.is(Pte::Kind::present) && (!write || entry.writable())) return FaultOutcome::done;
    if (entry.is(Pte::Kind::zero) && !write) return FaultOutcome::done;
    const FaultOutcome outcome = resolve(space, area, vpn, access, attempt);
    if (outcome != FaultOutcome::done) return outcome;
  }
  return FaultOutcome::wait;  // others take it away as fast as it comes
}

FaultOutcome FaultHandler::populate(AddressSpace& space, VpnRange range, Vpn* reached,
                                    Populate how) {
  for (Vpn vpn = range.start; vpn < range.end; vpn = vpn + 1) {
    if (reached != nullptr) *reached = vpn;
    Area* area = space.find(vpn);
    if (area == nullptr || area->foreign || area->prot == Prot::none) continue;
    if (mm_->machine.features.shared_frames) {
      const FaultOutcome outcome = populate_one(space, *area, vpn, how);
      if (outcome != FaultOutcome::done) return outcome;
      continue;
    }
    if (space.table().get(vpn).is(Pte::Kind::present)) continue;
    const Access access = allows(area->prot, Prot::write) ? Access::write : Access::read;
    const u64 left = (area->end < range.end ? area->end : range.end).v - vpn.v;
    const u32 pages = left < config_.readahead_max ? static_cast<u32>(left) : config_.readahead_max;
    job_.begin(space, *area, vpn, access, {pages, 1});
    const FaultOutcome outcome = serve(job_);
    if (outcome != FaultOutcome::done) return outcome;
  }
  return FaultOutcome::done;
}

void FaultHandler::will_need(AddressSpace& space, VpnRange range) {
  Area* area = space.find_above(range.start);
  for (; area != nullptr && area->start < range.end; area = AreaTree::next(area)) {
    if (area->foreign) continue;
    if (area->mapping != nullptr) {
      file_will_need(*area, intersection(area->range(), range));
      continue;
    }
    Vpn at = area->start > range.start ? area->start : range.start;
    const Vpn end = area->end < range.end ? area->end : range.end;
    PageTable::Span span;
    for (; space.table().next_span(at, end, &span); at = span.start + span.count) {
      Job& job = ahead_;
      job.begin(space, *area, span.start, Access::read, {});
      for (u32 i = 0; i < span.count; ++i) {
        const Pte entry = span.ptes[i];
        if (!entry.is(Pte::Kind::swapped) || mm_->swap.cached(entry.slot()).valid()) continue;
        const bool alone = swapped_alone(entry.slot());
        if (!alone && entry.slot().area() == 0) continue;  // shared: it comes with its fault
        // Only free frames: advice must not evict anything.
        if (job.read_count == kReadTargetsMax || mm_->allocator.below_high()) break;
        Pfn pfn;
        if (mm_->allocator.alloc_run(1, &pfn) == 0) break;
        if (mm_->swap.on_disk(entry.slot())) {
          job.reads[job.read_count++] = {entry.slot(), pfn};
          // A page of our own comes to its entry, others only into the swap cache.
          if (alone) mm_->frames[pfn].set_rmap(space.id(), span.start + i);
          mm_->frames[pfn].private_data = 0;
        } else if (mm_->swap.load(entry.slot(), pfn) == LoadOutcome::done) {
          Page& page = mm_->frames[pfn];
          page.owner = PageOwner::user;
          page.clear_rmap();
          mm_->rmap.add(pfn, {space.id(), span.start + i});
          page.private_data = mm_->swap.shadow(entry.slot());
          mm_->frames.transition(pfn, PageState::isolated, PageState::unmapped);
          space.table().store(&span.ptes[i], Pte::unmapped(pfn).with_readahead(true));
          mm_->swap.put(entry.slot());
          mm_->observer.count(Counter::pswpin);
          mm_->observer.count(Counter::pswpin_ra);
          mm_->reclaimer.page_added_unmapped(pfn);
        } else {
          mm_->allocator.free(pfn, 0);
        }
      }
      start_reads(job);
    }
  }
}

}  // namespace spillway
