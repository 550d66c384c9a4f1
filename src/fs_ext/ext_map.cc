// ExtFs: which blocks a file has. An inode remembers the last run of blocks that was looked up, in
// fs_data: [0] first, [1] count (0: none), [2] physical, [3] epoch and kind.
#include <algorithm>
#include <cstring>

#include "fs_ext/ext_fs.h"

namespace spillway {
namespace {

// Blocks that a block map is asked for at once: what one page-cache read wants.
constexpr u64 kMapAhead = 16;
constexpr u64 kKindBits = 2;

// Whether the tree of extents has blocks of its own, beside the inode.
bool has_extent_nodes(const ext2_inode_large& raw) {
  ext3_extent_header header;
  std::memcpy(&header, raw.i_block, sizeof header);
  return (raw.i_flags & EXT4_EXTENTS_FL) != 0 && header.eh_depth != 0;
}

class ExtentHandle {
 public:
  ~ExtentHandle() {
    if (handle_ != nullptr) ext2fs_extent_free(handle_);
  }
  errcode_t open(ext2_filsys fs, u32 number, ext2_inode* inode) {
    return ext2fs_extent_open2(fs, number, inode, &handle_);
  }
  ext2_extent_handle_t get() const { return handle_; }

 private:
  ext2_extent_handle_t handle_ = nullptr;
};

}  // namespace

Result<ExtFs::Run> ExtFs::map(Inode& inode, u64 block) {
  u64* const known = inode.fs_data;
  if (block - known[0] < known[1] && known[3] >> kKindBits == map_epoch_) {
    return Run{known[0], known[1], known[2], static_cast<RunKind>(known[3] & 3)};
  }
  Raw raw;
  SPW_TRY(load(inode.number, &raw));
  const bool extents = (raw.i_flags & EXT4_EXTENTS_FL) != 0;
  const Result<Run> found = extents ? map_extent(inode, raw, block) : map_blocks(inode, raw, block);
  if (!found.ok()) return found;
  const Run run = found.value();
  if (run.kind != RunKind::hole) {
    known[0] = run.first;
    known[1] = run.count;
    known[2] = run.physical;
    known[3] = map_epoch_ << kKindBits | static_cast<u64>(run.kind);
  }
  return run;
}

Result<ExtFs::Run> ExtFs::map_extent(Inode& inode, Raw& raw, u64 block) {
  ExtentHandle handle;
  SPW_TRY(status_of_ext(handle.open(fs_, static_cast<u32>(inode.number), plain(raw))));
  const errcode_t code = ext2fs_extent_goto(handle.get(), block);
  if (code == EXT2_ET_EXTENT_NOT_FOUND || code == EXT2_ET_NO_CURRENT_NODE) {
    return Run{block, 1, 0, RunKind::hole};
  }
  SPW_TRY(status_of_ext(code));
  ext2fs_extent extent{};
  SPW_TRY(status_of_ext(ext2fs_extent_get(handle.get(), EXT2_EXTENT_CURRENT, &extent)));
  if (block < extent.e_lblk || block - extent.e_lblk >= extent.e_len ||
      !data_blocks_valid(extent.e_pblk, extent.e_len)) {
    return Error::corrupt;
  }
  const bool unwritten = (extent.e_flags & EXT2_EXTENT_FLAGS_UNINIT) != 0;
  return Run{extent.e_lblk, extent.e_len, extent.e_pblk,
             unwritten ? RunKind::unwritten : RunKind::written};
}

Result<ExtFs::Run> ExtFs::map_blocks(Inode& inode, Raw& raw, u64 block) {
  Run run{block, 0, 0, RunKind::hole};
  for (; run.count < kMapAhead; ++run.count) {
    blk64_t physical = 0;
    const errcode_t code = ext2fs_bmap2(fs_, static_cast<u32>(inode.number), plain(raw), nullptr, 0,
                                        block + run.count, nullptr, &physical);
    if (run.count == 0) {
      SPW_TRY(status_of_ext(code));
      if (physical == 0) return Run{block, 1, 0, RunKind::hole};
      run.kind = RunKind::written;
      run.physical = physical;
    } else if (code != 0 || physical != run.physical + run.count) {
      break;
    }
    if (!data_blocks_valid(physical, 1)) {
      if (run.count == 0) return Error::corrupt;
      break;
    }
  }
  return run;
}

// One transfer of a device page, at once.
Status ExtFs::transfer_now(IoOp op, u64 page, Pfn frame) {
  struct Sink final : IoSink {
    bool ended = false;
    Status status = kOk;
    void io_done(IoRequest&, Status s) override {
      ended = true;
      status = s;
    }
  } sink;
  while (in_transfer(op, page)) {
    if (!host_->complete_io()) return Error::io;
  }
  IoRequest request;
  request.op = op;
  request.block = page;
  request.count = 1;
  request.frames[0] = frame;
  request.sink = &sink;
  device_->submit(request);
  while (!sink.ended) {
    const bool any = host_->complete_io();
    SPW_ASSERT(any || sink.ended);
  }
  transfers_.count(op, sink.status);
  return sink.status;
}

// For block maps, which cannot say "unwritten".
Status ExtFs::zero_blocks(u64 physical, u64 count) {
  if (!whole_pages()) {
    const u8 zeros[kPageSize] = {};
    const u64 size = probe_.block_size;
    for (u64 i = 0; i < count; ++i) {
      SPW_TRY(status_of_ext(io_.write((physical + i) * size, size, zeros)));
    }
    return kOk;
  }
  SPW_TRY_ASSIGN(frame, allocator_->alloc_kernel(PageOwner::boot, kAllocKernel));
  std::memset(machine_->frames.bytes(frame), 0, kPageSize);
  Status status = kOk;
  for (u64 i = 0; i < count && status.ok(); ++i) {
    status = transfer_now(IoOp::write, physical + i, frame);
  }
  allocator_->free_kernel(frame, PageOwner::boot);
  return status;
}

// Gives the file a block where it has none. X2.
Status ExtFs::allocate(Inode& inode, Raw& raw, u64 block) {
  if (!has_room()) return Error::no_space;
  const bool extents = (raw.i_flags & EXT4_EXTENTS_FL) != 0;
  blk64_t physical = 0;
  SPW_TRY(status_of_ext(ext2fs_bmap2(fs_, static_cast<u32>(inode.number), plain(raw), nullptr,
                                     BMAP_ALLOC | (extents ? BMAP_UNINIT : 0), block, nullptr,
                                     &physical)));
  if (!data_blocks_valid(physical, 1)) return Error::corrupt;
  io_.drop_kept(physical);  // the library has put zeros there: X1
  forget_blocks(physical, 1);
  return extents ? kOk : zero_blocks(physical, 1);
}

Status ExtFs::reserve_blocks(Inode& inode, u64 first, u64 count) {
  SPW_TRY(begin_change());
  const Change change(*this);
  const u64 per_page = blocks_per_page();
  // The last page that a file can have may be cut short by what its map reaches.
  const u64 end = std::min((first + count) * per_page, size_max(inode) / probe_.block_size);
  u64 made = 0;
  Status status = kOk;
  for (u64 block = first * per_page; block < end;) {
    const Result<Run> run = map(inode, block);
    if (!run.ok()) return run.error();
    if (run.value().kind != RunKind::hole) {
      block = run.value().end();
      continue;
    }
    if (made == 0) SPW_TRY(settle());
    Raw raw;
    SPW_TRY(load(inode.number, &raw));
    forget_map(inode);
    status = allocate(inode, raw, block);
    if (!status.ok()) {
      // Of this call's blocks nothing stays: none of them was there before.
      if (made != 0 || status.error() == Error::no_space) {
        inode.fs_data[4] = 1;
        if (first * per_page >= blocks_for(inode.mapping.size_bytes)) (void)trim_tail(inode);
      }
      return status;
    }
    ++block;
    ++made;
  }
  if (made != 0) {
    Raw raw;
    SPW_TRY(load(inode.number, &raw));
    inode.attr.sectors = ext2fs_get_stat_i_blocks(fs_, plain(raw));
    if (end > blocks_for(inode.mapping.size_bytes)) {
      // The next store trims what the file does not grow to.
      inode.fs_data[4] = 1;
      mark_inode_dirty(inode);
    }
  }
  return kOk;
}

// The bytes of the last page behind the new end of file become zeros, in the cache or on the
// device: the file may grow over them again.
Status ExtFs::zero_tail(Inode& inode, Raw&, u64 bytes) {
  const u64 in_page = bytes & kPageMask;
  if (in_page == 0) return kOk;
  const u64 index = bytes >> kPageShift;
  const Pfn cached = cache_->find(inode.mapping, static_cast<u32>(index)).pfn();
  if (cached.valid()) {
    const Page& page = (*frames_)[cached];
    if (page.state == PageState::reading || page.has(PageFlag::writeback)) return Error::wait;
    const bool reachable =
        page.state != PageState::mapped || machine_->features.frame_bytes_while_mapped;
    if (reachable && page.has(PageFlag::uptodate)) {
      std::memset(machine_->frames.bytes(cached) + in_page, 0, kPageSize - in_page);
      if (page.has(PageFlag::dirty)) return kOk;  // its write brings the zeros to the device
    }
  }
  const u64 block = bytes / probe_.block_size;
  const u64 in_block = bytes % probe_.block_size;
  if (in_block == 0) return kOk;
  SPW_TRY_ASSIGN(run, map(inode, block));
  if (run.kind != RunKind::written) return kOk;
  const u64 physical = run.physical + (block - run.first);
  if (!whole_pages()) {
    const u8 zeros[kPageSize] = {};
    return status_of_ext(
        io_.write(physical * probe_.block_size + in_block, probe_.block_size - in_block, zeros));
  }
  SPW_TRY_ASSIGN(frame, allocator_->alloc_kernel(PageOwner::boot, kAllocKernel));
  Status status = transfer_now(IoOp::read, physical, frame);
  if (status.ok()) {
    std::memset(machine_->frames.bytes(frame) + in_block, 0, kPageSize - in_block);
    status = transfer_now(IoOp::write, physical, frame);
  }
  allocator_->free_kernel(frame, PageOwner::boot);
  return status;
}

// Gives the blocks from `first` on free.
Status ExtFs::punch(u32 number, Raw& raw, u64 first) {
  if ((raw.i_flags & EXT4_EXTENTS_FL) != 0) SPW_TRY(give_last_block(number, raw, first));
  const Status status =
      status_of_ext(ext2fs_punch(fs_, number, plain(raw), nullptr, first, ~u64{0}));
  if (!status.ok()) doubtful_ = true;  // blocks may be free that the file still names
  return status;
}

// The library takes an extent that ends with the last block of the image for a bad one (e2fsprogs
// 1.47.0, punch_extent_blocks: >= where > is meant), after it has cut the extent off the file: its
// blocks would stay taken for good. So that block goes first, by itself.
Status ExtFs::give_last_block(u32 number, Raw& raw, u64 first) {
  const u64 last = probe_.blocks - 1;
  if (ext2fs_test_block_bitmap2(fs_->block_map, last) == 0 || !data_blocks_valid(last, 1)) {
    return kOk;
  }
  ExtentHandle handle;
  SPW_TRY(status_of_ext(handle.open(fs_, number, plain(raw))));
  ext2fs_extent extent{};
  u64 seen = 0;
  for (int op = EXT2_EXTENT_ROOT;; op = EXT2_EXTENT_NEXT_LEAF) {
    if (++seen > probe_.blocks) return Error::corrupt;  // a tree in which branches meet
    const errcode_t code = ext2fs_extent_get(handle.get(), op, &extent);
    if (code == EXT2_ET_EXTENT_NO_NEXT || code == EXT2_ET_NO_CURRENT_NODE) return kOk;
    SPW_TRY(status_of_ext(code));
    const bool leaf = (extent.e_flags & EXT2_EXTENT_FLAGS_LEAF) != 0;
    if (leaf && extent.e_pblk <= last && last - extent.e_pblk < extent.e_len) break;
  }
  const u64 block = extent.e_lblk + (last - extent.e_pblk);
  if (block < first) return kOk;
  SPW_TRY(status_of_ext(ext2fs_extent_set_bmap(handle.get(), block, 0, 0)));
  ext2fs_block_alloc_stats2(fs_, last, -1);
  SPW_TRY(load(number, &raw));
  (void)ext2fs_iblk_sub_blocks(fs_, plain(raw), 1);
  return store(number, raw);
}

Status ExtFs::truncate(Inode& inode, u64 bytes) {
  SPW_TRY(begin_change());
  const Change change(*this);
  SPW_TRY(settle());
  Raw raw;
  SPW_TRY(load(inode.number, &raw));
  if (EXT2_I_SIZE(&raw) != 0 || ext2fs_inode_has_valid_blocks2(fs_, plain(raw)) != 0) {
    SPW_TRY(zero_tail(inode, raw, bytes));
  }
  forget_map(inode);
  inode.fs_data[4] = 0;
  if (ext2fs_inode_has_valid_blocks2(fs_, plain(raw)) != 0) {
    const bool nodes = has_extent_nodes(raw);
    SPW_TRY(punch(static_cast<u32>(inode.number), raw, blocks_for(bytes)));
    // The size goes last: see convert().
    if (nodes) SPW_TRY(commit(Commit::write_all));
    SPW_TRY(load(inode.number, &raw));
    inode.attr.sectors = ext2fs_get_stat_i_blocks(fs_, plain(raw));
  }
  SPW_TRY(status_of_ext(ext2fs_inode_size_set(fs_, plain(raw), static_cast<ext2_off64_t>(bytes))));
  return store(inode.number, raw);
}

void ExtFs::note_written(const Inode& inode, u64 first, u64 count) {
  add_written({static_cast<u32>(inode.number), first, count, inode.mapping.size_bytes});
}

void ExtFs::add_written(const Written& written) {
  if (!written_.empty()) {
    Written& last = written_.back();
    if (last.number == written.number && last.first + last.count == written.first) {
      last.count += written.count;
      last.size = std::max(last.size, written.size);
      return;
    }
  }
  written_.push_back(written);
}

void ExtFs::drop_written(u32 number) {
  std::erase_if(written_, [&](const Written& w) { return w.number == number; });
}

// X2: extents whose blocks have been written say so from now on.
Status ExtFs::settle() {
  if (written_.size() > 1) {
    // Pages are written in any order: by file and place, so that extents change whole.
    std::sort(written_.begin(), written_.end(), [](const Written& a, const Written& b) {
      return a.number != b.number ? a.number < b.number : a.first < b.first;
    });
    std::vector<Written> sorted;
    sorted.swap(written_);
    for (const Written& w : sorted) add_written(w);
  }
  while (!written_.empty()) {
    // It leaves first: writes that end meanwhile are added behind.
    const Written next = written_.back();
    written_.pop_back();
    ++map_epoch_;
    const Status status = convert(next);
    // A file that makes no sense keeps no others from being settled; what failed for want of
    // something is tried again.
    if (status.ok()) continue;
    if (status.error() != Error::corrupt) {
      written_.push_back(next);
      return status;
    }
    lost_ = status;
  }
  return kOk;
}

// Makes room for two more extents in a leaf that is not the inode itself; false: there was room.
Result<bool> ExtFs::split_full_leaf(ext2_extent_handle_t handle) {
  ext2_extent_info info{};
  SPW_TRY(status_of_ext(ext2fs_extent_get_info(handle, &info)));
  if (info.curr_level == 0 || info.num_entries + 2 <= info.max_entries) return false;
  SPW_TRY(commit(Commit::in_order));
  SPW_TRY(status_of_ext(ext2fs_extent_node_split(handle)));
  SPW_TRY(commit(Commit::in_order));
  return true;
}

Status ExtFs::convert(const Written& written) {
  Raw raw;
  SPW_TRY(load(written.number, &raw));
  if ((raw.i_flags & EXT4_EXTENTS_FL) == 0) return kOk;
  // The size goes first: written extents behind the end of the file are taken away by e2fsck, with
  // what they have of the file.
  const u64 size = std::min(written.size, (written.first + written.count) * probe_.block_size);
  if (EXT2_I_SIZE(&raw) < size) {
    SPW_TRY(status_of_ext(ext2fs_inode_size_set(fs_, plain(raw), static_cast<ext2_off64_t>(size))));
    SPW_TRY(store(written.number, raw));
  }
  if (has_extent_nodes(raw)) SPW_TRY(write_inode_block(written.number));
  ExtentHandle handle;
  SPW_TRY(status_of_ext(handle.open(fs_, written.number, plain(raw))));
  const u64 end = written.first + written.count;
  for (u64 block = written.first; block < end;) {
    const errcode_t code = ext2fs_extent_goto(handle.get(), block);
    if (code == EXT2_ET_EXTENT_NOT_FOUND || code == EXT2_ET_NO_CURRENT_NODE) {
      ++block;  // truncated meanwhile
      continue;
    }
    SPW_TRY(status_of_ext(code));
    ext2fs_extent extent{};
    SPW_TRY(status_of_ext(ext2fs_extent_get(handle.get(), EXT2_EXTENT_CURRENT, &extent)));
    const u64 extent_end = extent.e_lblk + extent.e_len;
    if (block < extent.e_lblk || block >= extent_end) return Error::corrupt;
    const u64 to = std::min(end, extent_end);
    if (!whole_pages()) {
      // Contents go through the buffer cache: they first, or a kill would show what the blocks held
      // before. What cannot be written stays dirty, and sync() tells of it.
      for (u64 i = block; i < to; ++i) {
        (void)io_.write_block(extent.e_pblk + (i - extent.e_lblk));
      }
    }
    if ((extent.e_flags & EXT2_EXTENT_FLAGS_UNINIT) == 0) {
      block = to;
    } else if (block == extent.e_lblk && to == extent_end && extent.e_len > 1) {
      // The usual case, a file written at once: the extent changes its state and nothing else.
      extent.e_flags &= ~u32{EXT2_EXTENT_FLAGS_UNINIT};
      SPW_TRY(status_of_ext(ext2fs_extent_replace(handle.get(), 0, &extent)));
      block = to;
    } else {
      // A full leaf is split first and for itself. X6.
      SPW_TRY_ASSIGN(was_full, split_full_leaf(handle.get()));
      if (was_full) continue;
      // The library splits the extent and joins what has become alike.
      SPW_TRY(status_of_ext(
          ext2fs_extent_set_bmap(handle.get(), block, extent.e_pblk + (block - extent.e_lblk), 0)));
      ++block;
    }
  }
  return kOk;
}

}  // namespace spillway
