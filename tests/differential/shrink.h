// Shrinks a failing case: drops operations and makes the remaining ones simpler as long as the
// same difference shows.
#pragma once

#include <functional>

#include "diff_case.h"

namespace spillway::diff {

// Whether the case still fails in the way that is looked for.
using StillFails = std::function<bool(const DiffCase&)>;
// Whether there is time for another try.
using TimeLeft = std::function<bool()>;

// `c` must fail. Returns the shortest case found; every step was seen to fail.
DiffCase shrink(DiffCase c, const StillFails& still_fails, const TimeLeft& time_left);

}  // namespace spillway::diff
