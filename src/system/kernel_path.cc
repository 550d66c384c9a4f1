// Calls on names, by path from the root directory.
#include <cstring>

#include "system/kernel_impl.h"

namespace spillway {

// Calls with the directory and the last name of a path. `directory`: a '/' behind the name is fine,
// elsewhere it needs one. A name that cannot be made or taken away ("." or "..") is the file
// system's to refuse.
template <class Call>
Result<u64> KernelImpl::at_path(const char* path, bool directory, Call call) {
  Vfs& vfs = sys.vfs;
  if (!vfs.mounted()) return Error::no_entry;
  SPW_TRY_ASSIGN(end, vfs.walk_parent(vfs.root_dentry(), path));
  const Status done =
      end.slash && !directory ? Status(Error::not_directory) : call(*end.parent->inode, end.last);
  vfs.put(*end.parent);
  if (!done.ok()) return done.error();
  return u64{0};
}

template <class Call>
Result<u64> KernelImpl::at_path(Pid pid, const char* path, bool directory, Call call) {
  SPW_TRY_ASSIGN(task, live(pid));
  (void)task;
  return at_path(path, directory, call);
}

// The directories on the way to a file that is made to set a stage.
Status KernelImpl::make_parents(const char* path) {
  Vfs& vfs = sys.vfs;
  char part[Vfs::kPathMax];
  if (std::strlen(path) >= sizeof part) return Error::name_too_long;
  for (u32 i = 1; path[0] != 0 && path[i] != 0; ++i) {
    if (path[i] != '/' || path[i - 1] == '/') continue;
    std::memcpy(part, path, i);
    part[i] = 0;
    SPW_TRY_ASSIGN(end, vfs.walk_parent(vfs.root_dentry(), part));
    NewInode directory;
    directory.mode = kModeDirectory | 0755;
    directory.now = vfs.now();
    const Result<Inode*> made = vfs.create(*end.parent->inode, end.last, directory);
    vfs.put(*end.parent);
    if (made.ok()) {
      vfs.put(*made.value());
    } else if (made.error() != Error::exists) {
      return made.error();
    }
  }
  return kOk;
}

Result<u64> Kernel::unlink(Pid pid, const char* path) {
  return impl_.at_path(pid, path, false, [&](Inode& directory, Name name) {
    return impl_.sys.vfs.unlink(directory, name);
  });
}

Result<u64> Kernel::mkdir(Pid pid, const char* path) {
  return impl_.at_path(pid, path, true, [&](Inode& directory, Name name) -> Status {
    NewInode made;
    made.mode = kModeDirectory | 0755;
    made.now = impl_.sys.vfs.now();
    SPW_TRY_ASSIGN(inode, impl_.sys.vfs.create(directory, name, made));
    impl_.sys.vfs.put(*inode);
    return kOk;
  });
}

Result<u64> Kernel::rmdir(Pid pid, const char* path) {
  return impl_.at_path(pid, path, true, [&](Inode& directory, Name name) {
    return impl_.sys.vfs.rmdir(directory, name);
  });
}

Result<u64> Kernel::symlink(Pid pid, const char* target, const char* path) {
  return impl_.at_path(pid, path, false, [&](Inode& directory, Name name) -> Status {
    NewInode made;
    made.now = impl_.sys.vfs.now();
    SPW_TRY_ASSIGN(inode, impl_.sys.vfs.symlink(directory, name, Name::of(target), made));
    impl_.sys.vfs.put(*inode);
    return kOk;
  });
}

Result<u64> Kernel::link(Pid pid, const char* old_path, const char* path) {
  Vfs& vfs = impl_.sys.vfs;
  if (!vfs.mounted()) return Error::no_entry;
  SPW_TRY_ASSIGN(target, vfs.walk_dentry(vfs.root_dentry(), old_path, false));
  const Result<u64> done = impl_.at_path(pid, path, false, [&](Inode& directory, Name name) {
    return vfs.link(directory, name, *target->inode);
  });
  vfs.put(*target);
  return done;
}

// Calls move(from, name) with the directory and the last name of the old path.
template <class Move>
Result<u64> KernelImpl::rename(const char* old_path, Move move) {
  Vfs& vfs = sys.vfs;
  if (!vfs.mounted()) return Error::no_entry;
  SPW_TRY_ASSIGN(from, vfs.walk_parent(vfs.root_dentry(), old_path));
  // The next walk may use the buffer in which the name lies.
  char name[Name::kMax];
  Result<u64> done = Error::name_too_long;
  if (from.last.length <= sizeof name) {
    std::memcpy(name, from.last.text, from.last.length);
    from.last.text = name;
    done = move(*from.parent->inode, from.last);
  }
  vfs.put(*from.parent);
  return done;
}

Result<u64> Kernel::rename(Pid pid, const char* old_path, const char* path) {
  return impl_.rename(old_path, [&](Inode& from, Name name) {
    return impl_.at_path(pid, path, true, [&](Inode& directory, Name to) {
      return impl_.sys.vfs.rename(from, name, directory, to, false);
    });
  });
}

Result<u64> Kernel::stat(Pid pid, const char* path, StatView* out) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  (void)task;
  Vfs& vfs = impl_.sys.vfs;
  if (!vfs.mounted()) return Error::no_entry;
  SPW_TRY_ASSIGN(dentry, vfs.walk_dentry(vfs.root_dentry(), path, true));
  const Inode& inode = *dentry->inode;
  *out = {.number = inode.number,
          .mode = inode.attr.mode,
          .nlink = inode.attr.nlink,
          .size_bytes = inode.mapping.size_bytes};
  vfs.put(*dentry);
  return u64{0};
}

