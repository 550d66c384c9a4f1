// Generator: draws a machine and then one operation after the other, looking at the model of the
// running case so that most operations hit something. Swarm testing: every seed draws its own
// mix, some kinds of operation not at all, so that rare combinations become common somewhere.
#pragma once

#include <array>

#include "base/prng.h"
#include "driver.h"

namespace spillway::sim {

class Generator {
 public:
  explicit Generator(u64 seed);

  const Setup& setup() const { return setup_; }
  Op next(const Driver& driver);

 private:
  void draw_machine();
  void draw_system();
  void draw_mix();
  OpKind draw_kind();
  Op bulk_mapping(u32 task);
  void fill_in(Op* op, const Driver& driver);
  void fill_mmap(Op* op, const SpaceModel& m);
  void fill_mremap(Op* op, const SpaceModel& m);
  void fill_store(Op* op, const Driver& driver, const SpaceModel& m);
  void fill_machine_op(Op* op);

  u64 pick_page(const SpaceModel& m);
  // A range that mostly lies in areas: its first page and its length in pages.
  PageRange pick_range(const SpaceModel& m, u64 pages_max);
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
  u64 ops_drawn_ = 0;
};

}  // namespace spillway::sim
