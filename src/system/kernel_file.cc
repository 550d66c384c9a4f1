// Files by process.
#include "system/kernel_impl.h"

namespace spillway {
namespace {

// A position in a file (loff_t) is signed; Linux looks at that before it looks at the descriptor.
constexpr bool negative(u64 position) { return static_cast<i64>(position) < 0; }

}  // namespace

Result<OpenFile*> KernelImpl::open_file(Task& task, i32 fd) {
  if (fd < 0 || static_cast<u32>(fd) >= Kernel::kOpenFilesMax) return Error::bad_fd;
  OpenFile& file = task.files[fd];
  if (file.inode == nullptr) return Error::bad_fd;
  return &file;
}

// The file's dentry, held. Makes the file if that is asked for.
Result<Dentry*> KernelImpl::open_path(const char* path, u32 flags) {
  if (!sys.vfs.mounted()) {
    return (flags & kOpenCreate) != 0 ? Error::no_space : Error::no_entry;
  }
  Vfs& vfs = sys.vfs;
  const Result<Dentry*> found = vfs.walk_dentry(vfs.root_dentry(), path, true);
  if (found.ok()) {
    Error refused = Error::wait;
    const Inode& inode = *found.value()->inode;
    const bool writes = (flags & 3) != kOpenRead;
    if ((flags & kOpenCreate) != 0 && (flags & kOpenExclusive) != 0) {
      refused = Error::exists;
    } else if (writes && inode.is_directory()) {
      refused = Error::is_directory;
    } else if (writes && inode.writers < 0) {
      refused = Error::text_busy;
    } else {
      return found;
    }
    vfs.put(*found.value());
    return refused;
  }
  if (found.error() != Error::no_entry || (flags & kOpenCreate) == 0) return found;
  SPW_TRY_ASSIGN(end, vfs.walk_parent(vfs.root_dentry(), path));
  Result<Dentry*> made = Error::is_directory;
  if (!end.slash && !end.last.is_dot() && !end.last.is_dot_dot()) {
    NewInode file;
    file.now = vfs.now();
    const Result<Inode*> inode = vfs.create(*end.parent->inode, end.last, file);
    made = inode.ok() ? vfs.lookup_dentry(*end.parent, end.last) : Result<Dentry*>(inode.error());
    if (inode.ok()) vfs.put(*inode.value());
  }
  vfs.put(*end.parent);
  return made;
}

Status Kernel::create_file(const char* path, u64 size, u64 capacity) {
  Vfs& vfs = impl_.sys.vfs;
  if (!vfs.mounted()) return Error::no_space;
  SPW_TRY(impl_.make_parents(path));
  SPW_TRY_ASSIGN(end, vfs.walk_parent(vfs.root_dentry(), path));
  NewInode file;
  file.now = vfs.now();
  file.capacity_pages = pages_for(capacity > size ? capacity : size).v;
  if (file.capacity_pages == 0) file.capacity_pages = 1;
  const Result<Inode*> inode = vfs.create(*end.parent->inode, end.last, file);
  vfs.put(*end.parent);
  if (!inode.ok()) return inode.error();
  const Status sized = vfs.set_size(*inode.value(), size);
  vfs.put(*inode.value());
  return sized;
}

Result<u64> Kernel::open(Pid pid, const char* path, u32 flags) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  if ((flags & 3) == 3) return Error::invalid;
  i32 fd = -1;
  for (u32 i = 0; i < kOpenFilesMax; ++i) {
    if (task->files[i].inode == nullptr) {
      fd = static_cast<i32>(i);
      break;
    }
  }
  // What is wrong with the path is told before a lack of descriptors, but nothing is made then.
  const u32 look = fd < 0 ? flags & ~kOpenCreate : flags;
  const Result<Dentry*> found = impl_.open_path(path, look);
  if (!found.ok() && (fd >= 0 || found.error() != Error::no_entry || look == flags)) {
    return found.error();
  }
  if (fd < 0) {
    if (found.ok()) impl_.sys.vfs.put(*found.value());
    return Error::too_many_files;
  }
  Dentry* dentry = found.value();
  Inode* inode = dentry->inode;
  const bool writes = (flags & 3) != kOpenRead;
  if (writes) ++inode->writers;
  task->files[fd] = OpenFile{dentry, inode, flags, {}};
  if ((flags & kOpenTruncate) != 0 && writes && inode->mapping.size_bytes > 0) {
    const Result<u64> cut = ftruncate(pid, fd, 0);
    if (!cut.ok()) {
      (void)close(pid, fd);
      return cut.error();
    }
  }
  return static_cast<u64>(fd);
}

Result<u64> Kernel::close(Pid pid, i32 fd) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  SPW_TRY_ASSIGN(file, impl_.open_file(*task, fd));
  if (file->can_write()) --file->inode->writers;
  impl_.sys.vfs.put(*file->dentry);
  *file = OpenFile{};
  return u64{0};
}

Result<u64> Kernel::pread(Pid pid, i32 fd, void* out, u64 bytes, u64 offset, u64* done) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  if (negative(offset)) return Error::invalid;
  SPW_TRY_ASSIGN(file, impl_.open_file(*task, fd));
  if (!file->can_read()) return Error::bad_fd;
  return impl_.sys.vfs.read(*file->inode, file->readahead, offset, static_cast<u8*>(out), bytes,
                            done);
}

Result<u64> Kernel::pwrite(Pid pid, i32 fd, const void* data, u64 bytes, u64 offset, u64* done) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  if (negative(offset)) return Error::invalid;
  SPW_TRY_ASSIGN(file, impl_.open_file(*task, fd));
  if (!file->can_write()) return Error::bad_fd;
  if ((file->flags & kOpenAppend) != 0) offset = file->inode->mapping.size_bytes - *done;
  SPW_TRY_ASSIGN(written, impl_.sys.vfs.write(*file->inode, offset, static_cast<const u8*>(data),
                                              bytes, done));
  SPW_TRY(impl_.sys.flusher.balance_dirty());
  return written;
}

Result<u64> Kernel::ftruncate(Pid pid, i32 fd, u64 size) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  if (negative(size)) return Error::invalid;
  SPW_TRY_ASSIGN(file, impl_.open_file(*task, fd));
  if (!file->can_write()) return Error::invalid;
  SPW_TRY(impl_.sys.vfs.set_size(*file->inode, size));
  return u64{0};
}

Result<u64> Kernel::fsync(Pid pid, i32 fd, SyncProgress* progress) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  SPW_TRY_ASSIGN(file, impl_.open_file(*task, fd));
  SyncProgress anew;
  SPW_TRY(impl_.sys.vfs.fsync(*file->inode, progress != nullptr ? *progress : anew));
  return u64{0};
}

Result<u64> Kernel::file_size(Pid pid, i32 fd) const {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  SPW_TRY_ASSIGN(file, impl_.open_file(*task, fd));
  return file->inode->mapping.size_bytes;
}

}  // namespace spillway
