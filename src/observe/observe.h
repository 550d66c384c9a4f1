// What every room gets to report with: the counters and the trace sink of its System.
#pragma once

#include "observe/counters.h"
#include "observe/events.h"

namespace spillway {

struct Observer {
  Counters* counters;
  TraceSink* trace;

  void count(Counter c, u64 n = 1) const { counters->add(c, n); }
  void event(EventKind kind, u64 a = 0, u64 b = 0) const { trace->emit(kind, a, b); }
};

}  // namespace spillway
