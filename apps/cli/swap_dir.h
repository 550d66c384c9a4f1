// The folder of the swap file: which one, and whether it may serve.
#pragma once

#include <string>

#include "base/types.h"
#include "cli/sizes.h"

namespace spillway {

struct SwapDir {
  std::string path;     // absolute
  std::string source;   // what chose it: --swap-dir, SPILLWAY_SWAP_DIR, TMPDIR or default
  u64 bytes_free = 0;   // that this user may write
  bool in_ram = false;  // on tmpfs or ramfs: swapping there saves nothing
};

// Chooses `setting`, else `tmpdir` (the value of TMPDIR, may be null), else /var/tmp, and checks
// that it exists, that a file can be created in it, and that no other user can tamper with it.
// Throws CliError.
SwapDir check_swap_dir(const Setting& setting, const char* tmpdir);

// True if files in `path` can be opened with O_DIRECT.
bool supports_direct_io(const std::string& path);

}  // namespace spillway
