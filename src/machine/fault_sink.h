// FaultSink: how a machine hands a page fault up to the core.
#pragma once

#include "machine/pte.h"

namespace spillway {

enum class FaultOutcome : u8 {
  done,     // the access can be retried
  wait,     // an I/O must complete first: drop the engine lock, wait, call again
  maperr,   // no area there: SIGSEGV, SEGV_MAPERR
  accerr,   // the area forbids it: SIGSEGV, SEGV_ACCERR
  bus,      // the page cannot be read back (I/O error): SIGBUS
  oom,      // memory and swap are exhausted
  corrupt,  // the stored page does not match its checksum: never hand it out
};
inline const char* name_of(FaultOutcome o) {
  switch (o) {
    case FaultOutcome::done: return "done";
    case FaultOutcome::wait: return "wait";
    case FaultOutcome::maperr: return "maperr";
    case FaultOutcome::accerr: return "accerr";
    case FaultOutcome::bus: return "bus";
    case FaultOutcome::oom: return "oom";
    case FaultOutcome::corrupt: return "corrupt";
  }
  return "?";
}

class FaultSink {
 public:
  // Resolves a fault at `va` by one access. Called under the engine lock. `attempt` is 0 at
  // first and grows with each retry of the same fault, so that retries can be bounded.
  virtual FaultOutcome on_fault(SpaceId space, VirtAddr va, Access access, u32 attempt) = 0;

 protected:
  ~FaultSink() = default;
};

}  // namespace spillway
