// The swap file: unlinked from the start, mode 0600, close-on-exec, read and written with
// O_DIRECT so that the page cache does not hold memory outside the budget. Two engine threads do
// the transfers; completions are announced on an eventfd, and io_done is called by whoever calls
// complete() under the engine lock (the fault handler).
//
// The file grows in steps by fallocate, so that a full disk shows when a segment is claimed,
// which the core can answer, and not when one is written.
#pragma once

#include "base/lock.h"
#include "machine/block_device.h"
#include "machine_host/engine_thread.h"
#include "machine_host/host_frames.h"
#include "machine_host/stop.h"
#include "machine_host/swap_segments.h"

namespace spillway {

class HostBlockDevice final : public BlockDevice {
 public:
  explicit HostBlockDevice(HostFrames& frames) : frames_(frames) {}

  // Creates the file in `dir`, of at most `bytes_max` bytes. On failure says why in `why`.
  bool prepare(const char* dir, u64 bytes_max, Message& why);
  // Starts the transfer threads, which announce completions on `event_fd`.
  Status start(int event_fd);
  void stop();  // ends the threads; nothing may be in flight
  void unprepare();
  SwapSegments& segments() { return segments_; }
  // In a forked child: the parent's threads and queue do not exist here.
  void fork_child();

  // Calls io_done for what has ended; returns how many. Under the engine lock.
  u32 complete();
  bool direct() const { return direct_; }

  void submit(IoRequest& request) override;
  u32 in_flight() const override { return in_flight_; }
  Result<u64> claim_segment() override;
  void release_segment(u64 segment) override { segments_.release(segment); }
  bool sole_owner(u64 segment) const override { return segments_.sole_owner(segment); }

 private:
  static constexpr u32 kThreads = 2;
  static constexpr u32 kEnds = 4;  // ok, io, no_space, invalid

  struct Queue {
    IoRequest* head = nullptr;
    IoRequest* tail = nullptr;
    void push(IoRequest* request) {
      request->next = nullptr;
      (head == nullptr ? head : tail->next) = request;
      tail = request;
    }
    IoRequest* pop() {
      IoRequest* request = head;
      if (request != nullptr) head = request->next;
      return request;
    }
  };

  static void thread_main(void* self) { static_cast<HostBlockDevice*>(self)->work(); }
  void work();
  Status transfer(const IoRequest& request);
  static u32 end_of(const Status& status);
  static Status status_of(u32 end);
  bool grow();

  HostFrames& frames_;
  SwapSegments segments_;
  std::atomic<bool> direct_{false};
  bool preallocate_ = true;
  u32 in_flight_ = 0;
  int event_fd_ = -1;

  SpinLock<Rank::leaf> queue_lock_;
  Queue waiting_ SPW_GUARDED_BY(queue_lock_);
  // Ended requests, one queue per way to end: a request has no field for its status.
  Queue ended_[kEnds] SPW_GUARDED_BY(queue_lock_);
  std::atomic<u32> work_sequence_{0};  // futex of idle threads
  std::atomic<bool> stopping_{false};
  EngineThread threads_[kThreads];
};

}  // namespace spillway
