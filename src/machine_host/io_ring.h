// Transfers by io_uring: the fault handler hands requests to the kernel and is woken by their
// ends through the same eventfd on which it waits anyway. No thread of ours runs on another CPU,
// so page moves need not interrupt one.
//
// Only the handler enters the kernel for the ring. The kernel delivers an end by interrupting the
// thread that submitted the request. For a thread of the program that would mean EINTR out of its
// system calls; and were it waiting for a page inside one, the end of the very read that it waits
// for could not be delivered. What other threads submit therefore waits until the handler, called
// by the eventfd, comes for it.
//
// Needs Linux 5.6, and a sandbox that allows it: start() fails otherwise. Thread safety: the
// engine lock.
#pragma once

#include "machine_host/io_transfer.h"

struct io_uring_sqe;
struct io_uring_cqe;

namespace spillway {

class IoRing {
 public:
  explicit IoRing(IoFile& file) : file_(file) {}

  // Makes a ring that announces ends on `event_fd`. not_supported: the kernel or the sandbox
  // has none for us.
  Status start(int event_fd);
  bool running() const { return ring_ != 0; }
  void stop();        // nothing may be in flight
  void fork_child();  // in a forked child: the ring is the parent's, and its memory is not here

  void submit(IoRequest& request);
  // A request that has ended, and how; null when there is none.
  IoRequest* take_ended(IoEnd& end);

  // The handler's round, all of it under the engine lock: what is submitted meanwhile does not
  // call the handler, which flushes.
  void begin_round() { in_round_ = true; }
  void flush();
  void end_round();

  // Requests that the kernel has at once; more wait in a queue.
  static constexpr u32 kSlots = 64;

 private:
  bool map(int fd, const void* params);
  void call_handler();
  void fill_submission_queue();
  void enter();
  void do_it_ourselves(u32 from, u32 to);

  IoFile& file_;
  int event_fd_ = -1;
  // The kernel's memory.
  u64 ring_ = 0;
  u64 ring_bytes_ = 0;
  io_uring_sqe* sqes_ = nullptr;
  u64 sqes_bytes_ = 0;
  std::atomic<u32>* sq_head_ = nullptr;
  std::atomic<u32>* sq_tail_ = nullptr;
  u32* sq_array_ = nullptr;
  u32 sq_mask_ = 0;
  std::atomic<u32>* cq_head_ = nullptr;
  std::atomic<u32>* cq_tail_ = nullptr;
  const io_uring_cqe* cqes_ = nullptr;
  u32 cq_mask_ = 0;

  bool in_round_ = false;
  bool handler_called_ = false;
  IoQueue waiting_;  // without a slot yet
  // Sets of slots, one bit each.
  u64 free_ = ~u64{0};
  u64 ready_ = 0;  // to be handed to the kernel
  u64 ended_ = 0;  // without the kernel
  IoTransfer slots_[kSlots];
};

}  // namespace spillway
