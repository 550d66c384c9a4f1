// Transfers by two engine threads that wait for the disk, for kernels and containers that do not
// let us have an io_uring. Costs a wake of another CPU per request, and while a thread runs there,
// every page move interrupts that CPU.
//
// Thread safety: submit and take_ended under the engine lock; the threads take only the lock of
// the queues.
#pragma once

#include "base/lock.h"
#include "machine_host/engine_thread.h"
#include "machine_host/io_transfer.h"

namespace spillway {

class IoThreads {
 public:
  explicit IoThreads(IoFile& file) : file_(file) {}

  // Starts the threads, which announce ends on `event_fd`.
  Status start(int event_fd);
  void stop();        // nothing may be in flight
  void fork_child();  // in a forked child, where the parent's threads do not exist

  void submit(IoRequest& request);
  // A request that has ended, and how; null when there is none.
  IoRequest* take_ended(IoEnd& end);

 private:
  static constexpr u32 kThreads = 2;
  static constexpr u32 kEnds = static_cast<u32>(IoEnd::kCount);

  static void thread_main(void* self) { static_cast<IoThreads*>(self)->work(); }
  void work();

  IoFile& file_;
  int event_fd_ = -1;
  SpinLock<Rank::leaf> queue_lock_;
  IoQueue waiting_ SPW_GUARDED_BY(queue_lock_);
  // One queue per way to end: a request has no field for it.
  IoQueue ended_[kEnds] SPW_GUARDED_BY(queue_lock_);
  std::atomic<u32> work_sequence_{0};  // futex of idle threads
  std::atomic<bool> stopping_{false};
  EngineThread threads_[kThreads];
};

}  // namespace spillway
