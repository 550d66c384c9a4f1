// SimMachine: the deterministic machine. It owns frames, MMU, swap device, virtual clock, CPUs and
// boot memory, and offers them as the port `machine()`. Nothing happens behind the caller's back:
// time passes in advance() and complete_one() only, and there is one thread.
#pragma once

#include <optional>
#include <vector>

#include "machine/fault_sink.h"
#include "machine/machine.h"
#include "machine_sim/fault_plan.h"
#include "machine_sim/sim_config.h"
#include "machine_sim/sim_disk.h"
#include "machine_sim/sim_frames.h"
#include "machine_sim/sim_mmu.h"

namespace spillway {

class SimClock final : public Clock {
 public:
  u64 now_ns() override { return now_ns_; }
  const u64& time() const { return now_ns_; }
  void set(u64 ns) {
    SPW_ASSERT_LE(now_ns_, ns);
    now_ns_ = ns;
  }

 private:
  u64 now_ns_ = 1'000'000'000;  // one second: a moment 0 would hide uninitialised times
};

class SimCpus final : public Cpus {
 public:
  explicit SimCpus(u32 count) { count_ = count; }
  u32 current() override { return current_; }
  void set_current(u32 cpu) {
    SPW_ASSERT_LT(cpu, count_);
    current_ = cpu;
  }

 private:
  u32 current_ = 0;
};

class SimBoot final : public BootMemory {
 public:
  explicit SimBoot(u64 bytes_max) : left_(bytes_max) {}
  ~SimBoot();
  SimBoot(const SimBoot&) = delete;
  SimBoot& operator=(const SimBoot&) = delete;
  void* alloc(u64 bytes, u64 align) override;

 private:
  u64 left_;
  std::vector<void*> blocks_;
};

// How an access of a program ended, its faults included.
struct SimAccess {
  FaultOutcome outcome;  // done: the whole access happened
  VirtAddr va;           // otherwise: the address that faulted
  u32 faults;            // that the sink resolved or refused
};

class SimMachine {
 public:
  explicit SimMachine(const SimConfig& config);

  Machine& machine() { return machine_; }
  const SimConfig& config() const { return config_; }
  SimFrames& frames() { return frames_; }
  SimMmu& mmu() { return mmu_; }
  SimClock& clock() { return clock_; }
  SimCpus& cpus() { return cpus_; }
  SimBoot& boot() { return boot_; }
  const SimFrames& frames() const { return frames_; }
  FaultPlan& failures() { return plan_; }
  // Only on machines with disk_pages != 0.
  SimDisk& disk() { return *disk_; }
  const SimMmu& mmu() const { return mmu_; }
  const FaultPlan& failures() const { return plan_; }
  const SimDisk& disk() const { return *disk_; }
  bool has_disk() const { return disk_.has_value(); }

  // Lets `ns` pass and ends the requests that fall due meanwhile, each at its own time.
  void advance(u64 ns);
  // Moves the clock to the next completion and ends that request. False: none is in flight.
  bool complete_one();
  u32 pending() const { return disk_.has_value() ? disk_->in_flight() : 0; }

  // An access by a program on the current CPU, with faults handed to `sink` until it succeeds or
  // the sink has another answer. After `wait` the caller completes an I/O and calls again with
  // `attempt` one higher; the access starts over. `bytes` may span pages.
  SimAccess load(FaultSink& sink, SpaceId space, VirtAddr va, void* out, u64 bytes,
                 u32 attempt = 0);
  SimAccess store(FaultSink& sink, SpaceId space, VirtAddr va, const void* data, u64 bytes,
                  u32 attempt = 0);

 private:
  template <class Try>
  SimAccess retry(FaultSink& sink, SpaceId space, u64 bytes, u32 attempt, Try try_access);

  const SimConfig config_;
  FaultPlan plan_;
  SimClock clock_;
  SimCpus cpus_;
  SimBoot boot_;
  SimFrames frames_;
  SimMmu mmu_;
  std::optional<SimDisk> disk_;
  Machine machine_;
};

}  // namespace spillway
