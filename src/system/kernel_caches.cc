// Dropping what can be read again.
#include "system/kernel_impl.h"

namespace spillway {

Result<u64> Kernel::drop_caches() {
  SystemImpl& sys = impl_.sys;
  const WalkScope walk(sys.observer.walk, "drop_pagecache");
  u64 dropped = 0;
  for (u32 i = 0; i < FileStore::kFilesMax; ++i) {
    StoreInode* inode = sys.files.at(i);
    if (inode == nullptr) continue;
    u32 index = 0;
    u64 value = 0;
    while (inode->mapping.tree.next(&index, ~u32{0}, &value)) {
      const CacheEntry entry = CacheEntry::from_bits(value);
      if (entry.is(CacheEntry::Kind::page) && sys.pageout.free_clean(entry.pfn(), 0)) ++dropped;
      if (++index == 0) break;
    }
  }
  sys.observer.step("{a} pages dropped", dropped);
  return dropped;
}

}  // namespace spillway
