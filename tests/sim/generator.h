// Generator: draws a machine and then one operation after the other, looking at the model of the
// running case so that most operations hit something. Swarm testing: every seed draws its own
// mix, some kinds of operation not at all, so that rare combinations become common somewhere.
#pragma once

#include "draws.h"
#include "driver.h"

namespace spillway::sim {

class Generator : harness::Draws<OpKind> {
 public:
  explicit Generator(u64 seed);

  const Setup& setup() const { return setup_; }
  Op next(const Driver& driver);

 private:
  void draw_machine();
  void draw_system();
  void draw_mix();
  Op bulk_mapping(u32 task);
  void fill_in(Op* op, const Driver& driver);
  void fill_mmap(Op* op, const SpaceModel& m);
  void fill_mremap(Op* op, const SpaceModel& m);
  void fill_store(Op* op, const Driver& driver, const SpaceModel& m);
  void fill_machine_op(Op* op);

  u64 pick_page(const SpaceModel& m);
  // A range that mostly lies in areas: its first page and its length in pages.
  PageRange pick_range(const SpaceModel& m, u64 pages_max);
  harness::LengthShape lengths() const;

  Setup setup_;
};

}  // namespace spillway::sim
