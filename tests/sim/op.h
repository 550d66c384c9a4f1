// The operation language of the simulation: one operation per line, printable and parsable, so
// that a failing case is text that runs again.
//
//   t1 mmap at=0x3000 len=0x5000 prot=rw- flags=fixed
//   t0 store at=0x3000 len=0x1000 fill=text seed=42
//   -- complete
//
// Addresses are offsets from the start of the task's space; `--` is the machine.
#pragma once

#include <string>

#include "op_text.h"
#include "system/system.h"

namespace spillway::sim {

using harness::Fill;
using harness::kFillCount;
using harness::make_page;

// X(identifier, fields, what it does). Fields: a at, l len, b to, m newlen, p prot, g flags,
// v advice, f fill, s seed, n number, w failure, x times, c cpu. A capital M or T first: an
// operation of the machine, or of a task.
#define SPW_SIM_OPS(X)                                                              \
  X(mmap, "Talpg", "maps memory")                                                   \
  X(munmap, "Tal", "unmaps a range")                                                \
  X(mprotect, "Talp", "changes rights")                                             \
  X(mremap, "Talbmg", "resizes or moves")                                           \
  X(madvise, "Talv", "gives advice")                                                \
  X(brk, "Ta", "moves the break")                                                   \
  X(mlock, "Tal", "locks pages")                                                    \
  X(munlock, "Tal", "unlocks pages")                                                \
  X(mincore, "Tal", "asks what is resident")                                        \
  X(load, "Tal", "reads bytes and compares them")                                   \
  X(store, "Talfs", "writes bytes")                                                 \
  X(retry, "T", "a waiting task runs once more")                                    \
  X(migrate, "Tc", "the task moves to another CPU")                                 \
  X(pin, "Ta", "a device holds the page")                                           \
  X(unpin, "Ta", "the device lets the page go")                                     \
  X(exit, "T", "the task's space ends and a fresh one begins")                      \
  X(background, "Mn", "background steps, at most n")                                \
  X(complete, "Mn", "n I/O requests end")                                           \
  X(advance, "Mn", "n nanoseconds pass")                                            \
  X(settle, "M", "all I/O ends and background work is done until there is no more") \
  X(budget, "Mn", "the shared budget leaves n frames")                              \
  X(disk_max, "Mn", "at most n segments can be claimed from now on")                \
  X(fail, "Mwnx", "from the nth opportunity on, x of them fail")                    \
  X(fork, "M", "a relative is forked: it refers to all segments")                   \
  X(reap, "M", "all relatives have ended")

enum class OpKind : u8 {
#define X(id, fields, text) id,
  SPW_SIM_OPS(X)
#undef X
      kCount
};
inline constexpr u32 kOpKindCount = static_cast<u32>(OpKind::kCount);

// Flags of mmap and mremap; fixed and may_move serve both.
inline constexpr u32 kFlagFixed = 1 << 0;
inline constexpr u32 kFlagNoreplace = 1 << 1;
inline constexpr u32 kFlagNoreserve = 1 << 2;
inline constexpr u32 kFlagLocked = 1 << 3;
inline constexpr u32 kFlagPopulate = 1 << 4;
inline constexpr u32 kFlagForeign = 1 << 5;
inline constexpr u32 kFlagMayMove = 1 << 6;

struct Op {
  OpKind kind = OpKind::settle;
  u32 task = 0;
  u64 at = 0;   // bytes from the start of the space
  u64 len = 0;  // bytes
  u64 to = 0;   // bytes from the start of the space
  u64 newlen = 0;
  Prot prot = Prot::none;
  u32 flags = 0;
  Advice advice = Advice::normal;
  Fill fill = Fill::zero;
  u64 seed = 0;
  u64 number = 1;
  Failure failure = Failure::read_io;
  u64 times = 1;
  u32 cpu = 0;

  bool operator==(const Op&) const = default;
};

const char* name_of(OpKind kind);
// Whether a task performs the operation, not the machine.
bool by_task(OpKind kind);

extern const harness::OpLanguage<Op> kOps;
inline std::string print(const Op& op) { return kOps.print(op); }

}  // namespace spillway::sim
