// A case: limits and files that both sides share, a simulated machine, and operations. Its text
// runs again:
//
//   setup seed=7 policy=2 memlock=8
//   p0 mmap at=w:0x0 len=0x8000 prot=rw- flags=private+anonymous+fixed fd=none off=0x0 to=a:0x0
//   ...
#pragma once

#include <string>
#include <vector>

#include "op.h"

namespace spillway::diff {

inline constexpr u64 kNoLimit = ~u64{0};

// X(identifier, default, what it is)
#define SPW_DIFF_SETUP(X)                                                         \
  X(seed, 1, "of the simulated machine's random choices")                         \
  X(frames, 2048, "of the simulated machine")                                     \
  X(policy, 0, "of the simulated machine: 0 three_queue, 1 linux24, 2 two_list")  \
  X(memlock, 2048, "RLIMIT_MEMLOCK in pages")                                     \
  X(stack, 512, "RLIMIT_STACK in pages")                                          \
  X(as, kNoLimit, "RLIMIT_AS in pages more than what is mapped at the start")     \
  X(size_a, 20580, "bytes of file a, that is open to read, to write and to both") \
  X(size_b, 65536, "bytes of file b, open to both")                               \
  X(size_c, 0, "bytes of file c, open to both")

struct Setup {
#define X(id, value, text) u64 id = value;
  SPW_DIFF_SETUP(X)
#undef X
  u64 file_size(u32 file) const { return file == 0 ? size_a : file == 1 ? size_b : size_c; }
  bool operator==(const Setup&) const = default;
};
// Which file an open file is of.
constexpr u32 file_of(OpenFile open) {
  return open <= OpenFile::a_wo ? 0 : open == OpenFile::b_rw ? 1 : 2;
}

// No file grows beyond this.
inline constexpr u64 kFileBytesMax = 64 * kPageSize;

struct DiffCase {
  Setup setup;
  std::vector<Op> ops;
};

// One line, with the values that differ from the defaults.
std::string print(const Setup& setup);
std::string print(const DiffCase& c);
// Empty lines and what follows a # are skipped. nullopt: `*problem` names line and reason.
std::optional<DiffCase> parse_case(const std::string& text, std::string* problem);

}  // namespace spillway::diff
