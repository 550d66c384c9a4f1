#include "machine_sim/sim_machine.h"

#include <algorithm>
#include <cstdlib>

namespace spillway {
namespace {

// One fault per page is the rule; a page may need a second one (first to be mapped, then to be
// made writable), and pages ahead may push out pages behind, so some slack is given. An access
// that needs more makes no progress.
constexpr u64 kFaultsPerPageMax = 8;

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
SimAccess SimMachine::retry(FaultSink& sink, SpaceId space, u64 bytes, u32 attempt,
                            Try try_access) {
  const u64 faults_max = (bytes / kPageSize + 2) * kFaultsPerPageMax;
  for (u32 faults = 0;; ++faults) {
    const std::optional<SimFault> fault = try_access();
    if (!fault.has_value()) return SimAccess{FaultOutcome::done, VirtAddr(0), faults};
    if (faults == faults_max) SPW_PANIC("sim: an access makes no progress");
    // Only the first fault of this round can be the one that waited before.
    const FaultOutcome outcome =
        sink.on_fault(space, fault->va, fault->access, faults == 0 ? attempt : 0);
    if (outcome != FaultOutcome::done) return SimAccess{outcome, fault->va, faults + 1};
  }
}

SimAccess SimMachine::load(FaultSink& sink, SpaceId space, VirtAddr va, void* out, u64 bytes,
                           u32 attempt) {
  return retry(sink, space, bytes, attempt,
               [&] { return mmu_.load(cpus_.current(), space, va, out, bytes); });
}

SimAccess SimMachine::store(FaultSink& sink, SpaceId space, VirtAddr va, const void* data,
                            u64 bytes, u32 attempt) {
  return retry(sink, space, bytes, attempt,
               [&] { return mmu_.store(cpus_.current(), space, va, data, bytes); });
}

SimAccess SimMachine::fetch(FaultSink& sink, SpaceId space, VirtAddr va, void* out, u64 bytes,
                            u32 attempt) {
  return retry(sink, space, bytes, attempt,
               [&] { return mmu_.fetch(cpus_.current(), space, va, out, bytes); });
}

}  // namespace spillway
