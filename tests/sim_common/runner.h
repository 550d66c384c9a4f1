// Runner: runs the cases of a suite in processes of their own, so that a panic, a crash or an
// endless loop of the core is a result like any other.
//
// A Suite has
//   kName                       the program's name
//   Case                        a machine (`setup`) and operations (`ops`), with print(), and
//   parse_case(text, problem)   the way back
//   Driver(setup)               boot(), run(op), finish(), and what it saw: digest(), counters(),
//                               events(), describe_state(), fired(failure)
//   Generator(seed)             setup() and next(driver)
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <optional>

#include "journal.h"

namespace spillway::harness {

template <class Suite>
struct RunResult {
  bool ok = false;
  std::string failure;       // what went wrong, empty if nothing
  std::string history;       // the last events, and the state
  typename Suite::Case ran;  // setup and operations up to the failure
  u64 digest = 0;            // of everything observable
  Counters counters{};
  u64 fired[kFailureCount] = {};  // injected failures that happened
};

template <class Suite>
class Runner {
 public:
  using Case = typename Suite::Case;
  using Op = typename Suite::Op;
  using Result = RunResult<Suite>;

  // Runs what the generator draws from `seed`.
  static Result run_seed(u64 seed, u32 steps, u32 seconds_max) {
    return run_isolated(seconds_max, [&] { run_seed_child(seed, steps); });
  }
  // Runs a case as it is.
  static Result run_case(const Case& c, u32 seconds_max) {
    return run_isolated(seconds_max, [&] {
      u64 next = 0;
      run_child(c.setup, [&](const auto&) -> std::optional<Op> {
        if (next == c.ops.size()) return std::nullopt;
        return c.ops[next++];
      });
    });
  }
  // Calls run_seed for all seeds first..last in `jobs` processes and `done(seed, result)` for each
  // result, in no particular order. Stops early when `done` returns false.
  template <class Done>
  static void run_seeds(u64 first, u64 last, u32 steps, u32 seconds_max, u32 jobs, Done done);

 private:
  // One operation after the other; what throws is a difference from the model.
  template <class NextOp>
  static void run_child(const decltype(Case::setup)& setup, NextOp next_op) {
    write_down(print(setup));
    typename Suite::Driver driver(setup);
    show_events_of(&driver.events());
    try {
      if (driver.boot()) {
        while (const std::optional<Op> op = next_op(driver)) {
          write_down(print(*op));
          driver.run(*op);
        }
        driver.finish();
      }
    } catch (const CaseFailed& f) {
      give_up(f.text, driver.describe_state());
    }
    u64 fired[kFailureCount];
    for (u32 i = 0; i < kFailureCount; ++i) fired[i] = driver.fired(static_cast<Failure>(i));
    finish(driver.digest(), driver.counters(), fired);
  }

  static void run_seed_child(u64 seed, u32 steps) {
    typename Suite::Generator generator(seed);
    u32 step = 0;
    run_child(generator.setup(), [&](const auto& driver) -> std::optional<Op> {
      if (step++ == steps) return std::nullopt;
      return generator.next(driver);
    });
  }

  static Result collect(Journal* journal, int status) {
    Result r;
    r.ok = journal->finished;
    r.failure = failure_of(*journal, status);
    r.history = journal->history;
    r.digest = journal->digest;
    std::memcpy(r.counters.value, journal->counters, sizeof r.counters.value);
    std::memcpy(r.fired, journal->fired, sizeof r.fired);
    std::string problem;
    const std::string text(journal->text, journal->text_bytes);
    if (const auto c = Suite::parse_case(text, &problem)) {
      r.ran = *c;
    } else {
      r.ok = false;
      r.failure = "journal: " + problem;
    }
    delete_journal(journal);
    return r;
  }

  template <class Body>
  static Result run_isolated(u32 seconds_max, Body body) {
    Journal* journal = new_journal();
    const pid_t pid = start_child(journal, seconds_max, body);
    int status = 0;
    waitpid(pid, &status, 0);
    return collect(journal, status);
  }
};

template <class Suite>
template <class Done>
void Runner<Suite>::run_seeds(u64 first, u64 last, u32 steps, u32 seconds_max, u32 jobs,
                              Done done) {
  struct Running {
    u64 seed;
    Journal* journal;
  };
  std::map<pid_t, Running> running;
  bool go_on = true;
  for (u64 seed = first; (go_on && seed <= last) || !running.empty();) {
    if (go_on && seed <= last && running.size() < jobs) {
      Journal* journal = new_journal();
      const u64 s = seed++;
      const pid_t pid = start_child(journal, seconds_max, [&] { run_seed_child(s, steps); });
      running.emplace(pid, Running{s, journal});
      continue;
    }
    int status = 0;
    const pid_t pid = waitpid(-1, &status, 0);
    const auto it = running.find(pid);
    if (it == running.end()) continue;
    const Result result = collect(it->second.journal, status);
    const u64 ended = it->second.seed;
    running.erase(it);
    if (go_on && !done(ended, result)) go_on = false;
  }
}

}  // namespace spillway::harness
