#include "page/page_allocator.h"

#include <cstring>

namespace spillway {

void PageAllocator::init(Machine& machine, FrameTable& frames, const Observer& observer) {
  machine_ = &machine;
  frames_ = &frames;
  observer_ = &observer;
  cpus_ = &machine.cpus;
  buddy_.init(frames);
  const u32 cpus = machine.cpus.count();
  pcp_count_ = cpus < kCpusMax ? cpus : kCpusMax;
}

[[gnu::always_inline]] inline Pfn PageAllocator::pcp_alloc() {
  Pcp& pcp = this_pcp();
  Guard guard(pcp.lock);
  u32 count = pcp.count.load(std::memory_order_relaxed);
  if (count == 0) [[unlikely]] {
    count = refill(pcp);
    if (count == 0) return kNoPfn;
  }
  --count;
  const Pfn pfn{pcp.frames[count]};
  frames_->transition(pfn, PageState::pcp, PageState::isolated);
  ++pcp.allocated;
  pcp.count.store(count, std::memory_order_relaxed);
  return pfn;
}

[[gnu::always_inline]] inline void PageAllocator::pcp_free(Pfn pfn) {
  Pcp& pcp = this_pcp();
  Guard guard(pcp.lock);
  u32 count = pcp.count.load(std::memory_order_relaxed);
  if (count == kPcpHigh) [[unlikely]] {
    spill(pcp, kPcpBatch);
    count -= kPcpBatch;
  }
  frames_->transition(pfn, PageState::isolated, PageState::pcp);
  pcp.frames[count] = pfn.v;
  ++pcp.freed;
  pcp.count.store(count + 1, std::memory_order_relaxed);
}

// A block from the buddy lists.
Pfn PageAllocator::take_block(u32 order) {
  Guard zone(zone_lock_);
  const Pfn pfn = buddy_.alloc(order);
  if (pfn.valid()) {
    note_buddy();
    observer_->count(Counter::pgalloc, u64{1} << order);
  }
  return pfn;
}

// What CPU lists hold may be all there is, or the missing half of a block.
Pfn PageAllocator::take_drained(u32 order) {
  if (pcp_free() == 0) return kNoPfn;
  drain_pcp();
  return take_block(order);
}

[[gnu::always_inline]] inline Pfn PageAllocator::rmqueue_here(u32 order) {
  const Pfn pfn = order < pcp_orders_ ? pcp_alloc() : take_block(order);
  return pfn.valid() ? pfn : take_drained(order);
}

Pfn PageAllocator::rmqueue(u32 order) { return rmqueue_here(order); }

// One try with what is free now; kNoPfn if the watermark or the lists forbid it.
[[gnu::always_inline]] inline Pfn PageAllocator::try_alloc(u32 order, AllocFlags flags) {
  // Who asks atomically may be a thread beside the one that reclaims, and has no reserve.
  const bool reserve = flags.memalloc || (!flags.atomic && in_reclaim_);
  if (!reserve && !above_min(u64{1} << order)) [[unlikely]]
    return kNoPfn;
  return rmqueue_here(order);
}

Result<Pfn> PageAllocator::alloc(u32 order, AllocFlags flags) {
  if (order > kOrderMax) [[unlikely]]
    return Error::no_memory;
  Pfn pfn;
  if (!reclaimer_decides_) [[likely]]
    pfn = try_alloc(order, flags);
  if (!pfn.valid()) [[unlikely]] {
    SPW_TRY_ASSIGN(slow, alloc_slow(order, flags));
    pfn = slow;
  }
  if (flags.zero) std::memset(machine_->frames.bytes(pfn), 0, kPageSize << order);
  return pfn;
}

// After a first try that failed, unless the reclaimer decides.
Result<Pfn> PageAllocator::alloc_slow(u32 order, AllocFlags flags) {
  if (reclaimer_decides_) return reclaimer_->alloc_pages(order, flags);
  if (flags.atomic) return Error::no_memory;
  for (u32 attempt = 0;; ++attempt) {
    if (attempt > 0) {
      const Pfn pfn = try_alloc(order, flags);
      if (pfn.valid()) return pfn;
    }
    if (in_reclaim_ || flags.memalloc || !flags.may_reclaim) {
      // In reclaim and with memalloc the reserve is used up: only the budget can help, never
      // reclaim inside reclaim.
      if (grow(kGrowBatch) > 0) continue;
      return Error::no_memory;
    }
    if (attempt >= kRetryMax) {
      observer_->count(Counter::limit_hit);
      observer_->event(EventKind::limit_hit, kRetryMax, order);
      return Error::no_memory;
    }
    const PageCount need{u64{1} << order};
    ReclaimOutcome outcome;
    if (free_pages() >= need + marks_.min) {
      // Enough is free, but not in one piece: more frames come together to larger blocks.
      if (grow(kGrowBatch) > 0) continue;
      outcome = reclaimer_->reclaim(need);
    } else {
      outcome = make_room(need);
    }
    switch (outcome) {
      case ReclaimOutcome::progress: break;
      case ReclaimOutcome::wait: return Error::wait;
      case ReclaimOutcome::exhausted: return Error::no_memory;
    }
  }
}

ReclaimOutcome PageAllocator::make_room(PageCount want) {
  const PageCount target = want + marks_.min;
  if (free_pages() >= target) return ReclaimOutcome::progress;
  const u64 lack = (target - free_pages()).v;
  if (grow(lack < kGrowBatch ? kGrowBatch : static_cast<u32>(lack)) > 0 &&
      free_pages() >= want + marks_.min) {
    return ReclaimOutcome::progress;
  }
  observer_->count(Counter::allocstall);
  SPW_ASSERT(reclaimer_ != nullptr);
  const PageCount now = free_pages();
  const PageCount goal = want + marks_.min;
  if (now >= goal) return ReclaimOutcome::progress;
  return reclaimer_->reclaim(goal - now);
}

Result<Pfn> PageAllocator::alloc_kernel(PageOwner owner, AllocFlags flags, u32 order) {
  SPW_TRY_ASSIGN(pfn, alloc(order, flags));
  for (u32 i = 0; i < (1U << order); ++i) {
    frames_->transition(pfn + i, PageState::isolated, PageState::kernel);
    (*frames_)[pfn + i].owner = owner;
    (*frames_)[pfn + i].private_data = 0;
  }
  return pfn;
}

void PageAllocator::free_kernel(Pfn pfn, PageOwner owner, u32 order) {
  for (u32 i = 0; i < (1U << order); ++i) {
    Page& page = (*frames_)[pfn + i];
    SPW_ASSERT_EQ(static_cast<u8>(page.owner), static_cast<u8>(owner));
    page.owner = PageOwner::none;
    page.private_data = 0;
    frames_->transition(pfn + i, PageState::kernel, PageState::isolated);
  }
  free(pfn, order);
}

u32 PageAllocator::alloc_run(u32 want, Pfn* first) {
  const u64 free_now = free_pages().v;
  const u64 min = pages_min();
  if (free_now <= min) return 0;
  if (want > free_now - min) want = static_cast<u32>(free_now - min);
  u32 got;
  {
    Guard zone(zone_lock_);
    got = buddy_.alloc_run(want, first);
    note_buddy();
    observer_->count(Counter::pgalloc, got);
  }
  if (got == 0 && pcp_orders_ > 0) {
    const Pfn pfn = pcp_alloc();
    if (pfn.valid()) {
      *first = pfn;
      got = 1;
    }
  }
  if (reclaimer_decides_ && got > 0) reclaimer_->frames_taken(*first, got);
  return got;
}

// Who gives a frame back has let go of it.
inline void PageAllocator::check_free(Pfn pfn) const {
  const Page& page = (*frames_)[pfn];
  SPW_ASSERT_EQ(static_cast<u8>(page.state), static_cast<u8>(PageState::isolated));
  SPW_ASSERT_EQ(static_cast<u8>(page.queue), static_cast<u8>(PageQueue::none));
  SPW_ASSERT_EQ(page.rmap, 0u);
  SPW_ASSERT_EQ(page.slot.v, 0u);
}

void PageAllocator::free(Pfn pfn, u32 order) {
  if ((*frames_)[pfn].state == PageState::reserved) [[unlikely]] {
    observer_->count(Counter::pgfree_reserved);
    return;
  }
  check_free(pfn);
  if (order < pcp_orders_) [[likely]] {
    if (reclaimer_decides_) reclaimer_->frames_freed(1);
    pcp_free(pfn);
  } else {
    free_block(pfn, order);
  }
}

void PageAllocator::free_block(Pfn pfn, u32 order) {
  for (u32 i = 1; i < (1U << order); ++i) check_free(pfn + i);
  if (reclaimer_decides_) reclaimer_->frames_freed(1U << order);
  Guard zone(zone_lock_);
  buddy_.free(pfn, order);
  note_buddy();
  observer_->count(Counter::pgfree, u64{1} << order);
}

Status PageAllocator::reserve(Pfn first, PageCount count) {
  if (count.v == 0) return kOk;
  if (first.v >= frames_->count().v || count.v > frames_->count().v - first.v) {
    return Error::invalid;
  }
  for (u32 i = 0; i < count.v; ++i) {
    if ((*frames_)[first + i].state != PageState::offline) return Error::invalid;
  }
  const PageCount granted = machine_->frames.acquire_quota(count);
  if (granted < count) {
    machine_->frames.release_quota(granted);
    return Error::no_memory;
  }
  const Status online = machine_->frames.bring_online(first, count);
  if (!online.ok()) {
    machine_->frames.release_quota(count);
    return online;
  }
  for (u32 i = 0; i < count.v; ++i) {
    Page& page = (*frames_)[first + i];
    page.prev = page.next = Pfn::kNone;
    page.owner = PageOwner::boot;
    frames_->transition(first + i, PageState::offline, PageState::reserved);
  }
  online_ += count;
  reserved_ += count;
  observer_->event(EventKind::page_online, first.v, count.v);
  observer_->counters->raise_to(Counter::frames_online_max, online_.v);
  return kOk;
}

// Reserved frames go to the free lists.
void PageAllocator::to_free_lists(Pfn first, u32 count) {
  Guard zone(zone_lock_);
  for (u32 i = 0; i < count; ++i) {
    (*frames_)[first + i].owner = PageOwner::none;
    frames_->transition(first + i, PageState::reserved, PageState::isolated);
    buddy_.free(first + i, 0);
  }
  note_buddy();
}

void PageAllocator::release_reserved(Pfn first, PageCount count) {
  SPW_ASSERT_LE(count, reserved_);
  to_free_lists(first, static_cast<u32>(count.v));
  reserved_ -= count;
  follow_managed();
}

// The length, at most `want` and kGrowBatch, of the next run of frames that were never online,
// which then starts at never_online_; 0 if there is none. Frames that reserve() has set aside are
// passed over.
u32 PageAllocator::fresh_run(u32 want) {
  const u32 end = static_cast<u32>(frames_->count().v);
  while (never_online_ < end && (*frames_)[Pfn(never_online_)].state != PageState::offline) {
    ++never_online_;
  }
  u32 most = end - never_online_;
  if (most > want) most = want;
  if (most > kGrowBatch) most = kGrowBatch;
  u32 run = 0;
  while (run < most && (*frames_)[Pfn(never_online_ + run)].state == PageState::offline) ++run;
  return run;
}

u32 PageAllocator::grow(u32 want) {
  u32 done = 0;
  while (done < want) {
    // A run of frames that were never online, or one that went offline.
    Pfn first;
    u32 run = fresh_run(want - done);
    const bool fresh = run > 0;
    if (fresh) {
      first = Pfn(never_online_);
    } else if (offline_head_ != Pfn::kNone) {
      first = Pfn(offline_head_);
      run = 1;
    } else {
      break;
    }
    const PageCount granted = machine_->frames.acquire_quota(PageCount(run));
    if (granted.v == 0) break;
    run = static_cast<u32>(granted.v);
    if (!machine_->frames.bring_online(first, PageCount(run)).ok()) {
      machine_->frames.release_quota(PageCount(run));
      break;
    }
    if (fresh) {
      never_online_ += run;
    } else {
      offline_head_ = (*frames_)[first].next;
      (*frames_)[first].next = Pfn::kNone;
    }
    for (u32 i = 0; i < run; ++i) {
      Page& page = (*frames_)[first + i];
      page.prev = page.next = Pfn::kNone;
      frames_->transition(first + i, PageState::offline, PageState::reserved);
    }
    to_free_lists(first, run);
    online_ += PageCount(run);
    done += run;
    observer_->event(EventKind::page_online, first.v, run);
  }
  if (done > 0) {
    follow_managed();
    observer_->count(Counter::quota_grow, done);
    observer_->counters->raise_to(Counter::frames_online_max, online_.v);
  }
  return done;
}

u32 PageAllocator::shrink(u32 want) {
  drain_pcp();
  u32 done = 0;
  while (done < want) {
    Pfn first;
    u32 run;
    {
      Guard zone(zone_lock_);
      run = buddy_.alloc_run(want - done < 32 ? want - done : 32, &first);
      note_buddy();
    }
    if (run == 0) break;
    machine_->frames.take_offline(first, PageCount(run));
    for (u32 i = 0; i < run; ++i) {
      frames_->transition(first + i, PageState::isolated, PageState::offline);
      (*frames_)[first + i].next = offline_head_;
      offline_head_ = first.v + i;
    }
    online_ -= PageCount(run);
    done += run;
    observer_->event(EventKind::page_offline, first.v, run);
  }
  if (done > 0) {
    machine_->frames.release_quota(PageCount(done));
    follow_managed();
    observer_->count(Counter::quota_shrink, done);
  }
  return done;
}

bool PageAllocator::validate() {
  u64 in_pcp = 0;
  u64 online = 0;
  u64 reserved = 0;
  for (u32 i = 0; i < frames_->count().v; ++i) {
    const Page& page = (*frames_)[Pfn(i)];
    if (page.state == PageState::pcp) ++in_pcp;
    if (page.state != PageState::offline) ++online;
    if (page.state == PageState::reserved) ++reserved;
    if (page.state == PageState::reserved && page.owner != PageOwner::boot) return false;
    if ((page.state == PageState::free || page.state == PageState::pcp) &&
        (page.rmap != 0 || page.queue != PageQueue::none || page.slot.valid())) {
      return false;
    }
  }
  Guard zone(zone_lock_);
  return in_pcp == pcp_free() && pcp_lists_are_sound() && online == online_.v &&
         reserved == reserved_.v && buddy_.validate();
}

}  // namespace spillway
