#include "machine_arena/arena_device.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace spillway {
namespace {

Error error_of(int number) {
  switch (number) {
    case ENOENT: return Error::no_entry;
    case ENOTDIR: return Error::not_directory;
    case EISDIR: return Error::is_directory;
    case EACCES:
    case EPERM: return Error::access;
    case EROFS: return Error::read_only;
    case EBUSY:
    case EWOULDBLOCK:
    case ETXTBSY: return Error::busy;
    case ENOSPC:
    case EDQUOT: return Error::no_space;
    case ENOMEM: return Error::no_memory;
    default: return Error::io;
  }
}

}  // namespace

Status ArenaDevice::open(const char* path, DeviceAccess access) {
  SPW_ASSERT(!is_open());
  const bool writes = access == DeviceAccess::read_write;
  // O_NONBLOCK: opening a FIFO must not wait for its other end. Files and disks ignore it.
  const int fd = ::open(path, (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) return error_of(errno);
  Status status = kOk;
  struct stat info {};
  off_t end = 0;
  if (::fstat(fd, &info) != 0) {
    status = Error::io;
  } else if (S_ISDIR(info.st_mode)) {
    status = Error::is_directory;
  } else if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)) {
    status = Error::invalid;
  } else if ((end = ::lseek(fd, 0, SEEK_END)) <= 0) {
    status = end == 0 ? Error::invalid : Error::io;
  } else if (::flock(fd, (writes ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0) {
    status = error_of(errno);
  }
  if (!status.ok()) {
    (void)::close(fd);
    return status;
  }
  fd_ = fd;
  access_ = access;
  bytes_ = static_cast<u64>(end);
  size_ = pages_for(bytes_);
  return kOk;
}

void ArenaDevice::close() {
  SPW_ASSERT_EQ(in_flight_, 0U);
  if (fd_ >= 0) (void)::close(fd_);
  fd_ = -1;
  bytes_ = 0;
  size_ = PageCount(0);
}

void ArenaDevice::submit(IoRequest& request) {
  SPW_ASSERT(is_open() && request.sink != nullptr);
  SPW_ASSERT_LE(1U, request.count);
  SPW_ASSERT_LE(request.count, kIoFramesMax);
  request.next = nullptr;
  (tail_ != nullptr ? tail_->next : head_) = &request;
  tail_ = &request;
  ++in_flight_;
}

u32 ArenaDevice::complete(u32 max) {
  u32 done = 0;
  while (head_ != nullptr && done < max) {
    // The run of requests that continue each other.
    IoRequest* const first = head_;
    IoRequest* last = first;
    u32 requests = 1;
    u32 pages = first->count;
    while (last->next != nullptr && requests < max - done && last->next->op == first->op &&
           last->next->block == last->block + last->count &&
           pages + last->next->count <= kMergePages) {
      last = last->next;
      pages += last->count;
      ++requests;
    }
    head_ = last->next;
    if (head_ == nullptr) tail_ = nullptr;
    last->next = nullptr;
    const bool merged =
        requests > 1 && transfer(first->op, first->block, first, requests, pages).ok();
    IoRequest* next = nullptr;
    for (IoRequest* r = first; r != nullptr; r = next) {
      next = r->next;  // the sink may reuse the request
      const Status status = merged ? kOk : transfer_one(*r);
      --in_flight_;
      ++done;
      r->sink->io_done(*r, status);
    }
  }
  return done;
}

Status ArenaDevice::transfer_one(IoRequest& request) {
  if (!inside(request)) return Error::invalid;
  return transfer(request.op, request.block, &request, 1, request.count);
}

Status ArenaDevice::transfer(IoOp op, u64 block, IoRequest* first, u32 requests, u32 pages) {
  if (block > size_.v || pages > size_.v - block) return Error::invalid;
  if (op == IoOp::write && access_ == DeviceAccess::read_only) return Error::read_only;
  iovec parts[kMergePages];
  u32 count = 0;
  IoRequest* request = first;
  for (u32 r = 0; r < requests; ++r, request = request->next) {
    for (u32 i = 0; i < request->count; ++i) {
      u8* const page = frames_.bytes(request->frames[i]);
      // Frames that lie side by side are one part.
      if (count != 0 &&
          static_cast<u8*>(parts[count - 1].iov_base) + parts[count - 1].iov_len == page) {
        parts[count - 1].iov_len += kPageSize;
      } else {
        parts[count++] = {page, kPageSize};
      }
    }
  }
  const u64 start = block << kPageShift;
  const u64 cut =
      start + (u64{pages} << kPageShift) > bytes_ ? start + (u64{pages} << kPageShift) - bytes_ : 0;
  SPW_ASSERT_LT(cut, kPageSize);
  if (cut != 0) {
    iovec& part = parts[count - 1];
    part.iov_len -= cut;
    if (op == IoOp::read) std::memset(static_cast<u8*>(part.iov_base) + part.iov_len, 0, cut);
  }
  u64 at = start;
  for (u32 next = 0; next < count;) {
    const auto offset = static_cast<off_t>(at);
    const ssize_t got = op == IoOp::read
                            ? ::preadv(fd_, parts + next, static_cast<int>(count - next), offset)
                            : ::pwritev(fd_, parts + next, static_cast<int>(count - next), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return error_of(errno) == Error::no_space ? Error::no_space : Error::io;
    if (got == 0) return Error::io;  // the file became shorter
    at += static_cast<u64>(got);
    for (u64 left = static_cast<u64>(got); left != 0;) {
      iovec& part = parts[next];
      const u64 step = left < part.iov_len ? left : part.iov_len;
      part.iov_base = static_cast<u8*>(part.iov_base) + step;
      part.iov_len -= step;
      left -= step;
      if (part.iov_len == 0) ++next;
    }
  }
  return kOk;
}

Status ArenaDevice::sync() {
  SPW_ASSERT(is_open());
  if (access_ == DeviceAccess::read_only) return kOk;
  while (::fdatasync(fd_) != 0) {
    if (errno != EINTR) return error_of(errno) == Error::no_space ? Error::no_space : Error::io;
  }
  return kOk;
}

Result<u64> ArenaDevice::claim_segment() { SPW_PANIC("arena: a segment of a plain device"); }
void ArenaDevice::release_segment(u64) { SPW_PANIC("arena: a segment of a plain device"); }
bool ArenaDevice::sole_owner(u64) const { SPW_PANIC("arena: a segment of a plain device"); }

}  // namespace spillway
