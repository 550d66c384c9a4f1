// The operation language: what processes, and the machine around them, do. One operation per line,
// printable and parsable, so that a failing case is text that runs again.
//
//   p1 mmap at=0x0 len=0x8000 prot=rw- flags=shared file=2 off=0x1000
//   p0 store at=0x40000000 len=0x1000 fill=text seed=42
//   -- complete n=3
//
// p0, p1, ... are slots, each of which holds a process, a thread of one, or nobody; an operation of
// nobody does nothing. Files and segments are named by number too: file n is called "fn".
#pragma once

#include <string>

#include "op_text.h"

namespace spillway::ksim {

using harness::Fill;
using harness::kFillCount;
using harness::make_page;

// X(identifier, fields, what it does). Fields: a at, l len, b to, m newlen, o off, p prot, g flags,
// v advice, f fill, s seed, n number, k limit, w failure, x times, c cpu, q other slot, i file, e
// segment, d device. A capital T first: a task performs it; M: it happens to the machine.
#define SPW_KSIM_OPS(X)                                                            \
  X(spawn, "T", "a process begins in an empty slot")                               \
  X(fork, "Tq", "a child begins in slot q")                                        \
  X(clone, "Tq", "a thread begins in slot q")                                      \
  X(exec, "Tis", "runs a program, with arguments drawn from the seed")             \
  X(exit, "T", "ends")                                                             \
  X(kill, "Tn", "somebody sends signal n")                                         \
  X(catches, "Tn", "n != 0: lives on after SIGSEGV and SIGBUS")                    \
  X(migrate, "Tc", "runs on another CPU from now on")                              \
  X(limit, "Tkn", "a limit is n; k: 0 stack, 1 as, 2 data, 3 memlock")             \
  X(oom_adj, "Tn", "oom_score_adj is n - 1000")                                    \
  X(sp, "Ta", "the stack pointer is a")                                            \
  X(push, "Tlfs", "the stack pointer moves down by len, where bytes are stored")   \
  X(mmap, "Talpgio", "maps memory, or a file that is open")                        \
  X(munmap, "Tal", "unmaps a range")                                               \
  X(mprotect, "Talp", "changes rights")                                            \
  X(mremap, "Talbmg", "resizes or moves")                                          \
  X(madvise, "Talv", "gives advice")                                               \
  X(mlock, "Tal", "locks pages")                                                   \
  X(munlock, "Tal", "unlocks pages")                                               \
  X(mlockall, "Tg", "locks all areas, or those to come")                           \
  X(munlockall, "T", "unlocks all areas")                                          \
  X(msync, "Talg", "writes a mapped file back")                                    \
  X(mincore, "Tal", "asks what is resident")                                       \
  X(brk, "Ta", "moves the break to a bytes above its start")                       \
  X(load, "Tal", "reads bytes and compares them")                                  \
  X(store, "Talfs", "writes bytes")                                                \
  X(fetch, "Tal", "fetches instructions and compares them")                        \
  X(open, "Tig", "opens a file")                                                   \
  X(close, "Ti", "closes it")                                                      \
  X(pread, "Tiol", "reads a file and compares the bytes")                          \
  X(pwrite, "Tiolfs", "writes a file")                                             \
  X(ftruncate, "Tin", "the file has n bytes")                                      \
  X(fsync, "Ti", "writes the file back; the device must have it then")             \
  X(unlink, "Ti", "the file loses its name")                                       \
  X(shmget, "Tel", "makes a segment")                                              \
  X(shmat, "Teag", "attaches it")                                                  \
  X(shmdt, "Ta", "detaches what is at a")                                          \
  X(shmctl, "Ten", "n: 0 removes the segment, 11 locks, 12 unlocks it")            \
  X(retry, "T", "a waiting task runs once more")                                   \
  X(pin, "Ta", "a device holds the page")                                          \
  X(create, "Mimn", "a file of len m bytes, room for n pages, comes into being")   \
  X(swapon, "Mdn", "a swap area of priority n - 1 goes on")                        \
  X(swapoff, "Md", "it goes off, in the background")                               \
  X(swap_wait, "M", "a swapoff that waits runs once more")                         \
  X(kswapd, "Mn", "at most n steps of kswapd")                                     \
  X(kreclaimd, "Mn", "of kreclaimd")                                               \
  X(flush, "Mn", "of the flusher")                                                 \
  X(age, "Mn", "n rounds of ageing")                                               \
  X(complete, "Mn", "n I/O requests end")                                          \
  X(advance, "Mn", "n nanoseconds pass")                                           \
  X(settle, "M", "all I/O ends and all daemons work until there is no more to do") \
  X(unpin, "M", "devices let go of all pages")                                     \
  X(fail, "Mdwnx", "from the nth opportunity of device d on, x transfers fail")

enum class OpKind : u8 {
#define X(id, fields, text) id,
  SPW_KSIM_OPS(X)
#undef X
      kCount
};
inline constexpr u32 kOpKindCount = static_cast<u32>(OpKind::kCount);

// Flags of all calls.
#define SPW_KSIM_FLAGS(X) \
  X(fixed)                \
  X(noreplace)            \
  X(shared)               \
  X(noreserve)            \
  X(locked)               \
  X(populate)             \
  X(growsdown)            \
  X(may_move)             \
  X(sync)                 \
  X(async)                \
  X(invalidate)           \
  X(current)              \
  X(future)               \
  X(readonly)             \
  X(round)                \
  X(read)                 \
  X(write)                \
  X(create)               \
  X(exclusive)            \
  X(truncate)
enum class FlagBit : u8 {
#define X(id) id,
  SPW_KSIM_FLAGS(X)
#undef X
      kCount
};
constexpr u32 bit(FlagBit f) { return 1U << static_cast<u32>(f); }

inline constexpr u32 kNoFile = ~u32{0};
inline constexpr u32 kFilesMax = 8;  // of these,
inline constexpr u32 kPrograms = 2;  // the last ones are programs
inline constexpr u32 kFirstProgram = kFilesMax - kPrograms;
inline constexpr u32 kSegmentsMax = 6;
inline constexpr u32 kSlotsMax = 10;
// As device number: the swap device of the tiers.
inline constexpr u32 kTierDevice = 9;

struct Op {
  OpKind kind = OpKind::settle;
  u32 task = 0;
  u64 at = 0;
  u64 len = 0;
  u64 to = 0;
  u64 newlen = 0;
  u64 off = 0;
  Prot prot = Prot::none;
  u32 flags = 0;
  u64 advice = 0;
  Fill fill = Fill::zero;
  u64 seed = 0;
  u64 number = 0;
  u32 which = 0;
  Failure failure = Failure::read_io;
  u64 times = 1;
  u32 cpu = 0;
  u32 other = 0;
  u32 file = kNoFile;
  u32 segment = 0;
  u32 device = 0;

  bool has(FlagBit f) const { return (flags & bit(f)) != 0; }
  bool operator==(const Op&) const = default;
};

const char* name_of(OpKind kind);
// Whether a task performs the operation, not the machine.
bool by_task(OpKind kind);

extern const harness::OpLanguage<Op> kOps;
inline std::string print(const Op& op) { return kOps.print(op); }

}  // namespace spillway::ksim
