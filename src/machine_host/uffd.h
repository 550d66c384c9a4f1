// Userfaultfd: opening it in every way that a machine may allow, and the ioctls that the engine
// uses, with structures of their own so that old kernel headers do.
//
// Order of opening: an inherited descriptor of /dev/userfaultfd (SPILLWAY_UFFD_FD), the device
// itself, userfaultfd(0), and last userfaultfd(UFFD_USER_MODE_ONLY), with which read(2) into a
// swapped-out buffer fails with EFAULT: reported, and used only when asked for.
#pragma once

#include "base/result.h"
#include "base/units.h"

namespace spillway {

enum class UffdWay : u8 { none, inherited, device, syscall, user_mode_only };
const char* name_of(UffdWay way);

// What one way of opening gave.
struct UffdProbe {
  bool usable = false;
  i64 error = 0;     // negative errno when not usable
  u64 features = 0;  // UFFD_FEATURE_* that the kernel offers by this way
};

struct UffdReport {
  UffdProbe inherited;
  UffdProbe device;
  UffdProbe syscall;
  UffdProbe user_mode_only;
};

inline constexpr u64 kUffdFeatureWriteProtect = u64{1} << 0;
inline constexpr u64 kUffdFeatureSigbus = u64{1} << 7;
inline constexpr u64 kUffdFeatureThreadId = u64{1} << 8;
inline constexpr u64 kUffdFeatureExactAddress = u64{1} << 11;
inline constexpr u64 kUffdFeaturePoison = u64{1} << 14;
inline constexpr u64 kUffdFeatureMove = u64{1} << 16;

// Tries every way with a throwaway descriptor. `inherited_fd` is -1 when there is none.
UffdReport uffd_probe(int inherited_fd);

struct Uffd {
  int fd = -1;
  int device_fd = -1;  // kept open, so that forked children need no rights of their own
  UffdWay way = UffdWay::none;
  u64 features = 0;  // enabled ones
  i64 error = 0;     // negative errno of the last way tried, when fd is -1
};

enum class UserModeOnly : u8 { refuse, allow };

// Opens a non-blocking, close-on-exec userfaultfd with MOVE, POISON, THREAD_ID and exact
// addresses enabled as far as the kernel has them. fd is -1 on failure.
Uffd uffd_open(int device_fd, UserModeOnly user_mode_only);

enum class UffdMode : u8 { missing, missing_and_write_protect };

// Registers [start, start+bytes), or takes the registration away.
i64 uffd_register(int fd, u64 start, u64 bytes, UffdMode mode = UffdMode::missing);
i64 uffd_unregister(int fd, u64 start, u64 bytes);

enum class WakeMode : u8 { wake, do_not_wake };

// Result of COPY and MOVE: what the ioctl returned (0 or -errno) and its progress field (bytes
// done, or a negative errno).
struct UffdProgress {
  i64 result;
  i64 progress;
};
UffdProgress uffd_copy(int fd, u64 to, u64 from, u64 bytes, WakeMode wake);
UffdProgress uffd_move(int fd, u64 to, u64 from, u64 bytes, WakeMode wake);
// Makes writers to present pages of the range wait (needs UffdMode::missing_and_write_protect).
i64 uffd_write_protect(int fd, u64 start, u64 bytes);
i64 uffd_wake(int fd, u64 start, u64 bytes);
// Makes the page raise SIGBUS on access until it is dropped (madvise DONTNEED).
i64 uffd_poison(int fd, u64 start, u64 bytes);

// One message of a userfaultfd.
struct UffdFault {
  u64 address;
  bool write;
  i32 thread;  // 0 without UFFD_FEATURE_THREAD_ID
};

// Reads up to `most` page faults without waiting. Returns their number, or a negative errno
// (-EAGAIN when there are none).
inline constexpr u32 kFaultBatch = 16;
i64 uffd_read(int fd, UffdFault* faults, u32 most);

}  // namespace spillway
