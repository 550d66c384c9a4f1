// `spillway mount`: serves an image or a directory through Spillway's caches, by FUSE.
#pragma once

#include "mount/mount_options.h"

namespace spillway {

// Returns the exit code. Without --foreground the caller returns with 0 once the file system is
// mounted, and a child serves it. Throws CliError.
int mount_command(const MountOptions& options);

}  // namespace spillway
