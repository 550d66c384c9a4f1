#include "cli/preload_library.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>

#include "cli/exit_codes.h"

namespace spillway {

std::string own_folder() {
  char path[PATH_MAX];
  if (::realpath("/proc/self/exe", path) == nullptr) {
    throw CliError("/proc/self/exe", "cannot be read", "mount /proc");
  }
  std::string folder = path;
  return folder.substr(0, folder.rfind('/'));
}

std::string find_preload_library(const std::string& folder) {
  static constexpr const char* kPlaces[] = {"", "/../lib", "/../lib/spillway",
                                            "/../lib/x86_64-linux-gnu/spillway"};
  for (const char* place : kPlaces) {
    const std::string candidate = folder + place + "/" + kPreloadLibrary;
    char path[PATH_MAX];
    struct stat status;
    if (::realpath(candidate.c_str(), path) == nullptr || ::stat(path, &status) != 0) continue;
    const std::string found = path;
    if (found.find_first_of(": ") != std::string::npos) {
      throw CliError(found, "LD_PRELOAD cannot hold a path with a blank or a colon",
                     "install Spillway in a folder without them");
    }
    if ((status.st_mode & S_IWOTH) != 0) {
      throw CliError(found, "everybody may write to it", fmt::format("run chmod o-w {}", found));
    }
    return found;
  }
  throw CliError(kPreloadLibrary, fmt::format("is neither in {} nor in {}/../lib", folder, folder),
                 "build or install Spillway completely (make build, make install)");
}

}  // namespace spillway
