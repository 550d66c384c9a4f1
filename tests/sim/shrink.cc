#include "shrink.h"

#include <algorithm>

namespace spillway::sim {
namespace {

// Delta debugging over the list: drops chunks of halving size, from the back, because what
// follows the cause matters least.
bool drop_chunks(SimCase* c, const StillFails& still_fails, const TimeLeft& time_left) {
  bool shorter = false;
  for (u64 chunk = std::max<u64>(1, c->ops.size() / 2); chunk != 0; chunk /= 2) {
    for (u64 end = c->ops.size(); end > 0 && time_left();) {
      const u64 begin = end > chunk ? end - chunk : 0;
      SimCase candidate = *c;
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

// Simpler forms of one operation, most drastic first. Every form is smaller in some number and
// greater in none, so that simplifying ends.
std::vector<Op> simpler(const Op& op) {
  std::vector<Op> forms;
  const auto add = [&](auto change) {
    Op form = op;
    change(form);
    if (!(form == op)) forms.push_back(form);
  };
  add([](Op& o) { o.task = 0; });
  add([](Op& o) { o.len = std::min(o.len, kPageSize); });
  add([](Op& o) { o.len = o.len / 2 & ~kPageMask; });
  add([](Op& o) { o.newlen = std::min(o.newlen, kPageSize); });
  add([](Op& o) { o.newlen = o.newlen / 2 & ~kPageMask; });
  add([](Op& o) { o.number = std::min<u64>(o.number, 1); });
  add([](Op& o) { o.number = (o.number + 1) / 2; });
  add([](Op& o) { o.times = std::min<u64>(o.times, 1); });
  for (u32 bit = 0; bit < 8; ++bit) {
    add([bit](Op& o) { o.flags &= ~(1U << bit); });
  }
  return forms;
}

bool simplify_ops(SimCase* c, const StillFails& still_fails, const TimeLeft& time_left) {
  bool simplified = false;
  for (u64 i = 0; i < c->ops.size(); ++i) {
    for (const Op& form : simpler(c->ops[i])) {
      if (!time_left()) return simplified;
      SimCase candidate = *c;
      candidate.ops[i] = form;
      if (!still_fails(candidate)) continue;
      *c = std::move(candidate);
      simplified = true;
      break;
    }
  }
  return simplified;
}

}  // namespace

SimCase shrink(SimCase c, const StillFails& still_fails, const TimeLeft& time_left) {
  while (time_left()) {
    const bool shorter = drop_chunks(&c, still_fails, time_left);
    const bool simplified = simplify_ops(&c, still_fails, time_left);
    if (!shorter && !simplified) break;
  }
  return c;
}

}  // namespace spillway::sim
