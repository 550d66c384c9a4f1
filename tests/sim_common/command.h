// The command around a suite: seeds in several processes, replay of files, shrinking, statistics.
// A Suite (runner.h) has besides: kProgram, and simpler(op) as shrink.h wants it.
#pragma once

#include <chrono>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "runner.h"
#include "shrink.h"

namespace spillway::harness {

struct Options {
  u64 first = 1;
  u64 last = 100;
  u32 steps = 300;
  u32 jobs = 1;
  u32 seconds = 60;
  u32 shrink_seconds = 30;
  bool keep_going = false;
  bool stats = false;
  bool digest = false;
  std::string replay;
  u64 print_seed = 0;
  bool sweep = false;  // seeds are --sweep's
};

// What parse_options needs to know of a program.
struct Program {
  const char* name;
  const char* about;  // one line
  bool has_sweep;
};

// Ends the process with status 2 on bad usage, and 0 after --help.
Options parse_options(const Program& program, int argc, char** argv);
[[noreturn]] void bad_usage(const Program& program, const std::string& what);
void print_counters(const Counters& counters);

template <class Suite>
class Command {
 public:
  using Case = typename Suite::Case;
  using Run = Runner<Suite>;
  using Result = RunResult<Suite>;

  explicit Command(const Options& options) : o_(options) {}

  int replay();
  int run();
  int print_seed() {
    std::fputs(print(Run::run_seed(o_.print_seed, o_.steps, o_.seconds).ran).c_str(), stdout);
    return 0;
  }
  int shrink_and_report(const Result& failed);

 private:
  bool note(u64 seed, const Result& r);
  // The text that a person needs: what failed and the operations that show it again.
  static std::string report(const Result& result, const Case& shortest);

  Options o_;
  u64 passed_ = 0;
  u64 failures_ = 0;
  u64 failed_seed_ = 0;
  Result first_failure_;
  Counters sum_{};
};

template <class Suite>
std::string Command<Suite>::report(const Result& result, const Case& shortest) {
  const std::string name = Suite::kProgram.name;
  std::string text = name + ": FAILED: " + result.failure + "\n";
  if (!result.history.empty()) {
    text += "last events (sequence, kind, a, b) and state:\n" + result.history;
  }
  text += "shortest case found (" + std::to_string(shortest.ops.size()) + " of " +
          std::to_string(result.ran.ops.size()) + " operations); save it and run `" + name +
          " --replay FILE`:\n";
  return text + "---8<---\n" + print(shortest) + "--->8---\n";
}

template <class Suite>
int Command<Suite>::shrink_and_report(const Result& failed) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::seconds(o_.shrink_seconds);
  const std::function<bool(const Case&)> fails = [&](const Case& c) {
    const Result r = Run::run_case(c, o_.seconds);
    return !r.ok && same_failure(r.failure, failed.failure);
  };
  Case shortest = failed.ran;
  if (o_.shrink_seconds != 0) {
    if (fails(shortest)) {
      shortest = shrink_case(shortest, Suite::simpler, fails, [&] { return Clock::now() < end; });
    } else {
      std::printf("%s: the recorded case does not fail again: not deterministic\n",
                  Suite::kProgram.name);
    }
  }
  Result last = Run::run_case(shortest, o_.seconds);
  if (last.ok) last = failed;
  last.ran = failed.ran;
  std::fputs(report(last, shortest).c_str(), stdout);
  return 1;
}

template <class Suite>
int Command<Suite>::replay() {
  std::ifstream file(o_.replay);
  if (!file) bad_usage(Suite::kProgram, "cannot read " + o_.replay);
  std::ostringstream text;
  text << file.rdbuf();
  std::string problem;
  const auto c = Suite::parse_case(text.str(), &problem);
  if (!c.has_value()) bad_usage(Suite::kProgram, o_.replay + ": " + problem);
  const Result result = Run::run_case(*c, o_.seconds);
  if (!result.ok) return shrink_and_report(result);
  if (o_.stats) print_counters(result.counters);
  if (o_.digest) std::printf("digest %016llx\n", static_cast<unsigned long long>(result.digest));
  std::printf("%s: %zu operations of %s passed\n", Suite::kProgram.name, c->ops.size(),
              o_.replay.c_str());
  return 0;
}

template <class Suite>
bool Command<Suite>::note(u64 seed, const Result& r) {
  if (o_.digest) {
    std::printf("seed %llu digest %016llx\n", static_cast<unsigned long long>(seed),
                static_cast<unsigned long long>(r.digest));
  }
  for (u32 i = 0; i < kCounterCount; ++i) sum_.value[i] += r.counters.value[i];
  if (r.ok) {
    ++passed_;
    return true;
  }
  ++failures_;
  if (o_.keep_going) {
    std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), r.failure.c_str());
    std::fflush(stdout);
    return true;
  }
  first_failure_ = r;
  failed_seed_ = seed;
  return false;
}

template <class Suite>
int Command<Suite>::run() {
  const char* name = Suite::kProgram.name;
  Run::run_seeds(o_.first, o_.last, o_.steps, o_.seconds, o_.jobs,
                 [&](u64 seed, const Result& r) { return note(seed, r); });
  if (o_.stats) print_counters(sum_);
  const auto passed = static_cast<unsigned long long>(passed_);
  const auto failures = static_cast<unsigned long long>(failures_);
  if (failures_ == 0) {
    std::printf("%s: %llu seeds of %u operations passed\n", name, passed, o_.steps);
    return 0;
  }
  if (o_.keep_going) {
    std::printf("%s: FAILED: %llu of %llu seeds\n", name, failures, failures + passed);
    return 1;
  }
  const auto seed = static_cast<unsigned long long>(failed_seed_);
  std::printf("%s: seed %llu fails; `%s --seeds %llu --steps %u` shows it again\n", name, seed,
              name, seed, o_.steps);
  return shrink_and_report(first_failure_);
}

// What main() does when there is nothing special about the suite.
template <class Suite>
int run_command(const Options& options) {
  Command<Suite> command(options);
  if (!options.replay.empty()) return command.replay();
  if (options.print_seed != 0) return command.print_seed();
  return command.run();
}

}  // namespace spillway::harness
