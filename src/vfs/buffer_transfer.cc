// BufferCache as the Backing of the device's pages, and its invariants.
#include "vfs/buffer_cache.h"

namespace spillway {

BufferCache::Request& BufferCache::take_request(u32 index) {
  Request& request = *free_requests_;
  free_requests_ = request.next_free;
  ++in_flight_;
  request = Request{};
  request.index = index;
  return request;
}

void BufferCache::put_request(Request& request) {
  request.next_free = free_requests_;
  free_requests_ = &request;
  --in_flight_;
}

void BufferCache::submit(Request& request, IoOp op) {
  request.io.op = op;
  request.io.block = request.index;
  request.io.count = request.total;
  for (u32 i = 0; i < request.total; ++i) request.io.frames[i] = request.frames[i];
  request.io.sink = this;
  request.io.cookie = reinterpret_cast<u64>(&request);
  device_->submit(request.io);
}

void BufferCache::submit_single(Request& request) {
  request.io.block = u64{request.index} + request.at;
  request.io.count = 1;
  request.io.frames[0] = request.frames[request.at];
  device_->submit(request.io);
}

Status BufferCache::read_pages(Mapping&, u32 index, const Pfn* frames, u32 count) {
  SPW_ASSERT_LE(count, kIoFramesMax);
  SPW_ASSERT_LE(u64{index} + count, device_->size().v);
  if (in_flight_ == kRequestsMax) return Error::wait;
  Request& request = take_request(index);
  for (u32 i = 0; i < count; ++i) request.frames[request.total++] = frames[i];
  submit(request, IoOp::read);
  return kOk;
}

WriteOutcome BufferCache::write_page(Mapping&, Pfn pfn) {
  if (in_flight_ == kRequestsMax) return WriteOutcome::wait;
  Request& request = take_request((*frames_)[pfn].index);
  const u64 first = first_block(request.index);
  for (u32 i = 0; i < blocks_per_page(); ++i) {
    Buffer* buffer = find_buffer(first + i);
    if (buffer == nullptr || !buffer->dirty) continue;
    request.written |= 1U << i;
    unlink_dirty(*buffer);
  }
  SPW_ASSERT_NE(request.written, 0u);  // B3
  request.frames[request.total++] = pfn;
  submit(request, IoOp::write);
  return WriteOutcome::started;
}

void BufferCache::io_done(IoRequest& io, Status status) {
  Request& request = *reinterpret_cast<Request*>(io.cookie);
  if (!status.ok()) observer_->count(Counter::io_error);
  if (io.op == IoOp::write) {
    write_ended(request, status);
  } else {
    read_ended(request, status);
  }
}

void BufferCache::write_ended(Request& request, Status status) {
  const Pfn pfn = request.frames[0];
  const u64 first = first_block(request.index);
  const u32 written = request.written;
  put_request(request);
  if (status.ok()) {
    ++stats_.writes;
    observer_->count(Counter::pgpgout);
  }
  for (u32 i = 0; i < blocks_per_page() && !status.ok(); ++i) {
    if ((written >> i & 1) == 0) continue;
    // A page that is being written keeps its buffers.
    Buffer* buffer = find_buffer(first + i);
    SPW_ASSERT(buffer != nullptr);
    if (!buffer->dirty) append_dirty(*buffer);
  }
  cache_->write_done(pfn, status);
}

void BufferCache::page_was_read(Pfn pfn, Status status) {
  if (status.ok()) {
    ++stats_.reads;
    observer_->count(Counter::pgpgin);
  }
  cache_->read_done(pfn, status);
}

void BufferCache::read_ended(Request& request, Status status) {
  if (request.single) {
    page_was_read(request.frames[request.at], status);
    if (++request.at < request.total) {
      submit_single(request);
      return;
    }
  } else if (!status.ok() && request.total > 1) {
    request.single = true;
    submit_single(request);
    return;
  } else {
    for (u32 i = 0; i < request.total; ++i) page_was_read(request.frames[i], status);
  }
  put_request(request);
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
  u32 free = 0;
  for (const Request* r = free_requests_; r != nullptr; r = r->next_free) {
    if (++free > kRequestsMax) return false;
  }
  return free + in_flight_ == kRequestsMax && validate_hash() && validate_dirty() &&
         cache_->validate(mapping_);
}

}  // namespace spillway
