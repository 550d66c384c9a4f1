// ArenaMachine: a machine without programs, for those who use Spillway as a library of caches: the
// mount command, benchmarks. Its frames are one anonymous mapping, which bounds the memory that the
// caches can take; its block devices are files or disks of the host. It has no MMU: no space can be
// made on it. It has no swap device.
//
// Nothing happens behind the caller's back: requests end in run_completions(), which the caller
// runs under the engine lock, for instance whenever a call returned Error::wait (until_done).
// Thread safety: the engine lock, but for the clock and the CPU's number.
#pragma once

#include "machine_arena/arena_device.h"
#include "machine_arena/arena_parts.h"

namespace spillway {

struct ArenaConfig {
  PageCount frames{16384};  // the budget: 64 MiB
  u32 cpus = 1;             // slots for threads; no more than threads that call
  // Address space for boot memory. It costs nothing until it is touched; the default has room for
  // the tables of some TiB of frames.
  u64 boot_bytes_max = u64{1} << 36;
};

class ArenaMachine {
 public:
  // Rounds of until_done, each of which ended an I/O or called `idle`: more than any one call can
  // need, so that a call which makes no progress ends as an error.
  static constexpr u32 kRoundsMax = 1'000'000;
  // Rounds in a row without any I/O to wait for.
  static constexpr u32 kIdleRoundsMax = 64;

  ArenaMachine();
  ArenaMachine(const ArenaMachine&) = delete;
  ArenaMachine& operator=(const ArenaMachine&) = delete;

  // Once, before anything else. no_memory: no address space. invalid: no frames or no CPU.
  Status prepare(const ArenaConfig& config);
  // Adds a block device and returns its number in Machine::block_devices. As ArenaDevice::open;
  // too_many_files: there are kBlockDevicesMax.
  Result<u32> add_device(const char* path, DeviceAccess access);
  // Closes the device, whose requests have ended; its number is not used again.
  void close_device(u32 number);

  Machine& machine() { return machine_; }
  ArenaFrames& frames() { return frames_; }
  ArenaBoot& boot() { return boot_; }
  ArenaDevice& device(u32 number);

  // Ends up to `max` requests of all devices; returns how many, 0 when none was in flight.
  u32 run_completions(u32 max = ~u32{0});
  // Makes durable what was written to the device by requests that have ended.
  Status sync_device(u32 number) { return device(number).sync(); }

  // Repeats `call`, which returns a Status or Result, while it returns Error::wait, ending I/O
  // between; with none in flight, calls `idle` (a background step of the System). Error::wait
  // after kIdleRoundsMax rounds without I/O or kRoundsMax altogether.
  template <class Call, class Idle>
  auto until_done(Call call, Idle idle) -> decltype(call()) {
    u32 idle_rounds = 0;
    for (u32 round = 0; round < kRoundsMax; ++round) {
      auto result = call();
      if (result.ok() || result.error() != Error::wait) return result;
      if (run_completions() != 0) {
        idle_rounds = 0;
      } else if (++idle_rounds == kIdleRoundsMax) {
        break;
      } else {
        idle();
      }
    }
    return Error::wait;
  }
  template <class Call>
  auto until_done(Call call) -> decltype(call()) {
    return until_done(call, [] {});
  }

 private:
  ArenaFrames frames_;
  ArenaMmu mmu_;
  ArenaClock clock_;
  ArenaCpus cpus_;
  ArenaBoot boot_;
  ArenaDevice devices_[Machine::kBlockDevicesMax];
  Machine machine_;
};

}  // namespace spillway
