// Who refers to which segment of a swap file that a family of forked processes shares.
//
// All of it lives in memory shared by the family: a count of holders per segment, and for every
// holder a bitmap of what it holds. A process may be killed between any two instructions, so
// each step is ordered to lose space rather than to free what is in use:
//   claim    count 0 -> 1 first, then the own bit   (killed between: the segment leaks)
//   release  own bit first, then the count          (killed between: the segment leaks)
//   fork     the counts of the child first, then its bits
//   reap     the dead holder's bits one by one as in release, by whoever won its entry
// That a holder is dead is told by the kernel itself: its guard thread keeps a robust futex,
// which the kernel marks when that thread ends, be it by exit, kill or exec. Pids are not used:
// they mean nothing across pid namespaces, and to free a living process's pages is unforgivable.
//
// Thread safety: the engine lock within a process, atomics between processes.
#pragma once

#include <atomic>

#include "base/result.h"

namespace spillway {

class SwapSegments {
 public:
  // Maps the shared tables for `segments` segments and takes an entry for this process.
  // no_memory: no room for them.
  Status prepare(u64 segments);
  void unprepare();

  // To be called once on a thread that lives as long as the engine: from then on the kernel
  // notes this process's death.
  void guard_with_this_thread();

  // Claims a segment below `limit` that nobody holds; no_space when there is none.
  Result<u64> claim(u64 limit);
  void release(u64 segment);
  bool holds(u64 segment) const;
  bool sole_owner(u64 segment) const;
  // About as many segments as somebody holds: kills can make it a few too large or too small.
  u64 in_use() const;
  // Segments, from the front, that have disk space; grown by whoever of the family needs more.
  u64 allocated() const { return shared_->allocated.load(std::memory_order_acquire); }
  void raise_allocated(u64 to);
  // Frees what dead holders held; returns how many segments came back.
  u64 reap_dead();

  // Before a fork, in the parent: an entry for the child that holds all that we hold.
  // no_space: too many holders.
  Status fork_prepare();
  void fork_failed();  // in the parent, when clone failed: takes it back
  void fork_parent();  // in the parent, when clone succeeded
  void fork_child();   // in the child: this entry is ours now

  // Holders at once. A server that forks a child per request stays below.
  static constexpr u32 kHoldersMax = 256;

 private:
  enum State : u32 { kFree = 0, kForking = 1, kLive = 2, kReaping = 3 };
  struct Holder {
    std::atomic<u32> state;
    std::atomic<u32> guard;  // robust futex: the guard thread's id; the kernel sets kOwnerDied
  };
  struct Shared {
    std::atomic<u64> in_use;
    std::atomic<u64> allocated;
    Holder holder[kHoldersMax];
  };
  std::atomic<u64>* bits(u32 holder) const;
  i32 take_holder();
  void drop_holder(u32 holder);
  bool put(u64 segment);

  Shared* shared_ = nullptr;
  std::atomic<u16>* counts_ = nullptr;
  u64 segments_ = 0;
  u64 words_ = 0;  // of one bitmap
  u64 bytes_ = 0;  // of the mapping
  u64 hint_ = 0;   // where the next search begins
  u32 self_ = 0;
  u32 child_ = 0;
};

}  // namespace spillway
