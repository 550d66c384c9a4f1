// spw_sim: the property test of the whole System as a command. See README.md.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "runner.h"
#include "shrink.h"

namespace spillway::sim {
namespace {

constexpr char kUsage[] =
    "usage: spw_sim [--seeds A..B] [--steps N] [--jobs N] [--seconds N] [--shrink-seconds N]\n"
    "               [--keep-going] [--stats] [--digest]\n"
    "       spw_sim --replay FILE [--shrink-seconds N] [--stats] [--digest]     (or "
    "SPW_REPLAY=FILE)\n"
    "       spw_sim --sweep A..B [--steps N]\n"
    "       spw_sim --print-seed S [--steps N]\n"
    "\n"
    "Runs random operations on simulated machines and compares every answer with a model.\n"
    "  --seeds A..B          seeds to run (default 1..100)\n"
    "  --steps N             operations per seed (default 300)\n"
    "  --jobs N              processes at once (default: CPUs)\n"
    "  --seconds N           most seconds for one case (default 60)\n"
    "  --shrink-seconds N    most seconds for making a failing case shorter (default 30)\n"
    "  --keep-going          go on after a failing seed; one line for each, nothing is shrunk\n"
    "  --stats               print what the cases reached, summed over all seeds\n"
    "  --digest              print a number for each seed that stands for all it did\n"
    "  --replay FILE         run the case in FILE\n"
    "  --sweep A..B          for each seed and each kind of failure: the case with the first\n"
    "                        opportunity failing, then with the second, until none fails\n"
    "  --print-seed S        print the case that seed S draws\n"
    "Exit status: 0 all cases passed, 1 one failed, 2 bad usage.\n";

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
  bool sweep = false;
};

[[noreturn]] void bad_usage(const std::string& what) {
  std::fprintf(stderr, "spw_sim: %s\n%s", what.c_str(), kUsage);
  std::exit(2);
}

u64 number_of(const std::string& text) {
  char* end = nullptr;
  const u64 n = std::strtoull(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0') bad_usage("'" + text + "' is no number");
  return n;
}

void parse_seeds(const std::string& text, Options* o) {
  const std::size_t dots = text.find("..");
  o->first = number_of(text.substr(0, dots));
  o->last = dots == std::string::npos ? o->first : number_of(text.substr(dots + 2));
}

Options parse(int argc, char** argv) {
  Options o;
  o.jobs = std::max(1U, std::thread::hardware_concurrency());
  if (const char* file = std::getenv("SPW_REPLAY")) o.replay = file;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) bad_usage(arg + " needs a value");
      return argv[++i];
    };
    if (arg == "--help" || arg == "-h") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    } else if (arg == "--seeds") {
      parse_seeds(value(), &o);
    } else if (arg == "--steps") {
      o.steps = static_cast<u32>(number_of(value()));
    } else if (arg == "--jobs") {
      o.jobs = static_cast<u32>(std::max<u64>(1, number_of(value())));
    } else if (arg == "--seconds") {
      o.seconds = static_cast<u32>(number_of(value()));
    } else if (arg == "--shrink-seconds") {
      o.shrink_seconds = static_cast<u32>(number_of(value()));
    } else if (arg == "--keep-going") {
      o.keep_going = true;
    } else if (arg == "--stats") {
      o.stats = true;
    } else if (arg == "--digest") {
      o.digest = true;
    } else if (arg == "--replay") {
      o.replay = value();
    } else if (arg == "--sweep") {
      parse_seeds(value(), &o);
      o.sweep = true;
    } else if (arg == "--print-seed") {
      o.print_seed = number_of(value());
    } else {
      bad_usage("unknown option '" + arg + "'");
    }
  }
  return o;
}

int shrink_and_report(const Options& o, const RunResult& failed) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::seconds(o.shrink_seconds);
  const auto fails = [&](const SimCase& c) {
    const RunResult r = run_case(c, o.seconds);
    return !r.ok && same_failure(r.failure, failed.failure);
  };
  SimCase shortest = failed.ran;
  if (o.shrink_seconds != 0) {
    if (fails(shortest)) {
      shortest = shrink(shortest, fails, [&] { return Clock::now() < end; });
    } else {
      std::printf("spw_sim: the recorded case does not fail again: not deterministic\n");
    }
  }
  RunResult last = run_case(shortest, o.seconds);
  if (last.ok) last = failed;
  last.ran = failed.ran;
  std::fputs(report(last, shortest).c_str(), stdout);
  return 1;
}

