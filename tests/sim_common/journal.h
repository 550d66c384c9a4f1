// Journal: what a case that runs in a process of its own leaves for its parent, in memory that both
// share, so that it survives a panic, a crash or an endless loop.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "machine_sim/fault_plan.h"
#include "observe/counters.h"
#include "observe/events.h"

namespace spillway::harness {

// A difference from the model. The first words say what kind of failure it is and contain no
// numbers that vary: the shrinker compares them.
struct CaseFailed {
  std::string text;
};

struct Journal {
  static constexpr u64 kTextMax = 1 << 22;
  bool finished;
  u64 digest;
  u64 counters[kCounterCount];
  u64 fired[kFailureCount];
  char failure[4096];
  char history[8192];
  u64 text_bytes;
  char text[kTextMax];  // setup and operations, each noted before it runs
};

Journal* new_journal();
void delete_journal(Journal* journal);

// In the child: whose events a failure shows.
void show_events_of(const EventRing* ring);
void write_down(const std::string& line);
// The case failed: notes text, events and state and ends the process.
[[noreturn]] void give_up(const std::string& failure, const std::string& state);
// The case passed: notes what it leaves and ends the process.
[[noreturn]] void finish(u64 digest, const Counters& counters, const u64* fired);

// Starts a process that runs `body` and is killed after so many seconds.
pid_t start_child(Journal* journal, u32 seconds_max, const std::function<void()>& body);
// What became of the child, in words; empty if the case passed.
std::string failure_of(const Journal& journal, int status);

// Two failures of one kind: equal but for numbers.
bool same_failure(const std::string& a, const std::string& b);

}  // namespace spillway::harness
