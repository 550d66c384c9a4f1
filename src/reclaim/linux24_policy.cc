// Ageing and the lists (Linux 2.4's swap.c), and what the rooms below tell the policy.
#include "reclaim/linux24_policy.h"

namespace spillway {

Watermarks Linux24Policy::marks_for(PageCount frames) {
  u64 min = frames.v / 128;
  if (min < 10) min = 10;
  if (min > 255) min = 255;
  return {PageCount(min), PageCount(2 * min), PageCount(3 * min)};
}

void Linux24Policy::init(PageOut& pageout, bool background, u32 page_cluster) {
  pageout_ = &pageout;
  mm_ = &pageout.mm();
  frames_ = &mm_->frames;
  allocator_ = &mm_->allocator;
  swap_ = &mm_->swap;
  spaces_ = mm_->spaces;
  observer_ = &mm_->observer;
  background_ = background;
  page_cluster_ = page_cluster;
  active_.init(*frames_, PageQueue::active);
  inactive_dirty_.init(*frames_, PageQueue::inactive_dirty);
  inactive_clean_.init(*frames_, PageQueue::inactive_clean);
  locked_.init(*frames_, PageQueue::locked);
  last_turn_ns_ = last_decay_ns_ = mm_->machine.clock.now_ns();
  SPW_ASSERT(supported(mm_->machine.features));
  allocator_->let_reclaimer_decide();
}

LruList* Linux24Policy::find_list(PageQueue queue) {
  return const_cast<LruList*>(static_cast<const Linux24Policy*>(this)->find_list(queue));
}

const LruList* Linux24Policy::find_list(PageQueue queue) const {
  switch (queue) {
    case PageQueue::active: return &active_;
    case PageQueue::inactive_dirty: return &inactive_dirty_;
    case PageQueue::inactive_clean: return &inactive_clean_;
    case PageQueue::locked: return &locked_;
    case PageQueue::none:
    case PageQueue::probation:
    case PageQueue::main:
    case PageQueue::unmapped:
    case PageQueue::active_anon:
    case PageQueue::inactive_anon:
    case PageQueue::active_file:
    case PageQueue::inactive_file: break;
  }
  return nullptr;
}

u64 Linux24Policy::queue_size(PageQueue queue) const {
  const LruList* list = find_list(queue);
  return list == nullptr ? 0 : list->size();
}

Pfn Linux24Policy::queue_head(PageQueue queue) const {
  const LruList* list = find_list(queue);
  return list == nullptr ? kNoPfn : list->head();
}

// The page goes to the head of a list, from another one or from its own tail.
void Linux24Policy::move_to(Pfn pfn, LruList& list) {
  find_list((*frames_)[pfn].queue)->remove(pfn);
  list.push_head(pfn);
}

void Linux24Policy::activate_page(Pfn pfn) {
  Page& page = (*frames_)[pfn];
  if (page.queue == PageQueue::inactive_dirty || page.queue == PageQueue::inactive_clean) {
    move_to(pfn, active_);
    observer_->count(Counter::pgactivate);
    ++work_;
  }
  // A fair chance of staying, also for a page that is on no list.
  if (page.age < kAgeStart) page.age = kAgeStart;
}

void Linux24Policy::age_page_up(Pfn pfn) {
  Page& page = (*frames_)[pfn];
  page.clear(PageFlag::reclaim);
  if (page.age == 0) activate_page(pfn);
  const u32 age = page.age + kAgeAdvance;
  page.age = static_cast<u8>(age < kAgeMax ? age : kAgeMax);
}

void Linux24Policy::age_page_down_ageonly(Pfn pfn) {
  Page& page = (*frames_)[pfn];
  if (page.age > 0) ++work_;
  page.age = static_cast<u8>(page.age / 2);
}

// Leaves the active list only if nobody but its cache holds it. (Linux compares its count with 2,
// because the caller has a reference of his own; Page::count() has none of that kind.)
void Linux24Policy::deactivate_page(Pfn pfn) {
  Page& page = (*frames_)[pfn];
  page.age = 0;
  page.clear(PageFlag::referenced);
  if (page.queue != PageQueue::active || page.count() > 1) return;
  move_to(pfn, inactive_dirty_);
  observer_->count(Counter::pgdeactivate);
  ++work_;
}

// A page that is in a cache now. A page that was just swapped out has age 0 and becomes inactive.
void Linux24Policy::lru_cache_add(Pfn pfn) {
  const Page& page = (*frames_)[pfn];
  SPW_ASSERT(must_be_queued(page));
  if (page.mapcount > 0 && spaces_->locked_by_area(pfn)) {
    locked_.push_head(pfn);
    return;
  }
  active_.push_head(pfn);
  if (page.age == 0) deactivate_page(pfn);
}

// Mapped from the start. A page that came through a cache was found by a lookup, which counts as a
// use.
void Linux24Policy::page_added(Pfn pfn, Arrival, u32) {
  const Page& page = (*frames_)[pfn];
  if (!must_be_queued(page)) return;
  if (page.queue == PageQueue::none) lru_cache_add(pfn);
  age_page_up(pfn);
}

// In a cache; or, read back for its only entry, in none.
void Linux24Policy::page_added_unmapped(Pfn pfn) {
  if (must_be_queued((*frames_)[pfn])) lru_cache_add(pfn);
}

// The age stays: a page of shared memory keeps it when it moves to the swap cache.
void Linux24Policy::page_removed(Pfn pfn) {
  LruList* list = find_list((*frames_)[pfn].queue);
  if (list != nullptr) list->remove(pfn);
}

void Linux24Policy::page_locked(Pfn pfn) {
  const Page& page = (*frames_)[pfn];
  if (page.queue == PageQueue::locked || page.queue == PageQueue::none) return;
  move_to(pfn, locked_);
}

void Linux24Policy::page_unlocked(Pfn pfn) {
  if ((*frames_)[pfn].queue == PageQueue::locked) move_to(pfn, active_);
}

void Linux24Policy::page_written(Pfn pfn, Status status) {
  Page& page = (*frames_)[pfn];
  if (page.test_and_clear(PageFlag::free_after_io) && page.mapcount == 0 && page.in_swap_cache() &&
      !swap_->shared(pfn)) {
    release_user_page(*mm_, pfn);
    return;
  }
  const bool evict = page.test_and_clear(PageFlag::reclaim);
  if (!status.ok()) {
    activate_page(pfn);  // not again at once: other pages first
  } else if (evict && pageout_->free_clean(pfn, 0)) {
    return;
  }
  // Clean now, it waits on its list for page_launder.
  if (free_shortage() > 0) kswapd_woken_ = true;
}

void Linux24Policy::page_cold(Pfn pfn) {
  (void)spaces_->test_and_clear_young(pfn);
  deactivate_page(pfn);
}

ReclaimOutcome Linux24Policy::page_out(Pfn pfn) {
  if (allocator_->in_reclaim()) return ReclaimOutcome::exhausted;
  const Context context(*allocator_);
  page_cold(pfn);
  PageOutcome outcome = pageout_->run(pfn, 0);
  // Shared memory, now a page of the swap cache: its write is the next step.
  if (outcome == PageOutcome::moved) outcome = pageout_->run(pfn, 0);
  switch (outcome) {
    case PageOutcome::freed: return ReclaimOutcome::progress;
    case PageOutcome::started: (*frames_)[pfn].set(PageFlag::reclaim); break;
    case PageOutcome::moved:
    case PageOutcome::keep:
    case PageOutcome::no_space: break;
    case PageOutcome::wait: return ReclaimOutcome::wait;
  }
  deactivate_page(pfn);
  return ReclaimOutcome::exhausted;
}

void Linux24Policy::frames_taken(Pfn first, u32 count) {
  for (u32 i = 0; i < count; ++i) (*frames_)[first + i].age = kAgeStart;
  memory_pressure_ += count;
}

void Linux24Policy::frames_freed(u32 count) {
  for (u32 i = 0; i < count && memory_pressure_ > mm_->machine.cpus.count(); ++i) {
    --memory_pressure_;
  }
}

// I3 and I7, and that inactive pages have no age.
bool Linux24Policy::validate() const {
  const LruList* const lists[] = {&active_, &inactive_dirty_, &inactive_clean_, &locked_};
  for (const LruList* list : lists) {
    if (!list->validate()) return false;
    for (Pfn pfn = list->head(); pfn.valid(); pfn = Pfn((*frames_)[pfn].next)) {
      const Page& page = (*frames_)[pfn];
      if (!must_be_queued(page)) return false;
      const bool inactive = list == &inactive_dirty_ || list == &inactive_clean_;
      if (inactive && page.age != 0) return false;
      if (list == &inactive_clean_ &&
          (page.count() != 1 || page.has(PageFlag::dirty) || page.has(PageFlag::writeback))) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace spillway
