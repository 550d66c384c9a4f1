// FsHost: directories and what changes them. Each call names one component, relative to the
// descriptor of its directory.
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "fs_host/fs_host.h"

namespace spillway {
namespace {

// As the kernel writes entries of a directory.
struct RawEntry {
  u64 ino;
  i64 next;
  u16 length;
  u8 type;
};
constexpr std::size_t kNameOffset = 19;
constexpr std::size_t kDirectoryBytes = 32768;
constexpr u32 kTypeShift = 12;  // DT_... << 12 is the type of st_mode

}  // namespace

Result<u64> FsHost::lookup(Inode& directory, Name name) {
  HostNode* parent = node_of(directory);
  if (parent == nullptr) return Error::stale;
  if (!name.valid()) return Error::invalid;
  const std::string text(name.text, name.length);
  SPW_TRY_ASSIGN(node, nodes_.look_up(*parent, text));
  return node->number;
}

Status FsHost::read_directory(Inode& directory, u64 position, DirectorySink& sink) {
  HostNode* node = node_of(directory);
  if (node == nullptr) return Error::stale;
  SPW_TRY_ASSIGN(fd, nodes_.data_fd(*node, false));
  if (lseek(fd, static_cast<off_t>(position), SEEK_SET) < 0) return error_of_errno(errno);
  alignas(8) char bytes[kDirectoryBytes];
  for (;;) {
    const long got = syscall(SYS_getdents64, fd, bytes, sizeof bytes);
    if (got < 0) return error_of_errno(errno);
    if (got == 0) return kOk;
    for (long at = 0; at < got;) {
      RawEntry entry;
      std::memcpy(&entry, bytes + at, kNameOffset);
      const Name name = Name::of(bytes + at + kNameOffset);
      // What lies above the root is nobody's business.
      const bool above = name.is_dot_dot() && node == &nodes_.root();
      const u64 number = above ? root_number_ : entry.ino;
      if (!sink.entry(name, number, u32{entry.type} << kTypeShift, static_cast<u64>(entry.next))) {
        return kOk;
      }
      at += entry.length;
    }
  }
}

Result<u64> FsHost::made_known(Inode& directory, HostNode& parent, const std::string& name,
                               const NewInode& made) {
  SPW_TRY_ASSIGN(node, nodes_.look_up(parent, name));
  if (config_.set_owner) {
    // Not as the owner asked for is no reason to undo what was made, but a set-user-id bit of
    // another owner would be.
    if (fchownat(node->path_fd, "", made.uid, made.gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0) {
      const Error error = error_of_errno(errno);
      const bool is_directory = (made.mode & kModeType) == kModeDirectory;
      (void)unlinkat(parent.path_fd, name.c_str(), is_directory ? AT_REMOVEDIR : 0);
      return error;
    }
    if ((made.mode & 07000) != 0 && (made.mode & kModeType) != kModeSymlink) {
      char text[16];
      std::snprintf(text, sizeof text, "%d", node->path_fd);
      (void)fchmodat(nodes_.proc_fds(), text, made.mode & 07777, 0);
    }
  }
  SPW_TRY(refresh(directory));
  return node->number;
}

Result<u64> FsHost::create(Inode& directory, Name name, const NewInode& made) {
  SPW_TRY(may_write());
  HostNode* parent = node_of(directory);
  if (parent == nullptr) return Error::stale;
  if (!name.valid()) return Error::invalid;
  const std::string text(name.text, name.length);
  SPW_TRY_ASSIGN(at, nodes_.path_fd(*parent));
  const mode_t mode = made.mode & 07777;
  int result = 0;
  switch (made.mode & kModeType) {
    case kModeRegular: {
      const int fd =
          openat(at, text.c_str(), O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, mode);
      if (fd >= 0) close(fd);
      result = fd < 0 ? -1 : 0;
      break;
    }
    case kModeDirectory: result = mkdirat(at, text.c_str(), mode); break;
    default: result = mknodat(at, text.c_str(), made.mode, static_cast<dev_t>(made.rdev)); break;
  }
  if (result != 0) return error_of_errno(errno);
  return made_known(directory, *parent, text, made);
}

Result<u64> FsHost::symlink(Inode& directory, Name name, Name target, const NewInode& made) {
  SPW_TRY(may_write());
  HostNode* parent = node_of(directory);
  if (parent == nullptr) return Error::stale;
  if (!name.valid() || target.length == 0 ||
      std::memchr(target.text, 0, target.length) != nullptr) {
    return Error::invalid;
  }
  const std::string text(name.text, name.length);
  SPW_TRY_ASSIGN(at, nodes_.path_fd(*parent));
  if (symlinkat(std::string(target.text, target.length).c_str(), at, text.c_str()) != 0) {
    return error_of_errno(errno);
  }
  NewInode link = made;
  link.mode = kModeSymlink | 0777;
  return made_known(directory, *parent, text, link);
}

Result<u32> FsHost::readlink(Inode& inode, char* out, u32 max) {
  HostNode* node = node_of(inode);
  if (node == nullptr) return Error::stale;
  SPW_TRY_ASSIGN(fd, nodes_.path_fd(*node));
  const ssize_t got = readlinkat(fd, "", out, max);
  if (got < 0) return error_of_errno(errno);
  return static_cast<u32>(got);
}

Status FsHost::link(Inode& directory, Name name, Inode& target) {
  SPW_TRY(may_write());
  HostNode* parent = node_of(directory);
  HostNode* node = node_of(target);
  if (parent == nullptr || node == nullptr) return Error::stale;
  if (!name.valid()) return Error::invalid;
  SPW_TRY_ASSIGN(at, nodes_.path_fd(*parent));
  SPW_TRY_ASSIGN(fd, nodes_.path_fd(*node));
  char from[16];
  std::snprintf(from, sizeof from, "%d", fd);
  const std::string text(name.text, name.length);
  // Opening the file may have closed the directory, if very few descriptors are allowed.
  if (parent->path_fd != at) return Error::too_many_files;
  if (linkat(nodes_.proc_fds(), from, at, text.c_str(), AT_SYMLINK_FOLLOW) != 0) {
    return error_of_errno(errno);
  }
  SPW_TRY(refresh(target));
  return refresh(directory);
}

Status FsHost::unlink(Inode& directory, Name name, Inode& target) {
  SPW_TRY(may_write());
  HostNode* parent = node_of(directory);
  HostNode* node = node_of(target);
  if (parent == nullptr || node == nullptr) return Error::stale;
  if (!name.valid()) return Error::invalid;
  const std::string text(name.text, name.length);
  const bool was_pinned = node->pinned;
  SPW_TRY(nodes_.pin(*node));
  const auto refuse = [&](Error error) {
    node->pinned = was_pinned;
    return error;
  };
  const Result<int> at = nodes_.path_fd(*parent);
  if (!at.ok()) return refuse(at.error());
  struct stat status;
  if (fstatat(at.value(), text.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    return refuse(error_of_errno(errno));
  }
  if (status.st_ino != node->number) return refuse(Error::stale);
  const int flags = target.is_directory() ? AT_REMOVEDIR : 0;
  if (unlinkat(at.value(), text.c_str(), flags) != 0) return refuse(error_of_errno(errno));
  // A further name of the file keeps it findable if that is the one that the node knows.
  if (!was_pinned && (node->parent != parent || node->name != text)) node->pinned = false;
  (void)refresh(target);
  if (target.is_directory()) target.attr.nlink = 0;
  return refresh(directory);
}

Status FsHost::rename(Inode& from, Name old_name, Inode& to, Name new_name, Inode& moved,
                      Inode* replaced) {
  SPW_TRY(may_write());
  HostNode* source = node_of(from);
  HostNode* target = node_of(to);
  HostNode* node = node_of(moved);
  if (source == nullptr || target == nullptr || node == nullptr) return Error::stale;
  if (!old_name.valid() || !new_name.valid()) return Error::invalid;
  const std::string old_text(old_name.text, old_name.length);
  const std::string new_text(new_name.text, new_name.length);
  HostNode* lost = replaced == nullptr ? nullptr : node_of(*replaced);
  const bool was_pinned = lost != nullptr && lost->pinned;
  if (lost != nullptr) SPW_TRY(nodes_.pin(*lost));
  SPW_TRY_ASSIGN(old_at, nodes_.path_fd(*source));
  SPW_TRY_ASSIGN(new_at, nodes_.path_fd(*target));
  if (source->path_fd != old_at) return Error::too_many_files;
  const int result = replaced != nullptr
                         ? renameat(old_at, old_text.c_str(), new_at, new_text.c_str())
                         : static_cast<int>(syscall(SYS_renameat2, old_at, old_text.c_str(), new_at,
                                                    new_text.c_str(), 1U /* RENAME_NOREPLACE */));
  if (result != 0) {
    const Error error = error_of_errno(errno);
    if (lost != nullptr) lost->pinned = was_pinned;
    return error;
  }
  nodes_.moved(*node, *target, new_text);
  if (replaced != nullptr) {
    (void)refresh(*replaced);
    if (replaced->is_directory()) replaced->attr.nlink = 0;
  }
  SPW_TRY(refresh(moved));
  SPW_TRY(refresh(from));
  return refresh(to);
}

}  // namespace spillway
