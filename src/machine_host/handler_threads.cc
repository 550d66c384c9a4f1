#include "machine_host/handler_threads.h"

#include <poll.h>
#include <time.h>

#include "machine_host/engine_fds.h"
#include "machine_host/engine_lock.h"
#include "machine_host/syscalls.h"

namespace spillway {
namespace {

// Background steps done before the faulting thread is woken. Each frees a batch, so two keep
// pace with any fault; the rest is the keeper's.
constexpr u32 kStepsBeforeWake = 2;
// A fault that waits although nothing is in flight is tried again after this time.
constexpr u64 kRetryNs = 1'000'000;
// Each retry happens after a completion or after kRetryNs: so many mean half a minute of no
// progress for one fault, which is a bug rather than a slow disk.
constexpr u32 kAttemptsMax = 30'000;
// How long a process waits for others to give frames back before it counts as exhausted.
constexpr u64 kExhaustedPatienceNs = 3'000'000'000;
// How often the keeper looks when nobody calls it.
constexpr u64 kKeeperPeriodNs = 100'000'000;
// Background steps of the keeper in one go.
constexpr u32 kKeeperSteps = 256;
constexpr u64 kProgressTimeoutNs = 1'000'000;

void drain(int event_fd) {
  u64 count = 0;
  sys::read(event_fd, &count, sizeof(count));
}

}  // namespace

u64 host_now_ns() {
  // libc's clock_gettime reads the vdso and touches errno only when it fails, which it cannot.
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec);
}

Status HandlerThreads::start(const Parts& parts) {
  parts_ = parts;
  stopping_.store(false, std::memory_order_relaxed);
  ready_.store(0, std::memory_order_relaxed);
  int fds[static_cast<u32>(FdRole::kCount)];
  const u32 count = engine_fds(fds);
  SPW_TRY(handler_.start(handler_main, this, "spillway/fault", fds, count));
  // A child that ended before its entry in the table of segments is guarded would leak it.
  while (ready_.load(std::memory_order_acquire) == 0) {
    sys::futex_wait(&ready_, 0, 0, sys::Sharing::this_process);
  }
  const Status keeper = keeper_.start(keeper_main, this, "spillway/keep", fds, count);
  if (!keeper.ok()) {
    stop();
    return keeper;
  }
  return kOk;
}

void HandlerThreads::stop() {
  stopping_.store(true, std::memory_order_release);
  const u64 one = 1;
  sys::write(engine_fd(FdRole::event), &one, sizeof(one));
  handler_.join();
  if (keeper_.started()) {
    parts_.ledger->need_sequence.fetch_add(1, std::memory_order_acq_rel);
    sys::futex_wake(&parts_.ledger->need_sequence, ~u32{0} >> 1, sys::Sharing::processes);
    keeper_.join();
  }
}

void HandlerThreads::fork_child() {
  handler_.forget();
  keeper_.forget();
  waiting_count_ = 0;
  wake_count_ = 0;
  progress_waiters_.store(0, std::memory_order_relaxed);
}

void HandlerThreads::wait_for_progress(u32 seen) {
  progress_waiters_.fetch_add(1, std::memory_order_acq_rel);
  sys::futex_wait(&progress_, seen, kProgressTimeoutNs, sys::Sharing::this_process);
  progress_waiters_.fetch_sub(1, std::memory_order_acq_rel);
}

u64 HandlerThreads::poll_timeout_ns() {
  // debug_ style reads without the lock: this thread is the only one that writes the table.
  if (waiting_count_ == 0) return follower_.pair().active() ? ThreadPair::kQuietNs : 0;
  for (u32 i = 0; i < waiting_count_; ++i) {
    if (waiting_[i].exhausted) return 10 * kRetryNs;
  }
  return kRetryNs;
}

