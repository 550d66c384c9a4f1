// FileStore as the Backing of its files: pages from and to the device.
#include <cstring>

#include "vfs/file_store.h"
#include "vfs/inode_cache.h"
#include "vfs/vfs.h"

namespace spillway {

FileStore::FileRequest& FileStore::take_request(Inode& inode, u32 index) {
  FileRequest& request = *free_requests_;
  free_requests_ = request.next_free;
  ++in_flight_;
  request = FileRequest{};
  request.inode = &inode;
  request.index = index;
  return request;
}

void FileStore::put_request(FileRequest& request) {
  request.next_free = free_requests_;
  free_requests_ = &request;
  --in_flight_;
}

void FileStore::submit(FileRequest& request, IoOp op) {
  request.io.op = op;
  request.io.block = first_block(*request.inode) + request.index;
  request.io.count = request.total;
  for (u32 i = 0; i < request.total; ++i) request.io.frames[i] = request.frames[i];
  request.io.sink = this;
  request.io.cookie = reinterpret_cast<u64>(&request);
  device_->submit(request.io);
}

void FileStore::submit_single(FileRequest& request) {
  request.io.block = first_block(*request.inode) + request.index + request.at;
  request.io.count = 1;
  request.io.frames[0] = request.frames[request.at];
  device_->submit(request.io);
}

Status FileStore::read_pages(Mapping& mapping, u32 index, const Pfn* frames, u32 count) {
  Inode& inode = inode_of(mapping);
  SPW_ASSERT_LE(u64{index} + count, mapping.size_pages());
  u32 requests = 0;
  for (u32 i = 0; i < count; ++i) {
    const bool begins = i == 0 || !on_device(inode, index + i - 1);
    if (begins && on_device(inode, index + i)) ++requests;
  }
  if (requests > kRequestsMax - in_flight_) return Error::wait;
  for (u32 i = 0; i < count;) {
    if (!on_device(inode, index + i)) {
      std::memset(machine_->frames.bytes(frames[i]), 0, kPageSize);
      cache_->read_done(frames[i++], kOk);
      continue;
    }
    FileRequest& request = take_request(inode, index + i);
    while (i < count && on_device(inode, index + i)) request.frames[request.total++] = frames[i++];
    submit(request, IoOp::read);
  }
  return kOk;
}

WriteOutcome FileStore::write_page(Mapping& mapping, Pfn pfn) {
  Inode& inode = inode_of(mapping);
  const Page& page = (*frames_)[pfn];
  // Where a mapped page's bytes are out of reach, it must be unmapped first. A page beyond the end
  // of file is about to be dropped.
  if (page.state == PageState::mapped && !machine_->features.frame_bytes_while_mapped) {
    return WriteOutcome::refused;
  }
  if (page.index >= mapping.size_pages()) return WriteOutcome::refused;
  if (in_flight_ == kRequestsMax) return WriteOutcome::wait;
  // Programs may have stored behind the end of file: that must not reach the device. If one does
  // so again while the page is written, its dirty bit brings the page back here.
  if (page.index == mapping.size_bytes >> kPageShift)
    zero_tail(*cache_, *frames_, *machine_, mapping, mapping.size_bytes);
  FileRequest& request = take_request(inode, page.index);
  request.frames[request.total++] = pfn;
  submit(request, IoOp::write);
  return WriteOutcome::started;
}

void FileStore::io_done(IoRequest& io, Status status) {
  FileRequest& request = *reinterpret_cast<FileRequest*>(io.cookie);
  if (!status.ok()) observer_->count(Counter::io_error);
  if (io.op == IoOp::write) {
    write_ended(request, status);
  } else {
    read_ended(request, status);
  }
}

// A deleted inode goes when nothing of it is in flight any more.
void FileStore::transfer_ended(Inode& inode) {
  if (inode.is(InodeState::deleted)) (void)inode.cache->finish_deleted();
}

void FileStore::write_ended(FileRequest& request, Status status) {
  Inode& inode = *request.inode;
  const u32 index = request.index;
  const Pfn pfn = request.frames[0];
  put_request(request);
  // After a failure the block holds anything, but the page is dirty and stays in the cache.
  if (status.ok()) {
    observer_->count(Counter::pgpgout);
    SPW_ASSERT_LT(index, inode.mapping.size_pages());
    set_written(inode, index);
  }
  cache_->write_done(pfn, status);
  transfer_ended(inode);
}

void FileStore::page_was_read(Inode& inode, u32 index, Pfn pfn, Status status) {
  if (status.ok()) {
    observer_->count(Counter::pgpgin);
    const u64 start = u64{index} << kPageShift;
    const u64 size = inode.mapping.size_bytes;
    const u64 valid = size > start ? size - start : 0;
    if (valid < kPageSize) {
      std::memset(machine_->frames.bytes(pfn) + valid, 0, kPageSize - valid);
    }
  }
  cache_->read_done(pfn, status);
}

void FileStore::read_ended(FileRequest& request, Status status) {
  Inode& inode = *request.inode;
  if (request.single) {
    page_was_read(inode, request.index + request.at, request.frames[request.at], status);
    if (++request.at < request.total) {
      submit_single(request);
      return;
    }
  } else if (!status.ok() && request.total > 1) {
    request.single = true;
    submit_single(request);
    return;
  } else {
    for (u32 i = 0; i < request.total; ++i) {
      page_was_read(inode, request.index + i, request.frames[i], status);
    }
  }
  put_request(request);
  transfer_ended(inode);
}

}  // namespace spillway
