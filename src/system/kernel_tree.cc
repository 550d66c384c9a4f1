// A tree of names in memory: what a path costs, and how dentries and inodes age.
#include <new>

#include "system/kernel_impl.h"

namespace spillway {
namespace {

constexpr u32 kHashBits = 10;

}  // namespace

Status Kernel::make_tree() {
  SystemImpl& sys = impl_.sys;
  if (impl_.tree != nullptr) return Error::exists;
  void* memory = sys.machine.boot.alloc(sizeof(KernelTree), alignof(KernelTree));
  if (memory == nullptr) return Error::no_memory;
  KernelTree* tree = ::new (memory) KernelTree;
  SPW_TRY(tree->fs.init(sys.machine, sys.cache, sys.frames, MemFsLimits{}));
  SPW_TRY(tree->vfs.init(sys.machine, sys.cache, sys.allocator, sys.frames, sys.observer,
                         {.inode_hash_bits = kHashBits, .dentry_hash_bits = kHashBits}));
  SPW_TRY(tree->vfs.mount(tree->fs));
  sys.flusher.add(tree->vfs.inodes());
  sys.pageout.shrinkers().add(tree->vfs.dentries());
  sys.pageout.shrinkers().add(tree->vfs.inodes());
  impl_.tree = tree;
  return kOk;
}

Result<Vfs*> KernelImpl::tree_vfs() {
  if (tree == nullptr) return Error::no_device;
  return &tree->vfs;
}

Result<u64> Kernel::tree_make(const char* path, bool directory) {
  SPW_TRY_ASSIGN(vfs, impl_.tree_vfs());
  const WalkScope walk(impl_.sys.observer.walk, directory ? "sys_mkdir" : "sys_creat");
  SPW_TRY_ASSIGN(end, vfs->walk_parent(vfs->root_dentry(), path));
  NewInode made;
  if (directory) made.mode = kModeDirectory | 0755;
  const Result<Inode*> inode = vfs->create(*end.parent->inode, end.last, made);
  vfs->put(*end.parent);
  if (!inode.ok()) return inode.error();
  const u64 number = inode.value()->number;
  vfs->put(*inode.value());
  return number;
}

Result<u64> Kernel::tree_lookup(const char* path) {
  SPW_TRY_ASSIGN(vfs, impl_.tree_vfs());
  const WalkScope walk(impl_.sys.observer.walk, "path_walk");
  SPW_TRY_ASSIGN(inode, vfs->walk(vfs->root(), path, true));
  const u64 number = inode->number;
  vfs->put(*inode);
  return number;
}

Result<u64> Kernel::tree_chmod(const char* path, u32 mode) {
  SPW_TRY_ASSIGN(vfs, impl_.tree_vfs());
  const WalkScope walk(impl_.sys.observer.walk, "sys_chmod");
  SPW_TRY_ASSIGN(inode, vfs->walk(vfs->root(), path, true));
  AttributeChange change;
  change.mode = true;
  change.to.mode = inode->type() | (mode & 07777);
  const Status status = vfs->set_attributes(*inode, change);
  vfs->put(*inode);
  if (!status.ok()) return status.error();
  return u64{0};
}

Result<u64> Kernel::tree_remove(const char* path, bool directory) {
  SPW_TRY_ASSIGN(vfs, impl_.tree_vfs());
  const WalkScope walk(impl_.sys.observer.walk, directory ? "sys_rmdir" : "sys_unlink");
  SPW_TRY_ASSIGN(end, vfs->walk_parent(vfs->root_dentry(), path));
  Inode& parent = *end.parent->inode;
  const Status status = directory ? vfs->rmdir(parent, end.last) : vfs->unlink(parent, end.last);
  vfs->put(*end.parent);
  if (!status.ok()) return status.error();
  return u64{0};
}

Result<u64> Kernel::tree_prune(bool inodes, u64 count) {
  SPW_TRY_ASSIGN(vfs, impl_.tree_vfs());
  return inodes ? vfs->inodes().prune(count) : vfs->dentries().prune(count);
}

VfsStats Kernel::tree_stats() const {
  return impl_.tree == nullptr ? VfsStats{} : impl_.tree->vfs.stats();
}

}  // namespace spillway
