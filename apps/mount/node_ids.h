// NodeIds: what the kernel calls our inodes.
//
// Where inodes can be found by number, the id is the number with the inode's generation above it:
// nothing is kept in memory for what the kernel remembers, and an id whose number has been given to
// another file since is stale. Elsewhere (a directory of the host) the id is the number, and an
// inode stays in use until the kernel forgets it; when it remembers too many, old_names() says
// which names to take from it. Thread safety: the engine lock, for everything.
#pragma once

#include <fuse3/fuse_lowlevel.h>

#include <list>
#include <string>
#include <unordered_map>
#include <vector>

#include "vfs/vfs.h"

namespace spillway {

class NodeIds {
 public:
  // `held_max`: inodes that may stay in use for the kernel's sake before names are taken from it.
  NodeIds(Vfs& vfs, u64 held_max) : vfs_(vfs), held_max_(held_max) {
    by_number_ = vfs.file_system().finds_by_number();
  }

  fuse_ino_t id_of(const Inode& inode) const;
  // The inode, held. stale: it is another one now.
  Result<Inode*> get(fuse_ino_t id);
  // The kernel hears of `inode`, which the caller holds, by `name` in `parent`. The reference goes
  // to the table or back.
  void announce(Inode& inode, fuse_ino_t parent, Name name);
  void forget(fuse_ino_t id, u64 times);
  // The kernel is gone, and what it remembered with it.
  void forget_all();

  struct OldName {
    fuse_ino_t parent;
    std::string name;
  };
  // Names that the kernel should forget, oldest first, at most `max`; each is told once in a while.
  std::vector<OldName> old_names(u32 max);
  // Bytes of this table, which are outside of the budget.
  u64 bytes() const;
  u64 held() const { return held_.size(); }

 private:
  struct Held {
    u64 times;  // the kernel was told of it
    fuse_ino_t parent;
    std::string name;
    std::list<u64>::iterator age;
  };

  Vfs& vfs_;
  u64 held_max_;
  bool by_number_;
  std::unordered_map<u64, Held> held_;
  std::list<u64> by_age_;  // oldest first
};

}  // namespace spillway
