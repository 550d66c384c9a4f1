// ExtFs: an ext2, ext3 or ext4 image as a file system, read and write, through libext2fs.
//
// Metadata goes through the buffer cache (ext_io.h), contents through the page cache. What is only
// read (lookup, directories, attributes, mappings) is read here, block by block and with every
// number checked; the library allocates, frees and maps blocks, keeps bitmaps, group descriptors
// and checksums, and inserts into hashed directories.
//
// Invariants
//   X1  With blocks of 4 KiB a block of a file's contents is never in the buffer cache: blocks are
//       forgotten there when they change hands (freed, or given to a file), and pages are
//       transferred straight between frames and the device. With smaller blocks every transfer of
//       contents goes through the buffer cache, because the device's unit is the page; a block is
//       never written around it.
//   X2  A block that a file gets is unwritten (extents) or zeroed (block maps) until its page was
//       written: pages of unwritten blocks read as zeros. The extent is converted when the write
//       has ended, by the next call that may change the image (settle()).
//   X3  Blocks of contents and of trees lie inside the image and outside of superblocks,
//       descriptors, bitmaps and inode tables (zones_), whatever the image says: the bitmap says
//       "in use" for all of zones_, and ExtIo writes them only with flush() and as inodes.
//   X4  While mounted for writing the superblock says "not clean" on the device; close() ends that.
//   X5  An inode without a name is stored with link count 0 and a time of deletion: should we be
//       killed, e2fsck frees it.
//
//   X6  A kill at any moment leaves an image of which e2fsck -fy keeps everything that sync()
//       confirmed: a block is on the device before something refers to it, entries are where they
//       moved to before they leave, a name is gone before its inode is, and there under its new
//       name before the old one goes (ext_order.cc). What is freed is given out again only when
//       the device knows that it is free.
//
// The journal is not written. An image whose journal needs recovery, or that was not unmounted
// cleanly, is refused for writing; run e2fsck first.
//
// Memory of the library (bitmaps: about a byte for each 16 KiB of image at most) is malloc's and
// outside of the budget. Thread safety: the engine lock.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "fs_ext/ext_io.h"
#include "fs_ext/ext_super.h"
#include "fs_ext/ext_types.h"
#include "fs_ext/ext_zones.h"
#include "page/page_allocator.h"
#include "vfs/file_system.h"
#include "vfs/page_transfers.h"

namespace spillway {

// What the driver works with. All outlive it.
struct ExtParts {
  Machine& machine;
  PageCache& cache;
  PageAllocator& allocator;
  FrameTable& frames;
  BufferCache& buffers;  // over `device`, with blocks of ExtProbe::block_size
  BlockDevice& device;
  ExtHost& host;
  u64 device_bytes = 0;  // of the image, if it is no multiple of a page; 0 = device.size()
};

class ExtFs final : public FileSystem, private PageTransfers::Owner, private ExtTypes {
 public:
  static constexpr u32 kFramesAhead = 16;  // had before a change begins: more than any one needs

  ExtFs() = default;
  ~ExtFs();
  ExtFs(const ExtFs&) = delete;
  ExtFs& operator=(const ExtFs&) = delete;

  // Whether `bytes`, ExtProbe::kBytes from offset ExtProbe::kOffset, begin an image for us.
  static Status probe(const u8* bytes, u64 device_bytes, ExtProbe* probe) {
    return probe_ext(bytes, device_bytes, probe);
  }
  // Errors of probe(); read_only: it cannot be written (why() says why); corrupt; io.
  Status open(const ExtParts& parts, ExtMode mode);
  // What open() objected to; static.
  const char* why() const { return probe_.why; }
  // Stores everything and marks the image clean. No inode is in use. Fails with io, no_space, and
  // corrupt if a change had ended halfway; the driver is closed all the same, and the image is then
  // not clean.
  Status close();
  bool is_open() const { return fs_ != nullptr; }
  // Tells the page cache of writes that have ended without an I/O of their own (smaller blocks);
  // the program calls it wherever it ends I/O. Returns how many.
  u32 deliver();
  const ExtProbe& info() const { return probe_; }

  const char* type_name() const override { return probe_.type; }
  u64 root() const override { return EXT2_ROOT_INO; }
  bool read_only() const override { return mode_ == ExtMode::read_only; }

