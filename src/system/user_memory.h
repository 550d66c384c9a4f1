// A program's memory, read by the kernel on its behalf (copy_from_user, strnlen_user).
// Thread safety: the engine lock.
#pragma once

#include "system/system_impl.h"

namespace spillway {

// Reads bytes of the space as a load of the program would, bringing pages in where they are needed.
// fault: the program could not read there; wait, no_memory: nothing is lost, call again. What was
// read before an error is in `out`.
Status copy_from_user(SystemImpl& sys, AddressSpace& space, VirtAddr from, void* out, u64 bytes);

// Bytes of the string at `from` with its zero byte; too_big when that is not among the first `max`.
Result<u64> strnlen_user(SystemImpl& sys, AddressSpace& space, VirtAddr from, u64 max);

}  // namespace spillway
