// The operation language of the differential test: one system call or access of one process per
// line, printable and parsable, so that a failing case is text that runs again.
//
//   p0 mmap at=w:0x3000 len=0x5000 prot=rw- flags=private+anonymous+fixed fd=none off=0x0 to=a:0x0
//   p0 store at=w:0x3ff0 len=0x20 seed=7
//   p0 fork n=1
//   p1 load at=w:0x3000 len=0x1000
//
// w: counts from the start of the window, h: from the break at the start, a: is an address.
#pragma once

#include <compare>
#include <optional>
#include <string>

#include "base/types.h"

namespace spillway::diff {

// X(identifier, fields, what it does). Fields: a at, l len, t to, m newlen, p prot, g flags of
// mmap, r of mremap, y of msync, k of mlockall, d file, o offset, v advice, s seed, n process.
#define SPW_DIFF_OPS(X)                                                                    \
  X(mmap, "alpgdot", "maps; what lands outside goes on to `to`, or away when that is a:0") \
  X(munmap, "al", "unmaps a range")                                                        \
  X(mprotect, "alp", "changes rights")                                                     \
  X(mremap, "almrt", "resizes or moves; `to` is also where to put what lands outside")     \
  X(madvise, "alv", "gives advice")                                                        \
  X(mlock, "al", "locks pages")                                                            \
  X(munlock, "al", "unlocks pages")                                                        \
  X(mlockall, "k", "locks all, now or from now on")                                        \
  X(munlockall, "", "unlocks all")                                                         \
  X(msync, "aly", "writes file pages back")                                                \
  X(mincore, "al", "asks which pages of memory without a file are there")                  \
  X(brk, "a", "moves the break")                                                           \
  X(load, "al", "reads bytes")                                                             \
  X(store, "als", "writes bytes")                                                          \
  X(fetch, "a", "calls what is at the address if that is a return instruction")            \
  X(pread, "dol", "reads a file")                                                          \
  X(pwrite, "dols", "writes a file")                                                       \
  X(ftruncate, "do", "sets a file's size")                                                 \
  X(fork, "n", "makes process n, a copy of this one")                                      \
  X(exit, "", "the process ends; not process 0")                                           \
  X(check, "", "all bytes, flags and files of all processes are compared")

enum class OpKind : u8 {
#define X(id, fields, text) id,
  SPW_DIFF_OPS(X)
#undef X
      kCount
};
inline constexpr u32 kOpKindCount = static_cast<u32>(OpKind::kCount);

inline constexpr u32 kProcessesMax = 4;

// Where an address counts from.
enum class Base : u8 { window, heap, absolute };

struct Place {
  Base base = Base::absolute;
  u64 offset = 0;
  auto operator<=>(const Place&) const = default;
};

// The window: addresses that both sides have free at the start.
inline constexpr u64 kWindowStart = 0x200000000000;
inline constexpr u64 kWindowPages = 1024;
inline constexpr u64 kWindowBytes = kWindowPages * kPageSize;
// What belongs to the heap, from the first break upward.
inline constexpr u64 kHeapBytes = 256 * kPageSize;
inline constexpr u64 kAccessMax = 64 * kPageSize;  // bytes of one access or transfer

// Open files that every process has, by number; see Setup for the files.
inline constexpr i32 kNoFile = -1;
inline constexpr u32 kFilesCount = 3;
enum class OpenFile : u8 { a_rw, a_ro, a_wo, b_rw, c_rw };
inline constexpr u32 kOpenFiles = 5;

struct Op {
  OpKind kind = OpKind::check;
  u32 process = 0;
  Place at;
  u64 len = 0;
  Place to;
  u64 newlen = 0;
  u32 prot = 0;
  u32 flags = 0;
  i32 file = kNoFile;
  u64 offset = 0;
  i32 advice = 0;
  u64 seed = 0;
  u32 number = 0;

  bool operator==(const Op&) const = default;
};

const char* name_of(OpKind kind);
std::string print(Place place);
std::string print(const Op& op);
// nullopt: not an operation; `*problem` says why.
std::optional<Op> parse_op(const std::string& line, std::string* problem);

// The bytes that a store or pwrite of `seed` writes at position `at` of its range.
void make_bytes(u64 seed, u64 bytes, u8* out);
// The instruction of one byte that returns to the caller (x86).
inline constexpr u8 kReturnInstruction = 0xc3;

// "EINVAL" and so on; "ok" for 0.
std::string errno_name(int error);

}  // namespace spillway::diff
