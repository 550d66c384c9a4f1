// Generator: draws a machine and then one operation after the other, looking at the model of the
// running case so that most operations hit something. Swarm testing: every seed draws its own mix,
// some kinds of operation not at all, so that rare combinations become common somewhere.
#pragma once

#include "draws.h"
#include "driver.h"

namespace spillway::ksim {

class Generator : harness::Draws<OpKind> {
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
  harness::LengthShape lengths() const;

  Setup setup_;
};

}  // namespace spillway::ksim
