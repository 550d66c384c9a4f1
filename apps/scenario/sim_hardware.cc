#include "scenario/sim_hardware.h"

namespace spillway {

void SimHardware::CountingDevice::submit(IoRequest& request) {
  const bool reads = request.op == IoOp::read;
  (reads ? counts.reads : counts.writes) += 1;
  (reads ? counts.pages_read : counts.pages_written) += request.count;
  device.submit(request);
}

Result<Kernel*> SimHardware::boot(const Stage& stage, Counters& counters, TraceSink& trace,
                                  WalkSink* walk) {
  SimConfig config;
  config.seed = stage.seed;
  config.frames = stage.frames;
  config.cpus = stage.cpus;
  config.block_pages = stage.swap_pages;
  if (stage.file_pages != 0) config.block_pages.push_back(stage.file_pages);
  for (const u64 pages : stage.disk_pages) config.block_pages.push_back(pages);
  // Equal times keep order, which is what a reader expects.
  config.disk_latency_min_ns = stage.latency_ns;
  config.disk_latency_max_ns = stage.latency_ns;
  machine_ = std::make_unique<SimMachine>(config);
  Machine& machine = machine_->machine();
  for (u32 i = 0; i < machine.block_device_count; ++i) {
    devices_.emplace_back(*machine.block_devices[i]);
    machine.block_devices[i] = &devices_.back();
  }
  SPW_TRY_ASSIGN(kernel, Kernel::boot(machine, stage.kernel, counters, trace, walk));
  kernel_ = kernel;
  return kernel;
}

Hardware::AccessEnd SimHardware::access(Access access, SpaceId space, VirtAddr va, u8* bytes,
                                        u64 count, u32 attempt) {
  SimAccess end{};
  switch (access) {
    case Access::read: end = machine_->load(*kernel_, space, va, bytes, count, attempt); break;
    case Access::write: end = machine_->store(*kernel_, space, va, bytes, count, attempt); break;
    case Access::exec: end = machine_->fetch(*kernel_, space, va, bytes, count, attempt); break;
  }
  return {end.outcome, end.va};
}

void SimHardware::fail(u32 device, IoFailure failure, const Arm& arm) {
  constexpr Failure kFailures[] = {Failure::read_io,    Failure::write_io,
                                   Failure::write_torn, Failure::write_lost,
                                   Failure::read_flip,  Failure::write_no_space};
  FaultPlan& plan = machine_->block(device).failures();
  const Failure what = kFailures[static_cast<u32>(failure)];
  if (arm.by_block) {
    plan.fail_block(what, arm.block);
  } else {
    plan.arm(what, arm.nth, arm.times);
  }
}

}  // namespace spillway
