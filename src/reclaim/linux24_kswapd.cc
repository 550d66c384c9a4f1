// Shortages and what is done about them: refill_inactive, kswapd (MECHANISMS 1.4, 7.1 to 7.3, 15).
#include "reclaim/linux24_policy.h"

namespace spillway {

// About the allocations of one second.
u64 Linux24Policy::inactive_target() const {
  const u64 target = memory_pressure_ / 64;
  const u64 most = allocator_->online().v / 4;
  return target < most ? target : most;
}

u64 Linux24Policy::freeable_target() const {
  const u64 target = allocator_->marks().high.v + inactive_target() / 3;
  return target > goal_ ? target : goal_;
}

u64 Linux24Policy::free_shortage() const {
  const u64 have = available();
  const u64 target = freeable_target();
  if (have < target) return target - have;
  const u64 least = allocator_->marks().min.v + 1;
  return have < least ? least - have : 0;
}

u64 Linux24Policy::inactive_shortage() const {
  u64 target = allocator_->marks().high.v + inactive_target();
  if (target < goal_) target = goal_;
  const u64 have = available() + inactive_dirty_.size();
  return have < target ? target - have : 0;
}

// Room for writing behind even if kswapd lags, and some dirty pages in the working set.
u64 Linux24Policy::dirtyable_pages() const {
  const u64 inactive = available() + inactive_dirty_.size();
  const u64 least = allocator_->marks().high.v + inactive_target();
  return (inactive > least ? inactive : least) + active_.size() / 16;
}

// Free pages are about to run short, and cleaning inactive ones would help.
bool Linux24Policy::short_of_clean_pages() const {
  const u64 shortage = free_shortage();
  return shortage != 0 && inactive_dirty_.size() > shortage &&
         inactive_dirty_.size() > allocator_->marks().high.v;
}

bool Linux24Policy::out_of_memory() const {
  if (free_shortage() == 0 || inactive_shortage() == 0) return false;
  if (allocator_->free_pages() > allocator_->marks().min) return false;
  if (available() > allocator_->marks().low.v) return false;
  return swap_->areas().free_pages().v == 0 && writes_in_flight() == 0;
}

u64 Linux24Policy::writes_in_flight() const {
  return swap_->plain_writes_in_flight() + mm_->cache.writeback();
}

u64 Linux24Policy::refill_inactive_scan(u32 priority, Scan scan) {
  // Rounded down, as in Linux: a list shorter than 64 is aged only when pages are short.
  u64 left = active_.size() >> priority;
  const WalkScope walk(observer_->walk, "refill_inactive_scan",
                       "priority {a}: {b} of {c} active pages", priority, left, active_.size());
  u64 deactivated = 0;
  for (; left > 0 && !active_.empty(); --left) {
    const Pfn pfn = active_.tail();
    Page& page = (*frames_)[pfn];
    const u32 age = page.age;
    observer_->count(Counter::pgscan);
    if (page.test_and_clear(PageFlag::referenced)) {
      age_page_up(pfn);
      ++work_;
      observer_->step("frame {a}: referenced, age {b} -> {c}", pfn.v, age, page.age);
    } else {
      age_page_down_ageonly(pfn);
      if (page.age == 0 && page.count() <= 1) {
        deactivate_page(pfn);
        ++deactivated;
        observer_->step("frame {a}: age {b} -> 0, only its cache holds it: to inactive_dirty",
                        pfn.v, age);
        if (scan == Scan::one) break;
        continue;
      }
      observer_->step(page.age > 0 ? "frame {a}: age {b} -> {c}"
                                   : "frame {a}: age {b} -> {c}, but it is mapped: it stays active",
                      pfn.v, age, page.age);
    }
    move_to(pfn, active_);
  }
  return deactivated;
}

// Ends when `count` pages became inactive or unmapped, or either shortage is over; looks at more
// pages only after a round without result.
void Linux24Policy::refill_inactive(bool user) {
  u64 count = user ? u64{1} << page_cluster_ : inactive_shortage() + free_shortage();
  const WalkScope walk(observer_->walk, "refill_inactive", "{a} pages wanted", count);
  if (count == 0) return;
  const auto took = [&count](u64 pages) {
    count = pages < count ? count - pages : 0;
    return count == 0;
  };
  u64 processes = 0;
  spaces_->for_each([&](AddressSpace&) { ++processes; });
  for (u32 priority = kPriority + 1; priority > 0;) {
    const u32 now = priority - 1;
    const u64 before = count;
    // Each success takes a page off the active list, so this ends.
    while (refill_inactive_scan(now, Scan::one) > 0) {
      if (took(1)) return;
    }
    u64 turns = (processes << kSwapShift) >> now;
    for (turns = turns > 0 ? turns : 1; turns > 0; --turns) {
      if (took(swap_out())) return;
    }
    if (inactive_shortage() == 0 || free_shortage() == 0) {
      observer_->step("inactive pages short: {a}; free pages short: {b}; that will do",
                      inactive_shortage(), free_shortage());
      return;
    }
    if (count == before) --priority;
  }
  while (refill_inactive_scan(0, Scan::one) > 0) {
    if (took(1)) return;
  }
}

void Linux24Policy::do_try_to_free_pages(bool user) {
  const WalkScope walk(observer_->walk, "do_try_to_free_pages",
                       "free pages short: {a}; inactive pages short: {b}; {c} inactive_dirty",
                       free_shortage(), inactive_shortage(), inactive_dirty_.size());
  if (free_shortage() > 0 || inactive_dirty_.size() > available()) page_launder(user);
  if (free_shortage() > 0 || inactive_shortage() > 0) {
    // shrink_dcache_memory, shrink_icache_memory, kmem_cache_reap.
    work_ += pageout_->shrinkers().shrink_share(kPriority);
    refill_inactive(user);
  }
}

// Turns until `goal` frames are free or clean. wait: writes in flight will bring them.
ReclaimOutcome Linux24Policy::balance(u64 goal) {
  const u64 start = available();
  // A turn may unmap one page, or only age some, of which none has run out yet. No program runs
  // meanwhile, so there is an end to that; but on pages that several map it takes more turns than
  // kswapd would take in vain (I36).
  const u64 turns_max = kTurnsMax + allocator_->online().v;
  for (u64 turn = 0; turn < turns_max; ++turn) {
    const u64 before = available();
    const u64 work = work_;
    do_try_to_free_pages(true);
    if (available() >= goal) return ReclaimOutcome::progress;
    if (writes_in_flight() >= goal - available()) break;
    if (available() == before && work_ == work) break;
    if (turn + 1 == turns_max) {
      observer_->count(Counter::limit_hit);
      observer_->event(EventKind::limit_hit, turns_max, goal);
    }
  }
  if (available() > start) return ReclaimOutcome::progress;
  if (pageout_->io_in_flight()) {
    observer_->step("nothing is clean yet: {a} writes are in flight", writes_in_flight());
    return ReclaimOutcome::wait;
  }
  observer_->step("nothing can be freed");
  return ReclaimOutcome::exhausted;
}

// A caller that asks for frames that are free, not just clean.
ReclaimOutcome Linux24Policy::reclaim(PageCount want) {
  if (allocator_->in_reclaim()) return ReclaimOutcome::exhausted;
  const Context context(*allocator_);
  const WalkScope walk(observer_->walk, "try_to_free_pages", "{a} frames, {b} are free", want.v,
                       allocator_->free_pages().v);
  const u64 start = allocator_->free_pages().v;
  goal_ = start + want.v;
  const ReclaimOutcome outcome = available() >= goal_ ? ReclaimOutcome::progress : balance(goal_);
  while (allocator_->free_pages().v < goal_ && !inactive_clean_.empty()) {
    const Pfn pfn = reclaim_page();
    if (!pfn.valid()) break;
    allocator_->free(pfn, 0);
  }
  goal_ = 0;
  if (allocator_->free_pages().v > start) return noted(ReclaimOutcome::progress);
  observer_->event(EventKind::reclaim_stall, want.v, 0);
  return noted(outcome == ReclaimOutcome::progress ? ReclaimOutcome::wait : outcome);
}

bool Linux24Policy::second_passed() const {
  return mm_->machine.clock.now_ns() - last_turn_ns_ >= kSecond;
}

// 1/64 of the pressure goes each second. After a minute without a turn so little is left that
// counting further is no use.
void Linux24Policy::decay_pressure() {
  const u64 now = mm_->machine.clock.now_ns();
  for (u32 i = 0; i < 60 && now - last_decay_ns_ >= kSecond; ++i) {
    memory_pressure_ -= memory_pressure_ / 64;
    last_decay_ns_ += kSecond;
  }
  if (now - last_decay_ns_ >= kSecond) last_decay_ns_ = now;
}

bool Linux24Policy::background_wanted() const {
  if (!background_) return false;
  if (kswapd_woken_) return true;
  return second_passed() && (!active_.empty() || free_shortage() > 0 || inactive_shortage() > 0);
}

bool Linux24Policy::background_step() {
  const Context context(*allocator_);
  observer_->step("{a} free, {b} inactive_clean, the high mark is {c}", allocator_->free_pages().v,
                  inactive_clean_.size(), allocator_->marks().high.v);
  last_turn_ns_ = mm_->machine.clock.now_ns();
  const u64 before = available();
  if (free_shortage() > 0) (void)allocator_->grow(PageAllocator::kGrowBatch);
  if (inactive_shortage() > 0 || free_shortage() > 0) do_try_to_free_pages(false);
  (void)refill_inactive_scan(kPriority, Scan::all);
  decay_pressure();
  turns_in_vain_ = available() > before ? 0 : turns_in_vain_ + 1;
  kswapd_woken_ = false;
  if (free_shortage() == 0 || inactive_shortage() == 0) {
    observer_->step("free pages short: {a}; inactive pages short: {b}; sleeps up to a second",
                    free_shortage(), inactive_shortage());
    turns_in_vain_ = 0;
    return false;
  }
  if (out_of_memory()) {
    observer_->step("both short, no swap left: out of memory");
    return false;
  }
  // A machine whose writes do not end, or with nothing to free, must not keep it busy for ever.
  if (turns_in_vain_ >= kTurnsMax) {
    observer_->step("both short, but the last {a} turns brought nothing: sleeps", turns_in_vain_);
    turns_in_vain_ = 0;
    return false;
  }
  observer_->step("free pages short: {a}; inactive pages short: {b}; another turn", free_shortage(),
                  inactive_shortage());
  kswapd_woken_ = true;
  return true;
}

void Linux24Policy::age() {
  const Context context(*allocator_);
  (void)refill_inactive_scan(kPriority, Scan::all);
  spaces_->for_each([&](AddressSpace& space) { (void)visit(space); });
}

}  // namespace spillway