Result<u64> Kernel::readdir(Pid pid, const char* path, u64 position, DirectorySink& sink) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  (void)task;
  Vfs& vfs = impl_.sys.vfs;
  if (!vfs.mounted()) return Error::no_entry;
  SPW_TRY_ASSIGN(dentry, vfs.walk_dentry(vfs.root_dentry(), path, true));
  const Status read = vfs.read_directory(*dentry->inode, position, sink);
  vfs.put(*dentry);
  if (!read.ok()) return read.error();
  return u64{0};
}

Result<u64> Kernel::name_make(const char* path, bool directory, u64 size) {
  Vfs& vfs = impl_.sys.vfs;
  const WalkScope walk(impl_.sys.observer.walk, directory ? "sys_mkdir" : "sys_creat");
  NewInode made;
  if (directory) made.mode = kModeDirectory | 0755;
  made.now = vfs.now();
  made.capacity_pages = size == 0 ? 1 : pages_for(size).v;
  u64 number = 0;
  SPW_TRY(impl_.at_path(path, directory, [&](Inode& parent, Name name) -> Status {
    SPW_TRY_ASSIGN(inode, vfs.create(parent, name, made));
    number = inode->number;
    // It has the room, and nothing that must go first, so this neither fails nor waits.
    if (!directory && size != 0) {
      const Status sized = vfs.set_size(*inode, size);
      SPW_ASSERT(sized.ok());
    }
    vfs.put(*inode);
    return kOk;
  }));
  return number;
}

Result<u64> Kernel::name_lookup(const char* path) {
  Vfs& vfs = impl_.sys.vfs;
  if (!vfs.mounted()) return Error::no_entry;
  const WalkScope walk(impl_.sys.observer.walk, "path_walk");
  SPW_TRY_ASSIGN(inode, vfs.walk(vfs.root(), path, true));
  const u64 number = inode->number;
  vfs.put(*inode);
  return number;
}

Result<u64> Kernel::name_chmod(const char* path, u32 mode) {
  Vfs& vfs = impl_.sys.vfs;
  if (!vfs.mounted()) return Error::no_entry;
  const WalkScope walk(impl_.sys.observer.walk, "sys_chmod");
  SPW_TRY_ASSIGN(inode, vfs.walk(vfs.root(), path, true));
  AttributeChange change;
  change.mode = true;
  change.to.mode = inode->type() | (mode & 07777);
  const Status status = vfs.set_attributes(*inode, change);
  vfs.put(*inode);
  if (!status.ok()) return status.error();
  return u64{0};
}

Result<u64> Kernel::name_remove(const char* path, bool directory) {
  const WalkScope walk(impl_.sys.observer.walk, directory ? "sys_rmdir" : "sys_unlink");
  return impl_.at_path(path, directory, [&](Inode& parent, Name name) {
    Vfs& vfs = impl_.sys.vfs;
    return directory ? vfs.rmdir(parent, name) : vfs.unlink(parent, name);
  });
}

Result<u64> Kernel::name_rename(const char* old_path, const char* path) {
  const WalkScope walk(impl_.sys.observer.walk, "sys_rename");
  return impl_.rename(old_path, [&](Inode& from, Name name) {
    return impl_.at_path(path, true, [&](Inode& directory, Name to) {
      return impl_.sys.vfs.rename(from, name, directory, to, false);
    });
  });
}

Result<u64> Kernel::name_prune(bool inodes, u64 count) {
  Vfs& vfs = impl_.sys.vfs;
  if (!vfs.mounted()) return Error::no_entry;
  return inodes ? vfs.inodes().prune(count) : vfs.dentries().prune(count);
}

}  // namespace spillway
