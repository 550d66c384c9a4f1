// FileStore's read(2), write(2) and ftruncate(2): files as programs see them.
#include <algorithm>
#include <cstring>

#include "vfs/file_store.h"

namespace spillway {
namespace {

// What a call that met `error` returns: progress before the error, except to a caller that waits.
Result<u64> ended(Error error, u64 done) {
  if (error == Error::wait || done == 0) return error;
  return done;
}

u32 grown(u32 window) {
  if (window == 0) return FileStore::kReadaheadMin;
  return std::min(2 * window, FileStore::kReadaheadMax);
}

// The page continues what was read before: the next one, the same one again, or one of those that
// were read ahead.
bool sequential(const FileReadahead& ra, u32 index) {
  return index == ra.next || index + u64{1} == ra.next ||
         (ra.next <= index && index < ra.ahead_end);
}

}  // namespace

u8* FileStore::bytes_of(Pfn pfn) const {
  SPW_DEBUG_ASSERT((*frames_)[pfn].state != PageState::mapped ||
                   machine_->features.frame_bytes_while_mapped);
  return machine_->frames.bytes(pfn);
}

// Brings the page in together with those behind it that the window asks for.
Status FileStore::read_missing(StoreInode& inode, FileReadahead& ra, u32 index) {
  ra.window = sequential(ra, index) ? grown(ra.window) : 0;
  const u32 count = ra.window == 0 ? 1 : ra.window;
  const u32 first_part = std::min(count, PageCache::kReadMax);
  SPW_TRY(cache_->start_read(inode.mapping, index, first_part, index, kAllocUser));
  if (count > first_part) {
    // Pages beyond the end of file, no frame to spare: reading ahead is not owed to anybody.
    (void)cache_->start_read(inode.mapping, index + first_part, count - first_part,
                             PageCache::kNobodyWants, AllocFlags{});
  }
  ra.ahead_end = u64{index} + count;
  return kOk;
}

// The page was used: moves the window, and starts the next one when half of it is used up.
void FileStore::read_ahead(StoreInode& inode, FileReadahead& ra, u32 index) {
  if (!sequential(ra, index)) {
    ra.window = 0;
    ra.ahead_end = 0;
  }
  ra.next = u64{index} + 1;
  if (ra.window == 0 || ra.ahead_end < ra.next || ra.ahead_end - ra.next > ra.window / 2) return;
  const u64 end = inode.mapping.size_pages();
  ra.window = grown(ra.window);
  for (u32 left = ra.window; left != 0 && ra.ahead_end < end;) {
    const u32 count = std::min(left, PageCache::kReadMax);
    (void)cache_->start_read(inode.mapping, static_cast<u32>(ra.ahead_end), count,
                             PageCache::kNobodyWants, AllocFlags{});
    ra.ahead_end += count;
    left -= count;
  }
}

Result<u64> FileStore::read(StoreInode& inode, FileReadahead& ra, u64 offset, u8* out, u64 bytes,
                            u64* done) {
  const WalkScope walk(observer_->walk, "do_generic_file_read", "offset {a}, {b} bytes", offset,
                       bytes);
  const u64 size = inode.mapping.size_bytes;
  if (offset >= size) return *done;
  bytes = std::min(bytes, size - offset);
  while (*done < bytes) {
    const u64 at = offset + *done;
    const u32 index = static_cast<u32>(at >> kPageShift);
    const Result<Pfn> pfn = cache_->lookup(inode.mapping, index);
    if (!pfn.ok()) {
      if (pfn.error() != Error::no_entry) return ended(pfn.error(), *done);
      const Status started = read_missing(inode, ra, index);
      if (!started.ok()) return ended(started.error(), *done);
      continue;  // it may be there already: a page of zeros
    }
    const u64 in_page = at & kPageMask;
    const u64 n = std::min(kPageSize - in_page, bytes - *done);
    std::memcpy(out + *done, bytes_of(pfn.value()) + in_page, n);
    cache_->touched(pfn.value());
    *done += n;
    read_ahead(inode, ra, index);
  }
  return *done;
}

bool FileStore::zero_tail(StoreInode& inode, u64 size) {
  const u64 in_page = size & kPageMask;
  if (in_page == 0) return false;
  const Pfn pfn = cache_->find(inode.mapping, static_cast<u32>(size >> kPageShift)).pfn();
  // A page that is being read gets its zeros when the read ends.
  if (!pfn.valid() || (*frames_)[pfn].state == PageState::reading) return false;
  u8* tail = bytes_of(pfn) + in_page;
  // Not written without need: the page may be under write-back, and its tail is zero then unless a
  // program maps it.
  if (std::all_of(tail, tail + (kPageSize - in_page), [](u8 b) { return b == 0; })) return false;
  std::memset(tail, 0, kPageSize - in_page);
  return true;
}

void FileStore::grow_to(StoreInode& inode, u64 size) {
  Mapping& mapping = inode.mapping;
  if (size <= mapping.size_bytes) return;
  zero_tail(inode, mapping.size_bytes);
  mapping.size_bytes = size;
}

// The page that a write changes, not under write-back. `replaces_all`: nothing of its contents
// will be left; `zero`: a fresh one must be zeroed.
Result<Pfn> FileStore::page_to_write(StoreInode& inode, u32 index, bool replaces_all, bool zero) {
  Mapping& mapping = inode.mapping;
  Result<Pfn> pfn = cache_->lookup(mapping, index);
  if (!pfn.ok() && pfn.error() == Error::io && replaces_all) pfn = Error::no_entry;
  if (pfn.ok()) {
    if ((*frames_)[pfn.value()].has(PageFlag::writeback)) return Error::wait;
    return pfn;
  }
  if (pfn.error() != Error::no_entry) return pfn;
  if (replaces_all || index >= mapping.size_pages() || !on_device(inode, index)) {
    return cache_->add_new(mapping, index, zero, kAllocUser);
  }
  SPW_TRY(cache_->start_read(mapping, index, 1, index, kAllocUser));
  return Error::wait;
}

Result<u64> FileStore::write(StoreInode& inode, u64 offset, const u8* data, u64 bytes, u64* done) {
  const WalkScope walk(observer_->walk, "generic_file_write", "offset {a}, {b} bytes", offset,
                       bytes);
  const u64 limit = inode.capacity_pages << kPageShift;
  if (bytes == 0) return u64{0};
  if (offset >= limit) return Error::no_space;
  bytes = std::min(bytes, limit - offset);
  while (*done < bytes) {
    const u64 at = offset + *done;
    const u64 in_page = at & kPageMask;
    const u64 n = std::min(kPageSize - in_page, bytes - *done);
    const bool replaces_all =
        in_page == 0 && (n == kPageSize || at + n >= inode.mapping.size_bytes);
    const Result<Pfn> pfn =
        page_to_write(inode, static_cast<u32>(at >> kPageShift), replaces_all, n != kPageSize);
    if (!pfn.ok()) return ended(pfn.error(), *done);
    grow_to(inode, at + n);
    std::memcpy(bytes_of(pfn.value()) + in_page, data + *done, n);
    cache_->set_dirty(pfn.value());
    cache_->touched(pfn.value());
    *done += n;
  }
  return *done;
}

Status FileStore::set_size(StoreInode& inode, u64 bytes) {
  Mapping& mapping = inode.mapping;
  if (pages_for(bytes).v > inode.capacity_pages) return Error::no_space;
  if (bytes >= mapping.size_bytes) {
    grow_to(inode, bytes);
    return kOk;
  }
  const u64 last = bytes >> kPageShift;  // partial, or the first to go
  const u64 old_pages = mapping.size_pages();
  if ((bytes & kPageMask) != 0) {
    const Result<Pfn> pfn = cache_->lookup(mapping, static_cast<u32>(last));
    if (!pfn.ok()) {
      if (pfn.error() != Error::no_entry) return pfn.error();
      if (on_device(inode, last)) {
        SPW_TRY(cache_->start_read(mapping, static_cast<u32>(last), 1, static_cast<u32>(last),
                                   kAllocUser));
        return Error::wait;
      }
    }
  }
  if (cache_->busy(mapping, static_cast<u32>(last))) return Error::wait;
  if ((bytes & kPageMask) != 0 && zero_tail(inode, bytes)) {
    const Pfn pfn = cache_->find(mapping, static_cast<u32>(last)).pfn();
    cache_->set_dirty(pfn);
    cache_->touched(pfn);
  }
  for (u64 i = pages_for(bytes).v; i < old_pages; ++i) set_on_device(inode, i, false);
  mapping.size_bytes = bytes;
  return kOk;
}

}  // namespace spillway
