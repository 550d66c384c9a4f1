// Generator: draws limits, files and operations from a seed alone. It knows neither side: it
// guesses what is mapped, as if every call succeeded, and remembers the ranges
// that it used lately, so that ranges overlap areas, edges and holes.
// Swarm testing: every seed draws its own mix of operations, rights, flags and bad arguments.
#pragma once

#include <array>

#include "base/prng.h"
#include "diff_case.h"

namespace spillway::diff {

class Generator {
 public:
  explicit Generator(u64 seed);
  DiffCase draw(u32 steps);

 private:
  // A stretch of pages that operations cluster in.
  struct Quarter {
    Base base;
    u64 first;  // page
    u64 pages;
  };
  struct Range {
    Place at;
    u64 pages;
  };

  void draw_setup();
  void draw_mix();
  Op next();
  void fill_mmap(Op* op);
  void fill_file_map(Op* op);
  void fill_mremap(Op* op);
  void fill_access(Op* op);
  void fill_file_call(Op* op);
  void fill_madvise(Op* op);
  void spoil(Op* op);
  void guess(const Op& op);
  void guess_range(Place at, u64 bytes, bool mapped);
  static u64 guess_index(Place at);
  static Place guess_place(u64 index);

  OpKind draw_kind();
  u32 draw_prot();
  Range draw_range();
  Range fresh_range();
  Range near_range(Range r);
  bool mapped_range(Range* r);
  void remember(Range r) { recent_[prng_.below(recent_.size())] = r; }
  bool chance(u64 percent) { return prng_.below(100) < percent; }

  Prng prng_;
  Setup setup_;
  std::array<u32, kOpKindCount> weights_{};
  u32 weight_sum_ = 0;
  std::array<Quarter, 3> quarters_{};
  std::array<Range, 6> recent_{};
  u64 pages_max_ = 8;      // of a range
  u64 bad_ = 2;            // percent of operations with a bad argument
  u64 files_ = 30;         // percent of mappings that are of files
  u64 shared_ = 30;        // percent that are shared
  u64 odd_flags_ = 10;     // percent for each flag that is not common
  u64 plain_rights_ = 70;  // percent of rights that are rw-
  u64 growsdown_ = 10;
  bool lock_all_ = false;
  bool crowded_ = false;  // more pages than frames
  u32 drawn_ = 0;
  u32 process_ = 0;  // of the operation that is being drawn
  // Guesses. Pages of the window, then those of the heap.
  std::array<bool, kProcessesMax> alive_{true};
  using Pages = std::array<bool, kWindowPages + kHeapBytes / kPageSize>;
  std::array<Pages, kProcessesMax> mapped_{};
};

}  // namespace spillway::diff
