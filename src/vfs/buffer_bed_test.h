// BufferBed: a buffer cache on a plain block device of the simulated machine, over a page cache
// whose reclaimer drops clean pages and writes dirty ones (file_bed_test.h).
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "vfs/buffer_cache.h"
#include "vfs/file_bed_test.h"

namespace spillway {

struct BufferBed : CacheBed {
  static SimConfig config_of(u64 frames, u64 device_pages, u64 seed = 1) {
    SimConfig config;
    config.frames = PageCount(frames);
    config.seed = seed;
    config.block_pages = {device_pages};
    return config;
  }
  explicit BufferBed(const SimConfig& config, u32 block_size = 1024) : CacheBed(config) {
    evicting.cache = &cache;
    allocator.set_reclaimer(evicting);
    cache.set_reclaimer(evicting);
    BlockDevice& device = *sim.machine().block_devices[0];
    EXPECT_TRUE(
        buffers.init(sim.machine(), cache, allocator, frames, observer, device, block_size).ok());
  }
  SimDisk& disk() { return sim.block(0); }
  // Calls until it need not wait any more, ending one I/O before each repetition.
  template <class Call>
  auto wait_for(Call call) -> decltype(call()) {
    for (;;) {
      const auto result = call();
      if (result.ok() || result.error() != Error::wait) return result;
      if (!sim.complete_one()) {
        ADD_FAILURE() << "waits for nothing";
        return Error::wait;
      }
    }
  }
  void complete_all() {
    while (sim.complete_one()) {
    }
  }
  Result<Buffer*> bread(u64 block) {
    return wait_for([&] { return buffers.bread(block); });
  }
  Result<Buffer*> getblk(u64 block) {
    return wait_for([&] { return buffers.getblk(block); });
  }
  Status sync() {
    SyncTicket ticket;
    return wait_for([&] { return buffers.sync(ticket); });
  }
  // Fills the block with one byte, as a file system does.
  void fill(u64 block, u8 with) {
    const Result<Buffer*> buffer = getblk(block);
    ASSERT_TRUE(buffer.ok()) << name_of(buffer.error());
    std::memset(buffer.value()->data, with, buffers.block_size());
    buffers.mark_dirty(*buffer.value());
    buffers.brelse(*buffer.value());
  }
  // The block's first byte; that all are alike is checked. -1: cannot be read.
  int peek(u64 block) {
    const Result<Buffer*> buffer = bread(block);
    if (!buffer.ok()) return -1;
    const u8* data = buffer.value()->data;
    const u8 first = data[0];
    EXPECT_TRUE(
        std::all_of(data, data + buffers.block_size(), [first](u8 b) { return b == first; }));
    buffers.brelse(*buffer.value());
    return first;
  }
  // What the device holds of a block.
  std::string stored(u64 block) {
    const u32 size = buffers.block_size();
    const u64 per_page = kPageSize / size;
    const u8* page = disk().stored(block / per_page);
    if (page == nullptr) return std::string(size, '\0');
    return std::string(reinterpret_cast<const char*>(page + block % per_page * size), size);
  }
  void store_byte(u64 device_page, u8 with) {
    const std::vector<u8> page(kPageSize, with);
    disk().store(device_page, page.data());
  }
  Pfn page_at(u32 index) const { return cache.find(buffers.mapping(), index).pfn(); }
  ::testing::AssertionResult nothing_leaks_here() {
    policy.known = evicting.known;
    const u64 kept = buffers.heads().slabs();
    if (kept != 0) return ::testing::AssertionFailure() << kept << " slabs of heads";
    return nothing_leaks();
  }

  EvictingReclaimer evicting{allocator, frames};
  BufferCache buffers;
};

}  // namespace spillway
