#include "command.h"

#include <cstdlib>
#include <thread>

namespace spillway::harness {
namespace {

constexpr char kUsage[] =
    "usage: %s [--seeds A..B] [--steps N] [--jobs N] [--seconds N] [--shrink-seconds N]\n"
    "               [--keep-going] [--stats] [--digest]\n"
    "       %s --replay FILE [--shrink-seconds N] [--stats] [--digest]\n"
    "               (or SPW_REPLAY=FILE %s)\n"
    "       %s --print-seed S [--steps N]\n";
constexpr char kSweepUsage[] = "       %s --sweep A..B [--steps N]\n";
constexpr char kOptions[] =
    "\n%s\n"
    "  --seeds A..B          seeds to run (default 1..100)\n"
    "  --steps N             operations per seed (default 300)\n"
    "  --jobs N              processes at once (default: CPUs)\n"
    "  --seconds N           most seconds for one case (default 60)\n"
    "  --shrink-seconds N    most seconds for making a failing case shorter (default 30)\n"
    "  --keep-going          go on after a failing seed; one line for each, nothing is shrunk\n"
    "  --stats               print what the cases reached, summed over all seeds\n"
    "  --digest              print a number for each seed that stands for all it did\n"
    "  --replay FILE         run the case in FILE\n"
    "  --print-seed S        print the case that seed S draws\n";
constexpr char kSweepOption[] =
    "  --sweep A..B          for each seed and each kind of failure: the case with the first\n"
    "                        opportunity failing, then with the second, until none fails\n";
constexpr char kStatus[] = "Exit status: 0 all cases passed, 1 one failed, 2 bad usage.\n";

void print_usage(const Program& p, std::FILE* to) {
  std::fprintf(to, kUsage, p.name, p.name, p.name, p.name);
  if (p.has_sweep) std::fprintf(to, kSweepUsage, p.name);
  std::fprintf(to, kOptions, p.about);
  if (p.has_sweep) std::fputs(kSweepOption, to);
  std::fputs(kStatus, to);
}

u64 number_of(const Program& program, const std::string& text) {
  char* end = nullptr;
  const u64 n = std::strtoull(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0') bad_usage(program, "'" + text + "' is no number");
  return n;
}

void parse_seeds(const Program& program, const std::string& text, Options* o) {
  const std::size_t dots = text.find("..");
  o->first = number_of(program, text.substr(0, dots));
  o->last = dots == std::string::npos ? o->first : number_of(program, text.substr(dots + 2));
}

// Options without a value; false if `arg` is none of them.
bool parse_switch(const std::string& arg, Options* o) {
  if (arg == "--keep-going") {
    o->keep_going = true;
  } else if (arg == "--stats") {
    o->stats = true;
  } else if (arg == "--digest") {
    o->digest = true;
  } else {
    return false;
  }
  return true;
}

}  // namespace

void bad_usage(const Program& program, const std::string& what) {
  std::fprintf(stderr, "%s: %s\n", program.name, what.c_str());
  print_usage(program, stderr);
  std::exit(2);
}

Options parse_options(const Program& program, int argc, char** argv) {
  Options o;
  o.jobs = std::max(1U, std::thread::hardware_concurrency());
  if (const char* file = std::getenv("SPW_REPLAY")) o.replay = file;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--help" || arg == "-h") {
      print_usage(program, stdout);
      std::exit(0);
    }
    if (parse_switch(arg, &o)) continue;
    if (i + 1 == argc) bad_usage(program, "'" + arg + "' is unknown or needs a value");
    const std::string value = argv[++i];
    const auto number = [&] { return static_cast<u32>(number_of(program, value)); };
    if (arg == "--seeds") {
      parse_seeds(program, value, &o);
    } else if (arg == "--steps") {
      o.steps = number();
    } else if (arg == "--jobs") {
      o.jobs = std::max(1U, number());
    } else if (arg == "--seconds") {
      o.seconds = number();
    } else if (arg == "--shrink-seconds") {
      o.shrink_seconds = number();
    } else if (arg == "--replay") {
      o.replay = value;
    } else if (arg == "--sweep" && program.has_sweep) {
      parse_seeds(program, value, &o);
      o.sweep = true;
    } else if (arg == "--print-seed") {
      o.print_seed = number_of(program, value);
    } else {
      bad_usage(program, "unknown option '" + arg + "'");
    }
  }
  return o;
}

void print_counters(const Counters& counters) {
  for (u32 i = 0; i < kCounterCount; ++i) {
    std::printf("%-20s %llu\n", name_of(static_cast<Counter>(i)),
                static_cast<unsigned long long>(counters.value[i]));
  }
}

}  // namespace spillway::harness
