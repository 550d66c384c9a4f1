// What a system call on an address space must answer, told from the model alone, and its effect.
#pragma once

#include "prediction.h"
#include "world.h"

namespace spillway::ksim {

using harness::Prediction;

struct Context {
  const World& world;
  const Proc& proc;
  const Setup& setup;
  u64 commit_most = 0;                 // pages that may be promised
  u64 top = 0;                         // end of user addresses
  std::vector<AreaView> kernel_areas;  // of the process

  Space& space() const { return *proc.space; }
};

// No mapping begins below (vm.mmap_min_addr).
inline constexpr u64 kMinAddress = 65536;
inline constexpr u64 kClassicTop = u64{3} << 30;
inline constexpr u64 kModernTop = (u64{1} << 47) - kPageSize;

// Whether so many pages more may not be promised.
bool commit_refuses(const Context& c, u64 pages);

// For mmap, munmap, mprotect, mremap, madvise, mlock, munlock, mlockall, munlockall, msync,
// mincore.
Prediction predict(const Context& c, const Op& op);
// Whether a successful mmap or mremap may have chosen the place that starts at `page`.
bool place_is_right(const Context& c, const Op& op, u64 page);
// The effect of a successful call, which returned `result`.
void apply(const Context& c, const Op& op, u64 result);

// Pages may be there from now on, copied where private ones can be written (mlock, MAP_POPULATE).
void bring_in(Space* space, PageRange range);

// The break that brk must return, and the effect.
u64 predict_brk(const Context& c, u64 wanted);
void apply_brk(Space* space, u64 brk);

// Whether a fault at `va`, where there is no area, extends a stack, and which.
const ModelArea* stack_that_grows(const Context& c, u64 va);

}  // namespace spillway::ksim
