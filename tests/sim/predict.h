// What a system call must answer, told from the model alone.
#pragma once

#include "op.h"
#include "prediction.h"
#include "sim_case.h"
#include "space_model.h"

namespace spillway::sim {

using harness::Prediction;

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