  Status read_inode(Inode& inode) override;
  Status write_inode(Inode& inode) override;
  Status delete_inode(Inode& inode) override;
  Result<u64> lookup(Inode& directory, Name name) override;
  Status read_directory(Inode& directory, u64 position, DirectorySink& sink) override;
  Result<u64> create(Inode& directory, Name name, const NewInode& made) override;
  Result<u64> symlink(Inode& directory, Name name, Name target, const NewInode& made) override;
  Result<u32> readlink(Inode& inode, char* out, u32 max) override;
  Status link(Inode& directory, Name name, Inode& target) override;
  Status unlink(Inode& directory, Name name, Inode& target) override;
  Status rename(Inode& from, Name old_name, Inode& to, Name new_name, Inode& moved,
                Inode* replaced) override;
  u64 size_max(const Inode& inode) const override;
  FileTime storable(FileTime time) const override;
  Status reserve_blocks(Inode& inode, u64 first, u64 count) override;
  Status truncate(Inode& inode, u64 bytes) override;
  FileSystemStats stats() override;
  Status sync(SyncTicket& ticket) override;
  Status read_pages(Mapping& mapping, u32 index, const Pfn* frames, u32 count) override;
  WriteOutcome write_page(Mapping& mapping, Pfn pfn) override;

 private:
  using Raw = ext2_inode_large;
  static ext2_inode* plain(Raw& raw) { return reinterpret_cast<ext2_inode*>(&raw); }

  // A call inside of the driver: reclaim stays out of file systems, and so does our write_page.
  class Call {
   public:
    Call(ExtFs& fs, ExtIo::Waits waits)
        : fs_(fs), no_fs_(*fs.allocator_), mode_(fs.io_, waits), before_(fs.busy_) {
      fs.busy_ = true;
    }
    ~Call() { fs_.busy_ = before_; }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    ExtFs& fs_;
    PageAllocator::NoFs no_fs_;
    ExtIo::Mode mode_;
    const bool before_;
  };

  // A call that changes blocks: they go to the buffer cache at its end, in order. X6.
  class Change {
   public:
    explicit Change(ExtFs& fs) : fs_(fs), call_(fs, ExtIo::Waits::yes) { fs.io_.open_change(); }
    // What cannot be written stays dirty, and sync() tells of it.
    ~Change() {
      if (fs_.io_.close_change()) (void)fs_.commit(Commit::in_order);
    }
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;

   private:
    ExtFs& fs_;
    Call call_;
  };
  // `write_all`: all of it is on the device when the call returns.
  enum class Commit : u8 { in_order, write_all };
  enum class Freed : u8 { available, taken };

  // ext_fs.cc
  // Before a call that changes something: frames for the buffers that it may need, so that it does
  // not end halfway for want of them. read_only, wait, no_memory.
  Status begin_change();
  Status check_groups();
  Status add_zones();
  Status prepare_writing();
  void release();
  bool zones_in_use();
  bool data_blocks_valid(u64 physical, u64 count) const;
  Status flush();
  Status write_everything();
  void forget_blocks(u64 physical, u64 count);
  void announce_inode(u32 number);

  // ext_order.cc
  Status commit(Commit how);
  Status write_inode_block(u32 number);
  void block_changed_hands(u64 block, u64 count, bool taken);
  void range_changed_hands(u64 block, u64 count, bool taken);
  void take_zones_back(u64 block, u64 count);
  void inode_freed(u32 number);
  void set_freed(Freed freed);
  void forget_freed();
  bool wants_freed() const;

  // Blocks that files do not get: for the trees of extents that settle() may have to grow, and
  // because the library forgets what it had allocated when it runs out halfway. As Linux's
  // s_resv_clusters: 2 %, at most 4096.
  u64 kept_blocks() const;
  bool has_room() const {
    return ext2fs_free_blocks_count(fs_->super) > kept_blocks() + freed_blocks_;
  }
  u32 blocks_per_page() const { return static_cast<u32>(kPageSize / probe_.block_size); }
  bool whole_pages() const { return probe_.block_size == kPageSize; }
  u64 blocks_for(u64 bytes) const { return (bytes + probe_.block_size - 1) / probe_.block_size; }
  bool has_checksums() const { return ext2fs_has_feature_metadata_csum(fs_->super) != 0; }

  // ext_inode.cc
  Status load(u64 number, Raw* raw);
  Status store(u64 number, Raw& raw);
  Status check_raw(u64 number, Raw& raw);
  void fill(Inode& inode, Raw& raw);
  Status store_attributes(Inode& inode);
  Status store_size_and_attributes(Inode& inode);
  void take_attributes(const Inode& inode, Raw& raw);
  Result<u32> new_inode(Inode& directory, const NewInode& made, Raw* raw);
  void free_inode(u32 number, Raw& raw);
  Status trim_tail(Inode& inode);

