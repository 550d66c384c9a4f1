// ExtFs: blocks of directories. What is read is checked entry by entry, so a directory that makes
// no sense ends in Error::corrupt, whichever way it is wrong.
#include <algorithm>
#include <cstring>

#include "fs_ext/ext_fs.h"

namespace spillway {
namespace {

constexpr u32 kHeader = 8;    // of an entry: number, length, length of the name, type
constexpr u32 kTail = 12;     // of a block: the checksum, as an entry without a name
constexpr u32 kRootAt = 24;   // of the index in the first block, behind "." and ".."
constexpr u32 kIndexAt = 32;  // of its first entry
constexpr u32 kNodeAt = 8;    // of the first entry in a block of the index below
constexpr u32 kLevelsMax = 3;

u16 get16(const u8* at) {
  u16 v;
  std::memcpy(&v, at, sizeof v);
  return v;
}
u32 get32(const u8* at) {
  u32 v;
  std::memcpy(&v, at, sizeof v);
  return v;
}
void put16(u8* at, u32 v) {
  const u16 small = static_cast<u16>(v);
  std::memcpy(at, &small, sizeof small);
}
void put32(u8* at, u32 v) { std::memcpy(at, &v, sizeof v); }

// Bytes that an entry with a name of this length takes.
constexpr u32 space_for(u32 name_length) { return (kHeader + name_length + 3) & ~3U; }

}  // namespace

// The block, held, its checksum checked. A directory has no holes.
Result<Buffer*> ExtFs::directory_block(Inode& directory, u64 n, u64* physical) {
  if (n >= directory.mapping.size_bytes / probe_.block_size) return Error::corrupt;
  SPW_TRY_ASSIGN(run, map(directory, n));
  if (run.kind != RunKind::written) return Error::corrupt;
  const u64 block = run.physical + (n - run.first);
  if (io_.keeps(block)) SPW_TRY(commit(Commit::in_order));
  SPW_TRY_ASSIGN(buffer, io_.bread(block));
  // The checksum holds the inode's generation, which the library reads by itself: where that had
  // to wait, it would call a good checksum bad.
  Raw raw;
  const Status known = load(directory.number, &raw);
  if (!known.ok()) {
    buffers_->brelse(*buffer);
    return known.error();
  }
  if (ext2fs_dir_block_csum_verify(fs_, static_cast<u32>(directory.number),
                                   reinterpret_cast<ext2_dir_entry*>(buffer->data)) == 0) {
    buffers_->brelse(*buffer);
    return Error::corrupt;
  }
  if (physical != nullptr) *physical = block;
  return buffer;
}

// The entry at `offset` of a block that ends at `end`.
Status ExtFs::check_entry(Inode& directory, u64 n, const u8* data, u32 offset, u32 end,
                          Entry* entry) {
  if (end - offset < kHeader) return Error::corrupt;
  const u8* const at = data + offset;
  entry->offset = offset;
  entry->number = get32(at);
  entry->length = get16(at + 4);
  entry->type = ext2fs_has_feature_filetype(fs_->super) != 0 ? at[7] : u32{EXT2_FT_UNKNOWN};
  entry->name = {reinterpret_cast<const char*>(at + kHeader), at[6]};
  // Without types the length of a name has 16 bits, of which the upper are zero; only the checksum
  // at the end of a block, an entry without a file, has a type all the same.
  if (ext2fs_has_feature_filetype(fs_->super) == 0 && at[7] != 0 && entry->number != 0) {
    return Error::corrupt;
  }
  if (entry->length < space_for(1) || entry->length % 4 != 0 || entry->length > end - offset ||
      space_for(entry->name.length) > entry->length || entry->number > probe_.inodes) {
    return Error::corrupt;
  }
  if (n == 0 && offset == 0) {
    const bool good = entry->name.is_dot() && entry->number == directory.number;
    return good ? kOk : Status(Error::corrupt);
  }
  if (n == 0 && offset == space_for(1)) {
    return entry->name.is_dot_dot() && entry->number != 0 ? kOk : Status(Error::corrupt);
  }
  return entry->number == 0 || entry->name.valid() ? kOk : Status(Error::corrupt);
}

// Visits the entries of a block, those without a file (number 0) among them.
template <class Visit>
Status ExtFs::scan(Inode& directory, u64 n, const u8* data, Visit visit) {
  const u32 end = probe_.block_size;
  Entry entry{};
  for (u32 offset = 0; offset < end; offset += entry.length) {
    entry.previous = offset == 0 ? 0 : entry.offset;
    SPW_TRY(check_entry(directory, n, data, offset, end, &entry));
    if (n == 0 && offset == 0 && entry.length != space_for(1)) return Error::corrupt;
    if (visit(entry) == Walk::stop) return kOk;
  }
  return kOk;
}

bool ExtFs::hashed(const Inode& directory) const {
  return ext2fs_has_feature_dir_index(fs_->super) != 0 &&
         (directory.fs_data[5] & EXT2_INDEX_FL) != 0;
}

Result<ExtFs::Found> ExtFs::find_in_block(Inode& directory, u64 n, Name name) {
  Found found;
  SPW_TRY_ASSIGN(buffer, directory_block(directory, n, &found.physical));
  bool there = false;
  const Status status = scan(directory, n, buffer->data, [&](const Entry& e) {
    if (e.number == 0 || !(e.name == name)) return Walk::go_on;
    there = true;
    found.block = n;
    found.offset = e.offset;
    found.previous = e.previous;
    found.number = e.number;
    found.type = e.type;
    return Walk::stop;
  });
  buffers_->brelse(*buffer);
  SPW_TRY(status);
  if (!there) return Error::no_entry;
  return found;
}

Result<ExtFs::Found> ExtFs::find(Inode& directory, Name name) {
  if (hashed(directory) && !name.is_dot() && !name.is_dot_dot()) {
    return find_hashed(directory, name);
  }
  const u64 blocks = directory.mapping.size_bytes / probe_.block_size;
  for (u64 n = 0; n < blocks; ++n) {
    const Result<Found> found = find_in_block(directory, n, name);
    if (found.ok() || found.error() != Error::no_entry) return found;
  }
  return Error::no_entry;
}

// The index: each level a block with (hash, block) pairs in order, the hash of the first left out.
// A hash with its lowest bit set says that entries of the one before go on there.
Result<ExtFs::Found> ExtFs::find_hashed(Inode& directory, Name name) {
  struct Level {
    u64 block = 0;
    u32 at = 0;  // the pair that was followed
    u32 count = 0;
    u32 start = 0;  // of the pairs in the block
  } path[kLevelsMax];
  u32 levels = 1;
  const u32 tail = has_checksums() ? 8 : 0;
  const u64 blocks = directory.mapping.size_bytes / probe_.block_size;
  ext2_dirhash_t hash = 0;
  // Follows the pair for `hash` (or the one after `at`) in a block; returns the block below.
  const auto follow = [&](Level& level, bool next) -> Result<u32> {
    SPW_TRY_ASSIGN(buffer, directory_block(directory, level.block, nullptr));
    const u8* const pairs = buffer->data + level.start;
    const u32 limit = get16(pairs);
    level.count = get16(pairs + 2);
    u32 below = 0;
    const bool good = limit == (probe_.block_size - level.start - tail) / 8 && level.count != 0 &&
                      level.count <= limit;
    if (good) {
      u32 at = level.at;
      if (next) {
        ++at;
      } else {
        at = 0;
        for (u32 low = 1, high = level.count; low < high;) {
          const u32 middle = low + (high - low) / 2;
          if (get32(pairs + middle * 8) <= hash) {
            at = middle;
            low = middle + 1;
          } else {
            high = middle;
          }
        }
      }
      level.at = at;
      below = at < level.count ? get32(pairs + at * 8 + 4) & EXT4_DX_BLOCK_MASK : 0;
    }
    buffers_->brelse(*buffer);
    if (!good || (level.at < level.count && (below == 0 || below >= blocks))) return Error::corrupt;
    return below;
  };
  // Whether the pair after the one followed goes on with the same hash.
  const auto goes_on = [&](const Level& level) -> Result<bool> {
    if (level.at + 1 >= level.count) return false;
    SPW_TRY_ASSIGN(buffer, directory_block(directory, level.block, nullptr));
    const u32 next = get32(buffer->data + level.start + (level.at + 1) * 8);
    buffers_->brelse(*buffer);
    return (next & 1) != 0 && (next & ~1U) == hash;
  };

  {
    SPW_TRY_ASSIGN(buffer, directory_block(directory, 0, nullptr));
    u8 root[8];
    std::memcpy(root, buffer->data + kRootAt, sizeof root);
    const bool dots = get16(buffer->data + 4) == space_for(1) &&
                      get16(buffer->data + space_for(1) + 4) == probe_.block_size - space_for(1);
    buffers_->brelse(*buffer);
    const u32 below_max = ext2fs_has_feature_largedir(fs_->super) != 0 ? 2 : 1;
    if (!dots || get32(root) != 0 || root[4] > EXT2_HASH_TEA || root[5] != 8 ||
        root[6] > below_max) {
      return Error::corrupt;
    }
    levels += root[6];
    const int version = root[4] + ((fs_->super->s_flags & EXT2_FLAGS_UNSIGNED_HASH) != 0 ? 3 : 0);
    SPW_TRY(status_of_ext(ext2fs_dirhash2(version, name.text, static_cast<int>(name.length),
                                          nullptr, 0, fs_->super->s_hash_seed, &hash, nullptr)));
  }
  path[0].start = kIndexAt;
  u32 below = 0;
  for (u32 i = 0; i < levels; ++i) {
    SPW_TRY_ASSIGN(next, follow(path[i], false));
    below = next;
    if (i + 1 < levels) {
      path[i + 1].block = below;
      path[i + 1].start = kNodeAt;
    }
  }
  // Bounded by the blocks of the directory, should the index go in circles.
  for (u64 round = 0; round < blocks; ++round) {
    const Result<Found> found = find_in_block(directory, below, name);
    if (found.ok() || found.error() != Error::no_entry) return found;
    u32 up = levels;
    for (; up != 0; --up) {
      if (path[up - 1].at + 1 < path[up - 1].count) break;
    }
    if (up == 0) return Error::no_entry;
    SPW_TRY_ASSIGN(more, goes_on(path[up - 1]));
    if (!more) return Error::no_entry;
    SPW_TRY_ASSIGN(next, follow(path[up - 1], true));
    below = next;
    for (u32 i = up; i < levels; ++i) {
      path[i].block = below;
      path[i].at = ~u32{0};
      SPW_TRY_ASSIGN(first, follow(path[i], true));
      below = first;
    }
  }
  return Error::corrupt;
}

Result<u64> ExtFs::lookup(Inode& directory, Name name) {
  const Call call(*this, ExtIo::Waits::no);
  SPW_TRY_ASSIGN(found, find(directory, name));
  return u64{found.number};
}

// Positions are offsets: an entry keeps its place until the directory is hashed anew around it.
Status ExtFs::read_directory(Inode& directory, u64 position, DirectorySink& sink) {
  static constexpr u32 kTypes[] = {0,          kModeRegular, kModeDirectory, kModeCharacter,
                                   kModeBlock, kModeFifo,    kModeSocket,    kModeSymlink};
  const Call call(*this, ExtIo::Waits::no);
  const u64 size = probe_.block_size;
  bool room = true;
  // What was told before a wait would be told again: from then on it waits here.
  bool told = false;
  for (u64 n = position / size; n < directory.mapping.size_bytes / size && room; ++n) {
    const ExtIo::Mode mode(io_, told ? ExtIo::Waits::yes : ExtIo::Waits::no);
    SPW_TRY_ASSIGN(buffer, directory_block(directory, n, nullptr));
    const u64 base = n * size;
    const Status status = scan(directory, n, buffer->data, [&](const Entry& e) {
      if (e.number == 0 || base + e.offset < position) return Walk::go_on;
      const u32 type = e.type < std::size(kTypes) ? kTypes[e.type] : 0;
      room = sink.entry(e.name, e.number, type, base + e.offset + e.length);
      told = told || room;
      return room ? Walk::go_on : Walk::stop;
    });
    buffers_->brelse(*buffer);
    SPW_TRY(status);
  }
  return kOk;
}

u32 ExtFs::entry_type_of(u32 mode) const {
  if (ext2fs_has_feature_filetype(fs_->super) == 0) return EXT2_FT_UNKNOWN;
  switch (mode & kModeType) {
    case kModeRegular: return EXT2_FT_REG_FILE;
    case kModeDirectory: return EXT2_FT_DIR;
    case kModeCharacter: return EXT2_FT_CHRDEV;
    case kModeBlock: return EXT2_FT_BLKDEV;
    case kModeFifo: return EXT2_FT_FIFO;
    case kModeSocket: return EXT2_FT_SOCK;
    case kModeSymlink: return EXT2_FT_SYMLINK;
    default: return EXT2_FT_UNKNOWN;
  }
}

// The size and the blocks of a directory that the library has changed.
Status ExtFs::refresh_size(Inode& directory) {
  Raw raw;
  SPW_TRY(load(directory.number, &raw));
  directory.mapping.size_bytes = EXT2_I_SIZE(&raw);
  directory.attr.sectors = ext2fs_get_stat_i_blocks(fs_, plain(raw));
  directory.fs_data[5] = raw.i_flags;
  forget_map(directory);
  return kOk;
}

Status ExtFs::grow(Inode& directory) {
  SPW_TRY(status_of_ext(ext2fs_expand_dir(fs_, static_cast<u32>(directory.number))));
  return refresh_size(directory);
}

Status ExtFs::insert_into_block(Inode& directory, u64 n, Name name, u32 number, u32 type,
                                bool* done) {
  const u32 need = space_for(name.length);
  u8 copy[kPageSize];
  u64 physical = 0;
  SPW_TRY_ASSIGN(buffer, directory_block(directory, n, &physical));
  std::memcpy(copy, buffer->data, probe_.block_size);
  buffers_->brelse(*buffer);
  const u32 last = probe_.block_size - (has_checksums() ? kTail : 0);
  *done = false;
  const Status status = scan(directory, n, copy, [&](const Entry& e) {
    if (e.offset >= last) return Walk::stop;
    const u32 used = e.number == 0 ? 0 : space_for(e.name.length);
    if (e.length - used < need) return Walk::go_on;
    u8* at = copy + e.offset;
    if (used != 0) {
      put16(at + 4, used);
      at += used;
      put16(at + 4, e.length - used);
    }
    put32(at, number);
    at[6] = static_cast<u8>(name.length);
    at[7] = static_cast<u8>(type);
    std::memcpy(at + kHeader, name.text, name.length);
    *done = true;
    return Walk::stop;
  });
  SPW_TRY(status);
  if (!*done) return kOk;
  return status_of_ext(
      ext2fs_write_dir_block4(fs_, physical, copy, 0, static_cast<u32>(directory.number)));
}

// The name is not there. Of a linear directory fs_data[4] says from which block on there may be
// room for a name of any length.
Status ExtFs::insert(Inode& directory, Name name, u32 number, u32 type) {
  if (hashed(directory)) {
    char text[Name::kMax + 1] = {};
    std::memcpy(text, name.text, name.length);
    // find() has gone the same way through the index and found it in order.
    const errcode_t code =
        ext2fs_link(fs_, static_cast<u32>(directory.number), text, number, static_cast<int>(type));
    SPW_TRY(refresh_size(directory));
    return status_of_ext(code);
  }
  u64& hint = directory.fs_data[4];
  const u64 blocks = directory.mapping.size_bytes / probe_.block_size;
  bool done = false;
  for (u64 n = std::min(hint, blocks - 1); n < blocks; ++n) {
    SPW_TRY(insert_into_block(directory, n, name, number, type, &done));
    // Only a long name that found no room says little about the next one.
    if (!done && name.length <= 12 && hint == n) hint = n + 1;
    if (done) return kOk;
  }
  SPW_TRY(grow(directory));
  SPW_TRY(insert_into_block(directory, blocks, name, number, type, &done));
  return done ? kOk : Status(Error::corrupt);
}

// The entry's space goes to the one before it in its block.
Status ExtFs::remove(Inode& directory, const Found& found) {
  u8 copy[kPageSize];
  SPW_TRY_ASSIGN(buffer, directory_block(directory, found.block, nullptr));
  std::memcpy(copy, buffer->data, probe_.block_size);
  buffers_->brelse(*buffer);
  if (get32(copy + found.offset) != found.number) return Error::corrupt;
  if (found.offset != found.previous) {
    const u32 length = get16(copy + found.previous + 4) + get16(copy + found.offset + 4);
    put16(copy + found.previous + 4, length);
  }
  put32(copy + found.offset, 0);
  SPW_TRY(status_of_ext(
      ext2fs_write_dir_block4(fs_, found.physical, copy, 0, static_cast<u32>(directory.number))));
  if (!hashed(directory)) directory.fs_data[4] = std::min(directory.fs_data[4], found.block);
  return kOk;
}

Status ExtFs::replace(Inode& directory, const Found& found, u32 number, u32 type) {
  u8 copy[kPageSize];
  SPW_TRY_ASSIGN(buffer, directory_block(directory, found.block, nullptr));
  std::memcpy(copy, buffer->data, probe_.block_size);
  buffers_->brelse(*buffer);
  if (get32(copy + found.offset) != found.number) return Error::corrupt;
  put32(copy + found.offset, number);
  copy[found.offset + 7] = static_cast<u8>(type);
  return status_of_ext(
      ext2fs_write_dir_block4(fs_, found.physical, copy, 0, static_cast<u32>(directory.number)));
}

Status ExtFs::check_empty(Inode& directory) {
  const u64 blocks = directory.mapping.size_bytes / probe_.block_size;
  for (u64 n = 0; n < blocks; ++n) {
    SPW_TRY_ASSIGN(buffer, directory_block(directory, n, nullptr));
    bool empty = true;
    const Status status = scan(directory, n, buffer->data, [&](const Entry& e) {
      empty = e.number == 0 || e.name.is_dot() || e.name.is_dot_dot();
      return empty ? Walk::go_on : Walk::stop;
    });
    buffers_->brelse(*buffer);
    SPW_TRY(status);
    if (!empty) return Error::not_empty;
  }
  return kOk;
}

}  // namespace spillway
