// What the runner and the processes under test say to each other, through memory that all of them
// share. Each process has a channel; a request and its reply are the whole conversation.
#pragma once

#include <atomic>

#include "op.h"

namespace spillway::diff {

// Descriptors that a process under test begins with.
inline constexpr int kChannelFd = 99;
inline constexpr int kFirstFileFd = 100;  // plus the number of the open file
// Where it has the channels: far from the window, from its program and from its stack.
inline constexpr u64 kChannelAddress = 0x300000000000;

enum class RequestKind : u32 {
  system_call,  // number and six arguments; value = what the kernel returned
  copy_out,     // reads args[1] bytes at args[0] into `data`; value = bytes until the fault
  copy_in,      // writes them from `data`
  call,         // calls the code at args[0]
  fork,         // args[0] = channel of the child; value = its process id
  exit,
};

enum class Turn : u32 { idle, request, reply };

struct alignas(kPageSize) Channel {
  std::atomic<u32> turn;
  RequestKind kind;
  i64 number;
  u64 args[6];
  i64 value;
  // The signal that ended the access; 0 = none.
  i32 signo;
  i32 code;
  u64 fault_address;
  alignas(kPageSize) u8 data[kAccessMax];
};

struct Wire {
  Channel channels[kProcessesMax];
};

// Longest that a process waits for its next request before it ends itself: the runner is gone.
inline constexpr u32 kOrphanSeconds = 20;

}  // namespace spillway::diff
