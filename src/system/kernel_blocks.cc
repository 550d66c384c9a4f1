// Block devices as programs see them that read and write by block: each has a buffer cache.
#include <cstring>
#include <new>

#include "system/kernel_impl.h"

namespace spillway {

Status Kernel::open_disk(u32 device, u32 block_size) {
  SystemImpl& sys = impl_.sys;
  if (device >= sys.machine.block_device_count || device == impl_.config.file_device) {
    return Error::invalid;
  }
  if (impl_.disks[device] != nullptr) return Error::busy;
  void* memory = sys.machine.boot.alloc(sizeof(BufferCache), alignof(BufferCache));
  if (memory == nullptr) return Error::no_memory;
  BufferCache* disk = ::new (memory) BufferCache;
  SPW_TRY(disk->init(sys.machine, sys.cache, sys.allocator, sys.frames, sys.observer,
                     *sys.machine.block_devices[device], block_size));
  impl_.disks[device] = disk;
  sys.flusher.add(*disk);
  return kOk;
}

Result<BufferCache*> KernelImpl::disk(u32 device) {
  if (device >= Machine::kBlockDevicesMax || disks[device] == nullptr) return Error::no_device;
  return disks[device];
}

const BufferCache* KernelImpl::blocks_of(u32 device) const {
  if (device >= Machine::kBlockDevicesMax) return nullptr;
  return device == config.file_device ? sys.files.buffers() : disks[device];
}

Result<u64> Kernel::bread(u32 device, u64 block, u8* out) {
  SPW_TRY_ASSIGN(disk, impl_.disk(device));
  SPW_TRY_ASSIGN(buffer, disk->bread(block));
  std::memcpy(out, buffer->data, disk->block_size());
  disk->brelse(*buffer);
  return u64{disk->block_size()};
}

Result<u64> Kernel::write_block(u32 device, u64 block, const u8* bytes, bool* done) {
  SPW_TRY_ASSIGN(disk, impl_.disk(device));
  if (!*done) {
    SPW_TRY_ASSIGN(buffer, disk->getblk(block));
    std::memcpy(buffer->data, bytes, disk->block_size());
    disk->mark_dirty(*buffer);
    disk->brelse(*buffer);
    *done = true;
  }
  SPW_TRY(impl_.sys.flusher.balance_dirty());
  return u64{disk->block_size()};
}

Result<u64> Kernel::forget_block(u32 device, u64 block) {
  SPW_TRY_ASSIGN(disk, impl_.disk(device));
  SPW_TRY(disk->forget(block));
  return u64{0};
}

Result<u64> Kernel::sync_disk(u32 device, SyncProgress* progress) {
  SPW_TRY_ASSIGN(disk, impl_.disk(device));
  SyncProgress anew;
  SPW_TRY(disk->sync(progress != nullptr ? progress->ticket : anew.ticket));
  return u64{0};
}

u32 Kernel::disks(DiskView* out, u32 max) const {
  u32 count = 0;
  for (u32 device = 0; device < Machine::kBlockDevicesMax; ++device) {
    const BufferCache* disk = impl_.blocks_of(device);
    if (disk == nullptr) continue;
    if (count < max) {
      const BufferCacheStats s = disk->stats();
      out[count] = {device,
                    disk->block_size(),
                    disk->blocks(),
                    s.buffers,
                    s.dirty,
                    s.pages,
                    disk->mapping().nr_writeback,
                    s.hits,
                    s.misses,
                    s.reads,
                    s.writes,
                    s.released};
    }
    ++count;
  }
  return count;
}

BlockView Kernel::block(u32 device, u64 block) const {
  const BufferCache* disk = impl_.blocks_of(device);
  const Buffer* buffer = disk != nullptr ? disk->find(block) : nullptr;
  if (buffer == nullptr) return {false, 0, false, 0, kNoPfn};
  return {true, buffer->count, buffer->dirty, buffer->flush_ns, buffer->page};
}

Flusher& Kernel::flusher() { return impl_.sys.flusher; }

}  // namespace spillway
