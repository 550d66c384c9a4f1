// `spillway run`: gathers the facts, refuses early, starts the program and reports.
#pragma once

#include "cli/run_options.h"

namespace spillway {

// Returns the exit code of the command. Throws CliError for our own failures.
int run_command(const RunOptions& options);

}  // namespace spillway
