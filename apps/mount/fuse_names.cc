// FuseServer: operations on names and attributes.
#include <sys/statvfs.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include "mount/fuse_calls.h"

namespace spillway {
namespace {

constexpr u32 kPermissionBits = 07777;
constexpr unsigned kRenameNoReplace = 1;

bool is_stats(fuse_ino_t id) {
  return id == FuseServer::kStatsDirectory || id == FuseServer::kStatsFile;
}

void fill_entry(FuseServer& server, const Inode& inode, fuse_entry_param& entry) {
  entry.ino = server.ids().id_of(inode);
  entry.generation = inode.attr.generation;
  entry.attr = server.stat_of(inode);
  entry.attr_timeout = entry.entry_timeout = server.timeout();
}

// The answer for an inode that a call returned held, as `name` in `parent`.
Status announce(FuseServer& server, Result<Inode*> inode, fuse_ino_t parent, Name name,
                fuse_entry_param& entry) {
  if (!inode.ok()) return inode.error();
  fill_entry(server, *inode.value(), entry);
  server.ids().announce(*inode.value(), parent, name);
  return kOk;
}

void reply_entry(fuse_req_t req, FuseServer& server, const Status& status,
                 fuse_entry_param& entry) {
  if (status.ok()) {
    if (fuse_reply_entry(req, &entry) == -ENOENT) {
      // The request was given up: the kernel has not heard of it.
      server.engine().with_lock([&] { server.ids().forget(entry.ino, 1); });
    }
  } else {
    (void)fuse_reply_err(req, errno_of(status.error()));
  }
}

void lookup_stats(fuse_req_t req, FuseServer& server, fuse_ino_t id) {
  fuse_entry_param entry{};
  entry.ino = id;
  entry.attr = server.stat_of_stats(id);
  entry.attr_timeout = entry.entry_timeout = server.timeout();
  (void)fuse_reply_entry(req, &entry);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char* text) {
  guarded(req, [&](FuseServer& server) {
    if (server.is_stats_directory(parent, text)) {
      return lookup_stats(req, server, FuseServer::kStatsDirectory);
    }
    if (parent == FuseServer::kStatsDirectory) {
      if (std::strcmp(text, FuseServer::kStatsFileName) == 0) {
        return lookup_stats(req, server, FuseServer::kStatsFile);
      }
      return (void)fuse_reply_err(req, ENOENT);
    }
    const Name name = Name::of(text);
    fuse_entry_param entry{};
    const Status status = with_inode(server, parent, [&](Inode& directory) {
      return announce(server, server.vfs().lookup(directory, name), parent, name, entry);
    });
    if (!status.ok() && status.error() == Error::no_entry && server.keeps_pages()) {
      // The kernel may remember that there is none.
      entry = {};
      entry.entry_timeout = server.timeout();
      return (void)fuse_reply_entry(req, &entry);
    }
    reply_entry(req, server, status, entry);
  });
}

void op_forget(fuse_req_t req, fuse_ino_t id, u64 times) {
  FuseServer& server = server_of(req);
  server.engine().with_lock([&] { server.ids().forget(id, times); });
  fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, std::size_t count, fuse_forget_data* forgets) {
  FuseServer& server = server_of(req);
  server.engine().with_lock([&] {
    for (std::size_t i = 0; i < count; ++i) {
      server.ids().forget(forgets[i].ino, forgets[i].nlookup);
    }
  });
  fuse_reply_none(req);
}

void op_getattr(fuse_req_t req, fuse_ino_t id, fuse_file_info*) {
  guarded(req, [&](FuseServer& server) {
    struct stat out {};
    Status status;
    if (is_stats(id)) {
      out = server.stat_of_stats(id);
    } else {
      status = with_inode(server, id, [&](Inode& inode) -> Status {
        out = server.stat_of(inode);
        return kOk;
      });
    }
    if (!status.ok()) return (void)fuse_reply_err(req, errno_of(status.error()));
    (void)fuse_reply_attr(req, &out, server.timeout());
  });
}

FileTime time_of(const timespec& t) {
  return {static_cast<i64>(t.tv_sec), static_cast<u32>(t.tv_nsec)};
}

AttributeChange change_of(const Vfs& vfs, const Inode& inode, const struct stat& to, int set) {
  AttributeChange change;
  change.to = inode.attr;
  if ((set & FUSE_SET_ATTR_MODE) != 0) {
    change.mode = true;
    change.to.mode = (inode.attr.mode & kModeType) | (to.st_mode & kPermissionBits);
  }
  if ((set & FUSE_SET_ATTR_UID) != 0) {
    change.uid = true;
    change.to.uid = to.st_uid;
  }
  if ((set & FUSE_SET_ATTR_GID) != 0) {
    change.gid = true;
    change.to.gid = to.st_gid;
  }
  if ((set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) != 0) {
    change.atime = true;
    change.to.atime = (set & FUSE_SET_ATTR_ATIME_NOW) != 0 ? vfs.now() : time_of(to.st_atim);
  }
  if ((set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) != 0) {
    change.mtime = true;
    change.to.mtime = (set & FUSE_SET_ATTR_MTIME_NOW) != 0 ? vfs.now() : time_of(to.st_mtim);
  }
  change.ctime = true;
  change.to.ctime = (set & FUSE_SET_ATTR_CTIME) != 0 ? time_of(to.st_ctim) : vfs.now();
  return change;
}

Status set_attributes(FuseServer& server, Inode& inode, const struct stat& to, int set) {
  Vfs& vfs = server.vfs();
  if ((set & FUSE_SET_ATTR_SIZE) != 0) {
    if (to.st_size < 0) return Error::invalid;
    SPW_TRY(vfs.set_size(inode, static_cast<u64>(to.st_size)));
  }
  const int rest = set & ~FUSE_SET_ATTR_SIZE;
  if (rest == 0) return kOk;
  const InodeAttributes before = inode.attr;
  SPW_TRY(vfs.set_attributes(inode, change_of(vfs, inode, to, rest)));
  if (server.engine().host_directory() == nullptr) return kOk;
  // The host may refuse; who asked must hear of it.
  const Status stored = vfs.inodes().write(inode);
  if (!stored.ok() && stored.error() != Error::wait) inode.attr = before;
  return stored;
}

void op_setattr(fuse_req_t req, fuse_ino_t id, struct stat* to, int set, fuse_file_info*) {
  guarded(req, [&](FuseServer& server) {
    if (is_stats(id)) return (void)fuse_reply_err(req, EPERM);
    struct stat out {};
    const Status status = with_inode(server, id, [&](Inode& inode) -> Status {
      SPW_TRY(set_attributes(server, inode, *to, set));
      out = server.stat_of(inode);
      return kOk;
    });
    if (!status.ok()) return (void)fuse_reply_err(req, errno_of(status.error()));
    (void)fuse_reply_attr(req, &out, server.timeout());
  });
}

void op_readlink(fuse_req_t req, fuse_ino_t id) {
  guarded(req, [&](FuseServer& server) {
    char target[Vfs::kPathMax];
    const Result<u32> length = with_inode(server, id, [&](Inode& inode) {
      return server.vfs().readlink(inode, target, sizeof target - 1);
    });
    if (!length.ok()) return (void)fuse_reply_err(req, errno_of(length.error()));
    target[length.value()] = '\0';
    (void)fuse_reply_readlink(req, target);
  });
}

// Who asks, in a directory that may hand its group on.
NewInode made_by(fuse_req_t req, const Inode& directory, u32 mode, u64 rdev, const Vfs& vfs) {
  const fuse_ctx& who = *fuse_req_ctx(req);
  NewInode made;
  made.mode = mode;
  made.uid = who.uid;
  made.gid = who.gid;
  made.rdev = rdev;
  made.now = vfs.now();
  if ((directory.attr.mode & S_ISGID) != 0) {
    made.gid = directory.attr.gid;
    if (S_ISDIR(mode)) made.mode |= S_ISGID;
  }
  return made;
}

// Whether the name is ours and nobody else's.
bool reserved(fuse_req_t req, FuseServer& server, fuse_ino_t parent, const char* name, int error) {
  if (!server.is_stats_directory(parent, name) && parent != FuseServer::kStatsDirectory) {
    return false;
  }
  (void)fuse_reply_err(req, parent == FuseServer::kStatsDirectory ? EPERM : error);
  return true;
}

void make(fuse_req_t req, fuse_ino_t parent, const char* text, u32 mode, dev_t rdev) {
  guarded(req, [&](FuseServer& server) {
    if (reserved(req, server, parent, text, EEXIST)) return;
    const Name name = Name::of(text);
    fuse_entry_param entry{};
    const Status status = with_inode(server, parent, [&](Inode& directory) {
      const NewInode made = made_by(req, directory, mode, rdev, server.vfs());
      return announce(server, server.vfs().create(directory, name, made), parent, name, entry);
    });
    reply_entry(req, server, status, entry);
  });
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) {
  make(req, parent, name, (mode & S_IFMT) == 0 ? mode | S_IFREG : mode, rdev);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  make(req, parent, name, (mode & kPermissionBits) | S_IFDIR, 0);
}

void op_symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* text) {
  guarded(req, [&](FuseServer& server) {
    if (reserved(req, server, parent, text, EEXIST)) return;
    const Name name = Name::of(text);
    fuse_entry_param entry{};
    const Status status = with_inode(server, parent, [&](Inode& directory) {
      const NewInode made = made_by(req, directory, S_IFLNK | 0777, 0, server.vfs());
      return announce(server, server.vfs().symlink(directory, name, Name::of(target), made), parent,
                      name, entry);
    });
    reply_entry(req, server, status, entry);
  });
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char* text, mode_t mode,
               fuse_file_info* info) {
  guarded(req, [&](FuseServer& server) {
    if (reserved(req, server, parent, text, EEXIST)) return;
    const Name name = Name::of(text);
    fuse_entry_param entry{};
    auto file = std::make_unique<OpenFile>();
    const Status status = with_inode(server, parent, [&](Inode& directory) -> Status {
      const NewInode made =
          made_by(req, directory, (mode & kPermissionBits) | S_IFREG, 0, server.vfs());
      const Result<Inode*> inode = server.vfs().create(directory, name, made);
      if (inode.ok()) {
        server.vfs().hold(*inode.value());
        file->inode = inode.value();
        server.opened(*file);
      }
      return announce(server, inode, parent, name, entry);
    });
    if (!status.ok()) return (void)fuse_reply_err(req, errno_of(status.error()));
    info->fh = reinterpret_cast<u64>(file.get());
    info->keep_cache = server.keeps_pages();
    if (fuse_reply_create(req, &entry, info) == -ENOENT) {
      server.engine().with_lock([&] {
        server.closed(*file);
        server.vfs().put(*file->inode);
        server.ids().forget(entry.ino, 1);
      });
      return;
    }
    (void)file.release();
  });
}

void op_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t parent, const char* text) {
  guarded(req, [&](FuseServer& server) {
    if (reserved(req, server, parent, text, EEXIST)) return;
    if (is_stats(id)) return (void)fuse_reply_err(req, EPERM);
    const Name name = Name::of(text);
    fuse_entry_param entry{};
    const Status status = with_inode(server, parent, [&](Inode& directory) -> Status {
      const Result<Inode*> target = server.ids().get(id);
      if (!target.ok()) return target.error();
      const Status linked = server.vfs().link(directory, name, *target.value());
      if (!linked.ok()) {
        server.vfs().put(*target.value());
        return linked;
      }
      return announce(server, target, parent, name, entry);
    });
    reply_entry(req, server, status, entry);
  });
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  guarded(req, [&](FuseServer& server) {
    if (reserved(req, server, parent, name, EPERM)) return;
    (void)fuse_reply_err(req, error_number(with_inode(server, parent, [&](Inode& directory) {
                           return server.vfs().unlink(directory, Name::of(name));
                         })));
  });
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  guarded(req, [&](FuseServer& server) {
    if (reserved(req, server, parent, name, EPERM)) return;
    (void)fuse_reply_err(req, error_number(with_inode(server, parent, [&](Inode& directory) {
                           return server.vfs().rmdir(directory, Name::of(name));
                         })));
  });
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
               const char* new_name, unsigned flags) {
  guarded(req, [&](FuseServer& server) {
    if (reserved(req, server, parent, name, EPERM)) return;
    if (reserved(req, server, new_parent, new_name, EPERM)) return;
    // Exchanging two names and white-outs are not offered.
    if ((flags & ~kRenameNoReplace) != 0) return (void)fuse_reply_err(req, EINVAL);
    const Status status = with_inode(server, parent, [&](Inode& from) -> Status {
      const Result<Inode*> to = server.ids().get(new_parent);
      if (!to.ok()) return to.error();
      const Status renamed = server.vfs().rename(from, Name::of(name), *to.value(),
                                                 Name::of(new_name), flags == kRenameNoReplace);
      server.vfs().put(*to.value());
      return renamed;
    });
    (void)fuse_reply_err(req, error_number(status));
  });
}

