// spw_diff: the differential test against the real kernel as a command. See README.md.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "diff_shrink.h"
#include "generator.h"
#include "host_side.h"
#include "runner.h"

namespace spillway::diff {
namespace {

constexpr char kUsage[] =
    "usage: spw_diff [--seeds A..B | --seed N] [--steps N] [--jobs N] [--keep-going] [--stats]\n"
    "                [--self-check] [--seconds N] [--shrink-seconds N]\n"
    "       spw_diff --replay FILE [--self-check] [--shrink-seconds N] [--stats]\n"
    "       spw_diff --print-seed N [--steps N]\n"
    "\n"
    "Runs random system calls and accesses on the simulated machine and on the kernel beneath,\n"
    "and compares errors, signals, areas, bytes and files.\n"
    "  --seeds A..B        seeds to run (default 1..200)\n"
    "  --steps N           operations per seed (default 50)\n"
    "  --jobs N            cases at once (default: CPUs)\n"
    "  --keep-going        go on after a difference; sums up the kinds, nothing is shrunk\n"
    "  --stats             print what the cases reached\n"
    "  --self-check        the kernel against itself: the test must find nothing\n"
    "  --seconds N         most seconds for one case (default 30)\n"
    "  --shrink-seconds N  most seconds for making a failing case shorter (default 30)\n"
    "  --replay FILE       run the case in FILE\n"
    "  --print-seed N      print the case that seed N draws\n"
    "Exit status: 0 no difference, 1 a difference, 2 bad usage, 3 the host cannot run the test.\n";

constexpr int kExitCannotRun = 3;

struct Options {
  u64 first = 1;
  u64 last = 200;
  u32 steps = 50;
  u32 jobs = 1;
  u32 shrink_seconds = 30;
  bool keep_going = false;
  bool stats = false;
  std::string replay;
  std::optional<u64> print_seed;
  RunOptions run;
};

[[noreturn]] void bad_usage(const std::string& what) {
  std::fprintf(stderr, "spw_diff: %s\n%s", what.c_str(), kUsage);
  std::exit(2);
}

[[noreturn]] void cannot_run(const std::string& why) {
  std::fprintf(stderr, "spw_diff: cannot compare with this host's kernel: %s\n", why.c_str());
  std::exit(kExitCannotRun);
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
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) bad_usage(arg + " needs a value");
      return argv[++i];
    };
    const auto number = [&] { return static_cast<u32>(number_of(value())); };
    if (arg == "--help" || arg == "-h") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    } else if (arg == "--seeds" || arg == "--seed") {
      parse_seeds(value(), &o);
    } else if (arg == "--steps") {
      o.steps = number();
    } else if (arg == "--jobs") {
      o.jobs = std::max(1U, number());
    } else if (arg == "--seconds") {
      o.run.seconds_max = number();
    } else if (arg == "--shrink-seconds") {
      o.shrink_seconds = number();
    } else if (arg == "--keep-going") {
      o.keep_going = true;
    } else if (arg == "--stats") {
      o.stats = true;
    } else if (arg == "--self-check") {
      o.run.against = Against::kernel;
    } else if (arg == "--replay") {
      o.replay = value();
    } else if (arg == "--print-seed") {
      o.print_seed = number_of(value());
    } else {
      bad_usage("unknown option '" + arg + "'");
    }
  }
  return o;
}

void add(const Reached& from, Reached* to) {
  for (u32 i = 0; i < kOpKindCount; ++i) {
    for (u32 e = 0; e < Reached::kErrnos; ++e) to->answers[i][e] += from.answers[i][e];
  }
  for (u32 i = 0; i < std::size(to->signals); ++i) to->signals[i] += from.signals[i];
  to->skipped += from.skipped;
  to->normalised += from.normalised;
  to->checks += from.checks;
  to->pages_compared += from.pages_compared;
  to->swapped_out += from.swapped_out;
}

void print_stats(const Reached& r) {
  for (u32 i = 0; i < kOpKindCount; ++i) {
    const OpKind kind = static_cast<OpKind>(i);
    if (kind == OpKind::check) continue;
    std::printf("%-11s", name_of(kind));
    for (u32 e = 0; e < Reached::kErrnos; ++e) {
      if (r.answers[i][e] == 0) continue;
      std::printf(" %s %llu", errno_name(static_cast<int>(e)).c_str(),
                  static_cast<unsigned long long>(r.answers[i][e]));
    }
    std::printf("\n");
  }
  const auto show = [](const char* what, u64 n) {
    std::printf("%-31s %llu\n", what, static_cast<unsigned long long>(n));
  };
  show("accesses with SEGV_MAPERR", r.signals[0]);
  show("accesses with SEGV_ACCERR", r.signals[1]);
  show("accesses with SIGBUS", r.signals[2]);
  show("operations skipped", r.skipped);
  show("brought to the same state", r.normalised);
  show("checks of all bytes", r.checks);
  show("pages compared in them", r.pages_compared);
  show("pages swapped out by the model", r.swapped_out);
}

