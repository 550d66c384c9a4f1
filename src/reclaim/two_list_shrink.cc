// What scans the two lists: kswapd, direct reclaim, and what they share (Linux's mm/vmscan.c).
#include "reclaim/two_list.h"

namespace spillway {
namespace {

// File pages are hardly any below this part of all. Linux compares files and free frames with the
// high mark, a hundredth of a large machine; on one of a few hundred frames that is a third.
constexpr u64 kTinyPart = 64;

const char* kind(bool file) { return file ? "file" : "anon"; }

u64 int_sqrt(u64 x) {
  u64 root = 0;
  while ((root + 1) * (root + 1) <= x) ++root;
  return root;
}

}  // namespace

// The inactive list is to be as long as the active one; less of it is enough on large machines,
// where even a small share gives a page time to be touched again: 1 GB 3:1, 10 GB 10:1.
bool TwoListPolicy::inactive_is_low(bool file) const {
  const u64 inactive = list(file, false).size();
  const u64 active = list(file, true).size();
  const u64 gigabytes = (inactive + active) >> (30 - kPageShift);
  const u64 ratio = gigabytes > 0 ? int_sqrt(10 * gigabytes) : 1;
  return inactive * ratio < active;
}

// What is on its way counts, or one run would start the write of every dirty page there is.
bool TwoListPolicy::enough(const Scan& scan) const {
  return allocator_->free_pages().v + scan.started >= scan.start_free + scan.goal;
}

void TwoListPolicy::prepare(Scan& scan) const {
  for (u32 file = 0; file < 2; ++file) {
    // Refaults into the active list mean that a new working set is forming: what is stale there
    // has to go.
    scan.deactivate[file] =
        scan.force_deactivate || activated_[file] != seen_[file] || inactive_is_low(file != 0);
  }
  const u64 inactive_file = list(true, false).size();
  scan.trim_cache = (inactive_file >> scan.priority) > 0 && !scan.deactivate[1];
}

// Whether anonymous pages can go anywhere. The last round asks swap page by page: it may be full
// for one and take the next, which has its slot already, or is of one value (I36).
bool TwoListPolicy::can_reclaim_anon(const Scan& scan) const {
  if (swap_->has_tiers() || swap_->areas().free_pages().v > 0) return true;
  return scan.priority == 0 && (swap_->cached_pages().v > 0 || !swap_->has_plain());
}

void TwoListPolicy::get_scan_count(const Scan& scan, u64* nr) const {
  u64 fraction[2] = {1, 1};
  u64 denominator = 1;
  const u64 files = list(true, false).size() + list(true, true).size();
  const char* why = "both, by swappiness and cost";
  if (!can_reclaim_anon(scan)) {
    fraction[0] = 0;
    why = "files only: no swap is free";
  } else if (scan.priority == 0) {
    why = "both alike: the last round";
  } else if (files == 0 || (files <= evictable() / kTinyPart && !scan.deactivate[0] &&
                            (list(false, false).size() >> scan.priority) > 0)) {
    fraction[1] = 0;
    why = "anonymous pages only: hardly any file pages are left";
  } else if (scan.trim_cache) {
    fraction[0] = 0;
    why = "files only: the inactive file list is large";
  } else {
    const u64 total = cost_[0] + cost_[1] + 1;
    // The cheaper side is scanned more, but neither ever alone.
    fraction[0] = kSwappiness * total / (cost_[0] + total / 3 + 1);
    fraction[1] = (200 - kSwappiness) * total / (cost_[1] + total / 3 + 1);
    denominator = fraction[0] + fraction[1];
    if (denominator == 0) fraction[0] = fraction[1] = denominator = 1;
  }
  for (u32 i = 0; i < 4; ++i) {
    nr[i] = (lists_[i].size() >> scan.priority) * fraction[i / 2] / denominator;
  }
  observer_->step(why);
}

ReclaimOutcome TwoListPolicy::run(u64 want) {
  swap_->set_pool_share(allocator_->online(), frames_->count());
  Scan scan;
  scan.start_free = allocator_->free_pages().v;
  // A batch at least, so that the next allocations find some; on small machines a part of one, or
  // every run would empty an eighth of memory.
  const u64 part = evictable() / 8 + 1;
  const u64 batch = part < kBatch ? part : kBatch;
  scan.goal = want > batch ? want : batch;
  // One pass over what is inactive, as a rule. If all of it was in use: a second look, and active
  // pages are deactivated whatever their number. Those are looked at by the third (I36).
  bool vain = true;
  for (u32 pass = 0; pass < 3 && vain && !scan.waits; ++pass) {
    scan.force_deactivate = pass > 0;
    for (u32 file = 0; file < 2; ++file) scan.unseen[file] = list(file != 0, false).size();
    for (u32 round = 0; round <= kPriority && !enough(scan) && !scan.waits; ++round) {
      scan.priority = kPriority - round;
      prepare(scan);
      shrink_node(scan);
      (void)pageout_->shrinkers().shrink(scan.priority);
    }
    vain = allocator_->free_pages().v <= scan.start_free && scan.started == 0;
  }
  seen_[0] = activated_[0];
  seen_[1] = activated_[1];
  const u64 free = allocator_->free_pages().v;
  if (free > scan.start_free) return ReclaimOutcome::progress;
  observer_->event(EventKind::reclaim_stall, want, 0);
  if (scan.started > 0 || scan.waits) return ReclaimOutcome::wait;
  // Nothing to evict: perhaps the pool holds frames that can go to disk.
  const ReclaimOutcome outcome = swap_->make_space();
  if (outcome == ReclaimOutcome::exhausted && pageout_->io_in_flight()) return ReclaimOutcome::wait;
  return outcome;
}

void TwoListPolicy::shrink_node(Scan& scan) {
  const WalkScope walk(observer_->walk, "shrink_node", "priority {a}, {b} frames wanted",
                       scan.priority, scan.goal);
  u64 nr[4];
  get_scan_count(scan, nr);
  // The active anonymous list alone is no reason to go on: it is only shortened, never freed from.
  while (nr[0] + nr[2] + nr[3] > 0 && !enough(scan) && !scan.waits) {
    for (u32 i = 0; i < 4; ++i) {
      if (nr[i] == 0) continue;
      const u64 pages = nr[i] < kBatch ? nr[i] : kBatch;
      nr[i] -= pages;
      shrink_list(scan, i >= 2, i % 2 == 1, pages);
      if (scan.waits) break;
    }
  }
  // Anonymous pages age even when nothing of them was taken, or none could become inactive.
  if (can_reclaim_anon(scan) && inactive_is_low(false)) shrink_active_list(false, kBatch);
}

void TwoListPolicy::shrink_list(Scan& scan, bool file, bool active, u64 pages) {
  if (!active) {
    shrink_inactive_list(scan, file, pages);
  } else if (scan.deactivate[file ? 1 : 0]) {
    shrink_active_list(file, pages);
  }
}

void TwoListPolicy::shrink_active_list(bool file, u64 pages) {
  LruList& active = list(file, true);
  if (pages > active.size()) pages = active.size();
  if (pages == 0) return;
  const WalkScope walk(observer_->walk, "shrink_active_list", "{a} of {b} pages, {c:s}", pages,
                       active.size(), walk_string(kind(file)));
  u64 rotated = 0;
  for (u64 i = 0; i < pages; ++i) {
    const Pfn pfn = active.tail();
    active.remove(pfn);
    const PageReferences refs = spaces_->look_at_references(pfn);
    if (refs.young > 0 && refs.executable && file) {
      active.push_head(pfn);
      ++rotated;
      observer_->step("frame {a}: a program's page in use, it stays active", pfn.v);
      continue;
    }
    (*frames_)[pfn].set(PageFlag::workingset);
    list(file, false).push_head(pfn);
  }
  observer_->count(Counter::pgdeactivate, pages - rotated);
  if (rotated > 0) note_cost(file, 0, rotated);
  observer_->step("{a} deactivated, {b} stay", pages - rotated, rotated);
}

// folio_check_references. A page starts with an accessed bit from the fault that brought it, so one
// access only spares it for a round: the second one activates.
TwoListPolicy::References TwoListPolicy::check_references(Pfn pfn) {
  Page& page = (*frames_)[pfn];
  const PageReferences refs = spaces_->look_at_references(pfn);
  if (refs.locked) return References::activate;
  const bool referenced = page.test_and_clear(PageFlag::referenced);
  if (refs.young > 0) {
    page.set(PageFlag::referenced);
    if (referenced || refs.young > 1) return References::activate;
    if (refs.executable && is_file(pfn)) return References::activate;
    return References::keep;
  }
  return referenced && is_file(pfn) ? References::reclaim_clean : References::reclaim;
}

void TwoListPolicy::shrink_inactive_list(Scan& scan, bool file, u64 pages) {
  LruList& inactive = list(file, false);
  if (pages > inactive.size()) pages = inactive.size();
  if (pages == 0 || scan.unseen[file ? 1 : 0] == 0) return;
  const WalkScope walk(observer_->walk, "shrink_inactive_list", "{a} of {b} pages, {c:s}", pages,
                       inactive.size(), walk_string(kind(file)));
  u64 gone = 0;
  u64 started = 0;
  u64 looked_at = 0;
  u64& unseen = scan.unseen[file ? 1 : 0];
  for (; looked_at < pages && unseen > 0 && !scan.waits && !enough(scan); ++looked_at) {
    --unseen;
    const Pfn pfn = inactive.tail();
    observer_->count(Counter::pgscan);
    switch (launder(scan, pfn)) {
      case Laundered::gone: ++gone; continue;
      case Laundered::started:
        ++started;
        ++scan.started;
        break;
      case Laundered::kept: break;
      case Laundered::failed: break;
    }
    // Round to the head, unless it became active.
    if ((*frames_)[pfn].queue == inactive.queue()) {
      inactive.remove(pfn);
      inactive.push_head(pfn);
    }
  }
  note_cost(file, started, looked_at - gone - started);
  observer_->step("{a} freed, {b} writes started, {c} stay", gone, started,
                  looked_at - gone - started);
}

// shrink_folio_list for one page.
TwoListPolicy::Laundered TwoListPolicy::launder(Scan& scan, Pfn pfn) {
  Page& page = (*frames_)[pfn];
  if (page.has(PageFlag::writeback)) {
    observer_->step("frame {a} is under write-back: it stays", pfn.v);
    return Laundered::kept;
  }
  switch (check_references(pfn)) {
    case References::activate:
      observer_->step("folio_check_references: frame {a} is in use: activated", pfn.v);
      activate(pfn);
      return Laundered::kept;
    case References::keep:
      observer_->step("folio_check_references: frame {a} was touched once: another round", pfn.v);
      return Laundered::kept;
    case References::reclaim_clean:
      if (!page.has(PageFlag::dirty)) break;
      observer_->step("frame {a} was used by read or write and is dirty: another round", pfn.v);
      if (scan.priority > 0) return Laundered::kept;
      break;
    case References::reclaim: break;
  }
  PageOutcome outcome = pageout_->run(pfn, next_shadow(pfn));
  // A page of shared memory is one of the swap cache now, announced anew: its write is next.
  if (outcome == PageOutcome::moved) outcome = pageout_->run(pfn, next_shadow(pfn));
  switch (outcome) {
    case PageOutcome::freed:
      age_nonresident();
      observer_->step("__remove_mapping: frame {a} is free", pfn.v);
      return Laundered::gone;
    case PageOutcome::started:
      page.set(PageFlag::reclaim);
      observer_->step("pageout: the write of frame {a} is started, it is freed when that ends",
                      pfn.v);
      return Laundered::started;
    case PageOutcome::moved:
    case PageOutcome::keep: observer_->step("frame {a} cannot go now", pfn.v); break;
    case PageOutcome::no_space:
      observer_->step("add_to_swap: no room for frame {a}: activated", pfn.v);
      activate(pfn);
      break;
    case PageOutcome::wait: scan.waits = true; break;
  }
  return Laundered::failed;
}

ReclaimOutcome TwoListPolicy::reclaim(PageCount want) {
  if (allocator_->in_reclaim()) return ReclaimOutcome::exhausted;
  const WalkScope walk(observer_->walk, "try_to_free_pages", "{a} frames", want.v);
  allocator_->enter_reclaim();
  const ReclaimOutcome outcome = run(want.v);
  allocator_->leave_reclaim();
  return outcome;
}

ReclaimOutcome TwoListPolicy::page_out(Pfn pfn) {
  const Page& page = (*frames_)[pfn];
  if (allocator_->in_reclaim() || page.queue == PageQueue::locked) return ReclaimOutcome::exhausted;
  Scan scan;
  allocator_->enter_reclaim();
  (void)spaces_->test_and_clear_young(pfn);
  (*frames_)[pfn].clear(PageFlag::referenced);
  const Laundered laundered = launder(scan, pfn);
  allocator_->leave_reclaim();
  if (laundered == Laundered::gone) return ReclaimOutcome::progress;
  return scan.waits ? ReclaimOutcome::wait : ReclaimOutcome::exhausted;
}

bool TwoListPolicy::background_wanted() const {
  if (!background_ || (evictable() <= kKeepResident && pageout_->shrinkers().count() == 0)) {
    return false;
  }
  return allocator_->below_low() || (kswapd_awake_ && allocator_->below_high());
}

// kswapd sleeps above the high mark and is woken below the low one.
bool TwoListPolicy::background_step() {
  const WalkScope walk(observer_->walk, "kswapd", "{a} free, marks {b} {c}",
                       allocator_->free_pages().v, allocator_->marks().low.v,
                       allocator_->marks().high.v);
  kswapd_awake_ = true;
  const u64 high = allocator_->marks().high.v;
  const u64 free = allocator_->free_pages().v;
  if (high > free && allocator_->grow(static_cast<u32>(high - free)) > 0) return true;
  ReclaimOutcome outcome = ReclaimOutcome::exhausted;
  const u64 spare = evictable() > kKeepResident ? evictable() - kKeepResident : 0;
  const bool shrinkable = pageout_->shrinkers().count() > 0;
  if (allocator_->below_high() && (spare > 0 || shrinkable) && !allocator_->in_reclaim()) {
    const WalkScope balance(observer_->walk, "balance_pgdat", "{a} frames below the high mark",
                            high - free);
    u64 want = high - free < kBatch ? high - free : kBatch;
    if (want > spare && !shrinkable) want = spare;
    allocator_->enter_reclaim();
    outcome = run(want);
    allocator_->leave_reclaim();
  }
  if (!allocator_->below_high()) {
    observer_->step("the high mark is reached: it sleeps");
    kswapd_awake_ = false;
    return false;
  }
  switch (outcome) {
    case ReclaimOutcome::progress: return true;
    case ReclaimOutcome::wait: observer_->step("it waits for the writes in flight"); break;
    case ReclaimOutcome::exhausted:
      observer_->step("nothing more can go now: it sleeps");
      kswapd_awake_ = false;
      break;
  }
  return false;
}

// What kswapd does even without shortage (kswapd_age_node): lists that grew lopsided are levelled,
// so that accessed bits stay recent.
void TwoListPolicy::age() {
  for (u32 file = 0; file < 2; ++file) {
    if (inactive_is_low(file != 0)) shrink_active_list(file != 0, kBatch);
  }
}

}  // namespace spillway
