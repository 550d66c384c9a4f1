#include "machine_host/io_threads.h"

#include <new>

#include "machine_host/engine_fds.h"
#include "machine_host/syscalls.h"

namespace spillway {

Status IoThreads::start(int event_fd) {
  event_fd_ = event_fd;
  stopping_.store(false, std::memory_order_relaxed);
  const int keep[] = {event_fd, engine_fd(FdRole::swap)};
  for (EngineThread& thread : threads_) {
    SPW_TRY(thread.start(thread_main, this, "spillway/io", keep, 2));
  }
  return kOk;
}

void IoThreads::stop() {
  stopping_.store(true, std::memory_order_release);
  work_sequence_.fetch_add(1, std::memory_order_acq_rel);
  sys::futex_wake(&work_sequence_, kThreads, sys::Sharing::this_process);
  for (EngineThread& thread : threads_) thread.join();
}

void IoThreads::fork_child() SPW_NO_THREAD_SAFETY {
  for (EngineThread& thread : threads_) thread.forget();
  // A thread of the parent may have held the lock for an instant when the process was copied;
  // the queues are empty, because a fork happens only with nothing in flight.
  queue_lock_.~SpinLock<Rank::leaf>();
  ::new (static_cast<void*>(&queue_lock_)) SpinLock<Rank::leaf>();
  waiting_ = IoQueue{};
  for (IoQueue& queue : ended_) queue = IoQueue{};
}

void IoThreads::submit(IoRequest& request) {
  {
    Guard<Rank::leaf> guard(queue_lock_);
    waiting_.push(&request);
  }
  work_sequence_.fetch_add(1, std::memory_order_acq_rel);
  sys::futex_wake(&work_sequence_, 1, sys::Sharing::this_process);
}

void IoThreads::work() {
  while (!stopping_.load(std::memory_order_acquire)) {
    const u32 seen = work_sequence_.load(std::memory_order_acquire);
    IoRequest* request = nullptr;
    {
      Guard<Rank::leaf> guard(queue_lock_);
      request = waiting_.pop();
    }
    if (request == nullptr) {
      sys::futex_wait(&work_sequence_, seen, 0, sys::Sharing::this_process);
      continue;
    }
    IoTransfer transfer;
    transfer.start(*request);
    transfer.run(file_);
    {
      Guard<Rank::leaf> guard(queue_lock_);
      ended_[static_cast<u32>(transfer.end())].push(request);
    }
    const u64 one = 1;
    sys::write(event_fd_, &one, sizeof(one));
  }
}

IoRequest* IoThreads::take_ended(IoEnd& end) {
  Guard<Rank::leaf> guard(queue_lock_);
  for (u32 i = 0; i < kEnds; ++i) {
    IoRequest* request = ended_[i].pop();
    if (request == nullptr) continue;
    end = static_cast<IoEnd>(i);
    return request;
  }
  return nullptr;
}

}  // namespace spillway
