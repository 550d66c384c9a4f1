// What is to be mounted and where: looked at before anything is opened for good. Everything that
// is refused is refused here or by the driver, with one line that says what to do.
#pragma once

#include <string>

#include "base/types.h"

namespace spillway {

enum class SourceKind : u8 { image, directory };

// Resolves `path` to an absolute one without links. Throws CliError: it is not there, is neither
// file, block device nor directory, or (an image) the kernel has it mounted or in use by a loop
// device that is mounted.
SourceKind check_source(std::string& path);

// Resolves `path`. Throws CliError: not there, no directory, or inside of `source`, which would
// wait for itself. A directory that is not empty is allowed, as by mount(8); its contents are
// hidden meanwhile.
void check_mountpoint(std::string& path, const std::string& source, SourceKind kind);

// Whether the lines of a mountinfo(5) file name `source` as what is mounted somewhere.
bool is_mounted_source(const std::string& mountinfo, const std::string& source);

}  // namespace spillway
