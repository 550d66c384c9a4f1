#include "machine_host/io_ring.h"

#include <linux/io_uring.h>
#include <sys/mman.h>

#include "machine_host/engine_fds.h"
#include "machine_host/syscalls.h"

namespace spillway {
namespace {

// The same numbers on every architecture; newer than some headers.
constexpr i64 kSysSetup = 425;
constexpr i64 kSysEnter = 426;
constexpr i64 kSysRegister = 427;
// Linux 5.19: an end does not interrupt the handler while it computes, only while it sleeps.
constexpr u32 kSetupCoopTaskrun = 1U << 8;
// One mapping for both rings; no end is lost; the pieces of a request may be reused once it is
// submitted.
constexpr u32 kFeatures = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE;

u32 lowest(u64 set) { return static_cast<u32>(__builtin_ctzll(set)); }

template <class T>
T* at(u64 base, u64 offset) {
  return reinterpret_cast<T*>(base + offset);
}

i64 map_part(int fd, u64 bytes, u64 which) {
  const i64 got = sys::mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, which);
  if (sys::failed(got)) return 0;
  // A child must not even by mistake touch the ring of its parent.
  sys::madvise(static_cast<u64>(got), bytes, MADV_DONTFORK);
  return got;
}

}  // namespace

bool IoRing::map(int fd, const void* params) {
  const auto& p = *static_cast<const io_uring_params*>(params);
  const u64 sq_bytes = p.sq_off.array + u64{p.sq_entries} * sizeof(u32);
  const u64 cq_bytes = p.cq_off.cqes + u64{p.cq_entries} * sizeof(io_uring_cqe);
  ring_bytes_ = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
  sqes_bytes_ = u64{p.sq_entries} * sizeof(io_uring_sqe);
  const u64 ring = static_cast<u64>(map_part(fd, ring_bytes_, IORING_OFF_SQ_RING));
  if (ring == 0) return false;
  const u64 sqes = static_cast<u64>(map_part(fd, sqes_bytes_, IORING_OFF_SQES));
  if (sqes == 0) {
    sys::munmap(ring, ring_bytes_);
    return false;
  }
  ring_ = ring;
  sqes_ = at<io_uring_sqe>(sqes, 0);
  sq_head_ = at<std::atomic<u32>>(ring, p.sq_off.head);
  sq_tail_ = at<std::atomic<u32>>(ring, p.sq_off.tail);
  sq_array_ = at<u32>(ring, p.sq_off.array);
  sq_mask_ = *at<u32>(ring, p.sq_off.ring_mask);
  cq_head_ = at<std::atomic<u32>>(ring, p.cq_off.head);
  cq_tail_ = at<std::atomic<u32>>(ring, p.cq_off.tail);
  cqes_ = at<const io_uring_cqe>(ring, p.cq_off.cqes);
  cq_mask_ = *at<u32>(ring, p.cq_off.ring_mask);
  return true;
}

Status IoRing::start(int event_fd) {
  io_uring_params params = {};
  params.flags = kSetupCoopTaskrun;
  i64 fd = sys::call(kSysSetup, kSlots, &params);
  if (fd == sys::kInvalid) {
    params = {};
    fd = sys::call(kSysSetup, kSlots, &params);
  }
  if (sys::failed(fd)) return Error::not_supported;
  const int ring_fd = engine_fd_adopt(FdRole::ring, static_cast<int>(fd), FdExec::close);
  if (ring_fd < 0) {
    sys::close(static_cast<int>(fd));
    return Error::not_supported;
  }
  const int event = event_fd;
  if ((params.features & kFeatures) != kFeatures ||
      sys::failed(sys::call(kSysRegister, ring_fd, IORING_REGISTER_EVENTFD, &event, 1)) ||
      !map(ring_fd, &params)) {
    engine_fd_close(FdRole::ring);
    return Error::not_supported;
  }
  event_fd_ = event_fd;
  in_round_ = false;
  handler_called_ = false;
  waiting_ = IoQueue{};
  free_ = ~u64{0};
  ready_ = 0;
  ended_ = 0;
  return kOk;
}

void IoRing::stop() {
  if (!running()) return;
  SPW_ASSERT_EQ(~free_, u64{0});
  sys::munmap(ring_, ring_bytes_);
  sys::munmap(reinterpret_cast<u64>(sqes_), sqes_bytes_);
  ring_ = 0;
  engine_fd_close(FdRole::ring);
}

