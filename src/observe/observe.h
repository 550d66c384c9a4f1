// What every room gets to report with: the counters and the trace sink of its System.
#pragma once

#include "observe/counters.h"
#include "observe/events.h"
#include "observe/walk.h"

namespace spillway {

struct Observer {
  Counters* counters;
  TraceSink* trace;
  WalkSink* walk = nullptr;

  void count(Counter c, u64 n = 1) const { counters->add(c, n); }
  void event(EventKind kind, u64 a = 0, u64 b = 0) const { trace->emit(kind, a, b); }
  // What the current function of the walk decided.
  void step(const char* text, u64 a = 0, u64 b = 0, u64 c = 0) const {
    if (walk != nullptr) walk->step(text, a, b, c);
  }
};

}  // namespace spillway
