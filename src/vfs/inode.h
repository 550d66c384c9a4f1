// Inode: what a file is while it is in memory: its attributes, its cached pages, who uses it. Made
// and kept by InodeCache; what stands behind it is its FileSystem's.
// Thread safety: the engine lock.
#pragma once

#include "pagecache/mapping.h"

namespace spillway {

class FileSystem;
class InodeCache;
struct Dentry;

struct FileTime {
  i64 seconds = 0;
  u32 nanoseconds = 0;
  constexpr auto operator<=>(const FileTime&) const = default;
};

// The type bits of InodeAttributes::mode, Linux's values.
inline constexpr u32 kModeType = 0170000, kModeDirectory = 0040000, kModeRegular = 0100000,
                     kModeSymlink = 0120000, kModeCharacter = 0020000, kModeBlock = 0060000,
                     kModeFifo = 0010000, kModeSocket = 0140000;

// What stat(2) tells, but for the size, which is Mapping::size_bytes.
struct InodeAttributes {
  u32 mode = 0;  // type and permissions
  u32 nlink = 0;
  u32 uid = 0;
  u32 gid = 0;
  u64 rdev = 0;
  u64 sectors = 0;  // of 512 bytes, as st_blocks
  u32 generation = 0;
  FileTime atime{};
  FileTime mtime{};
  FileTime ctime{};
};

// Bits of Inode::state.
enum class InodeState : u16 {
  dirty = 1 << 0,       // attributes differ from what the file system has: write_inode is due
  busy = 1 << 1,        // being read, written or deleted: nobody may free it meanwhile
  deleted = 1 << 2,     // no user will find it again; it goes when its transfers have ended
  bad = 1 << 3,         // makes no sense (the file system says so): every use of it fails with io
  referenced = 1 << 4,  // looked up while unused: its next scan spares it
  // It got shorter, and FileSystem::truncate has not given the blocks behind the end free yet. It
  // must not grow before that: the blocks hold what was cut off.
  truncating = 1 << 5,
  truncate_told = 1 << 6,  // sync() has told that this failed; it goes on trying
};

struct Inode {
  u64 number = 0;  // within its file system, > 0
  FileSystem* fs = nullptr;
  Mapping mapping;  // the cached pages; Mapping::host is the inode
  InodeAttributes attr;

  u32 count = 0;    // references: dentries, open files, areas, calls. 0 = unused but findable
  i32 writers = 0;  // open for writing; negative: executables deny writing (ETXTBSY)
  bool append_only = false;
  u16 state = 0;              // InodeState
  u32 sync_round = 0;         // the round of Vfs::sync whose turn its pages have not had
  SyncTicket sync;            // of that
  u64 dirtied_ns = 0;         // when it became dirty
  Dentry* aliases = nullptr;  // its dentries, linked by Dentry::alias_next; a directory has one

  // What the file system knows beside: its own business from read_inode to evict_inode.
  u64 fs_data[6] = {};

  // InodeCache's.
  InodeCache* cache = nullptr;
  Inode* hash_next = nullptr;
  Inode* prev = nullptr;  // in-use, unused or dirty list
  Inode* next = nullptr;

  bool is(InodeState s) const { return (state & static_cast<u16>(s)) != 0; }
  void set(InodeState s) { state = static_cast<u16>(state | static_cast<u16>(s)); }
  void clear(InodeState s) { state = static_cast<u16>(state & ~static_cast<u16>(s)); }
  u32 type() const { return attr.mode & kModeType; }
  bool is_directory() const { return type() == kModeDirectory; }
  bool is_regular() const { return type() == kModeRegular; }
  bool is_symlink() const { return type() == kModeSymlink; }
};

// The inode differs from what is stored: FileSystem::write_inode is due. For file systems and
// whoever changes attributes or the size. One that is dirty already keeps its time.
void mark_inode_dirty(Inode& inode);

inline Inode& inode_of(const Mapping& mapping) { return *static_cast<Inode*>(mapping.host); }

}  // namespace spillway
