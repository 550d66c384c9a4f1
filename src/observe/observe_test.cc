#include <gtest/gtest.h>

#include "observe/observe.h"

namespace spillway {
namespace {

TEST(Counters, every_counter_has_a_name_and_a_text) {
  for (u32 i = 0; i < kCounterCount; ++i) {
    EXPECT_GT(std::string(name_of(static_cast<Counter>(i))).size(), 2u);
    EXPECT_GT(std::string(describe(static_cast<Counter>(i))).size(), 5u);
  }
  Counters c{};
  c.add(Counter::pswpin, 3);
  EXPECT_EQ(c[Counter::pswpin], 3u);
  c.raise_to(Counter::frames_online_max, 9);
  c.raise_to(Counter::frames_online_max, 4);
  EXPECT_EQ(c[Counter::frames_online_max], 9u);
}

TEST(EventRing, keeps_the_last_events_in_order) {
  EventRing ring;
  for (u64 i = 0; i < 1000; ++i) ring.emit(EventKind::fault_begin, i, 0);
  ASSERT_EQ(ring.size(), EventRing::kCapacity);
  for (u32 i = 0; i < ring.size(); ++i) {
    EXPECT_EQ(ring.at(i).a, 1000 - EventRing::kCapacity + i);
  }
  EXPECT_STREQ(name_of(EventKind::reclaim_evict), "reclaim.evict");
}

}  // namespace
}  // namespace spillway
