// Shrinks a failing case as tests/sim_common/shrink.h does, and its setup besides.
#pragma once

#include "diff_case.h"
#include "shrink.h"

namespace spillway::diff {

// Whether the case still fails in the way that is looked for.
using StillFails = std::function<bool(const DiffCase&)>;
using harness::TimeLeft;

// `c` must fail. Returns the shortest case found; every step was seen to fail.
DiffCase shrink(DiffCase c, const StillFails& still_fails, const TimeLeft& time_left);

}  // namespace spillway::diff
