// HostNodes: how the inodes of a directory of the host are found again. A node knows its parent and
// its name there, and usually has a descriptor (O_PATH) open; the descriptors that were not used
// for longest are closed when there are too many, and opened again by parent and name.
//
// No path is ever given to the kernel: every open names one component, relative to a descriptor,
// with O_NOFOLLOW, and what was opened is compared with what the node is (st_dev, st_ino). So a
// component that somebody replaces meanwhile, by a symbolic link or by anything else, leads to
// Error::stale and never to another file. Files of another device than the root's are refused.
//
// A node that has lost the name that it knows is pinned: its descriptor is all that is left of it.
// Memory is the driver's own (malloc): one node for each inode in memory and for each directory
// above it. Thread safety: the engine lock.
#pragma once

#include <sys/stat.h>

#include <list>
#include <string>
#include <unordered_map>

#include "base/result.h"
#include "base/units.h"

namespace spillway {

// What errno says, in our words.
Error error_of_errno(int value);

struct HostNode {
  u64 number = 0;  // st_ino
  HostNode* parent = nullptr;
  std::string name;          // in parent
  int path_fd = -1;          // O_PATH
  int data_fd = -1;          // for reading, or for reading and writing; directories: for reading
  bool writable = false;     // data_fd is
  bool pinned = false;       // path_fd stays open
  bool cached = false;       // its inode is in memory
  bool times_stale = false;  // pages were written since its times were stored
  u32 children = 0;          // nodes that name this one as their parent
  // Pages that are known to have space.
  u64 reserved_first = 0;
  u64 reserved_end = 0;
  bool listed = false;  // in the list of nodes with descriptors, at `used`
  std::list<HostNode*>::iterator used;
};

class HostNodes {
 public:
  ~HostNodes();
  // `path` is followed as the user wrote it; everything else starts there. `fds_max`: descriptors
  // kept open, at least 16.
  Status init(const char* path, u32 fds_max);

  HostNode& root() { return *root_; }
  // Null: unknown.
  HostNode* find(u64 number);
  // What `name` in `directory` is now; the node is made known. no_entry; access: it lies on another
  // device.
  Result<HostNode*> look_up(HostNode& directory, const std::string& name);
  // The descriptor of the node, good until the next call. stale: it is not where it was.
  Result<int> path_fd(HostNode& node);
  // A descriptor for its contents. access and others: as open(2) says.
  Result<int> data_fd(HostNode& node, bool writable);
  // /proc/self/fd/N as a descriptor-relative name, for calls that do not take O_PATH descriptors.
  int proc_fds() const { return proc_fds_; }

  // Holds the descriptor from now on: its name is about to go.
  Status pin(HostNode& node);
  void moved(HostNode& node, HostNode& parent, const std::string& name);
  // The inode is in memory / no longer in memory.
  void keep(HostNode& node) { node.cached = true; }
  void drop(HostNode& node);

  u64 count() const { return nodes_.size(); }
  u32 open_fds() const { return open_; }
  u64 reopened() const { return reopened_; }

 private:
  int open_own(const char* name, int flags) const;
  void close_fds(HostNode& node);
  void close_data(HostNode& node);
  void use(HostNode& node);
  void make_room();
  void forget_if_unused(HostNode* node);
  void forget_pending();

  std::unordered_map<u64, HostNode*> nodes_;
  std::list<HostNode*> open_nodes_;  // most recently used first
  std::list<u64> looked_up_;         // nodes that nobody has taken into memory yet
  HostNode* root_ = nullptr;
  dev_t device_ = 0;
  int proc_fds_ = -1;
  u32 fds_max_ = 0;
  u32 open_ = 0;
  u64 reopened_ = 0;
};

}  // namespace spillway
