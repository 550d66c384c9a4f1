// System: the composition root. It boots the rooms on one machine and is the only thing that
// machines, commands and tests talk to.
//
// Thread safety: every call is made with the engine lock held (docs/locking.md); on the host that
// lock is machine_host's, in simulation there is one thread. No call blocks: where something must
// be waited for, calls return Error::wait or FaultOutcome::wait, and the caller drops the lock,
// waits for an I/O to complete (or a moment, if none is in flight) and calls again with the same
// arguments. A call that returned wait has changed nothing that the retry would do twice.
#pragma once

#include "machine/fault_sink.h"
#include "machine/machine.h"
#include "observe/observe.h"
#include "observe/snapshot.h"
#include "system/config.h"

namespace spillway {

// Advice values are Linux's MADV_*.
enum class Advice : i32 {
  normal = 0,
  random = 1,
  sequential = 2,
  willneed = 3,
  dontneed = 4,
  free = 8,
  cold = 20,
  pageout = 21,
};

struct MmapRequest {
  VirtAddr addr;   // hint, or the place when fixed
  u64 length = 0;  // bytes; rounded up to pages
  Prot prot = Prot::none;
  bool fixed = false;      // MAP_FIXED: replace what is there
  bool noreplace = false;  // MAP_FIXED_NOREPLACE: fail with exists instead
  bool noreserve = false;  // MAP_NORESERVE: not counted by the overcommit heuristic
  bool locked = false;     // MAP_LOCKED: populated and never evicted
  bool populate = false;   // MAP_POPULATE
  bool foreign = false;    // recorded only: the program maps something else there by itself
};

struct MremapRequest {
  VirtAddr old_addr;
  u64 old_length = 0;
  u64 new_length = 0;
  VirtAddr new_addr;      // used when fixed
  bool may_move = false;  // MREMAP_MAYMOVE
  bool fixed = false;     // MREMAP_FIXED
};

// What a background step did.
struct BackgroundResult {
  bool more;  // there is more to do now; otherwise call again after a while or when asked
};

// A broken invariant: its number in MECHANISMS or a name, and two values.
struct AuditReport {
  bool ok;
  const char* what;
  u64 left;
  u64 right;
};

// What a kernel says of its memory when it has booted, in pages: "Memory: available/total (code,
// reserved, data, init)". The parts are those of the configuration.
struct BootLine {
  u64 total;      // online
  u64 available;  // total - reserved, before the init region was given back
  u64 reserved;   // all of the following
  u64 code, data, init, bootmem;
  u64 init_freed;  // given back when booting ended
};

class SystemImpl;

class System final : public FaultSink {
 public:
  // Boots the rooms on `machine` and takes what frames it needs. `counters` and `trace` must
  // outlive the System; they can be exchanged later (after fork, by a child). no_memory: the
  // machine's budget is below minimum_frames().
  static Result<System*> boot(Machine& machine, const Config& config, Counters& counters,
                              TraceSink& trace);
  // Fewest frames with which boot succeeds and one program page can be served.
  static PageCount minimum_frames();
  void set_counters(Counters& counters);

  // An address space whose managed addresses are `range`. mmap without a fixed address chooses
  // places in it; `brk_pages` at its start are kept for brk (0 = none).
  Result<SpaceId> create_space(VpnRange range, PageCount brk_pages);
  void destroy_space(SpaceId space);

  // System calls on a space, with Linux's errors (docs/life-of-a-fault.md, man 2 mmap). The
  // result is an address, 0, or for brk the current break.
  Result<u64> mmap(SpaceId space, const MmapRequest& request);
  Result<u64> munmap(SpaceId space, VirtAddr addr, u64 length);
  Result<u64> mprotect(SpaceId space, VirtAddr addr, u64 length, Prot prot);
  Result<u64> mremap(SpaceId space, const MremapRequest& request);
  Result<u64> madvise(SpaceId space, VirtAddr addr, u64 length, Advice advice);
  Result<u64> brk(SpaceId space, VirtAddr addr);
  Result<u64> mlock(SpaceId space, VirtAddr addr, u64 length);
  Result<u64> munlock(SpaceId space, VirtAddr addr, u64 length);
  // vec[i] = 1 if page i is resident. `vec` must be unmanaged memory of `pages` bytes.
  Result<u64> mincore(SpaceId space, VirtAddr addr, PageCount pages, u8* vec);
  // Whether any part of the range lies in a foreign area / outside every area.
  bool touches_foreign(SpaceId space, VirtAddr addr, u64 length) const;

  FaultOutcome on_fault(SpaceId space, VirtAddr va, Access access, u32 attempt) override;

  // One bounded piece of background work: keep frames free above the high watermark, clean the
  // pool, write segments, give frames back to the budget. After an I/O has completed, let the
  // faults that waited be retried first: on a full machine it may evict what just came in.
  BackgroundResult background_step();
  // True when background_step has something to do: a cheap test after each fault.
  bool background_wanted() const;

  // Before a process is forked: wait until no I/O is in flight; from the first call on nothing new
  // is submitted. The copy of the engine is usable in the child as it is. finish_fork(), in parent
  // and child (and when the fork failed), lets I/O go on.
  Status prepare_fork();
  void finish_fork();

  // Contiguous addresses for the manager's own tables (vmalloc/vmalloc.h). On machines with several
  // spaces they are addresses of kernel_space(). invalid: no range is there, 0 bytes, or for vfree
  // an address that no area starts at.
  static constexpr SpaceId kernel_space() { return SpaceId(0xffff); }
  Result<VirtAddr> vmalloc(u64 bytes);
  Status vfree(VirtAddr addr);

  Snapshot snapshot() const;
  BootLine boot_line() const;
  // Checks every invariant (docs/ARCHITECTURE.md lists them). O(everything): for tests and idle.
  AuditReport audit();

 private:
  friend class SystemImpl;
  explicit System(SystemImpl& impl) : impl_(impl) {}
  SystemImpl& impl_;
};

}  // namespace spillway
