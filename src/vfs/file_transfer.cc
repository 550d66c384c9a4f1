// FileStore as the Backing of its files: pages from and to the device.
#include <cstring>

#include "vfs/file_store.h"
#include "vfs/inode_cache.h"
#include "vfs/vfs.h"

namespace spillway {

Status FileStore::read_pages(Mapping& mapping, u32 index, const Pfn* frames, u32 count) {
  Inode& inode = inode_of(mapping);
  SPW_ASSERT_LE(u64{index} + count, mapping.size_pages());
  u32 requests = 0;
  for (u32 i = 0; i < count; ++i) {
    const bool begins = i == 0 || !on_device(inode, index + i - 1);
    if (begins && on_device(inode, index + i)) ++requests;
  }
  if (!transfers_.room_for(requests)) return Error::wait;
  for (u32 i = 0; i < count;) {
    if (!on_device(inode, index + i)) {
      std::memset(machine_->frames.bytes(frames[i]), 0, kPageSize);
      cache_->read_done(frames[i++], kOk);
      continue;
    }
    const u32 begin = i;
    while (i < count && on_device(inode, index + i)) ++i;
    transfers_.read(mapping, index + begin, first_block(inode) + index + begin, frames + begin,
                    i - begin);
  }
  return kOk;
}

WriteOutcome FileStore::write_page(Mapping& mapping, Pfn pfn) {
  Inode& inode = inode_of(mapping);
  const Page& page = (*frames_)[pfn];
  // Where a mapped page's bytes are out of reach, it must be unmapped first. A page beyond the end
  // of file is about to be dropped.
  if (page.state == PageState::mapped && !machine_->features.frame_bytes_while_mapped) {
    return WriteOutcome::refused;
  }
  if (page.index >= mapping.size_pages()) return WriteOutcome::refused;
  if (!transfers_.room_for(1)) return WriteOutcome::wait;
  // Programs may have stored behind the end of file: that must not reach the device. If one does
  // so again while the page is written, its dirty bit brings the page back here.
  if (page.index == mapping.size_bytes >> kPageShift)
    zero_tail(*cache_, *frames_, *machine_, mapping, mapping.size_bytes);
  transfers_.write(mapping, page.index, first_block(inode) + page.index, pfn);
  return WriteOutcome::started;
}

// After a failure the block holds anything, but the page is dirty and stays in the cache.
void FileStore::page_written(Mapping& mapping, u32 index, u32, Status status) {
  if (!status.ok()) return;
  SPW_ASSERT_LT(index, mapping.size_pages());
  set_written(inode_of(mapping), index);
}

// A deleted inode goes when nothing of it is in flight any more.
void FileStore::transfer_ended(Mapping& mapping) {
  Inode& inode = inode_of(mapping);
  if (inode.is(InodeState::deleted)) (void)inode.cache->finish_deleted();
}

}  // namespace spillway
