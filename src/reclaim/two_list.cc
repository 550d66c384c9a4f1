// The lists, what moves pages between them, and refault distance. What scans them is in
// two_list_shrink.cc.
#include "reclaim/two_list.h"

namespace spillway {

void TwoListPolicy::init(PageOut& pageout, bool background) {
  pageout_ = &pageout;
  MmContext& mm = pageout.mm();
  frames_ = &mm.frames;
  allocator_ = &mm.allocator;
  swap_ = &mm.swap;
  spaces_ = mm.spaces;
  observer_ = &mm.observer;
  background_ = background;
  accessed_bit_ = mm.machine.features.accessed_bit;
  list(false, false).init(mm.frames, PageQueue::inactive_anon);
  list(false, true).init(mm.frames, PageQueue::active_anon);
  list(true, false).init(mm.frames, PageQueue::inactive_file);
  list(true, true).init(mm.frames, PageQueue::active_file);
  locked_.init(mm.frames, PageQueue::locked);
}

const LruList* TwoListPolicy::find_list(PageQueue queue) const {
  switch (queue) {
    case PageQueue::inactive_anon: return &list(false, false);
    case PageQueue::active_anon: return &list(false, true);
    case PageQueue::inactive_file: return &list(true, false);
    case PageQueue::active_file: return &list(true, true);
    case PageQueue::locked: return &locked_;
    default: return nullptr;
  }
}

u64 TwoListPolicy::queue_size(PageQueue queue) const {
  const LruList* found = find_list(queue);
  return found == nullptr ? 0 : found->size();
}

Pfn TwoListPolicy::queue_head(PageQueue queue) const {
  const LruList* found = find_list(queue);
  return found == nullptr ? kNoPfn : found->head();
}

u64 TwoListPolicy::dirtyable_pages() const {
  return dirtyable(pageout_->mm(),
                   queue_size(PageQueue::active_file) + queue_size(PageQueue::inactive_file));
}

bool TwoListPolicy::validate() const {
  for (const LruList& l : lists_) {
    if (!l.validate()) return false;
    // A list holds pages of its own kind only.
    const bool file = l.queue() == PageQueue::inactive_file || l.queue() == PageQueue::active_file;
    for (u32 at = l.head().v; at != Pfn::kNone; at = (*frames_)[Pfn(at)].next) {
      if (is_file(Pfn(at)) != file) return false;
    }
  }
  return locked_.validate();
}

bool TwoListPolicy::is_active(Pfn pfn) const {
  const PageQueue queue = (*frames_)[pfn].queue;
  return queue == PageQueue::active_anon || queue == PageQueue::active_file;
}

void TwoListPolicy::take_off(Pfn pfn) {
  const LruList* from = find_list((*frames_)[pfn].queue);
  SPW_ASSERT(from != nullptr);
  const_cast<LruList*>(from)->remove(pfn);
}

void TwoListPolicy::put(Pfn pfn, bool active) { list(is_file(pfn), active).push_head(pfn); }

void TwoListPolicy::activate(Pfn pfn) {
  if (is_active(pfn) || (*frames_)[pfn].queue == PageQueue::locked) return;
  take_off(pfn);
  put(pfn, true);
  age_nonresident();
}

// Linux's folio_mark_accessed: the second reference activates.
void TwoListPolicy::mark_accessed(Pfn pfn) {
  Page& page = (*frames_)[pfn];
  if (page.queue == PageQueue::none || page.queue == PageQueue::locked) return;
  page.clear(PageFlag::reclaim);
  if (!is_active(pfn) && page.test_and_clear(PageFlag::referenced)) {
    activate(pfn);
  } else {
    page.set(PageFlag::referenced);
  }
}

void TwoListPolicy::age_nonresident() {
  ++age_;
  if ((age_ & kAgeMask) == 0) ++age_;  // a shadow is never 0
}

u32 TwoListPolicy::next_shadow(Pfn pfn) const {
  return (age_ << 1) | ((*frames_)[pfn].has(PageFlag::workingset) ? 1U : 0U);
}

// How many pages a page that comes back could displace: all the others of the working set.
u64 TwoListPolicy::workingset_size(bool file) const {
  u64 size = list(true, true).size();
  if (!file) size += list(true, false).size();
  if (swap_->has_tiers() || swap_->areas().free_pages().v > 0) {
    size += list(false, true).size();
    if (file) size += list(false, false).size();
  }
  return size;
}

void TwoListPolicy::workingset_refault(Pfn pfn, u32 shadow) {
  const bool file = is_file(pfn);
  const u32 distance = (age_ - (shadow >> 1)) & kAgeMask;
  const u64 size = workingset_size(file);
  observer_->count(Counter::workingset_refault);
  observer_->event(EventKind::reclaim_refault, pfn.v, distance);
  if (distance > size) {
    observer_->step("workingset_refault: distance {a}, working set {b}: it starts inactive",
                    distance, size);
    return;
  }
  observer_->step("workingset_refault: distance {a}, working set {b}: it is activated", distance,
                  size);
  activate(pfn);
  ++activated_[file ? 1 : 0];
  observer_->count(Counter::workingset_activate);
  if ((shadow & 1) == 0) return;
  // It was active before: taking it was a mistake, and has cost a transfer.
  (*frames_)[pfn].set(PageFlag::workingset);
  observer_->count(Counter::workingset_restore);
  note_cost(file, 1, 0);
}

// Half of it is forgotten whenever a quarter of all pages has been paid for, so that what counts is
// the recent past.
void TwoListPolicy::note_cost(bool file, u64 transfers, u64 rotated) {
  cost_[file ? 1 : 0] += transfers * kBatch + rotated;
  if (cost_[0] + cost_[1] <= evictable() / 4) return;
  cost_[0] /= 2;
  cost_[1] /= 2;
}

void TwoListPolicy::page_added(Pfn pfn, Arrival arrival, u32 shadow) {
  put(pfn, false);
  // A page that streams by beside another was asked for by nobody in particular.
  if (shadow != 0 && arrival == Arrival::refault) workingset_refault(pfn, shadow);
}

void TwoListPolicy::page_added_unmapped(Pfn pfn) { put(pfn, false); }

void TwoListPolicy::page_refaulted(Pfn pfn, u32 shadow) { workingset_refault(pfn, shadow); }

// The entry that the fault makes says by itself that the page was used, where there are accessed
// bits: the access that brings a page in must not count twice.
void TwoListPolicy::page_mapped(Pfn pfn) {
  (*frames_)[pfn].clear(PageFlag::reclaim);
  if (!accessed_bit_) mark_accessed(pfn);
}

void TwoListPolicy::page_touched(Pfn pfn) { mark_accessed(pfn); }

void TwoListPolicy::page_unmapped(Pfn) {}  // it stays where it is, and ages as a cached page

void TwoListPolicy::page_removed(Pfn pfn) {
  Page& page = (*frames_)[pfn];
  page.clear(PageFlag::referenced);
  page.clear(PageFlag::workingset);
  page.clear(PageFlag::reclaim);
  if (page.queue != PageQueue::none) take_off(pfn);
}

void TwoListPolicy::page_locked(Pfn pfn) {
  if ((*frames_)[pfn].queue == PageQueue::locked) return;
  take_off(pfn);
  locked_.push_head(pfn);
}

void TwoListPolicy::page_unlocked(Pfn pfn) {
  if ((*frames_)[pfn].queue != PageQueue::locked) return;
  take_off(pfn);
  put(pfn, false);
}

void TwoListPolicy::page_written(Pfn pfn, Status status) {
  Page& page = (*frames_)[pfn];
  const bool leaving = page.test_and_clear(PageFlag::reclaim);
  if (page.test_and_clear(PageFlag::free_after_io) && page.mapcount == 0 && page.in_swap_cache() &&
      !swap_->shared(pfn)) {
    release_user_page(pageout_->mm(), pfn);
    return;
  }
  // It was written in order to leave, and nobody has asked for it since.
  if (!leaving || !status.ok() || page.queue == PageQueue::locked) return;
  if (pageout_->free_clean(pfn, next_shadow(pfn))) age_nonresident();
}

// MADV_COLD. Where pages are unmapped to take their rights away (mprotect on machines without
// shared frames), this is the call that does it.
void TwoListPolicy::page_cold(Pfn pfn) {
  Page& page = (*frames_)[pfn];
  if (page.queue == PageQueue::none || page.queue == PageQueue::locked) return;
  if (!pageout_->mm().machine.features.shared_frames) {
    bool unmapped = false;
    if (page.state == PageState::mapped) spaces_->unmap_pages(&pfn, 1, &unmapped);
  }
  (void)spaces_->test_and_clear_young(pfn);
  page.clear(PageFlag::referenced);
  take_off(pfn);
  list(is_file(pfn), false).push_tail(pfn);
}

}  // namespace spillway
