// Windows: one fault on anonymous memory serves a window of pages where a stream was recognised.
// Fresh pages, pages that are resident but unmapped, and pages in swap that nobody shares.
#include "fault/fault_handler.h"
#include "fault/marks.h"

namespace spillway {

// How many pages of the window lie in the area.
u32 FaultHandler::clip_window(const Job& job) const {
  u32 pages = 1;
  while (pages < job.window.pages && pages < kWindowMax) {
    const i64 at = static_cast<i64>(job.first.v) + job.window.stride * pages;
    if (at < 0 || !job.area->range().contains(Vpn(static_cast<u64>(at)))) break;
    ++pages;
  }
  return pages;
}

u32 FaultHandler::frames_needed(const Job& job, u32 pages) const {
  u32 needed = 0;
  for (u32 i = 0; i < pages; ++i) {
    const Vpn vpn{job.first.v + static_cast<u64>(job.window.stride * i)};
    const Pte entry = job.space->table().get(vpn);
    if (entry.is(Pte::Kind::swapped)) {
      if (swapped_alone(entry.slot()) && !mm_->swap.reading(entry.slot())) ++needed;
    } else if (job.area->mapping == nullptr && (entry.none() || entry.is(Pte::Kind::zero))) {
      if (mm_->machine.features.zero_page && job.access == Access::read) continue;
      if (i < config_.fresh_around_max || i == 0) ++needed;
    }
  }
  return needed;
}

// Takes the frames that the window needs, as consecutive as they come. Only the first page's is
// worth waiting for; for the others reclaim runs, but its failure just makes the window smaller.
FaultOutcome FaultHandler::take_frames(Job& job, u32 pages) {
  const u32 needed = frames_needed(job, pages);
  if (needed == 0) return FaultOutcome::done;
  if (needed == 1 && mm_->allocator.reclaimer_decides()) {
    const FaultOutcome taken = take_frame(kAllocUser, &job.frames[0]);
    if (taken == FaultOutcome::done) job.frame_count = 1;
    return taken;
  }
  const WalkScope walk(mm_->observer.walk, "alloc_page", "{a} free, low mark {b}",
                       mm_->allocator.free_pages().v, mm_->allocator.marks().low.v);
  if (needed > 1) (void)mm_->allocator.make_room(PageCount(needed));
  while (job.frame_count < needed) {
    Pfn first;
    const u32 got = mm_->allocator.alloc_run(needed - job.frame_count, &first);
    if (got == 0) break;
    for (u32 i = 0; i < got; ++i) job.frames[job.frame_count++] = first + i;
  }
  if (job.frame_count > 0) {
    mm_->observer.step("plenty: frame {a} from the free lists", job.frames[0].v);
    return FaultOutcome::done;
  }
  const Result<Pfn> pfn = mm_->allocator.alloc(0, kAllocUser);
  if (!pfn.ok()) return pfn.error() == Error::wait ? FaultOutcome::wait : FaultOutcome::oom;
  job.frames[job.frame_count++] = pfn.value();
  return FaultOutcome::done;
}

void FaultHandler::return_frames(Job& job) {
  while (job.frame_next < job.frame_count) {
    mm_->allocator.free(job.frames[job.frame_next++], 0);
  }
}

bool FaultHandler::prepare_fresh(Job& job, Vpn vpn) {
  if (job.frame_next == job.frame_count) return false;
  const Pfn pfn = job.frames[job.frame_next++];
  __builtin_memset(mm_->machine.frames.bytes(pfn), 0, kPageSize);
  job.ready[job.ready_count++] = {vpn, pfn, Arrival::fresh, 0, false};
  mm_->observer.count(Counter::pgfresh);
  return true;
}

bool FaultHandler::prepare_swapped(Job& job, Vpn vpn, SlotId slot, bool first) {
  Swap& swap = mm_->swap;
  if (swap.reading(slot)) {
    if (first) job.outcome = FaultOutcome::wait;
    if (first && job.urgent) {
      mm_->frames[swap.cached(slot)].private_data |= kReadUrgent;
    }
    return true;
  }
  if (job.frame_next == job.frame_count) return false;
  const Pfn pfn = job.frames[job.frame_next];
  const LoadOutcome outcome = swap.load(slot, pfn);
  switch (outcome) {
    case LoadOutcome::done: break;
    case LoadOutcome::on_disk:
      ++job.frame_next;
      job.reads[job.read_count++] = {slot, pfn};
      mm_->frames[pfn].set_rmap(job.space->id(), vpn);
      mm_->frames[pfn].private_data = 0;
      if (first) {
        mm_->frames[pfn].private_data = job.urgent ? kAwaited | kReadUrgent : kAwaited;
        job.outcome = FaultOutcome::wait;
      }
      return true;
    case LoadOutcome::reading: return true;
    case LoadOutcome::cached: SPW_PANIC("a swapped entry of a page that is resident");
    case LoadOutcome::io:
      if (first) {
        swap.clear_error(slot);  // this access fails; a later one tries the disk again
        job.outcome = FaultOutcome::bus;
      }
      return !first;
    case LoadOutcome::corrupt:
      if (first) job.outcome = FaultOutcome::corrupt;
      return false;
  }
  ++job.frame_next;
  const u32 shadow = swap.shadow(slot);
  swap.put(slot);
  job.ready[job.ready_count++] = {vpn, pfn, first ? Arrival::refault : Arrival::readahead, shadow,
                                  false};
  mm_->observer.count(Counter::pswpin);
  if (!first) mm_->observer.count(Counter::pswpin_ra);
  mm_->observer.event(EventKind::fault_swap_in, vpn.v, slot.v);
  return true;
}

// Makes one page of the window ready. False ends the window.
bool FaultHandler::prepare(Job& job, Vpn vpn, bool first) {
  const Pte entry = job.space->table().get(vpn);
  switch (entry.kind()) {
    case Pte::Kind::table:
    case Pte::Kind::present: return true;
    case Pte::Kind::zero:
    case Pte::Kind::none: {
      // The page of a file or of shared memory is not made here (file_fault). The first one was
      // softly mapped until taking frames evicted it: the access is tried again.
      if (job.area->mapping != nullptr) return !first;
      const bool zero_page = mm_->machine.features.zero_page && job.access == Access::read;
      if (zero_page) {
        if (first && entry.none()) map_zero(job, vpn);
        return first;
      }
      const u32 distance = job.ready_count + job.read_count;
      if (!first && distance >= config_.fresh_around_max) return false;
      return prepare_fresh(job, vpn);
    }
    case Pte::Kind::unmapped: {
      const Pfn pfn = entry.pfn();
      // Its arrival counts only if nobody has touched it yet.
      const u64 marks = mm_->frames[pfn].private_data;
      const Arrival arrival = (marks & kAwaited) != 0 ? Arrival::refault : Arrival::readahead;
      job.ready[job.ready_count++] = {vpn, pfn, arrival, static_cast<u32>(marks), true};
      return true;
    }
    case Pte::Kind::swapped:
      // What others may want too comes through the swap cache, with a fault of its own: the first
      // page too, when taking frames has just evicted it.
      if (!swapped_alone(entry.slot())) return false;
      return prepare_swapped(job, vpn, entry.slot(), first);
  }
  return false;
}

void FaultHandler::map_zero(Job& job, Vpn vpn) {
  // ensure() was done for the first page before frames were taken.
  Pte* pte = job.space->table().find(vpn);
  mm_->machine.mmu.map(job.space->id(), addr_of(vpn), kNoPfn, 1, job.area->prot);
  job.space->table().store(pte, Pte::zero_page());
}

// The page is in the machine's hands now: tables, descriptor and ageing follow.
void FaultHandler::settle(const Job& job, const Ready& page) {
  PageTable& table = job.space->table();
  Pte* pte = table.find(page.vpn);
  SPW_ASSERT(pte != nullptr);
  const Pte old = *pte;
  Page& descriptor = mm_->frames[page.pfn];
  const bool first_touch = !page.soft || old.readahead();
  if (page.soft) {
    // After a fork another process may have mapped it already.
    if (descriptor.state == PageState::unmapped) {
      mm_->frames.transition(page.pfn, PageState::unmapped, PageState::mapped);
    }
  } else {
    mm_->frames.transition(page.pfn, PageState::isolated, PageState::mapped);
    descriptor.owner = PageOwner::user;
    descriptor.clear_rmap();
    mm_->rmap.add(page.pfn, {job.space->id(), page.vpn});
  }
  const Prot prot = job.space->entry_prot(*job.area, page.pfn);
  const bool first = page.vpn == job.first;
  table.store(pte, Pte::present(page.pfn, prot)
                       .with_accessed(first && mm_->machine.features.accessed_bit)
                       .with_dirty(first && job.access == Access::write &&
                                   allows(prot, Prot::write) && mm_->machine.features.dirty_bit));
  if (!page.soft) {
    mm_->reclaimer.page_added(page.pfn, page.arrival, page.shadow);
  } else if (first_touch) {
    if (page.arrival == Arrival::readahead) mm_->observer.count(Counter::swap_ra_hit);
    mm_->reclaimer.page_removed(page.pfn);
    mm_->reclaimer.page_added(page.pfn, page.arrival, page.shadow);
  } else {
    mm_->reclaimer.page_mapped(page.pfn);
    mm_->observer.event(EventKind::fault_soft, page.vpn.v, page.pfn.v);
  }
  if (job.area->locked) mm_->reclaimer.page_locked(page.pfn);
}

void FaultHandler::map_ready(Job& job) {
  for (u32 i = 0; i < job.ready_count;) {
    const Ready& start = job.ready[i];
    // Pages that were unmapped may have been evicted by reclaim since they were looked at; see
    // serve(): frames are taken before, so nothing reclaims between prepare() and here.
    u32 run = 1;
    while (i + run < job.ready_count && job.ready[i + run].vpn == start.vpn + run &&
           job.ready[i + run].pfn == start.pfn + run) {
      ++run;
    }
    // Zero-page mappings give way to the page.
    for (u32 k = 0; k < run; ++k) {
      Pte* pte = job.space->table().find(start.vpn + k);
      if (pte != nullptr && pte->is(Pte::Kind::zero)) {
        const Pfn none = kNoPfn;
        mm_->machine.mmu.drop(job.space->id(), addr_of(start.vpn + k), &none, 1, job.area->prot);
        job.space->table().store(pte, Pte{});
      }
    }
    mm_->machine.mmu.map(job.space->id(), addr_of(start.vpn), start.pfn, run, job.area->prot);
    for (u32 k = 0; k < run; ++k) settle(job, job.ready[i + k]);
    i += run;
  }
  if (job.ready_count > 1) mm_->observer.count(Counter::pgfault_around, job.ready_count - 1);
}

// Starts the reads, one request for each disk segment that the targets lie in.
void FaultHandler::start_reads(Job& job) {
  bool started[kWindowMax] = {};
  for (u32 i = 0; i < job.read_count; ++i) {
    if (started[i]) continue;
    ReadTarget group[kReadTargetsMax];
    u32 members[kReadTargetsMax];
    u32 count = 0;
    const u32 segment = mm_->swap.disk_segment(job.reads[i].slot);
    for (u32 k = i; k < job.read_count && count < kReadTargetsMax; ++k) {
      if (started[k] || mm_->swap.disk_segment(job.reads[k].slot) != segment) continue;
      group[count] = job.reads[k];
      members[count++] = k;
    }
    for (u32 k = 0; k < count; ++k) {
      mm_->frames.transition(group[k].pfn, PageState::isolated, PageState::reading);
      mm_->frames[group[k].pfn].owner = PageOwner::user;
      started[members[k]] = true;
    }
    if (mm_->swap.read(group, count).ok()) continue;
    // No room for the transfer. The first page alone needs a block or two, and the frames of the
    // others are free for them now: without this, a fault whose window is too large for the
    // frames that are left would be retried for ever, with nothing in flight.
    for (u32 k = 1; k < count; ++k) give_up_read(group[k].pfn);
    if (count > 1 && mm_->swap.read(group, 1).ok()) continue;
    // What is in flight must end first. Nothing has changed for the pages; a retry asks again.
    give_up_read(group[0].pfn);
  }
}

void FaultHandler::give_up_read(Pfn pfn) {
  Page& page = mm_->frames[pfn];
  page.owner = PageOwner::none;
  page.clear_rmap();
  mm_->frames.transition(pfn, PageState::reading, PageState::isolated);
  mm_->allocator.free(pfn, 0);
}

FaultOutcome FaultHandler::serve(Job& job) {
  // Everything that may reclaim comes first: tables, then frames. After that nothing changes
  // under our hands until the pages are mapped.
  const u32 wanted = clip_window(job);
  // Where there is no table, all pages are fresh: no more tables than fresh pages will need,
  // and none at all ahead of wide strides, of which each page would take one.
  const bool wide = job.window.stride > kWindowMax || job.window.stride < -i64{kWindowMax};
  const u32 tables_for = wide ? 1 : config_.fresh_around_max;
  for (u32 i = 0; i < wanted && (i == 0 || i < tables_for); ++i) {
    const Vpn vpn{job.first.v + static_cast<u64>(job.window.stride * i)};
    const Result<Pte*> pte = job.space->table().ensure(vpn, kAllocKernel);
    if (!pte.ok()) {
      if (i > 0) break;
      return pte.error() == Error::wait ? FaultOutcome::wait : FaultOutcome::oom;
    }
  }
  const FaultOutcome frames = take_frames(job, wanted);
  if (frames != FaultOutcome::done) return frames;
  for (u32 i = 0; i < wanted; ++i) {
    const Vpn vpn{job.first.v + static_cast<u64>(job.window.stride * i)};
    if (i > 0 && job.space->table().find(vpn) == nullptr) break;
    if (!prepare(job, vpn, i == 0)) break;
  }
  map_ready(job);
  start_reads(job);
  return_frames(job);
  if (job.outcome == FaultOutcome::done && wanted > 1) read_ahead(job);
  return job.outcome;
}

// Starts reading the window after this one, if it lies on disk: the stream will come there.
void FaultHandler::read_ahead(const Job& job) {
  const i64 next = static_cast<i64>(job.first.v) + job.window.stride * job.window.pages;
  if (next < 0) return;
  Job& ahead = ahead_;
  ahead.begin(*job.space, *job.area, Vpn(static_cast<u64>(next)), job.access, job.window);
  if (!job.area->range().contains(ahead.first)) return;
  const u32 pages = clip_window(ahead);
  for (u32 i = 0; i < pages; ++i) {
    const Vpn vpn{ahead.first.v + static_cast<u64>(ahead.window.stride * i)};
    const Pte entry = job.space->table().get(vpn);
    if (!entry.is(Pte::Kind::swapped) || mm_->swap.reading(entry.slot())) continue;
    if (!mm_->swap.on_disk(entry.slot()) || !swapped_alone(entry.slot())) continue;
    Pfn pfn;
    if (mm_->allocator.alloc_run(1, &pfn) == 0) break;
    ahead.reads[ahead.read_count++] = {entry.slot(), pfn};
    mm_->frames[pfn].set_rmap(job.space->id(), vpn);
    mm_->frames[pfn].private_data = 0;
  }
  start_reads(ahead);
}

}  // namespace spillway
