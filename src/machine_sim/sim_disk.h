// SimDisk: a swap device in virtual time. A request ends when the clock reaches its completion
// time, drawn at submit; equal times end in order of submission. Storage is sparse.
//
// The device is a strict partner. It panics when
//   I1  a request touches a segment that nobody claimed, or writes one that others refer to
//   I2  two requests in flight touch one block and one of them writes
//   I3  a buffer changes while its request is in flight, or a frame of it leaves home
//   I4  a segment is released while a write to it is in flight
// Blocks that were never written, or whose segment was released, read as a pattern, not zeros.
// Requests beyond the end of the device end with Error::invalid.
// Cost: submit O(requests in flight), completion O(pages). Not thread-safe.
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
  static constexpr u8 kUnwrittenPattern = 0xDE;

  SimDisk(const SimConfig& config, SimFrames& frames, FaultPlan& plan, const u64& now_ns);
  SimDisk(const SimDisk&) = delete;
  SimDisk& operator=(const SimDisk&) = delete;

  void submit(IoRequest& request) override;
  u32 in_flight() const override { return static_cast<u32>(queue_.size()); }
  Result<u64> claim_segment() override;
  void release_segment(u64 segment) override;
  bool sole_owner(u64 segment) const override;

  // When the next request ends; ~0 when none is in flight.
  u64 next_completion_ns() const;
  // Ends the request that is due first and calls its sink. False: none is in flight.
  bool complete_one();

  // No more than `segments` segments can be claimed from now on; those claimed stay.
  void set_segments_max(u64 segments) { segments_max_ = segments; }
  bool claimed_by_us(u64 segment) const { return segments_[segment].mine; }
  u64 segments_claimed() const { return claimed_; }
  // A forked relative refers to the segment too, or no longer.
  void add_relative(u64 segment);
  void remove_relative(u64 segment);

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
  struct Transfer {
    IoRequest* request;
    u64 checksum;  // of the buffer at submit
  };
  using Page = std::unique_ptr<u8[]>;

  u64 buffer_checksum(const IoRequest& request) const;
  void check_request(const IoRequest& request) const;
  Status finish_write(const IoRequest& request);
  Status finish_read(const IoRequest& request);
  // Writes the first `bytes` bytes of the request; the rest of the page they end in stays.
  void store_blocks(const IoRequest& request, u64 bytes);
  void forget_segment(u64 segment);

  SimFrames& frames_;
  FaultPlan& plan_;
  const u64& now_ns_;
  Prng prng_;
  const u64 latency_min_ns_;
  const u64 latency_max_ns_;
  u64 segments_max_;
  u64 claimed_ = 0;
  u64 damaged_ = 0;
  std::vector<Segment> segments_;
  std::unordered_map<u64, Page> blocks_;
  std::multimap<u64, Transfer> queue_;  // by completion time; equal keys keep their order
};

}  // namespace spillway
