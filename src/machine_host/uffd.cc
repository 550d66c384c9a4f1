#include "machine_host/uffd.h"

#include <fcntl.h>
#include <linux/ioctl.h>
#include <linux/userfaultfd.h>

#include "machine_host/syscalls.h"

namespace spillway {
namespace {

// Newer than Debian 12's headers.
struct MoveArgument {
  u64 to;
  u64 from;
  u64 bytes;
  u64 mode;
  i64 moved;
};
struct PoisonArgument {
  u64 start;
  u64 bytes;
  u64 mode;
  i64 updated;
};
constexpr u64 kIoctlMove = _IOWR(UFFDIO, 0x05, MoveArgument);
constexpr u64 kIoctlPoison = _IOWR(UFFDIO, 0x08, PoisonArgument);
constexpr u64 kIoctlNew = _IO(0xAA, 0x00);  // USERFAULTFD_IOC_NEW
constexpr u64 kUserModeOnly = 1;
constexpr u64 kDoNotWake = 1;  // the same bit in COPY, MOVE and POISON
constexpr u64 kNewFlags = O_CLOEXEC | O_NONBLOCK;

constexpr u64 kWanted = kUffdFeatureWriteProtect | kUffdFeatureThreadId | kUffdFeatureExactAddress |
                        kUffdFeaturePoison | kUffdFeatureMove;

// Asks an open userfaultfd what it offers. The descriptor is of no use afterwards unless the
// wish was granted, because the handshake happens once.
i64 handshake(int fd, u64 wanted, u64* offered) {
  uffdio_api api = {};
  api.api = UFFD_API;
  api.features = wanted;
  const i64 result = sys::ioctl(fd, UFFDIO_API, &api);
  *offered = api.features;
  return result;
}

i64 open_by(UffdWay way, int device_fd) {
  switch (way) {
    case UffdWay::none: return sys::kInvalid;
    case UffdWay::inherited:
    case UffdWay::device:
      if (device_fd < 0) return sys::kBadFd;
      return sys::call(SYS_ioctl, device_fd, kIoctlNew, kNewFlags);
    case UffdWay::syscall: return sys::call(SYS_userfaultfd, kNewFlags);
    case UffdWay::user_mode_only: return sys::call(SYS_userfaultfd, kNewFlags | kUserModeOnly);
  }
  return sys::kInvalid;
}

UffdProbe probe_way(UffdWay way, int device_fd) {
  UffdProbe probe;
  const i64 fd = open_by(way, device_fd);
  if (sys::failed(fd)) {
    probe.error = fd;
    return probe;
  }
  probe.error = handshake(static_cast<int>(fd), 0, &probe.features);
  probe.usable = probe.error == 0;
  sys::close(static_cast<int>(fd));
  return probe;
}

i64 open_device() { return sys::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC); }

}  // namespace

const char* name_of(UffdWay way) {
  switch (way) {
    case UffdWay::none: return "none";
    case UffdWay::inherited: return "inherited descriptor";
    case UffdWay::device: return "/dev/userfaultfd";
    case UffdWay::syscall: return "userfaultfd(2)";
    case UffdWay::user_mode_only: return "userfaultfd(2), user mode only";
  }
  return "?";
}

UffdReport uffd_probe(int inherited_fd) {
  UffdReport report;
  report.inherited = probe_way(UffdWay::inherited, inherited_fd);
  const i64 device = open_device();
  if (sys::failed(device)) {
    report.device.error = device;
  } else {
    report.device = probe_way(UffdWay::device, static_cast<int>(device));
    sys::close(static_cast<int>(device));
  }
  report.syscall = probe_way(UffdWay::syscall, -1);
  report.user_mode_only = probe_way(UffdWay::user_mode_only, -1);
  return report;
}

