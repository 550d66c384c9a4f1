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
    case Error::read_only: return "EROFS";
    case Error::not_empty: return "ENOTEMPTY";
    case Error::not_directory: return "ENOTDIR";
    case Error::is_directory: return "EISDIR";
    case Error::name_too_long: return "ENAMETOOLONG";
    case Error::loop: return "ELOOP";
    case Error::too_many_links: return "EMLINK";
    case Error::stale: return "ESTALE";
    case Error::no_data: return "ENODATA";
    case Error::range: return "ERANGE";
    case Error::wait: return "WAIT";
  }
  return "?";
}

}  // namespace spillway
