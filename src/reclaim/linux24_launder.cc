// From inactive_dirty to inactive_clean to free: page_launder, reclaim_page, kreclaimd (MECHANISMS
// 6.3 and 7.5).
#include "reclaim/linux24_policy.h"

namespace spillway {

// A dirty page that nobody uses: only the pass with I/O writes it.
Linux24Policy::Laundered Linux24Policy::launder_dirty(Pfn pfn, Pass pass) {
  const Page& page = (*frames_)[pfn];
  if (pass == Pass::no_io) {
    observer_->step("frame {a}: dirty, and this pass starts no I/O: later", pfn.v);
    move_to(pfn, inactive_dirty_);
    return Laundered::later;
  }
  if (page.in_swap_cache() && page.slot.area() == 0) {
    // A slot of the tiers, which have no write-back: the page goes there whole, or stays.
    switch (pageout_->run(pfn, 0)) {
      case PageOutcome::freed: ++work_; return Laundered::moved;
      case PageOutcome::started:
      case PageOutcome::moved:
      case PageOutcome::keep:
      case PageOutcome::no_space:
      case PageOutcome::wait: break;
    }
    move_to(pfn, inactive_dirty_);
    return Laundered::later;
  }
  if (page.in_swap_cache()) {
    if (!swap_->write(pfn).ok()) {
      observer_->step("frame {a}: too many writes are in flight: later", pfn.v);
      move_to(pfn, inactive_dirty_);
      return Laundered::later;
    }
    ++work_;
    move_to(pfn, inactive_dirty_);
    observer_->step("frame {a}: swap_writepage starts its write to slot {b} of area {c}", pfn.v,
                    page.slot.offset(), page.slot.area());
    return Laundered::moved;
  }
  if (page.owner == PageOwner::file && file_writes_ == 0) {
    observer_->step("frame {a}: this call has started enough file writes (MAX_LAUNDER): later",
                    pfn.v);
    move_to(pfn, inactive_dirty_);
    return Laundered::later;
  }
  const bool file = page.owner == PageOwner::file;
  switch (mm_->cache.write_page(pfn)) {
    case WriteOutcome::started:
      if (file) --file_writes_;
      ++work_;
      move_to(pfn, inactive_dirty_);
      observer_->step("frame {a}: writepage starts its write to page {b} of mapping {c}", pfn.v,
                      page.index, mapping_of(page)->id);
      return Laundered::moved;
    case WriteOutcome::moved:
      ++work_;
      observer_->step(
          "frame {a}: shared memory, now a page of the swap cache; its write comes when "
          "it is met again",
          pfn.v);
      return Laundered::moved;
    case WriteOutcome::refused:
      observer_->step("frame {a}: writepage refuses: back to the active list, dirty", pfn.v);
      move_to(pfn, active_);
      return Laundered::moved;
    case WriteOutcome::wait: break;
  }
  observer_->step("frame {a}: too many writes are in flight: later", pfn.v);
  move_to(pfn, inactive_dirty_);
  return Laundered::later;
}

// The page at the tail of inactive_dirty; it is elsewhere afterwards.
Linux24Policy::Laundered Linux24Policy::launder_page(Pfn pfn, Pass pass) {
  Page& page = (*frames_)[pfn];
  observer_->count(Counter::pgscan);
  if (page.test_and_clear(PageFlag::referenced) || page.age > 0 || page.count() > 1) {
    observer_->step("frame {a}: in use (age {b}, count {c}): to the active list", pfn.v, page.age,
                    page.count());
    move_to(pfn, active_);
    observer_->count(Counter::pgactivate);
    return Laundered::moved;
  }
  if (page.has(PageFlag::writeback)) {
    observer_->step("frame {a}: locked, its write is in flight: later", pfn.v);
    move_to(pfn, inactive_dirty_);
    return Laundered::later;
  }
  if (page.has(PageFlag::dirty)) return launder_dirty(pfn, pass);
  move_to(pfn, inactive_clean_);
  ++work_;
  observer_->step(page.in_swap_cache()
                      ? "frame {a}: clean, its slot has the same: to inactive_clean"
                      : "frame {a}: clean, its file has the same: to "
                        "inactive_clean",
                  pfn.v);
  return Laundered::cleaned;
}

u64 Linux24Policy::launder_pass(Pass pass) {
  u64 cleaned = 0;
  // The length now: pages that are put back, or come in meanwhile, wait for the next pass.
  for (u64 left = inactive_dirty_.size(); left > 0 && !inactive_dirty_.empty(); --left) {
    if (launder_page(inactive_dirty_.tail(), pass) == Laundered::cleaned) ++cleaned;
  }
  return cleaned;
}

u64 Linux24Policy::page_launder(bool sync) {
  const WalkScope walk(observer_->walk, "page_launder",
                       "{a} pages on inactive_dirty, {b} on inactive_clean, {c} free",
                       inactive_dirty_.size(), inactive_clean_.size(), allocator_->free_pages().v);
  u64 cleaned = launder_pass(Pass::no_io);
  const u64 shortage = free_shortage();
  observer_->step(shortage > 0 ? "pass 0, without I/O: {a} cleaned, {b} still short"
                               : "pass 0, without I/O: {a} cleaned, that is enough",
                  cleaned, shortage);
  if (shortage == 0) return cleaned;
  if (cleaned > 0) sync = false;
  file_writes_ = 4U << page_cluster_;
  const u64 more = launder_pass(Pass::io);
  cleaned += more;
  observer_->step("pass 1, with I/O: {a} cleaned, {b} writes in flight", more, writes_in_flight());
  if (sync && cleaned == 0 && writes_in_flight() > 0) {
    observer_->step("nothing is clean yet: whoever needs a frame waits for these writes");
  }
  return cleaned;
}

// The frame leaves its cache and is the caller's, isolated.
void Linux24Policy::take_from_cache(Pfn pfn) {
  Page& page = (*frames_)[pfn];
  if (page.in_page_cache()) {
    mm_->cache.remove(pfn);
    return;
  }
  page_removed(pfn);
  swap_->delete_from_cache(pfn);
  page.owner = PageOwner::none;
  page.private_data = 0;
  page.flags = 0;
  frames_->transition(pfn, PageState::unmapped, PageState::isolated);
}

Pfn Linux24Policy::reclaim_page() {
  const WalkScope walk(observer_->walk, "reclaim_page", "{a} pages on inactive_clean",
                       inactive_clean_.size());
  ++memory_pressure_;
  for (u64 left = inactive_clean_.size(); left > 0; --left) {
    const Pfn pfn = inactive_clean_.tail();
    Page& page = (*frames_)[pfn];
    if (page.test_and_clear(PageFlag::referenced) || page.age > 0 || page.count() > 1) {
      observer_->step("frame {a}: in use again (age {b}, count {c}): to the active list", pfn.v,
                      page.age, page.count());
      move_to(pfn, active_);
      observer_->count(Counter::pgactivate);
      continue;
    }
    if (page.has(PageFlag::dirty) || page.has(PageFlag::writeback)) {
      observer_->step("frame {a}: dirty or locked: to inactive_dirty", pfn.v);
      move_to(pfn, inactive_dirty_);
      continue;
    }
    if (Mapping* mapping = mapping_of(page);
        mapping != nullptr && !mapping->backing->release_page(*mapping, pfn)) {
      observer_->step("try_to_free_buffers: frame {a} has blocks in use: to the active list",
                      pfn.v);
      move_to(pfn, active_);
      continue;
    }
    const SlotId slot = page.slot;
    observer_->step(slot.valid()
                        ? "frame {a} leaves the swap cache, only slot {b} of area {c} has it now"
                        : "frame {a} leaves the page cache",
                    pfn.v, slot.offset(), slot.area());
    take_from_cache(pfn);
    page.age = kAgeStart;
    observer_->count(Counter::pgsteal);
    observer_->event(EventKind::reclaim_evict, pfn.v, slot.v);
    return pfn;
  }
  observer_->step("no page of the list can be taken");
  return kNoPfn;
}

bool Linux24Policy::reclaimd_wanted() const {
  return kreclaimd_woken_ && !inactive_clean_.empty() && allocator_->below_low();
}

bool Linux24Policy::reclaimd_step() {
  const WalkScope walk(observer_->walk, "kreclaimd", "{a} free, {b} inactive_clean",
                       allocator_->free_pages().v, inactive_clean_.size());
  kreclaimd_woken_ = false;
  while (allocator_->below_low() && !inactive_clean_.empty()) {
    const Pfn pfn = reclaim_page();
    if (!pfn.valid()) break;
    allocator_->free(pfn, 0);
  }
  observer_->step("{a} frames are free", allocator_->free_pages().v);
  return false;
}

}  // namespace spillway
