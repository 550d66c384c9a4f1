#include "fs_ext/ext_io.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace spillway {
namespace {

// The device of the file system that is being opened: the library passes a name only.
thread_local ExtIo* opening = nullptr;

ExtIo& io_of(io_channel channel) { return *static_cast<ExtIo*>(channel->private_data); }

errcode_t code_of(Error error) {
  switch (error) {
    case Error::wait: return kExtWait;
    case Error::no_memory: return EXT2_ET_NO_MEMORY;
    case Error::invalid: return kExtBeyond;
    default: return EIO;
  }
}

errcode_t io_open(const char* name, int, io_channel* channel);

errcode_t io_close(io_channel channel) {
  if (--channel->refcount > 0) return 0;
  std::free(channel->name);
  std::free(channel);
  return 0;
}

errcode_t io_set_blksize(io_channel channel, int size) {
  channel->block_size = size;
  return 0;
}

// A negative count is a number of bytes.
u64 bytes_of(io_channel channel, int count) {
  return count < 0 ? static_cast<u64>(-static_cast<i64>(count))
                   : static_cast<u64>(count) * static_cast<u64>(channel->block_size);
}

// A block number so large that its place wraps around is none.
errcode_t place_of(io_channel channel, unsigned long long block, u64* at) {
  if (block > (u64{1} << 48)) return kExtBeyond;
  *at = block * static_cast<u64>(channel->block_size);
  return 0;
}

errcode_t io_read64(io_channel channel, unsigned long long block, int count, void* data) {
  u64 at = 0;
  const errcode_t code = place_of(channel, block, &at);
  if (code != 0) return code;
  return io_of(channel).read(at, bytes_of(channel, count), static_cast<u8*>(data));
}

errcode_t io_write64(io_channel channel, unsigned long long block, int count, const void* data) {
  u64 at = 0;
  const errcode_t code = place_of(channel, block, &at);
  if (code != 0) return code;
  return io_of(channel).write(at, bytes_of(channel, count), static_cast<const u8*>(data));
}

errcode_t io_read(io_channel channel, unsigned long block, int count, void* data) {
  return io_read64(channel, block, count, data);
}

errcode_t io_write(io_channel channel, unsigned long block, int count, const void* data) {
  return io_write64(channel, block, count, data);
}

errcode_t io_write_byte(io_channel channel, unsigned long offset, int count, const void* data) {
  if (count < 0) return kExtBeyond;
  return io_of(channel).write(offset, static_cast<u64>(count), static_cast<const u8*>(data));
}

// Durability is ExtFs::sync's business.
errcode_t io_flush(io_channel) { return 0; }

errcode_t io_zeroout(io_channel channel, unsigned long long block, unsigned long long count) {
  static constexpr u8 kZeros[kPageSize] = {};
  const auto size = static_cast<u64>(channel->block_size);
  for (unsigned long long i = 0; i < count; ++i) {
    u64 at = 0;
    errcode_t code = place_of(channel, block + i, &at);
    if (code == 0) code = io_of(channel).write(at, size, kZeros);
    if (code != 0) return code;
  }
  return 0;
}

struct_io_manager make_manager() {
  struct_io_manager m = {};
  m.magic = EXT2_ET_MAGIC_IO_MANAGER;
  m.name = "spillway buffer cache";
  m.open = io_open;
  m.close = io_close;
  m.set_blksize = io_set_blksize;
  m.read_blk = io_read;
  m.write_blk = io_write;
  m.flush = io_flush;
  m.write_byte = io_write_byte;
  m.read_blk64 = io_read64;
  m.write_blk64 = io_write64;
  m.zeroout = io_zeroout;
  return m;
}

struct_io_manager manager = make_manager();

errcode_t io_open(const char* name, int, io_channel* channel) {
  auto* made = static_cast<io_channel>(std::calloc(1, sizeof(struct_io_channel)));
  if (made == nullptr) return EXT2_ET_NO_MEMORY;
  made->magic = EXT2_ET_MAGIC_IO_CHANNEL;
  made->manager = &manager;
  made->name = strdup(name);
  made->block_size = 1024;
  made->refcount = 1;
  made->private_data = opening;
  *channel = made;
  return 0;
}

}  // namespace

Error error_of_ext(errcode_t code) {
  switch (code) {
    case kExtWait: return Error::wait;
    case ENOMEM:
    case EXT2_ET_NO_MEMORY: return Error::no_memory;
    case ENOSPC:
    case EXT2_ET_BLOCK_ALLOC_FAIL:
    case EXT2_ET_INODE_ALLOC_FAIL:
    case EXT2_ET_DIR_NO_SPACE: return Error::no_space;
    case EIO:
    case EXT2_ET_SHORT_READ:
    case EXT2_ET_SHORT_WRITE: return Error::io;
    case EXT2_ET_RO_FILSYS: return Error::read_only;
    case EXT2_ET_FILE_TOO_BIG: return Error::file_too_big;
    case EXT2_ET_FILE_NOT_FOUND: return Error::no_entry;
    case EXT2_ET_FILE_EXISTS:
    case EXT2_ET_DIR_EXISTS: return Error::exists;
    case EXT2_ET_UNSUPP_FEATURE:
    case EXT2_ET_RO_UNSUPP_FEATURE: return Error::not_supported;
    default: return Error::corrupt;
  }
}

