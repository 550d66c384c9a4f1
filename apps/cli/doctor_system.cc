// The doctor about limits of memory and about the swap folder.
#include <fmt/format.h>
#include <sys/resource.h>

#include <fstream>

#include "cli/budget.h"
#include "cli/doctor.h"
#include "cli/exit_codes.h"
#include "cli/memory_limit.h"
#include "cli/sizes.h"
#include "cli/swap_dir.h"

namespace spillway {
namespace {

// The library reserves so many addresses unless --reserve says otherwise.
constexpr u64 kReserveBytesDefault = u64{1} << 40;
// Less free disk than this is soon used up.
constexpr u64 kDiskBytesComfortable = u64{1} << 30;

// First line of a file of /proc or /sys; empty if it cannot be read.
std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string show_limit(rlim_t limit) {
  return limit == RLIM_INFINITY ? "unlimited" : show_size(static_cast<u64>(limit));
}

void check_ram(std::vector<Check>& checks) {
  const u64 physical = physical_ram();
  checks.push_back({"ram", CheckStatus::ok, "RAM", show_size(physical) + " in this machine", ""});
  const std::optional<MemoryLimit> limit = tightest_cgroup_limit();
  checks.push_back({"cgroup", CheckStatus::ok, "control group",
                    limit ? fmt::format("{} at most ({})", show_size(limit->bytes), limit->source)
                          : "no limit of memory",
                    ""});
  const u64 share = (limit ? limit->bytes : physical) / 100 * kDefaultRamPercent;
  const bool enough = share >= kRamBytesMin;
  checks.push_back({"ram.default", enough ? CheckStatus::ok : CheckStatus::warn, "default of --ram",
                    fmt::format("{} ({} %)", show_size(share), kDefaultRamPercent),
                    enough ? "" : fmt::format("give --ram at least {}M", kRamBytesMin >> 20)});
}

void check_rlimits(std::vector<Check>& checks) {
  rlimit addresses{};
  ::getrlimit(RLIMIT_AS, &addresses);
  const bool roomy =
      addresses.rlim_cur == RLIM_INFINITY || addresses.rlim_cur > kReserveBytesDefault;
  checks.push_back(
      {"rlimit.as", roomy ? CheckStatus::ok : CheckStatus::warn, "virtual memory",
       show_limit(addresses.rlim_cur) + " (ulimit -v)",
       roomy ? "" : "lift it (ulimit -v unlimited), or give --reserve about half of it"});
  rlimit locked{};
  ::getrlimit(RLIMIT_MEMLOCK, &locked);
  checks.push_back({"rlimit.memlock", CheckStatus::ok, "locked memory",
                    show_limit(locked.rlim_cur) + " (ulimit -l); locked pages are never swapped",
                    ""});
}

void check_kernel_settings(std::vector<Check>& checks) {
  const std::string overcommit = first_line("/proc/sys/vm/overcommit_memory");
  const bool strict = overcommit == "2";
  checks.push_back(
      {"overcommit", strict ? CheckStatus::warn : CheckStatus::ok, "overcommit",
       strict ? "strict (vm.overcommit_memory=2): reserved addresses count as memory"
              : fmt::format("vm.overcommit_memory={}", overcommit.empty() ? "unknown" : overcommit),
       strict ? "give --reserve a size below the commit limit, or set vm.overcommit_memory to 0"
              : ""});
  const std::string huge = first_line("/sys/kernel/mm/transparent_hugepage/enabled");
  checks.push_back(
      {"thp", CheckStatus::ok, "huge pages",
       huge.empty() ? "none in this kernel" : huge + "; pages under the budget are always small",
       ""});
}

}  // namespace

void check_limits(std::vector<Check>& checks) {
  check_ram(checks);
  check_rlimits(checks);
  check_kernel_settings(checks);
}

void check_swap(const Setting& swap_dir, std::vector<Check>& checks) {
  SwapDir dir;
  try {
    dir = check_swap_dir(swap_dir, std::getenv("TMPDIR"));
  } catch (const CliError& error) {
    // The line is `thing: wrong; remedy`.
    const std::string line = error.what();
    const std::size_t cut = line.rfind("; ");
    checks.push_back({"swap.dir", CheckStatus::missing, "swap folder", line.substr(0, cut),
                      line.substr(cut + 2) + ", or run with --swap-max 0"});
    return;
  }
  checks.push_back({"swap.dir", dir.in_ram ? CheckStatus::warn : CheckStatus::ok, "swap folder",
                    fmt::format("{} (from {}){}", dir.path, dir.source,
                                dir.in_ram ? " lies in RAM (tmpfs)" : ""),
                    dir.in_ram ? "choose a folder on a disk with --swap-dir" : ""});
  const bool comfortable = dir.bytes_free >= kDiskBytesComfortable;
  checks.push_back({"swap.free", comfortable ? CheckStatus::ok : CheckStatus::warn, "free disk",
                    show_size(dir.bytes_free) + " in that folder",
                    comfortable ? "" : "free some, or choose a folder elsewhere with --swap-dir"});
  const bool direct = supports_direct_io(dir.path);
  checks.push_back({"swap.direct", direct ? CheckStatus::ok : CheckStatus::warn, "direct I/O",
                    direct ? "swapped pages bypass the page cache (O_DIRECT)"
                           : "not possible there: swapped pages also fill the page cache, which no "
                             "budget counts",
                    direct ? "" : "choose a folder on a local disk with --swap-dir"});
}

}  // namespace spillway
