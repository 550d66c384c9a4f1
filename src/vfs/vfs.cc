#include "vfs/vfs.h"

namespace spillway {

Status Vfs::init(Machine& machine, PageCache& cache, PageAllocator& allocator, FrameTable& frames,
                 const Observer& observer, const VfsConfig& config) {
  machine_ = &machine;
  cache_ = &cache;
  allocator_ = &allocator;
  frames_ = &frames;
  observer_ = &observer;
  config_ = config;
  SPW_TRY(inodes_.init(machine, cache, allocator, observer, config.inode_hash_bits));
  SPW_TRY(dentries_.init(machine, inodes_, allocator, observer, config.dentry_hash_bits));
  path_ = static_cast<char*>(machine.boot.alloc(2 * u64{kPathMax}, 64));
  return path_ != nullptr ? kOk : Status(Error::no_memory);
}

Status Vfs::mount(FileSystem& fs) {
  SPW_ASSERT(root_ == nullptr);
  fs_ = &fs;
  SPW_TRY_ASSIGN(inode, inodes_.get(fs, fs.root()));
  const Result<Dentry*> root = inode->is_directory() && !inode->is(InodeState::bad)
                                   ? dentries_.alloc_root(*inode)
                                   : Result<Dentry*>(Error::corrupt);
  if (!root.ok()) {
    inodes_.put(*inode);
    return root.error();
  }
  root_ = root.value();
  return kOk;
}

Status Vfs::unmount() {
  SPW_ASSERT(root_ != nullptr);
  SPW_TRY(sync());
  while (dentries_.count_objects() != 0) (void)dentries_.prune(dentries_.count_objects());
  if (dentries_.stats().dentries != 1) return Error::busy;
  if (inodes_.finish_deleted() != 0) return Error::wait;
  bool busy = root_->inode->count != 1;
  bool waits = false;
  inodes_.for_each([&](Inode& inode) {
    if (inode.count != 0 && &inode != root_->inode) busy = true;
    if (inode.mapping.nr_writeback != 0 || cache_->busy(inode.mapping, 0)) waits = true;
  });
  if (busy) return Error::busy;
  if (waits) return Error::wait;
  dentries_.put(*root_);
  root_ = nullptr;
  inodes_.for_each([&](Inode& inode) {
    const Status dropped = cache_->truncate(inode.mapping, 0, nullptr, nullptr);
    SPW_ASSERT(dropped.ok());
    // What the file system could not truncate (a damaged image) is not to keep its inode here.
    inode.clear(InodeState::truncating);
  });
  while (inodes_.count_objects() != 0) (void)inodes_.prune(inodes_.count_objects());
  dentries_.shrink_slabs();
  inodes_.shrink_slabs();
  fs_ = nullptr;
  return kOk;
}

FileTime Vfs::now() const {
  const u64 ns = config_.epoch_ns + machine_->clock.now_ns();
  const FileTime time{static_cast<i64>(ns / 1'000'000'000), static_cast<u32>(ns % 1'000'000'000)};
  return fs_ != nullptr ? fs_->storable(time) : time;
}

Status Vfs::sync() {
  bool waits = false;
  // Told at the end, however often this call has to be repeated before.
  const auto note = [&](Status status) {
    if (status.ok()) return;
    if (status.error() == Error::wait) {
      waits = true;
    } else if (sync_error_.ok()) {
      sync_error_ = status;
    }
  };
  (void)inodes_.finish_deleted();
  inodes_.for_each([&](Inode& inode) {
    if (inode.is(InodeState::deleted) || inode.is(InodeState::bad)) return;
    if (mapped_ != nullptr && inode.mapping.areas != nullptr) {
      mapped_->collect_dirty(inode.mapping);
    }
    if (inode.is(InodeState::truncating)) {
      const Status status = finish_truncate(inode);
      const bool told =
          !status.ok() && status.error() != Error::wait && inode.is(InodeState::truncate_told);
      if (!told) note(status);
      if (!status.ok() && status.error() != Error::wait) inode.set(InodeState::truncate_told);
    }
    Mapping& m = inode.mapping;
    if (m.nr_dirty == 0 && m.nr_writeback == 0 && !m.io_failed && !m.space_failed) return;
    // One that failed is not tried again by the same sync: two that fail would take turns in
    // failing and being waited for, without end.
    if (inode.sync_failed == sync_number_) return;
    const Status status = cache_->sync(m, 0, ~u32{0});
    if (!status.ok() && status.error() != Error::wait) inode.sync_failed = sync_number_;
    note(status);
  });
  if (waits) return Error::wait;
  note(inodes_.write_all(*fs_));
  if (waits) return Error::wait;
  {
    const PageAllocator::NoFs no_fs(*allocator_);
    note(fs_->sync());
  }
  if (waits) return Error::wait;
  const Status result = sync_error_;
  sync_error_ = kOk;
  ++sync_number_;
  return result;
}

VfsStats Vfs::stats() const {
  const DentryCache::Stats d = dentries_.stats();
  const InodeCache::Stats i = inodes_.stats();
  return {.dentries = d.dentries,
          .dentries_unused = d.unused,
          .dentries_negative = d.negative,
          .dentry_hits = d.hits,
          .dentry_misses = d.misses,
          .dentries_pruned = d.pruned,
          .inodes = i.inodes,
          .inodes_unused = i.unused,
          .inodes_dirty = i.dirty,
          .inode_hits = i.hits,
          .inode_misses = i.misses,
          .inodes_pruned = i.pruned,
          .inodes_written = i.written};
}

bool Vfs::validate() const { return dentries_.validate() && inodes_.validate(); }

}  // namespace spillway
