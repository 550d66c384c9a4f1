// Hardware: the machine that a scenario runs on, as the runner needs it. Rooms cannot include the
// simulated machine, so programs and tests implement this port over it (apps/scenario has the one
// that all of them share).
//
// Devices count from 0: swap0, swap1 and so on, then the device of the files, if there is one.
// Nothing here waits for anything: who gets `wait` completes an I/O and tries again.
#pragma once

#include <string>
#include <vector>

#include "system/kernel.h"

namespace spillway {

// What is to be built.
struct Stage {
  KernelConfig kernel;
  u64 seed = 1;
  PageCount frames{64};
  u32 cpus = 1;
  std::vector<u64> swap_pages;  // the header's page included
  u64 file_pages = 0;           // 0: no device for files
  std::vector<u64> disk_pages;
  u64 latency_ns = 100'000;  // of every transfer
};

struct DeviceCounts {
  u64 reads = 0;
  u64 writes = 0;
  u64 pages_read = 0;
  u64 pages_written = 0;
};

enum class IoFailure : u8 {
  read_io,
  write_io,
  write_torn,
  write_lost,
  read_flip,
  write_no_space,
};

class Hardware {
 public:
  struct AccessEnd {
    FaultOutcome outcome;
    VirtAddr va;  // the address that faulted, unless done
  };
  struct Arm {
    u64 nth = 1;
    u64 times = 1;
    bool by_block = false;
    u64 block = 0;
  };

  virtual ~Hardware() = default;

  // Builds the machine and boots a kernel on it; once.
  virtual Result<Kernel*> boot(const Stage& stage, Counters& counters, TraceSink& trace,
                               WalkSink* walk) = 0;
  virtual void set_cpu(u32 cpu) = 0;
  // An access on the current CPU, with its faults. `bytes` is read or written.
  virtual AccessEnd access(Access access, SpaceId space, VirtAddr va, u8* bytes, u64 count,
                           u32 attempt) = 0;
  virtual u64 now_ns() = 0;
  virtual void advance(u64 ns) = 0;
  // Ends the request that is due first. False: none is in flight.
  virtual bool complete_one() = 0;
  virtual DeviceCounts counts(u32 device) = 0;
  virtual void fail(u32 device, IoFailure failure, const Arm& arm) = 0;
  virtual void repair(u32 device) = 0;
};

}  // namespace spillway
