// The doctor about userfaultfd: the ways to it, who may use them, and the features behind them.
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "cli/doctor.h"
#include "cli/sizes.h"
#include "cli/uffd_access.h"
#include "machine_host/move.h"

namespace spillway {
namespace {

// Long enough to meet a kernel bug that needs a race, short enough for a command at a prompt.
constexpr u64 kSelfTestNs = 100'000'000;

// Names of linux/userfaultfd.h by bit; older headers lack the later ones.
constexpr const char* kFeatureNames[] = {
    "PAGEFAULT_FLAG_WP",
    "EVENT_FORK",
    "EVENT_REMAP",
    "EVENT_REMOVE",
    "MISSING_HUGETLBFS",
    "MISSING_SHMEM",
    "EVENT_UNMAP",
    "SIGBUS",
    "THREAD_ID",
    "MINOR_HUGETLBFS",
    "MINOR_SHMEM",
    "EXACT_ADDRESS",
    "WP_HUGETLBFS_SHMEM",
    "WP_UNPOPULATED",
    "POISON",
    "WP_ASYNC",
    "MOVE",
};

std::string feature_names(u64 features) {
  std::string out;
  for (unsigned bit = 0; bit < 64; ++bit) {
    if ((features >> bit & 1) == 0) continue;
    if (!out.empty()) out += ' ';
    out += bit < std::size(kFeatureNames) ? std::string(kFeatureNames[bit])
                                          : fmt::format("bit-{}", bit);
  }
  return out;
}

std::string why_not(const UffdProbe& probe) {
  const int error = static_cast<int>(-probe.error);
  if (error == ENOENT) {
    return "there is no such device: the kernel is older than 6.1, or this container has not been "
           "given it";
  }
  if (error == EACCES) return "this user may not open it";
  if (error == EPERM) return "not permitted to this user";
  return std::strerror(error);
}

void check_kernel(std::vector<Check>& checks) {
  utsname kernel{};
  ::uname(&kernel);
  const bool served = std::strcmp(kernel.machine, "x86_64") == 0;
  checks.push_back({"kernel", served ? CheckStatus::ok : CheckStatus::missing, "kernel",
                    fmt::format("{} {} on {}", kernel.sysname, kernel.release, kernel.machine),
                    served ? "" : "Spillway serves 64-bit x86-64 programs only"});
}

void check_way(const char* id, const char* title, const UffdProbe& probe, const std::string& yes,
               const std::string& no, bool chosen, std::vector<Check>& checks) {
  checks.push_back({id, probe.usable ? CheckStatus::ok : CheckStatus::unused, title,
                    probe.usable ? yes + (chosen ? "; 'run' takes this way" : "") : no, ""});
}

void check_moves(u64 features, std::vector<Check>& checks) {
  constexpr const char* kTitle = "page moves";
  if ((features & kUffdFeatureMove) == 0) {
    checks.push_back({"uffd.move", CheckStatus::missing, kTitle,
                      "this kernel cannot move pages (MOVE)", "use Linux 6.8 or later"});
    return;
  }
  const Uffd uffd = uffd_open(inherited_uffd_fd(), UserModeOnly::refuse);
  if (uffd.fd < 0) {
    checks.push_back(
        {"uffd.move", CheckStatus::missing, kTitle,
         fmt::format("could not be tried: {}", std::strerror(static_cast<int>(-uffd.error))),
         "try again; if it stays, report it"});
    return;
  }
  const MoveSelfTest test = move_self_test(uffd.fd, kSelfTestNs);
  ::close(uffd.fd);
  if (uffd.device_fd >= 0 && uffd.way == UffdWay::device) ::close(uffd.device_fd);
  if (!test.supported) {
    checks.push_back({"uffd.move", CheckStatus::missing, kTitle,
                      fmt::format("the kernel offers MOVE, but it fails ({})",
                                  std::strerror(static_cast<int>(-test.error))),
                      "use another kernel; report the version of this one"});
  } else if (!test.correct) {
    checks.push_back({"uffd.move", CheckStatus::missing, kTitle,
                      fmt::format("a page was not what it should be after {} moves",
                                  show_count(test.pages_moved)),
                      "do not use Spillway on this kernel; report its version"});
  } else {
    const std::string bug =
        test.spurious_eexist == 0
            ? ""
            : fmt::format(", a known bug of this kernel was met {} times and made good",
                          show_count(test.spurious_eexist));
    checks.push_back(
        {"uffd.move", CheckStatus::ok, kTitle,
         fmt::format("{} pages moved and compared, all right{}", show_count(test.pages_moved), bug),
         ""});
  }
}

void check_features(u64 features, std::vector<Check>& checks) {
  checks.push_back({"uffd.features", CheckStatus::ok, "features", feature_names(features), ""});
  check_moves(features, checks);
  if ((features & kUffdFeatureThreadId) == 0) {
    checks.push_back({"uffd.thread_id", CheckStatus::warn, "thread of a fault",
                      "the kernel does not tell which thread faulted (THREAD_ID), so the engine "
                      "cannot work on that thread's CPU",
                      "use Linux 4.14 or later"});
  }
}

}  // namespace

void check_uffd(std::vector<Check>& checks) {
  check_kernel(checks);
  const int inherited = inherited_uffd_fd();
  const UffdReport report = uffd_probe(inherited);
  const UffdProbe* chosen = report.inherited.usable ? &report.inherited
                            : report.device.usable  ? &report.device
                            : report.syscall.usable ? &report.syscall
                                                    : nullptr;
  check_way("uffd.inherited", "inherited descriptor", report.inherited,
            "SPILLWAY_UFFD_FD leads to userfaultfd",
            inherited < 0 ? "none was handed down" : "SPILLWAY_UFFD_FD is no userfaultfd device",
            chosen == &report.inherited, checks);
  check_way("uffd.device", "/dev/userfaultfd", report.device, "this user may open it",
            why_not(report.device), chosen == &report.device, checks);
  check_way("uffd.syscall", "userfaultfd call", report.syscall,
            "this user may catch faults inside system calls too", why_not(report.syscall),
            chosen == &report.syscall, checks);
  const UffdProbe& user = report.user_mode_only;
  checks.push_back(
      {"uffd.user_mode_only", CheckStatus::unused, "user-mode only",
       user.usable ? "possible, but system calls on swapped-out memory would fail" : why_not(user),
       ""});
  if (chosen == nullptr) {
    checks.push_back({"uffd", CheckStatus::missing, "page faults",
                      user.usable ? "only those of user code can be served for this user"
                                  : "none can be served for this user",
                      kUffdRemedy});
    return;
  }
  checks.push_back(
      {"uffd", CheckStatus::ok, "page faults", "can be served, those inside system calls too", ""});
  check_features(chosen->features, checks);
}

}  // namespace spillway