  // ext_map.cc
  Result<Run> map(Inode& inode, u64 block);
  Result<Run> map_extent(Inode& inode, Raw& raw, u64 block);
  Result<Run> map_blocks(Inode& inode, Raw& raw, u64 block);
  void forget_map(Inode& inode) { inode.fs_data[1] = 0; }
  Status zero_blocks(u64 physical, u64 count);
  Status allocate(Inode& inode, Raw& raw, u64 block);
  Status zero_tail(Inode& inode, Raw& raw, u64 bytes);
  Status settle();
  Status convert(const Written& written);
  Status punch(u32 number, Raw& raw, u64 first);
  Status give_last_block(u32 number, Raw& raw, u64 first);
  Result<bool> split_full_leaf(ext2_extent_handle_t handle);
  void note_written(const Inode& inode, u64 first, u64 count);
  void add_written(const Written& written);
  void drop_written(u32 number);
  Status transfer_now(IoOp op, u64 page, Pfn frame);

  // ext_data.cc
  Status read_blocks_of_page(Inode& inode, u32 index, Pfn pfn);
  Status write_blocks_of_page(Inode& inode, u32 index, Pfn pfn, u64 first, u64 count);
  // Whether the page of the device is being transferred, as contents or as a buffer: an image may
  // say that a block is both.
  bool in_transfer(IoOp op, u64 block) const {
    return transfers_.collides(op, block, 1) || buffers_->transfers().collides(op, block, 1);
  }
  // `note`: 1 if the page's block is unwritten, to be converted.
  void page_written(Mapping& mapping, u32 index, u32 note, Status status) override;

  // ext_directory.cc
  Result<Buffer*> directory_block(Inode& directory, u64 n, u64* physical);
  template <class Visit>
  Status scan(Inode& directory, u64 n, const u8* data, Visit visit);
  Status check_entry(Inode& directory, u64 n, const u8* data, u32 offset, u32 end, Entry* entry);
  bool hashed(const Inode& directory) const;
  Result<Found> find(Inode& directory, Name name);
  Result<Found> find_in_block(Inode& directory, u64 n, Name name);
  Result<Found> find_hashed(Inode& directory, Name name);
  Status insert(Inode& directory, Name name, u32 number, u32 type);
  Status insert_into_block(Inode& directory, u64 n, Name name, u32 number, u32 type, bool* done);
  Status remove(Inode& directory, const Found& found);
  Status replace(Inode& directory, const Found& found, u32 number, u32 type);
  Status check_empty(Inode& directory);
  Status grow(Inode& directory);
  Status refresh_size(Inode& directory);
  u32 entry_type_of(u32 mode) const;

  // ext_names.cc
  Status add_directory_link(Inode& directory);
  void drop_directory_link(Inode& directory);
  Status make_directory_block(u32 number, u64 parent, Raw* raw);
  void undo_inode(u32 number);
  Status write_target(u32 number, Name target, Raw* raw);
  Status drop_link(Inode& directory, Inode& target);

  Machine* machine_ = nullptr;
  PageCache* cache_ = nullptr;
  PageAllocator* allocator_ = nullptr;
  FrameTable* frames_ = nullptr;
  BlockDevice* device_ = nullptr;
  BufferCache* buffers_ = nullptr;
  ExtHost* host_ = nullptr;
  ExtIo io_;
  ext2_filsys fs_ = nullptr;
  ExtMode mode_ = ExtMode::read_only;
  ExtProbe probe_;
  bool busy_ = false;
  u32 generation_ = 0;
  u64 map_epoch_ = 1;  // runs that inodes remember from before are stale
  ExtZones zones_;
  std::vector<Written> written_;
  bool doubtful_ = false;  // a change ended halfway: close() says that the image has errors
  Status lost_ = kOk;      // what settle() could not do; told by the next sync()
  std::vector<Ended> ended_;
  PageTransfers transfers_;
  ext2fs_block_bitmap known_map_ = nullptr;  // the block bitmap as it was last told of
  std::set<u64> fresh_;                      // blocks allocated since the last commit
  // Freed since the last flush: not yet given out again.
  std::vector<Zone> freed_;
  u64 freed_blocks_ = 0;
  std::vector<u32> freed_inodes_;
};

}  // namespace spillway
