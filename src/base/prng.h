// Deterministic pseudo-random numbers: splitmix64 (Steele, Lea, Flood, 2014). Same seed, same
// sequence on every machine; used by the simulated machine, workloads and tests.
#pragma once

#include "base/assert.h"

namespace spillway {

constexpr u64 mix64(u64 z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

class Prng {
 public:
  constexpr explicit Prng(u64 seed) : state_(seed) {}
  constexpr u64 next() {
    state_ += 0x9e3779b97f4a7c15ULL;
    return mix64(state_);
  }
  // Uniform in [0, n); n > 0. The modulo bias is below 2^-32 for the n that we use.
  constexpr u64 below(u64 n) { return next() % n; }
  // Uniform in [lo, hi], both included.
  constexpr u64 between(u64 lo, u64 hi) { return lo + below(hi - lo + 1); }
  constexpr bool one_in(u64 n) { return below(n) == 0; }

 private:
  u64 state_;
};

}  // namespace spillway