int shrink_and_report(const Options& o, DiffCase c, RunResult failed) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::seconds(o.shrink_seconds);
  const auto fails = [&](const DiffCase& candidate) {
    const RunResult r = run_case(candidate, o.run);
    return !r.ok && r.kind == failed.kind;
  };
  const u64 length = c.ops.size();
  if (o.shrink_seconds != 0) {
    if (fails(c)) {
      c = shrink(std::move(c), fails, [&] { return Clock::now() < end; });
      const RunResult last = run_case(c, o.run);
      if (!last.ok) failed = last;
    } else {
      std::printf("spw_diff: the difference does not show again: not deterministic\n");
    }
  }
  std::printf("spw_diff: DIFFERENCE: %s\n%s", failed.kind.c_str(), failed.text.c_str());
  std::printf(
      "shortest case found (%zu of %llu operations); save it and run `spw_diff --replay FILE`:\n"
      "---8<---\n%s--->8---\n",
      c.ops.size(), static_cast<unsigned long long>(length), print(c).c_str());
  return 1;
}

int replay(const Options& o) {
  std::ifstream file(o.replay);
  if (!file) bad_usage("cannot read " + o.replay);
  std::ostringstream text;
  text << file.rdbuf();
  std::string problem;
  const auto c = parse_case(text.str(), &problem);
  if (!c.has_value()) bad_usage(o.replay + ": " + problem);
  const RunResult result = run_case(*c, o.run);
  if (result.cannot_run) cannot_run(result.text);
  if (o.stats) print_stats(result.reached);
  if (!result.ok) return shrink_and_report(o, *c, result);
  std::printf("spw_diff: %zu operations of %s: no difference\n", c->ops.size(), o.replay.c_str());
  return 0;
}

// Kinds of difference with how often and where they were seen.
struct Seen {
  u64 count = 0;
  u64 seed = 0;
  u64 step = 0;
};

int run(const Options& o) {
  Reached sum;
  u64 passed = 0;
  std::optional<u64> failed_seed;
  RunResult first_failure;
  std::map<std::string, Seen> kinds;
  run_seeds(o.first, o.last, o.steps, o.jobs, o.run, [&](u64 seed, const RunResult& r) {
    if (r.cannot_run) cannot_run("seed " + std::to_string(seed) + ": " + r.text);
    add(r.reached, &sum);
    if (r.ok) {
      ++passed;
      return true;
    }
    Seen& seen = kinds[r.kind];
    // The shortest way to it is the best to look at.
    if (seen.count++ == 0 || r.step < seen.step) {
      seen.seed = seed;
      seen.step = r.step;
    }
    if (o.keep_going) return true;
    first_failure = r;
    failed_seed = seed;
    return false;
  });
  if (o.stats) print_stats(sum);
  if (failed_seed.has_value()) {
    std::printf("spw_diff: seed %llu differs; `spw_diff --seed %llu --steps %u` shows it again\n",
                static_cast<unsigned long long>(*failed_seed),
                static_cast<unsigned long long>(*failed_seed), o.steps);
    return shrink_and_report(o, Generator(*failed_seed).draw(o.steps), first_failure);
  }
  for (const auto& [kind, seen] : kinds) {
    std::printf("%6llu x %s (seed %llu)\n", static_cast<unsigned long long>(seen.count),
                kind.c_str(), static_cast<unsigned long long>(seen.seed));
  }
  std::printf("spw_diff: %llu sequences of %u operations without a difference%s\n",
              static_cast<unsigned long long>(passed), o.steps,
              kinds.empty() ? "" : ", others with");
  return kinds.empty() ? 0 : 1;
}

// The program under test lies beside this one.
std::string find_actor() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) cannot_run("/proc is not mounted");
  const auto actor = self.parent_path() / "spw_diff_actor";
  if (!std::filesystem::exists(actor)) cannot_run(actor.string() + " is missing");
  return actor.string();
}

}  // namespace
}  // namespace spillway::diff

int main(int argc, char** argv) {
  using namespace spillway::diff;
  Options o = parse(argc, argv);
  if (o.print_seed.has_value()) {
    std::fputs(print(Generator(*o.print_seed).draw(o.steps)).c_str(), stdout);
    return 0;
  }
  const std::string objection = host_objection();
  if (!objection.empty()) cannot_run(objection);
  o.run.actor_path = find_actor();
  return o.replay.empty() ? run(o) : replay(o);
}
