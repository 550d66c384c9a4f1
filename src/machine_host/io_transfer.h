// One transfer of the swap file while it is under way: what is left of it, and what an answer of
// the kernel means for it. Both ways to do transfers (io_threads.h, io_ring.h) use it.
#pragma once

#include <sys/uio.h>

#include <atomic>

#include "machine/block_device.h"
#include "machine_host/host_frames.h"

namespace spillway {

// What the transfers are done on: the descriptor of engine_fds, and memory.
struct IoFile {
  HostFrames& frames;
  PageCount size;
  // Opened with O_DIRECT, and the file system keeps to it.
  std::atomic<bool> direct{false};
};

enum class IoEnd : u8 { ok, io, no_space, invalid, kCount };
Status status_of(IoEnd end);

class IoTransfer {
 public:
  void start(IoRequest& request) {
    request_ = &request;
    done_ = 0;
  }
  IoRequest& request() const { return *request_; }
  // Whether the request lies within the file.
  bool fits(const IoFile& file) const;

  // What to ask of the kernel for what is left: pieces() from byte offset() of the file. Stays
  // valid until the next call.
  void aim(const IoFile& file);
  const iovec* pieces() const { return pieces_; }
  u32 piece_count() const { return piece_count_; }
  u64 offset() const { return (request_->block << kPageShift) + done_; }

  // Takes note of the kernel's answer: bytes or -errno. True when the transfer has ended, as
  // end() says; false when what is left is to be asked for again.
  bool answer(IoFile& file, i64 result);
  IoEnd end() const { return end_; }

  // All of it, by system calls that wait for the disk.
  void run(IoFile& file);

 private:
  u64 bytes() const { return u64{request_->count} << kPageShift; }

  IoRequest* request_ = nullptr;
  u64 done_ = 0;
  u32 piece_count_ = 0;
  IoEnd end_ = IoEnd::ok;
  iovec pieces_[kIoFramesMax];
};

// Requests in order of arrival, linked by their own field.
class IoQueue {
 public:
  void push(IoRequest* request) {
    request->next = nullptr;
    (head_ == nullptr ? head_ : tail_->next) = request;
    tail_ = request;
  }
  IoRequest* pop() {
    IoRequest* request = head_;
    if (request != nullptr) head_ = request->next;
    return request;
  }
  bool empty() const { return head_ == nullptr; }

 private:
  IoRequest* head_ = nullptr;
  IoRequest* tail_ = nullptr;
};

}  // namespace spillway
