// The engine of this process: the host machine with a System on it. One per process, built by
// the library's constructor before any other code of the program runs.
#pragma once

#include "machine_host/engine_lock.h"
#include "machine_host/host_machine.h"
#include "preload/settings.h"
#include "system/system.h"

namespace spillway {

// Boots the engine. On any failure prints one line and ends the process with 125: the program
// never runs without its budget.
void start_engine(char** argv, char** environment);
// Prints the table of counters, if it was asked for; audits in paranoid mode.
void finish_engine();
// The ledger that this process created for itself and its children; -1 when it inherited one.
int own_ledger_fd();

bool engine_ready();
HostMachine& host();
System& core();
SpaceId space();

// Whether [addr, addr+length) lies in, or touches, the managed region.
bool is_managed(u64 addr, u64 length);
bool touches_managed(u64 addr, u64 length);

// Runs `fn` under the engine lock on the entry stack, again and again while it says kMustWait.
// Returns its value, or -errno.
i64 call_engine(LockedFunction fn, u64 a = 0, u64 b = 0, u64 c = 0, u64 d = 0, u64 e = 0);

// Status of a locked function besides 0 and errno values; `value` then is the progress counter.
inline constexpr u64 kMustWait = 1'000'000;
LockedResult locked_result(const Result<u64>& result);

}  // namespace spillway