void op_statfs(fuse_req_t req, fuse_ino_t) {
  guarded(req, [&](FuseServer& server) {
    FileSystemStats stats;
    server.engine().with_lock([&] { stats = server.vfs().file_system().stats(); });
    struct statvfs out {};
    out.f_bsize = out.f_frsize = stats.block_size;
    out.f_blocks = stats.blocks;
    out.f_bfree = stats.blocks_free;
    out.f_bavail = stats.blocks_available;
    out.f_files = stats.inodes;
    out.f_ffree = out.f_favail = stats.inodes_free;
    out.f_namemax = stats.name_max;
    (void)fuse_reply_statfs(req, &out);
  });
}

}  // namespace

void add_name_operations(fuse_lowlevel_ops& table) {
  table.lookup = op_lookup;
  table.forget = op_forget;
  table.forget_multi = op_forget_multi;
  table.getattr = op_getattr;
  table.setattr = op_setattr;
  table.readlink = op_readlink;
  table.mknod = op_mknod;
  table.mkdir = op_mkdir;
  table.symlink = op_symlink;
  table.create = op_create;
  table.link = op_link;
  table.unlink = op_unlink;
  table.rmdir = op_rmdir;
  table.rename = op_rename;
  table.statfs = op_statfs;
}

}  // namespace spillway