void print_counters(const u64* values) {
  for (u32 i = 0; i < kCounterCount; ++i) {
    std::printf("%-20s %llu\n", name_of(static_cast<Counter>(i)),
                static_cast<unsigned long long>(values[i]));
  }
}

int replay(const Options& o) {
  std::ifstream file(o.replay);
  if (!file) bad_usage("cannot read " + o.replay);
  std::ostringstream text;
  text << file.rdbuf();
  std::string problem;
  const auto c = parse_case(text.str(), &problem);
  if (!c.has_value()) bad_usage(o.replay + ": " + problem);
  const RunResult result = run_case(*c, o.seconds);
  if (!result.ok) return shrink_and_report(o, result);
  if (o.stats) print_counters(result.counters);
  if (o.digest) std::printf("digest %016llx\n", static_cast<unsigned long long>(result.digest));
  std::printf("spw_sim: %zu operations of %s passed\n", c->ops.size(), o.replay.c_str());
  return 0;
}

// Every opportunity of every kind of failure fails once, in a run of its own; beyond the first
// few only some of them, ever further apart. Returns the first run that fails, if one does.
std::optional<RunResult> sweep_case(const SimCase& base, u32 seconds, u64* runs) {
  for (u32 kind = 0; kind < kFailureCount; ++kind) {
    for (u64 nth = 1;; nth += 1 + nth / 16) {
      SimCase c = base;
      Op fail;
      fail.kind = OpKind::fail;
      fail.failure = static_cast<Failure>(kind);
      fail.number = nth;
      c.ops.insert(c.ops.begin(), fail);
      const RunResult r = run_case(c, seconds);
      ++*runs;
      if (!r.ok) return r;
      if (r.fired[kind] == 0) break;
    }
  }
  return std::nullopt;
}

int sweep(const Options& o) {
  u64 runs = 0;
  for (u64 seed = o.first; seed <= o.last; ++seed) {
    SimCase base = run_seed(seed, o.steps, o.seconds).ran;
    std::erase_if(base.ops, [](const Op& op) { return op.kind == OpKind::fail; });
    const std::optional<RunResult> failed = sweep_case(base, o.seconds, &runs);
    if (failed.has_value()) return shrink_and_report(o, *failed);
  }
  std::printf("spw_sim: %llu runs with one failure each passed\n",
              static_cast<unsigned long long>(runs));
  return 0;
}

int run(const Options& o) {
  u64 passed = 0;
  u64 failures = 0;
  RunResult first_failure;
  u64 failed_seed = 0;
  Counters sum{};
  run_seeds(o.first, o.last, o.steps, o.seconds, o.jobs, [&](u64 seed, const RunResult& r) {
    if (o.digest) {
      std::printf("seed %llu digest %016llx\n", static_cast<unsigned long long>(seed),
                  static_cast<unsigned long long>(r.digest));
    }
    for (u32 i = 0; i < r.counter_count; ++i) sum.value[i] += r.counters[i];
    if (r.ok) {
      ++passed;
      return true;
    }
    ++failures;
    if (o.keep_going) {
      std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), r.failure.c_str());
      return true;
    }
    first_failure = r;
    failed_seed = seed;
    return false;
  });
  if (o.stats) print_counters(sum.value);
  if (failures == 0) {
    std::printf("spw_sim: %llu seeds of %u operations passed\n",
                static_cast<unsigned long long>(passed), o.steps);
    return 0;
  }
  if (o.keep_going) {
    std::printf("spw_sim: FAILED: %llu of %llu seeds\n", static_cast<unsigned long long>(failures),
                static_cast<unsigned long long>(failures + passed));
    return 1;
  }
  std::printf("spw_sim: seed %llu fails; `spw_sim --seeds %llu --steps %u` shows it again\n",
              static_cast<unsigned long long>(failed_seed),
              static_cast<unsigned long long>(failed_seed), o.steps);
  return shrink_and_report(o, first_failure);
}

}  // namespace
}  // namespace spillway::sim

int main(int argc, char** argv) {
  using namespace spillway::sim;
  const Options o = parse(argc, argv);
  if (!o.replay.empty()) return replay(o);
  if (o.sweep) return sweep(o);
  if (o.print_seed != 0) {
    std::fputs(print(run_seed(o.print_seed, o.steps, o.seconds).ran).c_str(), stdout);
    return 0;
  }
  return run(o);
}
