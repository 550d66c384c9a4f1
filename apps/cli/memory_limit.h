// How much RAM this process may use at most: the tightest limit of the control groups that it
// lives in, version 1 and 2, and the RAM of the machine.
//
// `root` is put before every path of /proc and /sys; it is empty outside tests.
#pragma once

#include <optional>
#include <string>

#include "base/types.h"

namespace spillway {

struct MemoryLimit {
  u64 bytes;
  std::string source;  // the file that says so
};

// Looks at the group of this process and at all groups above it that it can see. None when no
// group has a limit. A memory.high of version 2 counts as well: above it the kernel slows the
// program to a crawl, which is no better than an end.
std::optional<MemoryLimit> tightest_cgroup_limit(const std::string& root = "");

// MemTotal of /proc/meminfo; 0 if it cannot be read.
u64 physical_ram(const std::string& root = "");

// The smaller of both; `source` says which.
MemoryLimit usable_ram(const std::string& root = "");

}  // namespace spillway
