#include "cli/run_command.h"

#include <fmt/format.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "cli/budget.h"
#include "cli/child_environment.h"
#include "cli/child_process.h"
#include "cli/exit_codes.h"
#include "cli/memory_limit.h"
#include "cli/preload_library.h"
#include "cli/program.h"
#include "cli/progress.h"
#include "cli/report_file.h"
#include "cli/run_stats.h"
#include "cli/swap_dir.h"
#include "cli/tree_sampler.h"
#include "cli/uffd_access.h"

namespace spillway {
namespace {

// Everything that is decided before the program starts.
struct Plan {
  Budget budget;
  SwapDir swap_dir;
  Program program;
  std::unique_ptr<ReportFile> report;
  std::string preload_library;
  UffdAccess uffd;
};

void say(const std::string& line) { fmt::print(stderr, "spillway: {}\n", line); }

// One tree has one budget; a second one inside it could only break the first.
void refuse_nesting() {
  const char* text = ::getenv("SPILLWAY_LEDGER_FD");
  if (text == nullptr) return;
  int fd = -1;
  const char* end = text + std::strlen(text);
  if (std::from_chars(text, end, fd).ptr != end || fd < 0) return;
  const Ledger* ledger = ledger_attach(fd);
  if (ledger == nullptr) return;
  throw CliError("run",
                 fmt::format("this shell already runs under Spillway, with a budget of {}",
                             show_size(ledger->frames_total << kPageShift)),
                 "start the program without 'spillway run'; it shares that budget");
}

Plan make_plan(const RunOptions& options) {
  if (::getauxval(AT_SECURE) != 0) {
    throw CliError("spillway", "is installed set-user-ID, set-group-ID or with capabilities",
                   "remove that privilege from it; 'spillway doctor' tells what it needs instead");
  }
  refuse_nesting();
  Plan plan;
  HostFacts host;
  host.usable = usable_ram();
  host.physical_bytes = physical_ram();
  if (options.swap_dir.given() || wants_disk(options.budget)) {
    plan.swap_dir = check_swap_dir(options.swap_dir, ::getenv("TMPDIR"));
    host.disk_bytes_free = plan.swap_dir.bytes_free;
    host.swap_dir = plan.swap_dir.path;
  }
  plan.budget = compute_budget(options.budget, host);
  if (plan.swap_dir.in_ram && plan.budget.swap_max_bytes != 0) {
    plan.budget.warnings.push_back(fmt::format(
        "swap folder {}: lies in RAM (tmpfs), so what is swapped there still takes RAM; choose a "
        "folder on a disk with --swap-dir",
        plan.swap_dir.path));
  }
  const std::string path = find_program(options.command[0], ::getenv("PATH"));
  plan.program = inspect_program(path, own_credentials());
  if (options.report.given()) {
    plan.report = std::make_unique<ReportFile>(options.report.origin, options.report.text);
  }
  plan.preload_library = find_preload_library(own_folder());
  plan.uffd = require_uffd();
  return plan;
}

void print_notes(const RunOptions& options, const Plan& plan) {
  if (!options.quiet) {
    for (const std::string& warning : plan.budget.warnings) say(warning);
  }
  if (!options.verbose) return;
  for (const std::string& note : plan.budget.notes) say(note);
  say("page faults: " + plan.uffd.source);
  say("library: " + plan.preload_library);
  say("program: " + plan.program.path +
      (plan.program.elf == plan.program.path ? "" : ", run by " + plan.program.elf));
}

Ledger& make_ledger(const Budget& budget, InheritedFds& fds) {
  int fd = -1;
  Ledger* ledger =
      ledger_create(budget.frames_total, budget.pool_frames_max, budget.swap_max_bytes, &fd);
  if (ledger == nullptr) {
    throw CliError("the ledger", fmt::format("cannot be created: {}", std::strerror(errno)),
                   "free some memory, or raise 'ulimit -n'");
  }
  fds.ledger = make_inheritable(fd);
  if (fds.ledger < 0) {
    throw CliError("the ledger", fmt::format("cannot be handed on: {}", std::strerror(errno)),
                   "raise 'ulimit -n'");
  }
  return *ledger;
}

RunStats gather(const Plan& plan, const Ledger& ledger, const ChildResult& child,
                const TreeSampler& sampler) {
  RunStats stats;
  stats.program = plan.program.path;
  stats.exit_code = exit_code_of(child.wait_status);
  stats.elapsed_seconds = static_cast<double>(child.elapsed_ns) / 1e9;
  stats.ram_bytes = plan.budget.ram_bytes;
  stats.swap_ram_bytes = plan.budget.swap_ram_bytes;
  stats.swap_ram_given = plan.budget.swap_ram_given;
  stats.swap_max_bytes = plan.budget.swap_max_bytes;
  stats.peak_rss_bytes = static_cast<u64>(child.usage.ru_maxrss) * 1024;
  // Samples miss what is shorter than they are apart; one process alone is a lower bound.
  stats.peak_tree_bytes = std::max(sampler.peak_bytes(), stats.peak_rss_bytes);
  stats.engines = ledger.engines_started.load(std::memory_order_relaxed);
  stats.counters = ledger_total(ledger);
  find_stop_reason(ledger, child.pid, stats);
  return stats;
}

// Returns the exit code: a lost report must not look like success.
int report(const RunOptions& options, const Plan& plan, const RunStats& stats) {
  const std::string sentence = stop_sentence(stats);
  if (!sentence.empty()) say(sentence);
  if (stats.engines == 0 && !options.quiet && stats.exit_code != kExitFailure) {
    say(plan.program.path +
        ": Spillway's library did not start in it, so its memory was not limited; run 'spillway "
        "doctor'");
  }
  if (options.stats) fmt::print(stderr, "{}", stats_table(stats));
  if (plan.report == nullptr) return stats.exit_code;
  try {
    plan.report->write(report_json(stats));
  } catch (const CliError& error) {
    say(error.what());
    return stats.exit_code == 0 ? kExitFailure : stats.exit_code;
  }
  return stats.exit_code;
}

}  // namespace

int run_command(const RunOptions& options) {
  const Plan plan = make_plan(options);
  print_notes(options, plan);
  InheritedFds fds;
  fds.uffd_device = plan.uffd.device_fd;
  const Ledger& ledger = make_ledger(plan.budget, fds);

  TreeSampler sampler(ledger);
  ProgressPrinter progress(ledger, progress_mode(options.stats, options.quiet));
  ChildSpec spec;
  spec.path = plan.program.path;
  spec.arguments = options.command;
  spec.environment = child_environment(own_environment(), plan.preload_library, plan.budget,
                                       plan.swap_dir.path, fds);
  spec.tick = [&](pid_t child) { progress.tick(sampler.sample(child)); };
  const ChildResult child = run_child(spec);
  progress.clear();
  return report(options, plan, gather(plan, ledger, child, sampler));
}

}  // namespace spillway
