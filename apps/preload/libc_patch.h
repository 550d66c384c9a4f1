// Redirecting libc's memory calls. Symbol interposition does not see the calls that libc makes
// itself (malloc, thread stacks), so the first 14 bytes of each function are overwritten by an
// absolute jump to ours; and inside `_Fork` the clone system call becomes a call of ours, because
// the child needs an engine before it executes anything else. Done once, by the constructor,
// while the process has one thread.
#pragma once

#include "machine_host/stop.h"

namespace spillway {

// Finds what will be patched, and a place near libc's code, before the managed region takes the
// addresses there. False with a reason in `why` when this libc does not look as expected.
bool examine_libc(Message& why);
// Patches. From here on the program's memory calls reach the engine.
bool redirect_libc(Message& why);

}  // namespace spillway
