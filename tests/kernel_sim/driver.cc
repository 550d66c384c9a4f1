#include "driver.h"

#include <algorithm>

#include "programs.h"

namespace spillway::ksim {
namespace {

// Rounds of I/O, background work and retries without any progress after which a task that waits
// is stuck. A single fault on a full machine takes tens of rounds.
constexpr u32 kRoundsMax = 4'000;
// From this round on devices let go of what they hold: they do not hold pages for ever.
constexpr u32 kUnpinRound = 50;
// Rounds between two steps of daemons while I/O is in flight.
constexpr u32 kDaemonsEvery = 8;
constexpr u32 kSettleStepsMax = 20'000;
// A moment, where no I/O is in flight to wait for.
constexpr u64 kMomentNs = 1'000'000;
constexpr Daemon kDaemons[] = {Daemon::kswapd, Daemon::kreclaimd, Daemon::flush};

}  // namespace

Driver::Driver(const Setup& setup) : Bench(setup) {}

void Driver::note(const Result<u64>& result) {
  note(result.ok() ? result.value() : u64{1} << 63 | static_cast<u64>(result.error()));
}

bool Driver::boot() {
  const Result<Kernel*> kernel =
      Kernel::boot(sim_.machine(), setup_.kernel(), counters_, events_, nullptr);
  if (!kernel.ok()) {
    if (kernel.error() == Error::not_supported) return false;
    if (setup_.frames >= System::minimum_frames().v) fail("boot refused: enough frames are there");
    return false;
  }
  kernel_ = kernel.value();
  for (u32 d = 1; d < setup_.devices(); ++d) {
    if (!to_the_end("mkswap", [&] { return kernel_->mkswap(d); }).ok()) fail("mkswap refused");
  }
  prepare_programs();
  audit();
  at_boot_ = kernel_->meminfo();
  return true;
}

// Programs are files that somebody wrote before the case begins.
void Driver::prepare_programs() {
  const Pid pid = to_the_end("spawn", [&] { return kernel_->spawn("init"); }).value();
  for (u32 i = 0; i < kPrograms; ++i) {
    const u32 file = kFirstProgram + i;
    const std::string name = "f" + std::to_string(file);
    const std::vector<u8> bytes = make_elf(program_parts(i)).bytes;
    if (!kernel_->create_file(name.c_str(), bytes.size(), 0).ok()) continue;
    const i32 fd = static_cast<i32>(kernel_->open(pid, name.c_str(), kOpenReadWrite).value());
    u64 done = 0;
    const Result<u64> written = to_the_end(
        "pwrite", [&] { return kernel_->pwrite(pid, fd, bytes.data(), bytes.size(), 0, &done); });
    if (!written.ok() || written.value() != bytes.size()) fail("a program cannot be written");
    if (!to_the_end("fsync", [&] { return kernel_->fsync(pid, fd); }).ok()) fail("fsync refused");
    ObjectPtr object = std::make_shared<Object>();
    object->kind = ObjectKind::file;
    object->number = file;
    object->size_bytes = bytes.size();
    object->capacity_pages = pages_for(bytes.size()).v;
    for (u64 at = 0; at < bytes.size(); at += kPageSize) {
      object->store(at / kPageSize, 0, &bytes[at], std::min(kPageSize, bytes.size() - at));
    }
    world_.files[file] = object;
    if (!kernel_->close(pid, fd).ok()) fail("close refused");
  }
  kernel_->exit(pid, 0);
  if (!kernel_->reap(pid).ok()) fail("reap refused");
}

void Driver::run(const Op& op) {
  ++ops_run_;
  note(static_cast<u64>(op.kind));
  // An OOM gives a swapoff up; its next try says so, when there may be enough again.
  if (swapoff_.has_value()) swapoff_short_ = swapoff_short_ || swapoff_lacks_memory();
  if (by_task(op.kind)) {
    if (op.task < kSlotsMax) run_task_op(op.task, op);
  } else {
    run_machine_op(op);
  }
  find_victims();
  forget_removed_segments();
  note(sim_.clock().now_ns());
  if (by_task(op.kind) && world_.at(op.task) != nullptr) check_areas(op.task);
  if (ops_run_ % setup_.audit_every == 0) audit();
}

void Driver::run_task_op(u32 slot, const Op& op) {
  if (op.kind == OpKind::spawn) {
    if (world_.at(slot) == nullptr) spawn(slot);
    return;
  }
  if (world_.at(slot) == nullptr) return;
  if (op.kind == OpKind::retry) {
    if (waiting_[slot].has_value()) try_once(slot);
    return;
  }
  if (waiting_[slot].has_value()) drive(slot);
  if (world_.at(slot) == nullptr) return;
  switch (op.kind) {
    case OpKind::load:
    case OpKind::store:
    case OpKind::fetch:
    case OpKind::pread:
    case OpKind::pwrite:
    case OpKind::fsync:
    case OpKind::msync:
      waiting_[slot] = Waiting{op};
      try_once(slot);
      return;
    case OpKind::push: {
      Proc& proc = *world_.at(slot);
      if (op.len > proc.sp) return;
      proc.sp -= op.len;
      kernel_->set_stack_pointer(proc.pid, VirtAddr(proc.sp));
      waiting_[slot] = Waiting{op};
      waiting_[slot]->op.kind = OpKind::store;
      waiting_[slot]->op.at = proc.sp;
      try_once(slot);
      return;
    }
    case OpKind::open:
    case OpKind::close:
    case OpKind::ftruncate:
    case OpKind::unlink: run_file_op(slot, op); return;
    case OpKind::shmget:
    case OpKind::shmat:
    case OpKind::shmdt:
    case OpKind::shmctl: run_segment_op(slot, op); return;
    case OpKind::brk: run_brk(slot, op); return;
    case OpKind::mincore: run_mincore(slot, op); return;
    case OpKind::mmap:
    case OpKind::munmap:
    case OpKind::mprotect:
    case OpKind::mremap:
    case OpKind::madvise:
    case OpKind::mlock:
    case OpKind::munlock:
    case OpKind::mlockall:
    case OpKind::munlockall: run_memory_call(slot, op); return;
    default: run_process_op(slot, op); return;
  }
}

Driver::Step Driver::perform(u32 slot, Waiting* w) {
  switch (w->op.kind) {
    case OpKind::pread: return perform_pread(slot, w);
    case OpKind::pwrite: return perform_pwrite(slot, w);
    case OpKind::fsync: return perform_fsync(slot, w);
    case OpKind::msync: return perform_msync(slot, w);
    default: return perform_access(slot, w);
  }
}

void Driver::try_once(u32 slot) {
  // A copy: the operation may end its own process, and what waits goes with it.
  Waiting w = *waiting_[slot];
  const Step step = perform(slot, &w);
  if (!waiting_[slot].has_value()) return;
  if (step == Step::wait) {
    ++w.attempt;
    waiting_[slot] = w;
    note(0x3A17);
  } else {
    waiting_[slot].reset();
  }
}

// Runs the task's operation to its end.
void Driver::drive(u32 slot) {
  u64 progress = waiting_[slot]->progress;
  for (u32 round = 0; waiting_[slot].has_value(); ++round) {
    if (round == kRoundsMax) fail("no progress: " + print(waiting_[slot]->op));
    let_something_happen(round);
    try_once(slot);
    find_victims();
    if (!waiting_[slot].has_value() || waiting_[slot]->progress == progress) continue;
    progress = waiting_[slot]->progress;
    round = 0;
  }
}

// What a machine does while a task waits: an I/O ends, or a moment passes. Daemons work when there
// is no I/O to wait for, and now and then besides; between every I/O and the retry they would take
// away what has just come in.
void Driver::let_something_happen(u32 round) {
  if (round == kUnpinRound) sim_.mmu().unpin_all();
  const bool io = sim_.complete_one();
  if (!io) sim_.advance(kMomentNs);
  if (io && round % kDaemonsEvery != kDaemonsEvery - 1) return;
  for (const Daemon daemon : kDaemons) {
    if (kernel_->wanted(daemon)) (void)kernel_->step(daemon);
  }
}

void Driver::settle() {
  for (u32 step = 0; step < kSettleStepsMax; ++step) {
    while (sim_.complete_one()) {
    }
    bool more = false;
    for (const Daemon daemon : kDaemons) {
      if (daemon != Daemon::flush && !kernel_->wanted(daemon)) continue;
      if (kernel_->step(daemon)) more = true;
    }
    if (!more && sim_.pending() == 0) return;
  }
  fail("background work never ends");
}

void Driver::run_daemon(Daemon daemon, u64 steps) {
  for (u64 i = 0; i < steps; ++i) {
    if (!kernel_->step(daemon)) return;
  }
}

void Driver::arm(const Op& op) {
  if (op.number == 0) return;
  if (op.device == kTierDevice) {
    sim_.failures().arm(op.failure, op.number, op.times);
    return;
  }
  // Files have no checksums: what their device damages in silence, nobody can know.
  const bool silent = op.failure == Failure::write_lost || op.failure == Failure::read_flip;
  if (op.device >= sim_.block_count() || (op.device == 0 && silent)) return;
  sim_.block(op.device).failures().arm(op.failure, op.number, op.times);
}

void Driver::run_machine_op(const Op& op) {
  switch (op.kind) {
    case OpKind::create: create_file(op); return;
    case OpKind::swapon: swap_on(op); return;
    case OpKind::swapoff:
      if (op.device >= setup_.devices() || op.device == 0 || swapoff_.has_value()) return;
      swapoff_ = op.device;
      (void)try_swapoff();
      return;
    case OpKind::swap_wait:
      if (swapoff_.has_value()) (void)try_swapoff();
      return;
    case OpKind::kswapd: run_daemon(Daemon::kswapd, op.number); return;
    case OpKind::kreclaimd: run_daemon(Daemon::kreclaimd, op.number); return;
    case OpKind::flush: run_daemon(Daemon::flush, op.number); return;
    case OpKind::age:
      for (u64 i = 0; i < op.number; ++i) kernel_->age();
      return;
    case OpKind::complete:
      for (u64 i = 0; i < op.number; ++i) sim_.complete_one();
      return;
    case OpKind::advance: sim_.advance(op.number); return;
    case OpKind::settle: settle(); return;
    case OpKind::unpin: sim_.mmu().unpin_all(); return;
    case OpKind::fail: arm(op); return;
    default: fail("not an operation of the machine: " + print(op));
  }
}

void Driver::finish() {
  if (kernel_ == nullptr) return;
  for (u32 slot = 0; slot < kSlotsMax; ++slot) {
    if (waiting_[slot].has_value()) drive(slot);
  }
  sim_.disarm_all();
  sim_.mmu().unpin_all();
  for (u32 round = 0; swapoff_.has_value(); ++round) {
    if (round == kRoundsMax) fail("no progress: swapoff");
    let_something_happen(round);
    (void)try_swapoff();
  }
  audit();
  verify_all();
  verify_files();
  end_everything();
  audit();
  check_nothing_is_left();
  for (const u64 value : counters_.value) note(value);
}

}  // namespace spillway::ksim
