// The part of PageCache that knows about dirtiness, write-back and consistency.
#include "pagecache/page_cache.h"

namespace spillway {

void PageCache::link_dirty(Mapping& mapping) {
  mapping.dirtied_ns = clock_->now_ns();
  mapping.dirty_prev = dirty_tail_;
  mapping.dirty_next = nullptr;
  (dirty_tail_ != nullptr ? dirty_tail_->dirty_next : dirty_head_) = &mapping;
  dirty_tail_ = &mapping;
  ++dirty_mappings_;
}

void PageCache::unlink_dirty(Mapping& mapping) {
  Mapping* const prev = mapping.dirty_prev;
  Mapping* const next = mapping.dirty_next;
  (prev != nullptr ? prev->dirty_next : dirty_head_) = next;
  (next != nullptr ? next->dirty_prev : dirty_tail_) = prev;
  mapping.dirty_prev = mapping.dirty_next = nullptr;
  --dirty_mappings_;
}

void PageCache::set_dirty(Pfn pfn) {
  Page& page = page_of(pfn);
  Mapping& mapping = *mapping_of(page);
  SPW_ASSERT(page.has(PageFlag::uptodate));
  if (page.has(PageFlag::dirty)) return;
  page.set(PageFlag::dirty);
  mapping.tree.set_tag(page.index, Mapping::kTagDirty);
  ++mapping.nr_dirty;
  if (mapping.owner != PageOwner::shmem) ++dirty_;
  if (!goes_to_disk(mapping)) return;
  ++file_dirty_;
  observer_->count(Counter::nr_dirtied);
  if (mapping.nr_dirty == 1 && !mapping.own_flushing) link_dirty(mapping);
}

void PageCache::clear_dirty(Pfn pfn) {
  Page& page = page_of(pfn);
  Mapping& mapping = *mapping_of(page);
  if (!page.test_and_clear(PageFlag::dirty)) return;
  mapping.tree.clear_tag(page.index, Mapping::kTagDirty);
  if (syncing(mapping)) mapping.tree.clear_tag(page.index, Mapping::kTagToWrite);
  --mapping.nr_dirty;
  if (mapping.owner != PageOwner::shmem) --dirty_;
  if (!goes_to_disk(mapping)) return;
  --file_dirty_;
  if (mapping.nr_dirty == 0 && !mapping.own_flushing) unlink_dirty(mapping);
}

u32 PageCache::flush(u32 max, u64 dirtied_until) {
  const bool all = dirtied_until == ~u64{0};
  u32 started = 0;
  for (u64 left = dirty_mappings_; left > 0 && started < max; --left) {
    if (dirty_head_ == nullptr || dirty_head_->dirtied_ns > dirtied_until) break;
    Mapping& mapping = *dirty_head_;
    u32 index = 0;
    u64 value = 0;
    while (started < max && mapping.tree.next_tagged(&index, ~u32{0}, Mapping::kTagDirty, &value)) {
      const Pfn pfn = CacheEntry::from_bits(value).pfn();
      const Page& page = page_of(pfn);
      if (!page.has(PageFlag::writeback) && !(all && page.has(PageFlag::error))) {
        const WriteOutcome outcome = write_page(pfn);
        if (outcome == WriteOutcome::wait) return started;
        if (outcome == WriteOutcome::started) ++started;
      }
      if (++index == 0) break;
    }
    if (started == max || mapping.nr_dirty == 0) continue;
    // Pages that are being written, or that their backing refuses: later.
    unlink_dirty(mapping);
    link_dirty(mapping);
  }
  return started;
}

WriteOutcome PageCache::write_page(Pfn pfn) {
  Page& page = page_of(pfn);
  Mapping& mapping = *mapping_of(page);
  SPW_ASSERT(page.has(PageFlag::dirty));
  SPW_ASSERT(!page.has(PageFlag::writeback));
  const u32 index = page.index;
  const bool marked = syncing(mapping) && mapping.tree.tagged(index, Mapping::kTagToWrite);
  WriteOutcome outcome = WriteOutcome::refused;
  {
    const PageAllocator::NoFs no_fs(*allocator_);
    outcome = mapping.backing->write_page(mapping, pfn);
  }
  switch (outcome) {
    case WriteOutcome::started:
      observer_->event(EventKind::pagecache_write, index, pfn.v);
      clear_dirty(pfn);
      page.set(PageFlag::writeback);
      mapping.tree.set_tag(index, Mapping::kTagWriteback);
      if (marked) mapping.tree.set_tag(index, Mapping::kTagAwaited);
      ++mapping.nr_writeback;
      ++writeback_;
      break;
    case WriteOutcome::moved: SPW_ASSERT(mapping_of(page) != &mapping); break;
    case WriteOutcome::refused:
    case WriteOutcome::wait: break;
  }
  return outcome;
}

void PageCache::write_done(Pfn pfn, Status status) {
  Page& page = page_of(pfn);
  Mapping& mapping = *mapping_of(page);
  const bool was = page.test_and_clear(PageFlag::writeback);
  SPW_ASSERT(was);
  mapping.tree.clear_tag(page.index, Mapping::kTagWriteback);
  const bool awaited = syncing(mapping) && mapping.tree.tagged(page.index, Mapping::kTagAwaited);
  if (awaited) mapping.tree.clear_tag(page.index, Mapping::kTagAwaited);
  --mapping.nr_writeback;
  --writeback_;
  if (status.ok()) {
    page.clear(PageFlag::error);
    if (mapping.owner == PageOwner::file) observer_->count(Counter::nr_written);
  } else {
    observer_->event(EventKind::pagecache_io_error, page.index, static_cast<u64>(status.error()));
    page.set(PageFlag::error);
    if (awaited) mapping.syncs.failed(status.error());
    if (status.error() == Error::no_space) {
      mapping.space_failed = true;
    } else {
      mapping.io_failed = true;
    }
    set_dirty(pfn);
  }
  reclaimer_->page_written(pfn, status);
}

// Marks what is dirty or being written in [first, last] for the present round.
void PageCache::mark_for_sync(Mapping& mapping, u32 first, u32 last) {
  u32 index = first;
  for (u64 value = 0; mapping.tree.next_tagged(&index, last, Mapping::kTagDirty, &value); ++index) {
    const Page& page = page_of(CacheEntry::from_bits(value).pfn());
    // A page whose write failed is not tried again before the failure has been told.
    if (page.has(PageFlag::error) && (mapping.io_failed || mapping.space_failed)) {
      mapping.syncs.failed(mapping.io_failed ? Error::io : Error::no_space);
    } else {
      mapping.tree.set_tag(index, Mapping::kTagToWrite);
    }
    if (index == last) break;
  }
  index = first;
  for (u64 value = 0; mapping.tree.next_tagged(&index, last, Mapping::kTagWriteback, &value);
       ++index) {
    mapping.tree.set_tag(index, Mapping::kTagAwaited);
    if (index == last) break;
  }
}

// Starts what the round still has to start; false when the round has ended.
bool PageCache::push_sync(Mapping& mapping) {
  u32 index = 0;
  for (u64 value = 0; mapping.tree.next_tagged(&index, ~u32{0}, Mapping::kTagToWrite, &value);
       ++index) {
    const Pfn pfn = CacheEntry::from_bits(value).pfn();
    if (!page_of(pfn).has(PageFlag::writeback)) {
      const WriteOutcome outcome = write_page(pfn);
      if (outcome == WriteOutcome::wait) return true;
      if (outcome == WriteOutcome::refused) {
        mapping.tree.clear_tag(index, Mapping::kTagToWrite);
        mapping.syncs.failed(Error::again);
      }
    }
    if (index == ~u32{0}) break;
  }
  return syncing(mapping);
}

Status PageCache::sync(Mapping& mapping, u32 first, u32 last, SyncTicket& ticket) {
  if (mapping.owner == PageOwner::shmem || mapping.no_writeback) return kOk;
  const WalkScope walk(observer_->walk, "filemap_fdatasync", "pages {a} to {b}, {c} dirty", first,
                       last, mapping.nr_dirty);
  const bool going = push_sync(mapping);
  switch (mapping.syncs.turn(ticket, mapping.id, going)) {
    case SyncRounds::Turn::waits: return Error::wait;
    case SyncRounds::Turn::enters:
      if (!going) mapping.syncs.begin();
      mapping.syncs.enter(ticket);
      mark_for_sync(mapping, first, last);
      if (push_sync(mapping)) return Error::wait;
      break;
    case SyncRounds::Turn::over: break;
  }
  Status status = mapping.syncs.outcome(ticket);
  ticket = SyncTicket{};
  if (mapping.io_failed || mapping.space_failed) {
    status = mapping.io_failed ? Error::io : Error::no_space;
    mapping.io_failed = mapping.space_failed = false;
  }
  return status;
}

bool PageCache::page_valid(const Mapping& mapping, u32 index, Pfn pfn) const {
  if (pfn.v >= frames_->count().v) return false;
  const Page& page = page_of(pfn);
  const bool resident = page.state == PageState::unmapped || page.state == PageState::mapped;
  if (!resident && page.state != PageState::reading) return false;
  if (page.owner != mapping.owner || mapping_of(page) != &mapping || page.index != index) {
    return false;
  }
  if ((page.state == PageState::mapped) != (page.mapcount != 0)) return false;
  if (page.in_swap_cache()) return false;
  const bool uptodate = page.has(PageFlag::uptodate);
  if (page.has(PageFlag::dirty) && !uptodate) return false;
  if (page.has(PageFlag::writeback) && !uptodate) return false;
  // What is not read yet has no contents; what could not be read is neither.
  if (uptodate == (page.state == PageState::reading)) {
    if (page.state != PageState::unmapped || !page.has(PageFlag::error)) return false;
  }
  const RadixTree& tree = mapping.tree;
  if (tree.tagged(index, Mapping::kTagToWrite) && !page.has(PageFlag::dirty)) return false;
  if (tree.tagged(index, Mapping::kTagAwaited) && !page.has(PageFlag::writeback)) return false;
  return tree.tagged(index, Mapping::kTagDirty) == page.has(PageFlag::dirty) &&
         tree.tagged(index, Mapping::kTagWriteback) == page.has(PageFlag::writeback);
}

bool PageCache::validate(const Mapping& mapping) const {
  if (!mapping.tree.validate()) return false;
  u64 nr_pages = 0;
  u64 nr_dirty = 0;
  u64 nr_writeback = 0;
  u64 nr_swapped = 0;
  u32 index = 0;
  for (u64 value = 0; mapping.tree.next(&index, ~u32{0}, &value); ++index) {
    const CacheEntry entry = CacheEntry::from_bits(value);
    if (entry.is(CacheEntry::Kind::none)) return false;
    if (entry.is(CacheEntry::Kind::swap)) ++nr_swapped;
    if (entry.is(CacheEntry::Kind::page)) {
      if (!page_valid(mapping, index, entry.pfn())) return false;
      const Page& page = page_of(entry.pfn());
      ++nr_pages;
      nr_dirty += page.has(PageFlag::dirty) ? 1 : 0;
      nr_writeback += page.has(PageFlag::writeback) ? 1 : 0;
    } else {
      for (u32 tag = 0; tag < RadixTree::kTags; ++tag) {
        if (mapping.tree.tagged(index, tag)) return false;
      }
    }
    if (index == ~u32{0}) break;
  }
  const bool listed = mapping.dirty_prev != nullptr || dirty_head_ == &mapping;
  const bool to_list = nr_dirty != 0 && goes_to_disk(mapping) && !mapping.own_flushing;
  if (listed != to_list) return false;
  return nr_pages == mapping.nr_pages && nr_dirty == mapping.nr_dirty &&
         nr_writeback == mapping.nr_writeback && nr_swapped == mapping.nr_swapped &&
         nr_pages <= pages_ && (mapping.owner == PageOwner::shmem || nr_dirty <= dirty_) &&
         nr_writeback <= writeback_;
}

}  // namespace spillway
