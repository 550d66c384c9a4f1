// For death tests: makes a panic print its text, so that a test can say which one it expects.
#pragma once

#include <cstdio>

#include "base/assert.h"

namespace spillway {

inline void print_panics() {
  set_panic_hook([](const PanicInfo& p) { std::fprintf(stderr, "%s\n", p.expression); });
}

}  // namespace spillway
