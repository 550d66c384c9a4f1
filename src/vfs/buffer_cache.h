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
// Who changes bytes of a buffer. A device reads a page while it writes it, so the bytes must not
// change then. getblk() and wait_on_buffer() return wait as long as the page is being written;
// after their ok the holder changes the bytes and calls mark_dirty() before he makes any other
// call, here or elsewhere, that may start an I/O or allocate. A buffer that is marked dirty while
// its page is being written stays dirty and is written once more.
//
// Failed writes. The device holds anything then, also of the page's blocks that were not dirty. So
// the page stays dirty, with the buffers that were to be written, until a write succeeds.
//
// Invariants: B1 a buffer's page is in the cache and has been read (or is being filled by the
// holder of its only buffer); B2 the dirty list holds the dirty buffers, sorted by flush time; B3 a
// page of the device is dirty exactly if one of its buffers is.
// Cost: O(1) for everything but sync, flush and validate. Thread safety: the engine lock. Nothing
// sleeps: Error::wait says to call again after an I/O. Allocations of a call do not enter file
// systems (PageAllocator::NoFs).
#pragma once

#include "vfs/flush_source.h"
#include "vfs/page_transfers.h"

namespace spillway {

struct Buffer {
  u64 block = 0;       // number, in blocks of the cache's size
  u8* data = nullptr;  // valid while the buffer is held
  u32 count = 0;       // holders
  Pfn page;
  bool dirty = false;
  bool uptodate = false;  // false: from getblk, and nobody has filled it yet
  u64 flush_ns = 0;       // when it is to be written, while dirty

  // BufferCache's.
  Buffer* hash_next = nullptr;
  Buffer* dirty_prev = nullptr;
  Buffer* dirty_next = nullptr;
};

struct BufferCacheStats {
  u64 buffers = 0;
  u64 dirty = 0;
  u64 pages = 0;
  u64 hits = 0;      // of bread and getblk: the block had its buffer
  u64 misses = 0;    // its page had to be read or made
  u64 reads = 0;     // pages read from the device
  u64 writes = 0;    // pages written to it
  u64 released = 0;  // pages that reclaim took
};

class BufferCache final : public Backing, public FlushSource, private PageTransfers::Owner {
 public:
  // Of PageTransfers::kMax, reading ahead leaves so many to others.
  static constexpr u32 kRequestsKept = 32;

  // `block_size` is 512, 1024, 2048 or 4096. `device` outlives the cache. no_memory: boot memory;
  // invalid: another block size, or a device of 2^32 pages.
  Status init(Machine& machine, PageCache& cache, PageAllocator& allocator, FrameTable& frames,
              const Observer& observer, BlockDevice& device, u32 block_size);
  // Somebody else transfers pages of the device as well, by `others` (null: no longer): what would
  // meet one of those waits. PageTransfers::collides says what meets.
  void share_with(const PageTransfers* others) { others_ = others; }
  const PageTransfers& transfers() const { return transfers_; }
  u32 block_size() const { return 1U << block_shift_; }
  u64 blocks() const { return device_->size().v << page_blocks_shift_; }  // on the device

  // The block, held, with its bytes as they are on the device or were last written by mark_dirty.
  // wait; io (told once for each failed read); no_memory; invalid: beyond the device; busy:
  // somebody has it from getblk and has not filled it.
  Result<Buffer*> bread(u64 block);
  // The block, held, for somebody who fills all of it and marks it dirty: without reading it where
  // that can be avoided (blocks of a page's size, or with the page cached). Its bytes read as
  // anything, and are forgotten if the last holder goes without mark_dirty. Errors as bread; wait
  // also while the page is being written.
  Result<Buffer*> getblk(u64 block);
  // For a holder who is about to change some bytes of it: wait while the page is being written.
  Status wait_on_buffer(const Buffer& buffer) const;
  // The holder needs it no longer; it stays cached.
  void brelse(Buffer& buffer);
  // The holder changed it. A buffer that is dirty already keeps its time.
  void mark_dirty(Buffer& buffer);
  // Starts reading blocks that are likely to be wanted soon; never an error.
  void read_ahead(u64 block, u32 count);
  // The block is nobody's any more (its file was deleted), or is going to be written by other means
  // than this cache (as a page of a file): it is not written from here any more. Of a page's size,
  // it leaves the cache as well; a smaller one stays readable, and goes to the device with its page
  // if a block beside it asks for that. wait: its page is being read or written; busy: somebody
  // holds it.
  Status forget(u64 block);

