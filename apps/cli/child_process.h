// Runs the program as a child of the launcher and behaves, towards the outside, as if the
// launcher were the program: signals are passed on, a stop stops both, the exit comes back.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "base/types.h"

namespace spillway {

struct ChildSpec {
  std::string path;
  std::vector<std::string> arguments;  // arguments[0] is the program's name
  std::vector<std::string> environment;
  // Called about every `tick_ns` while the program runs, and once more after its end.
  std::function<void(pid_t child)> tick;
  u64 tick_ns = 100'000'000;
};

struct ChildResult {
  pid_t pid = 0;
  int wait_status = 0;
  rusage usage{};  // of the program and of the children that it waited for
  u64 elapsed_ns = 0;
};

// Starts the program in the same process group, with the same stdio, and waits for its end.
// It is killed if the launcher is killed: whoever ends `spillway run` means the program.
// Throws CliError (126, 127 or 125) if it cannot be started. Call from the main thread.
ChildResult run_child(const ChildSpec& spec);

// True if a signal that reached the launcher must be passed on. Those of the terminal (and
// others of the kernel) went to the whole process group, so the program has had its own already.
bool must_forward(int signal_code, pid_t sender, pid_t child);

}  // namespace spillway
