#include "pagecache/page_cache.h"

#include <algorithm>

namespace spillway {

void PageCache::init(SlabChain& slabs, PageAllocator& allocator, FrameTable& frames,
                     const Observer& observer, Clock& clock) {
  slabs_ = &slabs;
  allocator_ = &allocator;
  frames_ = &frames;
  observer_ = &observer;
  clock_ = &clock;
  const Status status =
      nodes_.init(slabs, KmemCacheConfig::core("radix_tree_node", RadixTree::node_bytes()));
  SPW_ASSERT(status.ok());
}

void PageCache::adopt(Mapping& mapping) {
  SPW_ASSERT(mapping.empty() && mapping.tree.empty());
  mapping.id = next_id_++;
  ++mappings_;
}

void PageCache::forget(Mapping& mapping) {
  SPW_ASSERT(mapping.empty());
  SPW_ASSERT(mapping.areas == nullptr);
  // Shadows of pages that were evicted may still be there.
  u64 value = 0;
  for (u32 index = 0; mapping.tree.next(&index, ~u32{0}, &value);) {
    mapping.tree.erase(nodes_, index);
  }
  SPW_ASSERT_EQ(mapping.nr_dirty, 0u);
  mapping.id = 0;
  --mappings_;
}

Result<Pfn> PageCache::lookup(Mapping& mapping, u32 index) {
  const Pfn pfn = find(mapping, index).pfn();
  if (!pfn.valid()) return Error::no_entry;
  const Page& page = page_of(pfn);
  if (page.state == PageState::reading) return Error::wait;
  if (page.has(PageFlag::uptodate)) return pfn;
  SPW_ASSERT(page.has(PageFlag::error));
  free_page(pfn);
  return Error::io;
}

// Puts an isolated frame at `index`. Returns the shadow that was there.
Result<u32> PageCache::enter(Mapping& mapping, u32 index, Pfn pfn, PageState state,
                             AllocFlags flags) {
  const CacheEntry old = find(mapping, index);
  SPW_ASSERT(!old.is(CacheEntry::Kind::page));
  SPW_TRY(mapping.tree.store(nodes_, index, CacheEntry::page(pfn).bits(), flags));
  if (old.is(CacheEntry::Kind::swap)) --mapping.nr_swapped;
  Page& page = page_of(pfn);
  SPW_ASSERT_EQ(page.mapcount, 0u);
  page.owner = mapping.owner;
  page.private_data = reinterpret_cast<u64>(&mapping);
  page.index = index;
  page.flags = 0;
  if (state == PageState::reading) {
    ++reading_;
  } else {
    page.set(PageFlag::uptodate);
  }
  frames_->transition(pfn, PageState::isolated, state);
  ++mapping.nr_pages;
  ++pages_;
  if (mapping.owner == PageOwner::shmem) ++shmem_pages_;
  return old.shadow_value();
}

// Takes a page out, which is isolated then, and leaves `left` at its index. Never fails: the node
// is there already.
void PageCache::leave(Pfn pfn, PageState state, CacheEntry left) {
  Page& page = page_of(pfn);
  Mapping& mapping = *mapping_of(page);
  SPW_ASSERT(!page.has(PageFlag::writeback));
  SPW_ASSERT_EQ(page.pins, 0u);
  SPW_ASSERT_EQ(page.mapcount, 0u);
  clear_dirty(pfn);
  const Status status = mapping.tree.store(nodes_, page.index, left.bits(), AllocFlags{});
  SPW_ASSERT(status.ok());
  if (left.is(CacheEntry::Kind::swap)) ++mapping.nr_swapped;
  --mapping.nr_pages;
  --pages_;
  if (mapping.owner == PageOwner::shmem) --shmem_pages_;
  page.owner = PageOwner::none;
  page.private_data = 0;
  page.index = 0;
  page.flags = 0;
  frames_->transition(pfn, state, PageState::isolated);
}

void PageCache::announce(Pfn pfn, u32 shadow) {
  reclaimer_->page_added_unmapped(pfn);
  if (shadow != 0) reclaimer_->page_refaulted(pfn, shadow);
}

Result<Pfn> PageCache::add_new(Mapping& mapping, u32 index, bool zero, AllocFlags flags) {
  SPW_ASSERT(absent(mapping, index));
  AllocFlags frame_flags = flags;
  frame_flags.zero = zero;
  SPW_TRY_ASSIGN(pfn, allocator_->alloc(0, frame_flags));
  const Result<u32> shadow = enter(mapping, index, pfn, PageState::unmapped, flags);
  if (!shadow.ok()) {
    allocator_->free(pfn, 0);
    return shadow.error();
  }
  announce(pfn, shadow.value());
  return pfn;
}

Status PageCache::add_frame(Mapping& mapping, u32 index, Pfn pfn, AllocFlags flags) {
  SPW_TRY_ASSIGN(shadow, enter(mapping, index, pfn, PageState::unmapped, flags));
  announce(pfn, shadow);
  return kOk;
}

// A frame in state reading at `index`. While it is read the page is on no list, so its link holds
// the shadow that it will be announced with.
Status PageCache::enter_for_read(Mapping& mapping, u32 index, AllocFlags flags, Pfn* pfn) {
  SPW_TRY_ASSIGN(frame, allocator_->alloc(0, flags));
  const Result<u32> shadow = enter(mapping, index, frame, PageState::reading, flags);
  if (!shadow.ok()) {
    allocator_->free(frame, 0);
    return shadow.error();
  }
  page_of(frame).next = shadow.value();
  *pfn = frame;
  return kOk;
}

// Takes a page in state reading away again, leaving what was at its index before.
void PageCache::drop_unread(Pfn pfn) {
  Page& page = page_of(pfn);
  const u32 shadow = page.next;
  page.next = Pfn::kNone;
  --reading_;
  leave(pfn, PageState::reading, shadow != 0 ? CacheEntry::shadow(shadow) : CacheEntry{});
  allocator_->free(pfn, 0);
}

Status PageCache::start_read(Mapping& mapping, u32 first, u32 count, u32 wanted, AllocFlags flags) {
  SPW_ASSERT(count >= 1 && count <= kReadMax);
  // Pages beyond have no number (Mapping::size_bytes is what the backing says).
  const u64 size = std::min(mapping.size_pages(), u64{kNobodyWants});
  const u64 stop = first + u64{count} < size ? first + u64{count} : size;  // the end, not read
  const u32 start = wanted == kNobodyWants ? first : wanted;
  SPW_ASSERT(start >= first && start < first + u64{count});
  if (start >= size) return Error::invalid;
  if (!absent(mapping, start)) {
    SPW_ASSERT(wanted == kNobodyWants || find(mapping, start).is(CacheEntry::Kind::page));
    return kOk;
  }
  // In the middle of an array, because the run grows at both ends.
  Pfn pfns[2 * kReadMax];
  u32 low = kReadMax;
  u32 high = low + 1;
  SPW_TRY(enter_for_read(mapping, start, flags, &pfns[low]));
  if (wanted != kNobodyWants) page_of(pfns[low]).set(PageFlag::referenced);
  // Nothing below reclaims, so what is absent stays absent.
  u64 end = u64{start} + 1;
  while (end < stop && absent(mapping, static_cast<u32>(end)) &&
         enter_for_read(mapping, static_cast<u32>(end), AllocFlags{}, &pfns[high]).ok()) {
    ++high;
    ++end;
  }
  u32 begin = start;
  while (begin > first && absent(mapping, begin - 1) &&
         enter_for_read(mapping, begin - 1, AllocFlags{}, &pfns[low - 1]).ok()) {
    --low;
    --begin;
  }
  observer_->event(EventKind::pagecache_read, begin, high - low);
  Status status = kOk;
  {
    const PageAllocator::NoFs no_fs(*allocator_);
    status = mapping.backing->read_pages(mapping, begin, pfns + low, high - low);
  }
  if (!status.ok()) {
    while (low < high) drop_unread(pfns[low++]);
  }
  return status;
}

void PageCache::read_done(Pfn pfn, Status status) {
  Page& page = page_of(pfn);
  SPW_ASSERT(page.state == PageState::reading && mapping_of(page) != nullptr);
  const bool wanted = page.test_and_clear(PageFlag::referenced);
  if (!status.ok()) {
    observer_->event(EventKind::pagecache_io_error, page.index, static_cast<u64>(status.error()));
    if (!wanted) {
      drop_unread(pfn);
      return;
    }
    page.set(PageFlag::error);
  } else {
    page.set(PageFlag::uptodate);
  }
  const u32 shadow = page.next;
  page.next = Pfn::kNone;
  --reading_;
  frames_->transition(pfn, PageState::reading, PageState::unmapped);
  announce(pfn, shadow);
}

void PageCache::remove(Pfn pfn, u32 shadow) {
  reclaimer_->page_removed(pfn);
  leave(pfn, PageState::unmapped, shadow != 0 ? CacheEntry::shadow(shadow) : CacheEntry{});
}

void PageCache::replace_by_slot(Pfn pfn, SlotId slot) {
  SPW_ASSERT(slot.valid());
  reclaimer_->page_removed(pfn);
  leave(pfn, PageState::unmapped, CacheEntry::swap(slot));
}

SlotId PageCache::take_slot(Mapping& mapping, u32 index) {
  const SlotId slot = find(mapping, index).slot();
  SPW_ASSERT(slot.valid());
  mapping.tree.erase(nodes_, index);
  --mapping.nr_swapped;
  return slot;
}

void PageCache::free_page(Pfn pfn, u32 shadow) {
  SPW_ASSERT(!page_of(pfn).has(PageFlag::dirty));
  remove(pfn, shadow);
  allocator_->free(pfn, 0);
}

bool PageCache::busy(const Mapping& mapping, u32 first) const {
  u32 index = first;
  for (u64 value = 0; mapping.tree.next(&index, ~u32{0}, &value); ++index) {
    const Pfn pfn = CacheEntry::from_bits(value).pfn();
    if (pfn.valid() && page_busy(pfn)) return true;
    if (index == ~u32{0}) return false;
  }
  return false;
}

Status PageCache::truncate(Mapping& mapping, u32 first, void (*freed_slot)(void*, SlotId),
                           void* context) {
  const WalkScope walk(observer_->walk, "truncate_inode_pages", "from page {a}", first);
  bool waits = false;
  u32 index = first;
  for (u64 value = 0; mapping.tree.next(&index, ~u32{0}, &value); ++index) {
    const CacheEntry entry = CacheEntry::from_bits(value);
    switch (entry.kind()) {
      case CacheEntry::Kind::none: SPW_PANIC("an entry that holds nothing");
      case CacheEntry::Kind::shadow: mapping.tree.erase(nodes_, index); break;
      case CacheEntry::Kind::swap: freed_slot(context, take_slot(mapping, index)); break;
      case CacheEntry::Kind::page:
        if (page_busy(entry.pfn())) {
          waits = true;
        } else {
          remove(entry.pfn());
          allocator_->free(entry.pfn(), 0);
        }
    }
    if (index == ~u32{0}) break;
  }
  return waits ? Status(Error::wait) : kOk;
}

}  // namespace spillway
