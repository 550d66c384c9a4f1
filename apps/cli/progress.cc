#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string_view>

#include "cli/run_options.h"
#include "cli/run_stats.h"

namespace spillway {
namespace {

constexpr u64 kIntervalNs = 1'000'000'000;
// Return to the first column and erase the line.
constexpr const char* kEraseLine = "\r\033[K";

u64 now_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<u64>(t.tv_sec) * 1'000'000'000 + static_cast<u64>(t.tv_nsec);
}

double seconds(u64 ns) { return static_cast<double>(ns) / 1e9; }

}  // namespace

ProgressMode progress_mode(bool stats, bool quiet) {
  const char* terminal = ::getenv("TERM");
  const bool can_erase =
      ::isatty(STDERR_FILENO) == 1 && terminal != nullptr && std::string_view(terminal) != "dumb";
  const char* forced = ::getenv("SPILLWAY_PROGRESS");
  if (forced != nullptr && forced[0] != '\0') {
    if (!is_switched_on("SPILLWAY_PROGRESS", forced)) return ProgressMode::off;
    return can_erase ? ProgressMode::terminal : ProgressMode::lines;
  }
  return stats && !quiet && can_erase ? ProgressMode::terminal : ProgressMode::off;
}

ProgressPrinter::ProgressPrinter(const Ledger& ledger, ProgressMode mode)
    : ledger_(ledger), mode_(mode), started_ns_(now_ns()), printed_ns_(started_ns_) {}

void ProgressPrinter::tick(const TreeSample& sample) {
  if (mode_ == ProgressMode::off) return;
  const u64 now = now_ns();
  if (now - printed_ns_ < kIntervalNs) return;
  const u64 faults = ledger_total(ledger_)[Counter::pgfault];
  Progress progress;
  progress.elapsed_seconds = seconds(now - started_ns_);
  progress.rss_bytes = sample.rss_bytes;
  progress.swapped_bytes = sample.swapped_bytes;
  // Counters of an engine that dies between two sums may be seen once less, never below zero.
  const u64 fresh = faults > faults_ ? faults - faults_ : 0;
  progress.faults_per_second = static_cast<double>(fresh) / seconds(now - printed_ns_);
  progress.processes = sample.processes;
  faults_ = faults;
  printed_ns_ = now;
  const bool terminal = mode_ == ProgressMode::terminal;
  fmt::print(stderr, "{}{}{}", terminal ? kEraseLine : "", progress_line(progress),
             terminal ? "" : "\n");
  std::fflush(stderr);
  shown_ = terminal;
}

void ProgressPrinter::clear() {
  if (!shown_) return;
  fmt::print(stderr, "{}", kEraseLine);
  std::fflush(stderr);
  shown_ = false;
}

}  // namespace spillway
