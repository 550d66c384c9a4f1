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

}  // namespace spillway
