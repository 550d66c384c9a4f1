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

Status Kernel::create_file(const char* path, u64 size, u64 capacity) {
  const u64 pages = pages_for(capacity > size ? capacity : size).v;
  SPW_TRY_ASSIGN(inode, impl_.sys.files.create(path, size, pages > 0 ? pages : 1));
  (void)inode;
  return kOk;
}

Result<u64> Kernel::open(Pid pid, const char* path, u32 flags) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  if ((flags & 3) == 3) return Error::invalid;
  FileStore& files = impl_.sys.files;
  StoreInode* inode = nullptr;
  const Result<StoreInode*> found = files.lookup(path);
  if (found.ok()) {
    if ((flags & kOpenCreate) != 0 && (flags & kOpenExclusive) != 0) return Error::exists;
    inode = found.value();
  } else {
    if ((flags & kOpenCreate) == 0) return found.error();
  }
  const bool writes = (flags & 3) != kOpenRead;
  if (inode != nullptr && writes && inode->writers < 0) return Error::text_busy;
  i32 fd = -1;
  for (u32 i = 0; i < kOpenFilesMax; ++i) {
    if (task->files[i].inode == nullptr) {
      fd = static_cast<i32>(i);
      break;
    }
  }
  if (fd < 0) return Error::too_many_files;
  if (inode == nullptr) {
    // Room to grow to, as the file store has no other way to give more later.
    constexpr u64 kNewFilePages = 256;
    SPW_TRY_ASSIGN(made, files.create(path, 0, kNewFilePages));
    inode = made;
  }
  files.get(*inode);
  if (writes) ++inode->writers;
  task->files[fd] = OpenFile{inode, flags, {}};
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
  impl_.sys.files.put(*file->inode);
  *file = OpenFile{};
  return u64{0};
}

Result<u64> Kernel::pread(Pid pid, i32 fd, void* out, u64 bytes, u64 offset, u64* done) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  if (negative(offset)) return Error::invalid;
  SPW_TRY_ASSIGN(file, impl_.open_file(*task, fd));
  if (!file->can_read()) return Error::bad_fd;
  return impl_.sys.files.read(*file->inode, file->readahead, offset, static_cast<u8*>(out), bytes,
                              done);
}

Result<u64> Kernel::pwrite(Pid pid, i32 fd, const void* data, u64 bytes, u64 offset, u64* done) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  if (negative(offset)) return Error::invalid;
  SPW_TRY_ASSIGN(file, impl_.open_file(*task, fd));
  if (!file->can_write()) return Error::bad_fd;
  if ((file->flags & kOpenAppend) != 0) offset = file->inode->mapping.size_bytes - *done;
  SPW_TRY_ASSIGN(written, impl_.sys.files.write(*file->inode, offset, static_cast<const u8*>(data),
                                                bytes, done));
  SPW_TRY(impl_.sys.flusher.balance_dirty());
  return written;
}

Result<u64> Kernel::ftruncate(Pid pid, i32 fd, u64 size) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  if (negative(size)) return Error::invalid;
  SPW_TRY_ASSIGN(file, impl_.open_file(*task, fd));
  const WalkScope walk(impl_.sys.observer.walk, "vmtruncate", "to {a} bytes", size);
  if (!file->can_write()) return Error::invalid;
  StoreInode& inode = *file->inode;
  const Status sized = impl_.sys.files.set_size(inode, size);
  if (!sized.ok()) return sized.error() == Error::no_space ? Error::file_too_big : sized.error();
  const u32 first = static_cast<u32>(pages_for(size).v);
  impl_.sys.spaces.unmap_mapping(inode.mapping, first);
  SPW_TRY(impl_.sys.cache.truncate(
      inode.mapping, first, [](void*, SlotId) {}, nullptr));
  return u64{0};
}

Result<u64> Kernel::fsync(Pid pid, i32 fd) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  SPW_TRY_ASSIGN(file, impl_.open_file(*task, fd));
  for (Area* a = file->inode->mapping.areas; a != nullptr; a = a->share_next) {
    a->space->collect_dirty(a->range());
  }
  SPW_TRY(impl_.sys.files.sync(*file->inode));
  return u64{0};
}

Result<u64> Kernel::unlink(Pid pid, const char* path) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  (void)task;
  SPW_TRY(impl_.sys.files.unlink(path));
  return u64{0};
}

Result<u64> Kernel::file_size(Pid pid, i32 fd) const {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  SPW_TRY_ASSIGN(file, impl_.open_file(*task, fd));
  return file->inode->mapping.size_bytes;
}

}  // namespace spillway
