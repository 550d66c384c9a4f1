// EvictingBed: a page cache whose reclaimer drops clean pages and writes dirty ones in the order of
// their frames. FileBed: a file store on a plain block device of the simulated machine over it.
#pragma once

#include <string>

#include "pagecache/cache_bed_test.h"
#include "vfs/file_store.h"
#include "vfs/vfs.h"

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

struct EvictingBed : CacheBed {
  static SimConfig config_of(u64 frames, u64 blocks, u64 seed = 1) {
    SimConfig config;
    config.frames = PageCount(frames);
    config.seed = seed;
    config.block_pages = {blocks};
    return config;
  }
  explicit EvictingBed(const SimConfig& config) : CacheBed(config) {
    evicting.cache = &cache;
    allocator.set_reclaimer(evicting);
    cache.set_reclaimer(evicting);
  }
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
  // Evicts all clean pages of the file that are not busy.
  void drop(Inode& inode) {
    u32 index = 0;
    for (u64 value = 0; inode.mapping.tree.next(&index, ~u32{0}, &value); ++index) {
      const Pfn pfn = CacheEntry::from_bits(value).pfn();
      if (!pfn.valid()) continue;
      const Page& page = frames[pfn];
      if (page.state != PageState::unmapped || page.has(PageFlag::writeback)) continue;
      if (!page.has(PageFlag::dirty)) cache.free_page(pfn);
    }
  }
  ::testing::AssertionResult nothing_leaks_here() {
    policy.known = evicting.known;
    return nothing_leaks();
  }

  EvictingReclaimer evicting{allocator, frames};
};

struct FileBed : EvictingBed {
  explicit FileBed(const SimConfig& config, Metadata metadata = Metadata::in_memory)
      : EvictingBed(config) {
    EXPECT_TRUE(files
                    .init(sim.machine(), cache, allocator, frames, observer,
                          sim.machine().block_devices[0], metadata)
                    .ok());
    EXPECT_TRUE(vfs.init(sim.machine(), cache, allocator, frames, observer,
                         {.inode_hash_bits = 6, .dentry_hash_bits = 6})
                    .ok());
    EXPECT_TRUE(wait_for([&] { return vfs.mount(files); }).ok());
  }
  SimDisk& disk() { return sim.block(0); }
  Inode& root() { return vfs.root(); }
  // A file in the root directory, alive as long as its name.
  Result<Inode*> try_create(const char* name, u64 size, u64 capacity) {
    const Result<Inode*> made =
        wait_for([&] { return vfs.create(root(), Name::of(name), {.capacity_pages = capacity}); });
    if (!made.ok()) return made;
    EXPECT_TRUE(vfs.set_size(*made.value(), size).ok());
    vfs.put(*made.value());
    return made;
  }
  Inode& create(const char* name, u64 size, u64 capacity) {
    return *try_create(name, size, capacity).value();
  }
  Result<Inode*> lookup(const char* name) {
    const Result<Inode*> found = wait_for([&] { return vfs.lookup(root(), Name::of(name)); });
    if (found.ok()) vfs.put(*found.value());
    return found;
  }
  Status unlink(const char* name) {
    return wait_for([&] { return vfs.unlink(root(), Name::of(name)); });
  }
  Result<u64> write(Inode& inode, u64 offset, const std::string& data) {
    u64 done = 0;
    return wait_for([&] {
      return vfs.write(inode, offset, reinterpret_cast<const u8*>(data.data()), data.size(), &done);
    });
  }
  std::string read(Inode& inode, u64 offset, u64 bytes) {
    FileReadahead ra;
    return read(inode, ra, offset, bytes);
  }
  std::string read(Inode& inode, FileReadahead& ra, u64 offset, u64 bytes) {
    std::string out(bytes, '?');
    u64 done = 0;
    const Result<u64> got = wait_for([&] {
      return vfs.read(inode, ra, offset, reinterpret_cast<u8*>(out.data()), bytes, &done);
    });
    if (!got.ok()) return name_of(got.error());
    out.resize(got.value());
    return out;
  }
  Status set_size(Inode& inode, u64 bytes) {
    return wait_for([&] { return vfs.set_size(inode, bytes); });
  }
  Status sync(Inode& inode) {
    SyncProgress progress;
    return wait_for([&] { return vfs.fsync(inode, progress); });
  }
  // Everything that is known of the file store and its files in memory.
  bool validate() {
    bool good = vfs.validate() && files.validate();
    vfs.inodes().for_each([&](Inode& inode) { good = good && files.validate(inode); });
    return good;
  }
  // What the device holds of a page; a page that was never written reads as zeros.
  std::string stored(const Inode& inode, u64 index) {
    const u8* bytes = disk().stored(FileStore::first_block(inode) + index);
    if (bytes == nullptr || !files.on_device(inode, index)) return std::string(kPageSize, '\0');
    return std::string(reinterpret_cast<const char*>(bytes), kPageSize);
  }

  FileStore files;
  Vfs vfs;
};

}  // namespace spillway
