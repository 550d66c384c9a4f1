// Loads, stores and fetches: page by page, each an access that either happens or does not.

#include <algorithm>

#include "driver.h"

namespace spillway::ksim {
namespace {

Access access_of(OpKind kind) {
  switch (kind) {
    case OpKind::store: return Access::write;
    case OpKind::fetch: return Access::exec;
    default: return Access::read;
  }
}

}  // namespace

// What an access at `at` comes to. A stack that grows grows in the model too.
FaultOutcome Driver::predict_access(const Proc& proc, u64 at, Access access) {
  Space& space = *proc.space;
  const u64 page = at / kPageSize;
  const ModelArea* area = space.find(page);
  if (area == nullptr) {
    const ModelArea* stack = stack_that_grows(context(proc), at);
    if (stack == nullptr) return FaultOutcome::maperr;
    space.grow_down(stack->range.first, page);
    area = space.find(page);
  }
  if (!permits(area->prot, access)) return FaultOutcome::accerr;
  if (area->object != nullptr && area->index_of(page) >= area->object->size_pages()) {
    return FaultOutcome::bus;
  }
  return FaultOutcome::done;
}

Driver::Step Driver::perform_access(u32 slot, Waiting* w) {
  while (w->progress < w->op.len) {
    const u64 at = w->op.at + w->progress;
    if (at < w->op.at) return Step::done;
    const u64 bytes = std::min(w->op.len - w->progress, kPageSize - (at & kPageMask));
    Step step = Step::done;
    if (!access_page(slot, w, at, bytes, &step)) return step;
    w->progress += bytes;
    w->attempt = 0;
  }
  return Step::done;
}

// False: the operation ends here, or waits, as `*step` says.
bool Driver::access_page(u32 slot, Waiting* w, u64 at, u64 bytes, Step* step) {
  Proc& proc = *world_.at(slot);
  const Op& op = w->op;
  const Access access = access_of(op.kind);
  const u64 page = at / kPageSize;
  const u32 offset = static_cast<u32>(at & kPageMask);
  if (page >= kVpnEnd.v) return false;
  const FaultOutcome want = predict_access(proc, at, access);
  sim_.cpus().set_current(proc.cpu);
  kernel_->run_on(proc.cpu, proc.pid);
  const SpaceId space = kernel_->space_of(proc.pid);
  u8 buffer[kPageSize];
  SimAccess a{};
  switch (access) {
    case Access::write:
      make_page(op.fill, op.seed, page, buffer);
      a = sim_.store(*kernel_, space, VirtAddr(at), buffer + offset, bytes, w->attempt);
      break;
    case Access::read:
      a = sim_.load(*kernel_, space, VirtAddr(at), buffer, bytes, w->attempt);
      break;
    case Access::exec:
      a = sim_.fetch(*kernel_, space, VirtAddr(at), buffer, bytes, w->attempt);
      break;
  }
  note(static_cast<u64>(a.outcome));
  find_victims();
  if (a.outcome == FaultOutcome::wait) {
    if (want != FaultOutcome::done) check_outcome(slot, op, at, want, a.outcome);
    *step = Step::wait;
    return false;
  }
  check_outcome(slot, op, at, want, a.outcome);
  if (a.outcome != FaultOutcome::done) return false;
  if (access == Access::write) {
    proc.space->store(page, offset, buffer + offset, bytes);
  } else {
    check_bytes(slot, op, at, buffer, bytes);
    const bool anonymous = proc.space->find(page)->object == nullptr;
    if (!anonymous || setup_.zero_page == 0 || access == Access::exec) {
      proc.space->touch({page, page + 1});
    }
  }
  return true;
}

void Driver::check_bytes(u32 slot, const Op& op, u64 at, const u8* data, u64 bytes) {
  Proc& proc = *world_.at(slot);
  const u64 page = at / kPageSize;
  if (proc.space->load(page, static_cast<u32>(at & kPageMask), data, bytes)) return;
  const ModelArea& area = *proc.space->find(page);
  std::string kind = area.object == nullptr ? "anonymous" : area.shared ? "shared" : "private file";
  fail("wrong bytes: " + kind + ": page " + std::to_string(page) + " of " + print(op) +
       ", begins with " + std::to_string(data[0]) + " " + std::to_string(data[bytes - 1]));
}

// Compares and, where the access failed, sends the signal that it deserves.
void Driver::check_outcome(u32 slot, const Op& op, u64 at, FaultOutcome want, FaultOutcome got) {
  if (got == FaultOutcome::done && want == FaultOutcome::done) return;
  bool right = got == want;
  if (want == FaultOutcome::done && got == FaultOutcome::bus) {
    read_error_told(op);
    right = true;
  }
  if (want == FaultOutcome::done && got == FaultOutcome::corrupt) right = damaged() != 0;
  // Who may extend his stack may still find that nothing more is promised to him.
  if (got == FaultOutcome::oom) {
    right = want == FaultOutcome::done && resource_error_is_right(Error::no_memory);
  }
  if (!right) {
    fail(std::string("access ends with ") + spillway::name_of(got) + " instead of " +
         spillway::name_of(want) + ": at " + std::to_string(at) + " of " + print(op) + ", needs " +
         std::to_string(demand()) + " pages of " + std::to_string(supply()));
  }
  Proc& proc = *world_.at(slot);
  const u64 killed_before = counters_[Counter::oom_kill];
  const SignalInfo info = kernel_->raise(proc.pid, got, VirtAddr(at));
  const bool segv = got == FaultOutcome::maperr || got == FaultOutcome::accerr;
  const Signal signal = got == FaultOutcome::oom ? Signal::kill : segv ? Signal::segv : Signal::bus;
  if (info.signo != signal) fail("signal: wrong one: " + print(op));
  if (segv && info.code != (got == FaultOutcome::maperr ? kSegvMaperr : kSegvAccerr)) {
    fail("signal: wrong si_code: " + print(op));
  }
  if (info.addr.v != at) fail("signal: wrong si_addr: " + print(op));
  if (counters_[Counter::oom_kill] != killed_before) fail("signal: an OOM kill on the way");
  // Counted by the kernel, ended by the signal.
  if (got == FaultOutcome::oom && killed_before > victims_) ++victims_;
  if (proc.catches && signal != Signal::kill) return;
  process_ended(proc.leader, 128 + static_cast<u64>(signal));
}

}  // namespace spillway::ksim
