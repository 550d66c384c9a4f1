// SimSide: the memory manager on the simulated machine, through its kernel facade.
#pragma once

#include <memory>

#include "side.h"

namespace spillway::diff {

// `pages_at_start`: what the other side's process has mapped already; as much is mapped here, out
// of the way, so that limits on all of a process's memory mean the same.
std::unique_ptr<Side> make_sim_side(const Setup& setup, u64 pages_at_start);

}  // namespace spillway::diff
