// BufferCache: the blocks of one device that file systems read and write as blocks: their
// directories, inode tables and bitmaps (MECHANISMS 14.3, 14.4).
//
// A block is found by number in a hash. Its bytes lie in a page of the device's own Mapping, cut
// into blocks of one size, so that these pages age and leave as all cached pages do. A buffer that
// nobody holds stays findable (brelse keeps the block cached) until its page is reclaimed, which
// asks release_page() first: a page goes only when none of its buffers is held or dirty
// (try_to_free_buffers). A dirty buffer carries the time at which it is to be written (30 s
// after it became dirty) on a list in that order; the Flusher writes by it.
//
// Invariants: a buffer with count > 0 has its page cached and uptodate, or being filled by its only
// holder; the dirty list is sorted by flush time; dirty buffers = dirty list; a page of the cache
// is dirty exactly if one of its buffers is. Thread safety: the engine lock. Nothing sleeps:
// Error::wait says to call again after an I/O.
#pragma once

#include "pagecache/page_cache.h"

namespace spillway {

struct Buffer {
  u64 block = 0;       // number, in blocks of the cache's size
  u8* data = nullptr;  // valid while the buffer is held
  u32 count = 0;       // holders
  Pfn page;
  bool dirty = false;
  u64 flush_ns = 0;  // when it is to be written, while dirty

  // BufferCache's.
  Buffer* hash_next = nullptr;
  Buffer* dirty_prev = nullptr;
  Buffer* dirty_next = nullptr;
};

struct BufferCacheStats {
  u64 buffers = 0;
  u64 dirty = 0;
  u64 pages = 0;
  u64 hits = 0;
  u64 misses = 0;
  u64 reads = 0;     // pages read from the device
  u64 writes = 0;    // pages written to it
  u64 released = 0;  // pages that reclaim took
};

class BufferCache final : public Backing, public IoSink {
 public:
  static constexpr u64 kFlushAfterNs = 30'000'000'000;  // age of a dirty buffer when it is written
  static constexpr u32 kRequestsMax = 64;               // transfers in flight

  // `block_size` is 512, 1024, 2048 or 4096. `device` outlives the cache.
  Status init(Machine& machine, PageCache& cache, PageAllocator& allocator, FrameTable& frames,
              const Observer& observer, BlockDevice& device, u32 block_size);
  u32 block_size() const;
  u64 blocks() const;  // on the device

  // The block, held, with its bytes as they are on the device or were last written by mark_dirty.
  // wait; io (told once for each failed read); no_memory; invalid: beyond the device.
  Result<Buffer*> bread(u64 block);
  // The block, held, for somebody who fills all of it and marks it dirty: without reading it where
  // that can be avoided (blocks of a page's size, or with the page cached). Its bytes read as
  // anything.
  Result<Buffer*> getblk(u64 block);
  // The holder needs it no longer; it stays cached.
  void brelse(Buffer& buffer);
  // The holder changed it. A buffer that is dirty already keeps its time.
  void mark_dirty(Buffer& buffer);
  // Starts reading blocks that are likely to be wanted soon; never an error.
  void read_ahead(u64 block, u32 count);
  // The block is nobody's any more (its file was deleted): it is not written, and forgotten.
  void forget(u64 block);

  // Writes all dirty buffers and waits for them. wait; io: a write failed since the last call, told
  // once.
  Status sync();
  // Starts the write of up to `max` dirty buffers, the oldest first, only those whose time has come
  // unless `all`; returns how many.
  u32 flush(u32 max, u64 now_ns, bool all);

  u64 dirty() const;
  u32 in_flight() const;
  BufferCacheStats stats() const;
  // O(buffers): the invariants.
  bool validate() const;
};

}  // namespace spillway
