// `spillway doctor`: what this machine allows, in plain words.
#pragma once

#include <string>
#include <vector>

#include "cli/run_options.h"

namespace spillway {

// missing: `spillway run` will not work. warn: it will, with the drawback that the text names.
// unused: not there or not taken, and nothing is lost by that.
enum class CheckStatus : unsigned char { ok, unused, warn, missing };

struct Check {
  const char* id;  // stable, for scripts: "uffd.device"
  CheckStatus status;
  std::string title;
  std::string text;    // what was found
  std::string remedy;  // what to do about it; empty when there is nothing to do
};

// Appends the findings about one subject.
void check_uffd(std::vector<Check>& checks);
void check_engine(std::vector<Check>& checks);  // library, libc, page moves, io_uring
void check_limits(std::vector<Check>& checks);  // RAM, control groups, rlimits, overcommit, THP
void check_swap(const Setting& swap_dir, std::vector<Check>& checks);

// True if nothing is missing.
bool will_run(const std::vector<Check>& checks);
std::string doctor_text(const std::vector<Check>& checks);
std::string doctor_json(const std::vector<Check>& checks);

// Prints the findings on stdout; returns 0 when `run` will work, else 1.
int doctor_command(const DoctorOptions& options);

}  // namespace spillway
