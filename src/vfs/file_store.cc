#include "vfs/file_store.h"

#include <cstring>
#include <new>

namespace spillway {

Status FileStore::init(Machine& machine, PageCache& cache, PageAllocator&, FrameTable& frames,
                       const Observer& observer, BlockDevice* device) {
  machine_ = &machine;
  cache_ = &cache;
  frames_ = &frames;
  observer_ = &observer;
  if (device == nullptr) return kOk;
  void* inodes = machine.boot.alloc(kFilesMax * sizeof(StoreInode), 64);
  void* requests = machine.boot.alloc(kRequestsMax * sizeof(FileRequest), 64);
  written_ = static_cast<u64*>(machine.boot.alloc((device->size().v / 64 + 1) * sizeof(u64), 64));
  if (inodes == nullptr || requests == nullptr || written_ == nullptr) return Error::no_memory;
  inodes_ = static_cast<StoreInode*>(inodes);
  for (u32 i = 0; i < kFilesMax; ++i) new (&inodes_[i]) StoreInode;
  for (u32 i = 0; i < kRequestsMax; ++i) {
    FileRequest* request = new (static_cast<FileRequest*>(requests) + i) FileRequest{};
    request->next_free = free_requests_;
    free_requests_ = request;
  }
  device_ = device;
  return kOk;
}

StoreInode* FileStore::at(u32 i) {
  if (device_ == nullptr || i >= kFilesMax || inodes_[i].number == 0) return nullptr;
  return &inodes_[i];
}

void FileStore::set_on_device(const StoreInode& inode, u64 index, bool on) {
  const u64 block = block_of(inode, index);
  const u64 bit = u64{1} << (block % 64);
  if (on) {
    written_[block / 64] |= bit;
  } else {
    written_[block / 64] &= ~bit;
  }
}

// First fit: the lowest run of blocks that no file has. Each round that does not find one moves
// behind a file, so the search ends after kFilesMax rounds.
Result<u64> FileStore::find_extent(u64 pages) const {
  u64 start = 0;
  for (bool moved = true; moved;) {
    if (device_->size().v < start || device_->size().v - start < pages) return Error::no_space;
    moved = false;
    for (u32 i = 0; i < kFilesMax; ++i) {
      const StoreInode& other = inodes_[i];
      const u64 end = other.first_block + other.capacity_pages;
      if (other.number == 0 || end <= start || start + pages <= other.first_block) continue;
      start = end;
      moved = true;
    }
  }
  return start;
}

Result<StoreInode*> FileStore::create(const char* name, u64 size_bytes, u64 capacity_pages) {
  const u64 length = std::strlen(name);
  if (length == 0 || length > StoreInode::kNameMax || capacity_pages == 0) return Error::invalid;
  if (pages_for(size_bytes).v > capacity_pages) return Error::invalid;
  if (device_ == nullptr) return Error::no_space;
  if (lookup(name).ok()) return Error::exists;
  // Page numbers have 32 bits, and the last one stands for "nobody" in PageCache::start_read.
  if (capacity_pages > PageCache::kNobodyWants) return Error::no_space;
  u32 free = 0;
  while (free < kFilesMax && inodes_[free].number != 0) ++free;
  if (free == kFilesMax) return Error::no_space;
  SPW_TRY_ASSIGN(first, find_extent(capacity_pages));
  StoreInode& inode = inodes_[free];
  std::memcpy(inode.name, name, length + 1);
  inode.number = free + 1;
  inode.first_block = first;
  inode.capacity_pages = capacity_pages;
  inode.mapping.size_bytes = size_bytes;
  inode.mapping.owner = PageOwner::file;
  inode.mapping.backing = this;
  inode.mapping.host = &inode;
  cache_->adopt(inode.mapping);
  return &inode;
}

Result<StoreInode*> FileStore::lookup(const char* name) {
  for (u32 i = 0; i < kFilesMax; ++i) {
    StoreInode* inode = at(i);
    if (inode != nullptr && inode->linked && std::strcmp(inode->name, name) == 0) return inode;
  }
  return Error::no_entry;
}

Status FileStore::unlink(const char* name) {
  SPW_TRY_ASSIGN(inode, lookup(name));
  inode->linked = false;
  if (inode->opens == 0) release(*inode);
  return kOk;
}

void FileStore::put(StoreInode& inode) {
  SPW_ASSERT_LT(0u, inode.opens);
  if (--inode.opens == 0 && !inode.linked) release(inode);
}

void FileStore::release(StoreInode& inode) {
  inode.dying = true;
  (void)finish_release(inode);
}

// Drops the inode unless pages of it are in flight; then the last transfer to end tries again.
bool FileStore::finish_release(StoreInode& inode) {
  if (!cache_->truncate(inode.mapping, 0, nullptr, nullptr).ok()) return false;
  cache_->forget(inode.mapping);
  for (u64 i = 0; i < inode.capacity_pages; ++i) set_on_device(inode, i, false);
  inode.~StoreInode();
  new (&inode) StoreInode;
  return true;
}

bool FileStore::validate() const {
  if (device_ == nullptr) return in_flight_ == 0;
  u32 free = 0;
  for (const FileRequest* r = free_requests_; r != nullptr; r = r->next_free) {
    if (++free > kRequestsMax) return false;
  }
  if (free + in_flight_ != kRequestsMax) return false;
  u64 with_contents = 0;
  for (u32 i = 0; i < kFilesMax; ++i) {
    const StoreInode* a = at(i);
    if (a == nullptr) continue;
    const Mapping& mapping = a->mapping;
    if (a->number != i + 1 || mapping.host != a || mapping.backing != this) return false;
    if (mapping.size_pages() > a->capacity_pages || a->capacity_pages == 0) return false;
    if (device_->size().v - a->capacity_pages < a->first_block) return false;
    if (a->dying && (a->linked || a->opens != 0)) return false;
    if (!a->linked && a->opens == 0 && !a->dying) return false;
    if (!cache_->validate(mapping)) return false;
    for (u32 j = i + 1; j < kFilesMax; ++j) {
      const StoreInode* b = at(j);
      if (b == nullptr) continue;
      if (a->linked && b->linked && std::strcmp(a->name, b->name) == 0) return false;
      const bool apart = a->first_block + a->capacity_pages <= b->first_block ||
                         b->first_block + b->capacity_pages <= a->first_block;
      if (!apart) return false;
    }
    for (u64 p = 0; p < mapping.size_pages(); ++p) with_contents += on_device(*a, p) ? 1 : 0;
  }
  // No bit but those that were counted.
  u64 bits = 0;
  for (u64 block = 0; block < device_->size().v; ++block) {
    bits += written_[block / 64] >> (block % 64) & 1;
  }
  return bits == with_contents;
}

}  // namespace spillway
