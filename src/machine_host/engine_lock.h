// The engine lock, and how a thread of the program enters the engine under it.
// docs/locking.md has the order and the reasons.
#pragma once

#include <atomic>

#include "base/thread_annotations.h"
#include "base/units.h"

namespace spillway {

// A futex mutex: 0 free, 1 held, 2 held and somebody sleeps. One per process, because a process
// has one engine; a forked child inherits it in the state that its only thread left it in.
class SPW_CAPABILITY("engine lock") EngineLock {
 public:
  void lock() SPW_ACQUIRE();
  void unlock() SPW_RELEASE();
  bool debug_is_held() const { return word_.load(std::memory_order_relaxed) != 0; }

 private:
  std::atomic<u32> word_{0};
};
// Named for the assembly of engine_lock.cc.
extern EngineLock g_engine_lock asm("spw_engine_lock_word");

class SPW_SCOPED_CAPABILITY EngineGuard {
 public:
  EngineGuard() SPW_ACQUIRE(g_engine_lock) { g_engine_lock.lock(); }
  ~EngineGuard() SPW_RELEASE() { g_engine_lock.unlock(); }
  EngineGuard(const EngineGuard&) = delete;
  EngineGuard& operator=(const EngineGuard&) = delete;
};

// What a locked call returns: travels in two registers, so that nothing is written to the
// caller's stack under the lock.
struct LockedResult {
  u64 value;
  u64 status;
};
using LockedFunction = LockedResult (*)(u64 a, u64 b, u64 c, u64 d, u64 e);

// Runs fn(a..e) under the engine lock, from a thread of the program, on the engine's entry
// stack. `fn` must not touch managed memory: not the caller's stack, not its thread block; so
// arguments are plain numbers. Signals are blocked meanwhile, and so is the kernel's writing
// into the thread's rseq area when that area is managed.
LockedResult locked_call(LockedFunction fn, u64 a = 0, u64 b = 0, u64 c = 0, u64 d = 0, u64 e = 0);

// Maps the entry stack. To be called once, before the first locked_call; false: no memory.
bool prepare_entry_stack();

// The addresses that the engine manages: a thread whose rseq area lies in them has it taken out
// of service for the time of a locked call.
void set_managed_range(VpnRange range);
VpnRange managed_range();

}  // namespace spillway
