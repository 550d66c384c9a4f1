#include "machine_host/host_block_device.h"

#include <fcntl.h>
#include <sys/uio.h>

#include <new>

#include "machine_host/engine_fds.h"
#include "machine_host/syscalls.h"

namespace spillway {
namespace {

constexpr u64 kSegmentBytes = u64{kIoFramesMax} << kPageShift;
// The file grows by 16 MiB: rarely enough not to matter, finely enough for small disks.
constexpr u64 kGrowSegments = 256;
constexpr u32 kNameAttempts = 100;

i64 stat_is_safe_dir(const char* dir) {
  // open with O_DIRECTORY both checks the kind and follows what the user wrote.
  const i64 fd = sys::open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (!sys::failed(fd)) sys::close(static_cast<int>(fd));
  return sys::failed(fd) ? fd : 0;
}

// A file without a name, or where the file system has no such thing, one whose name is removed
// at once.
i64 open_unnamed(const char* dir, int flags) {
  const int base = O_RDWR | O_CLOEXEC | O_EXCL | flags;
  const i64 fd = sys::open(dir, base | O_TMPFILE, 0600);
  if (!sys::failed(fd)) return fd;
  char path[512];
  u32 n = 0;
  for (; dir[n] != '\0' && n < 400; ++n) path[n] = dir[n];
  for (u32 attempt = 0; attempt < kNameAttempts; ++attempt) {
    u64 random = 0;
    if (sys::call(SYS_getrandom, &random, sizeof(random), 0) != sizeof(random)) return fd;
    u32 at = n;
    for (const char* p = "/.spillway-"; *p != '\0'; ++p) path[at++] = *p;
    for (u32 i = 0; i < 16; ++i) path[at++] = "0123456789abcdef"[(random >> (4 * i)) & 15];
    path[at] = '\0';
    const i64 named = sys::open(path, base | O_CREAT, 0600);
    if (named == sys::kExists) continue;
    if (!sys::failed(named)) sys::call(SYS_unlink, path);
    return named;
  }
  return fd;
}

}  // namespace

bool HostBlockDevice::prepare(const char* dir, u64 bytes_max, Message& why) {
  const i64 usable = stat_is_safe_dir(dir);
  if (usable != 0) {
    why.text("cannot use the swap directory ").text(dir).text(": ").error(usable);
    why.text("; choose another one with --swap-dir");
    return false;
  }
  i64 fd = open_unnamed(dir, O_DIRECT);
  direct_ = !sys::failed(fd);
  if (fd == sys::kInvalid) fd = open_unnamed(dir, 0);  // the file system has no O_DIRECT
  if (sys::failed(fd)) {
    why.text("cannot create a swap file in ").text(dir).text(": ").error(fd);
    why.text("; choose another directory with --swap-dir");
    return false;
  }
  const u64 segments = bytes_max / kSegmentBytes;
  const int moved = engine_fd_adopt(FdRole::swap, static_cast<int>(fd), FdExec::close);
  if (moved < 0 || !segments_.prepare(segments).ok()) {
    why.text("no room for the tables of the swap file; lower --swap-max");
    engine_fd_close(FdRole::swap);
    if (moved < 0) sys::close(static_cast<int>(fd));
    return false;
  }
  size_ = PageCount(segments * kIoFramesMax);
  return true;
}

Status HostBlockDevice::start(int event_fd) {
  event_fd_ = event_fd;
  stopping_.store(false, std::memory_order_relaxed);
  const int keep[] = {event_fd, engine_fd(FdRole::swap)};
  for (EngineThread& thread : threads_) {
    SPW_TRY(thread.start(thread_main, this, "spillway/io", keep, 2));
  }
  return kOk;
}

void HostBlockDevice::stop() {
  stopping_.store(true, std::memory_order_release);
  work_sequence_.fetch_add(1, std::memory_order_acq_rel);
  sys::futex_wake(&work_sequence_, kThreads, sys::Sharing::this_process);
  for (EngineThread& thread : threads_) thread.join();
}

void HostBlockDevice::unprepare() {
  segments_.unprepare();
  engine_fd_close(FdRole::swap);
}

void HostBlockDevice::fork_child() SPW_NO_THREAD_SAFETY {
  for (EngineThread& thread : threads_) thread.forget();
  // A thread of the parent may have held the lock for an instant when the process was copied;
  // the queues are empty, because a fork happens only with nothing in flight.
  SPW_ASSERT_EQ(in_flight_, 0U);
  queue_lock_.~SpinLock<Rank::leaf>();
  ::new (static_cast<void*>(&queue_lock_)) SpinLock<Rank::leaf>();
  waiting_ = Queue{};
  for (Queue& queue : ended_) queue = Queue{};
  segments_.fork_child();
}

void HostBlockDevice::submit(IoRequest& request) {
  SPW_ASSERT(request.count > 0 && request.count <= kIoFramesMax);
  ++in_flight_;
  {
    Guard<Rank::leaf> guard(queue_lock_);
    waiting_.push(&request);
  }
  work_sequence_.fetch_add(1, std::memory_order_acq_rel);
  sys::futex_wake(&work_sequence_, 1, sys::Sharing::this_process);
}

void HostBlockDevice::work() {
  while (!stopping_.load(std::memory_order_acquire)) {
    const u32 seen = work_sequence_.load(std::memory_order_acquire);
    IoRequest* request = nullptr;
    {
      Guard<Rank::leaf> guard(queue_lock_);
      request = waiting_.pop();
    }
    if (request == nullptr) {
      sys::futex_wait(&work_sequence_, seen, 0, sys::Sharing::this_process);
      continue;
    }
    const u32 end = end_of(transfer(*request));
    {
      Guard<Rank::leaf> guard(queue_lock_);
      ended_[end].push(request);
    }
    const u64 one = 1;
    sys::write(event_fd_, &one, sizeof(one));
  }
}

u32 HostBlockDevice::end_of(const Status& status) {
  if (status.ok()) return 0;
  if (status.error() == Error::no_space) return 2;
  return status.error() == Error::invalid ? 3 : 1;
}

Status HostBlockDevice::status_of(u32 end) {
  constexpr Error kErrors[kEnds] = {Error::io, Error::io, Error::no_space, Error::invalid};
  return end == 0 ? kOk : Status(kErrors[end]);
}

u32 HostBlockDevice::complete() {
  u32 count = 0;
  for (u32 end = 0; end < kEnds; ++end) {
    for (;;) {
      IoRequest* request = nullptr;
      {
        Guard<Rank::leaf> guard(queue_lock_);
        request = ended_[end].pop();
      }
      if (request == nullptr) break;
      ++count;
      --in_flight_;
      request->sink->io_done(*request, status_of(end));
    }
  }
  return count;
}

Status HostBlockDevice::transfer(const IoRequest& request) {
  if (request.block + request.count > size_.v || request.block + request.count < request.block) {
    return Error::invalid;
  }
  const int fd = engine_fd(FdRole::swap);
  const u64 bytes = u64{request.count} << kPageShift;
  u64 done = 0;
  while (done < bytes) {
    // Frames need not be neighbours: one piece per frame, merged where they are.
    iovec pieces[kIoFramesMax];
    u32 count = 0;
    for (u64 at = done; at < bytes;) {
      const u64 offset = at & kPageMask;
      u8* data = frames_.bytes(request.frames[at >> kPageShift]) + offset;
      const u64 part = kPageSize - offset;
      if (count > 0 && static_cast<u8*>(pieces[count - 1].iov_base) + pieces[count - 1].iov_len ==
                           data) {
        pieces[count - 1].iov_len += part;
      } else {
        pieces[count++] = {data, part};
      }
      at += part;
    }
    const u64 offset = (request.block << kPageShift) + done;
    const i64 number = request.op == IoOp::read ? SYS_preadv : SYS_pwritev;
    const i64 got = sys::call(number, fd, pieces, count, offset, 0);
    if (got == sys::kInterrupted || got == sys::kAgain) continue;
    if (got == sys::kInvalid && direct_) {
      // Opened with O_DIRECT but the file system refuses this transfer: buffered from now on.
      direct_ = false;
      const i64 flags = sys::call(SYS_fcntl, fd, F_GETFL);
      sys::call(SYS_fcntl, fd, F_SETFL, flags & ~O_DIRECT);
      continue;
    }
    if (got == sys::kNoSpace || got == -122 /* EDQUOT */) return Error::no_space;
    if (got <= 0) return Error::io;  // 0: beyond what was ever written
    done += static_cast<u64>(got);
  }
  return kOk;
}

Result<u64> HostBlockDevice::claim_segment() {
  const u64 total = size_.v / kIoFramesMax;
  for (int attempt = 0; attempt < 3; ++attempt) {
    const u64 limit = segments_.allocated();
    // A search through a full table is long; it is worth it only when something may be free.
    if (segments_.in_use() < limit) {
      const Result<u64> got = segments_.claim(limit);
      if (got.ok()) return got;
    }
    if (limit < total && grow()) continue;
    if (segments_.reap_dead() == 0) break;
  }
  return segments_.claim(segments_.allocated());
}

bool HostBlockDevice::grow() {
  const u64 total = size_.v / kIoFramesMax;
  const u64 now = segments_.allocated();
  for (u64 step = kGrowSegments; step > 0; step /= 2) {
    const u64 want = total - now < step ? total - now : step;
    if (want == 0) return false;
    i64 result = 0;
    if (preallocate_) {
      do {
        result = sys::call(SYS_fallocate, engine_fd(FdRole::swap), 0, now * kSegmentBytes,
                           want * kSegmentBytes);
      } while (result == sys::kInterrupted);
      if (result == sys::kNotSupported) {
        // Then a full disk shows at the write, as no_space.
        preallocate_ = false;
        result = 0;
      }
    }
    if (result == 0) {
      segments_.raise_allocated(now + want);
      return true;
    }
  }
  return false;
}

}  // namespace spillway
