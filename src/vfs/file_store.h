// FileStore: files on one block device, each a run of consecutive blocks, found by name in a flat
// directory that lives in memory: what mapped files and executables need of a file system. It is
// the Backing of its files' mappings.
//
// A file keeps a block for each page up to its capacity, so writing a page never lacks space unless
// the device says so. Contents survive on the device as long as the machine; the directory does
// not. One bit per block says whether the file that has the block has written it: pages without
// their bit read as zeros, so that nothing of a block's former owner is ever seen.
//
// Invariants: F1 files' extents are disjoint and on the device; F2 only blocks of pages below the
// end of file have their bit; F3 bytes beyond the end of file are zero on the device, and in the
// cache unless a program has stored there (they go before anybody can see them: when the page is
// written and when the file grows).
// Thread safety: the engine lock. Calls that need an I/O return Error::wait: call again.
#pragma once

#include "pagecache/page_cache.h"
#include "vfs/readahead.h"

namespace spillway {

struct StoreInode {
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
  bool dying = false;  // nobody can reach it; goes when its transfers have ended
};

class FileStore final : public Backing, public IoSink {
 public:
  static constexpr u32 kFilesMax = 1024;
  static constexpr u32 kReadaheadMin = FileReadahead::kMin;
  static constexpr u32 kReadaheadMax = FileReadahead::kMax;
  static constexpr u32 kRequestsMax = 64;  // transfers in flight

  // `device` may be null: then there is no room for files. It is the file store's alone. Pages that
  // were never written on it may read as anything.
  Status init(Machine& machine, PageCache& cache, PageAllocator& allocator, FrameTable& frames,
              const Observer& observer, BlockDevice* device);
  bool present() const { return device_ != nullptr; }

  // A file of zeros. exists; no_space (device or directory); invalid (empty or long name, capacity
  // 0, size beyond the capacity). The caller takes references with get().
  Result<StoreInode*> create(const char* name, u64 size_bytes, u64 capacity_pages);
  // no_entry.
  Result<StoreInode*> lookup(const char* name);
  Status unlink(const char* name);
  void get(StoreInode& inode) { ++inode.opens; }
  // The last one of an unlinked inode drops its pages and blocks, if need be when the transfers in
  // flight have ended.
  void put(StoreInode& inode);

  // read(2) and write(2) at a position, through the cache. Returns the bytes done; fewer at the end
  // of file, at the end of the capacity, or before an error, which is told when nothing was done:
  // io, no_memory, no_space (at the end of the capacity). `done` carries progress over Error::wait:
  // pass 0 first, then what it was left at.
  Result<u64> read(StoreInode& inode, FileReadahead& ra, u64 offset, u8* out, u64 bytes, u64* done);
  Result<u64> write(StoreInode& inode, u64 offset, const u8* data, u64 bytes, u64* done);
  // Changes the size and zeroes the tail of the last page. Pages beyond must be unmapped by the
  // caller (space::vmtruncate), which also calls PageCache::truncate; when this returned ok, none
  // of them is busy, so both cannot fail. wait: the last page must come in, or a page that is to go
  // is busy; io: the last page cannot be read; no_space: beyond the capacity. Nothing has changed.
  Status set_size(StoreInode& inode, u64 bytes);
  // Writes all dirty pages and waits for them.
  Status sync(StoreInode& inode) { return cache_->sync(inode.mapping, 0, ~u32{0}); }

  Status read_pages(Mapping& mapping, u32 index, const Pfn* frames, u32 count) override;
  WriteOutcome write_page(Mapping& mapping, Pfn pfn) override;
  void io_done(IoRequest& request, Status status) override;

  u32 in_flight() const { return in_flight_; }
  // StoreInode by position 0..kFilesMax-1, null if unused; for snapshots and audits.
  StoreInode* at(u32 i);
  const StoreInode* at(u32 i) const { return const_cast<FileStore*>(this)->at(i); }
  // Whether the file's page has contents on the device.
  bool on_device(const StoreInode& inode, u64 index) const {
    return (written_[block_of(inode, index) / 64] >> (block_of(inode, index) % 64) & 1) != 0;
  }
  // O(device): F1, F2, names, and PageCache::validate of each file.
  bool validate() const;

 private:
  // A transfer in flight. One that reads several pages and fails is repeated page by page, so that
  // only those fail that are bad.
  struct FileRequest {
    IoRequest io;
    StoreInode* inode;
    u32 index;  // of the first page
    u32 total;  // pages
    u32 at;     // when page by page: the one in flight
    bool single;
    Pfn frames[kIoFramesMax];
    FileRequest* next_free;
  };

  static u64 block_of(const StoreInode& inode, u64 index) { return inode.first_block + index; }
  void set_on_device(const StoreInode& inode, u64 index, bool on);
  u8* bytes_of(Pfn pfn) const;
  Result<u64> find_extent(u64 pages) const;
  void release(StoreInode& inode);
  bool finish_release(StoreInode& inode);

  FileRequest& take_request(StoreInode& inode, u32 index);
  void put_request(FileRequest& request);
  void submit(FileRequest& request, IoOp op);
  void submit_single(FileRequest& request);
  void page_was_read(StoreInode& inode, u32 index, Pfn pfn, Status status);
  void read_ended(FileRequest& request, Status status);
  void write_ended(FileRequest& request, Status status);

  Status read_missing(StoreInode& inode, FileReadahead& ra, u32 index);
  void read_ahead(StoreInode& inode, FileReadahead& ra, u32 index);
  Result<Pfn> page_to_write(StoreInode& inode, u32 index, bool replaces_all, bool zero);
  // Makes bytes of the cached page behind the end of file zero; false if they were.
  bool zero_tail(StoreInode& inode, u64 size);
  void grow_to(StoreInode& inode, u64 size);

  Machine* machine_ = nullptr;
  PageCache* cache_ = nullptr;
  FrameTable* frames_ = nullptr;
  const Observer* observer_ = nullptr;
  BlockDevice* device_ = nullptr;
  StoreInode* inodes_ = nullptr;
  u64* written_ = nullptr;  // a bit per block of the device
  FileRequest* free_requests_ = nullptr;
  u32 in_flight_ = 0;
};

}  // namespace spillway
