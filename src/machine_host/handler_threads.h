// The two threads that drive the engine.
//
// The handler reads faults from the userfaultfd, has the core resolve them under the engine
// lock, does the reclaim that has become due, and only then wakes the faulting threads: work
// after the wake would compete with the program for the CPU that the handler shares with it. It
// keeps itself on the CPU of the thread that faulted, which is several times faster than waking
// another CPU (cpu_follower.h). Faults that must wait for an I/O stay in a table.
//
// The keeper does what nobody waits for: background steps left over, giving frames back when
// another process of the tree needs them, collecting the frames of dead ones, and publishing a
// snapshot for reports. Unmapping pages from a CPU other than the program's is slow, so it is
// the fall-back, not the rule.
#pragma once

#include "machine_host/cpu_follower.h"
#include "machine_host/engine_port.h"
#include "machine_host/host_block_device.h"
#include "machine_host/host_mmu.h"

namespace spillway {

class HandlerThreads {
 public:
  struct Parts {
    EnginePort* port;
    HostMmu* mmu;
    HostBlockDevice* device;  // null: no disk tier
    Ledger* ledger;
    LedgerProcess* self;
    Counters* counters;
    SpaceId space;
    u64 budget_bytes;  // for the message when it is exhausted
  };

  // Starts both threads. The userfaultfd and the eventfd are taken from engine_fds.
  Status start(const Parts& parts);
  void stop();
  // In a forked child: forgets the parent's threads and faults.
  void fork_child();

  // For program threads whose call into the engine returned Error::wait: `progress` read under
  // the engine lock, then, without it, wait_for_progress: returns when an I/O has completed
  // since, or after a moment.
  u32 progress() const { return progress_.load(std::memory_order_acquire); }
  void wait_for_progress(u32 seen);

  CpuFollower& follower() { return follower_; }

 private:
  struct Waiting {
    VirtAddr va;
    u64 since_ns;
    u32 attempt;
    bool write;
    bool exhausted;  // the last answer was oom while others may give frames back
  };
  // Faults that wait at once. One per thread that faults; when the table is full, threads are
  // simply woken and fault again.
  static constexpr u32 kWaitingMax = 128;

  static void handler_main(void* self) { static_cast<HandlerThreads*>(self)->handle(); }
  static void keeper_main(void* self) { static_cast<HandlerThreads*>(self)->keep(); }
  void handle();
  void take_priority();
  void keep();
  void serve(const UffdFault* faults, u32 count, u64 now, bool completed);
  // Resolves one fault; true when its thread is to be woken.
  bool resolve(Waiting& fault);
  void park(const Waiting& fault);
  void note_wake(const Waiting& fault);
  void background_before_wake();
  u64 poll_timeout_ns();
  [[noreturn]] void stop_exhausted();

  Parts parts_{};
  CpuFollower follower_;
  EngineThread handler_;
  EngineThread keeper_;
  Waiting waiting_[kWaitingMax] = {};
  u32 waiting_count_ = 0;
  Waiting wakes_[kWaitingMax + kFaultBatch] = {};
  u32 wake_count_ = 0;
  std::atomic<u32> progress_{0};
  std::atomic<u32> progress_waiters_{0};
  std::atomic<u32> ready_{0};  // futex: 1 when the handler is at work
  std::atomic<bool> stopping_{false};
};

// Nanoseconds of the monotonic clock.
u64 host_now_ns();

}  // namespace spillway
