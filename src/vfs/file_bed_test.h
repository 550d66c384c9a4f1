// FileBed: a file store on a plain block device of the simulated machine, over a page cache whose
// reclaimer drops clean pages and writes dirty ones in the order of their frames.
#pragma once

#include <string>

#include "pagecache/cache_bed_test.h"
#include "vfs/file_store.h"

namespace spillway {

class EvictingReclaimer final : public CountingReclaimer {
 public:
  EvictingReclaimer(PageAllocator& allocator, FrameTable& frames)
      : CountingReclaimer(allocator), allocator_(allocator), frames_(frames) {}
  ReclaimOutcome reclaim(PageCount want) override {
    allocator_.enter_reclaim();
    u64 freed = 0;
    bool io = false;
    const std::set<Pfn> pages = known;
    for (const Pfn pfn : pages) {
      Page& page = frames_[pfn];
      if (page.has(PageFlag::writeback)) {
        io = true;
      } else if (page.has(PageFlag::dirty)) {
        io = cache->write_page(pfn) != WriteOutcome::refused || io;
      } else if (page.pins == 0 &&
                 mapping_of(page)->backing->release_page(*mapping_of(page), pfn)) {
        cache->free_page(pfn, ++evictions);
        ++freed;
      }
      if (freed >= want.v) break;
    }
    allocator_.leave_reclaim();
    if (freed != 0) return ReclaimOutcome::progress;
    return io ? ReclaimOutcome::wait : ReclaimOutcome::exhausted;
  }
  PageCache* cache = nullptr;
  u32 evictions = 0;

 private:
  PageAllocator& allocator_;
  FrameTable& frames_;
};

struct FileBed : CacheBed {
  static SimConfig config_of(u64 frames, u64 blocks, u64 seed = 1) {
    SimConfig config;
    config.frames = PageCount(frames);
    config.seed = seed;
    config.block_pages = {blocks};
    return config;
  }
  explicit FileBed(const SimConfig& config) : CacheBed(config) {
    evicting.cache = &cache;
    allocator.set_reclaimer(evicting);
    cache.set_reclaimer(evicting);
    EXPECT_TRUE(
        files
            .init(sim.machine(), cache, allocator, frames, observer, sim.machine().block_devices[0])
            .ok());
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
  StoreInode& create(const char* name, u64 size, u64 capacity) {
    return *files.create(name, size, capacity).value();
  }
  Result<u64> write(StoreInode& inode, u64 offset, const std::string& data) {
    u64 done = 0;
    return wait_for([&] {
      return files.write(inode, offset, reinterpret_cast<const u8*>(data.data()), data.size(),
                         &done);
    });
  }
  std::string read(StoreInode& inode, u64 offset, u64 bytes) {
    FileReadahead ra;
    return read(inode, ra, offset, bytes);
  }
  std::string read(StoreInode& inode, FileReadahead& ra, u64 offset, u64 bytes) {
    std::string out(bytes, '?');
    u64 done = 0;
    const Result<u64> got = wait_for([&] {
      return files.read(inode, ra, offset, reinterpret_cast<u8*>(out.data()), bytes, &done);
    });
    if (!got.ok()) return name_of(got.error());
    out.resize(got.value());
    return out;
  }
  Status set_size(StoreInode& inode, u64 bytes) {
    const Status status = wait_for([&] { return files.set_size(inode, bytes); });
    if (!status.ok()) return status;
    return cache.truncate(inode.mapping, static_cast<u32>(inode.mapping.size_pages()), nullptr,
                          nullptr);
  }
  Status sync(StoreInode& inode) {
    return wait_for([&] { return files.sync(inode); });
  }
  // Evicts all clean pages of the file that are not busy.
  void drop(StoreInode& inode) {
    u32 index = 0;
    for (u64 value = 0; inode.mapping.tree.next(&index, ~u32{0}, &value); ++index) {
      const Pfn pfn = CacheEntry::from_bits(value).pfn();
      if (!pfn.valid()) continue;
      const Page& page = frames[pfn];
      if (page.state != PageState::unmapped || page.has(PageFlag::writeback)) continue;
      if (!page.has(PageFlag::dirty)) cache.free_page(pfn);
    }
  }
  // What the device holds of a page; a page that was never written reads as zeros.
  std::string stored(const StoreInode& inode, u64 index) {
    const u8* bytes = disk().stored(inode.first_block + index);
    if (bytes == nullptr || !files.on_device(inode, index)) return std::string(kPageSize, '\0');
    return std::string(reinterpret_cast<const char*>(bytes), kPageSize);
  }
  ::testing::AssertionResult nothing_leaks_here() {
    policy.known = evicting.known;
    return nothing_leaks();
  }

  EvictingReclaimer evicting{allocator, frames};
  FileStore files;
};

}  // namespace spillway
