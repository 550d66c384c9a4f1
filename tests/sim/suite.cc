#include "suite.h"

#include <algorithm>

namespace spillway::sim {

std::vector<Op> SimSuite::simpler(const Op& op) {
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

}  // namespace spillway::sim
