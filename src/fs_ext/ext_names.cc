// ExtFs: making, linking, renaming and removing. Each call makes first what can fail for want of
// space; a name appears last and disappears first.
#include <cstring>

#include "fs_ext/ext_fs.h"

namespace spillway {
namespace {

constexpr u32 kLinksMax = 65000;  // EXT2_LINK_MAX
constexpr u32 kFastTargetMax = 59;

}  // namespace

// A directory of more than kLinksMax subdirectories counts no links any more: 1.
Status ExtFs::add_directory_link(Inode& directory) {
  u32& nlink = directory.attr.nlink;
  if (nlink == 1) return kOk;
  if (nlink < kLinksMax - 1) {
    ++nlink;
  } else if (ext2fs_has_feature_dir_nlink(fs_->super) != 0 && hashed(directory)) {
    nlink = 1;
  } else {
    return Error::too_many_links;
  }
  return kOk;
}

void ExtFs::drop_directory_link(Inode& directory) {
  if (directory.attr.nlink > 2) --directory.attr.nlink;
}

// The first block of a new directory, with "." and "..".
Status ExtFs::make_directory_block(u32 number, u64 parent, Raw* raw) {
  blk64_t block = 0;
  char* bytes = nullptr;
  SPW_TRY(status_of_ext(ext2fs_new_block2(fs_, ext2fs_find_inode_goal(fs_, number, plain(*raw), 0),
                                          nullptr, &block)));
  if (!data_blocks_valid(block, 1)) return Error::corrupt;
  SPW_TRY(status_of_ext(ext2fs_new_dir_block(fs_, number, static_cast<u32>(parent), &bytes)));
  ext2fs_block_alloc_stats2(fs_, block, 1);
  errcode_t code = ext2fs_write_dir_block4(fs_, block, bytes, 0, number);
  ext2fs_free_mem(&bytes);
  if (code == 0) {
    code = ext2fs_bmap2(fs_, number, plain(*raw), nullptr, BMAP_SET, 0, nullptr, &block);
  }
  if (code != 0) {
    ext2fs_block_alloc_stats2(fs_, block, -1);
    return error_of_ext(code);
  }
  SPW_TRY(load(number, raw));
  (void)ext2fs_iblk_set(fs_, plain(*raw), 1);
  SPW_TRY(status_of_ext(ext2fs_inode_size_set(fs_, plain(*raw), probe_.block_size)));
  raw->i_links_count = 2;
  return store(number, *raw);
}

Result<u64> ExtFs::create(Inode& directory, Name name, const NewInode& made) {
  SPW_TRY(begin_change());
  const Change change(*this);
  const Result<Found> there = find(directory, name);
  if (there.ok()) return Error::exists;
  if (there.error() != Error::no_entry) return there.error();
  if (!has_room()) return Error::no_space;
  const bool is_directory = (made.mode & kModeType) == kModeDirectory;
  const u32 links_before = directory.attr.nlink;
  if (is_directory) SPW_TRY(add_directory_link(directory));
  Raw raw;
  const Result<u32> number = new_inode(directory, made, &raw);
  if (!number.ok()) {
    directory.attr.nlink = links_before;
    return number.error();
  }
  Status status = kOk;
  if (is_directory) status = make_directory_block(number.value(), directory.number, &raw);
  if (status.ok()) status = insert(directory, name, number.value(), entry_type_of(made.mode));
  if (status.ok()) status = store_attributes(directory);
  if (!status.ok()) {
    directory.attr.nlink = links_before;
    undo_inode(number.value());
    return status.error();
  }
  return u64{number.value()};
}

// Takes back a new inode whose name could not be made.
void ExtFs::undo_inode(u32 number) {
  Raw raw;
  if (!load(number, &raw).ok()) return;
  if (ext2fs_inode_has_valid_blocks2(fs_, plain(raw)) != 0) {
    (void)punch(number, raw, 0);
    if (!load(number, &raw).ok()) return;
  }
  free_inode(number, raw);
}

Result<u64> ExtFs::symlink(Inode& directory, Name name, Name target, const NewInode& made) {
  SPW_TRY(begin_change());
  if (target.length == 0) return Error::no_entry;
  if (target.length >= probe_.block_size || target.length > 4095) return Error::name_too_long;
  const Change change(*this);
  const Result<Found> there = find(directory, name);
  if (there.ok()) return Error::exists;
  if (there.error() != Error::no_entry) return there.error();
  if (!has_room()) return Error::no_space;
  NewInode link = made;
  link.mode = kModeSymlink | 0777;
  Raw raw;
  SPW_TRY_ASSIGN(number, new_inode(directory, link, &raw));
  Status status = kOk;
  if (target.length <= kFastTargetMax) {
    std::memcpy(raw.i_block, target.text, target.length);
  } else {
    status = write_target(number, target, &raw);
  }
  if (status.ok()) {
    status = status_of_ext(ext2fs_inode_size_set(fs_, plain(raw), target.length));
  }
  if (status.ok()) status = store(number, raw);
  if (status.ok()) status = insert(directory, name, number, entry_type_of(kModeSymlink));
  if (status.ok()) status = store_attributes(directory);
  if (!status.ok()) {
    undo_inode(number);
    return status.error();
  }
  return u64{number};
}

// A long target has a block of its own, which is written and read as metadata.
Status ExtFs::write_target(u32 number, Name target, Raw* raw) {
  if (ext2fs_has_feature_extents(fs_->super) != 0) {
    raw->i_flags |= EXT4_EXTENTS_FL;
    ext3_extent_header header{};
    header.eh_magic = 0xF30A;
    header.eh_max = 4;
    std::memcpy(raw->i_block, &header, sizeof header);
    SPW_TRY(store(number, *raw));
  }
  blk64_t block = 0;
  SPW_TRY(status_of_ext(
      ext2fs_bmap2(fs_, number, plain(*raw), nullptr, BMAP_ALLOC, 0, nullptr, &block)));
  SPW_TRY(load(number, raw));
  u8 bytes[kPageSize] = {};
  std::memcpy(bytes, target.text, target.length);
  return status_of_ext(io_.write(block * probe_.block_size, probe_.block_size, bytes));
}

Status ExtFs::link(Inode& directory, Name name, Inode& target) {
  SPW_TRY(begin_change());
  const Change change(*this);
  const Result<Found> there = find(directory, name);
  if (there.ok()) return Error::exists;
  if (there.error() != Error::no_entry) return there.error();
  if (target.attr.nlink >= kLinksMax) return Error::too_many_links;
  SPW_TRY(
      insert(directory, name, static_cast<u32>(target.number), entry_type_of(target.attr.mode)));
  // The name that the file had may go before the next flush.
  SPW_TRY(commit(Commit::write_all));
  ++target.attr.nlink;
  SPW_TRY(store_attributes(target));
  return store_attributes(directory);
}

// A name of `target` has gone.
Status ExtFs::drop_link(Inode& directory, Inode& target) {
  if (target.is_directory()) {
    target.attr.nlink = 0;
    drop_directory_link(directory);
  } else if (target.attr.nlink != 0) {
    --target.attr.nlink;
  }
  SPW_TRY(store_attributes(target));
  return store_attributes(directory);
}

Status ExtFs::unlink(Inode& directory, Name name, Inode& target) {
  SPW_TRY(begin_change());
  const Change change(*this);
  SPW_TRY_ASSIGN(found, find(directory, name));
  if (found.number != target.number) return Error::corrupt;
  if (target.is_directory()) SPW_TRY(check_empty(target));
  SPW_TRY(remove(directory, found));
  // The name goes first, then the inode.
  if (target.is_directory() || target.attr.nlink <= 1) SPW_TRY(commit(Commit::write_all));
  return drop_link(directory, target);
}

Status ExtFs::rename(Inode& from, Name old_name, Inode& to, Name new_name, Inode& moved,
                     Inode* replaced) {
  SPW_TRY(begin_change());
  const Change change(*this);
  const auto number = static_cast<u32>(moved.number);
  const u32 type = entry_type_of(moved.attr.mode);
  SPW_TRY_ASSIGN(old_place, find(from, old_name));
  if (old_place.number != number) return Error::corrupt;
  const bool changes_parent = moved.is_directory() && &from != &to;
  Found parent_entry;
  if (changes_parent) {
    SPW_TRY_ASSIGN(parent, find_in_block(moved, 0, Name::of("..")));
    parent_entry = parent;
  }
  if (replaced != nullptr) {
    if (replaced->is_directory()) SPW_TRY(check_empty(*replaced));
    SPW_TRY_ASSIGN(new_place, find(to, new_name));
    if (new_place.number != replaced->number) return Error::corrupt;
    // Or a kill might leave the name with neither of the two.
    SPW_TRY(write_inode_block(number));
    const u32 links_before = to.attr.nlink;
    if (changes_parent && !replaced->is_directory()) SPW_TRY(add_directory_link(to));
    const Status status = replace(to, new_place, number, type);
    if (!status.ok()) {
      to.attr.nlink = links_before;
      return status;
    }
  } else {
    const Result<Found> there = find(to, new_name);
    if (there.ok()) return Error::corrupt;  // the caller was told that nobody has the name
    if (there.error() != Error::no_entry) return there.error();
    const u32 links_before = to.attr.nlink;
    if (changes_parent) SPW_TRY(add_directory_link(to));
    const Status status = insert(to, new_name, number, type);
    if (!status.ok()) {
      to.attr.nlink = links_before;
      return status;
    }
  }
  SPW_TRY(commit(Commit::write_all));
  // The insertion may have moved the old entry: a block of a hashed directory may have been split.
  SPW_TRY_ASSIGN(now_at, find(from, old_name));
  if (now_at.number != number) return Error::corrupt;
  SPW_TRY(remove(from, now_at));
  if (changes_parent) {
    SPW_TRY(
        replace(moved, parent_entry, static_cast<u32>(to.number), entry_type_of(kModeDirectory)));
    drop_directory_link(from);
    SPW_TRY(store_attributes(from));
  }
  SPW_TRY(store_attributes(to));
  SPW_TRY(store_attributes(moved));
  if (replaced == nullptr) return kOk;
  if (replaced->is_directory() && changes_parent) {
    // The moved directory took the place of the replaced one: the count of `to` stays.
    replaced->attr.nlink = 0;
    return store_attributes(*replaced);
  }
  return drop_link(to, *replaced);
}

}  // namespace spillway
