#include "machine_sim/fault_plan.h"

namespace spillway {
namespace {

constexpr const char* kNames[] = {
#define X(id, text) #id,
    SPW_SIM_FAILURES(X)
#undef X
};
constexpr const char* kTexts[] = {
#define X(id, text) text,
    SPW_SIM_FAILURES(X)
#undef X
};

}  // namespace

const char* name_of(Failure failure) { return kNames[static_cast<u32>(failure)]; }
const char* describe(Failure failure) { return kTexts[static_cast<u32>(failure)]; }

void FaultPlan::fail_block(Failure failure, u64 block) {
  // Claims, quota and the like have no block.
  SPW_ASSERT_LE(failure, Failure::write_no_space);
  bad_blocks_.emplace(failure, block);
}

void FaultPlan::clear_block(u64 block) {
  std::erase_if(bad_blocks_, [block](const auto& bad) { return bad.second == block; });
}

u64 FaultPlan::first_bad_block(Failure failure, u64 block, u32 count) const {
  const auto it = bad_blocks_.lower_bound({failure, block});
  if (it == bad_blocks_.end() || it->first != failure) return kNoBlock;
  return it->second - block < count ? it->second : kNoBlock;
}

}  // namespace spillway
