// FileStore: files on one block device, each a run of consecutive blocks, found by name in a flat
// directory that lives in memory: what mapped files and executables need of a file system. It is
// the Backing of its files' mappings.
//
// A file keeps a block for each page up to its capacity, so writing a page never lacks space unless
// the device says so. Contents survive on the device as long as the machine; the directory does
// not. Thread safety: the engine lock. Calls that need an I/O return Error::wait: call again.
#pragma once

#include "pagecache/page_cache.h"

namespace spillway {

struct Inode {
  static constexpr u32 kNameMax = 63;
  char name[kNameMax + 1] = {};
  Mapping mapping;  // size_bytes is the file's size
  u32 number = 0;   // of the inode, > 0
  u64 first_block = 0;
  u64 capacity_pages = 0;
  u32 opens = 0;       // open files and areas that refer to it
  i32 writers = 0;     // open for writing; negative: executables deny writing (ETXTBSY)
  bool linked = true;  // has a name; an unlinked inode goes with its last reference
  bool append_only = false;
};

// Read-ahead state of one open file (MECHANISMS 8.4): the window doubles from kReadaheadMin to
// kReadaheadMax pages while reads go on in sequence.
struct FileReadahead {
  u64 next = 0;    // where a sequential read would continue, in pages
  u32 window = 0;  // 0 = not sequential
  u32 ahead_end = 0;
};

class FileStore final : public Backing, public IoSink {
 public:
  static constexpr u32 kFilesMax = 1024;
  static constexpr u32 kReadaheadMin = 3;
  static constexpr u32 kReadaheadMax = 31;
  static constexpr u32 kRequestsMax = 64;  // transfers in flight

  // `device` may be null: then there is no room for files. Files begin at `first_block`.
  Status init(Machine& machine, PageCache& cache, PageAllocator& allocator, FrameTable& frames,
              const Observer& observer, BlockDevice* device);
  bool present() const { return device_ != nullptr; }

  // exists; no_space (device or directory); invalid (empty or long name, capacity 0).
  Result<Inode*> create(const char* name, u64 size_bytes, u64 capacity_pages);
  // no_entry.
  Result<Inode*> lookup(const char* name);
  Status unlink(const char* name);
  void get(Inode& inode);
  void put(Inode& inode);  // the last one of an unlinked inode drops its pages and blocks

  // read(2) and write(2) at a position, through the cache. Returns the bytes done; fewer at the end
  // of file. `done` carries progress over Error::wait: pass 0 first, then what it was left at.
  Result<u64> read(Inode& inode, FileReadahead& ra, u64 offset, u8* out, u64 bytes, u64* done);
  Result<u64> write(Inode& inode, u64 offset, const u8* data, u64 bytes, u64* done);
  // Changes the size only. Pages beyond must be unmapped by the caller (space::vmtruncate), which
  // also calls PageCache::truncate. Zeroes the tail of the last page. wait: its page must come in.
  Status set_size(Inode& inode, u64 bytes);
  // Writes all dirty pages and waits for them.
  Status sync(Inode& inode);

  Status read_pages(Mapping& mapping, u32 index, const Pfn* frames, u32 count) override;
  WriteOutcome write_page(Mapping& mapping, Pfn pfn) override;
  void io_done(IoRequest& request, Status status) override;

  u32 in_flight() const { return in_flight_; }
  // Inode by position 0..kFilesMax-1, null if unused; for snapshots and audits.
  Inode* at(u32 i);
  bool validate() const;

 private:
  Machine* machine_ = nullptr;
  PageCache* cache_ = nullptr;
  PageAllocator* allocator_ = nullptr;
  FrameTable* frames_ = nullptr;
  const Observer* observer_ = nullptr;
  BlockDevice* device_ = nullptr;
  Inode* inodes_ = nullptr;
  u32 in_flight_ = 0;
};

}  // namespace spillway
