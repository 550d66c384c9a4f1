#include "reclaim/three_queue.h"

namespace spillway {
namespace {

// The share of U is judged after so many evictions, or an eighth of the resident pages if that
// is more: often enough to follow a program's phases, rarely enough to have counts that mean
// something.
constexpr u64 kEpochMin = 1024;
// Below this many soft faults per hundred evictions U costs next to nothing and stays as it is.
constexpr u64 kHitsPercentMin = 5;

}  // namespace

void ThreeQueue::init(FrameTable& frames, const Observer& observer) {
  frames_ = &frames;
  observer_ = &observer;
  probation_.init(frames, PageQueue::probation);
  main_.init(frames, PageQueue::main);
  young_.init(frames, PageQueue::unmapped_young);
  old_.init(frames, PageQueue::unmapped_old);
  locked_.init(frames, PageQueue::locked);
}

LruList& ThreeQueue::list_of(PageQueue queue) {
  switch (queue) {
    case PageQueue::probation: return probation_;
    case PageQueue::main: return main_;
    case PageQueue::unmapped_young: return young_;
    case PageQueue::unmapped_old: return old_;
    case PageQueue::locked: return locked_;
    case PageQueue::none: break;
  }
  SPW_PANIC("page is on no queue");
}

void ThreeQueue::add(Pfn pfn, Arrival arrival, u32 shadow) {
  bool hot = false;
  if (arrival != Arrival::fresh && shadow != 0) {
    const u32 distance = evictions_ - shadow;
    observer_->count(Counter::workingset_refault);
    observer_->event(EventKind::reclaim_refault, pfn.v, distance);
    // A page that streams through was asked for by nobody in particular: only a page that was
    // itself touched has shown that it is wanted again.
    hot = arrival == Arrival::refault && distance <= main_.size();
    if (hot) observer_->count(Counter::workingset_activate);
  }
  (hot ? main_ : probation_).push_head(pfn);
}

void ThreeQueue::balance_unmapped() {
  while (young_.size() > old_.size() + 1) {
    const Pfn pfn = young_.tail();
    young_.remove(pfn);
    old_.push_head(pfn);
  }
}

void ThreeQueue::add_unmapped(Pfn pfn) {
  young_.push_head(pfn);
  balance_unmapped();
}

void ThreeQueue::add_cold(Pfn pfn) { old_.push_tail(pfn); }

void ThreeQueue::touched(Pfn pfn) {
  const PageQueue queue = (*frames_)[pfn].queue;
  if (queue == PageQueue::unmapped_young) ++young_hits_;
  if (queue == PageQueue::unmapped_old) ++old_hits_;
  rotate(pfn);
}

void ThreeQueue::rotate(Pfn pfn) {
  remove(pfn);
  main_.push_head(pfn);
}

void ThreeQueue::lock(Pfn pfn) {
  if ((*frames_)[pfn].queue == PageQueue::locked) return;
  remove(pfn);
  locked_.push_head(pfn);
}

void ThreeQueue::unlock(Pfn pfn) {
  if ((*frames_)[pfn].queue != PageQueue::locked) return;
  rotate(pfn);
}

void ThreeQueue::remove(Pfn pfn) { list_of((*frames_)[pfn].queue).remove(pfn); }

Pfn ThreeQueue::next_to_unmap() const {
  const u64 share = resident() * kProbationPercent / 100;
  if (!probation_.empty() && (probation_.size() > share || main_.empty())) {
    return probation_.tail();
  }
  return main_.tail();
}

Pfn ThreeQueue::next_to_evict() const { return old_.empty() ? young_.tail() : old_.tail(); }

u32 ThreeQueue::note_evicted() {
  ++evictions_;
  if (evictions_ == 0) evictions_ = 1;  // 0 means "no shadow"
  const u64 epoch = resident() / 8 > kEpochMin ? resident() / 8 : kEpochMin;
  if (++epoch_evictions_ >= epoch) adapt();
  return evictions_;
}

void ThreeQueue::adapt() {
  const u64 hits = young_hits_ + old_hits_;
  if (hits * 100 >= epoch_evictions_ * kHitsPercentMin) {
    // Half as many hits again in the young half: time since unmapping tells hot from cold.
    if (young_hits_ * 2 > old_hits_ * 3) {
      unmapped_percent_ += unmapped_percent_ / 4 + 1;
    } else {
      unmapped_percent_ -= unmapped_percent_ / 4;
    }
    if (unmapped_percent_ > kUnmappedPercentMax) unmapped_percent_ = kUnmappedPercentMax;
    if (unmapped_percent_ < kUnmappedPercentMin) unmapped_percent_ = kUnmappedPercentMin;
  }
  epoch_evictions_ = young_hits_ = old_hits_ = 0;
}

bool ThreeQueue::validate() const {
  return probation_.validate() && main_.validate() && young_.validate() && old_.validate() &&
         locked_.validate();
}

}  // namespace spillway
