// What a system call must answer, told from the model alone: success, or one of some errors.
// Where several things are wrong with a request, any of their errors is right.
#pragma once

#include "op.h"
#include "sim_case.h"
#include "space_model.h"

namespace spillway::sim {

struct Prediction {
  bool success = true;
  u32 errors = 0;  // bit e: Error e is right

  void refuse(Error e) {
    success = false;
    also(e);
  }
  // Success stays possible.
  void also(Error e) { errors |= 1U << static_cast<u32>(e); }
  bool allows(Error e) const { return (errors >> static_cast<u32>(e) & 1) != 0; }
};

// The pages that an operation names, edges rounded outwards; empty when the address overflows.
PageRange pages_of(u64 at, u64 len);

// For mmap, munmap, mprotect, mremap, madvise, mlock, munlock and mincore.
Prediction predict(const SpaceModel& model, const Setup& setup, const Op& op);
// Whether a successful mmap or mremap may have chosen the place that starts at `page`.
bool place_is_right(const SpaceModel& model, const Op& op, u64 page);
// The effect of a successful call, which returned `result` (an offset from the space's start).
void apply(SpaceModel* model, const Op& op, u64 result);

// The break that brk must return.
u64 predict_brk(const SpaceModel& model, const Setup& setup, u64 wanted);
void apply_brk(SpaceModel* model, u64 brk);

}  // namespace spillway::sim
