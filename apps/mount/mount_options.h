// What `spillway mount` was asked to do. cli/run_options.h parses it.
#pragma once

#include <string>

#include "cli/sizes.h"

namespace spillway {

struct MountOptions {
  std::string source;      // an image, a block device or a directory
  std::string mountpoint;  // a directory
  Setting ram;
  u64 sync_interval_s = 5;  // pauses of the daemon that writes what is old; 0: never by itself
  u64 kernel_cache_s = 1;   // how long the kernel may believe names and attributes
  bool read_only = false;
  bool allow_other = false;
  bool foreground = false;
  bool stats = false;
  bool verbose = false;
  bool help = false;
};

}  // namespace spillway
