// The rooms of one System, in the order in which they are built. Lives in boot memory.
#pragma once

#include "fault/fault_handler.h"
#include "reclaim/page_reclaim.h"
#include "system/system.h"

namespace spillway {

class SystemImpl {
 public:
  SystemImpl(Machine& machine_in, const Config& config_in, Counters& counters, TraceSink& trace)
      : machine(machine_in),
        config(config_in),
        observer{&counters, &trace},
        mm{machine, frames, allocator, swap, reclaim, observer, areas},
        system(*this) {}

  Status boot();
  AuditReport audit();

  Machine& machine;
  Config config;
  Observer observer;
  FrameTable frames;
  PageAllocator allocator;
  ObjectCache areas;
  Swap swap;
  SpaceTable spaces;
  PageReclaim reclaim;
  FaultHandler fault;
  MmContext mm;
  System system;

 private:
  AuditReport audit_frames();
  AuditReport audit_entries();
  AuditReport audit_slots();
};

}  // namespace spillway
