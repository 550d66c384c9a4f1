// PageCache: what all mappings have in common. Adding and removing pages, dirtiness, transfers,
// write-back of a range, truncation of cached pages. Bringing pages into programs is room fault;
// which page leaves is room reclaim.
//
// Invariants: I18 a page is in one cache at most; I26 after truncate no page beyond the end is
// cached; a page under write-back is not freed (R2). nr_* of mappings are exact (row 74).
// Thread safety: the engine lock. Nothing sleeps: Error::wait says that an I/O must end first.
#pragma once

#include "machine/machine.h"
#include "observe/observe.h"
#include "pagecache/mapping.h"

namespace spillway {

inline Mapping* mapping_of(const Page& page) {
  return page.in_page_cache() ? reinterpret_cast<Mapping*>(page.private_data) : nullptr;
}

class PageCache {
 public:
  // Pages of one Backing::read_pages call.
  static constexpr u32 kReadMax = kIoFramesMax;

  void init(Machine& machine, PageAllocator& allocator, FrameTable& frames,
            const Observer& observer);
  void set_reclaimer(Reclaimer& reclaimer) { reclaimer_ = &reclaimer; }

  // A new, empty mapping's id; forget() when it ends (it must be empty).
  void adopt(Mapping& mapping);
  void forget(Mapping& mapping);

  CacheEntry find(const Mapping& mapping, u32 index) const {
    return CacheEntry::from_bits(mapping.tree.find(index));
  }

  // A fresh page at `index`, where no page and no slot is: isolated -> unmapped, uptodate, zeroed
  // if `zero`, announced to the policy. no_memory or wait: nothing changed.
  Result<Pfn> add_new(Mapping& mapping, u32 index, bool zero, AllocFlags flags);
  // Puts an isolated frame of the caller into the cache at `index` (shared memory that came from
  // swap): state unmapped, uptodate. Fails only for want of a tree node.
  Status add_frame(Mapping& mapping, u32 index, Pfn pfn, AllocFlags flags);
  // Starts reading up to `count` (<= kReadMax) pages from `first`, those that are absent and below
  // the end of file; stops at the first that is there. Frames come with `flags` for the page
  // `wanted` and without reclaim for the others. Ok if the page `wanted` is cached or on its way.
  Status start_read(Mapping& mapping, u32 first, u32 count, u32 wanted, AllocFlags flags);

  // The page is not mapped, not under write-back, not pinned; it leaves the cache and the policy,
  // and is the caller's, isolated. A non-zero shadow stays behind at its index.
  void remove(Pfn pfn, u32 shadow = 0);
  // As remove, and replaces it by a swap slot (never fails: the tree node exists).
  void replace_by_slot(Pfn pfn, SlotId slot);
  // Takes the slot at `index` away; the index is empty then.
  SlotId take_slot(Mapping& mapping, u32 index);
  // remove, then gives the frame back.
  void free_page(Pfn pfn, u32 shadow = 0);

  // Marks a cached page dirty (idempotent) / clean.
  void set_dirty(Pfn pfn);
  void clear_dirty(Pfn pfn);

  // Starts the write of a dirty page that is not under write-back: Backing::write_page, and the
  // flags that follow from its answer.
  WriteOutcome write_page(Pfn pfn);
  // Writes all dirty pages of the range and waits for write-backs in it. wait: call again after
  // an I/O; io, no_space: a write failed since the last call (each failure is told once).
  Status sync(Mapping& mapping, u32 first, u32 last);

  // Drops pages from `first` on. Their mappings must be gone (room space unmaps them). wait: one
  // is under I/O. `freed_slot` is called with each swap slot that goes.
  Status truncate(Mapping& mapping, u32 first, void (*freed_slot)(void*, SlotId), void* context);

  // A Backing's transfer of one page ended.
  void read_done(Pfn pfn, Status status);
  void write_done(Pfn pfn, Status status);

  // Totals over all mappings, for meminfo.
  u64 pages() const { return pages_; }
  u64 dirty() const { return dirty_; }
  u64 writeback() const { return writeback_; }
  u64 shmem_pages() const { return shmem_pages_; }
  const ObjectCache& nodes() const { return nodes_; }
  u64 mappings() const { return mappings_; }

  // O(tree): tree, page descriptors and nr_* of one mapping agree.
  bool validate(const Mapping& mapping) const;

 private:
  Machine* machine_ = nullptr;
  PageAllocator* allocator_ = nullptr;
  FrameTable* frames_ = nullptr;
  const Observer* observer_ = nullptr;
  Reclaimer* reclaimer_ = nullptr;
  ObjectCache nodes_;
  u32 next_id_ = 1;
  u64 pages_ = 0;
  u64 dirty_ = 0;
  u64 writeback_ = 0;
  u64 shmem_pages_ = 0;
  u64 mappings_ = 0;
};

}  // namespace spillway