  // The block as it is now is on the device. wait: it is being written, call again; io: it could
  // not be written and stays dirty.
  Status write_block(u64 block);
  // Writes all buffers that are dirty when the sync begins, and waits for them. As PageCache::sync.
  Status sync(SyncTicket& ticket) { return cache_->sync(mapping_, 0, ~u32{0}, ticket); }
  // As FlushSource says, by buffers. Those that lie in one page are written together, which may
  // exceed `max` by less than a page.
  u32 flush(u32 max, u64 now_ns, bool all) override;
  u64 next_flush_ns() const override {
    return dirty_head_ == nullptr ? ~u64{0} : dirty_head_->flush_ns;
  }
  // Drops all pages that reclaim could take now, for the end of the cache and drop_caches; returns
  // how many.
  u64 drop_clean();
  // The end of the cache: drops everything, also what was not written. Nobody holds a buffer. wait:
  // a transfer is in flight, call again. init() may follow.
  Status close();

  u64 dirty() const { return stats_.dirty; }
  u32 in_flight() const { return transfers_.in_flight(); }
  BufferCacheStats stats() const;
  const Mapping& mapping() const { return mapping_; }
  const KmemCache& heads() const { return heads_; }
  // Where this cache counts, for file systems that stand on it.
  const Observer& observer() const { return *observer_; }
  // The buffer of a block, null if it has none; for tests and views.
  const Buffer* find(u64 block) const;
  // O(buffers): the invariants.
  bool validate() const;

  Status read_pages(Mapping& mapping, u32 index, const Pfn* frames, u32 count) override;
  WriteOutcome write_page(Mapping& mapping, Pfn pfn) override;
  // try_to_free_buffers.
  bool release_page(Mapping& mapping, Pfn pfn) override;

 private:
  u32 page_of(u64 block) const { return static_cast<u32>(block >> page_blocks_shift_); }
  u32 blocks_per_page() const { return 1U << page_blocks_shift_; }
  u64 first_block(u32 index) const { return u64{index} << page_blocks_shift_; }
  bool meets_others(IoOp op, u64 page, u64 count) const {
    return others_ != nullptr && others_->collides(op, page, count);
  }
  Buffer** bucket(u64 block) const;
  Buffer* find_buffer(u64 block) const;
  Buffer& attach(Buffer& head, u64 block, Pfn pfn, bool uptodate);
  void detach(Buffer& buffer);
  void drop_page(Pfn pfn);
  void append_dirty(Buffer& buffer);
  void unlink_dirty(Buffer& buffer);
  Result<Buffer*> get(u64 block, bool fills);
  Result<Pfn> page_for(u32 index, bool fills, bool* fresh);
  bool page_busy(const Page& page) const;

  // `note`: a bit for each block of the page whose buffer was dirty.
  void page_written(Mapping& mapping, u32 index, u32 note, Status status) override;
  bool validate_hash() const;
  bool validate_dirty() const;

  Machine* machine_ = nullptr;
  PageCache* cache_ = nullptr;
  PageAllocator* allocator_ = nullptr;
  FrameTable* frames_ = nullptr;
  const Observer* observer_ = nullptr;
  const PageTransfers* others_ = nullptr;
  BlockDevice* device_ = nullptr;
  u32 block_shift_ = 0;
  u32 page_blocks_shift_ = 0;
  Mapping mapping_;  // the device's pages
  KmemCache heads_;
  Buffer** hash_ = nullptr;  // 2^hash_bits_ chains
  u32 hash_bits_ = 0;
  Buffer* dirty_head_ = nullptr;  // the oldest
  Buffer* dirty_tail_ = nullptr;
  PageTransfers transfers_;
  BufferCacheStats stats_;
};

}  // namespace spillway
