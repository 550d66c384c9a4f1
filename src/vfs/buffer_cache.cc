#include "vfs/buffer_cache.h"

#include <bit>
#include <new>

namespace spillway {
namespace {

// One chain per frame, which is enough for one buffer in each page of a cache that fills memory.
constexpr u32 kHashBitsMin = 6;
constexpr u32 kHashBitsMax = 20;

u32 hash_bits_for(u64 pages) {
  u32 bits = kHashBitsMin;
  while (bits < kHashBitsMax && (u64{1} << bits) < pages) ++bits;
  return bits;
}

}  // namespace

Status BufferCache::init(Machine& machine, PageCache& cache, PageAllocator& allocator,
                         FrameTable& frames, const Observer& observer, BlockDevice& device,
                         u32 block_size) {
  if (block_size < 512 || block_size > kPageSize || !std::has_single_bit(block_size)) {
    return Error::invalid;
  }
  // Page numbers have 32 bits, and the last one stands for "nobody" in PageCache::start_read.
  if (device.size().v >= PageCache::kNobodyWants) return Error::invalid;
  machine_ = &machine;
  cache_ = &cache;
  allocator_ = &allocator;
  frames_ = &frames;
  observer_ = &observer;
  block_shift_ = static_cast<u32>(std::countr_zero(block_size));
  page_blocks_shift_ = kPageShift - block_shift_;
  const u64 frame_count = frames.count().v;
  hash_bits_ = hash_bits_for(device.size().v < frame_count ? device.size().v : frame_count);
  hash_ = static_cast<Buffer**>(machine.boot.alloc(sizeof(Buffer*) << hash_bits_, 64));
  if (hash_ == nullptr) return Error::no_memory;
  KmemCacheConfig heads = KmemCacheConfig::core("buffer_head", sizeof(Buffer));
  heads.several = true;  // one per device
  SPW_TRY(heads_.init(cache.slabs(), heads));
  device_ = &device;
  transfers_.init(machine, cache, observer, device, *this);
  mapping_.size_bytes = device.size().v << kPageShift;
  mapping_.owner = PageOwner::file;
  mapping_.own_flushing = true;
  mapping_.backing = this;
  mapping_.host = this;
  cache.adopt(mapping_);
  return kOk;
}

// Fibonacci hashing: consecutive blocks, the common case, spread over all chains.
Buffer** BufferCache::bucket(u64 block) const {
  return &hash_[(block * 0x9E3779B97F4A7C15U) >> (64 - hash_bits_)];
}

Buffer* BufferCache::find_buffer(u64 block) const {
  for (Buffer* b = *bucket(block); b != nullptr; b = b->hash_next) {
    if (b->block == block) return b;
  }
  return nullptr;
}

const Buffer* BufferCache::find(u64 block) const { return find_buffer(block); }

Buffer& BufferCache::attach(Buffer& head, u64 block, Pfn pfn, bool uptodate) {
  Buffer& buffer = *new (&head) Buffer;
  buffer.block = block;
  buffer.page = pfn;
  buffer.uptodate = uptodate;
  buffer.data = machine_->frames.bytes(pfn) + ((block & (blocks_per_page() - 1)) << block_shift_);
  Buffer** chain = bucket(block);
  buffer.hash_next = *chain;
  *chain = &buffer;
  ++stats_.buffers;
  return buffer;
}

// Unhashes a buffer that is neither held nor dirty, and frees its head.
void BufferCache::detach(Buffer& buffer) {
  SPW_ASSERT(buffer.count == 0 && !buffer.dirty);
  Buffer** at = bucket(buffer.block);
  while (*at != &buffer) at = &(*at)->hash_next;
  *at = buffer.hash_next;
  --stats_.buffers;
  buffer.~Buffer();
  heads_.free(&buffer);
}

// Takes a page that is not busy out of the cache with its buffers, none of which is held. What was
// not written is lost.
void BufferCache::drop_page(Pfn pfn) {
  const u64 first = first_block((*frames_)[pfn].index);
  for (u32 i = 0; i < blocks_per_page(); ++i) {
    Buffer* buffer = find_buffer(first + i);
    if (buffer == nullptr) continue;
    if (buffer->dirty) unlink_dirty(*buffer);
    detach(*buffer);
  }
  cache_->clear_dirty(pfn);
  cache_->free_page(pfn);
}

bool BufferCache::page_busy(const Page& page) const {
  return page.state == PageState::reading || page.has(PageFlag::writeback) || page.pins != 0;
}

// The page of a block that has no buffer. `fresh`: it was made and holds zeros, not the device's
// bytes.
Result<Pfn> BufferCache::page_for(u32 index, bool fills, bool* fresh) {
  for (;;) {
    const Result<Pfn> pfn = cache_->lookup(mapping_, index);
    if (pfn.ok()) return pfn;
    // Who fills the block does not mind that it could not be read.
    const bool failed = fills && pfn.error() == Error::io;
    if (pfn.error() != Error::no_entry && !failed) return pfn;
    ++stats_.misses;
    if (fills) {
      *fresh = true;
      return cache_->add_new(mapping_, index, true, kAllocKernel);
    }
    observer_->step("block of page {a} is not cached: read", index);
    SPW_TRY(cache_->start_read(mapping_, index, 1, index, kAllocKernel));
  }
}

Result<Buffer*> BufferCache::get(u64 block, bool fills) {
  if (block >= blocks()) return Error::invalid;
  Buffer* buffer = find_buffer(block);
  if (buffer == nullptr) {
    const WalkScope walk(observer_->walk, "refill_freelist", "no buffer of block {a}", block);
    const PageAllocator::NoFs no_fs(*allocator_);
    // Before the page is looked for: from then on nothing may reclaim.
    SPW_TRY_ASSIGN(head, heads_.alloc(kAllocKernel));
    const bool fills_page = fills && page_blocks_shift_ == 0;
    bool fresh = false;
    const Result<Pfn> pfn = page_for(page_of(block), fills_page, &fresh);
    if (!pfn.ok()) {
      heads_.free(head);
      return pfn.error();
    }
    buffer = &attach(*static_cast<Buffer*>(head), block, pfn.value(), !fresh);
  } else {
    ++stats_.hits;
    observer_->step("found in the hash");
  }
  cache_->touched(buffer->page);
  if (!fills && !buffer->uptodate) return Error::busy;
  if (fills && (*frames_)[buffer->page].has(PageFlag::writeback)) return Error::wait;
  ++buffer->count;
  return buffer;
}

Result<Buffer*> BufferCache::bread(u64 block) {
  const WalkScope walk(observer_->walk, "bread", "block {a}", block);
  return get(block, false);
}

Result<Buffer*> BufferCache::getblk(u64 block) {
  const WalkScope walk(observer_->walk, "getblk", "block {a}", block);
  return get(block, true);
}

Status BufferCache::wait_on_buffer(const Buffer& buffer) const {
  SPW_ASSERT_NE(buffer.count, 0u);
  return (*frames_)[buffer.page].has(PageFlag::writeback) ? Status(Error::wait) : kOk;
}

void BufferCache::brelse(Buffer& buffer) {
  const WalkScope walk(observer_->walk, "brelse", "block {a}, {b} holders", buffer.block,
                       buffer.count);
  SPW_ASSERT_NE(buffer.count, 0u);
  if (--buffer.count != 0) return;
  if (buffer.uptodate) {
    observer_->step("stays cached");
    return;
  }
  // Nobody filled it: what is in the page is not the device's, so nobody may find it.
  drop_page(buffer.page);
}

void BufferCache::append_dirty(Buffer& buffer) {
  buffer.dirty = true;
  buffer.flush_ns = machine_->clock.now_ns() + kFlushAfterNs;
  buffer.dirty_prev = dirty_tail_;
  buffer.dirty_next = nullptr;
  (dirty_tail_ != nullptr ? dirty_tail_->dirty_next : dirty_head_) = &buffer;
  dirty_tail_ = &buffer;
  ++stats_.dirty;
}

void BufferCache::unlink_dirty(Buffer& buffer) {
  (buffer.dirty_prev != nullptr ? buffer.dirty_prev->dirty_next : dirty_head_) = buffer.dirty_next;
  (buffer.dirty_next != nullptr ? buffer.dirty_next->dirty_prev : dirty_tail_) = buffer.dirty_prev;
  buffer.dirty_prev = buffer.dirty_next = nullptr;
  buffer.dirty = false;
  --stats_.dirty;
}

void BufferCache::mark_dirty(Buffer& buffer) {
  SPW_ASSERT_NE(buffer.count, 0u);
  buffer.uptodate = true;
  if (buffer.dirty) return;
  append_dirty(buffer);
  cache_->set_dirty(buffer.page);
}

void BufferCache::read_ahead(u64 block, u32 count) {
  if (block >= blocks() || count == 0) return;
  const u64 left = blocks() - block;
  const u32 last = page_of(block + (count < left ? count : left) - 1);
  const PageAllocator::NoFs no_fs(*allocator_);
  for (u64 index = page_of(block); index <= last && transfers_.room_for(kRequestsKept + 1);) {
    const u32 at = static_cast<u32>(index);
    if (cache_->find(mapping_, at).pfn().valid()) {
      ++index;
      continue;
    }
    const u64 rest = last - index + 1;
    const u32 run = rest < PageCache::kReadMax ? static_cast<u32>(rest) : PageCache::kReadMax;
    // Frames are not reclaimed from others for this.
    if (!cache_->start_read(mapping_, at, run, PageCache::kNobodyWants, AllocFlags{}).ok()) return;
    while (index <= last && cache_->find(mapping_, static_cast<u32>(index)).pfn().valid()) ++index;
    // A page whose read failed at once is gone again: the next one, or this loop would not end.
    if (index == at) ++index;
  }
}

Status BufferCache::forget(u64 block) {
  if (block >= blocks()) return Error::invalid;
  Buffer* buffer = find_buffer(block);
  if (buffer != nullptr && buffer->count != 0) return Error::busy;
  const Pfn pfn = cache_->find(mapping_, page_of(block)).pfn();
  if (!pfn.valid()) return kOk;
  Page& page = (*frames_)[pfn];
  if (page_busy(page)) return Error::wait;
  if (page_blocks_shift_ == 0) {
    drop_page(pfn);
    return kOk;
  }
  if (buffer == nullptr || !buffer->dirty) return kOk;
  // After a failed write the blocks beside it depend on this one's place in the list.
  if (page.has(PageFlag::error)) return kOk;
  unlink_dirty(*buffer);
  const u64 first = first_block(page.index);
  for (u32 i = 0; i < blocks_per_page(); ++i) {
    const Buffer* other = find_buffer(first + i);
    if (other != nullptr && other->dirty) return kOk;
  }
  cache_->clear_dirty(pfn);
  return kOk;
}

u32 BufferCache::flush(u32 max, u64 now_ns, bool all) {
  const u64 before = stats_.dirty;
  for (Buffer* buffer = dirty_head_; buffer != nullptr;) {
    if (before - stats_.dirty >= max) break;
    if (!all && buffer->flush_ns > now_ns) break;
    const Page& page = (*frames_)[buffer->page];
    const bool failed = page.has(PageFlag::error) && buffer->flush_ns > now_ns;
    if (page.has(PageFlag::writeback) || failed) {
      buffer = buffer->dirty_next;
      continue;
    }
    // Writing takes this buffer and perhaps later ones off the list, none of the earlier ones:
    // they are those that were passed over, in other pages.
    Buffer* const passed = buffer->dirty_prev;
    if (cache_->write_page(buffer->page) != WriteOutcome::started) break;
    buffer = passed != nullptr ? passed->dirty_next : dirty_head_;
  }
  return static_cast<u32>(before - stats_.dirty);
}

Status BufferCache::write_block(u64 block) {
  const Buffer* buffer = find_buffer(block);
  if (buffer == nullptr) return kOk;
  const Page& page = (*frames_)[buffer->page];
  if (page.has(PageFlag::writeback)) return Error::wait;
  if (!buffer->dirty) return kOk;
  if (page.has(PageFlag::error)) return Error::io;
  // What refuses now may take it when something in flight has ended.
  (void)cache_->write_page(buffer->page);
  return Error::wait;
}

u64 BufferCache::drop_clean() {
  u64 dropped = 0;
  u32 index = 0;
  for (u64 value = 0; mapping_.tree.next(&index, ~u32{0}, &value); ++index) {
    const Pfn pfn = CacheEntry::from_bits(value).pfn();
    if (!pfn.valid()) continue;
    const Page& page = (*frames_)[pfn];
    if (page_busy(page) || page.has(PageFlag::dirty) || !release_page(mapping_, pfn)) continue;
    cache_->free_page(pfn);
    ++dropped;
  }
  (void)heads_.shrink();
  return dropped;
}

Status BufferCache::close() {
  u32 index = 0;
  for (u64 value = 0; mapping_.tree.next(&index, ~u32{0}, &value); ++index) {
    const Pfn pfn = CacheEntry::from_bits(value).pfn();
    if (!pfn.valid()) continue;
    if (page_busy((*frames_)[pfn])) return Error::wait;
    drop_page(pfn);
  }
  SPW_ASSERT_EQ(stats_.buffers, 0u);
  cache_->forget(mapping_);
  (void)heads_.shrink();
  return kOk;
}

bool BufferCache::release_page(Mapping&, Pfn pfn) {
  const Page& page = (*frames_)[pfn];
  const WalkScope walk(observer_->walk, "try_to_free_buffers", "page {a}", page.index);
  if (page_busy(page) || page.has(PageFlag::dirty)) return false;
  const u64 first = first_block(page.index);
  for (u32 i = 0; i < blocks_per_page(); ++i) {
    const Buffer* buffer = find_buffer(first + i);
    if (buffer != nullptr && buffer->count != 0) {
      observer_->step("block {a} is held: busy", buffer->block);
      return false;
    }
  }
  for (u32 i = 0; i < blocks_per_page(); ++i) {
    if (Buffer* buffer = find_buffer(first + i)) detach(*buffer);
  }
  ++stats_.released;
  return true;
}

BufferCacheStats BufferCache::stats() const {
  BufferCacheStats stats = stats_;
  stats.pages = mapping_.nr_pages;
  stats.reads = transfers_.pages_read();
  stats.writes = transfers_.pages_written();
  return stats;
}

}  // namespace spillway
