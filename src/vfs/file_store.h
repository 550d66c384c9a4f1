// FileStore: a file system of a simple, fixed format on one block device: what mapped files,
// executables and scenarios need. A regular file is one run of consecutive blocks, whose length
// (its capacity) is fixed when it is made; directories are chains of up to 12 blocks of records.
//
// Metadata are blocks of 4096 bytes: kTableBlocks of the inode table, then a pool of directory
// blocks (a symbolic link's target takes one too). They lie on the device, before the files, and
// are read and written through a BufferCache; or, when the device is to hold nothing but contents,
// in boot memory. What is free is known in memory only: a FileStore begins empty.
//
// One bit per block says whether the file that has the block has written it: pages without their
// bit read as zeros, so that nothing of a block's former owner is ever seen.
//
// Invariants: F1 files' extents are disjoint and on the device; F2 only blocks of pages below the
// end of file have their bit; F3 bytes beyond the end of file are zero on the device, and in the
// cache unless a program has stored there (they go before anybody can see them: when the page is
// written and when the file grows); F4 a metadata block has one owner.
// Thread safety: the engine lock. Calls that need an I/O return Error::wait: call again.
#pragma once

#include "vfs/buffer_cache.h"
#include "vfs/file_system.h"
#include "vfs/page_transfers.h"

namespace spillway {

enum class Metadata : u8 { in_memory, on_device };

class FileStore final : public FileSystem, private PageTransfers::Owner {
 public:
  static constexpr u32 kFilesMax = 1024;   // inodes
  static constexpr u32 kTableBlocks = 32;  // of the inode table
  static constexpr u32 kPoolBlocks = 224;  // of directories and symbolic links
  static constexpr u32 kMetadataBlocks = kTableBlocks + kPoolBlocks;
  static constexpr u32 kBlocksMax = 12;  // of a directory
  static constexpr u32 kLinksMax = 32000;
  static constexpr u64 kNewFilePages = 256;  // capacity of a file that does not ask for another

  // What memory knows of an inode: its run of blocks, and for views the size that is stored and the
  // name that it was last given (cut to fit).
  struct Extent {
    bool used = false;
    bool regular = false;
    u64 first_block = 0;
    u64 capacity_pages = 0;
    u64 size_bytes = 0;
    char name[64] = {};
  };

  // `device` may be null: then there is no room for files. It is the file store's alone, and what
  // it held is nobody's any more.
  Status init(Machine& machine, PageCache& cache, PageAllocator& allocator, FrameTable& frames,
              const Observer& observer, BlockDevice* device,
              Metadata metadata = Metadata::in_memory);
  bool present() const { return device_ != nullptr; }

  const char* type_name() const override { return "store"; }
  u64 root() const override { return 1; }
  bool read_only() const override { return false; }
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
  u64 size_max(const Inode& inode) const override { return capacity_pages(inode) << kPageShift; }
  Error size_max_error() const override { return Error::no_space; }
  Status reserve_blocks(Inode& inode, u64 first, u64 count) override;
  Status truncate(Inode& inode, u64 bytes) override;
  FileSystemStats stats() override;
  Status sync(SyncTicket& ticket) override;

  Status read_pages(Mapping& mapping, u32 index, const Pfn* frames, u32 count) override;
  WriteOutcome write_page(Mapping& mapping, Pfn pfn) override;

  u32 in_flight() const { return transfers_.in_flight(); }
  // The inode with the number i + 1; unused ones too.
  const Extent& extent(u32 i) const { return extents_[i]; }
  // Of a file in memory.
  static u64 first_block(const Inode& inode) { return inode.fs_data[kFirstBlock]; }
  static u64 capacity_pages(const Inode& inode) { return inode.fs_data[kCapacity]; }
  // Whether the file's page has contents on the device.
  bool on_device(const Inode& inode, u64 index) const {
    const u64 block = first_block(inode) + index;
    return (written_[block / 64] >> (block % 64) & 1) != 0;
  }
  // Null when metadata lie in memory.
  BufferCache* buffers() { return on_device_ ? &buffers_ : nullptr; }
  const BufferCache* buffers() const { return on_device_ ? &buffers_ : nullptr; }
  Extent& debug_extent(u32 i) { return extents_[i]; }
  // O(device): F1, requests; of a file in memory: F2.
  bool validate() const;
  bool validate(const Inode& inode) const;

 private:
  // Words of Inode::fs_data. A directory's blocks are u16 in the words from kBlocks on; 0 = none.
  static constexpr u32 kFirstBlock = 0, kCapacity = 1, kParent = 2, kBlocks = 3;

  struct Record;          // an inode in the table
  struct DirectoryEntry;  // the head of a record in a directory block
  class Block;            // a metadata block, held
  struct Slot;            // a place in a directory

  // file_store_blocks.cc
  Status open_block(u32 number, Block* block, bool to_write);
  Result<u32> take_block();
  void free_block(u32 number);
  static u32 block_of(const Inode& inode, u32 i) {
    return static_cast<u32>(inode.fs_data[kBlocks + i / 4] >> (16 * (i % 4)) & 0xffff);
  }
  static void set_block(u64* fs_data, u32 i, u32 number);
  Status open_record(u64 number, Block* block, Record** record, bool to_write);
  Result<u64> find_extent(u64 pages) const;
  void clear_written(u64 first_block, u64 from, u64 to);
  void set_written(const Inode& inode, u64 index);
  Status make_root();

  // file_store_names.cc
  Status find_entry(Inode& directory, Name name, Slot* slot);
  Status find_room(Inode& directory, Name name, Slot* slot);
  void put_entry(Inode& directory, Slot& slot, Name name, u64 number, u32 type);
  void take_entry(Slot& slot);
  Result<bool> is_empty(Inode& directory);
  Result<u64> make(Inode& directory, Name name, const Name* target, const NewInode& made);
  void remember_name(u64 number, Name name);

  void page_written(Mapping& mapping, u32 index, u32 note, Status status) override;
  void transfer_ended(Mapping& mapping) override;

  Machine* machine_ = nullptr;
  PageCache* cache_ = nullptr;
  FrameTable* frames_ = nullptr;
  const Observer* observer_ = nullptr;
  BlockDevice* device_ = nullptr;
  bool on_device_ = false;
  BufferCache buffers_;
  u8* memory_ = nullptr;                    // the metadata blocks when they are not on the device
  Extent* extents_ = nullptr;               // by number - 1
  u64* written_ = nullptr;                  // a bit per block of the device
  u64 taken_[kMetadataBlocks / 64] = {};    // a bit per metadata block that has an owner
  u64 started_[kMetadataBlocks / 64] = {};  // a bit per metadata block that has contents
  u32 inodes_used_ = 0;
  PageTransfers transfers_;
};

}  // namespace spillway
