// ThreadPair: keeps a thread that faults much on the CPU of the fault handler while it does.
//
// The handler serves a fault fastest on the CPU of the thread that took it: the one runs while
// the other waits. But when it wakes that thread, the kernel's balancer sees one busy CPU and, as a
// rule, an idle one, and sends the thread away; the handler follows, and so on. Measured with
// random reads on two CPUs: 30 to 80 us a fault when they chase each other, 22 when they do
// not. So after kStreak faults in a row from one thread its CPU mask is narrowed to one CPU, and
// widened again as soon as another thread faults or no fault came for kQuietNs.
//
// The program must not notice: threads and programs that it starts would inherit the narrow mask,
// and it may ask for its mask. Those calls go through release() first (apps/preload), which also
// keeps the handler from narrowing again for kHoldNs.
//
// Thread safety: consider() and quiet() are the handler's; release() and restore_own() may be
// called by any thread at any time.
#pragma once

#include <atomic>

#include "base/types.h"

namespace spillway {

class ThreadPair {
 public:
  // Faults in a row from one thread before it is kept: a moment's pressure is not worth two
  // system calls.
  static constexpr u32 kStreak = 32;
  static constexpr u64 kQuietNs = 3'000'000;
  static constexpr u64 kHoldNs = 20'000'000;

  void set_enabled(bool on) { enabled_ = on; }
  // A fault of `tid`, which waits on `cpu`, is being served. Returns whether the two are kept
  // together now.
  bool consider(i32 tid, i32 cpu, u64 now_ns);
  // The handler has nothing to do: ends the pairing if it has been quiet for long enough.
  void quiet(u64 now_ns);
  bool active() const { return tid_.load(std::memory_order_acquire) != 0; }

  // Widens the mask again, and keeps it so for kHoldNs.
  void release(u64 now_ns);
  // Before the calling thread becomes another program: gives it the wide mask, also if it is a
  // vfork child that inherited the narrow one.
  void restore_own();
  // In a forked child: nothing is paired.
  void fork_child();
  u64 debug_pairings() const { return pairings_; }

 private:
  static constexpr u32 kMaskWords = 16;  // 1,024 CPUs
  void widen();

  bool enabled_ = true;
  std::atomic<i32> tid_{0};  // who is kept; whoever takes it to 0 widens the mask
  std::atomic<u64> hold_until_ns_{0};
  // Written by the handler while tid_ is 0, valid from the first pairing on.
  u64 wide_[kMaskWords] = {};
  u64 narrow_[kMaskWords] = {};
  std::atomic<u64> mask_bytes_{0};  // 0: never paired
  i32 last_tid_ = 0;
  u32 streak_ = 0;
  u64 last_fault_ns_ = 0;
  u64 pairings_ = 0;
};

}  // namespace spillway
