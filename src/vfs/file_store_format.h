// The format of FileStore's metadata blocks. For its own files only.
#pragma once

#include <cstring>

#include "vfs/file_store.h"

namespace spillway {

// An inode in the table. mode 0: unused.
struct FileStore::Record {
  u32 mode, nlink, uid, gid;
  u64 rdev;
  u64 size_bytes;
  i64 atime_s, mtime_s, ctime_s;
  u32 atime_ns, mtime_ns, ctime_ns, unused;
  u64 fs_data[6];  // as in memory
};

// Directory blocks are filled by records without gaps, each with its name behind it. A record with
// number 0 is free. The length of a record is a multiple of 8 and may exceed what its name needs:
// the rest is free too.
struct FileStore::DirectoryEntry {
  u32 number;
  u16 bytes;  // of the record with its name
  u8 name_length;
  u8 type;  // the mode's type >> 12
  char* name() { return reinterpret_cast<char*>(this + 1); }
  const char* name() const { return reinterpret_cast<const char*>(this + 1); }
  static constexpr u32 kHead = 8;
  static constexpr u32 bytes_for(u32 name_length) { return (kHead + name_length + 7) & ~7U; }
  // What of the record its name does not need.
  u32 room() const { return number == 0 ? bytes : bytes - bytes_for(name_length); }
};

// A metadata block, held while this lives.
class FileStore::Block {
 public:
  Block() = default;
  ~Block() { close(); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  void close() {
    if (buffer != nullptr) cache->brelse(*buffer);
    buffer = nullptr;
    data = nullptr;
  }
  void changed() {
    if (buffer != nullptr) cache->mark_dirty(*buffer);
  }
  template <class T>
  T& at(u32 offset) {
    return *reinterpret_cast<T*>(data + offset);
  }

  u32 number = 0;
  u8* data = nullptr;
  BufferCache* cache = nullptr;
  Buffer* buffer = nullptr;  // null: in memory
};

// A record of a directory: `at`, behind `before` in the same block (~0: the first). `fresh`: not in
// a block yet; it becomes the first of a new one, the directory's block number `index`.
struct FileStore::Slot {
  Block block;
  u32 at = 0;
  u32 before = ~0U;
  u32 index = 0;
  bool fresh = false;
};

}  // namespace spillway
