#include "observe/counters.h"

namespace spillway {
namespace {

constexpr const char* kNames[] = {
#define X(name, text) #name,
    SPW_COUNTERS(X)
#undef X
};
constexpr const char* kTexts[] = {
#define X(name, text) text,
    SPW_COUNTERS(X)
#undef X
};

}  // namespace

const char* name_of(Counter c) { return kNames[static_cast<u32>(c)]; }
const char* describe(Counter c) { return kTexts[static_cast<u32>(c)]; }

}  // namespace spillway
