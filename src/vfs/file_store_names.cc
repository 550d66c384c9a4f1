// FileStore: directories and symbolic links. Each call first holds all metadata blocks that it
// will change, which may wait, and then changes them by steps that cannot fail.
#include <algorithm>

#include "vfs/file_store_format.h"

namespace spillway {
namespace {

constexpr u32 kBlockBytes = static_cast<u32>(kPageSize);

}  // namespace

// The record of a name. corrupt: a block makes no sense.
Status FileStore::find_entry(Inode& directory, Name name, Slot* slot) {
  for (u32 i = 0; i < kBlocksMax && block_of(directory, i) != 0; ++i) {
    slot->block.close();
    SPW_TRY(open_block(block_of(directory, i), &slot->block, true));
    u32 before = ~0U;
    for (u32 at = 0; at < kBlockBytes;) {
      const DirectoryEntry& e = slot->block.at<DirectoryEntry>(at);
      if (e.bytes < DirectoryEntry::kHead || e.bytes > kBlockBytes - at) return Error::corrupt;
      if (e.number != 0 && Name{e.name(), e.name_length} == name) {
        slot->at = at;
        slot->before = before;
        slot->index = i;
        return kOk;
      }
      before = at;
      at += e.bytes;
    }
  }
  return Error::no_entry;
}

// A place for a name that is not there. exists; no_space.
Status FileStore::find_room(Inode& directory, Name name, Slot* slot) {
  Slot there;
  const Status found = find_entry(directory, name, &there);
  if (found.ok()) return Error::exists;
  if (found.error() != Error::no_entry) return found;
  there.block.close();
  const u32 need = DirectoryEntry::bytes_for(name.length);
  u32 i = 0;
  for (; i < kBlocksMax && block_of(directory, i) != 0; ++i) {
    slot->block.close();
    SPW_TRY(open_block(block_of(directory, i), &slot->block, true));
    for (u32 at = 0; at < kBlockBytes;) {
      const DirectoryEntry& e = slot->block.at<DirectoryEntry>(at);
      if (e.room() >= need) {
        slot->at = at;
        slot->index = i;
        return kOk;
      }
      at += e.bytes;
    }
  }
  slot->block.close();
  if (i == kBlocksMax) return Error::no_space;
  SPW_TRY_ASSIGN(number, take_block());
  const Status opened = open_block(number, &slot->block, true);
  if (!opened.ok()) {
    free_block(number);
    return opened;
  }
  slot->block.at<DirectoryEntry>(0) = {
      .number = 0, .bytes = static_cast<u16>(kBlockBytes), .name_length = 0, .type = 0};
  slot->at = 0;
  slot->index = i;
  slot->fresh = true;
  return kOk;
}

// Enters a name where find_room has found a place.
void FileStore::put_entry(Inode& directory, Slot& slot, Name name, u64 number, u32 type) {
  if (slot.fresh) {
    set_block(directory.fs_data, slot.index, slot.block.number);
    directory.mapping.size_bytes = u64{slot.index + 1} * kPageSize;
    mark_inode_dirty(directory);
  }
  DirectoryEntry* e = &slot.block.at<DirectoryEntry>(slot.at);
  if (e->number != 0) {
    const u32 needed = DirectoryEntry::bytes_for(e->name_length);
    const u16 rest = static_cast<u16>(e->bytes - needed);
    e->bytes = static_cast<u16>(needed);
    e = &slot.block.at<DirectoryEntry>(slot.at + needed);
    e->bytes = rest;
  }
  e->number = static_cast<u32>(number);
  e->name_length = static_cast<u8>(name.length);
  e->type = static_cast<u8>(type >> 12);
  std::memcpy(e->name(), name.text, name.length);
  slot.block.changed();
}

// Takes a name away: its record goes to the one before, or is free if it is the block's first.
void FileStore::take_entry(Slot& slot) {
  DirectoryEntry& e = slot.block.at<DirectoryEntry>(slot.at);
  if (slot.before != ~0U) {
    DirectoryEntry& before = slot.block.at<DirectoryEntry>(slot.before);
    before.bytes = static_cast<u16>(before.bytes + e.bytes);
  } else {
    e.number = 0;
  }
  slot.block.changed();
}

Result<bool> FileStore::is_empty(Inode& directory) {
  for (u32 i = 0; i < kBlocksMax && block_of(directory, i) != 0; ++i) {
    Block block;
    SPW_TRY(open_block(block_of(directory, i), &block, false));
    for (u32 at = 0; at < kBlockBytes; at += block.at<DirectoryEntry>(at).bytes) {
      const DirectoryEntry& e = block.at<DirectoryEntry>(at);
      if (e.bytes < DirectoryEntry::kHead) return Error::corrupt;
      if (e.number != 0) return false;
    }
  }
  return true;
}

void FileStore::remember_name(u64 number, Name name) {
  Extent& extent = extents_[number - 1];
  const u32 length = std::min<u32>(name.length, sizeof extent.name - 1);
  std::memcpy(extent.name, name.text, length);
  extent.name[length] = 0;
}

Result<u64> FileStore::lookup(Inode& directory, Name name) {
  if (name.is_dot()) return directory.number;
  if (name.is_dot_dot()) return directory.fs_data[kParent];
  Slot slot;
  SPW_TRY(find_entry(directory, name, &slot));
  return u64{slot.block.at<DirectoryEntry>(slot.at).number};
}

// Positions are 0 and 1 for "." and "..", then 2 + the place of the record.
Status FileStore::read_directory(Inode& directory, u64 position, DirectorySink& sink) {
  if (position == 0) {
    if (!sink.entry(Name::of("."), directory.number, kModeDirectory, 1)) return kOk;
    position = 1;
  }
  if (position == 1) {
    if (!sink.entry(Name::of(".."), directory.fs_data[kParent], kModeDirectory, 2)) return kOk;
    position = 2;
  }
  const u64 start = position - 2;
  for (u64 i = start >> kPageShift; i < kBlocksMax; ++i) {
    const u32 number = block_of(directory, static_cast<u32>(i));
    if (number == 0) return kOk;
    Block block;
    SPW_TRY(open_block(number, &block, false));
    for (u32 at = 0; at < kBlockBytes;) {
      const DirectoryEntry& e = block.at<DirectoryEntry>(at);
      if (e.bytes < DirectoryEntry::kHead) return Error::corrupt;
      const u64 here = (i << kPageShift) + at;
      const u32 end = at + e.bytes;
      if (e.number != 0 && here >= start &&
          !sink.entry({e.name(), e.name_length}, e.number, u32{e.type} << 12,
                      2 + (i << kPageShift) + end)) {
        return kOk;
      }
      at = end;
    }
  }
  return kOk;
}

Result<u64> FileStore::make(Inode& directory, Name name, const Name* target, const NewInode& made) {
  if (device_ == nullptr) return Error::no_space;
  u32 free = 0;
  while (free < kFilesMax && extents_[free].used) ++free;
  if (free == kFilesMax) return Error::no_space;
  const u32 type = made.mode & kModeType;
  Extent extent{.used = true, .regular = type == kModeRegular};
  if (extent.regular) {
    extent.capacity_pages = made.capacity_pages != 0 ? made.capacity_pages : kNewFilePages;
    // Page numbers have 32 bits, and the last one stands for "nobody" in PageCache::start_read.
    if (extent.capacity_pages > PageCache::kNobodyWants) return Error::no_space;
    SPW_TRY_ASSIGN(first, find_extent(extent.capacity_pages));
    extent.first_block = first;
  }
  const u64 number = free + 1;
  Block table;
  Record* record = nullptr;
  SPW_TRY(open_record(number, &table, &record, true));
  Block text;
  u32 text_block = 0;
  if (target != nullptr) {
    SPW_TRY_ASSIGN(taken, take_block());
    text_block = taken;
  }
  Slot slot;
  Status ready = find_room(directory, name, &slot);
  if (ready.ok() && target != nullptr) ready = open_block(text_block, &text, true);
  if (!ready.ok()) {
    const u32 fresh_block = slot.fresh ? slot.block.number : 0;
    slot.block.close();
    if (fresh_block != 0) free_block(fresh_block);
    if (text_block != 0) free_block(text_block);
    return ready.error();
  }
  Record& r = *record;
  r = Record{};
  r.mode = made.mode;
  r.nlink = type == kModeDirectory ? 2 : 1;
  r.uid = made.uid;
  r.gid = made.gid;
  r.rdev = made.rdev;
  r.atime_s = r.mtime_s = r.ctime_s = made.now.seconds;
  r.atime_ns = r.mtime_ns = r.ctime_ns = made.now.nanoseconds;
  r.fs_data[kFirstBlock] = extent.first_block;
  r.fs_data[kCapacity] = extent.capacity_pages;
  r.fs_data[kParent] = directory.number;
  if (target != nullptr) {
    std::memcpy(text.data, target->text, target->length);
    text.changed();
    set_block(r.fs_data, 0, text_block);
    r.size_bytes = target->length;
  }
  table.changed();
  extents_[free] = extent;
  remember_name(number, name);
  ++inodes_used_;
  put_entry(directory, slot, name, number, type);
  if (type == kModeDirectory) {
    ++directory.attr.nlink;
    mark_inode_dirty(directory);
  }
  return number;
}

Result<u64> FileStore::create(Inode& directory, Name name, const NewInode& made) {
  return make(directory, name, nullptr, made);
}

Result<u64> FileStore::symlink(Inode& directory, Name name, Name target, const NewInode& made) {
  return make(directory, name, &target, made);
}

Result<u32> FileStore::readlink(Inode& inode, char* out, u32 max) {
  Block text;
  SPW_TRY(open_block(block_of(inode, 0), &text, false));
  const u32 length = static_cast<u32>(std::min<u64>(inode.mapping.size_bytes, max));
  std::memcpy(out, text.data, length);
  return length;
}

Status FileStore::link(Inode& directory, Name name, Inode& target) {
  if (target.attr.nlink >= kLinksMax) return Error::too_many_links;
  Slot slot;
  SPW_TRY(find_room(directory, name, &slot));
  put_entry(directory, slot, name, target.number, target.type());
  ++target.attr.nlink;
  mark_inode_dirty(target);
  return kOk;
}

namespace {

// The target has lost a name in the directory.
void unlinked(Inode& directory, Inode& target) {
  if (target.is_directory()) {
    --directory.attr.nlink;
    mark_inode_dirty(directory);
    target.attr.nlink = 0;
  } else {
    --target.attr.nlink;
  }
  mark_inode_dirty(target);
}

}  // namespace

Status FileStore::unlink(Inode& directory, Name name, Inode& target) {
  Slot slot;
  SPW_TRY(find_entry(directory, name, &slot));
  if (slot.block.at<DirectoryEntry>(slot.at).number != target.number) return Error::no_entry;
  if (target.is_directory()) {
    SPW_TRY_ASSIGN(empty, is_empty(target));
    if (!empty) return Error::not_empty;
  }
  take_entry(slot);
  unlinked(directory, target);
  return kOk;
}

Status FileStore::rename(Inode& from, Name old_name, Inode& to, Name new_name, Inode& moved,
                         Inode* replaced) {
  Slot target;
  if (replaced != nullptr) {
    if (replaced->is_directory()) {
      SPW_TRY_ASSIGN(empty, is_empty(*replaced));
      if (!empty) return Error::not_empty;
    }
    SPW_TRY(find_entry(to, new_name, &target));
  } else {
    // The blocks of a directory that changes are in memory before the new name is entered, so the
    // old one, which that may have moved, is found without waiting.
    Slot there;
    SPW_TRY(find_entry(from, old_name, &there));
    there.block.close();
    SPW_TRY(find_room(to, new_name, &target));
  }
  Slot source;
  const Status found = find_entry(from, old_name, &source);
  if (!found.ok()) {
    const u32 fresh_block = target.fresh ? target.block.number : 0;
    target.block.close();
    if (fresh_block != 0) free_block(fresh_block);
    return found;
  }
  if (replaced != nullptr) {
    DirectoryEntry& e = target.block.at<DirectoryEntry>(target.at);
    e.number = static_cast<u32>(moved.number);
    e.type = static_cast<u8>(moved.type() >> 12);
    target.block.changed();
    take_entry(source);
  } else {
    // The old name first: its record may be the one whose room the new name takes, and stays where
    // it is then.
    const u32 old_at = source.at;
    put_entry(to, target, new_name, moved.number, moved.type());
    DirectoryEntry& e = source.block.at<DirectoryEntry>(old_at);
    SPW_ASSERT((Name{e.name(), e.name_length} == old_name));
    if (source.before != ~0U) {
      // A record may have come in between.
      u32 before = source.before;
      while (before + source.block.at<DirectoryEntry>(before).bytes != old_at) {
        before += source.block.at<DirectoryEntry>(before).bytes;
      }
      source.before = before;
    }
    take_entry(source);
  }
  if (replaced != nullptr) unlinked(to, *replaced);
  if (moved.is_directory() && &from != &to) {
    moved.fs_data[kParent] = to.number;
    --from.attr.nlink;
    ++to.attr.nlink;
    for (Inode* inode : {&moved, &from, &to}) mark_inode_dirty(*inode);
  }
  remember_name(moved.number, new_name);
  return kOk;
}

}  // namespace spillway
