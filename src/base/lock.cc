#include "base/lock.h"

#ifdef SPW_LOCK_CHECK
namespace spillway::detail {
namespace {
// Depth of the deepest legal nesting (pcp, zone, leaf) with room for future ranks.
constexpr int kMaxHeld = 8;
thread_local Rank t_held[kMaxHeld];
thread_local int t_count = 0;
}  // namespace

void lock_check_acquire(Rank rank) {
  if (t_count > 0) {
    SPW_ASSERT_LT(static_cast<u8>(t_held[t_count - 1]), static_cast<u8>(rank));
  }
  SPW_ASSERT_LT(t_count, kMaxHeld);
  t_held[t_count++] = rank;
}

void lock_check_release(Rank rank) {
  SPW_ASSERT_LT(0, t_count);
  SPW_ASSERT_EQ(static_cast<u8>(t_held[t_count - 1]), static_cast<u8>(rank));
  --t_count;
}

}  // namespace spillway::detail
#endif
