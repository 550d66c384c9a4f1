// FileStore: metadata blocks, the inode table and extents.
#include <algorithm>
#include <new>

#include "vfs/file_store_format.h"

namespace spillway {
namespace {

constexpr u32 kPerBlock = FileStore::kFilesMax / FileStore::kTableBlocks;
constexpr u32 kRecordBytes = static_cast<u32>(kPageSize) / kPerBlock;

constexpr bool bit_of(const u64* bits, u64 i) { return (bits[i / 64] >> (i % 64) & 1) != 0; }
constexpr void set_bit(u64* bits, u64 i) { bits[i / 64] |= u64{1} << (i % 64); }
constexpr void clear_bit(u64* bits, u64 i) { bits[i / 64] &= ~(u64{1} << (i % 64)); }

}  // namespace

Status FileStore::init(Machine& machine, PageCache& cache, PageAllocator& allocator,
                       FrameTable& frames, const Observer& observer, BlockDevice* device,
                       Metadata metadata) {
  static_assert(sizeof(Record) <= kRecordBytes);
  static_assert(sizeof(DirectoryEntry) == DirectoryEntry::kHead);
  machine_ = &machine;
  cache_ = &cache;
  frames_ = &frames;
  observer_ = &observer;
  on_device_ = device != nullptr && metadata == Metadata::on_device;
  void* extents = machine.boot.alloc(kFilesMax * sizeof(Extent), 64);
  if (extents == nullptr) return Error::no_memory;
  extents_ = static_cast<Extent*>(extents);
  for (u32 i = 0; i < kFilesMax; ++i) new (&extents_[i]) Extent;
  if (on_device_) {
    if (device->size().v < kMetadataBlocks) return Error::no_space;
    SPW_TRY(buffers_.init(machine, cache, allocator, frames, observer, *device,
                          static_cast<u32>(kPageSize)));
  } else {
    memory_ = static_cast<u8*>(machine.boot.alloc(kMetadataBlocks * kPageSize, kPageSize));
    if (memory_ == nullptr) return Error::no_memory;
  }
  if (device != nullptr) {
    written_ = static_cast<u64*>(machine.boot.alloc((device->size().v / 64 + 1) * sizeof(u64), 64));
    if (written_ == nullptr) return Error::no_memory;
    transfers_.init(machine, cache, observer, *device, *this);
  }
  device_ = device;
  for (u32 i = 0; i < kTableBlocks; ++i) set_bit(taken_, i);
  return kOk;
}

// A block that nobody has filled yet needs no reading: it is made of zeros.
Status FileStore::open_block(u32 number, Block* block, bool to_write) {
  SPW_ASSERT(number < kMetadataBlocks && block->data == nullptr);
  const bool fresh = !bit_of(started_, number);
  block->number = number;
  if (!on_device_) {
    block->data = memory_ + u64{number} * kPageSize;
  } else {
    SPW_TRY_ASSIGN(buffer, fresh ? buffers_.getblk(number) : buffers_.bread(number));
    block->cache = &buffers_;
    block->buffer = buffer;
    block->data = buffer->data;
    if (to_write && !fresh) {
      const Status waited = buffers_.wait_on_buffer(*buffer);
      if (!waited.ok()) {
        block->close();
        return waited;
      }
    }
  }
  if (fresh) {
    std::memset(block->data, 0, kPageSize);
    set_bit(started_, number);
    block->changed();
  }
  return kOk;
}

Result<u32> FileStore::take_block() {
  for (u32 i = kTableBlocks; i < kMetadataBlocks; ++i) {
    if (bit_of(taken_, i)) continue;
    set_bit(taken_, i);
    return i;
  }
  return Error::no_space;
}

void FileStore::free_block(u32 number) {
  SPW_ASSERT(number >= kTableBlocks && bit_of(taken_, number));
  clear_bit(taken_, number);
  clear_bit(started_, number);
  // If it is being written just now, it stays cached with bytes that nobody will look at.
  if (on_device_) (void)buffers_.forget(number);
}

void FileStore::set_block(u64* fs_data, u32 i, u32 number) {
  u64& word = fs_data[kBlocks + i / 4];
  word = (word & ~(u64{0xffff} << (16 * (i % 4)))) | (u64{number} << (16 * (i % 4)));
}

Status FileStore::open_record(u64 number, Block* block, Record** record, bool to_write) {
  if (number == 0 || number > kFilesMax) return Error::no_entry;
  const u32 i = static_cast<u32>(number - 1);
  SPW_TRY(open_block(i / kPerBlock, block, to_write));
  *record = &block->at<Record>(i % kPerBlock * kRecordBytes);
  return kOk;
}

Status FileStore::make_root() {
  Block table;
  Record* record = nullptr;
  SPW_TRY(open_record(root(), &table, &record, true));
  record->mode = kModeDirectory | 0755;
  record->nlink = 2;
  record->fs_data[kParent] = root();
  table.changed();
  extents_[root() - 1].used = true;
  ++inodes_used_;
  return kOk;
}

Status FileStore::read_inode(Inode& inode) {
  if (inode.number == root() && !extents_[0].used) SPW_TRY(make_root());
  if (inode.number > kFilesMax || !extents_[inode.number - 1].used) return Error::no_entry;
  Block table;
  Record* record = nullptr;
  SPW_TRY(open_record(inode.number, &table, &record, false));
  const Record& r = *record;
  if (r.mode == 0) return Error::corrupt;
  inode.attr.mode = r.mode;
  inode.attr.nlink = r.nlink;
  inode.attr.uid = r.uid;
  inode.attr.gid = r.gid;
  inode.attr.rdev = r.rdev;
  inode.attr.atime = {r.atime_s, r.atime_ns};
  inode.attr.mtime = {r.mtime_s, r.mtime_ns};
  inode.attr.ctime = {r.ctime_s, r.ctime_ns};
  inode.mapping.size_bytes = r.size_bytes;
  std::memcpy(inode.fs_data, r.fs_data, sizeof r.fs_data);
  inode.attr.sectors = capacity_pages(inode) * (kPageSize / 512);
  return kOk;
}

Status FileStore::write_inode(Inode& inode) {
  Block table;
  Record* record = nullptr;
  SPW_TRY(open_record(inode.number, &table, &record, true));
  Record& r = *record;
  const InodeAttributes& attr = inode.attr;
  r = Record{};
  r.mode = attr.mode;
  r.nlink = attr.nlink;
  r.uid = attr.uid;
  r.gid = attr.gid;
  r.rdev = attr.rdev;
  r.size_bytes = inode.mapping.size_bytes;
  r.atime_s = attr.atime.seconds;
  r.mtime_s = attr.mtime.seconds;
  r.ctime_s = attr.ctime.seconds;
  r.atime_ns = attr.atime.nanoseconds;
  r.mtime_ns = attr.mtime.nanoseconds;
  r.ctime_ns = attr.ctime.nanoseconds;
  std::memcpy(r.fs_data, inode.fs_data, sizeof r.fs_data);
  table.changed();
  extents_[inode.number - 1].size_bytes = r.size_bytes;
  return kOk;
}

Status FileStore::delete_inode(Inode& inode) {
  Block table;
  Record* record = nullptr;
  SPW_TRY(open_record(inode.number, &table, &record, true));
  *record = Record{};
  table.changed();
  if (inode.is_directory() || inode.is_symlink()) {
    for (u32 i = 0; i < kBlocksMax; ++i) {
      if (block_of(inode, i) != 0) free_block(block_of(inode, i));
    }
  } else {
    clear_written(first_block(inode), 0, capacity_pages(inode));
  }
  extents_[inode.number - 1] = Extent{};
  --inodes_used_;
  return kOk;
}

// First fit: the lowest run of blocks that no file has. Each round that does not find one moves
// behind a file, so the search ends after kFilesMax rounds.
Result<u64> FileStore::find_extent(u64 pages) const {
  u64 start = on_device_ ? kMetadataBlocks : 0;
  for (bool moved = true; moved;) {
    if (device_->size().v < start || device_->size().v - start < pages) return Error::no_space;
    moved = false;
    for (u32 i = 0; i < kFilesMax; ++i) {
      const Extent& other = extents_[i];
      const u64 end = other.first_block + other.capacity_pages;
      if (!other.used || end <= start || start + pages <= other.first_block) continue;
      start = end;
      moved = true;
    }
  }
  return start;
}

void FileStore::set_written(const Inode& inode, u64 index) {
  set_bit(written_, first_block(inode) + index);
}

void FileStore::clear_written(u64 first, u64 from, u64 to) {
  for (u64 i = from; i < to; ++i) clear_bit(written_, first + i);
}

Status FileStore::reserve_blocks(Inode& inode, u64 first, u64 count) {
  return first + count <= capacity_pages(inode) ? kOk : Status(Error::no_space);
}

Status FileStore::truncate(Inode& inode, u64 bytes) {
  clear_written(first_block(inode), pages_for(bytes).v, capacity_pages(inode));
  return kOk;
}

Status FileStore::sync(SyncTicket& ticket) { return on_device_ ? buffers_.sync(ticket) : kOk; }

FileSystemStats FileStore::stats() {
  FileSystemStats s;
  s.block_size = static_cast<u32>(kPageSize);
  s.inodes = kFilesMax;
  s.inodes_free = kFilesMax - inodes_used_;
  if (device_ == nullptr) return s;
  s.blocks = device_->size().v - (on_device_ ? kMetadataBlocks : 0);
  s.blocks_free = s.blocks;
  for (u32 i = 0; i < kFilesMax; ++i) s.blocks_free -= extents_[i].capacity_pages;
  s.blocks_available = s.blocks_free;
  return s;
}

bool FileStore::validate() const {
  if (device_ == nullptr) return in_flight() == 0;
  if (!transfers_.validate()) return false;
  const u64 blocks = device_->size().v;
  u64 within = 0;
  u32 used = 0;
  for (u32 i = 0; i < kFilesMax; ++i) {
    const Extent& a = extents_[i];
    used += a.used ? 1 : 0;
    if (!a.used || !a.regular) {
      if (a.capacity_pages != 0) return false;
      continue;
    }
    if (a.capacity_pages == 0 || a.capacity_pages > blocks) return false;
    if (blocks - a.capacity_pages < a.first_block) return false;
    if (on_device_ && a.first_block < kMetadataBlocks) return false;
    for (u32 j = i + 1; j < kFilesMax; ++j) {
      const Extent& b = extents_[j];
      const bool apart = a.first_block + a.capacity_pages <= b.first_block ||
                         b.first_block + b.capacity_pages <= a.first_block;
      if (b.used && b.regular && !apart) return false;
    }
    for (u64 p = 0; p < a.capacity_pages; ++p) within += bit_of(written_, a.first_block + p);
  }
  // No bit but those of files.
  u64 bits = 0;
  for (u64 block = 0; block < blocks; ++block) bits += bit_of(written_, block);
  if (on_device_ && !buffers_.validate()) return false;
  return bits == within && used == inodes_used_;
}

bool FileStore::validate(const Inode& inode) const {
  if (!inode.is_regular()) return true;
  const Extent& e = extents_[inode.number - 1];
  if (!e.used || e.first_block != first_block(inode)) return false;
  if (e.capacity_pages != capacity_pages(inode)) return false;
  const u64 end = inode.mapping.size_pages();
  if (end > e.capacity_pages) return false;
  for (u64 p = end; p < e.capacity_pages; ++p) {
    if (on_device(inode, p)) return false;
  }
  return true;
}

}  // namespace spillway
