// BufferCache as the Backing of the device's pages, and its invariants.
#include "vfs/buffer_cache.h"

namespace spillway {

Status BufferCache::read_pages(Mapping&, u32 index, const Pfn* frames, u32 count) {
  SPW_ASSERT_LE(u64{index} + count, device_->size().v);
  if (!transfers_.room_for(1) || meets_others(IoOp::read, index, count)) return Error::wait;
  transfers_.read(mapping_, index, index, frames, count);
  return kOk;
}

WriteOutcome BufferCache::write_page(Mapping&, Pfn pfn) {
  const u32 index = (*frames_)[pfn].index;
  if (!transfers_.room_for(1) || meets_others(IoOp::write, index, 1)) return WriteOutcome::wait;
  const u64 first = first_block(index);
  u32 written = 0;
  for (u32 i = 0; i < blocks_per_page(); ++i) {
    Buffer* buffer = find_buffer(first + i);
    if (buffer == nullptr || !buffer->dirty) continue;
    written |= 1U << i;
    unlink_dirty(*buffer);
  }
  SPW_ASSERT_NE(written, 0u);  // B3
  transfers_.write(mapping_, index, index, pfn, written);
  return WriteOutcome::started;
}

void BufferCache::page_written(Mapping&, u32 index, u32 note, Status status) {
  if (status.ok()) return;
  const u64 first = first_block(index);
  for (u32 i = 0; i < blocks_per_page(); ++i) {
    if ((note >> i & 1) == 0) continue;
    // A page that is being written keeps its buffers.
    Buffer* buffer = find_buffer(first + i);
    SPW_ASSERT(buffer != nullptr);
    if (!buffer->dirty) append_dirty(*buffer);
  }
}

bool BufferCache::validate_hash() const {
  u64 buffers = 0;
  u64 dirty = 0;
  for (u64 chain = 0; chain < (u64{1} << hash_bits_); ++chain) {
    for (const Buffer* b = hash_[chain]; b != nullptr; b = b->hash_next) {
      if (++buffers > stats_.buffers) return false;
      if (bucket(b->block) != &hash_[chain] || find_buffer(b->block) != b) return false;
      const Pfn pfn = cache_->find(mapping_, page_of(b->block)).pfn();
      if (!pfn.valid() || pfn != b->page) return false;
      const Page& page = (*frames_)[pfn];
      const u64 offset = (b->block & (blocks_per_page() - 1)) << block_shift_;
      if (page.state != PageState::unmapped || !page.has(PageFlag::uptodate)) return false;  // B1
      if (b->data != machine_->frames.bytes(pfn) + offset) return false;
      if (!b->uptodate && (b->count == 0 || b->dirty || page_blocks_shift_ != 0)) return false;
      if (b->dirty && !page.has(PageFlag::dirty)) return false;  // B3
      dirty += b->dirty ? 1 : 0;
    }
  }
  return buffers == stats_.buffers && dirty == stats_.dirty && heads_.objects_active() == buffers &&
         heads_.validate();
}

bool BufferCache::validate_dirty() const {
  u64 dirty = 0;
  u64 pages = 0;  // with a dirty buffer
  const Buffer* previous = nullptr;
  for (const Buffer* b = dirty_head_; b != nullptr; previous = b, b = b->dirty_next) {
    if (++dirty > stats_.dirty || !b->dirty || b->dirty_prev != previous) return false;
    if (previous != nullptr && b->flush_ns < previous->flush_ns) return false;  // B2
    bool first_of_page = true;
    for (u64 other = first_block(page_of(b->block)); other < b->block; ++other) {
      const Buffer* before = find_buffer(other);
      if (before != nullptr && before->dirty) first_of_page = false;
    }
    pages += first_of_page ? 1 : 0;
  }
  return previous == dirty_tail_ && dirty == stats_.dirty && pages == mapping_.nr_dirty;
}

bool BufferCache::validate() const {
  return transfers_.validate() && validate_hash() && validate_dirty() && cache_->validate(mapping_);
}

}  // namespace spillway
