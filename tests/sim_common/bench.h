// Bench: what the drivers of all suites have: a simulated machine, the counters and events of what
// runs on it, and a digest of everything that was observed.
#pragma once

#include <string>

#include "journal.h"
#include "machine_sim/sim_machine.h"
#include "system/system.h"

namespace spillway::harness {

// " name=value", for descriptions of a state.
inline std::string field(const char* name, u64 value) {
  return std::string(" ") + name + "=" + std::to_string(value);
}

template <class Setup>
class Bench {
 public:
  explicit Bench(const Setup& setup) : setup_(setup), sim_(setup.machine()) {}

  const Setup& setup() const { return setup_; }
  const Counters& counters() const { return counters_; }
  const EventRing& events() const { return events_; }
  // A number that differs when anything observable differed: for tests of determinism.
  u64 digest() const { return digest_; }

 protected:
  [[noreturn]] void fail(const std::string& text) const { throw CaseFailed{text}; }
  void note(u64 value) { digest_ = mix64(digest_ ^ value) + value; }

  // The structures agree with each other and with the machine's MMU.
  void require_sound(const AuditReport& report) const {
    if (!report.ok) {
      fail(std::string("audit: ") + report.what + ": " + std::to_string(report.left) + " and " +
           std::to_string(report.right));
    }
    const std::string difference = sim_.mmu().mirror_difference();
    if (!difference.empty()) fail("mirror: " + difference);
  }

  const Setup setup_;
  SimMachine sim_;
  Counters counters_{};
  EventRing events_;
  u64 ops_run_ = 0;
  u64 digest_ = 0;
};

}  // namespace spillway::harness
