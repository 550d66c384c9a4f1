// The swap file: unlinked from the start, mode 0600, close-on-exec, read and written with
// O_DIRECT so that the page cache does not hold memory outside the budget. Transfers go through
// an io_uring (io_ring.h) or, where there is none for us, two engine threads (io_threads.h). Both
// announce ends on an eventfd, and io_done is called by whoever calls complete() under the engine
// lock (the fault handler).
//
// The file grows in steps by fallocate, so that a full disk shows when a segment is claimed,
// which the core can answer, and not when one is written.
#pragma once

#include "machine_host/io_ring.h"
#include "machine_host/io_threads.h"
#include "machine_host/stop.h"
#include "machine_host/swap_segments.h"

namespace spillway {

enum class IoWay : u8 { best, threads };

class HostBlockDevice final : public BlockDevice {
 public:
  explicit HostBlockDevice(HostFrames& frames) : file_{frames, PageCount(0)} {}

  // Creates the file in `dir`, of at most `bytes_max` bytes. On failure says why in `why`.
  bool prepare(const char* dir, u64 bytes_max, Message& why);
  void set_way(IoWay way) { way_ = way; }
  // Makes the ring or starts the threads, which announce ends on `event_fd`.
  Status start(int event_fd);
  void stop();  // nothing may be in flight
  void unprepare();
  SwapSegments& segments() { return segments_; }
  // In a forked child: the parent's ring and threads are not ours.
  void fork_child();

  // Calls io_done for what has ended; returns how many. Under the engine lock.
  u32 complete();
  bool direct() const { return file_.direct; }
  bool uses_ring() const { return ring_.running(); }

  // The handler's time under the engine lock. Only here are requests handed to a ring: at flush()
  // and at the end. `device` may be null.
  class Round {
   public:
    explicit Round(HostBlockDevice* device)
        : ring_(device != nullptr && device->uses_ring() ? &device->ring_ : nullptr) {
      if (ring_ != nullptr) ring_->begin_round();
    }
    ~Round() {
      if (ring_ != nullptr) ring_->end_round();
    }
    Round(const Round&) = delete;
    Round& operator=(const Round&) = delete;
    void flush() {
      if (ring_ != nullptr) ring_->flush();
    }

   private:
    IoRing* ring_;
  };

  void submit(IoRequest& request) override;
  u32 in_flight() const override { return in_flight_; }
  Result<u64> claim_segment() override;
  void release_segment(u64 segment) override { segments_.release(segment); }
  bool sole_owner(u64 segment) const override { return segments_.sole_owner(segment); }

 private:
  bool grow();

  IoFile file_;
  SwapSegments segments_;
  IoWay way_ = IoWay::best;
  bool preallocate_ = true;
  u32 in_flight_ = 0;
  IoRing ring_{file_};
  IoThreads threads_{file_};
};

}  // namespace spillway
