// ExtFs: in which order changes reach the device, so that e2fsck finds everything that was
// confirmed whenever the process is killed (X6).
#include <algorithm>
#include <cstring>

#include "fs_ext/ext_fs.h"

namespace spillway {
namespace {

constexpr u16 kExtentMagic = 0xF30A;
constexpr u16 kExtentDepthMax = 5;

// The depth of a node of a tree of extents; -1: it is something else.
int extent_depth(const u8* bytes) {
  ext3_extent_header header;
  std::memcpy(&header, bytes, sizeof header);
  const bool is_node = header.eh_magic == kExtentMagic && header.eh_depth <= kExtentDepthMax &&
                       header.eh_entries <= header.eh_max;
  return is_node ? header.eh_depth : -1;
}

// Whether its entries fill the block exactly.
bool is_directory_block(const u8* bytes, u32 size) {
  u32 offset = 0;
  while (offset < size) {
    if (size - offset < 12) return false;
    u16 length;
    std::memcpy(&length, bytes + offset + 4, sizeof length);
    if (length < 12 || length % 4 != 0 || length > size - offset) return false;
    offset += length;
  }
  return true;
}

}  // namespace

// Blocks that were free until now are written before anything refers to them. Where some were
// made, entries may have moved to them out of full blocks (trees of extents and hashed directories
// are split), and who refers to the new block, from the top down, is written before the full block
// loses what moved; a full node of extents is first written as it was. Everything else may be
// written in any order.
Status ExtFs::commit(Commit how) {
  struct Place {
    int rank;
    u64 block;
  };
  constexpr int kFresh = 0;
  constexpr int kTable = 1;                          // inodes: the roots of trees
  constexpr int kNode = 2;                           // and up, by level
  constexpr int kMap = kNode + kExtentDepthMax + 1;  // of blocks, and all others
  constexpr int kNames = kMap + 1;
  std::vector<Place> places;
  bool split = how == Commit::write_all;
  bool any_fresh = false;
  for (const auto& [block, kept] : io_.kept()) {
    const int depth = extent_depth(kept.bytes);
    int rank = is_directory_block(kept.bytes, probe_.block_size) ? kNames : kMap;
    if (fresh_.contains(block)) {
      rank = kFresh;
      any_fresh = true;
    } else if (!data_blocks_valid(block, 1)) {
      rank = kTable;
    } else if (depth >= 0) {
      rank = kNode + kExtentDepthMax - depth;
    }
    places.push_back({rank, block});
  }
  fresh_.clear();
  std::stable_sort(places.begin(), places.end(),
                   [](const Place& a, const Place& b) { return a.rank < b.rank; });
  if (any_fresh && places.back().rank >= kNode) split = true;
  Status result = kOk;
  const auto note = [&](const Status& status) {
    if (result.ok()) result = status;
  };
  for (const Place& place : places) {
    // As it was before: an extent that has been cut in two meanwhile would lie across the new
    // border, and e2fsck would take it away.
    if (any_fresh && place.rank >= kNode && place.rank < kMap) note(io_.write_block(place.block));
  }
  for (u64 i = 0; i < places.size();) {
    u64 end = i;
    for (; end < places.size() && places[end].rank == places[i].rank; ++end) {
      note(io_.move_kept(places[end].block));
    }
    const bool last = end == places.size() && how == Commit::in_order;
    if (places[i].rank == kFresh || (split && !last)) {
      for (u64 each = i; each < end; ++each) note(io_.write_block(places[each].block));
    }
    i = end;
  }
  return result;
}

// The inode as it was last stored is on the device.
Status ExtFs::write_inode_block(u32 number) {
  SPW_TRY(commit(Commit::in_order));
  const u32 per_group = fs_->super->s_inodes_per_group;
  const u64 table = ext2fs_inode_table_loc(fs_, (number - 1) / per_group);
  const u64 at = u64{(number - 1) % per_group} * EXT2_INODE_SIZE(fs_->super);
  return io_.write_block(table + at / probe_.block_size);
}

// A block was allocated or freed. What is freed is not given out again before the device says that
// nobody has it: it counts as free and is marked as taken.
void ExtFs::block_changed_hands(u64 block, u64 count, bool taken) {
  for (u64 i = 0; i < count; ++i) {
    if (taken) {
      fresh_.insert(block + i);
      ext2fs_mark_block_bitmap2(known_map_, block + i);
      continue;
    }
    io_.drop_kept(block + i);
    fresh_.erase(block + i);
  }
  if (taken) return;
  forget_blocks(block, count);
  if (block + count > probe_.blocks || mode_ == ExtMode::read_only) return;
  ext2fs_mark_block_bitmap_range2(fs_->block_map, block, static_cast<u32>(count));
  if (zones_.touch(block, count)) {
    take_zones_back(block, count);
    return;
  }
  freed_.push_back({block, block + count});
  freed_blocks_ += count;
}

// A file of a damaged image had blocks of zones_: those are not given out.
void ExtFs::take_zones_back(u64 block, u64 count) {
  for (u64 i = block; i < block + count; ++i) {
    if (zones_.touch(i, 1)) {
      ext2fs_free_blocks_count_set(fs_->super, ext2fs_free_blocks_count(fs_->super) - 1);
    } else {
      freed_.push_back({i, i + 1});
      ++freed_blocks_;
    }
  }
}

// libext2fs 1.47 tells of the end of a range and of no blocks; which ones, the bitmap shows.
void ExtFs::range_changed_hands(u64 block, u64 count, bool taken) {
  u64 first = block;
  const auto differs = [&](u64 one) {
    const bool now = ext2fs_test_block_bitmap2(fs_->block_map, one) != 0;
    return now == taken && (ext2fs_test_block_bitmap2(known_map_, one) != 0) != now;
  };
  if (count == 0) {
    while (first > fs_->super->s_first_data_block && differs(first - 1)) --first;
    count = block - first;
  }
  block_changed_hands(first, count, taken);
}

void ExtFs::inode_freed(u32 number) {
  ext2fs_mark_inode_bitmap2(fs_->inode_map, number);
  freed_inodes_.push_back(number);
}

// In the bitmaps, of everything that was freed and waits. Available: they are about to be written.
// Taken: that failed, so it goes on waiting.
void ExtFs::set_freed(Freed freed) {
  const bool taken = freed == Freed::taken;
  for (const Zone& run : freed_) {
    const auto count = static_cast<u32>(run.end - run.first);
    for (ext2fs_block_bitmap map : {fs_->block_map, known_map_}) {
      if (taken) {
        ext2fs_mark_block_bitmap_range2(map, run.first, count);
      } else {
        ext2fs_unmark_block_bitmap_range2(map, run.first, count);
      }
    }
  }
  for (const u32 number : freed_inodes_) {
    if (taken) {
      ext2fs_mark_inode_bitmap2(fs_->inode_map, number);
    } else {
      ext2fs_unmark_inode_bitmap2(fs_->inode_map, number);
    }
  }
}

void ExtFs::forget_freed() {
  freed_.clear();
  freed_inodes_.clear();
  freed_blocks_ = 0;
}

// Whether what was freed lately should be made available again.
bool ExtFs::wants_freed() const {
  if (doubtful_ || (freed_.empty() && freed_inodes_.empty())) return false;
  const u64 many = std::clamp<u64>(probe_.blocks / 32, 64, 4096);
  return freed_blocks_ > many || freed_inodes_.size() > many || !has_room() ||
         fs_->super->s_free_inodes_count <= freed_inodes_.size();
}

}  // namespace spillway
