#include "machine_host/io_transfer.h"

#include <fcntl.h>

#include "machine_host/engine_fds.h"
#include "machine_host/syscalls.h"

namespace spillway {

Status status_of(IoEnd end) {
  switch (end) {
    case IoEnd::ok: return kOk;
    case IoEnd::no_space: return Error::no_space;
    case IoEnd::invalid: return Error::invalid;
    default: return Error::io;
  }
}

bool IoTransfer::fits(const IoFile& file) const {
  const u64 end = request_->block + request_->count;
  return end <= file.size.v && end > request_->block;
}

void IoTransfer::aim(const IoFile& file) {
  // Frames need not be neighbours: one piece per frame, merged where they are.
  piece_count_ = 0;
  for (u64 at = done_; at < bytes();) {
    const u64 offset = at & kPageMask;
    u8* data = file.frames.bytes(request_->frames[at >> kPageShift]) + offset;
    const u64 part = kPageSize - offset;
    iovec* last = piece_count_ > 0 ? &pieces_[piece_count_ - 1] : nullptr;
    if (last != nullptr && static_cast<u8*>(last->iov_base) + last->iov_len == data) {
      last->iov_len += part;
    } else {
      pieces_[piece_count_++] = {data, part};
    }
    at += part;
  }
}

bool IoTransfer::answer(IoFile& file, i64 result) {
  if (result == sys::kInterrupted || result == sys::kAgain) return false;
  if (result == sys::kInvalid && file.direct) {
    // Opened with O_DIRECT but the file system refuses this transfer: buffered from now on.
    file.direct = false;
    const int fd = engine_fd(FdRole::swap);
    const i64 flags = sys::call(SYS_fcntl, fd, F_GETFL);
    sys::call(SYS_fcntl, fd, F_SETFL, flags & ~O_DIRECT);
    return false;
  }
  constexpr i64 kFileTooBig = -27;  // the program's RLIMIT_FSIZE
  constexpr i64 kQuota = -122;
  if (result == sys::kNoSpace || result == kQuota || result == kFileTooBig) {
    end_ = IoEnd::no_space;
    return true;
  }
  if (result <= 0) {  // 0: beyond what was ever written
    end_ = IoEnd::io;
    return true;
  }
  done_ += static_cast<u64>(result);
  end_ = IoEnd::ok;
  return done_ >= bytes();
}

void IoTransfer::run(IoFile& file) {
  if (!fits(file)) {
    end_ = IoEnd::invalid;
    return;
  }
  const i64 number = request_->op == IoOp::read ? SYS_preadv : SYS_pwritev;
  i64 result = 0;
  do {
    aim(file);
    result = sys::call(number, engine_fd(FdRole::swap), pieces_, piece_count_, offset(), 0);
  } while (!answer(file, result));
}

}  // namespace spillway
