// ArenaDevice: a plain block device over a regular file or a block device of the host.
//
// submit() queues a request; complete() transfers what is queued, by preadv and pwritev in the
// calling thread, and then calls the sinks. Requests of one kind on neighbouring pages that were
// submitted one after the other are transferred by one call; if that fails, each by its own, so
// that one bad page does not fail its neighbours.
//
// Every transfer is of whole pages of 4 KiB. An image whose size is no multiple of that keeps its
// size: its last page reads as zeros behind the end, and what is written there is not stored.
// Pages that were never written read as the file has them. A transfer that ends early is
// Error::io; ENOSPC and EDQUOT are no_space; writes to a device that was opened for reading are
// read_only, requests beyond the end invalid.
// Thread safety: the engine lock. Cost: one system call for up to kMergePages pages.
#pragma once

#include "machine/block_device.h"
#include "machine/frames.h"

namespace spillway {

enum class DeviceAccess : u8 { read_only, read_write };

class ArenaDevice final : public BlockDevice {
 public:
  static constexpr u32 kMergePages = 64;  // of one system call: 256 KiB

  explicit ArenaDevice(Frames& frames) : frames_(frames) {}
  ~ArenaDevice() { close(); }
  ArenaDevice(const ArenaDevice&) = delete;
  ArenaDevice& operator=(const ArenaDevice&) = delete;

  // Opens `path`, close-on-exec, and locks it against other users of ours: one writer or several
  // readers. no_entry, access, read_only, busy (somebody has it), is_directory, invalid (neither
  // file nor block device, or empty), io.
  Status open(const char* path, DeviceAccess access);
  // Nothing may be in flight.
  void close();
  bool is_open() const { return fd_ >= 0; }
  bool read_only() const { return access_ == DeviceAccess::read_only; }
  u64 size_bytes() const { return bytes_; }

  void submit(IoRequest& request) override;
  u32 in_flight() const override { return in_flight_; }
  // Ends up to `max` requests, those submitted by the sinks among them; returns how many.
  u32 complete(u32 max);
  // Makes durable what was written by requests that have ended (fdatasync). io, no_space.
  Status sync();

  Result<u64> claim_segment() override;
  void release_segment(u64 segment) override;
  bool sole_owner(u64 segment) const override;

 private:
  Status transfer(IoOp op, u64 block, IoRequest* first, u32 requests, u32 pages);
  Status transfer_one(IoRequest& request);
  bool inside(const IoRequest& request) const {
    return request.block <= size_.v && request.count <= size_.v - request.block;
  }

  Frames& frames_;
  int fd_ = -1;
  DeviceAccess access_ = DeviceAccess::read_only;
  u64 bytes_ = 0;
  IoRequest* head_ = nullptr;
  IoRequest* tail_ = nullptr;
  u32 in_flight_ = 0;
};

}  // namespace spillway
