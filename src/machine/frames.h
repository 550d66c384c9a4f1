// Frames: the arena of page frames that is the RAM budget. Frame numbers run from 0 to count()-1.
// A frame is offline (no memory behind it) or online. Online frames are part of this process's
// share of the budget, which a tree of processes may divide among itself.
#pragma once

#include "base/result.h"
#include "base/units.h"

namespace spillway {

class Frames {
 public:
  PageCount count() const { return count_; }

  // The frame's bytes at home. Valid while the frame is online and, on machines without
  // Features::frame_bytes_while_mapped, not mapped into a program.
  u8* bytes(Pfn pfn) const {
    SPW_DEBUG_ASSERT(pfn.v < count_.v);
    return base_ + (u64{pfn.v} << kPageShift);
  }

  // The frame that holds `byte`, an address inside the arena.
  Pfn pfn_of(const void* byte) const {
    return Pfn(
        static_cast<u32>(static_cast<u64>(static_cast<const u8*>(byte) - base_) >> kPageShift));
  }

  // Asks the budget for up to `want` frames; returns how many were granted (0 = none now).
  virtual PageCount acquire_quota(PageCount want) = 0;
  // Gives granted frames back to the budget.
  virtual void release_quota(PageCount count) = 0;
  // Frames that others in the budget are waiting for, and that this System should give back
  // as soon as it can. 0 when nobody is in need.
  virtual PageCount quota_wanted_back() = 0;

  // Puts memory behind [first, first+count), all offline and covered by granted quota. The
  // frames read as zero afterwards. Fails with no_memory, changing nothing.
  virtual Status bring_online(Pfn first, PageCount count) = 0;
  // Takes the memory away; the bytes are lost. Does not release quota.
  virtual void take_offline(Pfn first, PageCount count) = 0;

 protected:
  Frames() = default;
  ~Frames() = default;
  u8* base_ = nullptr;
  PageCount count_;
};

}  // namespace spillway
