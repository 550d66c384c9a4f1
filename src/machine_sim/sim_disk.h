// SimDisk: a block device in virtual time: the swap device with its segments, or a plain device
// for swap areas and file systems. A request ends when the clock reaches its completion time,
// drawn at submit; equal times end in order of submission. Storage is sparse and stays for the
// life of the machine.
//
// The device is a strict partner. It panics when
//   I1  a request touches a segment that nobody claimed, or writes one that others refer to
//       (swap device); a segment of a plain device is asked for
//   I2  two requests in flight touch one block and one of them writes
//   I3  a buffer changes while its request is in flight, or a frame of it leaves home; except
//       for a write of frames that are mapped meanwhile (SimFrames I2)
//   I4  a segment is released while a write to it is in flight
// Of a frame that was mapped while it was written, the device stores each sector as it was at
// submit or as it is at completion, as the seed decides.
// On the swap device, blocks that were never written, or whose segment was released, read as a
// pattern; on plain devices they read as zeros.
// Requests beyond the end of the device end with Error::invalid.
// Cost: submit O(requests in flight + pages), completion O(pages). Not thread-safe.
#pragma once

#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/prng.h"
#include "machine/block_device.h"
#include "machine_sim/fault_plan.h"
#include "machine_sim/sim_config.h"
#include "machine_sim/sim_frames.h"

namespace spillway {

class SimDisk final : public BlockDevice {
 public:
  static constexpr u8 kUnwrittenPattern = 0xDE;  // on the swap device
  static constexpr u64 kSectorSize = 512;
  static constexpr u32 kSwap = ~0U;

  // The swap device (kSwap), or the plain device `number` of config.block_pages.
  SimDisk(const SimConfig& config, u32 number, SimFrames& frames, FaultPlan& plan,
          const u64& now_ns);
  SimDisk(const SimDisk&) = delete;
  SimDisk& operator=(const SimDisk&) = delete;

  // "swap", or "block0" and so on.
  const char* name() const { return name_; }
  bool is_plain() const { return number_ != kSwap; }
  // Where failures of this device are armed.
  FaultPlan& failures() { return plan_; }
  const FaultPlan& failures() const { return plan_; }

  void submit(IoRequest& request) override;
  u32 in_flight() const override { return static_cast<u32>(queue_.size()); }
  Result<u64> claim_segment() override;
  void release_segment(u64 index) override;
  bool sole_owner(u64 index) const override;

  // When the next request ends; ~0 when none is in flight.
  u64 next_completion_ns() const;
  // Ends the request that is due first and calls its sink. False: none is in flight.
  bool complete_one();

  // No more than `segments` segments can be claimed from now on; those claimed stay.
  void set_segments_max(u64 segments) { segments_max_ = segments; }
  bool claimed_by_us(u64 index) const { return segment(index).mine; }
  u64 segments_claimed() const { return claimed_; }
  // A forked relative refers to the segment too, or no longer.
  void add_relative(u64 index);
  void remove_relative(u64 index);

  // The page as the medium holds it; null when it was never written.
  const u8* stored(u64 block) const;
  // Writes a page behind the memory manager's back, as who prepares a medium does.
  void store(u64 block, const void* page);
  // Changes a stored bit; nothing happens to a block that holds no data.
  void flip_bit(u64 block, u64 bit);
  // Blocks whose contents were silently damaged by this device so far.
  u64 damaged() const { return damaged_; }

 private:
  struct Segment {
    bool mine = false;
    u32 relatives = 0;
    bool free() const { return !mine && relatives == 0; }
  };
  using Page = std::unique_ptr<u8[]>;
  struct Transfer {
    IoRequest* request;
    Page bytes;  // of a write: the frames' contents at submit
  };

  bool inside(const IoRequest& request) const {
    return request.block <= size_.v && request.count <= size_.v - request.block;
  }
  u8 unwritten() const { return is_plain() ? u8{0} : kUnwrittenPattern; }
  void check_request(const IoRequest& request) const;
  // I3; what is to be written ends up in transfer.bytes.
  void check_buffer(Transfer& transfer);
  Status finish_write(const Transfer& transfer);
  Status finish_read(const IoRequest& request);
  // How much of a torn or lost write arrives: half of it, or all before the middle of the block
  // that is bad.
  u64 bytes_kept(Failure failure, const IoRequest& request) const;
  // Writes the first `bytes` bytes of the transfer; the rest of the page they end in stays.
  void store_blocks(const Transfer& transfer, u64 bytes);
  Page& page_of(u64 block);
  const Segment& segment(u64 index) const;
  Segment& segment(u64 index) {
    return const_cast<Segment&>(static_cast<const SimDisk*>(this)->segment(index));
  }
  void forget_segment(u64 index);

  const u32 number_;
  char name_[16];
  SimFrames& frames_;
  FaultPlan& plan_;
  const u64& now_ns_;
  Prng prng_;
  const u64 latency_min_ns_;
  const u64 latency_max_ns_;
  u64 segments_max_ = 0;
  u64 claimed_ = 0;
  u64 damaged_ = 0;
  std::vector<Segment> segments_;
  std::unordered_map<u64, Page> blocks_;
  std::multimap<u64, Transfer> queue_;  // by completion time; equal keys keep their order
};

}  // namespace spillway
