// Shrinks a failing case: drops operations and makes the remaining ones smaller as long as the
// same failure shows.
#pragma once

#include <functional>

#include "sim_case.h"

namespace spillway::sim {

// Whether the case still fails in the way that is looked for.
using StillFails = std::function<bool(const SimCase&)>;
// Whether there is time for another try.
using TimeLeft = std::function<bool()>;

// `c` must fail. Returns the shortest case found; every step was seen to fail.
SimCase shrink(SimCase c, const StillFails& still_fails, const TimeLeft& time_left);

}  // namespace spillway::sim
