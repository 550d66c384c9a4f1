#include "reclaim/three_queue_policy.h"

namespace spillway {

void ThreeQueuePolicy::init(PageOut& pageout, bool background) {
  pageout_ = &pageout;
  MmContext& mm = pageout.mm();
  frames_ = &mm.frames;
  allocator_ = &mm.allocator;
  swap_ = &mm.swap;
  mapper_ = mm.spaces;
  observer_ = &mm.observer;
  background_ = background;
  queues_.init(mm.frames, mm.observer);
}

// A page of the page cache that nobody has used yet starts on S, as a fresh one does, unless it
// came back soon: it was put on U when it came, because it may have been read for nothing.
void ThreeQueuePolicy::page_touched(Pfn pfn) {
  Page& page = (*frames_)[pfn];
  page.clear(PageFlag::reclaim);
  switch (page.queue) {
    case PageQueue::unmapped:
      if (page.in_page_cache() && !page.has(PageFlag::workingset)) {
        page.set(PageFlag::workingset);
        queues_.used_first(pfn);
      } else {
        queues_.touched(pfn);
      }
      break;
    case PageQueue::probation:
    case PageQueue::main: page.set(PageFlag::referenced); break;
    default: break;  // locked: it stays anyway
  }
}

void ThreeQueuePolicy::page_refaulted(Pfn pfn, u32 shadow) {
  if (queues_.note_refault(pfn, shadow)) (*frames_)[pfn].set(PageFlag::workingset);
}

void ThreeQueuePolicy::page_removed(Pfn pfn) {
  Page& page = (*frames_)[pfn];
  page.clear(PageFlag::referenced);
  page.clear(PageFlag::workingset);
  page.clear(PageFlag::reclaim);
  if (page.queue != PageQueue::none) queues_.remove(pfn);
}

void ThreeQueuePolicy::page_unmapped(Pfn pfn) {
  const PageQueue queue = (*frames_)[pfn].queue;
  if (queue != PageQueue::probation && queue != PageQueue::main) return;
  queues_.remove(pfn);
  queues_.add_unmapped(pfn);
}

void ThreeQueuePolicy::page_written(Pfn pfn, Status status) {
  Page& page = (*frames_)[pfn];
  const bool leaving = page.test_and_clear(PageFlag::reclaim);
  if (page.test_and_clear(PageFlag::free_after_io) && page.mapcount == 0 && page.in_swap_cache() &&
      !swap_->shared(pfn)) {
    release_user_page(pageout_->mm(), pfn);
    return;
  }
  // It was written in order to leave, and nobody has asked for it since.
  if (leaving && status.ok() && page.queue == PageQueue::unmapped &&
      pageout_->free_clean(pfn, queues_.next_shadow())) {
    (void)queues_.note_evicted();
  }
}

bool ThreeQueuePolicy::background_wanted() const {
  return background_ && allocator_->below_low() &&
         (queues_.resident() >= kKeepResident + kReclaimMin || pageout_->shrinkers().count() > 0);
}

bool ThreeQueuePolicy::background_step() {
  u64 lack = allocator_->marks().high.v - allocator_->free_pages().v;
  if (allocator_->grow(static_cast<u32>(lack)) > 0) return true;
  const u64 resident = queues_.resident();
  const u64 spare = resident > kKeepResident ? resident - kKeepResident : 0;
  if (lack > spare && pageout_->shrinkers().count() == 0) lack = spare;
  return reclaim(PageCount(lack)) == ReclaimOutcome::progress;
}

// Its queues do not tell files from programs.
u64 ThreeQueuePolicy::dirtyable_pages() const {
  const PageCache& cache = pageout_->mm().cache;
  return dirtyable(pageout_->mm(), cache.pages() - cache.shmem_pages());
}

bool ThreeQueuePolicy::validate() const {
  if (!queues_.validate()) return false;
  for (Pfn pfn = queue_head(PageQueue::unmapped); pfn.valid(); pfn = Pfn((*frames_)[pfn].next)) {
    if ((*frames_)[pfn].state != PageState::unmapped) return false;
  }
  return true;
}

u64 ThreeQueuePolicy::queue_size(PageQueue queue) const {
  const LruList* list = queues_.find_list(queue);
  return list == nullptr ? 0 : list->size();
}

Pfn ThreeQueuePolicy::queue_head(PageQueue queue) const {
  const LruList* list = queues_.find_list(queue);
  return list == nullptr ? kNoPfn : list->head();
}

void ThreeQueuePolicy::page_added(Pfn pfn, Arrival arrival, u32 shadow) {
  queues_.add(pfn, arrival, shadow);
}

void ThreeQueuePolicy::put_on_unmapped(Pfn pfn, UnmapTo end) {
  if (end == UnmapTo::head) {
    queues_.add_unmapped(pfn);
  } else {
    queues_.add_cold(pfn);
  }
}

u32 ThreeQueuePolicy::unmap_batch(UnmapTo end) {
  Pfn batch[kUnmapBatch];
  bool unmapped[kUnmapBatch];
  u32 count = 0;
  u32 cached = 0;
  // With accessed bits a touched page gets another round; so many such pages are looked at, at
  // most, that a fully hot queue still yields a batch.
  u32 second_chances = 4 * kUnmapBatch;
  while (count + cached < kUnmapBatch) {
    const Pfn pfn = queues_.next_to_unmap();
    if (!pfn.valid()) break;
    observer_->count(Counter::pgscan);
    Page& page = (*frames_)[pfn];
    const bool used = page.test_and_clear(PageFlag::referenced);
    if (second_chances > 0 && (mapper_->test_and_clear_young(pfn) || used)) {
      --second_chances;
      queues_.rotate(pfn);
      continue;
    }
    queues_.remove(pfn);
    if (page.state == PageState::unmapped) {
      // Cached for read(2) and write(2), mapped by nobody.
      put_on_unmapped(pfn, end);
      ++cached;
      continue;
    }
    // Sorted by place, so that neighbours in the program are unmapped together.
    u32 at = count++;
    const u64 place = (*frames_)[pfn].rmap;
    while (at > 0 && (*frames_)[batch[at - 1]].rmap > place) {
      batch[at] = batch[at - 1];
      --at;
    }
    batch[at] = pfn;
  }
  if (count > 0) mapper_->unmap_pages(batch, count, unmapped);
  u32 done = cached;
  for (u32 i = 0; i < count; ++i) {
    if (unmapped[i]) {
      put_on_unmapped(batch[i], end);
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

ThreeQueuePolicy::Evicted ThreeQueuePolicy::evict(Pfn pfn) {
  PageOutcome outcome = pageout_->run(pfn, queues_.next_shadow());
  // A page of shared memory is one of the swap cache now: its write is next.
  if (outcome == PageOutcome::moved) outcome = pageout_->run(pfn, queues_.next_shadow());
  switch (outcome) {
    case PageOutcome::freed: (void)queues_.note_evicted(); return Evicted::freed;
    case PageOutcome::started: (*frames_)[pfn].set(PageFlag::reclaim); return Evicted::started;
    case PageOutcome::moved:
    case PageOutcome::keep:
    case PageOutcome::no_space: return Evicted::kept;
    case PageOutcome::wait: return Evicted::wait;
  }
  return Evicted::kept;
}

// The next in line meanwhile.
void ThreeQueuePolicy::to_head_of_unmapped(Pfn pfn) {
  if ((*frames_)[pfn].queue != PageQueue::unmapped) return;
  queues_.remove(pfn);
  queues_.add_unmapped(pfn);
}

ReclaimOutcome ThreeQueuePolicy::run(u64 want) {
  swap_->set_pool_share(allocator_->online(), frames_->count());
  const u64 start = allocator_->free_pages().v;
  const u64 goal = start + want;
  const u64 comfortable = start + (want > kReclaimMin ? want : kReclaimMin);
  // Caches of objects give as large a share as pages do.
  ShrinkerList& shrinkers = pageout_->shrinkers();
  (void)shrinkers.shrink(ShrinkerList::priority_for(want, queues_.resident()));
  u64 budget = want * kScanFactor > kScanMin ? want * kScanFactor : kScanMin;
  u32 fruitless = 0;  // batches of which every page was held
  // Pages of U that swap was not asked to take yet. It may refuse one page, because it is full,
  // and take the next, because that is of one value or has a copy (I36).
  u64 untried = queues_.unmapped();
  // Pages whose write was started: free when it ends, so they count towards the goal, or one run
  // would start writing every page there is.
  u64 started = 0;
  while (allocator_->free_pages().v + started < comfortable) {
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
      case Evicted::freed: break;
      case Evicted::started:
        ++started;
        to_head_of_unmapped(pfn);
        break;
      case Evicted::wait:
        observer_->event(EventKind::reclaim_stall, want, allocator_->free_pages().v - start);
        return allocator_->free_pages().v >= goal ? ReclaimOutcome::progress : ReclaimOutcome::wait;
      case Evicted::kept:
        if (allocator_->free_pages().v >= goal) return ReclaimOutcome::progress;
        to_head_of_unmapped(pfn);
        break;
    }
  }
  // The pages were not enough: all that is unused, twice, as what was referenced is spared once.
  for (u32 pass = 0; pass < 2 && allocator_->free_pages().v < goal; ++pass) {
    (void)shrinkers.shrink(0);
  }
  if (allocator_->free_pages().v > start) return ReclaimOutcome::progress;
  observer_->event(EventKind::reclaim_stall, want, 0);
  if (started > 0) return ReclaimOutcome::wait;
  // Nothing to evict: perhaps the pool holds frames that can go to disk.
  const ReclaimOutcome outcome = swap_->make_space();
  // Reads give back the frames of their transfers, and bring pages that can be evicted again.
  if (outcome == ReclaimOutcome::exhausted && pageout_->io_in_flight()) return ReclaimOutcome::wait;
  return outcome;
}

ReclaimOutcome ThreeQueuePolicy::reclaim(PageCount want) {
  if (allocator_->in_reclaim()) return ReclaimOutcome::exhausted;
  allocator_->enter_reclaim();
  const ReclaimOutcome outcome = run(want.v);
  allocator_->leave_reclaim();
  return noted(outcome);
}

void ThreeQueuePolicy::page_cold(Pfn pfn) {
  const Page& page = (*frames_)[pfn];
  if (page.queue == PageQueue::locked || page.queue == PageQueue::none) return;
  if (page.state == PageState::mapped) {
    bool unmapped = false;
    mapper_->unmap_pages(&pfn, 1, &unmapped);
    if (!unmapped) return;
  }
  queues_.remove(pfn);
  queues_.add_cold(pfn);
}

ReclaimOutcome ThreeQueuePolicy::page_out(Pfn pfn) {
  page_cold(pfn);
  const Page& page = (*frames_)[pfn];
  if (page.state != PageState::unmapped || page.queue != PageQueue::unmapped) {
    return ReclaimOutcome::exhausted;
  }
  if (allocator_->in_reclaim()) return ReclaimOutcome::exhausted;
  allocator_->enter_reclaim();
  const Evicted evicted = evict(pfn);
  allocator_->leave_reclaim();
  switch (evicted) {
    case Evicted::freed: return ReclaimOutcome::progress;
    case Evicted::wait: return ReclaimOutcome::wait;
    case Evicted::started:
    case Evicted::kept: break;
  }
  return ReclaimOutcome::exhausted;
}

}  // namespace spillway
