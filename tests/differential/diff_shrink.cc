#include "diff_shrink.h"

#include <sys/mman.h>

namespace spillway::diff {
namespace {

// Simpler forms of one operation, most drastic first. Every form is smaller in some number and
// greater in none, so that simplifying ends.
std::vector<Op> simpler(const Op& op) {
  std::vector<Op> forms;
  const auto add = [&](auto change) {
    Op form = op;
    change(form);
    if (!(form == op)) forms.push_back(form);
  };
  add([](Op& o) { o.len = std::min(o.len, kPageSize); });
  add([](Op& o) { o.len = o.len / 2 & ~kPageMask; });
  add([](Op& o) { o.len -= std::min(o.len, kPageSize); });
  add([](Op& o) { o.newlen = std::min(o.newlen, kPageSize); });
  add([](Op& o) { o.newlen -= std::min(o.newlen, kPageSize); });
  add([](Op& o) { o.offset = 0; });
  add([](Op& o) { o.at.offset &= ~kPageMask; });
  add([](Op& o) { o.to = {}; });
  add([](Op& o) { o.seed = 0; });
  for (u32 bit = 0; bit < 32; ++bit) {
    add([bit](Op& o) { o.flags &= ~(1U << bit); });
  }
  // rw- is simplest, then fewer bits.
  if (op.prot != (PROT_READ | PROT_WRITE)) {
    if (op.prot > 3) add([](Op& o) { o.prot = PROT_READ | PROT_WRITE; });
    add([](Op& o) { o.prot &= PROT_READ | PROT_WRITE; });
  }
  return forms;
}

// The setting that the difference does not need is the usual one.
bool simplify_setup(DiffCase* c, const StillFails& still_fails, const TimeLeft& time_left) {
  bool simplified = false;
  const Setup usual;
#define X(id, default_value, what)              \
  if (c->setup.id != usual.id && time_left()) { \
    DiffCase candidate = *c;                    \
    candidate.setup.id = usual.id;              \
    if (still_fails(candidate)) {               \
      *c = std::move(candidate);                \
      simplified = true;                        \
    }                                           \
  }
  SPW_DIFF_SETUP(X)
#undef X
  return simplified;
}

}  // namespace

DiffCase shrink(DiffCase c, const StillFails& still_fails, const TimeLeft& time_left) {
  while (time_left()) {
    bool simplified = harness::drop_chunks(&c, still_fails, time_left);
    simplified = simplify_setup(&c, still_fails, time_left) || simplified;
    simplified = harness::simplify_ops(&c, simpler, still_fails, time_left) || simplified;
    if (!simplified) break;
  }
  return c;
}

}  // namespace spillway::diff
