// The daemons, one bounded step at a time.
#include "system/kernel_impl.h"

namespace spillway {

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
      // Linux 2.4's kswapd asks out_of_memory() after its turn and kills, because who allocates
      // sleeps there until kswapd has found something. Here he balances himself, and waits for
      // nothing but transfers in flight: when these have brought nothing he is told no_memory, and
      // his fault kills. As long as nobody asks for a frame, nobody need die.
      return sys.reclaim.background_step();
    }
    case Daemon::kreclaimd: return sys.reclaim.reclaimd_step();
    case Daemon::flush: return sys.flusher.step();
    case Daemon::reaper: return false;  // victims are reaped as they are killed
  }
  return false;
}

bool Kernel::wanted(Daemon daemon) const {
  SystemImpl& sys = impl_.sys;
  switch (daemon) {
    case Daemon::kswapd: return sys.reclaim.background_wanted();
    case Daemon::kreclaimd: return sys.reclaim.reclaimd_wanted();
    case Daemon::flush: return sys.flusher.wanted();
    case Daemon::reaper: return false;
  }
  return false;
}

void Kernel::age() { impl_.sys.reclaim.age(); }

u64 Kernel::visit(Pid pid) {
  const Task* task = impl_.find(pid);
  if (task == nullptr || task->state == TaskState::dead) return 0;
  return impl_.sys.reclaim.visit(impl_.space(*task));
}

}  // namespace spillway
