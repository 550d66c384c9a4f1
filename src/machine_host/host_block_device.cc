#include "machine_host/host_block_device.h"

#include <fcntl.h>
#include <sys/resource.h>

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

// A write beyond RLIMIT_FSIZE would not only fail but send the program a signal.
u64 within_file_limit(u64 bytes) {
  rlimit limit = {};
  if (sys::call(SYS_prlimit64, 0, RLIMIT_FSIZE, nullptr, &limit) != 0) return bytes;
  return bytes < limit.rlim_cur ? bytes : limit.rlim_cur;
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
  file_.direct = !sys::failed(fd);
  if (fd == sys::kInvalid) fd = open_unnamed(dir, 0);  // the file system has no O_DIRECT
  if (sys::failed(fd)) {
    why.text("cannot create a swap file in ").text(dir).text(": ").error(fd);
    why.text("; choose another directory with --swap-dir");
    return false;
  }
  const u64 segments = within_file_limit(bytes_max) / kSegmentBytes;
  const int moved = engine_fd_adopt(FdRole::swap, static_cast<int>(fd), FdExec::close);
  if (moved < 0 || !segments_.prepare(segments).ok()) {
    why.text("no room for the tables of the swap file; lower --swap-max");
    engine_fd_close(FdRole::swap);
    if (moved < 0) sys::close(static_cast<int>(fd));
    return false;
  }
  size_ = PageCount(segments * kIoFramesMax);
  file_.size = size_;
  return true;
}

Status HostBlockDevice::start(int event_fd) {
  // Without O_DIRECT the kernel would hand reads to threads of its own, which are worse than ours.
  if (way_ == IoWay::best && file_.direct && ring_.start(event_fd).ok()) return kOk;
  return threads_.start(event_fd);
}

void HostBlockDevice::stop() {
  ring_.stop();
  threads_.stop();
}

void HostBlockDevice::unprepare() {
  segments_.unprepare();
  engine_fd_close(FdRole::swap);
}

void HostBlockDevice::fork_child() {
  SPW_ASSERT_EQ(in_flight_, 0U);
  ring_.fork_child();
  threads_.fork_child();
  segments_.fork_child();
}

void HostBlockDevice::submit(IoRequest& request) {
  SPW_ASSERT(request.count > 0 && request.count <= kIoFramesMax);
  ++in_flight_;
  if (ring_.running()) {
    ring_.submit(request);
  } else {
    threads_.submit(request);
  }
}

u32 HostBlockDevice::complete() {
  for (u32 count = 0;; ++count) {
    IoEnd end = IoEnd::ok;
    IoRequest* request = ring_.running() ? ring_.take_ended(end) : threads_.take_ended(end);
    if (request == nullptr) return count;
    --in_flight_;
    request->sink->io_done(*request, status_of(end));
  }
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
