// Shrinks a failing case: drops operations and makes the remaining ones smaller as long as the
// same failure shows. A Case has `ops`; the suite says what is simpler than an operation.
#pragma once

#include <algorithm>
#include <functional>
#include <vector>

#include "base/types.h"

namespace spillway::harness {

// Whether there is time for another try.
using TimeLeft = std::function<bool()>;

// Delta debugging over the list: drops chunks of halving size, from the back, because what
// follows the cause matters least.
template <class Case>
bool drop_chunks(Case* c, const std::function<bool(const Case&)>& still_fails,
                 const TimeLeft& time_left) {
  bool shorter = false;
  for (u64 chunk = std::max<u64>(1, c->ops.size() / 2); chunk != 0; chunk /= 2) {
    for (u64 end = c->ops.size(); end > 0 && time_left();) {
      const u64 begin = end > chunk ? end - chunk : 0;
      Case candidate = *c;
      candidate.ops.erase(candidate.ops.begin() + static_cast<i64>(begin),
                          candidate.ops.begin() + static_cast<i64>(end));
      if (still_fails(candidate)) {
        *c = std::move(candidate);
        shorter = true;
      }
      end = std::min<u64>(begin, c->ops.size());
    }
  }
  return shorter;
}

template <class Case, class Simpler>
bool simplify_ops(Case* c, Simpler simpler, const std::function<bool(const Case&)>& still_fails,
                  const TimeLeft& time_left) {
  bool simplified = false;
  for (u64 i = 0; i < c->ops.size(); ++i) {
    for (const auto& form : simpler(c->ops[i])) {
      if (!time_left()) return simplified;
      Case candidate = *c;
      candidate.ops[i] = form;
      if (!still_fails(candidate)) continue;
      *c = std::move(candidate);
      simplified = true;
      break;
    }
  }
  return simplified;
}

// `c` must fail. Returns the shortest case found; every step was seen to fail. `simpler(op)` gives
// simpler forms of an operation, most drastic first, each smaller in some number and greater in
// none, so that simplifying ends.
template <class Case, class Simpler>
Case shrink_case(Case c, Simpler simpler, const std::function<bool(const Case&)>& still_fails,
                 const TimeLeft& time_left) {
  while (time_left()) {
    const bool shorter = drop_chunks(&c, still_fails, time_left);
    const bool simplified = simplify_ops(&c, simpler, still_fails, time_left);
    if (!shorter && !simplified) break;
  }
  return c;
}

}  // namespace spillway::harness
