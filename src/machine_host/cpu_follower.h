// Keeps the fault handler on the CPU of the thread that faulted. A wake-up across CPUs, in
// particular of an idle one in a virtual machine, costs several times the whole service of a
// fault; on the same CPU the handler simply runs while the other waits.
//
// Where a thread runs is read from its rseq area, if that is memory of ours to read: the main
// thread's is. Other threads have it in their managed stacks, which may be swapped out, so for
// them /proc/self/task/TID/stat is asked, and only now and then.
//
// A thread that keeps faulting is held where it is meanwhile: thread_pair.h.
#pragma once

#include "base/types.h"
#include "machine_host/thread_pair.h"

namespace spillway {

class CpuFollower {
 public:
  // On the main thread, before the handler starts: notes its rseq area. `managed_start` and
  // `managed_end` bound the memory that must not be read.
  void learn_main_thread(u64 managed_start, u64 managed_end);
  // On the handler's thread: moves it to where `tid` runs, unless it has just moved.
  void follow(i32 tid, u64 now_ns);
  // In a forked child, from its only thread.
  void fork_child(u64 managed_start, u64 managed_end);
  ThreadPair& pair() { return pair_; }
  u64 debug_migrations() const { return migrations_; }

 private:
  static constexpr u32 kCacheSize = 16;
  struct Entry {
    i32 tid;
    int fd;  // /proc/self/task/TID/stat, in the handler's own file table
    u32 age;
    i32 cpu;
  };
  i32 cpu_of(i32 tid);
  i32 cpu_from_stat(Entry& entry);

  ThreadPair pair_;
  i32 main_tid_ = 0;
  const u32* main_cpu_ = nullptr;  // rseq.cpu_id of the main thread
  i32 here_ = -1;
  u64 migrations_ = 0;
  u64 moved_at_ns_ = 0;
  u32 next_ = 0;
  Entry cache_[kCacheSize] = {};
};

}  // namespace spillway
