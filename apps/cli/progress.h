// The line of progress on stderr: refreshed in place on a terminal, one line each second in a
// file. It never touches stdout, which belongs to the program.
#pragma once

#include "cli/tree_sampler.h"

namespace spillway {

enum class ProgressMode : u8 { off, terminal, lines };

// A terminal gets it with --stats; SPILLWAY_PROGRESS=1 forces it and =0 forbids it.
ProgressMode progress_mode(bool stats, bool quiet);

class ProgressPrinter {
 public:
  ProgressPrinter(const Ledger& ledger, ProgressMode mode);

  // Called with every sample; prints once a second.
  void tick(const TreeSample& sample);
  // Takes the line away, so that what follows starts at a clean line.
  void clear();

 private:
  const Ledger& ledger_;
  ProgressMode mode_;
  u64 started_ns_;
  u64 printed_ns_;
  u64 faults_ = 0;
  bool shown_ = false;
};

}  // namespace spillway
