// KernelBed: a simulated machine with a Kernel on it, and programs that touch memory on it. Every
// call is repeated while it must wait, after an I/O has ended or a daemon has run.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "machine_sim/sim_machine.h"
#include "system/kernel.h"

namespace spillway {

struct KernelBedConfig {
  u64 frames = 1024;
  std::vector<u64> disks = {4096, 4096};  // device 0 holds files; the others can be swapped on
  bool swap = true;                       // device 1 is switched on
  Policy policy = Policy::three_queue;
  KernelConfig kernel;
  u64 seed = 1;
};

class KernelBed {
 public:
  static constexpr u32 kTries = 20'000;

  explicit KernelBed(const KernelBedConfig& config = {}) : sim_(sim_config(config)) {
    KernelConfig kernel = config.kernel;
    kernel.mm.policy = config.policy;
    kernel.mm.swap_readahead = SwapReadahead::cluster;
    kernel.mm.fresh_around_max = 0;
    kernel.mm.readahead_min = kernel.mm.readahead_max = 1;
    kernel.mm.mlock_max = PageCount(~u64{0});
    kernel.mm.slots_max = 4096;
    kernel.file_device = config.disks.empty() ? KernelConfig::kNoDevice : 0;
    if (kernel.mm.watermark_high.v == 0) {
      kernel.mm.watermark_min = PageCount(10);
      kernel.mm.watermark_low = PageCount(20);
      kernel.mm.watermark_high = PageCount(30);
    }
    kernel_ = Kernel::boot(sim_.machine(), kernel, counters_, ring_, nullptr).value();
    if (config.swap && config.disks.size() > 1) swap_on(1);
  }
  static SimConfig sim_config(const KernelBedConfig& config) {
    SimConfig sim;
    sim.seed = config.seed;
    sim.frames = PageCount(config.frames);
    sim.block_pages = config.disks;
    return sim;
  }

  Kernel& kernel() { return *kernel_; }
  SimMachine& sim() { return sim_; }
  u64 count(Counter c) const {
    kernel_->fold_counters();
    return counters_[c];
  }

  // Repeats `call` (a Result or Status) while it says wait.
  template <class Call>
  auto wait_for(Call call) {
    auto result = call();
    for (u32 i = 0; i < kTries && !result.ok() && result.error() == Error::wait; ++i) {
      make_progress();
      result = call();
    }
    return result;
  }
  void make_progress() {
    if (sim_.complete_one()) return;
    if (kernel_->wanted(Daemon::kswapd)) (void)kernel_->step(Daemon::kswapd);
    sim_.advance(1'000'000);
  }
  // Everything in flight ends.
  void settle() {
    while (sim_.complete_one()) {
    }
  }
  void swap_on(u32 device, i32 priority = -1) {
    ASSERT_TRUE(wait_for([&] { return kernel_->mkswap(device); }).ok());
    ASSERT_TRUE(wait_for([&] { return kernel_->swapon(device, priority); }).ok());
  }

  Pid spawn(const char* name = "test") {
    const Pid pid = wait_for([&] { return kernel_->spawn(name); }).value();
    kernel_->set_catches(pid, true);
    return pid;
  }
  // Where a private anonymous mapping of so many pages came to lie.
  u64 map(Pid pid, u64 pages, u32 prot = 3, u32 flags = kMapPrivate | kMapAnonymous) {
    return wait_for([&] { return kernel_->mmap(pid, 0, pages * kPageSize, prot, flags, -1, 0); })
        .value();
  }

  // A program's access; what ended it. A signal is raised as a kernel would.
  SignalInfo access(Pid pid, u64 addr, void* bytes, u64 size, Access how) {
    sim_.cpus().set_current(0);
    kernel_->run_on(0, pid);
    const SpaceId space = kernel_->space_of(pid);
    SimAccess done{};
    for (u32 attempt = 0; attempt < kTries; ++attempt) {
      switch (how) {
        case Access::read:
          done = sim_.load(*kernel_, space, VirtAddr(addr), bytes, size, attempt);
          break;
        case Access::write:
          done = sim_.store(*kernel_, space, VirtAddr(addr), bytes, size, attempt);
          break;
        case Access::exec:
          done = sim_.fetch(*kernel_, space, VirtAddr(addr), bytes, size, attempt);
          break;
      }
      if (done.outcome != FaultOutcome::wait) break;
      make_progress();
    }
    EXPECT_NE(done.outcome, FaultOutcome::wait) << "no end of waiting at " << addr;
    if (done.outcome == FaultOutcome::done) return {};
    return kernel_->raise(pid, done.outcome, done.va);
  }
  SignalInfo store(Pid pid, u64 addr, u8 value) {
    return access(pid, addr, &value, 1, Access::write);
  }
  // The byte there, or -1 after a signal.
  int load(Pid pid, u64 addr) {
    u8 value = 0;
    return access(pid, addr, &value, 1, Access::read).signo == Signal::none ? value : -1;
  }
  // Fills pages with bytes that tell where they belong, and checks them.
  static u8 mark(Pid pid, u64 page, u64 round) {
    return static_cast<u8>(1 + (page * 31 + pid.v * 7 + round * 13) % 255);
  }
  void fill(Pid pid, u64 addr, u64 pages, u64 round = 0) {
    for (u64 i = 0; i < pages; ++i) {
      std::vector<u8> page(kPageSize, mark(pid, i, round));
      ASSERT_EQ(access(pid, addr + i * kPageSize, page.data(), kPageSize, Access::write).signo,
                Signal::none)
          << "page " << i;
    }
  }
  bool holds(Pid pid, u64 addr, u64 pages, u64 round = 0, Pid owner = {}) {
    const Pid who = owner.valid() ? owner : pid;
    for (u64 i = 0; i < pages; ++i) {
      std::vector<u8> page(kPageSize);
      if (access(pid, addr + i * kPageSize, page.data(), kPageSize, Access::read).signo !=
          Signal::none) {
        return false;
      }
      if (page != std::vector<u8>(kPageSize, mark(who, i, round))) return false;
    }
    return true;
  }

  PteView entry(Pid pid, u64 addr) { return kernel_->entry(pid, VirtAddr(addr).vpn()); }
  FrameView frame(Pid pid, u64 addr) { return kernel_->frame(entry(pid, addr).pfn); }
  TaskView task(Pid pid) {
    std::vector<TaskView> all(Kernel::kTasksMax);
    const u32 n = kernel_->tasks(all.data(), Kernel::kTasksMax);
    for (u32 i = 0; i < n; ++i) {
      if (all[i].pid == pid.v) return all[i];
    }
    ADD_FAILURE() << "no task " << pid.v;
    return {};
  }
  std::vector<AreaView> areas(Pid pid) {
    std::vector<AreaView> all(kernel_->areas(pid, nullptr, 0));
    (void)kernel_->areas(pid, all.data(), static_cast<u32>(all.size()));
    return all;
  }
  u64 free_frames() { return kernel_->meminfo().mem_free; }
  std::string audit() {
    const AuditReport report = kernel_->audit();
    if (report.ok) return "";
    return std::string(report.what) + " " + std::to_string(report.left) + " " +
           std::to_string(report.right);
  }

 private:
  SimMachine sim_;
  Counters counters_{};
  EventRing ring_;
  Kernel* kernel_ = nullptr;
};

}  // namespace spillway
