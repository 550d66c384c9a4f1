// SimMachine: the deterministic machine. It owns frames, MMU, swap device, virtual clock, CPUs and
// boot memory, and offers them as the port `machine()`. Nothing happens behind the caller's back:
// time passes in advance() and complete_one() only, and there is one thread.
#pragma once

#include <deque>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
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
  // The swap device; only on machines with disk_pages != 0. Its failures are those of the
  // machine, failures().
  SimDisk& disk() { return *disk_; }
  const SimMmu& mmu() const { return mmu_; }
  const FaultPlan& failures() const { return plan_; }
  const SimDisk& disk() const { return *disk_; }
  bool has_disk() const { return disk_.has_value(); }
  // The plain block devices, each with a FaultPlan of its own.
  u32 block_count() const { return static_cast<u32>(blocks_.size()); }
  SimDisk& block(u32 i) { return blocks_[i].disk; }
  const SimDisk& block(u32 i) const { return blocks_[i].disk; }
  // The device of this name ("swap", "block0", ...); null when there is none.
  SimDisk* find_disk(std::string_view name);
  // Every failure that was armed anywhere is called off.
  void disarm_all();

  // Lets `ns` pass and ends the requests that fall due meanwhile, each at its own time. Of two
  // devices with requests due at the same moment the swap device is first, then the plain ones
  // in order of their numbers.
  void advance(u64 ns);
  // Moves the clock to the next completion and ends that request. False: none is in flight.
  bool complete_one();
  // Requests in flight on all devices.
  u32 pending() const;

  // An access by a program on the current CPU, with faults handed to `sink` until it succeeds or
  // the sink has another answer. `bytes` may span pages: they are accessed one after the other,
  // each once, with faults of their own. After `wait` the caller completes an I/O and calls again
  // with `attempt` one higher, for the whole access or for what is left from SimAccess::va on;
  // `attempt` reaches the sink for the page that waited only. An access of more pages than the
  // budget has frames succeeds in the second way only.
  SimAccess load(FaultSink& sink, SpaceId space, VirtAddr va, void* out, u64 bytes,
                 u32 attempt = 0);
  SimAccess store(FaultSink& sink, SpaceId space, VirtAddr va, const void* data, u64 bytes,
                  u32 attempt = 0);
  // As load, as what fetches instructions.
  SimAccess fetch(FaultSink& sink, SpaceId space, VirtAddr va, void* out, u64 bytes,
                  u32 attempt = 0);

 private:
  struct Block {
    Block(const SimConfig& config, u32 number, SimFrames& frames, const u64& now_ns)
        : disk(config, number, frames, plan, now_ns) {}
    FaultPlan plan;
    SimDisk disk;
  };
  // The device whose next completion is first; null when nothing is in flight.
  SimDisk* first_due();
  template <class Try>
  SimAccess retry(FaultSink& sink, SpaceId space, VirtAddr va, u64 bytes, u32 attempt,
                  Try try_access);
  void forget_waits(SpaceId space, VirtAddr va, u64 bytes);

  const SimConfig config_;
  FaultPlan plan_;
  SimClock clock_;
  SimCpus cpus_;
  SimBoot boot_;
  SimFrames frames_;
  SimMmu mmu_;
  std::optional<SimDisk> disk_;
  std::deque<Block> blocks_;             // its elements never move
  std::set<std::pair<u16, u64>> waits_;  // space and page of faults that ended with `wait`
  Machine machine_;
};

}  // namespace spillway
