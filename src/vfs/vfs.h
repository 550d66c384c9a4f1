// Vfs: the calls on one mounted file system, through the dentry, inode and page caches. Kernel
// (by process and path) and `spillway mount` (by inode number) are its callers.
//
// Who gets an Inode* holds a reference and gives it back by put(). Names are checked here
// (invalid, name_too_long); permissions are not: they are the caller's business. Calls return
// Error::wait as FileSystem says: call again with the same arguments.
// Thread safety: the engine lock.
#pragma once

#include "vfs/file_system.h"

namespace spillway {

struct VfsConfig {
  u32 inode_hash_bits = 14;  // buckets: 2^bits, in boot memory
  u32 dentry_hash_bits = 15;
};

struct VfsStats {
  u64 dentries = 0;
  u64 dentries_unused = 0;
  u64 dentries_negative = 0;
  u64 dentry_hits = 0;
  u64 dentry_misses = 0;
  u64 dentries_pruned = 0;
  u64 inodes = 0;
  u64 inodes_unused = 0;
  u64 inodes_dirty = 0;
  u64 inode_hits = 0;
  u64 inode_misses = 0;
  u64 inodes_pruned = 0;
};

// What set_attributes changes.
struct AttributeChange {
  bool mode = false, uid = false, gid = false, atime = false, mtime = false, ctime = false;
  InodeAttributes to;
};

class VfsImpl;

class Vfs {
 public:
  // The inode by number: from the inode cache, or read. no_entry: no such inode.
  Result<Inode*> get(u64 number);
  void put(Inode& inode);

  // --- Names. Each directory is held by the caller.
  // From the dentry cache, or asked of the file system; that there is none is remembered too.
  // "." and ".." work. no_entry, not_directory.
  Result<Inode*> lookup(Inode& directory, Name name);
  // By components, following symbolic links (at most 40: loop). `last_link`: also one at the end.
  Result<Inode*> walk(Inode& from, const char* path, bool last_link);
  Result<Inode*> create(Inode& directory, Name name, const NewInode& made);
  Result<Inode*> symlink(Inode& directory, Name name, Name target, const NewInode& made);
  Result<u32> readlink(Inode& inode, char* out, u32 max);
  Status link(Inode& directory, Name name, Inode& target);
  Status unlink(Inode& directory, Name name);  // is_directory
  Status rmdir(Inode& directory, Name name);   // not_directory, not_empty
  // As renameat2 with `noreplace`: exists. invalid: a directory into itself.
  Status rename(Inode& from, Name old_name, Inode& to, Name new_name, bool noreplace);
  Status read_directory(Inode& directory, u64 position, DirectorySink& sink);

  // --- Contents, through the page cache; `done` carries progress over wait: pass 0 first.
  // Bytes read; fewer at the end of file or before an error.
  Result<u64> read(Inode& inode, u64 offset, u8* out, u64 bytes, u64* done);
  // Bytes written; fewer before an error. Space on the device is had before this returns.
  Result<u64> write(Inode& inode, u64 offset, const u8* data, u64 bytes, u64* done);
  Status set_size(Inode& inode, u64 bytes);
  Status set_attributes(Inode& inode, const AttributeChange& change);
  // Writes the file's pages, then its attributes, then what the file system needs for them, and
  // waits. io and no_space are told once.
  Status fsync(Inode& inode);
  // All dirty pages, inodes and blocks.
  Status sync();

  FileSystem& file_system();
  VfsStats stats() const;
  // O(all): the caches' invariants. At quiescence.
  bool validate() const;

 private:
  friend class VfsImpl;
  explicit Vfs(VfsImpl& impl) : impl_(impl) {}
  VfsImpl& impl_;
};

}  // namespace spillway
