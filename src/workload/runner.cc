// The course of a run: steps, blocks, repetition, waiting, and how it ends.
#include "workload/runner.h"

namespace spillway {
namespace {

constexpr Daemon kDaemons[] = {Daemon::reaper, Daemon::kswapd, Daemon::kreclaimd, Daemon::flush};

const char* name_of(Daemon daemon) {
  switch (daemon) {
    case Daemon::kswapd: return "kswapd";
    case Daemon::kreclaimd: return "kreclaimd";
    case Daemon::flush: return "flush";
    case Daemon::reaper: return "reaper";
  }
  return "?";
}

// What a step of a single operation is called.
std::string title_of(const Statement& s) { return print_statement(s); }

}  // namespace

std::string describe(const RunResult& result, std::string_view name) {
  if (result.end == RunEnd::good) return "";
  std::string out = std::string(name) + ":" + std::to_string(result.at.line) + ":" +
                    std::to_string(result.at.column) + ": ";
  switch (result.end) {
    case RunEnd::good: break;
    case RunEnd::expectation: out += "does not hold: " + result.what; break;
    case RunEnd::scenario: out += result.what; break;
    case RunEnd::invariant: out += "an invariant is broken: " + result.what; break;
  }
  if (!result.expected.empty()) {
    out += "\n  expected: " + result.expected + "\n  actual:   " + result.actual;
  }
  return out;
}

Runner::Runner(const Scenario& scenario, Hardware& hardware, RunListener& listener,
               const RunOverrides& overrides)
    : scenario_(scenario), hardware_(hardware), listener_(listener), overrides_(overrides) {}

RunResult Runner::run() {
  if (set_stage()) {
    (void)walk_.take();
    walk_.clear_calls();
    before_ = picture();
    listener_.begin(scenario_, stage_, before_);
    (void)play(scenario_.statements);
    (void)finish_step();
  }
  return result_;
}

bool Runner::fail(RunEnd end, const Statement& s, std::string what, std::string expected,
                  std::string actual) {
  // The first reason counts.
  if (result_.end != RunEnd::good) return false;
  result_.end = end;
  result_.at = s.at;
  result_.what = std::move(what);
  result_.expected = std::move(expected);
  result_.actual = std::move(actual);
  return false;
}

bool Runner::play(const std::vector<Statement>& statements) {
  for (const Statement& s : statements) {
    if (!play_one(s) || stopped_) return false;
  }
  return true;
}

bool Runner::play_one(const Statement& s) {
  const bool asks = s.verb == Verb::expect || s.verb == Verb::note;
  switch (s.verb) {
    case Verb::title:
    case Verb::machine:
    case Verb::swap:
    case Verb::file:
    case Verb::program:
    case Verb::disk: return true;  // set_stage did them
    case Verb::text:
      // A line after another goes on with its paragraph; an empty one ends it.
      if (s.operands[0].text.empty()) {
        narrative_ += "\n";
      } else {
        const bool follows = !narrative_.empty() && narrative_.back() != '\n';
        narrative_ += (follows ? " " : "") + s.operands[0].text;
      }
      return true;
    case Verb::step: return step(s.operands[0].text, [&] { return play(s.body); });
    case Verb::repeat: {
      const auto all = [&] {
        for (u64 i = 0; i < s.operands[0].number.value; ++i) {
          if (!play(s.body)) return false;
        }
        return true;
      };
      return in_block_ ? all() : step(title_of(s), all);
    }
    default: break;
  }
  // What is asked outside of a block belongs to the step before it.
  if (in_block_ || (asks && step_)) return operation(s);
  return step(title_of(s), [&] { return operation(s); });
}

// A step stays open for the expectations that follow it.
bool Runner::step(const std::string& title, const std::function<bool()>& body) {
  if (!finish_step()) return false;
  step_.emplace();
  step_->number = static_cast<u32>(++result_.steps);
  step_->title = title;
  step_->narrative = std::move(narrative_);
  narrative_.clear();
  walk_.clear_calls();
  in_block_ = true;
  const bool good = body();
  in_block_ = false;
  return good;
}

bool Runner::finish_step() {
  if (!step_) return true;
  StepRecord told = *std::move(step_);
  step_.reset();
  Picture after = picture();
  told.changes = changes_between(before_, after);
  if (!listener_.step(told, before_, after)) stopped_ = true;
  before_ = std::move(after);
  if (result_.end == RunEnd::good) {
    const AuditReport report = kernel_->audit();
    if (!report.ok) {
      Statement here;
      here.at = told.operations.empty() ? Position{1, 1} : told.operations.back().at;
      return fail(RunEnd::invariant, here, report.what, std::to_string(report.left),
                  std::to_string(report.right));
    }
  }
  return result_.end == RunEnd::good && !stopped_;
}

bool Runner::operation(const Statement& s) {
  if (++result_.operations > kOperationsMax) {
    return fail(RunEnd::scenario, s, "too many operations: at most a million");
  }
  bool good = true;
  switch (s.verb) {
    case Verb::process:
    case Verb::fork:
    case Verb::thread:
    case Verb::exec:
    case Verb::exit:
    case Verb::kill:
    case Verb::reap:
    case Verb::cpu:
    case Verb::sp:
    case Verb::limit:
    case Verb::nice:
    case Verb::oom_score_adj:
    case Verb::catches: good = do_process(s); break;
    case Verb::read:
    case Verb::write:
    case Verb::fetch: good = do_access(s); break;
    case Verb::touch: good = do_touch(s); break;
    case Verb::fill:
    case Verb::verify: good = do_fill(s); break;
    case Verb::run:
    case Verb::daemons:
    case Verb::age:
    case Verb::advance:
    case Verb::pass:
    case Verb::bdflush:
    case Verb::complete:
    case Verb::fail:
    case Verb::repair: good = do_machine(s); break;
    case Verb::bread:
    case Verb::bdirty:
    case Verb::bforget:
    case Verb::sync: good = do_disk(s); break;
    case Verb::kcache:
    case Verb::kalloc:
    case Verb::kfree:
    case Verb::kshrink:
    case Verb::kdestroy:
    case Verb::kreap: good = do_slab(s); break;
    case Verb::make:
    case Verb::lookup:
    case Verb::chmod:
    case Verb::rename:
    case Verb::remove:
    case Verb::prune: good = do_names(s); break;
    case Verb::vmalloc:
    case Verb::vfree:
    case Verb::vpurge: good = do_vmalloc(s); break;
    case Verb::vwrite:
    case Verb::vread: good = do_vaccess(s); break;
    case Verb::expect:
    case Verb::note: good = do_expect(s); break;
    default: good = do_call(s); break;
  }
  // Whatever went wrong on the way is part of the story.
  if (!good && result_.end != RunEnd::good) record(s, result_.actual);
  if (good && daemons_auto_ && s.verb != Verb::expect && s.verb != Verb::note) good = settle(s);
  return good;
}

void Runner::record(const Statement& s, std::string result) {
  if (!step_) return;
  OperationRecord r;
  r.at = s.at;
  r.text = print_statement(s);
  r.result = std::move(result);
  r.expectation = s.verb == Verb::expect;
  r.failed = result_.end != RunEnd::good;
  r.walk = walk_.take();
  std::vector<OperationRecord>& all = step_->operations;
  // In a loop the same thing often happens in the same way.
  if (!r.failed && !all.empty() && all.back().text == r.text && all.back().result == r.result &&
      all.back().walk == r.walk) {
    ++all.back().times;
    return;
  }
  all.push_back(std::move(r));
}

bool Runner::run_wanted_daemons() {
  for (const Daemon daemon : kDaemons) {
    if (!kernel_->wanted(daemon)) continue;
    walk_.remark(std::string(name_of(daemon)) + " runs");
    (void)kernel_->step(daemon);
    return true;
  }
  return false;
}

// Something happens that a waiting task may be waiting for. False: nothing is left that could.
bool Runner::wait_a_little() {
  if (hardware_.complete_one()) {
    walk_.remark("the task sleeps until a transfer has ended");
    return true;
  }
  if (run_wanted_daemons()) return true;
  // Nobody was woken. Time may do it: daemons have their periods.
  hardware_.advance(10'000'000);
  return run_wanted_daemons();
}

Runner::Outcome Runner::call(const std::function<Result<u64>(u32 attempt)>& attempt_call) {
  constexpr u32 kIdleMax = 200;  // two seconds: each daemon's time has come by then
  Outcome outcome;
  u32 idle = 0;
  for (u32 attempt = 0;; ++attempt) {
    outcome.value = attempt_call(attempt);
    if (outcome.value.ok() || outcome.value.error() != Error::wait) break;
    idle = wait_a_little() ? 0 : idle + 1;
    if (attempt == kAttemptsMax || idle == kIdleMax) {
      outcome.gave_up = true;
      break;
    }
  }
  return outcome;
}

// Daemons run as long as they want to, and all I/O ends.
bool Runner::settle(const Statement& s) {
  for (u32 i = 0; i < kAttemptsMax; ++i) {
    // A daemon may want to run until its own writes have ended.
    const bool ran = run_wanted_daemons();
    if (!hardware_.complete_one() && !ran) return true;
  }
  return fail(RunEnd::expectation, s, print_statement(s), "the daemons come to rest",
              "they still want to run after " + std::to_string(kAttemptsMax) + " steps");
}

bool Runner::do_machine(const Statement& s) {
  const auto count = [&](const char* key, u64 otherwise) {
    const Operand& o = operand(s, key);
    return o.given() ? o.number.value : otherwise;
  };
  switch (s.verb) {
    case Verb::daemons:
      if (!settle(s)) return false;
      break;
    case Verb::age:
      for (u64 i = 0; i < count("times", 1); ++i) {
        kernel_->age();
      }
      break;
    case Verb::advance: hardware_.advance(s.operands[0].number.total()); break;
    case Verb::pass: return do_pass(s);
    case Verb::bdflush: {
      FlusherConfig config = kernel_->flusher().config();
      config.nfract = static_cast<u32>(count("nfract", config.nfract));
      config.nfract_sync = static_cast<u32>(count("nfract_sync", config.nfract_sync));
      config.ndirty = static_cast<u32>(count("ndirty", config.ndirty));
      const Operand& interval = operand(s, "interval");
      if (interval.given()) config.interval_ns = interval.number.total();
      kernel_->flusher().configure(config);
      break;
    }
    case Verb::complete:
      for (u64 left = count("times", ~u64{0}); left > 0 && hardware_.complete_one(); --left) {
      }
      break;
    case Verb::repair: hardware_.repair(device(s.operands[0])); break;
    case Verb::fail: {
      constexpr const char* kNames[] = {"read_io",    "write_io",  "write_torn",
                                        "write_lost", "read_flip", "write_no_space"};
      u32 kind = 0;
      while (s.operands[1].text != kNames[kind]) ++kind;
      const Operand& block = operand(s, "block");
      hardware_.fail(device(s.operands[0]), static_cast<IoFailure>(kind),
                     {.nth = count("nth", 1),
                      .times = count("times", 1),
                      .by_block = block.given(),
                      .block = block.number.value});
      break;
    }
    case Verb::run: {
      Daemon daemon = Daemon::kswapd;
      for (const Daemon d : kDaemons) {
        if (s.operands[0].text == name_of(d)) daemon = d;
      }
      const bool until_idle = operand(s, "idle").given();
      u64 left = count("times", until_idle ? kAttemptsMax : 1);
      for (bool more = true; left > 0 && (more || !until_idle); --left) {
        more = kernel_->step(daemon) || kernel_->wanted(daemon);
        // A daemon that waits for its own writes goes on when they have ended.
        if (until_idle) more = hardware_.complete_one() || more;
      }
      if (left == 0 && until_idle) {
        return unmet(s, "the daemon goes to sleep", "it still wants to run");
      }
      break;
    }
    default: break;
  }
  record(s, "");
  return true;
}

Runner::Process* Runner::process(const Statement& s, const Operand& operand) {
  const auto found = processes_.find(operand.text);
  if (found == processes_.end()) {
    (void)fail(RunEnd::scenario, s,
               "there is no process '" + operand.text + "': its making failed");
    return nullptr;
  }
  Process& p = found->second;
  if (kernel_->alive(p.pid)) return &p;
  std::string how = operand.text + " is dead";
  const TaskView view = task_view(p.pid);
  if (view.pid == p.pid.v) how += ", exit code " + std::to_string(view.exit_code);
  (void)unmet(s, operand.text + " lives", how);
  return nullptr;
}

TaskView Runner::task_view(Pid pid) const {
  std::vector<TaskView> views(Kernel::kTasksMax);
  const u32 count = std::min(kernel_->tasks(views.data(), Kernel::kTasksMax), Kernel::kTasksMax);
  for (u32 i = 0; i < count; ++i) {
    if (views[i].pid == pid.v) return views[i];
  }
  return TaskView{};
}

std::vector<AreaView> Runner::areas_of(Pid pid) const {
  std::vector<AreaView> areas(64);
  u32 count = kernel_->areas(pid, areas.data(), 64);
  if (count > areas.size()) {
    areas.resize(count);
    count = std::min(kernel_->areas(pid, areas.data(), count), count);
  }
  areas.resize(count);
  return areas;
}

std::optional<VirtAddr> Runner::place(const Statement& s, Process& p, const Place& place) {
  u64 address = place.address;
  const std::string& base = place.base;
  if (base == "sp") {
    address = kernel_->stack_pointer(p.pid).v;
  } else if (base == "heap" || base == "brk") {
    const TaskView view = task_view(p.pid);
    address = base == "heap" ? view.start_brk.v : view.brk.v;
  } else if (base == "stack" || base == "stack_bottom") {
    for (const AreaView& area : areas_of(p.pid)) {
      if (!area.growsdown || std::string_view(area.name) != "[stack]") continue;
      address = addr_of(base == "stack" ? area.range.end : area.range.start).v;
    }
    if (address == 0) {
      (void)fail(RunEnd::scenario, s, p.name + " has no stack");
      return std::nullopt;
    }
  } else if (!base.empty()) {
    const auto found = p.space->places.find(base);
    if (found == p.space->places.end()) {
      (void)fail(RunEnd::scenario, s, "'" + base + "' is no place of " + p.name);
      return std::nullopt;
    }
    address = found->second.v;
  }
  // Addresses wrap as they do in the machine; the kernel says what it thinks of them.
  for (const Number& offset : place.offsets) {
    address += offset.negative ? ~offset.total() + 1 : offset.total();
  }
  return VirtAddr(address);
}

u32 Runner::device(const Operand& operand) const {
  u32 i = 0;
  while (devices_[i] != operand.text) ++i;
  return i;
}

Subject Runner::subject() const {
  Subject subject{*kernel_, hardware_, counters_, stage_.frames.v, {}, devices_, {}, names_};
  for (const auto& [name, cache] : caches_) subject.caches.push_back(name);
  for (const std::string& name : process_order_) {
    const Process& p = processes_.at(name);
    NamedProcess named{name, p.pid, {}};
    for (const auto& [place, address] : p.space->places) named.places.emplace_back(address, place);
    subject.processes.push_back(std::move(named));
  }
  return subject;
}

}  // namespace spillway
