#include "cli/budget.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/exit_codes.h"

namespace spillway {
namespace {

bool is_auto(const Setting& setting) { return !setting.given() || setting.text == "auto"; }

std::string named(const Setting& setting) {
  return fmt::format("{} {}", setting.origin, setting.text);
}

u64 default_ram(const Budget& budget, const HostFacts& host) {
  if (host.usable.bytes == 0) {
    throw CliError("--ram", "the RAM of this machine cannot be read from /proc/meminfo",
                   "give --ram a size");
  }
  const u64 share = host.usable.bytes / 100 * kDefaultRamPercent;
  // Both together must fit: what is set aside for compressed pages comes out of the share.
  return share > budget.swap_ram_bytes ? share - budget.swap_ram_bytes : 0;
}

void set_swap_ram(Budget& budget, const BudgetRequest& request, const HostFacts& host) {
  if (!request.swap_ram.given()) return;
  budget.swap_ram_given = true;
  budget.swap_ram_bytes =
      size_of(request.swap_ram, host.usable.bytes, host.usable.source) & ~kPageMask;
  if (budget.swap_ram_bytes > kRamBytesMax) {
    throw CliError(named(request.swap_ram),
                   fmt::format("is more than the most of {}", show_size(kRamBytesMax)),
                   "give a smaller size");
  }
}

void set_ram(Budget& budget, const BudgetRequest& request, const HostFacts& host) {
  const bool automatic = is_auto(request.ram);
  budget.ram_bytes = automatic ? default_ram(budget, host)
                               : size_of(request.ram, host.usable.bytes, host.usable.source);
  budget.ram_bytes &= ~kPageMask;
  const std::string thing =
      automatic ? fmt::format("--ram auto ({})", show_size(budget.ram_bytes)) : named(request.ram);
  if (budget.ram_bytes < kRamBytesMin) {
    throw CliError(thing, fmt::format("is less than the least of {}", show_size(kRamBytesMin)),
                   fmt::format("give --ram at least {}M", kRamBytesMin >> 20));
  }
  if (budget.ram_bytes + budget.swap_ram_bytes > kRamBytesMax) {
    throw CliError(thing, fmt::format("is more than the most of {}", show_size(kRamBytesMax)),
                   "give a smaller size");
  }
  const std::string source =
      automatic
          ? fmt::format("{} % of the {} of {}{}", kDefaultRamPercent, show_size(host.usable.bytes),
                        host.usable.source, budget.swap_ram_given ? ", less --swap-ram" : "")
          : named(request.ram);
  budget.notes.push_back(fmt::format("RAM for the program's pages: {} ({} bytes), from {}",
                                     show_size(budget.ram_bytes), budget.ram_bytes, source));
  const u64 together = budget.ram_bytes + budget.swap_ram_bytes;
  if (host.usable.bytes != 0 && together > host.usable.bytes) {
    budget.warnings.push_back(
        fmt::format("--ram: {} is more than the {} that {} allows; the kernel may end the program "
                    "before Spillway has to swap",
                    show_size(together), show_size(host.usable.bytes), host.usable.source));
  }
}

void set_swap_max(Budget& budget, const BudgetRequest& request, const HostFacts& host) {
  std::string source;
  if (is_auto(request.swap_max)) {
    const u64 by_ram = budget.ram_bytes * kDefaultSwapFactor;
    const u64 by_disk = host.disk_bytes_free / kDefaultDiskDivisor;
    budget.swap_max_bytes = std::min(by_ram, by_disk) & ~kPageMask;
    source = by_ram <= by_disk ? fmt::format("{} times the RAM", kDefaultSwapFactor)
                               : fmt::format("half of the {} free in {}",
                                             show_size(host.disk_bytes_free), host.swap_dir);
  } else {
    budget.swap_max_bytes =
        size_of(request.swap_max, host.disk_bytes_free, "the free disk") & ~kPageMask;
    source = named(request.swap_max);
    if (budget.swap_max_bytes > host.disk_bytes_free) {
      budget.warnings.push_back(
          fmt::format("{}: only {} are free in {}; the program ends if it needs more",
                      named(request.swap_max), show_size(host.disk_bytes_free), host.swap_dir));
    }
  }
  budget.notes.push_back(fmt::format("swap file, at most: {} ({} bytes), from {}",
                                     show_size(budget.swap_max_bytes), budget.swap_max_bytes,
                                     source));
  if (budget.swap_max_bytes != 0) {
    budget.notes.push_back(
        fmt::format("swap folder: {}, {} free", host.swap_dir, show_size(host.disk_bytes_free)));
  }
}

void set_reserve(Budget& budget, const BudgetRequest& request, const HostFacts& host) {
  if (is_auto(request.reserve)) return;
  budget.reserve_bytes = size_of(request.reserve, host.physical_bytes, "the RAM") & ~kPageMask;
  if (budget.reserve_bytes < kReserveBytesMin) {
    throw CliError(named(request.reserve),
                   fmt::format("is less than the least of {}", show_size(kReserveBytesMin)),
                   "give a larger size, or leave it out");
  }
  budget.notes.push_back(fmt::format("addresses reserved for mappings: {}, from {}",
                                     show_size(budget.reserve_bytes), named(request.reserve)));
}

}  // namespace

bool wants_disk(const BudgetRequest& request) {
  // A malformed size is reported by compute_budget, with the folder's facts at hand.
  if (is_auto(request.swap_max)) return true;
  return request.swap_max.text.find_first_of("123456789") != std::string::npos;
}

Budget compute_budget(const BudgetRequest& request, const HostFacts& host) {
  Budget budget;
  set_swap_ram(budget, request, host);
  set_ram(budget, request, host);
  budget.frames_total = (budget.ram_bytes + budget.swap_ram_bytes) >> kPageShift;
  if (budget.swap_ram_given) {
    budget.pool_frames_max = budget.swap_ram_bytes >> kPageShift;
    budget.notes.push_back(fmt::format("RAM for compressed pages: {}, from {}",
                                       show_size(budget.swap_ram_bytes), named(request.swap_ram)));
  } else {
    // More than half would leave too few frames to run on; the engine takes what it needs.
    budget.pool_frames_max = budget.frames_total / 2;
    budget.notes.push_back(fmt::format("RAM for compressed pages: up to half of that, {}",
                                       show_size(budget.pool_frames_max << kPageShift)));
  }
  set_swap_max(budget, request, host);
  set_reserve(budget, request, host);
  if (budget.swap_max_bytes == 0 && budget.pool_frames_max == 0) {
    budget.warnings.push_back(
        "--swap-ram 0 with --swap-max 0: there is no swap at all; the program ends when its pages "
        "exceed --ram");
  }
  return budget;
}

}  // namespace spillway