// The handler works only while a thread of the program waits for it, in place of that thread; but
// as a thread of its own it would queue behind every other program on the CPU, at every fault. A
// real-time priority puts it first, where that is permitted. A program that runs at a lower
// priority by its user's will keeps it.
void HandlerThreads::take_priority() {
  // Transfer threads hold spin locks: preempted by a real-time thread that waits for one, they
  // could not let go of it.
  if (parts_.device != nullptr && !parts_.device->uses_ring()) return;
  constexpr i64 kNiceZero = 20;  // the system call returns 20 - nice
  if (sys::call(SYS_getpriority, 0 /* PRIO_PROCESS */, 0) < kNiceZero) return;
  if (sys::call(SYS_sched_getscheduler, 0) != 0 /* SCHED_OTHER */) return;
  const i32 lowest = 1;
  constexpr int kFifoNotInherited = 0x40000001;  // SCHED_FIFO | SCHED_RESET_ON_FORK
  sys::call(SYS_sched_setscheduler, 0, kFifoNotInherited, &lowest);
}

void HandlerThreads::handle() {
  if (parts_.device != nullptr) parts_.device->segments().guard_with_this_thread();
  take_priority();
  ready_.store(1, std::memory_order_release);
  sys::futex_wake(&ready_, 1, sys::Sharing::this_process);
  const int uffd = engine_fd(FdRole::uffd);
  const int event = engine_fd(FdRole::event);
  pollfd polled[2] = {{uffd, POLLIN, 0}, {event, POLLIN, 0}};
  UffdFault faults[kFaultBatch];
  while (!stopping_.load(std::memory_order_acquire)) {
    const u64 timeout_ns = poll_timeout_ns();
    const sys::TimeSpec timeout = sys::time_spec(timeout_ns);
    const i64 ready =
        sys::call(SYS_ppoll, polled, 2, timeout_ns == 0 ? nullptr : &timeout, nullptr, 0);
    if (ready < 0 && ready != sys::kInterrupted && ready != sys::kAgain) {
      stop_internal("the fault handler cannot wait", static_cast<u64>(-ready));
    }
    const bool completed = ready > 0 && (polled[1].revents & POLLIN) != 0;
    if (completed) drain(event);
    i64 count = 0;
    if (ready > 0 && polled[0].revents != 0) {
      count = uffd_read(uffd, faults, kFaultBatch);
      if (count < 0 && count != sys::kAgain && count != sys::kInterrupted) {
        stop_internal("the userfaultfd cannot be read", static_cast<u64>(-count));
      }
      if (count < 0) count = 0;
    }
    const u64 now = host_now_ns();
    if (count > 0) follower_.follow(faults[0].thread, now);
    if (ready == 0) follower_.pair().quiet(now);
    serve(faults, static_cast<u32>(count), now, completed);
  }
}

void HandlerThreads::serve(const UffdFault* faults, u32 count, u64 now, bool completed) {
  {
    EngineGuard guard;
    HostBlockDevice::Round round(parts_.device);
    wake_count_ = 0;
    if (completed && parts_.device != nullptr && parts_.device->complete() > 0) {
      progress_.fetch_add(1, std::memory_order_acq_rel);
    }
    const u32 parked = waiting_count_;
    waiting_count_ = 0;
    for (u32 i = 0; i < parked; ++i) {
      Waiting fault = waiting_[i];
      ++fault.attempt;
      if (resolve(fault)) {
        note_wake(fault);
      } else {
        park(fault);
      }
    }
    for (u32 i = 0; i < count; ++i) {
      Waiting fault = {VirtAddr(faults[i].address), now, 0, faults[i].write, false};
      if (resolve(fault)) {
        note_wake(fault);
      } else {
        park(fault);
      }
    }
    round.flush();  // the disk works while we do
    if (count > 0 || completed) background_before_wake();
  }
  if (progress_waiters_.load(std::memory_order_acquire) > 0) {
    sys::futex_wake(&progress_, ~u32{0} >> 1, sys::Sharing::this_process);
  }
  if (wake_count_ == 0) return;
  for (u32 i = 0; i < wake_count_; ++i) {
    parts_.mmu->wake(parts_.space, VirtAddr(wakes_[i].va.v & ~kPageMask), PageCount(1));
  }
  const u64 end = host_now_ns();
  u64 waited = 0;
  for (u32 i = 0; i < wake_count_; ++i) waited += end - wakes_[i].since_ns;
  parts_.counters->add(Counter::wait_ns, waited);
}

