// Vfs: contents of files, through the page cache (MECHANISMS 8.4, 8.5).
#include <algorithm>
#include <cstring>

#include "vfs/vfs.h"

namespace spillway {
namespace {

// What a call that met `error` returns: progress before the error, except to a caller that waits.
Result<u64> ended(Error error, u64 done) {
  if (error == Error::wait || done == 0) return error;
  return done;
}

Status usable_file(const Inode& inode) {
  if (inode.is_directory()) return Error::is_directory;
  if (!inode.is_regular()) return Error::invalid;
  return inode.is(InodeState::bad) ? Status(Error::io) : kOk;
}

}  // namespace

bool zero_tail(const PageCache& cache, FrameTable& frames, Machine& machine, const Mapping& mapping,
               u64 size_bytes) {
  const u64 in_page = size_bytes & kPageMask;
  if (in_page == 0) return false;
  const Pfn pfn = cache.find(mapping, static_cast<u32>(size_bytes >> kPageShift)).pfn();
  // A page that is being read gets its zeros when the read ends.
  if (!pfn.valid() || frames[pfn].state == PageState::reading) return false;
  SPW_DEBUG_ASSERT(frames[pfn].state != PageState::mapped ||
                   machine.features.frame_bytes_while_mapped);
  u8* tail = machine.frames.bytes(pfn) + in_page;
  // Not written without need: the page may be under write-back, and its tail is zero then unless a
  // program maps it.
  if (std::all_of(tail, tail + (kPageSize - in_page), [](u8 b) { return b == 0; })) return false;
  std::memset(tail, 0, kPageSize - in_page);
  return true;
}

u8* Vfs::bytes_of(Pfn pfn) const {
  SPW_DEBUG_ASSERT((*frames_)[pfn].state != PageState::mapped ||
                   machine_->features.frame_bytes_while_mapped);
  return machine_->frames.bytes(pfn);
}

// Brings the page in together with those behind it that the window asks for.
Status Vfs::read_missing(Inode& inode, FileReadahead& ra, u32 index) {
  ra.window = ra.sequential(index) ? ra.grown() : 0;
  const u32 count = ra.window == 0 ? 1 : ra.window;
  const u32 first_part = std::min(count, PageCache::kReadMax);
  SPW_TRY(cache_->start_read(inode.mapping, index, first_part, index, kAllocUser));
  if (count > first_part && index <= ~u32{0} - count) {
    // Pages beyond the end of file, no frame to spare: reading ahead is not owed to anybody.
    (void)cache_->start_read(inode.mapping, index + first_part, count - first_part,
                             PageCache::kNobodyWants, AllocFlags{});
  }
  ra.ahead_end = u64{index} + count;
  return kOk;
}

// The page was used: moves the window, and starts the next one when half of it is used up.
void Vfs::read_ahead(Inode& inode, FileReadahead& ra, u32 index) {
  if (!ra.sequential(index)) {
    ra.window = 0;
    ra.ahead_end = 0;
  }
  ra.next = u64{index} + 1;
  if (ra.window == 0 || ra.ahead_end < ra.next || ra.ahead_end - ra.next > ra.window / 2) return;
  const u64 end = std::min(inode.mapping.size_pages(), pages_in(kSizeMax).v);
  ra.window = ra.grown();
  for (u32 left = ra.window; left != 0 && ra.ahead_end < end;) {
    const u32 count = std::min(left, PageCache::kReadMax);
    (void)cache_->start_read(inode.mapping, static_cast<u32>(ra.ahead_end), count,
                             PageCache::kNobodyWants, AllocFlags{});
    ra.ahead_end += count;
    left -= count;
  }
}

Result<u64> Vfs::read(Inode& inode, FileReadahead& ra, u64 offset, u8* out, u64 bytes, u64* done) {
  const WalkScope walk(observer_->walk, "do_generic_file_read", "offset {a}, {b} bytes", offset,
                       bytes);
  SPW_TRY(usable_file(inode));
  const u64 size = inode.mapping.size_bytes;
  if (offset >= size) return *done;
  // A host's directory or an image may have a file with more pages than there are numbers.
  if (offset >= kSizeMax) return Error::file_too_big;
  bytes = std::min(bytes, std::min(size, kSizeMax) - offset);
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

// The contents or the size changed.
void Vfs::written(Inode& inode) {
  inode.attr.mtime = inode.attr.ctime = now();
  inodes_.mark_dirty(inode);
}

// The blocks behind the end of file are given free before the file may grow over them.
Status Vfs::finish_truncate(Inode& inode) {
  if (!inode.is(InodeState::truncating)) return kOk;
  const PageAllocator::NoFs no_fs(*allocator_);
  SPW_TRY(fs_->truncate(inode, inode.mapping.size_bytes));
  inode.clear(InodeState::truncating);
  inode.clear(InodeState::truncate_told);
  return kOk;
}

void Vfs::grow_to(Inode& inode, u64 size) {
  Mapping& mapping = inode.mapping;
  if (size <= mapping.size_bytes) return;
  zero_tail(*cache_, *frames_, *machine_, mapping, mapping.size_bytes);
  mapping.size_bytes = size;
}

// The page that a write changes, not under write-back. `replaces_all`: nothing of its contents
// will be left; `zero`: a fresh one must be zeroed. `*fresh`: it was added, with contents that
// nobody may see if the write goes no further.
Result<Pfn> Vfs::page_to_write(Inode& inode, u32 index, bool replaces_all, bool zero, bool* fresh) {
  Mapping& mapping = inode.mapping;
  *fresh = false;
  for (u32 round = 0;; ++round) {
    Result<Pfn> pfn = cache_->lookup(mapping, index);
    if (!pfn.ok() && pfn.error() == Error::io && replaces_all) pfn = Error::no_entry;
    if (pfn.ok()) {
      if ((*frames_)[pfn.value()].has(PageFlag::writeback)) return Error::wait;
      return pfn;
    }
    if (pfn.error() != Error::no_entry) return pfn;
    if (replaces_all || index >= mapping.size_pages()) {
      *fresh = true;
      return cache_->add_new(mapping, index, zero, kAllocUser);
    }
    if (round != 0) return Error::wait;
    SPW_TRY(cache_->start_read(mapping, index, 1, index, kAllocUser));
  }
}

// The page is in the cache with a block behind it, ready to be changed.
Result<Pfn> Vfs::begin_write(Inode& inode, u32 index, bool replaces_all, bool zero) {
  bool fresh = false;
  SPW_TRY_ASSIGN(pfn, page_to_write(inode, index, replaces_all, zero, &fresh));
  Status reserved = kOk;
  {
    const PagePin pin((*frames_)[pfn]);
    const PageAllocator::NoFs no_fs(*allocator_);
    reserved = fs_->reserve_blocks(inode, index, 1);
  }
  if (reserved.ok()) return pfn;
  if (fresh) cache_->free_page(pfn);
  if (reserved.error() != Error::no_space) return reserved.error();
  // Files that are gone may still have their blocks, until transfers of theirs have ended.
  const u64 deleted = inodes_.stats().deleted;
  const u64 left = deleted != 0 ? inodes_.finish_deleted() : 0;
  return left != deleted ? Error::wait : reserved.error();
}

Result<u64> Vfs::write(Inode& inode, u64 offset, const u8* data, u64 bytes, u64* done) {
  const WalkScope walk(observer_->walk, "generic_file_write", "offset {a}, {b} bytes", offset,
                       bytes);
  SPW_TRY(usable_file(inode));
  if (bytes == 0) return u64{0};
  if (fs_->read_only()) return Error::read_only;
  const u64 limit = std::min(kSizeMax, fs_->size_max(inode));
  if (offset >= limit) return limit < kSizeMax ? fs_->size_max_error() : Error::file_too_big;
  bytes = std::min(bytes, limit - offset);
  if (offset + bytes > inode.mapping.size_bytes) {
    const Status finished = finish_truncate(inode);
    if (!finished.ok()) return ended(finished.error(), *done);
  }
  while (*done < bytes) {
    const u64 at = offset + *done;
    const u64 in_page = at & kPageMask;
    const u64 n = std::min(kPageSize - in_page, bytes - *done);
    const bool replaces_all =
        in_page == 0 && (n == kPageSize || at + n >= inode.mapping.size_bytes);
    const Result<Pfn> pfn =
        begin_write(inode, static_cast<u32>(at >> kPageShift), replaces_all, n != kPageSize);
    if (!pfn.ok()) return ended(pfn.error(), *done);
    grow_to(inode, at + n);
    std::memcpy(bytes_of(pfn.value()) + in_page, data + *done, n);
    cache_->set_dirty(pfn.value());
    cache_->touched(pfn.value());
    *done += n;
    written(inode);
  }
  return *done;
}

// Makes the file shorter in memory. Waits first for what could keep it from being one step: the
// last page, whose tail goes, must be there, and no page that goes may be busy.
Status Vfs::cut(Inode& inode, u64 bytes) {
  Mapping& mapping = inode.mapping;
  const u32 last = static_cast<u32>(bytes >> kPageShift);  // partial, or the first to go
  if ((bytes & kPageMask) != 0) {
    Result<Pfn> pfn = cache_->lookup(mapping, last);
    if (!pfn.ok() && pfn.error() == Error::no_entry) {
      SPW_TRY(cache_->start_read(mapping, last, 1, last, kAllocUser));
      pfn = cache_->lookup(mapping, last);  // zeros are there at once
      if (!pfn.ok() && pfn.error() == Error::no_entry) return Error::wait;
    }
    if (!pfn.ok()) return pfn.error();
  }
  if (cache_->busy(mapping, last)) return Error::wait;
  const u32 first = static_cast<u32>(pages_for(bytes).v);
  if (mapped_ != nullptr && mapping.areas != nullptr) mapped_->unmap(mapping, first);
  if ((bytes & kPageMask) != 0 && zero_tail(*cache_, *frames_, *machine_, mapping, bytes)) {
    const Pfn pfn = cache_->find(mapping, last).pfn();
    cache_->set_dirty(pfn);
    cache_->touched(pfn);
  }
  mapping.size_bytes = bytes;
  const Status dropped = cache_->truncate(mapping, first, nullptr, nullptr);
  SPW_ASSERT(dropped.ok());
  inode.set(InodeState::truncating);
  written(inode);
  return kOk;
}

Status Vfs::set_size(Inode& inode, u64 bytes) {
  const WalkScope walk(observer_->walk, "vmtruncate", "to {a} bytes", bytes);
  SPW_TRY(usable_file(inode));
  if (bytes > std::min(kSizeMax, fs_->size_max(inode))) return Error::file_too_big;
  if (fs_->read_only()) return Error::read_only;
  if (bytes > inode.mapping.size_bytes) {
    SPW_TRY(finish_truncate(inode));
    grow_to(inode, bytes);
    written(inode);
    return kOk;
  }
  if (bytes < inode.mapping.size_bytes) SPW_TRY(cut(inode, bytes));
  SPW_TRY(finish_truncate(inode));
  written(inode);  // ftruncate(2) to the present size sets the times too, and so does O_TRUNC
  return kOk;
}

Status Vfs::set_attributes(Inode& inode, const AttributeChange& change) {
  if (inode.is(InodeState::bad)) return Error::io;
  if (fs_->read_only()) return Error::read_only;
  InodeAttributes& attr = inode.attr;
  if (change.mode) attr.mode = (attr.mode & kModeType) | (change.to.mode & ~kModeType);
  if (change.uid) attr.uid = change.to.uid;
  if (change.gid) attr.gid = change.to.gid;
  if (change.atime) attr.atime = fs_->storable(change.to.atime);
  if (change.mtime) attr.mtime = fs_->storable(change.to.mtime);
  attr.ctime = change.ctime ? fs_->storable(change.to.ctime) : now();
  inodes_.mark_dirty(inode);
  return kOk;
}

Status Vfs::fsync_step(Inode& inode, SyncProgress& progress) {
  enum : u64 { kPages, kAttributes, kBlocks };
  if (inode.is(InodeState::bad)) return Error::io;
  if (progress.done == kPages) {
    const bool marked = progress.ticket.in_round;
    if (!marked && mapped_ != nullptr && inode.mapping.areas != nullptr) {
      mapped_->collect_dirty(inode.mapping);
    }
    SPW_TRY(finish_truncate(inode));
    SPW_TRY(cache_->sync(inode.mapping, 0, ~u32{0}, progress.ticket));
    progress.done = kAttributes;
  }
  if (progress.done == kAttributes) {
    SPW_TRY(inodes_.write(inode));
    progress.done = kBlocks;
  }
  const PageAllocator::NoFs no_fs(*allocator_);
  return fs_->sync_inode(inode, progress.ticket);
}

Status Vfs::fsync(Inode& inode, SyncProgress& progress) {
  const Status status = fsync_step(inode, progress);
  if (status.ok() || status.error() != Error::wait) progress = SyncProgress{};
  return status;
}

}  // namespace spillway
