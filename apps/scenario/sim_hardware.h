// SimHardware: the simulated machine as scenarios see it (workload/hardware.h), with its block
// devices counted. One for each run.
#pragma once

#include <deque>
#include <memory>

#include "machine_sim/sim_machine.h"
#include "workload/hardware.h"

namespace spillway {

class SimHardware final : public Hardware {
 public:
  Result<Kernel*> boot(const Stage& stage, Counters& counters, TraceSink& trace,
                       WalkSink* walk) override;
  void set_cpu(u32 cpu) override { machine_->cpus().set_current(cpu); }
  AccessEnd access(Access access, SpaceId space, VirtAddr va, u8* bytes, u64 count,
                   u32 attempt) override;
  u64 now_ns() override { return machine_->clock().time(); }
  void advance(u64 ns) override { machine_->advance(ns); }
  bool complete_one() override { return machine_->complete_one(); }
  DeviceCounts counts(u32 device) override { return devices_[device].counts; }
  void fail(u32 device, IoFailure failure, const Arm& arm) override;
  void repair(u32 device) override { machine_->block(device).failures().disarm_all(); }

 private:
  // A device that counts what is asked of it.
  struct CountingDevice final : BlockDevice {
    explicit CountingDevice(BlockDevice& d) : device(d) { size_ = d.size(); }
    void submit(IoRequest& request) override;
    u32 in_flight() const override { return device.in_flight(); }
    Result<u64> claim_segment() override { return device.claim_segment(); }
    void release_segment(u64 segment) override { device.release_segment(segment); }
    bool sole_owner(u64 segment) const override { return device.sole_owner(segment); }

    BlockDevice& device;
    DeviceCounts counts;
  };

  std::unique_ptr<SimMachine> machine_;
  std::deque<CountingDevice> devices_;  // its elements never move
  Kernel* kernel_ = nullptr;
};

}  // namespace spillway
