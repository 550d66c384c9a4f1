// The machine: the one port between the memory manager and what it runs on. machine_sim and
// machine_host implement it; machine/conformance.h states in code what both must do.
#pragma once

#include "machine/block_device.h"
#include "machine/features.h"
#include "machine/frames.h"
#include "machine/mmu.h"

namespace spillway {

class Clock {
 public:
  // Nanoseconds since some fixed moment; never goes back.
  virtual u64 now_ns() = 0;

 protected:
  ~Clock() = default;
};

class Cpus {
 public:
  u32 count() const { return count_; }
  // The CPU that the caller runs on: a hint, it may be stale as soon as it is returned.
  virtual u32 current() = 0;

 protected:
  ~Cpus() = default;
  u32 count_ = 1;
};

// Memory for what exists as long as the machine: the frame table and the System itself.
class BootMemory {
 public:
  // `bytes` zeroed bytes, aligned to `align` (a power of two, at most a page). Machines back it
  // lazily. Null when there is no room. Never freed.
  virtual void* alloc(u64 bytes, u64 align) = 0;

 protected:
  ~BootMemory() = default;
};

struct Machine {
  static constexpr u32 kBlockDevicesMax = 8;

  Features features;
  Frames& frames;
  Mmu& mmu;
  Clock& clock;
  Cpus& cpus;
  BootMemory& boot;
  // The log-structured swap file's device, with segments to claim. Null: no disk tier.
  BlockDevice* swap_device = nullptr;
  // Plain devices, for swap areas with slots of their own and for file systems; the first
  // block_device_count are there. Nobody claims segments on them, and pages that were never
  // written read as zeros.
  BlockDevice* block_devices[kBlockDevicesMax] = {};
  u32 block_device_count = 0;
};

}  // namespace spillway
