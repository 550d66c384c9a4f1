// Where the library is that `run` preloads into the program.
#pragma once

#include <string>

namespace spillway {

inline constexpr const char* kPreloadLibrary = "libspillway-preload.so";

// The folder of the running command, links resolved.
std::string own_folder();

// Looks beside the command (`folder`), then where `make install` puts it. Throws CliError if it
// is not there, if LD_PRELOAD could not name it, or if anybody could have changed it.
std::string find_preload_library(const std::string& folder);

}  // namespace spillway
