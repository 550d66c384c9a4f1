// The engine's file descriptors: where they are, so that the program does not trip over them and
// the preload library can shield them from programs that close everything.
#pragma once

#include "base/types.h"

namespace spillway {

// Descriptors of the engine live at or above this number where RLIMIT_NOFILE allows: programs
// that use select(2) or count on small numbers do not see a difference.
inline constexpr int kEngineFdFirst = 900;

enum class FdRole : u8 { uffd, uffd_device, event, swap, ring, ledger, kCount };
enum class FdExec : u8 { close, keep };

// Moves `fd` up, closes the old number, and notes it under its role. Returns the new number, or
// a negative errno, when `fd` is left as it was.
int engine_fd_adopt(FdRole role, int fd, FdExec exec);
// Notes a descriptor that was handed down: it keeps its number, which the environment of child
// processes names.
void engine_fd_note(FdRole role, int fd);
int engine_fd(FdRole role);  // -1 when there is none
void engine_fd_close(FdRole role);
bool is_engine_fd(int fd);
// Fills `fds` with all that are open; returns their number.
u32 engine_fds(int (&fds)[static_cast<u32>(FdRole::kCount)]);

}  // namespace spillway
