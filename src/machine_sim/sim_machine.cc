#include "machine_sim/sim_machine.h"

#include <algorithm>
#include <cstdlib>

namespace spillway {
namespace {

// One fault per page is the rule; a page may need a second one (first to be mapped, then to be
// made writable), and others may take it away in between, so some slack is given. An access that
// needs more makes no progress.
constexpr u32 kFaultsPerPageMax = 16;

}  // namespace

SimBoot::~SimBoot() {
  for (void* block : blocks_) std::free(block);
}

void* SimBoot::alloc(u64 bytes, u64 align) {
  SPW_ASSERT_NE(align, 0U);
  SPW_ASSERT_EQ(align & (align - 1), 0U);
  SPW_ASSERT_LE(align, kPageSize);
  if (bytes > left_) return nullptr;
  // calloc backs large blocks lazily with zero pages; alignment is by hand for that reason.
  void* block = std::calloc(1, bytes + align);
  if (block == nullptr) return nullptr;
  blocks_.push_back(block);
  left_ -= bytes;
  return reinterpret_cast<void*>((reinterpret_cast<u64>(block) + align - 1) & ~(align - 1));
}

SimMachine::SimMachine(const SimConfig& config)
    : config_(config),
      cpus_(config.cpus),
      boot_(config.boot_bytes_max),
      frames_(config, plan_),
      mmu_(config, frames_, plan_),
      machine_{config.features, frames_, mmu_, clock_, cpus_, boot_, nullptr} {
  SPW_ASSERT_NE(config.cpus, 0U);
  SPW_ASSERT(!config.features.shared_frames || config.features.frame_bytes_while_mapped);
  SPW_ASSERT_LE(config.block_pages.size(), Machine::kBlockDevicesMax);
  if (config.disk_pages.v != 0) {
    disk_.emplace(config, SimDisk::kSwap, frames_, plan_, clock_.time());
    machine_.swap_device = &*disk_;
  }
  for (u32 i = 0; i < config.block_pages.size(); ++i) {
    SPW_ASSERT_NE(config.block_pages[i], 0U);
    machine_.block_devices[i] = &blocks_.emplace_back(config_, i, frames_, clock_.time()).disk;
  }
  machine_.block_device_count = block_count();
}

SimDisk* SimMachine::find_disk(std::string_view name) {
  if (disk_.has_value() && name == disk_->name()) return &*disk_;
  for (Block& b : blocks_) {
    if (name == b.disk.name()) return &b.disk;
  }
  return nullptr;
}

void SimMachine::disarm_all() {
  plan_.disarm_all();
  for (Block& b : blocks_) b.plan.disarm_all();
}

u32 SimMachine::pending() const {
  u32 requests = disk_.has_value() ? disk_->in_flight() : 0;
  for (const Block& b : blocks_) requests += b.disk.in_flight();
  return requests;
}

SimDisk* SimMachine::first_due() {
  SimDisk* first = nullptr;
  u64 due = ~u64{0};  // of a device without requests
  auto look = [&](SimDisk& disk) {
    if (disk.next_completion_ns() >= due) return;
    due = disk.next_completion_ns();
    first = &disk;
  };
  if (disk_.has_value()) look(*disk_);
  for (Block& b : blocks_) look(b.disk);
  return first;
}

void SimMachine::advance(u64 ns) {
  const u64 until = clock_.time() + ns;
  for (SimDisk* disk = first_due(); disk != nullptr && disk->next_completion_ns() <= until;
       disk = first_due()) {
    complete_one();
  }
  clock_.set(std::max(until, clock_.time()));
}

bool SimMachine::complete_one() {
  SimDisk* disk = first_due();
  if (disk == nullptr) return false;
  // A request submitted by a sink during advance() may be due at once, never in the past.
  clock_.set(std::max(clock_.time(), disk->next_completion_ns()));
  return disk->complete_one();
}

template <class Try>
SimAccess SimMachine::retry(FaultSink& sink, SpaceId space, VirtAddr va, u64 bytes, u32 attempt,
                            Try try_access) {
  u64 done = 0;
  u32 faults_of_page = 0;
  for (u32 faults = 0;; ++faults) {
    const std::optional<SimFault> fault = try_access(done);
    if (!fault.has_value()) {
      forget_waits(space, va, bytes);
      return SimAccess{FaultOutcome::done, VirtAddr(0), faults};
    }
    // What lies before the fault has happened and is not touched again, as in a program.
    if (fault->va != va + done) faults_of_page = 0;
    done = fault->va.v - va.v;
    if (faults_of_page++ == kFaultsPerPageMax) SPW_PANIC("sim: an access makes no progress");
    // Only a page that waited before is retried; the others meet their first fault.
    const bool waited = waits_.erase({space.v, fault->va.vpn().v}) != 0;
    const FaultOutcome outcome =
        sink.on_fault(space, fault->va, fault->access, waited ? attempt : 0);
    if (outcome == FaultOutcome::wait) waits_.insert({space.v, fault->va.vpn().v});
    if (outcome != FaultOutcome::done) return SimAccess{outcome, fault->va, faults + 1};
  }
}

void SimMachine::forget_waits(SpaceId space, VirtAddr va, u64 bytes) {
  if (waits_.empty() || bytes == 0) return;
  const auto first = waits_.lower_bound({space.v, va.vpn().v});
  waits_.erase(first, waits_.upper_bound({space.v, (va + (bytes - 1)).vpn().v}));
}

SimAccess SimMachine::load(FaultSink& sink, SpaceId space, VirtAddr va, void* out, u64 bytes,
                           u32 attempt) {
  return retry(sink, space, va, bytes, attempt, [&](u64 done) {
    return mmu_.load(cpus_.current(), space, va + done, static_cast<u8*>(out) + done, bytes - done);
  });
}

SimAccess SimMachine::store(FaultSink& sink, SpaceId space, VirtAddr va, const void* data,
                            u64 bytes, u32 attempt) {
  return retry(sink, space, va, bytes, attempt, [&](u64 done) {
    return mmu_.store(cpus_.current(), space, va + done, static_cast<const u8*>(data) + done,
                      bytes - done);
  });
}

SimAccess SimMachine::fetch(FaultSink& sink, SpaceId space, VirtAddr va, void* out, u64 bytes,
                            u32 attempt) {
  return retry(sink, space, va, bytes, attempt, [&](u64 done) {
    return mmu_.fetch(cpus_.current(), space, va + done, static_cast<u8*>(out) + done,
                      bytes - done);
  });
}

}  // namespace spillway
