// FileSystem: the port between the virtual file system and what stores files: file systems in
// memory and on a device (room vfs), ext2/3/4 images (driver fs_ext), a directory of the host
// (driver fs_host).
//
// The virtual file system calls with inodes that it holds (count > 0), names that are valid
// (Name::valid), types that fit (a directory where one is needed), and after its own caches said
// that the work is needed: lookup() is a miss of the dentry cache. Permissions are the caller's
// business. Directories are changed by one call at a time (the engine lock).
//
// Every call that returns Status or Result may return wait: an I/O is in flight, nothing visible
// has changed, make the same call again after it. Further errors everywhere: io (the device
// failed), corrupt (what is stored makes no sense), no_memory, read_only. Those of one call are
// said with it. A refused call has changed nothing that anybody can see (DESIGN, decision 6).
//
// A call that changes an inode in memory (attr, Mapping::size_bytes) marks it dirty by
// mark_inode_dirty(); it is stored by write_inode, which is called later, by sync and before the
// inode leaves memory. Times are the virtual file system's business: it sets those of directories,
// targets and written files after the call, and marks them dirty.
//
// Calls are made with PageAllocator::NoFs in force (transfers of pages too), so an allocation in
// them never enters a file system again.
// Thread safety: the engine lock.
#pragma once

#include "vfs/inode.h"
#include "vfs/name.h"

namespace spillway {

// Receives the entries of a directory.
class DirectorySink {
 public:
  // `next` is where read_directory goes on after this entry; `type` is a kMode... type or 0 for
  // unknown. False: no room; the entry was not taken.
  virtual bool entry(Name name, u64 ino, u32 type, u64 next) = 0;

 protected:
  ~DirectorySink() = default;
};

struct FileSystemStats {
  u32 block_size = 4096;
  u64 blocks = 0;
  u64 blocks_free = 0;
  u64 blocks_available = 0;  // to other users than root
  u64 inodes = 0;
  u64 inodes_free = 0;
  u32 name_max = Name::kMax;
};

// Who makes a file, and what it is to be.
struct NewInode {
  u32 mode = kModeRegular | 0644;
  u32 uid = 0;
  u32 gid = 0;
  u64 rdev = 0;
  u64 capacity_pages = 0;  // room to grow to, for file systems that fix it; 0: as they like
  FileTime now{};
};

class FileSystem : public Backing {
 public:
  virtual const char* type_name() const = 0;  // "ext4"; for views
  virtual u64 root() const = 0;               // number of the root directory's inode
  virtual bool read_only() const = 0;
  // Whether an inode can be found again by its number alone, after it left memory.
  virtual bool finds_by_number() const { return true; }

  // --- Inodes
  // Fills attr, Mapping::size_bytes and fs_data of an inode of which only the number is known.
  // no_entry: no such inode.
  virtual Status read_inode(Inode& inode) = 0;
  // Stores the attributes and the size (not the pages) where sync() makes them durable from.
  virtual Status write_inode(Inode& inode) = 0;
  // The inode leaves memory; it is clean and without pages.
  virtual void evict_inode(Inode& inode) { (void)inode; }
  // The last name and the last user are gone: gives its blocks and its number free. Its pages are
  // gone. evict_inode follows.
  virtual Status delete_inode(Inode& inode) = 0;

  // --- Directories. no_space where something is made.
  virtual Result<u64> lookup(Inode& directory, Name name) = 0;  // the number; no_entry
  // From `position` (0 at first, then what an entry said) until the sink refuses or the end. "."
  // and ".." are among the entries. May be called again with the same position after an error.
  virtual Status read_directory(Inode& directory, u64 position, DirectorySink& sink) = 0;
  // Makes a regular file, a directory or a special file by the type in `made.mode`; returns its
  // number. read_inode follows at once; it finds in memory what this call has written, and so
  // neither waits nor fails. exists.
  virtual Result<u64> create(Inode& directory, Name name, const NewInode& made) = 0;
  // A symbolic link. `target`: 1..4095 bytes without a zero byte.
  virtual Result<u64> symlink(Inode& directory, Name name, Name target, const NewInode& made) = 0;
  // Writes the target to `out` and returns its length; at most `max` bytes.
  virtual Result<u32> readlink(Inode& inode, char* out, u32 max) = 0;
  // A further name for a file that is no directory. exists, too_many_links.
  virtual Status link(Inode& directory, Name name, Inode& target) = 0;
  // Takes the name away, and of a directory the directory: not_empty. Adjusts the link counts of
  // `target` and `directory` (0 for a directory that is gone); what becomes of an inode without a
  // name is the caller's.
  virtual Status unlink(Inode& directory, Name name, Inode& target) = 0;
  // `replaced` has the new name now, and loses it (null: nobody). not_empty.
  virtual Status rename(Inode& from, Name old_name, Inode& to, Name new_name, Inode& moved,
                        Inode* replaced) = 0;

  // --- Contents. Pages come and go by Backing's calls.
  // Bytes that the file can have at most.
  virtual u64 size_max(const Inode& inode) const {
    (void)inode;
    return ~u64{0};
  }
  // What a write behind size_max() fails with.
  virtual Error size_max_error() const { return Error::file_too_big; }
  // The time as it will be read back once it was stored: cut to what the format can hold, so that
  // it does not change when the inode leaves memory (Linux's timestamp_truncate).
  virtual FileTime storable(FileTime time) const { return time; }
  // Sees to it that pages [first, first+count) of the file have blocks, so that their write-back
  // cannot want for space. Each of them is in the cache and pinned, with contents that are about to
  // become dirty, or has a block already. no_space; no_memory.
  virtual Status reserve_blocks(Inode& inode, u64 first, u64 count) = 0;
  // The file now ends at `bytes`: gives the blocks behind free. The pages behind are gone from the
  // cache, and Mapping::size_bytes says `bytes` already. May be called again when all is done.
  virtual Status truncate(Inode& inode, u64 bytes) = 0;
  // Whether reading the page needs the device: false for holes, which read as zeros.
  // (Pages of holes are filled by read_pages all the same.)

  // --- The whole
  virtual FileSystemStats stats() = 0;
  // Makes durable what write_inode and the directory calls stored. Data pages are the caller's.
  // `ticket`: fresh at first, kept over wait; for file systems that sync pages of their own.
  virtual Status sync(SyncTicket& ticket) = 0;
  // As sync, but only what this inode needs (fsync). By default everything.
  virtual Status sync_inode(Inode& inode, SyncTicket& ticket) {
    (void)inode;
    return sync(ticket);
  }

 protected:
  ~FileSystem() = default;
};

}  // namespace spillway
