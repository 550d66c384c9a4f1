// The ledger: the shared memory in which a tree of processes divides one RAM budget and leaves
// its counters for the launcher. Created by the first process of the tree (the launcher, or the
// first preloaded program), handed down by file descriptor through fork and exec.
//
// Concurrency: plain atomics; every process may die at any instant. Frames of dead processes are
// found by pid and start time and given back by whoever runs short (reap_dead).
#pragma once

#include <atomic>

#include "base/result.h"
#include "base/units.h"
#include "observe/counters.h"
#include "observe/snapshot.h"

namespace spillway {

// Engines alive at once in one tree, at most: a make -j tree stays well below.
inline constexpr u32 kLedgerProcesses = 512;

enum class EngineState : u32 { unused = 0, starting = 1, live = 2, ended = 3 };

// Why an engine stopped its program.
enum class StopReason : u32 { none = 0, exhausted = 1, corrupt = 2, internal = 3 };

struct LedgerProcess {
  std::atomic<u32> state;        // EngineState
  std::atomic<u32> stop_reason;  // StopReason
  std::atomic<i32> pid;
  std::atomic<u64> start_time;     // field 22 of /proc/PID/stat: tells reused pids apart
  std::atomic<u64> frames_held;    // quota granted to this engine
  std::atomic<u64> frames_wanted;  // what it asked for in vain, 0 when satisfied
  char command[32];                // basename of the program, for reports
  Snapshot snapshot;               // written by the engine now and then
  Counters counters;               // the engine counts straight into these
};

struct Ledger {
  static constexpr u64 kMagic = 0x53505744474c3031;  // "SPWDGL01": layout version 1
  u64 magic;
  u64 bytes;                       // size of the whole mapping
  u64 frames_total;                // the budget: program pages and compressed pages together
  u64 pool_frames_max;             // of these, at most so many for compressed pages
  u64 swap_max_bytes;              // most bytes of swap file per family of forked processes
  std::atomic<u64> frames_free;    // not granted to anybody
  std::atomic<u32> need_sequence;  // futex: grows when somebody runs short
  std::atomic<u32> engines_started;
  std::atomic<u32> forked;  // how many of them by fork without exec
  Counters ended;           // sums over engines whose entry was reused
  LedgerProcess process[kLedgerProcesses];
};

// Creates a ledger as an anonymous, inheritable (not close-on-exec) memfd mapped shared.
// Returns the mapping; `*fd` is the descriptor. Null on failure, with errno set.
Ledger* ledger_create(u64 frames_total, u64 pool_frames_max, u64 swap_max_bytes, int* fd);
// Maps an inherited ledger; null if `fd` is not one.
Ledger* ledger_attach(int fd);

// Takes an entry for this process. Null when all are in use by live processes.
LedgerProcess* ledger_join(Ledger& ledger, i32 pid, const char* command);
// With pid 0 the entry is only reserved, for a child about to be forked: the child calls
// ledger_confirm with its own pid, or the parent ledger_abandon when the fork failed. A child
// begins with `frames_held` copies of its parent's frames: a debt, when the budget has not as
// many; then nobody is granted frames until enough were given back.
void ledger_confirm(Ledger& ledger, LedgerProcess& self, i32 pid, u64 frames_held);
void ledger_abandon(LedgerProcess& unconfirmed);
// Gives all frames back and marks the entry ended; its counters stay readable.
void ledger_leave(Ledger& ledger, LedgerProcess& self);

// Up to `want` frames for `self`; notes the unmet rest as wanted and rouses the others.
u64 ledger_acquire(Ledger& ledger, LedgerProcess& self, u64 want);
void ledger_release(Ledger& ledger, LedgerProcess& self, u64 count);
// Frames that `self` holds above its fair share while others want some.
u64 ledger_wanted_back(const Ledger& ledger, const LedgerProcess& self);
// Gives back what dead processes held; returns how many frames came back.
u64 ledger_reap_dead(Ledger& ledger);

// Counters of all engines that ever ran, live and ended.
Counters ledger_total(const Ledger& ledger);

}  // namespace spillway
