#include "reclaim/page_reclaim.h"

namespace spillway {

void PageReclaim::init(Machine& machine, FrameTable& frames, PageAllocator& allocator, Swap& swap,
                       Mapper& mapper, const Observer& observer) {
  machine_ = &machine;
  frames_ = &frames;
  allocator_ = &allocator;
  swap_ = &swap;
  mapper_ = &mapper;
  observer_ = &observer;
  queues_.init(frames, observer);
}

void PageReclaim::page_added(Pfn pfn, Arrival arrival, u32 shadow) {
  queues_.add(pfn, arrival, shadow);
}

u32 PageReclaim::unmap_batch(UnmapTo end) {
  Pfn batch[kUnmapBatch];
  bool unmapped[kUnmapBatch];
  u32 count = 0;
  // With accessed bits a touched page gets another round; so many such pages are looked at, at
  // most, that a fully hot queue still yields a batch.
  u32 second_chances = 4 * kUnmapBatch;
  while (count < kUnmapBatch) {
    const Pfn pfn = queues_.next_to_unmap();
    if (!pfn.valid()) break;
    observer_->count(Counter::pgscan);
    if (second_chances > 0 && mapper_->test_and_clear_young(pfn)) {
      --second_chances;
      queues_.rotate(pfn);
      continue;
    }
    queues_.remove(pfn);
    // Sorted by place, so that neighbours in the program are unmapped together.
    u32 at = count++;
    const u64 place = (*frames_)[pfn].rmap;
    while (at > 0 && (*frames_)[batch[at - 1]].rmap > place) {
      batch[at] = batch[at - 1];
      --at;
    }
    batch[at] = pfn;
  }
  if (count == 0) return 0;
  mapper_->unmap_pages(batch, count, unmapped);
  u32 done = 0;
  for (u32 i = 0; i < count; ++i) {
    if (unmapped[i]) {
      if (end == UnmapTo::head) {
        queues_.add_unmapped(batch[i]);
      } else {
        queues_.add_cold(batch[i]);
      }
      ++done;
    } else {
      // Held by somebody: as good as touched.
      queues_.add(batch[i], Arrival::fresh, 0);
      queues_.rotate(batch[i]);
    }
  }
  observer_->count(Counter::pgdeactivate, done);
  return done;
}

ReclaimOutcome PageReclaim::evict(Pfn pfn) {
  const Result<SlotId> slot = swap_->store(pfn);
  if (!slot.ok()) {
    return slot.error() == Error::wait ? ReclaimOutcome::wait : ReclaimOutcome::exhausted;
  }
  queues_.remove(pfn);
  swap_->set_shadow(slot.value(), queues_.note_evicted());
  mapper_->replace_by_slot(pfn, slot.value());
  Page& page = (*frames_)[pfn];
  page.owner = PageOwner::none;
  frames_->transition(pfn, PageState::unmapped, PageState::isolated);
  allocator_->free(pfn, 0);
  observer_->count(Counter::pgsteal);
  observer_->event(EventKind::reclaim_evict, pfn.v, slot.value().v);
  return ReclaimOutcome::progress;
}

ReclaimOutcome PageReclaim::run(u64 want) {
  swap_->set_pool_share(allocator_->online(), frames_->count());
  const u64 start = allocator_->free_pages().v;
  const u64 goal = start + want;
  const u64 comfortable = start + (want > kReclaimMin ? want : kReclaimMin);
  u64 budget = want * kScanFactor > kScanMin ? want * kScanFactor : kScanMin;
  u32 fruitless = 0;  // batches of which every page was held
  // Pages of U that swap was not asked to take yet. It may refuse one page, because it is full,
  // and take the next, because that is of one value or has a copy (I36).
  u64 untried = queues_.unmapped();
  while (allocator_->free_pages().v < comfortable) {
    if (budget-- == 0) {
      observer_->count(Counter::limit_hit);
      observer_->event(EventKind::limit_hit, kScanFactor, want);
      break;
    }
    if ((queues_.wants_unmapped() || untried == 0) && fruitless < 4) {
      const u32 batch = unmap_batch(untried == 0 ? UnmapTo::tail : UnmapTo::head);
      fruitless = batch == 0 ? fruitless + 1 : 0;
      untried += batch;
    }
    if (untried == 0) {
      if (fruitless >= 4 || !queues_.next_to_unmap().valid()) break;
      continue;
    }
    --untried;
    const Pfn pfn = queues_.next_to_evict();
    switch (evict(pfn)) {
      case ReclaimOutcome::progress: break;
      case ReclaimOutcome::wait:
        observer_->event(EventKind::reclaim_stall, want, allocator_->free_pages().v - start);
        return allocator_->free_pages().v >= goal ? ReclaimOutcome::progress : ReclaimOutcome::wait;
      case ReclaimOutcome::exhausted:
        if (allocator_->free_pages().v >= goal) return ReclaimOutcome::progress;
        queues_.remove(pfn);
        queues_.add_unmapped(pfn);
        break;
    }
  }
  if (allocator_->free_pages().v > start) return ReclaimOutcome::progress;
  observer_->event(EventKind::reclaim_stall, want, 0);
  // Nothing to evict: perhaps the pool holds frames that can go to disk.
  const ReclaimOutcome outcome = swap_->make_space();
  // Reads give back the frames of their transfers, and bring pages that can be evicted again.
  if (outcome == ReclaimOutcome::exhausted && swap_->io_in_flight()) return ReclaimOutcome::wait;
  return outcome;
}

ReclaimOutcome PageReclaim::reclaim(PageCount want) {
  if (allocator_->in_reclaim()) return ReclaimOutcome::exhausted;
  allocator_->enter_reclaim();
  const ReclaimOutcome outcome = run(want.v);
  allocator_->leave_reclaim();
  return outcome;
}

void PageReclaim::page_cold(Pfn pfn) {
  const Page& page = (*frames_)[pfn];
  if (page.queue == PageQueue::locked || page.state != PageState::mapped) return;
  bool unmapped = false;
  mapper_->unmap_pages(&pfn, 1, &unmapped);
  if (!unmapped) return;
  queues_.remove(pfn);
  queues_.add_cold(pfn);
}

ReclaimOutcome PageReclaim::page_out(Pfn pfn) {
  page_cold(pfn);
  if ((*frames_)[pfn].state != PageState::unmapped) return ReclaimOutcome::exhausted;
  if (allocator_->in_reclaim()) return ReclaimOutcome::exhausted;
  allocator_->enter_reclaim();
  const ReclaimOutcome outcome = evict(pfn);
  allocator_->leave_reclaim();
  return outcome;
}

}  // namespace spillway
