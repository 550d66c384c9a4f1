// BlockDevice: where swap segments, swap areas and file systems lie. Requests are asynchronous:
// submit() returns at once and the machine calls the request's sink, under the engine lock, when
// the transfer has ended. A device may finish requests in any order. Thread safety: the engine
// lock.
#pragma once

#include "base/result.h"
#include "base/units.h"

namespace spillway {

enum class IoOp : u8 { read, write };

// Most frames of one request: one swap segment of 64 KiB.
inline constexpr u32 kIoFramesMax = 16;

struct IoRequest;

class IoSink {
 public:
  // The transfer ended. `status` is ok only if every byte was transferred; short reads and
  // writes are errors. The request belongs to its owner again.
  virtual void io_done(IoRequest& request, Status status) = 0;

 protected:
  ~IoSink() = default;
};

// One transfer between consecutive device pages and frames (at home, owned by the requester,
// not mapped). Memory and frames must stay put until io_done, and unmapped frames keep their
// bytes. On machines with frame_bytes_while_mapped the frames of a write may be mapped, as those
// of a file page that programs use: the device then sees some mixture of the bytes written
// meanwhile, so who wants the last word clears the dirty bits before and writes again if they
// are back. With shared_frames a frame may also be mapped while its write is in flight. Nobody
// reads into a mapped frame.
struct IoRequest {
  IoOp op = IoOp::read;
  u64 block = 0;  // first device page (4 KiB units)
  u32 count = 0;  // pages, 1..kIoFramesMax
  Pfn frames[kIoFramesMax];
  IoSink* sink = nullptr;
  u64 cookie = 0;             // the owner's
  IoRequest* next = nullptr;  // the device's, while submitted
};

class BlockDevice {
 public:
  // Size in pages; fixed. Space need not be allocated yet: a write may fail with no_space.
  PageCount size() const { return size_; }
  virtual void submit(IoRequest& request) = 0;
  // Requests submitted and not yet done.
  virtual u32 in_flight() const = 0;

  // Only on Machine::swap_device, here and below.
  // Groups of processes that came from one fork share a device: a unit of the device (a
  // segment of kIoFramesMax pages) that this process claimed stays claimed while any of them
  // still refers to it.
  // Claims a unit that nobody holds; no_space when there is none.
  virtual Result<u64> claim_segment() = 0;
  // This process refers to the segment no longer.
  virtual void release_segment(u64 segment) = 0;
  // Whether this process is the only one that refers to the segment.
  virtual bool sole_owner(u64 segment) const = 0;

 protected:
  ~BlockDevice() = default;
  PageCount size_;
};

}  // namespace spillway
