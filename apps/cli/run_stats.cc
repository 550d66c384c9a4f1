#include "cli/run_stats.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "cli/sizes.h"

namespace spillway {
namespace {

// Grows when a key changes its meaning or goes away; new keys do not count.
constexpr const char* kReportSchema = "spillway.run/1";

std::string show_seconds(double seconds) {
  if (seconds < 100) return fmt::format("{:.2f} s", seconds);
  const u64 whole = static_cast<u64>(std::llround(seconds));
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

std::string show_pages(u64 pages) {
  return fmt::format("{:>13}   {}", show_count(pages), show_size(pages << kPageShift));
}

std::string show_exit(int code) {
  if (code > 128 && code <= 192) return fmt::format("{} (signal {})", code, code - 128);
  return std::to_string(code);
}

double wait_seconds(const Counters& counters) {
  return static_cast<double>(counters[Counter::wait_ns]) / 1e9;
}

std::string show_budget(const RunStats& stats) {
  std::string out = show_size(stats.ram_bytes) + " RAM";
  if (stats.swap_ram_given) out += ", " + show_size(stats.swap_ram_bytes) + " compressed";
  out += stats.swap_max_bytes == 0 ? ", no disk"
                                   : ", at most " + show_size(stats.swap_max_bytes) + " on disk";
  return out;
}

}  // namespace

const char* name_of(StopReason reason) {
  switch (reason) {
    case StopReason::none: return "none";
    case StopReason::exhausted: return "exhausted";
    case StopReason::corrupt: return "corrupt";
    case StopReason::internal: return "internal";
  }
  return "unknown";
}

double compression_ratio(const Counters& counters) {
  const u64 out = counters[Counter::swap_bytes_out];
  if (out == 0) return 0;
  return static_cast<double>(counters[Counter::swap_bytes_in]) / static_cast<double>(out);
}

void find_stop_reason(const Ledger& ledger, i32 child, RunStats& stats) {
  for (const LedgerProcess& process : ledger.process) {
    const u32 reason = process.stop_reason.load(std::memory_order_acquire);
    const i32 pid = process.pid.load(std::memory_order_relaxed);
    if (reason == static_cast<u32>(StopReason::none)) continue;
    if (stats.stop_reason != StopReason::none && pid != child) continue;
    stats.stop_reason = static_cast<StopReason>(reason);
    stats.stopped_pid = pid;
    // The entry lies in memory that other processes write: its end is not taken on trust.
    stats.stopped_command.assign(process.command,
                                 ::strnlen(process.command, sizeof process.command));
  }
}

std::string stop_sentence(const RunStats& stats) {
  const std::string who =
      stats.stopped_command.empty()
          ? "a process"
          : fmt::format("{} (process {})", stats.stopped_command, stats.stopped_pid);
  switch (stats.stop_reason) {
    case StopReason::none: return "";
    case StopReason::exhausted: {
      std::string raise = "--ram";
      if (stats.swap_ram_given) raise += ", --swap-ram";
      raise += " or --swap-max";
      return fmt::format("{}: was stopped because its budget ({}) is used up; raise {}", who,
                         show_budget(stats), raise);
    }
    case StopReason::corrupt:
      return fmt::format(
          "{}: was stopped because a page came back damaged from swap; check the disk of the swap "
          "folder and the RAM of this machine",
          who);
    case StopReason::internal:
      return fmt::format(
          "{}: was stopped by an error inside Spillway; please report it with the lines above",
          who);
  }
  return "";
}

std::string stats_table(const RunStats& stats) {
  const Counters& c = stats.counters;
  std::string out = fmt::format("spillway: {}\n", stats.program);
  const auto row = [&out](const char* name, const std::string& value) {
    out += fmt::format("  {:<22}{}\n", name, value);
  };
  const auto count = [](u64 n) { return fmt::format("{:>13}", show_count(n)); };
  row("exit status", show_exit(stats.exit_code));
  row("elapsed", show_seconds(stats.elapsed_seconds));
  const double waited = wait_seconds(c);
  row("waited for pages",
      stats.elapsed_seconds > 0
          ? fmt::format("{}, all threads together ({:.0f} % of elapsed)", show_seconds(waited),
                        100 * waited / stats.elapsed_seconds)
          : show_seconds(waited));
  row("budget", show_budget(stats));
  row("peak RSS", fmt::format("{} largest process, {} all together",
                              show_size(stats.peak_rss_bytes), show_size(stats.peak_tree_bytes)));
  row("programs served", std::to_string(stats.engines));
  out += "\n";
  row("page faults", count(c[Counter::pgfault]));
  row("  major (from swap)", count(c[Counter::pgmajfault]));
  row("  soft (still in RAM)", count(c[Counter::pgsoftfault]));
  row("  fresh pages", show_pages(c[Counter::pgfresh]));
  row("swapped out", show_pages(c[Counter::pswpout]));
  row("swapped in", show_pages(c[Counter::pswpin]));
  const double ratio = compression_ratio(c);
  row("compression", ratio == 0 ? fmt::format("{:>13}", "none")
                                : fmt::format("{:>13}   {} to {}", fmt::format("{:.2f} : 1", ratio),
                                              show_size(c[Counter::swap_bytes_in]),
                                              show_size(c[Counter::swap_bytes_out])));
  row("disk", fmt::format("{:>13}   written, {} read", show_size(c[Counter::disk_write_bytes]),
                          show_size(c[Counter::disk_read_bytes])));
  return out;
}

std::string progress_line(const Progress& progress) {
  std::string out =
      fmt::format("spillway: {:>7} {:>9} in RAM {:>9} swapped {:>9} faults/s",
                  fmt::format("{:.0f} s", progress.elapsed_seconds), show_size(progress.rss_bytes),
                  show_size(progress.swapped_bytes),
                  show_count(static_cast<u64>(std::llround(progress.faults_per_second))));
  if (progress.processes > 1) out += fmt::format(" {:>4} processes", progress.processes);
  return out;
}

std::string report_json(const RunStats& stats) {
  const Counters& c = stats.counters;
  nlohmann::ordered_json report;
  report["schema"] = kReportSchema;
  report["program"] = stats.program;
  report["exit_code"] = stats.exit_code;
  report["stop_reason"] = name_of(stats.stop_reason);
  report["elapsed_seconds"] = stats.elapsed_seconds;
  report["wait_seconds"] = wait_seconds(c);
  report["ram_bytes"] = stats.ram_bytes;
  report["swap_ram_bytes"] = stats.swap_ram_bytes;
  report["swap_max_bytes"] = stats.swap_max_bytes;
  report["peak_rss_bytes"] = stats.peak_rss_bytes;
  report["peak_tree_bytes"] = stats.peak_tree_bytes;
  report["engines"] = stats.engines;
  report["faults"] = c[Counter::pgfault];
  report["soft_faults"] = c[Counter::pgsoftfault];
  report["compression_ratio"] = compression_ratio(c);
  for (u32 i = 0; i < kCounterCount; ++i) {
    const Counter counter = static_cast<Counter>(i);
    report[name_of(counter)] = c[counter];
  }
  // Arguments may hold any bytes; those that are not UTF-8 must not cost the whole report.
  return report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace spillway
