// ExtFs: opening, checking, storing and closing the whole.
#include "fs_ext/ext_fs.h"

#include <algorithm>
#include <cerrno>

namespace spillway {
namespace {

void say_nothing(const char*, errcode_t, const char*, va_list) {}

ExtFs& owner_of(ext2_filsys fs) { return *static_cast<ExtFs*>(fs->priv_data); }

}  // namespace

ExtFs::~ExtFs() {
  if (fs_ != nullptr) release();
}

Status ExtFs::open(const ExtParts& parts, ExtMode mode) {
  SPW_ASSERT(fs_ == nullptr);
  machine_ = &parts.machine;
  cache_ = &parts.cache;
  allocator_ = &parts.allocator;
  frames_ = &parts.frames;
  buffers_ = &parts.buffers;
  device_ = &parts.device;
  host_ = &parts.host;
  mode_ = mode;
  const u64 bytes = parts.device_bytes != 0 ? parts.device_bytes : device_->size().bytes();
  io_.init(*buffers_, *host_, bytes);
  transfers_.init(*machine_, *cache_, buffers_->observer(), *device_, *this);
  // The library tells its user of what it finds on standard error; our errors say it.
  set_com_err_hook(say_nothing);
  const Call call(*this, ExtIo::Waits::yes);
  u8 super[ExtProbe::kBytes];
  SPW_TRY(status_of_ext(io_.read(ExtProbe::kOffset, sizeof super, super)));
  SPW_TRY(probe_ext(super, bytes, &probe_));
  if (probe_.block_size != buffers_->block_size()) return Error::invalid;
  const bool writes = mode == ExtMode::read_write;
  if (writes && (probe_.read_only || !probe_.clean)) return Error::read_only;
  const int flags = EXT2_FLAG_64BITS | (writes ? EXT2_FLAG_RW : EXT2_FLAG_SKIP_MMP);
  Status status = status_of_ext(io_.open(flags, &fs_));
  if (!status.ok()) {
    fs_ = nullptr;
    return status;
  }
  fs_->priv_data = this;
  fs_->flags |= EXT2_FLAG_MASTER_SB_ONLY;
  status = check_groups();
  if (status.ok()) io_.guard(zones_, probe_.blocks);
  if (status.ok() && whole_pages()) buffers_->share_with(&transfers_);
  if (status.ok() && writes) status = prepare_writing();
  if (!status.ok()) release();
  return status;
}

void ExtFs::release() {
  buffers_->share_with(nullptr);
  if (known_map_ != nullptr) ext2fs_free_block_bitmap(known_map_);
  known_map_ = nullptr;
  ext2fs_free(fs_);
  fs_ = nullptr;
  fresh_.clear();
  freed_.clear();
  freed_inodes_.clear();
  freed_blocks_ = 0;
  zones_.clear();
  written_.clear();
  lost_ = kOk;
  doubtful_ = false;
}

Status ExtFs::prepare_writing() {
  SPW_TRY(status_of_ext(ext2fs_read_bitmaps(fs_)));
  if (!zones_in_use()) {
    probe_.why = "its bitmap says that metadata is free: run e2fsck first";
    return Error::corrupt;
  }
  SPW_TRY(status_of_ext(ext2fs_copy_bitmap(fs_->block_map, &known_map_)));
  ext2fs_set_block_alloc_stats_callback(
      fs_,
      [](ext2_filsys fs, blk64_t block, int in_use) {
        owner_of(fs).block_changed_hands(block, 1, in_use > 0);
      },
      nullptr);
  ext2fs_set_block_alloc_stats_range_callback(
      fs_,
      [](ext2_filsys fs, blk64_t block, blk_t count, int in_use) {
        owner_of(fs).range_changed_hands(block, count, in_use > 0);
      },
      nullptr);
  fs_->write_inode = [](ext2_filsys fs, ext2_ino_t number, ext2_inode*) -> errcode_t {
    owner_of(fs).announce_inode(number);
    return EXT2_ET_CALLBACK_NOTHANDLED;  // the library writes it
  };
  // From here on the image is not clean, and the device says so before anything else changes.
  fs_->super->s_state = static_cast<u16>(fs_->super->s_state & ~EXT2_VALID_FS);
  ++fs_->super->s_mnt_count;
  generation_ = fs_->super->s_hash_seed[0] ^ fs_->super->s_wtime;
  ext2fs_mark_super_dirty(fs_);
  return flush();
}

// X3: else a file would get the blocks.
bool ExtFs::zones_in_use() {
  return zones_.all_of([&](u64 first, u64 end) {
    blk64_t free = 0;
    return ext2fs_find_first_zero_block_bitmap2(fs_->block_map, first, end - 1, &free) == ENOENT;
  });
}

// The library is about to write this inode: its block of the inode table may be written.
void ExtFs::announce_inode(u32 number) {
  if (number == 0 || number > probe_.inodes) return;
  const u32 per_group = fs_->super->s_inodes_per_group;
  const u64 offset = u64{(number - 1) % per_group} * EXT2_INODE_SIZE(fs_->super);
  io_.announce(ext2fs_inode_table_loc(fs_, (number - 1) / per_group) + offset / probe_.block_size);
}

Status ExtFs::close() {
  if (fs_ == nullptr) return kOk;
  Status status = kOk;
  if (mode_ == ExtMode::read_write) {
    const Call call(*this, ExtIo::Waits::yes);
    (void)deliver();
    {
      const Change change(*this);
      status = settle();
    }
    if (status.ok()) status = flush();
    if (status.ok()) status = lost_;
    if (status.ok()) {
      const u32 state = doubtful_ ? EXT2_ERROR_FS : EXT2_VALID_FS;
      fs_->super->s_state = static_cast<u16>(fs_->super->s_state | state);
      ext2fs_mark_super_dirty(fs_);
      status = flush();
      if (status.ok() && doubtful_) status = Error::corrupt;
    }
  }
  SPW_ASSERT_EQ(transfers_.in_flight(), 0U);
  release();
  return status;
}

// Superblock, descriptors, bitmaps into the buffer cache, all buffers to the device, and the device
// told to keep them.
Status ExtFs::flush() {
  SPW_TRY(commit(Commit::in_order));
  // After a change that ended halfway, files may still name what it freed: nobody gets it.
  if (doubtful_) return write_everything();
  set_freed(Freed::available);
  const Status status = write_everything();
  if (status.ok()) {
    forget_freed();
  } else {
    set_freed(Freed::taken);
  }
  return status;
}

Status ExtFs::write_everything() {
  if ((fs_->flags & EXT2_FLAG_DIRTY) != 0) {
    const ExtIo::Flush whole(io_);
    SPW_TRY(status_of_ext(ext2fs_flush2(fs_, EXT2_FLAG_FLUSH_NO_SYNC)));
    fs_->flags |= EXT2_FLAG_MASTER_SB_ONLY;
  }
  SPW_TRY(io_.sync());
  return host_->sync_device();
}

// Ends I/O inside, so nobody can dirty anything meanwhile and nothing is kept over calls.
Status ExtFs::sync(SyncTicket&) {
  if (mode_ == ExtMode::read_only) return kOk;
  const Call call(*this, ExtIo::Waits::yes);
  {
    const Change change(*this);
    SPW_TRY(settle());
  }
  SPW_TRY(flush());
  const Status lost = lost_;
  lost_ = kOk;
  return lost;
}

Status ExtFs::begin_change() {
  if (mode_ == ExtMode::read_only) return Error::read_only;
  if (allocator_->in_reclaim()) return kOk;  // an inode is stored to make room
  (void)deliver();
  if (wants_freed()) {
    const Call call(*this, ExtIo::Waits::yes);
    SPW_TRY(flush());
  }
  switch (allocator_->make_room(PageCount(kFramesAhead))) {
    case ReclaimOutcome::progress: return kOk;
    case ReclaimOutcome::wait: return Error::wait;
    case ReclaimOutcome::exhausted: return Error::no_memory;
  }
  return kOk;
}

FileSystemStats ExtFs::stats() {
  FileSystemStats s;
  s.block_size = probe_.block_size;
  s.blocks = probe_.blocks;
  s.blocks_free = std::min<u64>(ext2fs_free_blocks_count(fs_->super), s.blocks);
  const u64 reserved = std::max<u64>(ext2fs_r_blocks_count(fs_->super), kept_blocks());
  s.blocks_available = s.blocks_free > reserved ? s.blocks_free - reserved : 0;
  s.inodes = probe_.inodes;
  s.inodes_free = fs_->super->s_free_inodes_count;
  return s;
}

// Every group's bitmaps and inode table lie inside the image, outside of each other.
Status ExtFs::check_groups() {
  if (fs_->group_desc_count != probe_.groups || fs_->blocksize != probe_.block_size) {
    return Error::corrupt;
  }
  SPW_TRY(add_zones());
  return zones_.finish();
}

Status ExtFs::add_zones() {
  const u64 first_data = fs_->super->s_first_data_block;
  const auto add = [&](u64 first, u64 count) {
    if (first < first_data || first >= probe_.blocks || count > probe_.blocks - first) return false;
    zones_.add(first, count);
    return true;
  };
  zones_.clear();
  for (u32 group = 0; group < probe_.groups; ++group) {
    if (!add(ext2fs_block_bitmap_loc(fs_, group), 1) ||
        !add(ext2fs_inode_bitmap_loc(fs_, group), 1) ||
        !add(ext2fs_inode_table_loc(fs_, group), fs_->inode_blocks_per_group)) {
      return Error::corrupt;
    }
    blk64_t super = 0;
    blk64_t old_descriptors = 0;
    blk64_t new_descriptors = 0;
    (void)ext2fs_super_and_bgd_loc2(fs_, group, &super, &old_descriptors, &new_descriptors,
                                    nullptr);
    if ((super != 0 || group == 0) && !add(super, 1)) return Error::corrupt;
    const u64 old_count = ext2fs_has_feature_meta_bg(fs_->super) != 0
                              ? fs_->super->s_first_meta_bg
                              : fs_->desc_blocks + fs_->super->s_reserved_gdt_blocks;
    if (old_descriptors != 0 && !add(old_descriptors, old_count)) return Error::corrupt;
    if (new_descriptors != 0 && !add(new_descriptors, 1)) return Error::corrupt;
  }
  return kOk;
}

bool ExtFs::data_blocks_valid(u64 physical, u64 count) const {
  return physical > fs_->super->s_first_data_block && physical < probe_.blocks &&
         count <= probe_.blocks - physical && !zones_.touch(physical, count);
}

u64 ExtFs::kept_blocks() const { return std::clamp<u64>(probe_.blocks / 50, 16, 4096); }

// X1: for every block that is freed. Not for those that are allocated: the library zeroes
// blocks of its own before it says that they are taken.
void ExtFs::forget_blocks(u64 physical, u64 count) {
  if (!whole_pages()) return;
  for (u64 i = 0; i < count; ++i) io_.forget(physical + i);
}

u32 ExtFs::deliver() {
  u32 told = 0;
  while (!ended_.empty()) {
    const Ended ended = ended_.back();
    ended_.pop_back();
    cache_->write_done(ended.pfn, ended.status);
    ++told;
  }
  return told;
}

}  // namespace spillway
