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

// Marks the inodes whose pages this round writes, or whose truncation it ends.
void Vfs::begin_sync() {
  syncs_.begin();
  sync_stage_ = SyncStage::pages;
  sync_blocks_ = SyncTicket{};
  inodes_.for_each([&](Inode& inode) {
    if (inode.is(InodeState::deleted) || inode.is(InodeState::bad)) return;
    if (mapped_ != nullptr && inode.mapping.areas != nullptr) {
      mapped_->collect_dirty(inode.mapping);
    }
    const Mapping& m = inode.mapping;
    if (m.nr_dirty == 0 && m.nr_writeback == 0 && !m.io_failed && !m.space_failed &&
        !inode.is(InodeState::truncating)) {
      return;
    }
    inode.sync_round = syncs_.round();
    inode.sync = SyncTicket{};
  });
}

// Told at the end of the round.
void Vfs::sync_failed(Status status) {
  syncs_.failed(status.error());
  if (sync_error_.ok()) sync_error_ = status;
}

// Does what can be done for the round; false when it has ended. Each inode's pages, each inode and
// the blocks have their turn once: one that fails does not come again in the same round.
bool Vfs::push_sync() {
  bool waits = false;
  // Whether it has had its turn.
  const auto done = [&](Status status) {
    if (status.ok()) return true;
    if (status.error() == Error::wait) {
      waits = true;
      return false;
    }
    sync_failed(status);
    return true;
  };
  if (sync_stage_ == SyncStage::pages) {
    (void)inodes_.finish_deleted();
    inodes_.for_each([&](Inode& inode) {
      if (inode.sync_round != syncs_.round()) return;
      const bool gone = inode.is(InodeState::deleted) || inode.is(InodeState::bad);
      if (!gone && inode.is(InodeState::truncating)) {
        const Status status = finish_truncate(inode);
        const bool failed = !status.ok() && status.error() != Error::wait;
        if (!failed || !inode.is(InodeState::truncate_told)) (void)done(status);
        if (failed) inode.set(InodeState::truncate_told);
        if (!status.ok() && !failed) return;
      }
      if (gone || done(cache_->sync(inode.mapping, 0, ~u32{0}, inode.sync))) inode.sync_round = 0;
    });
    if (waits) return true;
    sync_stage_ = SyncStage::inodes;
    // Those count too that became dirty because their pages were written.
    sync_pages_ended_ns_ = machine_->clock.now_ns();
  }
  if (sync_stage_ == SyncStage::inodes) {
    if (!done(inodes_.write_all(*fs_, sync_pages_ended_ns_))) return true;
    sync_stage_ = SyncStage::blocks;
  }
  if (sync_stage_ == SyncStage::blocks) {
    const PageAllocator::NoFs no_fs(*allocator_);
    if (!done(fs_->sync(sync_blocks_))) return true;
    sync_stage_ = SyncStage::none;
  }
  return false;
}

Status Vfs::sync(SyncTicket& ticket) {
  constexpr u32 kAll = 1;  // there is one tree only
  const bool going = push_sync();
  switch (syncs_.turn(ticket, kAll, going)) {
    case SyncRounds::Turn::waits: return Error::wait;
    case SyncRounds::Turn::enters:
      // Who begins anew at each call is told what became of his last one.
      if (!going && !sync_error_.ok()) break;
      if (!going) begin_sync();
      syncs_.enter(ticket);
      if (push_sync()) return Error::wait;
      break;
    case SyncRounds::Turn::over: break;
  }
  const Status status = sync_error_.ok() ? syncs_.outcome(ticket) : sync_error_;
  sync_error_ = kOk;
  ticket = SyncTicket{};
  return status;
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
