// The daemons, one bounded step at a time.
#include "system/kernel_impl.h"

namespace spillway {
namespace {

constexpr u32 kFlushBatch = 64;  // pages that one step of the flusher writes (bdflush)
constexpr u64 kFlushInterval = 5'000'000'000;  // kupdate: every 5 seconds
constexpr u64 kDirtyPercent = 30;              // of RAM, from which the flusher runs at once

}  // namespace

bool Kernel::step(Daemon daemon) {
  SystemImpl& sys = impl_.sys;
  switch (daemon) {
    case Daemon::kswapd: {
      const WalkScope walk(sys.observer.walk, "kswapd", "{a} frames free",
                           sys.allocator.free_pages().v);
      if (!sys.reclaim.background_wanted()) {
        sys.observer.step("enough is free: sleeps");
        return false;
      }
      return sys.reclaim.background_step();
    }
    case Daemon::kreclaimd: return sys.reclaim.reclaimd_step();
    case Daemon::flush: {
      const WalkScope walk(sys.observer.walk, "bdflush", "{a} dirty pages", sys.cache.dirty());
      impl_.last_flush_ns = sys.machine.clock.now_ns();
      u32 started = 0;
      for (u32 i = 0; i < FileStore::kFilesMax && started < kFlushBatch; ++i) {
        StoreInode* inode = sys.files.at(i);
        if (inode == nullptr) continue;
        u32 index = 0;
        u64 value = 0;
        while (started < kFlushBatch &&
               inode->mapping.tree.next_tagged(&index, ~u32{0}, Mapping::kTagDirty, &value)) {
          const Pfn pfn = CacheEntry::from_bits(value).pfn();
          if (!sys.frames[pfn].has(PageFlag::writeback) &&
              sys.cache.write_page(pfn) == WriteOutcome::started) {
            ++started;
          }
          if (++index == 0) break;
        }
      }
      sys.observer.step("{a} writes started", started);
      return started == kFlushBatch;
    }
    case Daemon::reaper: return false;  // victims are reaped as they are killed
  }
  return false;
}

bool Kernel::wanted(Daemon daemon) const {
  SystemImpl& sys = impl_.sys;
  switch (daemon) {
    case Daemon::kswapd: return sys.reclaim.background_wanted();
    case Daemon::kreclaimd: return sys.reclaim.reclaimd_wanted();
    case Daemon::flush:
      if (sys.cache.dirty() == 0) return false;
      if (sys.cache.dirty() * 100 > sys.allocator.online().v * kDirtyPercent) return true;
      return sys.machine.clock.now_ns() - impl_.last_flush_ns >= kFlushInterval;
    case Daemon::reaper: return false;
  }
  return false;
}

void Kernel::drop_slabs() {
  impl_.sys.rmap.shrink();
  (void)impl_.sys.slabs.shrink_all();
  impl_.sys.allocator.drain_pcp();
}

void Kernel::age() { impl_.sys.reclaim.age(); }

u64 Kernel::visit(Pid pid) {
  const Task* task = impl_.find(pid);
  if (task == nullptr || task->state == TaskState::dead) return 0;
  return impl_.sys.reclaim.visit(impl_.space(*task));
}

}  // namespace spillway
