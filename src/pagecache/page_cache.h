// PageCache: what all mappings have in common. Adding and removing pages, dirtiness, transfers,
// write-back of a range, truncation of cached pages. Bringing pages into programs is room fault;
// which page leaves is room reclaim.
//
// Invariants: I18 a page is in one cache at most; I26 after truncate no page beyond the end is
// cached; a page under write-back is not freed (R2). nr_* of mappings are exact (row 74).
//
// The ageing policy knows a page from the end of its read, or from its entry when there was none,
// until it leaves. A page in state reading is nobody's to evict.
//
// Failed reads. The page that an access asked for (`wanted`) stays at its index: state unmapped,
// PageFlag::error, not uptodate, known to the policy and never mapped. The access that finds it
// with lookup() takes it out and is told io, once: a fault reports SIGBUS, read(2) EIO. The next
// access reads anew. Pages that were only read ahead leave the cache at once when their read fails,
// so nobody is told of what he did not ask for; who waited for one all the same finds it absent
// and asks for it himself.
//
// Failed writes. The page is dirty again and has PageFlag::error until a write succeeds; the
// mapping remembers the failure until sync() has told it, once; each sync that waited for that
// write is told.
//
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
  // For start_read: all pages are read ahead, nobody waits. No file has so large an index.
  static constexpr u32 kNobodyWants = ~u32{0};

  void init(SlabChain& slabs, PageAllocator& allocator, FrameTable& frames,
            const Observer& observer, Clock& clock);
  void set_reclaimer(Reclaimer& reclaimer) { reclaimer_ = &reclaimer; }

  // A new, empty mapping's id; forget() when it ends (it must be empty).
  void adopt(Mapping& mapping);
  void forget(Mapping& mapping);

  CacheEntry find(const Mapping& mapping, u32 index) const {
    return CacheEntry::from_bits(mapping.tree.find(index));
  }

  // The page at `index`, for an access. wait: it is being read. no_entry: no page is there (but
  // perhaps a slot). io: its read failed; that is told by this call only and the page is gone.
  Result<Pfn> lookup(Mapping& mapping, u32 index);

  // A system call has used the page.
  void touched(Pfn pfn) { reclaimer_->page_touched(pfn); }

  // A fresh page at `index`, where no page and no slot is: isolated -> unmapped, uptodate, zeroed
  // if `zero`, announced to the policy. no_memory or wait: nothing changed.
  Result<Pfn> add_new(Mapping& mapping, u32 index, bool zero, AllocFlags flags);
  // Puts an isolated frame of the caller into the cache at `index` (shared memory that came from
  // swap): state unmapped, uptodate. A slot at the index is the caller's from then on. Fails only
  // for want of a tree node, never where a slot is.
  Status add_frame(Mapping& mapping, u32 index, Pfn pfn, AllocFlags flags);
  // Starts reading pages that are absent and below the end of file: the run around `wanted` inside
  // [first, first+count), count <= kReadMax; with kNobodyWants the run that begins at `first`. The
  // frame for `wanted` comes with `flags`, those for the others without reclaim, or not at all. Ok
  // if `wanted` is cached or on its way. invalid: beyond the end of file; otherwise what the
  // allocator or the backing says (wait, no_memory), and nothing changed.
  Status start_read(Mapping& mapping, u32 first, u32 count, u32 wanted, AllocFlags flags);

  // The page is unmapped, not under write-back, not pinned; it leaves the cache and the policy, and
  // is the caller's, isolated and without flags. A non-zero shadow stays behind at its index.
  void remove(Pfn pfn, u32 shadow = 0);
  // As remove, and replaces it by a swap slot (never fails: the tree node exists).
  void replace_by_slot(Pfn pfn, SlotId slot);
  // Takes the slot at `index` away; the index is empty then.
  SlotId take_slot(Mapping& mapping, u32 index);
  // remove, then gives the frame back. Only clean pages (I24).
  void free_page(Pfn pfn, u32 shadow = 0);

  // Marks a cached page dirty (idempotent) / clean.
  void set_dirty(Pfn pfn);
  void clear_dirty(Pfn pfn);

  // Starts the write of a dirty page that is not under write-back: Backing::write_page, and the
  // flags that follow from its answer.
  WriteOutcome write_page(Pfn pfn);
  // Writes all pages of [first, last] that are dirty when the sync begins and waits for write-backs
  // in it, whatever becomes dirty meanwhile. `ticket` as SyncRounds says. wait: call again after an
  // I/O; io, no_space: a write failed since the last sync (a failure that no sync waited for is
  // told once, whichever range it was in); again: a page could not be written now. Pages of shared
  // memory have nowhere to be synced to: ok at once.
  Status sync(Mapping& mapping, u32 first, u32 last, SyncTicket& ticket);

  // Starts the write of up to `max` dirty pages of files, those of the file first that has been
  // dirty for longest; only of files that have been since `dirtied_until` or before. ~0: of all,
  // but not of pages whose last write failed. Files of which some page could not be written then
  // count as newly dirty. Returns how many writes were started; fewer when an I/O must end first.
  // Mappings with own_flushing and shared memory are left to their backings.
  u32 flush(u32 max, u64 dirtied_until);
  // Since when the oldest of these files has been dirty; ~0 when none is.
  u64 oldest_dirty_ns() const { return dirty_head_ == nullptr ? ~u64{0} : dirty_head_->dirtied_ns; }

  // Whether a page from `first` on is being read or written, or is pinned.
  bool busy(const Mapping& mapping, u32 first) const;
  // Drops pages, slots and shadows from `first` on, dirty ones too. Their mappings must be gone
  // (room space unmaps them). wait: some are busy, the others are gone. `freed_slot` is called
  // with each swap slot that goes.
  Status truncate(Mapping& mapping, u32 first, void (*freed_slot)(void*, SlotId), void* context);

  // A Backing's transfer of one page ended.
  void read_done(Pfn pfn, Status status);
  void write_done(Pfn pfn, Status status);

  // Totals over all mappings, for meminfo. Pages of shared memory are always dirty, but have
  // nowhere to be written to: dirty() does not count them.
  u64 pages() const { return pages_; }
  u64 dirty() const { return dirty_; }
  u64 file_dirty() const { return file_dirty_; }  // of these, pages that have a disk to go to
  u64 writeback() const { return writeback_; }
  u64 reading() const { return reading_; }
  u64 shmem_pages() const { return shmem_pages_; }
  const KmemCache& nodes() const { return nodes_; }
  // The object caches of this System, for caches that stand on this one.
  SlabChain& slabs() { return *slabs_; }
  u64 mappings() const { return mappings_; }

  // O(tree): tree, page descriptors and nr_* of one mapping agree.
  bool validate(const Mapping& mapping) const;

 private:
  bool absent(const Mapping& mapping, u32 index) const {
    const CacheEntry e = find(mapping, index);
    return e.is(CacheEntry::Kind::none) || e.is(CacheEntry::Kind::shadow);
  }
  Page& page_of(Pfn pfn) { return (*frames_)[pfn]; }
  const Page& page_of(Pfn pfn) const { return (*frames_)[pfn]; }
  // Marks of the round of syncs that goes on, if one does.
  static bool syncing(const Mapping& mapping) {
    return mapping.tree.any_tagged(Mapping::kTagToWrite) ||
           mapping.tree.any_tagged(Mapping::kTagAwaited);
  }
  void mark_for_sync(Mapping& mapping, u32 first, u32 last);
  bool push_sync(Mapping& mapping);
  bool page_busy(Pfn pfn) const {
    const Page& page = page_of(pfn);
    return page.state == PageState::reading || page.has(PageFlag::writeback) || page.pins != 0;
  }
  Result<u32> enter(Mapping& mapping, u32 index, Pfn pfn, PageState state, AllocFlags flags);
  void leave(Pfn pfn, PageState state, CacheEntry left);
  Status enter_for_read(Mapping& mapping, u32 index, AllocFlags flags, Pfn* pfn);
  void drop_unread(Pfn pfn);
  void announce(Pfn pfn, u32 shadow);
  // Whether its dirty pages are for the Flusher to count.
  static bool goes_to_disk(const Mapping& mapping) {
    return mapping.owner != PageOwner::shmem && !mapping.no_writeback;
  }
  void link_dirty(Mapping& mapping);
  void unlink_dirty(Mapping& mapping);
  bool page_valid(const Mapping& mapping, u32 index, Pfn pfn) const;

  PageAllocator* allocator_ = nullptr;
  FrameTable* frames_ = nullptr;
  const Observer* observer_ = nullptr;
  Clock* clock_ = nullptr;
  Reclaimer* reclaimer_ = nullptr;
  SlabChain* slabs_ = nullptr;
  KmemCache nodes_;
  u32 next_id_ = 1;
  u64 pages_ = 0;
  u64 dirty_ = 0;
  u64 file_dirty_ = 0;
  u64 writeback_ = 0;
  u64 reading_ = 0;
  u64 shmem_pages_ = 0;
  u64 mappings_ = 0;
  // Mappings with dirty pages, in the order of dirtied_ns.
  Mapping* dirty_head_ = nullptr;
  Mapping* dirty_tail_ = nullptr;
  u64 dirty_mappings_ = 0;
};

}  // namespace spillway
