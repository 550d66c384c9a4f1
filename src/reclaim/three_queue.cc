#include "reclaim/three_queue.h"

#include "base/prng.h"

namespace spillway {
namespace {

// The share of U is judged after so many evictions, or an eighth of the resident pages if that
// is more: often enough to follow a program's phases, rarely enough to have counts that mean
// something.
constexpr u64 kEpochMin = 1024;
// Soft faults per hundred evictions: above the first U shrinks, below the second it grows. At 15
// they take a tenth of the time that faults take at most.
constexpr u64 kSoftPercentMax = 15;
constexpr u64 kSoftPercentMin = 5;

// Pages of a loop are kept or not in clusters, so that what is read ahead stays in long runs.
constexpr u32 kKeptClusterShift = 5;
constexpr u32 kKeptParts = 16;
constexpr u32 kKeptMax = 12;

}  // namespace

void ThreeQueue::init(FrameTable& frames, const Observer& observer) {
  frames_ = &frames;
  observer_ = &observer;
  probation_.init(frames, PageQueue::probation);
  main_.init(frames, PageQueue::main);
  unmapped_.init(frames, PageQueue::unmapped);
  locked_.init(frames, PageQueue::locked);
}

const LruList* ThreeQueue::find_list(PageQueue queue) const {
  switch (queue) {
    case PageQueue::probation: return &probation_;
    case PageQueue::main: return &main_;
    case PageQueue::unmapped: return &unmapped_;
    case PageQueue::locked: return &locked_;
    default: return nullptr;
  }
}

LruList& ThreeQueue::list_of(PageQueue queue) {
  const LruList* list = find_list(queue);
  if (list == nullptr) SPW_PANIC("page is on none of the three queues");
  return *const_cast<LruList*>(list);
}

void ThreeQueue::add(Pfn pfn, Arrival arrival, u32 shadow) {
  bool hot = false;
  if (arrival != Arrival::fresh && shadow != 0) {
    // A page that streams through was asked for by nobody in particular: only a page that was
    // itself touched has shown that it is wanted again.
    const bool near = is_near(pfn, shadow);
    hot = near ? arrival == Arrival::refault : is_kept(pfn);
    if (hot) observer_->count(Counter::workingset_activate);
  }
  (hot ? main_ : probation_).push_head(pfn);
}

bool ThreeQueue::is_near(Pfn pfn, u32 shadow) {
  const u32 distance = evictions_ - shadow;
  observer_->count(Counter::workingset_refault);
  observer_->event(EventKind::reclaim_refault, pfn.v, distance);
  const bool near = distance <= main_.size();
  if (!near) ++far_refaults_;
  return near;
}

bool ThreeQueue::note_refault(Pfn pfn, u32 shadow) {
  const bool hot = is_near(pfn, shadow) || is_kept(pfn);
  if (hot) observer_->count(Counter::workingset_activate);
  return hot;
}

void ThreeQueue::used_first(Pfn pfn) {
  remove(pfn);
  probation_.push_head(pfn);
}

bool ThreeQueue::is_kept(Pfn pfn) const {
  const Page& page = (*frames_)[pfn];
  // By place; pages that several map, or that a file has, by their number in it.
  const bool shared = (page.rmap & Page::kRmapChain) != 0 || page.in_page_cache();
  const u64 cluster = (shared ? page.index : page.rmap) >> kKeptClusterShift;
  return mix64(cluster) % kKeptParts < kept_share_;
}

void ThreeQueue::add_unmapped(Pfn pfn) { unmapped_.push_head(pfn); }

void ThreeQueue::add_cold(Pfn pfn) { unmapped_.push_tail(pfn); }

void ThreeQueue::touched(Pfn pfn) {
  ++soft_hits_;
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

Pfn ThreeQueue::next_to_unmap() {
  const u64 share = resident() * kProbationPercent / 100;
  if (!probation_.empty() && (probation_.size() > share || main_.empty())) {
    return probation_.tail();
  }
  ++main_unmaps_;
  return main_.tail();
}

Pfn ThreeQueue::next_to_evict() const { return unmapped_.tail(); }

u32 ThreeQueue::note_evicted() {
  ++evictions_;
  if (evictions_ == 0) evictions_ = 1;  // 0 means "no shadow"
  const u64 epoch = resident() / 8 > kEpochMin ? resident() / 8 : kEpochMin;
  if (++epoch_evictions_ >= epoch) adapt();
  return evictions_;
}

void ThreeQueue::adapt() {
  adapt_unmapped();
  adapt_kept();
  epoch_evictions_ = soft_hits_ = far_refaults_ = main_unmaps_ = 0;
}

void ThreeQueue::adapt_kept() {
  // Two thirds of what is evicted comes back, too late to have been worth keeping by itself: a
  // loop. M has room as long as S holds clearly more than its share.
  const bool loop = far_refaults_ * 3 > epoch_evictions_ * 2;
  const bool room = probation_.size() * 100 > resident() * (kProbationPercent + 10);
  if (loop && room && kept_share_ < kKeptMax) ++kept_share_;
  // M is turning over: more is kept than fits, or the program has gone on to something else.
  if (main_unmaps_ * 4 > epoch_evictions_ && kept_share_ > 0) --kept_share_;
}

void ThreeQueue::adapt_unmapped() {
  if (soft_hits_ * 100 > epoch_evictions_ * kSoftPercentMax) {
    const u32 step = unmapped_percent_ / 3 + 1;
    const bool above = unmapped_percent_ > kUnmappedPercentMin + step;
    unmapped_percent_ = above ? unmapped_percent_ - step : kUnmappedPercentMin;
  } else if (soft_hits_ * 100 < epoch_evictions_ * kSoftPercentMin) {
    if (unmapped_percent_ < kUnmappedPercentMax) ++unmapped_percent_;
  }
}

bool ThreeQueue::validate() const {
  return probation_.validate() && main_.validate() && unmapped_.validate() && locked_.validate();
}

}  // namespace spillway
