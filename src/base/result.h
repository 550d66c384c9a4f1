// Result<T>: a value or an Error, for failures that are expected. Errors carry Linux's names.
// Bugs are assertions (base/assert.h); outcomes of a decision are their own enums.
#pragma once

#include <type_traits>
#include <utility>

#include "base/assert.h"

namespace spillway {

enum class Error : u8 {
  perm,            // EPERM: not permitted
  no_entry,        // ENOENT: no such thing
  io,              // EIO: a device failed
  again,           // EAGAIN: cannot be done now, wait and try again
  no_memory,       // ENOMEM: no frame, no room in the address space, or over a limit
  access,          // EACCES: the mapping forbids it
  fault,           // EFAULT: bad address
  busy,            // EBUSY: in use by somebody else
  exists,          // EEXIST: already there
  invalid,         // EINVAL: bad argument
  no_space,        // ENOSPC: swap or disk is full
  not_supported,   // EOPNOTSUPP
  corrupt,         // EUCLEAN: stored data does not match its checksum
  bad_fd,          // EBADF: no such open file, or not open for this
  text_busy,       // ETXTBSY: an executable that runs, or a file that is written
  too_big,         // E2BIG: argument list too long
  no_exec,         // ENOEXEC: not an executable of this format
  no_device,       // ENODEV: cannot be mapped
  no_process,      // ESRCH
  no_child,        // ECHILD
  removed,         // EIDRM: the segment was removed
  file_too_big,    // EFBIG
  overflow,        // EOVERFLOW
  too_many_files,  // EMFILE
  read_only,       // EROFS: the file system may not be written
  not_empty,       // ENOTEMPTY
  not_directory,   // ENOTDIR
  is_directory,    // EISDIR
  name_too_long,   // ENAMETOOLONG
  loop,            // ELOOP: too many symbolic links
  too_many_links,  // EMLINK
  stale,           // ESTALE: the file is gone
  no_data,         // ENODATA: no such attribute
  range,           // ERANGE: the buffer is too small
  wait,            // not an errno: wait for an I/O to complete without holding a lock, then retry
};

// The errno value a program on Linux expects for `e`.
constexpr int errno_of(Error e) {
  switch (e) {
    case Error::perm: return 1;
    case Error::no_entry: return 2;
    case Error::io: return 5;
    case Error::again: return 11;
    case Error::no_memory: return 12;
    case Error::access: return 13;
    case Error::fault: return 14;
    case Error::busy: return 16;
    case Error::exists: return 17;
    case Error::invalid: return 22;
    case Error::no_space: return 28;
    case Error::not_supported: return 95;
    case Error::corrupt: return 117;
    case Error::bad_fd: return 9;
    case Error::text_busy: return 26;
    case Error::too_big: return 7;
    case Error::no_exec: return 8;
    case Error::no_device: return 19;
    case Error::no_process: return 3;
    case Error::no_child: return 10;
    case Error::removed: return 43;
    case Error::file_too_big: return 27;
    case Error::overflow: return 75;
    case Error::too_many_files: return 24;
    case Error::read_only: return 30;
    case Error::not_empty: return 39;
    case Error::not_directory: return 20;
    case Error::is_directory: return 21;
    case Error::name_too_long: return 36;
    case Error::loop: return 40;
    case Error::too_many_links: return 31;
    case Error::stale: return 116;
    case Error::no_data: return 61;
    case Error::range: return 34;
    case Error::wait: return 11;
  }
  return 5;
}

const char* name_of(Error e);

// T must be trivially destructible, as every type that crosses rooms is.
template <class T>
class [[nodiscard]] Result {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  constexpr Result(T value) : value_(value), ok_(true) {}  // NOLINT: implicit on purpose
  constexpr Result(Error e) : error_(e), ok_(false) {}     // NOLINT: implicit on purpose
  constexpr bool ok() const { return ok_; }
  constexpr Error error() const {
    SPW_ASSERT(!ok_);
    return error_;
  }
  constexpr T value() const {
    SPW_ASSERT(ok_);
    return value_;
  }

 private:
  union {
    T value_;
    Error error_;
  };
  bool ok_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  constexpr Result() : error_(Error::io), ok_(true) {}
  constexpr Result(Error e) : error_(e), ok_(false) {}  // NOLINT: implicit on purpose
  constexpr bool ok() const { return ok_; }
  constexpr Error error() const {
    SPW_ASSERT(!ok_);
    return error_;
  }

 private:
  Error error_;
  bool ok_;
};
using Status = Result<void>;
constexpr Status kOk{};

}  // namespace spillway

// SPW_TRY(status): returns the error to the caller. SPW_TRY_ASSIGN(var, result): declares var.
#define SPW_TRY(expr)                            \
  do {                                           \
    auto spw_try_ = (expr);                      \
    if (!spw_try_.ok()) return spw_try_.error(); \
  } while (0)
#define SPW_TRY_ASSIGN(var, expr)                              \
  auto spw_result_##var = (expr);                              \
  if (!spw_result_##var.ok()) return spw_result_##var.error(); \
  auto var = spw_result_##var.value()