Uffd uffd_open(int device_fd, UserModeOnly user_mode_only) {
  constexpr UffdWay kOrder[] = {UffdWay::inherited, UffdWay::device, UffdWay::syscall,
                                UffdWay::user_mode_only};
  Uffd uffd;
  for (UffdWay way : kOrder) {
    if (way == UffdWay::user_mode_only && user_mode_only == UserModeOnly::refuse) break;
    int device = device_fd;
    if (way == UffdWay::device) {
      const i64 opened = open_device();
      device = sys::failed(opened) ? -1 : static_cast<int>(opened);
      if (device < 0) {
        uffd.error = opened;
        continue;
      }
    }
    const UffdProbe probe = probe_way(way, device);
    const i64 fd = probe.usable ? open_by(way, device) : probe.error;
    u64 granted = 0;
    i64 result = fd;
    if (!sys::failed(fd)) {
      result = handshake(static_cast<int>(fd), probe.features & kWanted, &granted);
      if (result != 0) sys::close(static_cast<int>(fd));
    }
    // Any failure falls through to the next way: the errno differs between kernels and sandboxes.
    if (sys::failed(result)) {
      if (way != UffdWay::inherited) uffd.error = result;
      if (way == UffdWay::device) sys::close(device);
      continue;
    }
    uffd.fd = static_cast<int>(fd);
    uffd.way = way;
    uffd.features = probe.features & kWanted;
    uffd.error = 0;
    if (way == UffdWay::inherited || way == UffdWay::device) uffd.device_fd = device;
    return uffd;
  }
  return uffd;
}

i64 uffd_register(int fd, u64 start, u64 bytes, UffdMode mode) {
  uffdio_register reg = {};
  reg.range = {start, bytes};
  reg.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (mode == UffdMode::missing_and_write_protect) reg.mode |= UFFDIO_REGISTER_MODE_WP;
  return sys::ioctl(fd, UFFDIO_REGISTER, &reg);
}

i64 uffd_unregister(int fd, u64 start, u64 bytes) {
  uffdio_range range = {start, bytes};
  return sys::ioctl(fd, UFFDIO_UNREGISTER, &range);
}

UffdProgress uffd_copy(int fd, u64 to, u64 from, u64 bytes, WakeMode wake) {
  uffdio_copy copy = {};
  copy.dst = to;
  copy.src = from;
  copy.len = bytes;
  copy.mode = wake == WakeMode::do_not_wake ? kDoNotWake : 0;
  const i64 result = sys::ioctl(fd, UFFDIO_COPY, &copy);
  return {result, copy.copy};
}

UffdProgress uffd_move(int fd, u64 to, u64 from, u64 bytes, WakeMode wake) {
  MoveArgument move = {to, from, bytes, wake == WakeMode::do_not_wake ? kDoNotWake : 0, 0};
  const i64 result = sys::ioctl(fd, kIoctlMove, &move);
  return {result, move.moved};
}

i64 uffd_write_protect(int fd, u64 start, u64 bytes) {
  uffdio_writeprotect wp = {};
  wp.range = {start, bytes};
  wp.mode = UFFDIO_WRITEPROTECT_MODE_WP;
  return sys::ioctl(fd, UFFDIO_WRITEPROTECT, &wp);
}

i64 uffd_wake(int fd, u64 start, u64 bytes) {
  uffdio_range range = {start, bytes};
  return sys::ioctl(fd, UFFDIO_WAKE, &range);
}

i64 uffd_poison(int fd, u64 start, u64 bytes) {
  PoisonArgument poison = {start, bytes, kDoNotWake, 0};
  return sys::ioctl(fd, kIoctlPoison, &poison);
}

i64 uffd_read(int fd, UffdFault* faults, u32 most) {
  uffd_msg messages[kFaultBatch];
  if (most > kFaultBatch) most = kFaultBatch;
  const i64 got = sys::read(fd, messages, most * sizeof(uffd_msg));
  if (got < 0) return got;
  i64 count = 0;
  for (u64 i = 0; i < static_cast<u64>(got) / sizeof(uffd_msg); ++i) {
    const uffd_msg& m = messages[i];
    // No other event is enabled, so no other kind arrives.
    if (m.event != UFFD_EVENT_PAGEFAULT) continue;
    faults[count++] = {m.arg.pagefault.address,
                       (m.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0,
                       static_cast<i32>(m.arg.pagefault.feat.ptid)};
  }
  return count;
}

}  // namespace spillway
