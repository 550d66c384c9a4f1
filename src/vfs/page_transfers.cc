#include "vfs/page_transfers.h"

#include <cstring>

namespace spillway {

void zero_behind_end(u8* page, u64 index, u64 size_bytes) {
  const u64 start = index << kPageShift;
  const u64 valid = size_bytes > start ? size_bytes - start : 0;
  if (valid < kPageSize) std::memset(page + valid, 0, kPageSize - valid);
}

void PageTransfers::init(Machine& machine, PageCache& cache, const Observer& observer,
                         BlockDevice& device, Owner& owner) {
  SPW_ASSERT_EQ(in_flight_, 0u);
  machine_ = &machine;
  cache_ = &cache;
  observer_ = &observer;
  device_ = &device;
  owner_ = &owner;
  free_ = nullptr;
  for (Request& request : requests_) {
    request.next_free = free_;
    free_ = &request;
  }
}

void PageTransfers::start(IoOp op, Mapping& mapping, u32 index, u64 block, const Pfn* frames,
                          u32 count, u32 note) {
  SPW_ASSERT(room_for(1) && count != 0 && count <= kIoFramesMax);
  Request& request = *free_;
  free_ = request.next_free;
  ++in_flight_;
  request = Request{};
  request.mapping = &mapping;
  request.index = index;
  request.total = count;
  request.note = note;
  request.io.op = op;
  request.io.block = block;
  request.io.count = count;
  for (u32 i = 0; i < count; ++i) request.io.frames[i] = request.frames[i] = frames[i];
  request.io.sink = this;
  request.io.cookie = reinterpret_cast<u64>(&request);
  device_->submit(request.io);
}

void PageTransfers::read(Mapping& mapping, u32 index, u64 block, const Pfn* frames, u32 count) {
  start(IoOp::read, mapping, index, block, frames, count, 0);
}

void PageTransfers::write(Mapping& mapping, u32 index, u64 block, Pfn frame, u32 note) {
  start(IoOp::write, mapping, index, block, &frame, 1, note);
}

void PageTransfers::put(Request& request) {
  request.total = 0;
  request.next_free = free_;
  free_ = &request;
  --in_flight_;
}

void PageTransfers::count(IoOp op, Status status) {
  if (!status.ok()) return;
  ++(op == IoOp::read ? pages_read_ : pages_written_);
  observer_->count(op == IoOp::read ? Counter::pgpgin : Counter::pgpgout);
}

bool PageTransfers::collides(IoOp op, u64 block, u64 count) const {
  if (in_flight_ == 0) return false;
  for (const Request& r : requests_) {
    const u64 left = r.total - r.at;  // page by page: the rest of it
    const bool touches = r.total != 0 && r.io.block < block + count && block < r.io.block + left;
    if (touches && (op == IoOp::write || r.io.op == IoOp::write)) return true;
  }
  return false;
}

bool PageTransfers::validate() const {
  u32 free = 0;
  for (const Request* r = free_; r != nullptr; r = r->next_free) {
    if (++free > kMax || r->total != 0) return false;
  }
  return free + in_flight_ == kMax;
}

void PageTransfers::io_done(IoRequest& io, Status status) {
  Request& request = *reinterpret_cast<Request*>(io.cookie);
  if (!status.ok()) observer_->count(Counter::io_error);
  if (io.op == IoOp::write) {
    write_ended(request, status);
  } else {
    read_ended(request, status);
  }
}

void PageTransfers::write_ended(Request& request, Status status) {
  Mapping& mapping = *request.mapping;
  const u32 index = request.index;
  const u32 note = request.note;
  const Pfn pfn = request.frames[0];
  // First: what follows may start the next transfer.
  put(request);
  count(IoOp::write, status);
  owner_->page_written(mapping, index, note, status);
  cache_->write_done(pfn, status);
  owner_->transfer_ended(mapping);
}

void PageTransfers::page_was_read(const Request& request, u32 i, Status status) {
  const Pfn pfn = request.frames[i];
  count(IoOp::read, status);
  if (status.ok()) {
    const u64 index = u64{request.index} + i;
    zero_behind_end(machine_->frames.bytes(pfn), index, request.mapping->size_bytes);
  }
  cache_->read_done(pfn, status);
}

void PageTransfers::read_ended(Request& request, Status status) {
  if (request.single) {
    page_was_read(request, request.at, status);
    ++request.at;
    ++request.io.block;
  } else if (status.ok() || request.total == 1) {
    for (u32 i = 0; i < request.total; ++i) page_was_read(request, i, status);
    request.at = request.total;
  } else {
    request.single = true;
  }
  if (request.at < request.total) {
    request.io.count = 1;
    request.io.frames[0] = request.frames[request.at];
    device_->submit(request.io);
    return;
  }
  Mapping& mapping = *request.mapping;
  put(request);
  owner_->transfer_ended(mapping);
}

}  // namespace spillway
