#include "fs_host/host_nodes.h"

#include <fcntl.h>
#include <unistd.h>
#include <cerrno>
#include <cstdio>

namespace spillway {
namespace {

constexpr u32 kFdsMin = 16;
// Nodes that were looked up and whose inode was not read yet; the virtual file system reads it at
// once, so more than a few mean that its reading failed.
constexpr std::size_t kPendingMax = 64;
constexpr u32 kDepthMax = 4096;

}  // namespace

Error error_of_errno(int value) {
  switch (value) {
    case EPERM: return Error::perm;
    case ENOENT: return Error::no_entry;
    case EAGAIN: return Error::again;
    case ENOMEM: return Error::no_memory;
    case EACCES: return Error::access;
    case EBUSY: return Error::busy;
    case EEXIST: return Error::exists;
    case EINVAL: return Error::invalid;
    case EDQUOT:
    case ENOSPC: return Error::no_space;
    case EXDEV:
    case EOPNOTSUPP: return Error::not_supported;
    case ETXTBSY: return Error::text_busy;
    case EFBIG: return Error::file_too_big;
    case EOVERFLOW: return Error::overflow;
    case ENFILE:
    case EMFILE: return Error::too_many_files;
    case EROFS: return Error::read_only;
    case ENOTEMPTY: return Error::not_empty;
    case ENOTDIR: return Error::not_directory;
    case EISDIR: return Error::is_directory;
    case ENAMETOOLONG: return Error::name_too_long;
    case ELOOP: return Error::loop;
    case EMLINK: return Error::too_many_links;
    case ESTALE: return Error::stale;
    default: return Error::io;
  }
}

HostNodes::~HostNodes() {
  for (auto& [number, node] : nodes_) {
    close_fds(*node);
    delete node;
  }
  if (proc_fds_ >= 0) close(proc_fds_);
}

Status HostNodes::init(const char* path, u32 fds_max) {
  fds_max_ = fds_max < kFdsMin ? kFdsMin : fds_max;
  proc_fds_ = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (proc_fds_ < 0) return error_of_errno(errno);
  const int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return error_of_errno(errno);
  struct stat status;
  if (fstatat(fd, "", &status, AT_EMPTY_PATH) != 0) {
    const Error error = error_of_errno(errno);
    close(fd);
    return error;
  }
  device_ = status.st_dev;
  root_ = new HostNode;
  root_->number = status.st_ino;
  root_->path_fd = fd;
  root_->pinned = true;
  root_->cached = true;
  nodes_[root_->number] = root_;
  ++open_;
  use(*root_);
  return kOk;
}

HostNode* HostNodes::find(u64 number) {
  const auto at = nodes_.find(number);
  return at == nodes_.end() ? nullptr : at->second;
}

void HostNodes::use(HostNode& node) {
  if (node.listed) {
    open_nodes_.splice(open_nodes_.begin(), open_nodes_, node.used);
  } else {
    open_nodes_.push_front(&node);
    node.used = open_nodes_.begin();
    node.listed = true;
  }
}

void HostNodes::close_data(HostNode& node) {
  if (node.data_fd < 0) return;
  close(node.data_fd);
  node.data_fd = -1;
  node.writable = false;
  --open_;
}

void HostNodes::close_fds(HostNode& node) {
  close_data(node);
  if (node.path_fd >= 0) {
    close(node.path_fd);
    node.path_fd = -1;
    --open_;
  }
  if (node.listed) open_nodes_.erase(node.used);
  node.listed = false;
}

// Closes what was not used for longest. Pinned descriptors stay, beyond the limit if need be.
void HostNodes::make_room() {
  for (auto at = open_nodes_.end(); open_ >= fds_max_ && at != open_nodes_.begin();) {
    HostNode& node = **--at;
    if (node.pinned) {
      close_data(node);
      continue;
    }
    ++at;
    close_fds(node);
  }
}

Result<HostNode*> HostNodes::look_up(HostNode& directory, const std::string& name) {
  SPW_TRY_ASSIGN(parent, path_fd(directory));
  const int fd = openat(parent, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return error_of_errno(errno);
  struct stat status;
  if (fstatat(fd, "", &status, AT_EMPTY_PATH) != 0 || status.st_dev != device_) {
    close(fd);
    return Error::access;
  }
  HostNode* node = find(status.st_ino);
  if (node != nullptr && node->path_fd >= 0) {
    close(fd);
  } else {
    if (node == nullptr) {
      forget_pending();
      node = new HostNode;
      node->number = status.st_ino;
      nodes_[node->number] = node;
      looked_up_.push_back(node->number);
    }
    ++directory.children;  // make_room must not be able to take it meanwhile
    make_room();
    --directory.children;
    node->path_fd = fd;
    ++open_;
  }
  use(*node);
  if (node != root_ && !node->pinned) moved(*node, directory, name);
  return node;
}

Result<int> HostNodes::path_fd(HostNode& node) {
  HostNode* at = &node;
  // Down from the nearest ancestor with a descriptor; recursion would be as deep as the tree.
  std::list<HostNode*> chain;
  while (at->path_fd < 0) {
    if (at->parent == nullptr || chain.size() == kDepthMax) return Error::stale;
    chain.push_front(at);
    at = at->parent;
  }
  use(*at);
  for (HostNode* next : chain) {
    const int fd =
        openat(next->parent->path_fd, next->name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT || errno == ENOTDIR ? Error::stale : error_of_errno(errno);
    struct stat status;
    if (fstatat(fd, "", &status, AT_EMPTY_PATH) != 0 || status.st_dev != device_ ||
        status.st_ino != next->number) {
      close(fd);
      return Error::stale;
    }
    next->path_fd = fd;
    ++open_;
    ++reopened_;
    use(*next);
    // The parent was used just now, so it is not what goes; the limit is at least kFdsMin.
    make_room();
  }
  return node.path_fd;
}

// A program may write through a descriptor that it got with the file (open(2) with O_CREAT and mode
// 0444), or from before it took its own permission away. Who was let in by the kernel above us must
// not fail here: the owner gives himself the permission for the moment of opening.
int HostNodes::open_own(const char* name, int flags) const {
  struct stat status;
  if (fstatat(proc_fds_, name, &status, 0) != 0) return -1;
  const mode_t mode = status.st_mode & 07777;
  if (status.st_uid != geteuid() || (mode & S_IWUSR) != 0 ||
      fchmodat(proc_fds_, name, mode | S_IRUSR | S_IWUSR, 0) != 0) {
    errno = EACCES;
    return -1;
  }
  const int fd = openat(proc_fds_, name, flags);
  const int error = errno;
  (void)fchmodat(proc_fds_, name, mode, 0);
  errno = error;
  return fd;
}

Result<int> HostNodes::data_fd(HostNode& node, bool writable) {
  if (node.data_fd >= 0 && (node.writable || !writable)) {
    use(node);
    return node.data_fd;
  }
  SPW_TRY_ASSIGN(path, path_fd(node));
  close_data(node);
  make_room();
  char name[16];
  std::snprintf(name, sizeof name, "%d", path);
  if (node.path_fd < 0) return Error::stale;
  const int flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  int fd = openat(proc_fds_, name, flags);
  if (fd < 0 && errno == EACCES && writable) fd = open_own(name, flags);
  if (fd < 0) return error_of_errno(errno);
  node.data_fd = fd;
  node.writable = writable;
  ++open_;
  use(node);
  return fd;
}

Status HostNodes::pin(HostNode& node) {
  SPW_TRY(path_fd(node));
  node.pinned = true;
  return kOk;
}

void HostNodes::moved(HostNode& node, HostNode& parent, const std::string& name) {
  if (node.parent != &parent) {
    HostNode* old = node.parent;
    node.parent = &parent;
    ++parent.children;
    if (old != nullptr) {
      --old->children;
      forget_if_unused(old);
    }
  }
  if (node.name != name) node.name = name;
}

void HostNodes::drop(HostNode& node) {
  node.cached = false;
  if (&node != root_) forget_if_unused(&node);
}

// A node goes with its inode, unless it leads to others; then the last of them takes it along.
void HostNodes::forget_if_unused(HostNode* node) {
  while (node != nullptr && node != root_ && !node->cached && node->children == 0) {
    HostNode* parent = node->parent;
    close_fds(*node);
    nodes_.erase(node->number);
    delete node;
    if (parent != nullptr) --parent->children;
    node = parent;
  }
}

void HostNodes::forget_pending() {
  while (looked_up_.size() >= kPendingMax) {
    HostNode* node = find(looked_up_.front());
    looked_up_.pop_front();
    if (node != nullptr) forget_if_unused(node);
  }
}

}  // namespace spillway
