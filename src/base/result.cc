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
    case Error::bad_fd: return "EBADF";
    case Error::text_busy: return "ETXTBSY";
    case Error::too_big: return "E2BIG";
    case Error::no_exec: return "ENOEXEC";
    case Error::no_device: return "ENODEV";
    case Error::no_process: return "ESRCH";
    case Error::no_child: return "ECHILD";
    case Error::removed: return "EIDRM";
    case Error::file_too_big: return "EFBIG";
    case Error::overflow: return "EOVERFLOW";
    case Error::too_many_files: return "EMFILE";
    case Error::wait: return "WAIT";
  }
  return "?";
}

}  // namespace spillway
