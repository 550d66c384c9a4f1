// FsHost: the contents of files.
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>
#include <cerrno>
#include <cstring>

#include "fs_host/fs_host.h"

namespace spillway {
namespace {

// Reads up to `bytes` at `offset`; the end of file ends it early.
Result<u64> read_all(int fd, iovec* parts, u32 count, u64 offset, u64 bytes) {
  u64 done = 0;
  while (done < bytes) {
    const ssize_t got =
        preadv(fd, parts, static_cast<int>(count), static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return error_of_errno(errno);
    if (got == 0) break;
    done += static_cast<u64>(got);
    for (u64 left = static_cast<u64>(got); left != 0;) {
      const u64 n = left < parts->iov_len ? left : parts->iov_len;
      parts->iov_base = static_cast<u8*>(parts->iov_base) + n;
      parts->iov_len -= n;
      left -= n;
      if (parts->iov_len == 0) ++parts, --count;
    }
  }
  return done;
}

}  // namespace

Status FsHost::read_pages(Mapping& mapping, u32 index, const Pfn* frames, u32 count) {
  HostNode* node = node_of(inode_of(mapping));
  if (node == nullptr) return Error::stale;
  SPW_ASSERT_LE(count, kIoFramesMax);
  const Result<int> fd = nodes_.data_fd(*node, node->writable);
  if (!fd.ok()) return fd.error();
  iovec parts[kIoFramesMax];
  for (u32 i = 0; i < count; ++i) parts[i] = {memory_->bytes(frames[i]), kPageSize};
  const u64 bytes = u64{count} << kPageShift;
  const u64 offset = u64{index} << kPageShift;
  Result<u64> got = read_all(fd.value(), parts, count, offset, bytes);
  const u64 size = mapping.size_bytes;
  for (u32 i = 0; i < count; ++i) {
    const u64 start = u64{i} << kPageShift;
    Result<u64> here = got;
    if (!got.ok() && count > 1) {
      // One bad page must not fail the others.
      iovec one = {memory_->bytes(frames[i]), kPageSize};
      here = read_all(fd.value(), &one, 1, offset + start, kPageSize);
      if (here.ok()) here = start + here.value();
    }
    if (here.ok()) {
      // Behind the host's end of file, or behind ours, there is nothing but zeros.
      u64 valid = here.value() > start ? here.value() - start : 0;
      if (offset + start >= size) valid = 0;
      if (offset + start + valid > size) valid = size - offset - start;
      if (valid < kPageSize) {
        std::memset(memory_->bytes(frames[i]) + valid, 0, kPageSize - valid);
      }
      cache_->read_done(frames[i], kOk);
    } else {
      cache_->read_done(frames[i], Error::io);
    }
  }
  return kOk;
}

Status FsHost::write_bytes(HostNode& node, const Mapping& mapping, Pfn pfn) {
  SPW_TRY_ASSIGN(fd, nodes_.data_fd(node, true));
  const u64 offset = u64{(*frames_)[pfn].index} << kPageShift;
  const u64 size = mapping.size_bytes;
  const u64 bytes = offset + kPageSize <= size ? kPageSize : size - offset;
  const u8* data = memory_->bytes(pfn);
  for (u64 done = 0; done < bytes;) {
    const ssize_t put = pwrite(fd, data + done, bytes - done, static_cast<off_t>(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return error_of_errno(errno);
    if (put == 0) return Error::io;
    done += static_cast<u64>(put);
  }
  node.times_stale = true;
  return kOk;
}

WriteOutcome FsHost::write_page(Mapping& mapping, Pfn pfn) {
  HostNode* node = node_of(inode_of(mapping));
  const Page& page = (*frames_)[pfn];
  if (node == nullptr || config_.read_only) return WriteOutcome::refused;
  // A page beyond the end of file is about to be dropped.
  if (page.index >= mapping.size_pages()) return WriteOutcome::refused;
  if (ended_count_ == kWritesMax) return WriteOutcome::wait;
  Status status = write_bytes(*node, mapping, pfn);
  if (!status.ok() && status.error() != Error::no_space) status = Error::io;
  ended_[ended_count_++] = {pfn, status};
  return WriteOutcome::started;
}

u32 FsHost::deliver() {
  const u32 count = ended_count_;
  // Telling may start further writes, which find room behind.
  for (u32 i = 0; i < count; ++i) {
    const Ended ended = ended_[i];
    cache_->write_done(ended.pfn, ended.status);
  }
  std::memmove(ended_, ended_ + count, (ended_count_ - count) * sizeof(Ended));
  ended_count_ -= count;
  return count;
}

Status FsHost::reserve_blocks(Inode& inode, u64 first, u64 count) {
  SPW_TRY(may_write());
  HostNode* node = node_of(inode);
  if (node == nullptr) return Error::stale;
  if (first >= node->reserved_first && first + count <= node->reserved_end) return kOk;
  SPW_TRY_ASSIGN(fd, nodes_.data_fd(*node, true));
  const off_t offset = static_cast<off_t>(first << kPageShift);
  const off_t bytes = static_cast<off_t>(count << kPageShift);
  if (fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, bytes) != 0 && errno != EOPNOTSUPP &&
      errno != ENOSYS && errno != EINTR) {
    return error_of_errno(errno);
  }
  if (first <= node->reserved_end && first >= node->reserved_first) {
    node->reserved_end = first + count;
  } else {
    node->reserved_first = first;
    node->reserved_end = first + count;
  }
  return kOk;
}

Status FsHost::truncate(Inode& inode, u64 bytes) {
  SPW_TRY(may_write());
  HostNode* node = node_of(inode);
  if (node == nullptr) return Error::stale;
  SPW_TRY_ASSIGN(fd, nodes_.data_fd(*node, true));
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) return error_of_errno(errno);
  node->reserved_first = node->reserved_end = 0;
  node->times_stale = true;
  struct stat status;
  if (fstat(fd, &status) == 0) inode.attr.sectors = static_cast<u64>(status.st_blocks);
  return kOk;
}

}  // namespace spillway
