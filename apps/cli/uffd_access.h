// The launcher's side of userfaultfd: decides whether a program can be served and opens what it
// will need, so that the program itself needs no privilege.
#pragma once

#include <string>

#include "machine_host/uffd.h"

namespace spillway {

// The descriptor that SPILLWAY_UFFD_FD names; -1 if it names none.
int inherited_uffd_fd();

struct UffdAccess {
  // An open /dev/userfaultfd that survives exec, or -1 when the program's library is to make
  // the system call itself.
  int device_fd = -1;
  std::string source;  // for -v
};

// What to do when no way with kernel-mode faults is open; also printed by the doctor.
extern const char* const kUffdRemedy;

// Throws CliError when only user-mode faults are possible or none at all: system calls on
// swapped-out memory would then fail with EFAULT.
UffdAccess require_uffd();

}  // namespace spillway