void HandlerThreads::note_wake(const Waiting& fault) { wakes_[wake_count_++] = fault; }

void HandlerThreads::park(const Waiting& fault) {
  if (waiting_count_ == kWaitingMax) {
    // No room to remember it: its thread runs, faults again, and asks again.
    parts_.counters->add(Counter::limit_hit);
    note_wake(fault);
    return;
  }
  waiting_[waiting_count_++] = fault;
}

bool HandlerThreads::resolve(Waiting& fault) {
  const Access access = fault.write ? Access::write : Access::read;
  fault.exhausted = false;
  switch (parts_.port->on_fault(parts_.space, fault.va, access, fault.attempt)) {
    case FaultOutcome::done: return true;
    case FaultOutcome::wait:
      if (fault.attempt >= kAttemptsMax) {
        stop_internal("a page could not be brought back in time", fault.va.v, fault.attempt);
      }
      return false;
    case FaultOutcome::maperr:
    case FaultOutcome::accerr: parts_.mmu->trap(fault.va, TrapKind::segv); return true;
    case FaultOutcome::bus: parts_.mmu->trap(fault.va, TrapKind::bus); return true;
    case FaultOutcome::oom: {
      // Others of the tree may hold more than their share and be about to give it back.
      const bool alone = parts_.ledger->engines_started.load(std::memory_order_relaxed) <= 1;
      if (alone || host_now_ns() - fault.since_ns > kExhaustedPatienceNs) stop_exhausted();
      fault.exhausted = true;
      return false;
    }
    case FaultOutcome::corrupt: {
      Message m;
      m.text("stopped: a page that came back from swap does not match its checksum (address ");
      m.hex(fault.va.v).text("); the swap medium or memory is faulty");
      stop_program(StopReason::corrupt, m);
    }
  }
  return true;
}

void HandlerThreads::stop_exhausted() {
  Message m;
  m.text("stopped: the RAM budget of ").size(parts_.budget_bytes);
  if (parts_.device == nullptr) {
    m.text(" is full and there is no swap file; raise --ram or --swap-ram, or give --swap-dir");
  } else {
    m.text(" and the swap space of ").size(parts_.device->size().bytes());
    m.text(" are full; raise --ram, --swap-ram or --swap-max");
  }
  m.text(" (").text(parts_.self->command).text(", pid ");
  m.number(static_cast<u64>(sys::getpid())).text(")");
  stop_program(StopReason::exhausted, m);
}

void HandlerThreads::background_before_wake() {
  for (u32 step = 0; step < kStepsBeforeWake; ++step) {
    if (!parts_.port->background_wanted() || !parts_.port->background_step()) return;
  }
}

void HandlerThreads::keep() {
  std::atomic<u32>& need = parts_.ledger->need_sequence;
  while (!stopping_.load(std::memory_order_acquire)) {
    const u32 seen = need.load(std::memory_order_acquire);
    sys::futex_wait(&need, seen, kKeeperPeriodNs, sys::Sharing::processes);
    if (stopping_.load(std::memory_order_acquire)) return;
    if (parts_.self->frames_wanted.load(std::memory_order_relaxed) > 0) {
      ledger_reap_dead(*parts_.ledger);
    }
    for (u32 step = 0; step < kKeeperSteps; ++step) {
      bool more = false;
      {
        EngineGuard guard;
        if (parts_.device != nullptr && parts_.device->complete() > 0) {
          progress_.fetch_add(1, std::memory_order_acq_rel);
        }
        more = parts_.port->background_wanted() && parts_.port->background_step();
        if (!more) parts_.self->snapshot = parts_.port->snapshot();
      }
      if (!more) break;
      // The handler comes first; without this the keeper would take the lock again at once.
      sys::call(SYS_sched_yield);
    }
  }
}

}  // namespace spillway
