// __alloc_pages: where a frame comes from, and what is done to get one (MECHANISMS 6.2).
#include "reclaim/linux24_policy.h"

namespace spillway {

void Linux24Policy::wake_kswapd(const char* why) {
  if (!kswapd_woken_) observer_->step(why, free_shortage(), inactive_shortage());
  kswapd_woken_ = true;
}

// A block from the free lists, never so that less than a quarter of the min mark stays free without
// memalloc (I37). 2.4 looks at what is free before the block is taken, and lets callers without
// reclaim empty the zone as long as enough pages are inactive_clean.
Pfn Linux24Policy::take_free(u32 order, bool memalloc) {
  const u64 needed = allocator_->marks().min.v / 4 + (u64{1} << order);
  if (!memalloc && allocator_->free_pages().v < needed) return kNoPfn;
  return allocator_->rmqueue(order);
}

// A frame while the marks permit it. Near the min mark callers that may reclaim take a clean old
// page first, so that the free ones are left for those who cannot.
Pfn Linux24Policy::take_frame(u32 order, bool direct, bool memalloc) {
  if (direct && allocator_->free_pages().v < allocator_->marks().min.v + 8) {
    const Pfn pfn = reclaim_page();
    if (pfn.valid()) {
      observer_->step("few frames are free: frame {a} comes from inactive_clean directly", pfn.v);
      return pfn;
    }
  }
  return take_free(order, memalloc);
}

// Attempts 1 to 5.
Pfn Linux24Policy::try_marks(u32 order, bool direct, bool memalloc) {
  const Watermarks marks = allocator_->marks();
  const u64 free = allocator_->free_pages().v;
  if (free >= marks.low.v) {
    const Pfn pfn = take_free(order, memalloc);
    if (pfn.valid()) {
      observer_->step("plenty: {a} free, at least the low mark {b}", free, marks.low.v);
      return pfn;
    }
  } else if (free < marks.min.v && !kreclaimd_woken_) {
    observer_->step("{a} free, below the min mark {b}: kreclaimd is woken", free, marks.min.v);
    kreclaimd_woken_ = true;
  }
  if (available() > marks.high.v || available() > marks.low.v) {
    const Pfn pfn = take_frame(order, direct, memalloc);
    if (pfn.valid()) {
      observer_->step(available() > marks.high.v
                          ? "free and inactive_clean together, {a}, are above the high mark {b}"
                          : "free and inactive_clean together, {a}, are above the low mark {c}",
                      available(), marks.high.v, marks.low.v);
      return pfn;
    }
  }
  wake_kswapd("below the low mark: kswapd is woken; free pages short: {a}, inactive pages: {b}");
  if (available() > marks.min.v) {
    const Pfn pfn = take_frame(order, direct, memalloc);
    if (pfn.valid()) {
      observer_->step("free and inactive_clean together, {a}, are above the min mark {b}",
                      available(), marks.min.v);
      return pfn;
    }
  }
  return kNoPfn;
}

// Several frames in a row: clean pages are freed one by one, in the hope that neighbours merge.
Pfn Linux24Policy::free_until_merged(u32 order) {
  const Context context(*allocator_);
  page_launder(true);
  const u64 clean = inactive_clean_.size();
  for (u64 freed = 0; freed < clean; ++freed) {
    const Pfn pfn = reclaim_page();
    if (!pfn.valid()) break;
    allocator_->free(pfn, 0);
    const Pfn block = take_free(order, false);
    if (block.valid()) {
      observer_->step("a block of order {a} has come together after {b} frames", order, freed + 1);
      return block;
    }
  }
  observer_->step("{a} clean pages were freed, no block of order {b} has come together", clean,
                  order);
  return kNoPfn;
}

// In the caller's own context; what Linux leaves to kswapd while the caller sleeps.
ReclaimOutcome Linux24Policy::try_to_free_pages() {
  const Context context(*allocator_);
  const WalkScope walk(observer_->walk, "try_to_free_pages", "{a} free, {b} inactive_clean",
                       allocator_->free_pages().v, inactive_clean_.size());
  observer_->count(Counter::allocstall);
  const u64 enough = allocator_->marks().min.v + 1;
  const u64 more = available() + 1;
  const ReclaimOutcome outcome = balance(enough > more ? enough : more);
  if (outcome != ReclaimOutcome::progress) observer_->event(EventKind::reclaim_stall, 1, 0);
  return noted(outcome);
}

Result<Pfn> Linux24Policy::alloc_pages(u32 order, AllocFlags flags) {
  const WalkScope walk(observer_->walk, "__alloc_pages", "order {a}: {b} free, {c} inactive_clean",
                       order, allocator_->free_pages().v, inactive_clean_.size());
  const bool memalloc = flags.memalloc || allocator_->in_reclaim();
  const bool waits = flags.may_reclaim && !memalloc;
  const bool direct = waits && order == 0;
  ++memory_pressure_;
  if (!flags.atomic && allocator_->below_low()) (void)allocator_->grow(PageAllocator::kGrowBatch);
  if (inactive_shortage() > inactive_target() / 2 && free_shortage() > 0) {
    wake_kswapd("kswapd is woken; free pages short: {a}, inactive pages short: {b}");
  }
  Pfn pfn = kNoPfn;
  for (u32 attempt = 0; attempt < kAttemptsMax; ++attempt) {
    pfn = try_marks(order, direct, memalloc);
    if (pfn.valid() || !waits) break;
    if (order > 0 && attempt == 0) {
      pfn = free_until_merged(order);
      if (pfn.valid()) break;
    }
    ++memory_pressure_;
    const ReclaimOutcome outcome = try_to_free_pages();
    if (outcome == ReclaimOutcome::wait) {
      observer_->step("no frame now: wait for an I/O");
      return Error::wait;
    }
    if (outcome == ReclaimOutcome::exhausted && order == 0) {
      observer_->step("{a}-order allocation failed", order);
      return Error::no_memory;
    }
    if (order > 0) break;
  }
  if (!pfn.valid()) pfn = take_frame(order, direct, memalloc);
  if (!pfn.valid()) {
    observer_->step("{a}-order allocation failed, {b} frames are free", order,
                    allocator_->free_pages().v);
    return Error::no_memory;
  }
  for (u32 i = 0; i < (1U << order); ++i) (*frames_)[pfn + i].age = kAgeStart;
  return pfn;
}

}  // namespace spillway
