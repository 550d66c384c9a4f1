// Goal: a System boots on the arena machine with every policy, does its background work, keeps its
// invariants, and takes no more memory than the arena has.
#include <gtest/gtest.h>

#include "machine_arena/arena_machine.h"
#include "system/system.h"

namespace spillway {
namespace {

class ArenaSystem : public testing::TestWithParam<Policy> {};

TEST_P(ArenaSystem, boots_idles_and_is_sound) {
  ArenaMachine arena;
  ASSERT_TRUE(arena.prepare({.frames = PageCount(2048), .cpus = 2}).ok());
  Counters counters{};
  EventRing events;
  Config config;
  config.policy = GetParam();
  System* const system = System::boot(arena.machine(), config, counters, events).value();
  for (u32 i = 0; i < 100; ++i) (void)system->background_step();
  const AuditReport report = system->audit();
  EXPECT_TRUE(report.ok) << report.what << " " << report.left << " " << report.right;
  EXPECT_LE(arena.frames().online().v, 2048U);
  EXPECT_LT(0U, arena.frames().online().v);
}

TEST_P(ArenaSystem, a_budget_that_is_too_small_is_refused) {
  ArenaMachine arena;
  ASSERT_TRUE(arena.prepare({.frames = PageCount(8), .cpus = 1}).ok());
  Counters counters{};
  EventRing events;
  Config config;
  config.policy = GetParam();
  EXPECT_EQ(System::boot(arena.machine(), config, counters, events).error(), Error::no_memory);
}

INSTANTIATE_TEST_SUITE_P(Policies, ArenaSystem,
                         testing::Values(Policy::three_queue, Policy::two_list, Policy::linux24));

}  // namespace
}  // namespace spillway
