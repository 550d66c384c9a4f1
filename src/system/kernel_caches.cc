// Dropping what can be read again.
#include "system/kernel_impl.h"

namespace spillway {

Result<u64> Kernel::drop_caches() {
  SystemImpl& sys = impl_.sys;
  const WalkScope walk(sys.observer.walk, "drop_pagecache");
  u64 dropped = 0;
  sys.vfs.inodes().for_each([&](Inode& inode) {
    u32 index = 0;
    u64 value = 0;
    while (inode.mapping.tree.next(&index, ~u32{0}, &value)) {
      const CacheEntry entry = CacheEntry::from_bits(value);
      if (entry.is(CacheEntry::Kind::page) && sys.pageout.free_clean(entry.pfn(), 0)) ++dropped;
      if (++index == 0) break;
    }
  });
  sys.observer.step("{a} pages dropped", dropped);
  return dropped;
}

void Kernel::drop_slabs() {
  SystemImpl& sys = impl_.sys;
  if (sys.vfs.mounted()) {
    // Twice: the first scan may find marks only. Inodes go after their dentries.
    for (u32 round = 0; round < 2; ++round) {
      while (sys.vfs.dentries().prune(sys.vfs.dentries().count_objects()) != 0) {
      }
    }
    for (u32 round = 0; round < 2; ++round) {
      while (sys.vfs.inodes().prune(sys.vfs.inodes().count_objects()) != 0) {
      }
    }
  }
  sys.rmap.shrink();
  (void)sys.vmalloc.purge();
  (void)sys.slabs.shrink_all();
  sys.allocator.drain_pcp();
}

VfsStats Kernel::vfs_stats() const { return impl_.sys.vfs.stats(); }

}  // namespace spillway
