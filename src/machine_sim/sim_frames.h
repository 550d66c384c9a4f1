// SimFrames: the arena of the simulated machine, with a state per frame, so that a memory manager
// that uses a frame at the wrong moment is stopped at once.
//
// Invariants, each asserted where it could break:
//   I1  frames online <= quota granted <= frames
//   I2  a frame is offline, at home, or mapped: exactly once, with shared_frames any number of
//       times. Frames at home take part in I/O; mapped ones may be written to a device where
//       frame_bytes_while_mapped, and be mapped meanwhile where shared_frames
//   I3  bytes that nobody may touch hold a pattern: offline frames 0xDF, home bytes of mapped
//       frames (host imitation) 0xDB; a pattern that was disturbed is a panic
// Cost: every call is O(pages named). Not thread-safe.
#pragma once

#include <memory>
#include <vector>

#include "base/prng.h"
#include "machine/block_device.h"
#include "machine/frames.h"
#include "machine_sim/fault_plan.h"
#include "machine_sim/sim_config.h"

namespace spillway {

// Whether all of `bytes` bytes at `p` equal `value`.
bool all_bytes_are(const u8* p, u8 value, u64 bytes = kPageSize);

class SimFrames final : public Frames {
 public:
  static constexpr u8 kOfflinePattern = 0xDF;  // no memory behind the frame
  static constexpr u8 kMappedPattern = 0xDB;   // the bytes are at the program's address
  static constexpr u8 kDroppedPattern = 0xDD;  // contents undefined after Mmu::drop
  static constexpr u8 kReadingPattern = 0xD5;  // a read from the device is in flight

  enum class State : u8 { offline, home, mapped };

  SimFrames(const SimConfig& config, FaultPlan& plan);
  SimFrames(const SimFrames&) = delete;
  SimFrames& operator=(const SimFrames&) = delete;

  PageCount acquire_quota(PageCount want) override;
  void release_quota(PageCount count) override;
  // What is granted above the budget of the moment.
  PageCount quota_wanted_back() override;
  Status bring_online(Pfn first, PageCount count) override;
  void take_offline(Pfn first, PageCount count) override;

  // Others in the tree of processes leave this System `budget` frames from now on.
  void set_budget(PageCount budget) { budget_ = budget; }
  PageCount budget() const { return budget_; }
  PageCount granted() const { return granted_; }
  PageCount online() const { return online_; }
  State state(Pfn pfn) const { return frame(pfn).state; }

  // For the MMU: a mapping of the frame begins and ends. They nest with shared_frames; the frame
  // is home again when the last one goes.
  void begin_mapping(Pfn pfn);
  void end_mapping(Pfn pfn);
  u32 mappings(Pfn pfn) const { return frame(pfn).mappings; }
  // For devices: a transfer from (write) or to (read) the frame begins and ends.
  void begin_io(Pfn pfn, IoOp op);
  void end_io(Pfn pfn, IoOp op);
  bool in_io(Pfn pfn) const { return frame(pfn).transfers != 0; }
  // Whether the frame was mapped at some moment since its present transfers began, so that a
  // program may have changed its bytes under the device.
  bool mapped_during_io(Pfn pfn) const { return frame(pfn).mapped_during_io; }

 private:
  struct Frame {
    State state = State::offline;
    bool patterned = false;  // the offline pattern was written; fresh arenas are not touched
    bool mapped_during_io = false;
    u16 transfers = 0;  // reads and writes
    u16 reads = 0;
    u32 mappings = 0;
  };
  struct FreeBytes {
    void operator()(void* p) const;
  };
  Frame& frame(Pfn pfn);
  const Frame& frame(Pfn pfn) const;

  FaultPlan& plan_;
  Prng prng_;
  const Features features_;
  const u32 short_one_in_;
  PageCount budget_;
  PageCount granted_{0};
  PageCount online_{0};
  std::vector<Frame> frames_;
  std::unique_ptr<void, FreeBytes> arena_;
};

}  // namespace spillway
