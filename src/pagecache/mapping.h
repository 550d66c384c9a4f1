// Mapping: the cached pages of one file or shared-memory object, by page number, as Linux's
// address_space. An index is in one state only (I25): absent; a page of the cache; a swap slot
// (shared memory that was swapped out); a shadow that the ageing policy left behind.
//
// The pages' owner tag is PageOwner::file or shmem; Page::private_data points to the Mapping and
// Page::index is the index. A page of the cache is in state reading, unmapped or mapped; its dirty,
// writeback and uptodate flags are in Page::flags, and the tree keeps dirty pages and pages under
// write-back findable.
// Thread safety: the engine lock.
#pragma once

#include "pagecache/radix_tree.h"
#include "pagecache/sync_rounds.h"

namespace spillway {

class Mapping;
struct Area;  // room space

// What an index holds.
class CacheEntry {
 public:
  enum class Kind : u8 { none = 0, page = 1, swap = 2, shadow = 3 };
  constexpr CacheEntry() = default;
  static constexpr CacheEntry page(Pfn p) { return CacheEntry(Kind::page, p.v); }
  static constexpr CacheEntry swap(SlotId s) { return CacheEntry(Kind::swap, s.v); }
  static constexpr CacheEntry shadow(u32 s) { return CacheEntry(Kind::shadow, s); }
  static constexpr CacheEntry from_bits(u64 bits) {
    return CacheEntry(static_cast<Kind>(bits & 3), static_cast<u32>(bits >> 16));
  }
  constexpr u64 bits() const { return static_cast<u64>(kind_) | (u64{payload_} << 16); }
  constexpr Kind kind() const { return kind_; }
  constexpr bool is(Kind k) const { return kind_ == k; }
  constexpr Pfn pfn() const { return is(Kind::page) ? Pfn(payload_) : kNoPfn; }
  constexpr SlotId slot() const { return is(Kind::swap) ? SlotId(payload_) : kNoSlot; }
  constexpr u32 shadow_value() const { return is(Kind::shadow) ? payload_ : 0; }
  constexpr bool operator==(const CacheEntry&) const = default;

 private:
  constexpr CacheEntry(Kind k, u32 payload) : kind_(k), payload_(payload) {}
  Kind kind_ = Kind::none;
  u32 payload_ = 0;
};

// How Backing::write_page answered.
enum class WriteOutcome : u8 {
  started,  // the page is under write-back; PageCache::write_done follows
  moved,    // the page changed its cache (shared memory: it is in the swap cache now)
  refused,  // cannot be written now: locked, or no room (PG_dirty stays)
  wait,     // an I/O in flight must end first
};

// Port: where a mapping's pages come from and go to. Implemented by file systems (room vfs) and by
// shared memory (room space).
class Backing {
 public:
  // Starts reading pages [index, index+count) of the mapping into `frames`, which are in the cache
  // in state reading. PageCache::read_done follows for each, perhaps before this returns. One bad
  // page must not fail the others. An error means that nothing was started; the frames stay the
  // caller's problem.
  virtual Status read_pages(Mapping& mapping, u32 index, const Pfn* frames, u32 count) = 0;
  // Starts writing one dirty page, unmapped or not. The dirty flag is the caller's: cleared after
  // `started`. PageCache::write_done follows, but not before this returns.
  virtual WriteOutcome write_page(Mapping& mapping, Pfn pfn) = 0;
  // The page is clean and unmapped and is to leave the cache: gives up what the backing keeps of
  // it (its buffers). False: somebody still uses that, the page stays.
  virtual bool release_page(Mapping& mapping, Pfn pfn) {
    (void)mapping;
    (void)pfn;
    return true;
  }

 protected:
  ~Backing() = default;
};

class Mapping {
 public:
  Mapping() = default;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  u64 size_pages() const { return pages_for(size_bytes).v; }
  bool empty() const { return nr_pages == 0 && nr_swapped == 0; }

  u32 id = 0;  // unique within a System while the mapping lives; for snapshots
  PageOwner owner = PageOwner::file;
  bool own_flushing = false;  // its backing sees to it that dirty pages are written in time
  bool no_writeback = false;  // never written: shared memory under SHM_LOCK, files in memory
  u64 size_bytes = 0;         // end of file; pages beyond it raise SIGBUS
  u64 nr_pages = 0;           // entries of kind page
  u64 nr_dirty = 0;           // of these, with the dirty flag
  u64 nr_writeback = 0;       // of these, being written
  u64 nr_swapped = 0;         // entries of kind swap
  // Writes of pages failed in this way since sync() last told so (Linux's AS_EIO, AS_ENOSPC).
  bool io_failed = false;
  bool space_failed = false;
  SyncRounds syncs;  // PageCache's
  Backing* backing = nullptr;
  void* host = nullptr;   // the backing's own: its inode or segment
  Area* areas = nullptr;  // all areas that map it (Linux's i_mmap), linked by room space
  RadixTree tree;         // index -> CacheEntry::bits()

  // PageCache's: the mapping's place among those with dirty pages.
  u64 dirtied_ns = 0;  // when the first of its pages became dirty
  Mapping* dirty_prev = nullptr;
  Mapping* dirty_next = nullptr;

  // Tags of the tree.
  static constexpr u32 kTagDirty = 0;
  static constexpr u32 kTagWriteback = 1;
  // Marks of syncs (SyncRounds): dirty pages to be written, and pages whose write-back must end.
  static constexpr u32 kTagToWrite = 2;
  static constexpr u32 kTagAwaited = 3;
};

}  // namespace spillway
