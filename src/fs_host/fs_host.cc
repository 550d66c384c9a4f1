// FsHost: inodes, their attributes, and the whole.
#include "fs_host/fs_host.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <cerrno>
#include <cstdio>

namespace spillway {
namespace {

FileTime time_of(const timespec& t) {
  return {static_cast<i64>(t.tv_sec), static_cast<u32>(t.tv_nsec)};
}

timespec timespec_of(const FileTime& t) {
  return {static_cast<time_t>(t.seconds), static_cast<long>(t.nanoseconds)};
}

constexpr u32 kModeBits = 07777;

}  // namespace

Status FsHost::init(const FsHostConfig& config, PageCache& cache, FrameTable& frames,
                    Frames& memory) {
  config_ = config;
  cache_ = &cache;
  frames_ = &frames;
  memory_ = &memory;
  SPW_TRY(nodes_.init(config.path, config.fds_max));
  root_number_ = nodes_.root().number;
  return kOk;
}

FsHostStats FsHost::node_stats() const {
  // A node, its place in the table and in the lists, and a short name.
  constexpr u64 kBytesEach = sizeof(HostNode) + 96;
  return {nodes_.count(), nodes_.count() * kBytesEach, nodes_.open_fds(), nodes_.reopened()};
}

Status FsHost::refresh(Inode& inode) {
  HostNode* node = node_of(inode);
  if (node == nullptr) return Error::stale;
  SPW_TRY_ASSIGN(fd, nodes_.path_fd(*node));
  struct stat status;
  if (fstatat(fd, "", &status, AT_EMPTY_PATH) != 0) return error_of_errno(errno);
  InodeAttributes& attr = inode.attr;
  attr.mode = status.st_mode;
  attr.nlink = static_cast<u32>(status.st_nlink);
  attr.uid = status.st_uid;
  attr.gid = status.st_gid;
  attr.rdev = status.st_rdev;
  attr.sectors = static_cast<u64>(status.st_blocks);
  attr.atime = time_of(status.st_atim);
  attr.mtime = time_of(status.st_mtim);
  attr.ctime = time_of(status.st_ctim);
  // Of a regular file in memory the size may be ahead of the host's.
  if (!inode.is_regular()) inode.mapping.size_bytes = static_cast<u64>(status.st_size);
  return kOk;
}

Status FsHost::read_inode(Inode& inode) {
  HostNode* node = node_of(inode);
  if (node == nullptr) return Error::no_entry;
  SPW_TRY(refresh(inode));
  if (inode.is_regular()) {
    struct stat status;
    if (fstatat(node->path_fd, "", &status, AT_EMPTY_PATH) != 0) return error_of_errno(errno);
    inode.mapping.size_bytes = static_cast<u64>(status.st_size);
  }
  nodes_.keep(*node);
  return kOk;
}

Status FsHost::store_times(HostNode& node, const Inode& inode) {
  SPW_TRY_ASSIGN(fd, nodes_.path_fd(node));
  const timespec times[2] = {timespec_of(inode.attr.atime), timespec_of(inode.attr.mtime)};
  if (utimensat(fd, "", times, AT_EMPTY_PATH) != 0) return error_of_errno(errno);
  node.times_stale = false;
  return kOk;
}

Status FsHost::write_inode(Inode& inode) {
  SPW_TRY(may_write());
  HostNode* node = node_of(inode);
  if (node == nullptr) return Error::stale;
  SPW_TRY_ASSIGN(fd, nodes_.path_fd(*node));
  struct stat status;
  if (fstatat(fd, "", &status, AT_EMPTY_PATH) != 0) return error_of_errno(errno);
  const InodeAttributes& attr = inode.attr;
  if (inode.is_regular() && inode.mapping.size_bytes > static_cast<u64>(status.st_size)) {
    SPW_TRY_ASSIGN(data, nodes_.data_fd(*node, true));
    if (ftruncate(data, static_cast<off_t>(inode.mapping.size_bytes)) != 0) {
      return error_of_errno(errno);
    }
    SPW_TRY_ASSIGN(again, nodes_.path_fd(*node));
    fd = again;
  }
  // The owner first: chown takes the set-user-id bits away.
  const bool chowned = attr.uid != status.st_uid || attr.gid != status.st_gid;
  if (chowned && fchownat(fd, "", attr.uid, attr.gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0) {
    return error_of_errno(errno);
  }
  const u32 mode = attr.mode & kModeBits;
  if (!inode.is_symlink() && (chowned || mode != (status.st_mode & kModeBits))) {
    char name[16];
    std::snprintf(name, sizeof name, "%d", fd);
    if (fchmodat(nodes_.proc_fds(), name, mode, 0) != 0) return error_of_errno(errno);
  }
  if (time_of(status.st_atim) != attr.atime || time_of(status.st_mtim) != attr.mtime) {
    SPW_TRY(store_times(*node, inode));
  }
  return kOk;
}

void FsHost::evict_inode(Inode& inode) {
  HostNode* node = node_of(inode);
  if (node == nullptr) return;
  // Nobody is left to be told that it failed; the file has the time of its last write then.
  if (node->times_stale) (void)store_times(*node, inode);
  nodes_.drop(*node);
}

// The host deletes the file with the last descriptor, which goes with the node.
Status FsHost::delete_inode(Inode& inode) {
  if (HostNode* node = node_of(inode)) node->times_stale = false;
  return kOk;
}

FileSystemStats FsHost::stats() {
  FileSystemStats out;
  const Result<int> fd = nodes_.path_fd(nodes_.root());
  struct statvfs status;
  if (!fd.ok() || fstatvfs(fd.value(), &status) != 0) return out;
  out.block_size = static_cast<u32>(status.f_frsize);
  out.blocks = status.f_blocks;
  out.blocks_free = status.f_bfree;
  out.blocks_available = status.f_bavail;
  out.inodes = status.f_files;
  out.inodes_free = status.f_ffree;
  if (status.f_namemax < out.name_max) out.name_max = static_cast<u32>(status.f_namemax);
  return out;
}

Status FsHost::sync(SyncTicket&) {
  if (config_.read_only) return kOk;
  SPW_TRY_ASSIGN(fd, nodes_.data_fd(nodes_.root(), false));
  return syncfs(fd) == 0 ? kOk : Status(error_of_errno(errno));
}

Status FsHost::sync_inode(Inode& inode, SyncTicket&) {
  if (config_.read_only || (!inode.is_regular() && !inode.is_directory())) return kOk;
  HostNode* node = node_of(inode);
  if (node == nullptr) return Error::stale;
  if (node->times_stale) SPW_TRY(store_times(*node, inode));
  SPW_TRY_ASSIGN(fd, nodes_.data_fd(*node, node->writable));
  return fsync(fd) == 0 ? kOk : Status(error_of_errno(errno));
}

}  // namespace spillway
