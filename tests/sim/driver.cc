#include "driver.h"

#include <algorithm>

namespace spillway::sim {
namespace {

// Rounds of I/O, background work and retries without any progress after which a task that waits
// is stuck. A single fault on a full machine takes tens of rounds.
constexpr u32 kRoundsMax = 2'000;
// From this round on devices let go of what they hold: they do not hold pages for ever.
constexpr u32 kUnpinRound = 50;
// Rounds between two background steps while I/O is in flight.
constexpr u32 kBackgroundEvery = 8;
// Background steps that one settling may take.
constexpr u32 kSettleStepsMax = 20'000;
// A moment, where no I/O is in flight to wait for.
constexpr u64 kMomentNs = 10'000;

}  // namespace

Driver::Driver(const Setup& setup)
    : Bench(setup),
      least_budget_(std::min(setup.budget, setup.frames)),
      least_disk_(setup.disk_pages) {}

bool Driver::boot() {
  const Result<System*> system = System::boot(sim_.machine(), setup_.system(), counters_, events_);
  const bool enough = std::min(setup_.frames, setup_.budget) >= System::minimum_frames().v;
  if (!system.ok()) {
    if (enough) fail("boot refused: enough frames are there");
    if (system.error() != Error::no_memory) fail("boot refused: with another error than ENOMEM");
    return false;
  }
  // Boot may do with less than it promises to need; what follows could not be justified then.
  if (!enough) return false;
  system_ = system.value();
  spaces_.resize(setup_.spaces);
  for (Space& space : spaces_) create_space(&space);
  tasks_.resize(setup_.tasks);
  for (u32 i = 0; i < setup_.tasks; ++i) {
    tasks_[i].space = static_cast<u32>(i % setup_.spaces);
    tasks_[i].cpu = static_cast<u32>(i % setup_.cpus);
  }
  audit();
  return true;
}

void Driver::create_space(Space* space) {
  const VpnRange range{kBase, kBase + setup_.space_pages};
  space->model = std::make_unique<SpaceModel>(setup_.space_pages, setup_.brk_pages);
  for (u32 round = 0;; ++round) {
    const Result<SpaceId> id = system_->create_space(range, PageCount(setup_.brk_pages));
    if (id.ok()) {
      space->id = id.value();
      return;
    }
    if (id.error() != Error::wait && id.error() != Error::no_memory) {
      fail(std::string("create_space refused: ") + name_of(id.error()));
    }
    if (round == kRoundsMax) {
      if (!shortage_is_possible()) fail("create_space refused: for ever");
      inconclusive_ = true;
      return;
    }
    let_something_happen(round);
  }
}

void Driver::run(const Op& op) {
  if (inconclusive_) return;
  ++ops_run_;
  note(static_cast<u64>(op.kind));
  if (!by_task(op.kind)) {
    run_machine_op(op);
  } else {
    Task* task = &tasks_[op.task];
    if (op.kind == OpKind::retry) {
      if (task->waiting.has_value()) try_once(task);
    } else {
      if (task->waiting.has_value()) drive(task);
      run_task_op(task, op);
    }
  }
  note(sim_.clock().now_ns());
  if (ops_run_ % setup_.audit_every == 0) audit();
}

void Driver::run_task_op(Task* task, const Op& op) {
  if (inconclusive_) return;
  const u64 page = op.at / kPageSize;
  switch (op.kind) {
    case OpKind::migrate: task->cpu = static_cast<u32>(op.cpu % setup_.cpus); return;
    case OpKind::pin: sim_.mmu().pin(spaces_[task->space].id, kBase + page); return;
    case OpKind::unpin: sim_.mmu().unpin(spaces_[task->space].id, kBase + page); return;
    case OpKind::exit: exit_space(task); return;
    default: break;
  }
  task->waiting = op;
  task->progress = 0;
  task->attempt = 0;
  try_once(task);
}

void Driver::try_once(Task* task) {
  sim_.cpus().set_current(task->cpu);
  const Op op = *task->waiting;
  if (perform(task, op) == Step::wait) {
    ++task->attempt;
    note(0x3A17);
    return;
  }
  task->waiting.reset();
}

// Runs the task's operation to its end.
void Driver::drive(Task* task) {
  u64 progress = task->progress;
  for (u32 round = 0; task->waiting.has_value() && !inconclusive_; ++round) {
    if (round == kRoundsMax) fail("no progress: " + print(*task->waiting));
    let_something_happen(round);
    try_once(task);
    if (task->progress == progress) continue;
    progress = task->progress;
    round = 0;
  }
}

// What a machine does while a task waits: an I/O ends, or a moment passes. Background work comes
// when there is no I/O to wait for, and now and then besides; between every I/O and the retry it
// would take away what has just come in (System::background_step).
void Driver::let_something_happen(u32 round) {
  if (round == kUnpinRound) sim_.mmu().unpin_all();
  const bool io = sim_.complete_one();
  if (!io) sim_.advance(kMomentNs);
  const bool turn = !io || round % kBackgroundEvery == kBackgroundEvery - 1;
  if (turn && system_->background_wanted()) (void)system_->background_step();
}

void Driver::settle() {
  for (u32 step = 0; step < kSettleStepsMax; ++step) {
    while (sim_.complete_one()) {
    }
    if (!system_->background_step().more && sim_.pending() == 0) return;
  }
  fail("background work never ends");
}

void Driver::run_machine_op(const Op& op) {
  switch (op.kind) {
    case OpKind::background:
      for (u64 i = 0; i < op.number; ++i) {
        if (!system_->background_step().more) break;
      }
      return;
    case OpKind::complete:
      for (u64 i = 0; i < op.number; ++i) sim_.complete_one();
      return;
    case OpKind::advance: sim_.advance(op.number); return;
    case OpKind::settle:
      settle();
      check_given_back();
      return;
    case OpKind::budget:
      sim_.frames().set_budget(PageCount(op.number));
      least_budget_ = std::min(least_budget_, op.number);
      return;
    case OpKind::disk_max:
      if (!sim_.has_disk()) return;
      sim_.disk().set_segments_max(op.number);
      least_disk_ = std::min(least_disk_, op.number * kIoFramesMax);
      return;
    case OpKind::fail: sim_.failures().arm(op.failure, op.number, op.times); return;
    case OpKind::fork: fork_relative(); return;
    case OpKind::reap:
      for (const u64 segment : relatives_) sim_.disk().remove_relative(segment);
      relatives_.clear();
      return;
    default: fail("not an operation of the machine: " + print(op));
  }
}

// After prepare_fork a child would run a copy of this engine: all that shows here is that it
// refers to the same segments, which may not be written any more.
void Driver::fork_relative() {
  for (u32 round = 0; !system_->prepare_fork().ok(); ++round) {
    if (round == kRoundsMax) fail("prepare_fork waits for ever");
    sim_.complete_one();
    const u32 in_flight = sim_.pending();
    (void)system_->background_step();
    if (sim_.pending() > in_flight) fail("I/O is submitted although a fork is prepared");
  }
  if (sim_.pending() != 0) fail("prepare_fork is content although I/O is in flight");
  system_->finish_fork();
  if (!sim_.has_disk()) return;
  for (u64 s = 0; s < setup_.disk_pages / kIoFramesMax; ++s) {
    if (!sim_.disk().claimed_by_us(s)) continue;
    sim_.disk().add_relative(s);
    relatives_.push_back(s);
  }
}

// The end of a space ends the calls that wait in it: their threads are killed.
void Driver::exit_space(Task* task) {
  Space& space = spaces_[task->space];
  for (Task& other : tasks_) {
    if (other.space == task->space) other.waiting.reset();
  }
  system_->destroy_space(space.id);
  space.id = SpaceId();
  create_space(&space);
}

void Driver::finish() {
  if (system_ == nullptr) return;
  for (Task& task : tasks_) {
    if (task.waiting.has_value()) drive(&task);
  }
  sim_.failures().disarm_all();
  sim_.mmu().unpin_all();
  audit();
  verify_all();
  for (const Space& space : spaces_) {
    if (space.id.valid()) system_->destroy_space(space.id);
  }
  spaces_.clear();
  settle();
  audit();
  check_nothing_is_left();
  for (const u64 value : counters_.value) note(value);
}

}  // namespace spillway::sim
