// Generator: draws a machine and then one operation after the other, looking at the model of the
// running case so that most operations hit something. Swarm testing: every seed draws its own mix,
// some kinds of operation not at all, so that rare combinations become common somewhere.
#pragma once

#include <array>

#include "base/prng.h"
#include "driver.h"

namespace spillway::ksim {

class Generator {
 public:
  explicit Generator(u64 seed);

  const Setup& setup() const { return setup_; }
  Op next(const Driver& driver);

 private:
  // generator_setup.cc
  void draw_machine();
  void draw_kernel();
  void draw_mix();
  // What every case begins with: a process, swap areas, memory and a file; false when that is done.
  bool draw_opening(Op* op);

  bool fill_in(Op* op, const Driver& driver);
  void fill_task_op(Op* op, const Driver& driver, const Proc& proc);
  void fill_mmap(Op* op, const Driver& driver, const Proc& proc);
  void fill_mremap(Op* op, const Space& space);
  void fill_store(Op* op, const Driver& driver, const Proc& proc);
  bool store_at_end_of_file(Op* op, const Space& space);
  void fill_load(Op* op, const Space& space);
  void fill_file_op(Op* op, const Driver& driver, const Proc& proc);
  void fill_segment_op(Op* op, const Proc& proc);
  void fill_limit(Op* op);
  void fill_machine_op(Op* op);

  u64 pick_page(const Space& space);
  // A range that mostly lies in areas.
  PageRange pick_range(const Space& space, u64 pages_max);
  u64 draw_length();
  Prot draw_prot();
  u64 percent() { return prng_.below(100); }

  Prng prng_;
  Setup setup_;
  std::array<u32, kOpKindCount> weights_{};
  std::array<u32, kFillCount> fills_{};
  u32 weight_sum_ = 0;
  u32 fill_sum_ = 0;
  u64 fullness_ = 80;  // percent of what the machine surely holds that may be written
  u64 failures_left_ = 0;
  u64 hot_page_ = 0;  // accesses cluster around it
  u32 drawn_ = 0;
};

}  // namespace spillway::ksim
