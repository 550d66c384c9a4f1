// ExtFs: inodes on the device and in memory.
#include <time.h>

#include <cstring>

#include "fs_ext/ext_fs.h"

namespace spillway {
namespace {

constexpr u32 kExtentDepthMax = 5;       // more levels than any tree of 2^32 blocks has
constexpr u64 kPagesMax = u64{1} << 32;  // of a file: page numbers have 32 bits
constexpr u32 kSymlinkMax = 4095;
constexpr u16 kExtentMagic = 0xF30A;

i64 seconds_of(u32 low, u32 extra) {
  return static_cast<i64>(static_cast<i32>(low)) + (static_cast<i64>(extra & 3) << 32);
}

u32 extra_of(const FileTime& t) {
  const i64 high = (t.seconds - static_cast<i32>(t.seconds)) >> 32;
  return (t.nanoseconds << 2) | (static_cast<u32>(high) & 3);
}

// Whether the inode is large enough to have the field.
bool has_field(const ext2_inode_large& raw, u64 end_of_field) {
  return EXT2_GOOD_OLD_INODE_SIZE + u64{raw.i_extra_isize} >= end_of_field;
}
#define SPW_HAS_FIELD(raw, field) \
  has_field(raw, offsetof(ext2_inode_large, field) + sizeof(ext2_inode_large::field))

// Seconds of the real time, which the library may have been told (E2FSPROGS_FAKE_TIME).
u32 time_of_deletion(ext2_filsys fs) {
  return static_cast<u32>(fs->now != 0 ? fs->now : ::time(nullptr));
}

u64 rdev_of(const ext2_inode_large& raw) {
  const u32 old = raw.i_block[0];
  if (old != 0) return (u64{old >> 8 & 0xff} << 8) | (old & 0xff);
  const u32 wide = raw.i_block[1];  // minor low 8, major 12, minor high 12: Linux's new encoding
  return wide;
}

}  // namespace

// What the numbers of blocks in the file's map reach, as e2fsck knows it.
u64 ExtFs::size_max(const Inode& inode) const {
  if ((inode.fs_data[5] & EXT4_EXTENTS_FL) != 0) {
    return u64{~u32{0}} * probe_.block_size;
  }
  const u64 per_block = probe_.block_size / sizeof(u32);
  return (EXT2_NDIR_BLOCKS + per_block * (1 + per_block * (1 + per_block))) * probe_.block_size;
}

// Small inodes have whole seconds of 32 bits; large ones two bits more, and nanoseconds.
FileTime ExtFs::storable(FileTime time) const {
  constexpr i64 kMin = -(i64{1} << 31);
  const bool wide = EXT2_INODE_SIZE(fs_->super) > EXT2_GOOD_OLD_INODE_SIZE;
  const i64 max = wide ? kMin + (i64{1} << 34) - 1 : -kMin - 1;
  if (time.seconds < kMin) return {kMin, 0};
  if (time.seconds > max) return {max, 0};
  return {time.seconds, wide ? time.nanoseconds : 0};
}

Status ExtFs::load(u64 number, Raw* raw) {
  if (number == 0 || number > probe_.inodes) return Error::corrupt;
  std::memset(raw, 0, sizeof *raw);
  SPW_TRY(status_of_ext(
      ext2fs_read_inode_full(fs_, static_cast<u32>(number), plain(*raw), sizeof *raw)));
  // Small inodes have no extra part, and what follows them is another inode.
  if (fs_->super->s_inode_size <= EXT2_GOOD_OLD_INODE_SIZE) raw->i_extra_isize = 0;
  if (EXT2_GOOD_OLD_INODE_SIZE + raw->i_extra_isize > EXT2_INODE_SIZE(fs_->super)) {
    return Error::corrupt;
  }
  return kOk;
}

Status ExtFs::store(u64 number, Raw& raw) {
  return status_of_ext(
      ext2fs_write_inode_full(fs_, static_cast<u32>(number), plain(raw), sizeof raw));
}

Status ExtFs::check_raw(u64 number, Raw& raw) {
  const u32 type = raw.i_mode & kModeType;
  const u64 size = EXT2_I_SIZE(&raw);
  if (type != kModeDirectory && type != kModeRegular && type != kModeSymlink &&
      type != kModeCharacter && type != kModeBlock && type != kModeFifo && type != kModeSocket) {
    return Error::corrupt;
  }
  if (number == EXT2_ROOT_INO && type != kModeDirectory) return Error::corrupt;
  if ((raw.i_flags & (EXT4_ENCRYPT_FL | EXT4_CASEFOLD_FL | EXT4_INLINE_DATA_FL)) != 0) {
    return Error::not_supported;
  }
  const bool extents = (raw.i_flags & EXT4_EXTENTS_FL) != 0;
  if (extents && ext2fs_has_feature_extents(fs_->super) == 0) return Error::corrupt;
  if (extents && (type == kModeDirectory || type == kModeRegular || type == kModeSymlink)) {
    ext3_extent_header header;
    std::memcpy(&header, raw.i_block, sizeof header);
    if (header.eh_magic != kExtentMagic || header.eh_max != 4 || header.eh_entries > 4 ||
        header.eh_depth > kExtentDepthMax) {
      return Error::corrupt;
    }
  }
  if (type == kModeDirectory &&
      (size == 0 || size % probe_.block_size != 0 || size / probe_.block_size > probe_.blocks)) {
    return Error::corrupt;
  }
  if (type == kModeSymlink && (size == 0 || size > kSymlinkMax || size >= probe_.block_size)) {
    return Error::corrupt;
  }
  if (type == kModeRegular && pages_for(size).v >= kPagesMax) return Error::corrupt;
  // A name that leads to a free inode: a new file might get the same number.
  if (fs_->inode_map != nullptr &&
      ext2fs_test_inode_bitmap2(fs_->inode_map, static_cast<u32>(number)) == 0) {
    return Error::corrupt;
  }
  return kOk;
}

void ExtFs::fill(Inode& inode, Raw& raw) {
  InodeAttributes& a = inode.attr;
  a.mode = raw.i_mode;
  a.nlink = raw.i_links_count;
  a.uid = raw.i_uid | u32{raw.osd2.linux2.l_i_uid_high} << 16;
  a.gid = raw.i_gid | u32{raw.osd2.linux2.l_i_gid_high} << 16;
  const u32 type = inode.type();
  a.rdev = type == kModeCharacter || type == kModeBlock ? rdev_of(raw) : 0;
  a.sectors = ext2fs_get_stat_i_blocks(fs_, plain(raw));
  a.generation = raw.i_generation;
  const u32 atime_extra = SPW_HAS_FIELD(raw, i_atime_extra) ? raw.i_atime_extra : 0;
  const u32 mtime_extra = SPW_HAS_FIELD(raw, i_mtime_extra) ? raw.i_mtime_extra : 0;
  const u32 ctime_extra = SPW_HAS_FIELD(raw, i_ctime_extra) ? raw.i_ctime_extra : 0;
  a.atime = {seconds_of(raw.i_atime, atime_extra), (atime_extra >> 2) % 1'000'000'000};
  a.mtime = {seconds_of(raw.i_mtime, mtime_extra), (mtime_extra >> 2) % 1'000'000'000};
  a.ctime = {seconds_of(raw.i_ctime, ctime_extra), (ctime_extra >> 2) % 1'000'000'000};
  inode.append_only = (raw.i_flags & EXT2_APPEND_FL) != 0;
  const bool sized = type == kModeRegular || type == kModeDirectory || type == kModeSymlink;
  inode.mapping.size_bytes = sized ? EXT2_I_SIZE(&raw) : 0;
  inode.fs_data[5] = raw.i_flags;
}

Status ExtFs::read_inode(Inode& inode) {
  if (inode.number != EXT2_ROOT_INO && inode.number < EXT2_FIRST_INO(fs_->super)) {
    return Error::corrupt;  // a name that leads to a reserved inode
  }
  const Call call(*this, ExtIo::Waits::no);
  Raw raw;
  SPW_TRY(load(inode.number, &raw));
  if (raw.i_links_count == 0) return Error::no_entry;
  SPW_TRY(check_raw(inode.number, raw));
  for (u64& word : inode.fs_data) word = 0;
  fill(inode, raw);
  return kOk;
}

void ExtFs::take_attributes(const Inode& inode, Raw& raw) {
  const InodeAttributes& a = inode.attr;
  raw.i_mode = static_cast<u16>(a.mode);
  raw.i_links_count = static_cast<u16>(a.nlink);
  raw.i_uid = static_cast<u16>(a.uid);
  raw.osd2.linux2.l_i_uid_high = static_cast<u16>(a.uid >> 16);
  raw.i_gid = static_cast<u16>(a.gid);
  raw.osd2.linux2.l_i_gid_high = static_cast<u16>(a.gid >> 16);
  raw.i_atime = static_cast<u32>(a.atime.seconds);
  raw.i_mtime = static_cast<u32>(a.mtime.seconds);
  raw.i_ctime = static_cast<u32>(a.ctime.seconds);
  if (SPW_HAS_FIELD(raw, i_atime_extra)) raw.i_atime_extra = extra_of(a.atime);
  if (SPW_HAS_FIELD(raw, i_mtime_extra)) raw.i_mtime_extra = extra_of(a.mtime);
  if (SPW_HAS_FIELD(raw, i_ctime_extra)) raw.i_ctime_extra = extra_of(a.ctime);
  if (a.nlink == 0 && raw.i_dtime == 0) raw.i_dtime = time_of_deletion(fs_);
  if (a.nlink != 0) raw.i_dtime = 0;
}

// The attributes as they are in memory now, without the size.
Status ExtFs::store_attributes(Inode& inode) {
  Raw raw;
  SPW_TRY(load(inode.number, &raw));
  take_attributes(inode, raw);
  return store(inode.number, raw);
}

Status ExtFs::write_inode(Inode& inode) {
  SPW_TRY(begin_change());
  // Reclaim must not end I/O under its own feet. Storing the inode can be repeated at any point;
  // what else is to do comes with the next store.
  if (allocator_->in_reclaim()) {
    const Call call(*this, ExtIo::Waits::no);
    SPW_TRY(store_size_and_attributes(inode));
    // Its tail is trimmed by the next store.
    if (inode.is_regular() && inode.fs_data[4] != 0) mark_inode_dirty(inode);
    return kOk;
  }
  const Change change(*this);
  SPW_TRY(trim_tail(inode));
  return store_size_and_attributes(inode);
}

Status ExtFs::store_size_and_attributes(Inode& inode) {
  Raw raw;
  SPW_TRY(load(inode.number, &raw));
  take_attributes(inode, raw);
  // A file that is being made shorter has its size when its blocks are gone.
  if (inode.is_regular() && !inode.is(InodeState::truncating)) {
    SPW_TRY(status_of_ext(ext2fs_inode_size_set(
        fs_, plain(raw), static_cast<ext2_off64_t>(inode.mapping.size_bytes))));
  }
  return store(inode.number, raw);
}

// Blocks that reserve_blocks() had for pages that the file did not grow to, or for the rest of its
// last page.
Status ExtFs::trim_tail(Inode& inode) {
  if (inode.fs_data[4] == 0 || !inode.is_regular()) return kOk;
  inode.fs_data[4] = 0;
  Raw raw;
  SPW_TRY(load(inode.number, &raw));
  forget_map(inode);
  SPW_TRY(punch(static_cast<u32>(inode.number), raw, blocks_for(inode.mapping.size_bytes)));
  SPW_TRY(load(inode.number, &raw));
  inode.attr.sectors = ext2fs_get_stat_i_blocks(fs_, plain(raw));
  return kOk;
}

Status ExtFs::delete_inode(Inode& inode) {
  SPW_TRY(begin_change());
  if (allocator_->in_reclaim()) return Error::wait;
  const Change change(*this);
  const auto number = static_cast<u32>(inode.number);
  drop_written(number);
  forget_map(inode);
  Raw raw;
  SPW_TRY(load(number, &raw));
  if (ext2fs_inode_has_valid_blocks2(fs_, plain(raw)) != 0) {
    SPW_TRY(punch(number, raw, 0));
    SPW_TRY(load(number, &raw));
  }
  if (ext2fs_file_acl_block(fs_, plain(raw)) != 0) {
    SPW_TRY(status_of_ext(ext2fs_free_ext_attr(fs_, number, &raw)));
  }
  free_inode(number, raw);
  return kOk;
}

// Marks the number free; its blocks are free already.
void ExtFs::free_inode(u32 number, Raw& raw) {
  raw.i_links_count = 0;
  raw.i_dtime = time_of_deletion(fs_);
  (void)ext2fs_inode_size_set(fs_, plain(raw), 0);
  // If it cannot be stored, e2fsck finds an inode that the bitmap does not know: leaks nothing.
  (void)store(number, raw);
  ext2fs_inode_alloc_stats2(fs_, number, -1, (raw.i_mode & kModeType) == kModeDirectory ? 1 : 0);
  inode_freed(number);
}

// Takes a number and stores a first version of the inode, without blocks.
Result<u32> ExtFs::new_inode(Inode& directory, const NewInode& made, Raw* raw) {
  ext2_ino_t number = 0;
  SPW_TRY(status_of_ext(ext2fs_new_inode(fs_, static_cast<u32>(directory.number),
                                         static_cast<int>(made.mode), nullptr, &number)));
  const u32 type = made.mode & kModeType;
  const bool extents = ext2fs_has_feature_extents(fs_->super) != 0 &&
                       (type == kModeRegular || type == kModeDirectory);
  std::memset(raw, 0, sizeof *raw);
  raw->i_mode = static_cast<u16>(made.mode);
  raw->i_links_count = 1;
  if (extents) {
    raw->i_flags = EXT4_EXTENTS_FL;
    ext3_extent_header header{};
    header.eh_magic = kExtentMagic;
    header.eh_max = 4;
    std::memcpy(raw->i_block, &header, sizeof header);
  }
  if (type == kModeCharacter || type == kModeBlock) {
    const u64 major = made.rdev >> 8 & 0xfff;
    const u64 minor = (made.rdev & 0xff) | (made.rdev >> 12 & 0xfff00);
    if (major < 256 && minor < 256) {
      raw->i_block[0] = static_cast<u32>(major << 8 | minor);
    } else {
      raw->i_block[1] = static_cast<u32>((minor & 0xff) | major << 8 | (minor & ~u64{0xff}) << 12);
    }
  }
  SPW_TRY(status_of_ext(ext2fs_write_new_inode(fs_, number, plain(*raw))));
  SPW_TRY(load(number, raw));
  raw->i_generation = ++generation_;
  Inode like;  // only its attributes are used
  like.attr.mode = made.mode;
  like.attr.nlink = 1;
  like.attr.uid = made.uid;
  like.attr.gid = made.gid;
  like.attr.atime = like.attr.mtime = like.attr.ctime = made.now;
  take_attributes(like, *raw);
  if (SPW_HAS_FIELD(*raw, i_crtime_extra)) {
    raw->i_crtime = static_cast<u32>(made.now.seconds);
    raw->i_crtime_extra = extra_of(made.now);
  }
  SPW_TRY(store(number, *raw));
  ext2fs_inode_alloc_stats2(fs_, number, 1, type == kModeDirectory ? 1 : 0);
  return u32{number};
}

Result<u32> ExtFs::readlink(Inode& inode, char* out, u32 max) {
  const Call call(*this, ExtIo::Waits::no);
  Raw raw;
  SPW_TRY(load(inode.number, &raw));
  const u64 size = EXT2_I_SIZE(&raw);
  if ((raw.i_mode & kModeType) != kModeSymlink || size == 0 || size > kSymlinkMax) {
    return Error::corrupt;
  }
  const u32 bytes = size < max ? static_cast<u32>(size) : max;
  if (ext2fs_is_fast_symlink(plain(raw)) != 0) {
    if (size >= sizeof raw.i_block || std::memchr(raw.i_block, 0, size) != nullptr) {
      return Error::corrupt;
    }
    std::memcpy(out, raw.i_block, bytes);
    return bytes;
  }
  if (size >= probe_.block_size) return Error::corrupt;
  SPW_TRY_ASSIGN(run, map(inode, 0));
  if (run.kind != RunKind::written) return Error::corrupt;
  if (io_.keeps(run.physical)) SPW_TRY(commit(Commit::in_order));
  SPW_TRY_ASSIGN(buffer, io_.bread(run.physical));
  const bool holds_zero = std::memchr(buffer->data, 0, size) != nullptr;
  if (!holds_zero) std::memcpy(out, buffer->data, bytes);
  buffers_->brelse(*buffer);
  if (holds_zero) return Error::corrupt;
  return bytes;
}

}  // namespace spillway
