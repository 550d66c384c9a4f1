// ExtFs: opening, checking, storing and closing the whole.
#include "fs_ext/ext_fs.h"

#include <algorithm>

namespace spillway {
namespace {

void say_nothing(const char*, errcode_t, const char*, va_list) {}

ExtFs& owner_of(ext2_filsys fs) { return *static_cast<ExtFs*>(fs->priv_data); }

}  // namespace

ExtFs::~ExtFs() { free_library(); }

void ExtFs::free_library() {
  if (known_map_ != nullptr) ext2fs_free_block_bitmap(known_map_);
  known_map_ = nullptr;
  if (fs_ != nullptr) ext2fs_free(fs_);
  fs_ = nullptr;
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
  if (status.ok() && writes) {
    status = status_of_ext(ext2fs_read_bitmaps(fs_));
    if (status.ok()) status = status_of_ext(ext2fs_copy_bitmap(fs_->block_map, &known_map_));
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
    // From here on the image is not clean, and the device says so before anything else changes.
    if (status.ok()) {
      fs_->super->s_state = static_cast<u16>(fs_->super->s_state & ~EXT2_VALID_FS);
      ++fs_->super->s_mnt_count;
      generation_ = fs_->super->s_hash_seed[0] ^ fs_->super->s_wtime;
      ext2fs_mark_super_dirty(fs_);
      status = flush();
    }
  }
  if (!status.ok()) {
    free_library();
  }
  return status;
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
    if (status.ok()) {
      fs_->super->s_state = static_cast<u16>(fs_->super->s_state | EXT2_VALID_FS);
      ext2fs_mark_super_dirty(fs_);
      status = flush();
    }
  }
  SPW_ASSERT_EQ(transfers_.in_flight(), 0U);
  free_library();
  zones_.clear();
  written_.clear();
  return status;
}

// Superblock, descriptors, bitmaps into the buffer cache, all buffers to the device, and the device
// told to keep them.
Status ExtFs::flush() {
  SPW_TRY(commit(Commit::in_order));
  release_freed();
  if ((fs_->flags & EXT2_FLAG_DIRTY) != 0) {
    SPW_TRY(status_of_ext(ext2fs_flush2(fs_, EXT2_FLAG_FLUSH_NO_SYNC)));
    fs_->flags |= EXT2_FLAG_MASTER_SB_ONLY;
  }
  SPW_TRY(io_.sync());
  return host_->sync_device();
}

Status ExtFs::sync() {
  if (mode_ == ExtMode::read_only) return kOk;
  const Call call(*this, ExtIo::Waits::yes);
  {
    const Change change(*this);
    SPW_TRY(settle());
  }
  return flush();
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
  std::sort(zones_.begin(), zones_.end(),
            [](const Zone& a, const Zone& b) { return a.first < b.first; });
  std::vector<Zone> merged;
  for (const Zone& zone : zones_) {
    if (!merged.empty() && zone.first < merged.back().end) return Error::corrupt;
    if (!merged.empty() && zone.first == merged.back().end) {
      merged.back().end = zone.end;
    } else {
      merged.push_back(zone);
    }
  }
  zones_.swap(merged);
  return kOk;
}

Status ExtFs::add_zones() {
  const u64 first_data = fs_->super->s_first_data_block;
  const auto add = [&](u64 first, u64 count) {
    if (first < first_data || first >= probe_.blocks || count > probe_.blocks - first) return false;
    if (count != 0) zones_.push_back({first, first + count});
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
  if (physical <= fs_->super->s_first_data_block || physical >= probe_.blocks ||
      count > probe_.blocks - physical) {
    return false;
  }
  // The first zone that ends behind the start must begin behind the end.
  const auto zone = std::upper_bound(zones_.begin(), zones_.end(), physical,
                                     [](u64 block, const Zone& z) { return block < z.end; });
  return zone == zones_.end() || physical + count <= zone->first;
}

u64 ExtFs::kept_blocks() const { return std::clamp<u64>(probe_.blocks / 50, 16, 4096); }

// X1: called for every block that is freed. Not for those that are allocated: the library zeroes
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