errcode_t ExtIo::open(int flags, ext2_filsys* fs) {
  opening = this;
  const errcode_t code = ext2fs_open2("device", nullptr, flags, 0, 0, &manager, fs);
  opening = nullptr;
  return code;
}

template <class Call>
auto ExtIo::repeat(Call call) -> decltype(call()) {
  for (u32 idle = 0;;) {
    const auto result = call();
    if (result.ok() || result.error() != Error::wait || waits_ == Waits::no) return result;
    if (host_->complete_io()) {
      idle = 0;
    } else if (++idle == kIdleRoundsMax) {
      return Error::no_memory;
    }
  }
}

Result<Buffer*> ExtIo::bread(u64 block) {
  return repeat([&] { return buffers_->bread(block); });
}

Result<Buffer*> ExtIo::bread_to_write(u64 block) {
  SPW_TRY_ASSIGN(buffer, bread(block));
  const Status written = repeat([&] { return buffers_->wait_on_buffer(*buffer); });
  if (!written.ok()) {
    buffers_->brelse(*buffer);
    return written.error();
  }
  return buffer;
}

Status ExtIo::sync() {
  SyncTicket ticket;
  return repeat([&] { return buffers_->sync(ticket); });
}

void ExtIo::forget(u64 block) {
  // A holder would be a bug of ours; beyond the device there is nothing to forget.
  (void)repeat([&] { return buffers_->forget(block); });
}

errcode_t ExtIo::read(u64 at, u64 bytes, u8* out) {
  if (!inside(at, bytes)) return kExtBeyond;
  const u64 size = buffers_->block_size();
  while (bytes != 0) {
    const u64 in = at % size;
    const u64 part = size - in < bytes ? size - in : bytes;
    if (++steps_ > steps_max_) return kExtBeyond;
    if (const auto known = kept_.find(at / size); known != kept_.end()) {
      std::memcpy(out, known->second.bytes + in, part);
    } else {
      const Result<Buffer*> buffer = bread(at / size);
      if (!buffer.ok()) return code_of(buffer.error());
      std::memcpy(out, buffer.value()->data + in, part);
      buffers_->brelse(*buffer.value());
    }
    at += part;
    out += part;
    bytes -= part;
  }
  return 0;
}

errcode_t ExtIo::keep(u64 block, u64 in, u64 part, const u8* data) {
  if (const auto known = kept_.find(block); known != kept_.end()) {
    std::memcpy(known->second.bytes + in, data, part);
    return 0;
  }
  const Result<Buffer*> buffer = bread(block);
  if (!buffer.ok()) return code_of(buffer.error());
  if (std::memcmp(buffer.value()->data + in, data, part) != 0) {
    Kept& kept = kept_[block];
    std::memcpy(kept.bytes, buffer.value()->data, buffers_->block_size());
    std::memcpy(kept.bytes + in, data, part);
  }
  buffers_->brelse(*buffer.value());
  return 0;
}

Status ExtIo::move_kept(u64 block) {
  const auto kept = kept_.find(block);
  SPW_ASSERT(kept != kept_.end());
  SPW_TRY_ASSIGN(buffer, bread_to_write(block));
  std::memcpy(buffer->data, kept->second.bytes, buffers_->block_size());
  buffers_->mark_dirty(*buffer);
  buffers_->brelse(*buffer);
  kept_.erase(kept);
  return kOk;
}

Status ExtIo::write_block(u64 block) {
  return repeat([&] { return buffers_->write_block(block); });
}

errcode_t ExtIo::write(u64 at, u64 bytes, const u8* data) {
  if (!inside(at, bytes)) return kExtBeyond;
  const u64 size = buffers_->block_size();
  while (bytes != 0) {
    const u64 in = at % size;
    const u64 part = size - in < bytes ? size - in : bytes;
    if (++steps_ > steps_max_ || !may_write(at / size)) return kExtBeyond;
    // A commit that failed has left the block kept: then what is kept is the newest.
    if (changes_open_ != 0 || keeps(at / size)) {
      const errcode_t code = keep(at / size, in, part, data);
      if (code != 0) return code;
    } else {
      const Result<Buffer*> held = bread_to_write(at / size);
      if (!held.ok()) return code_of(held.error());
      Buffer& buffer = *held.value();
      // The library writes all bitmaps when one bit has changed; blocks that stay as they are need
      // no write.
      if (std::memcmp(buffer.data + in, data, part) != 0) {
        std::memcpy(buffer.data + in, data, part);
        buffers_->mark_dirty(buffer);
      }
      buffers_->brelse(buffer);
    }
    at += part;
    data += part;
    bytes -= part;
  }
  return 0;
}

}  // namespace spillway
