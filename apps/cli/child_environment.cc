#include "cli/child_environment.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

namespace spillway {
namespace {

constexpr const char* kOwnVariables[] = {
    "LD_PRELOAD",        "SPILLWAY_RAM",     "SPILLWAY_SWAP_RAM",  "SPILLWAY_SWAP_DIR",
    "SPILLWAY_SWAP_MAX", "SPILLWAY_RESERVE", "SPILLWAY_LEDGER_FD", "SPILLWAY_UFFD_FD",
    "SPILLWAY_STATS",    "SPILLWAY_REPORT",  "SPILLWAY_PROGRESS",
};

bool is_own(std::string_view entry) {
  const std::string_view name = entry.substr(0, entry.find('='));
  return std::find(std::begin(kOwnVariables), std::end(kOwnVariables), name) !=
         std::end(kOwnVariables);
}

}  // namespace

std::vector<std::string> child_environment(const std::vector<std::string>& base,
                                           const std::string& preload_library, const Budget& budget,
                                           const std::string& swap_dir, const InheritedFds& fds) {
  std::vector<std::string> out;
  std::string preload = preload_library;
  for (const std::string& entry : base) {
    if (!is_own(entry)) out.push_back(entry);
    constexpr std::string_view kPreload = "LD_PRELOAD=";
    if (entry.starts_with(kPreload) && entry.size() > kPreload.size()) {
      preload += ":" + entry.substr(kPreload.size());
    }
  }
  out.push_back("LD_PRELOAD=" + preload);
  out.push_back(fmt::format("SPILLWAY_RAM={}", budget.ram_bytes));
  if (budget.swap_ram_given) {
    out.push_back(fmt::format("SPILLWAY_SWAP_RAM={}", budget.swap_ram_bytes));
  }
  out.push_back(fmt::format("SPILLWAY_SWAP_MAX={}", budget.swap_max_bytes));
  if (budget.swap_max_bytes != 0) out.push_back("SPILLWAY_SWAP_DIR=" + swap_dir);
  if (budget.reserve_bytes != 0) {
    out.push_back(fmt::format("SPILLWAY_RESERVE={}", budget.reserve_bytes));
  }
  out.push_back(fmt::format("SPILLWAY_LEDGER_FD={}", fds.ledger));
  if (fds.uffd_device >= 0) out.push_back(fmt::format("SPILLWAY_UFFD_FD={}", fds.uffd_device));
  return out;
}

std::vector<std::string> own_environment() {
  std::vector<std::string> out;
  for (char** entry = environ; *entry != nullptr; ++entry) out.emplace_back(*entry);
  return out;
}

int make_inheritable(int fd) {
  // F_DUPFD without CLOEXEC: the copy survives exec.
  int copy = ::fcntl(fd, F_DUPFD, kInheritedFdMin);
  if (copy < 0) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    // Leave room for the second descriptor and for the engine's own beside it.
    constexpr rlim_t kRoom = 16;
    const rlim_t most = std::min<rlim_t>(limit.rlim_cur, kInheritedFdMin);
    if (most > kRoom) copy = ::fcntl(fd, F_DUPFD, static_cast<int>(most - kRoom));
  }
  if (copy >= 0) ::close(fd);
  return copy;
}

}  // namespace spillway
