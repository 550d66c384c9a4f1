// What the wing needs of the memory manager besides FaultSink. The wing may not know the rooms
// above it, so whoever puts the two together (apps/preload) adapts System to this.
//
// Every call is made with the engine lock held.
#pragma once

#include "base/result.h"
#include "machine/fault_sink.h"
#include "observe/counters.h"
#include "observe/snapshot.h"

namespace spillway {

class EnginePort : public FaultSink {
 public:
  // One bounded piece of background work; true when there is more to do at once.
  virtual bool background_step() = 0;
  // A cheap test whether background_step has something to do.
  virtual bool background_wanted() = 0;
  // Makes the engine ready to be copied by fork; Error::wait while I/O is in flight, and nothing
  // new is submitted from then on, until finish_fork in parent and child, or after a failure.
  virtual Status prepare_fork() = 0;
  virtual void finish_fork() = 0;
  virtual Snapshot snapshot() = 0;
  // A forked child counts for itself.
  virtual void set_counters(Counters& counters) = 0;

 protected:
  ~EnginePort() = default;
};

}  // namespace spillway