void IoRing::fork_child() {
  if (!running()) return;
  ring_ = 0;
  engine_fd_close(FdRole::ring);
}

void IoRing::submit(IoRequest& request) {
  waiting_.push(&request);
  if (!in_round_) call_handler();
}

void IoRing::call_handler() {
  if (handler_called_) return;
  handler_called_ = true;
  const u64 one = 1;
  sys::write(event_fd_, &one, sizeof(one));
}

void IoRing::end_round() {
  flush();
  in_round_ = false;
}

void IoRing::flush() {
  handler_called_ = false;
  if (ready_ == 0 && waiting_.empty() &&
      sq_tail_->load(std::memory_order_relaxed) == sq_head_->load(std::memory_order_acquire)) {
    return;
  }
  fill_submission_queue();
  enter();
}

void IoRing::fill_submission_queue() {
  while (free_ != 0 && !waiting_.empty()) {
    const u32 slot = lowest(free_);
    free_ &= free_ - 1;
    slots_[slot].start(*waiting_.pop());
    if (slots_[slot].fits(file_)) {
      ready_ |= u64{1} << slot;
    } else {
      slots_[slot].run(file_);  // says how it ends
      ended_ |= u64{1} << slot;
      call_handler();
    }
  }
  // There are as many entries as slots, so that the queue cannot be full.
  u32 tail = sq_tail_->load(std::memory_order_relaxed);
  for (; ready_ != 0; ready_ &= ready_ - 1) {
    const u32 slot = lowest(ready_);
    IoTransfer& transfer = slots_[slot];
    transfer.aim(file_);
    const u32 index = tail & sq_mask_;
    io_uring_sqe& sqe = sqes_[index];
    sqe = io_uring_sqe{};
    sqe.opcode = transfer.request().op == IoOp::read ? IORING_OP_READV : IORING_OP_WRITEV;
    sqe.fd = engine_fd(FdRole::swap);
    sqe.off = transfer.offset();
    sqe.addr = reinterpret_cast<u64>(transfer.pieces());
    sqe.len = transfer.piece_count();
    sqe.user_data = slot;
    sq_array_[index] = index;
    ++tail;
  }
  sq_tail_->store(tail, std::memory_order_release);  // the kernel reads what was written above
}

void IoRing::enter() {
  const u32 tail = sq_tail_->load(std::memory_order_relaxed);
  for (;;) {
    const u32 head = sq_head_->load(std::memory_order_acquire);
    if (head == tail) return;
    const i64 got = sys::call(kSysEnter, engine_fd(FdRole::ring), tail - head, 0, 0, 0, 0);
    if (got > 0 || got == sys::kInterrupted) continue;
    if (got == 0 || got == sys::kAgain || got == sys::kBusy || got == sys::kNoMemory) {
      // The entries stay in the queue; the handler comes again at once.
      call_handler();
      return;
    }
    do_it_ourselves(head, tail);
    return;
  }
}

// The kernel refuses from now on: a seccomp filter that the program has put on all its threads.
void IoRing::do_it_ourselves(u32 from, u32 to) {
  for (u32 i = from; i != to; ++i) {
    const u32 slot = static_cast<u32>(sqes_[sq_array_[i & sq_mask_]].user_data);
    slots_[slot].run(file_);
    ended_ |= u64{1} << slot;
  }
  sq_tail_->store(from, std::memory_order_release);
  call_handler();
}

IoRequest* IoRing::take_ended(IoEnd& end) {
  for (;;) {
    u32 slot = 0;
    if (ended_ != 0) {
      slot = lowest(ended_);
      ended_ &= ended_ - 1;
    } else {
      const u32 head = cq_head_->load(std::memory_order_relaxed);
      if (head == cq_tail_->load(std::memory_order_acquire)) return nullptr;
      const io_uring_cqe& cqe = cqes_[head & cq_mask_];
      slot = static_cast<u32>(cqe.user_data);
      const i64 result = cqe.res;
      cq_head_->store(head + 1, std::memory_order_release);
      if (!slots_[slot].answer(file_, result)) {
        ready_ |= u64{1} << slot;
        if (!in_round_) call_handler();
        continue;
      }
    }
    end = slots_[slot].end();
    free_ |= u64{1} << slot;
    // Its place is for the next; the round flushes anyway.
    if (!waiting_.empty() && !in_round_) call_handler();
    return &slots_[slot].request();
  }
}

}  // namespace spillway
