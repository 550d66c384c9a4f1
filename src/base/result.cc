#include "base/result.h"

namespace spillway {

const char* name_of(Error e) {
  switch (e) {
    case Error::perm: return "EPERM";
    case Error::no_entry: return "ENOENT";
    case Error::io: return "EIO";
    case Error::again: return "EAGAIN";
    case Error::no_memory: return "ENOMEM";
    case Error::access: return "EACCES";
    case Error::fault: return "EFAULT";
    case Error::busy: return "EBUSY";
    case Error::exists: return "EEXIST";
    case Error::invalid: return "EINVAL";
    case Error::no_space: return "ENOSPC";
    case Error::not_supported: return "EOPNOTSUPP";
    case Error::corrupt: return "EUCLEAN";
    case Error::wait: return "WAIT";
  }
  return "?";
}

}  // namespace spillway
