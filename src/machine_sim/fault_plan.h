// FaultPlan: failures on demand. A test arms a kind of failure for the Nth opportunity from now,
// or marks blocks of a device as bad; the parts of the machine ask at each opportunity whether it
// fails. Each block device beside the swap device has a plan of its own. Not thread-safe.
#pragma once

#include <array>
#include <set>
#include <utility>

#include "base/assert.h"
#include "machine/block_device.h"

namespace spillway {

// X(identifier, what happens)
#define SPW_SIM_FAILURES(X)                                                   \
  X(read_io, "a read ends with an I/O error")                                 \
  X(write_io, "a write ends with an I/O error, nothing written")              \
  X(write_torn, "a write ends with an I/O error, half of it written")         \
  X(write_lost, "half of a write is missing although it is reported as good") \
  X(read_flip, "one stored bit changes silently before a read")               \
  X(write_no_space, "a write ends with no_space, nothing written")            \
  X(claim_segment, "no segment can be claimed")                               \
  X(acquire_quota, "the budget grants nothing")                               \
  X(bring_online, "no memory for frames that the budget granted")             \
  X(protect, "no room to split a mapping")

enum class Failure : u8 {
#define X(id, text) id,
  SPW_SIM_FAILURES(X)
#undef X
      kCount
};
inline constexpr u32 kFailureCount = static_cast<u32>(Failure::kCount);

const char* name_of(Failure failure);
const char* describe(Failure failure);

class FaultPlan {
 public:
  static constexpr u64 kAlways = ~u64{0};  // as `times`: until disarmed

  // From the `nth` opportunity on (1 = the next), `times` opportunities fail. Replaces what was
  // armed for this kind.
  void arm(Failure failure, u64 nth, u64 times = 1) {
    SPW_ASSERT_NE(nth, 0U);
    Armed& a = at(failure);
    a.skip = nth - 1;
    a.times = times;
  }
  void disarm(Failure failure) { at(failure).skip = at(failure).times = 0; }
  void disarm_all() {
    for (Armed& a : armed_) a.skip = a.times = 0;
    bad_blocks_.clear();
  }

  // Every transfer that touches `block` of the plan's device fails in this way until it is
  // cleared; only for failures of transfers. What is to be torn, lost or flipped is then this
  // block. By IoOp: with an I/O error, nothing transferred.
  void fail_block(Failure failure, u64 block);
  void fail_block(IoOp op, u64 block) {
    fail_block(op == IoOp::read ? Failure::read_io : Failure::write_io, block);
  }
  void clear_block(u64 block);
  void clear_blocks() { bad_blocks_.clear(); }

  // An opportunity: whether it fails.
  bool fires(Failure failure) {
    Armed& a = at(failure);
    if (a.times == 0) return false;
    if (a.skip != 0) {
      --a.skip;
      return false;
    }
    --a.times;
    ++a.fired;
    return true;
  }
  // The same for a transfer of [block, block+count): a bad block among them makes it fail. The
  // transfer counts as an opportunity all the same.
  bool fires(Failure failure, u64 block, u32 count) {
    if (fires(failure)) return true;
    if (first_bad_block(failure, block, count) == kNoBlock) return false;
    ++at(failure).fired;
    return true;
  }
  static constexpr u64 kNoBlock = ~u64{0};
  // The first block of [block, block+count) that is bad in this way; kNoBlock when none is.
  u64 first_bad_block(Failure failure, u64 block, u32 count) const;

  // How often this kind of failure has happened.
  u64 fired(Failure failure) const { return armed_[static_cast<u32>(failure)].fired; }
  // Whether opportunities are still to fail; bad blocks are not counted.
  bool armed(Failure failure) const { return armed_[static_cast<u32>(failure)].times != 0; }

 private:
  struct Armed {
    u64 skip = 0;   // opportunities that still succeed
    u64 times = 0;  // failures still to come after them
    u64 fired = 0;
  };
  Armed& at(Failure failure) { return armed_[static_cast<u32>(failure)]; }

  std::array<Armed, kFailureCount> armed_;
  std::set<std::pair<Failure, u64>> bad_blocks_;
};

}  // namespace spillway
