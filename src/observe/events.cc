#include "observe/events.h"

namespace spillway {
namespace {

constexpr const char* kNames[] = {
#define X(id, name, a, b) name,
    SPW_EVENTS(X)
#undef X
};

}  // namespace

const char* name_of(EventKind kind) { return kNames[static_cast<u32>(kind)]; }

}  // namespace spillway
