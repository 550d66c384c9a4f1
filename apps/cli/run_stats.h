// What a run came to, gathered once and shown three ways: as a table, as a line of progress and
// as JSON. Formatting is pure, so that tests can compare text.
#pragma once

#include <string>

#include "machine_host/ledger.h"

namespace spillway {

struct RunStats {
  std::string program;
  int exit_code = 0;
  double elapsed_seconds = 0;
  u64 ram_bytes = 0;
  u64 swap_ram_bytes = 0;
  bool swap_ram_given = false;
  u64 swap_max_bytes = 0;
  u64 peak_rss_bytes = 0;   // largest single process
  u64 peak_tree_bytes = 0;  // all processes together, sampled
  u32 engines = 0;          // started in the tree; a process that execs starts one anew
  StopReason stop_reason = StopReason::none;
  std::string stopped_command;  // who was stopped
  i32 stopped_pid = 0;
  Counters counters{};
};

const char* name_of(StopReason reason);

// Bytes given to the compressor for one byte that it made; 0 if nothing was compressed.
double compression_ratio(const Counters& counters);

// Notes in `stats` which engine stopped its program; `child` is preferred to its descendants.
void find_stop_reason(const Ledger& ledger, i32 child, RunStats& stats);

// One plain sentence about an engine that stopped its program; empty if none did.
std::string stop_sentence(const RunStats& stats);

// The table of --stats, several lines.
std::string stats_table(const RunStats& stats);

struct Progress {
  double elapsed_seconds = 0;
  u64 rss_bytes = 0;
  u64 swapped_bytes = 0;
  double faults_per_second = 0;
  u32 processes = 0;
};
// One line without its end.
std::string progress_line(const Progress& progress);

// The text of --report: one JSON object, indented, with a newline at the end.
std::string report_json(const RunStats& stats);

}  // namespace spillway
