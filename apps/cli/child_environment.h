// The environment of the program: the user's own, our library in front of LD_PRELOAD, and what
// the library must know in canonical form (plain bytes, absolute paths).
#pragma once

#include <string>
#include <vector>

#include "cli/budget.h"

namespace spillway {

// Descriptors that the program inherits from us start here, out of the way of programs that
// expect theirs to be small numbers and of loops that close the first few hundred.
inline constexpr int kInheritedFdMin = 900;

struct InheritedFds {
  int ledger = -1;
  int uffd_device = -1;  // -1: the library opens its own by the system call
};

// `base` holds NAME=VALUE strings. SPILLWAY_STATS, SPILLWAY_REPORT and SPILLWAY_PROGRESS do not
// reach the program: they are the launcher's business, once for the whole tree.
std::vector<std::string> child_environment(const std::vector<std::string>& base,
                                           const std::string& preload_library, const Budget& budget,
                                           const std::string& swap_dir, const InheritedFds& fds);

// This process's environment.
std::vector<std::string> own_environment();

// Moves `fd` to kInheritedFdMin or above (lower when the limit of open files forbids that) and
// lets it survive exec. Returns the new number; -1 with errno on failure, `fd` is then still open.
int make_inheritable(int fd);

}  // namespace spillway
