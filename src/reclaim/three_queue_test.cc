// The three queues: which page is named next, what a touch and a refault do, how U adapts, and
// what validate() notices.
#include "reclaim/three_queue.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "base/prng.h"

namespace spillway {
namespace {

class ThreeQueueTest : public ::testing::Test {
 protected:
  ThreeQueueTest() : pages_(8192) {
    frames_.init(pages_.data(), PageCount(pages_.size()));
    queues_.init(frames_, observer_);
  }
  void add_fresh(u32 from, u32 count) {
    for (u32 i = 0; i < count; ++i) queues_.add(Pfn(from + i), Arrival::fresh, 0);
  }
  // Takes the page that is due from the program, as reclaim does.
  Pfn unmap_next() {
    const Pfn pfn = queues_.next_to_unmap();
    if (!pfn.valid()) return pfn;
    queues_.remove(pfn);
    queues_.add_unmapped(pfn);
    return pfn;
  }
  PageQueue queue(u32 pfn) const { return pages_[pfn].queue; }

  std::vector<Page> pages_;
  FrameTable frames_;
  Counters counters_{};
  EventRing ring_;
  Observer observer_{&counters_, &ring_};
  ThreeQueue queues_;
};

TEST_F(ThreeQueueTest, an_empty_policy_names_nobody) {
  EXPECT_FALSE(queues_.next_to_unmap().valid());
  EXPECT_FALSE(queues_.next_to_evict().valid());
  EXPECT_TRUE(queues_.wants_unmapped());
}

TEST_F(ThreeQueueTest, pages_leave_probation_in_the_order_they_came) {
  add_fresh(0, 100);
  for (u32 i = 0; i < 50; ++i) EXPECT_EQ(unmap_next(), Pfn(i));
  EXPECT_EQ(queues_.unmapped(), 50U);
  for (u32 i = 0; i < 50; ++i) {
    ASSERT_EQ(queues_.next_to_evict(), Pfn(i));
    queues_.remove(Pfn(i));
  }
  EXPECT_TRUE(queues_.validate());
}

TEST_F(ThreeQueueTest, probation_gives_pages_down_to_its_share_then_main_does) {
  add_fresh(0, 1000);
  for (u32 i = 0; i < 700; ++i) queues_.rotate(Pfn(i));  // to M
  ASSERT_EQ(queues_.main(), 700U);
  std::set<u32> from_main;
  for (u32 i = 0; i < 300; ++i) {
    const u32 pfn = queues_.next_to_unmap().v;
    if (queue(pfn) == PageQueue::main) from_main.insert(pfn);
    (void)unmap_next();
  }
  EXPECT_NEAR(static_cast<double>(queues_.probation()), 200.0, 2.0);
  EXPECT_NEAR(static_cast<double>(from_main.size()), 200.0, 2.0);
}

TEST_F(ThreeQueueTest, u_is_wanted_up_to_its_share) {
  add_fresh(0, 1000);
  while (queues_.wants_unmapped()) (void)unmap_next();
  EXPECT_EQ(queues_.unmapped(), 101U);  // 10 %, and one
}

TEST_F(ThreeQueueTest, a_touch_of_u_goes_to_main_and_is_remembered_by_age) {
  add_fresh(0, 100);
  for (u32 i = 0; i < 20; ++i) (void)unmap_next();
  EXPECT_EQ(queue(0), PageQueue::unmapped_old);
  EXPECT_EQ(queue(19), PageQueue::unmapped_young);
  queues_.touched(Pfn(0));
  queues_.touched(Pfn(19));
  EXPECT_EQ(queue(0), PageQueue::main);
  EXPECT_EQ(queue(19), PageQueue::main);
  EXPECT_EQ(queues_.unmapped(), 18U);
  EXPECT_TRUE(queues_.validate());
}

TEST_F(ThreeQueueTest, a_refault_within_main_is_promoted_and_a_late_one_is_not) {
  add_fresh(0, 100);
  for (u32 i = 0; i < 50; ++i) queues_.rotate(Pfn(i));
  const u32 shadow = queues_.note_evicted();
  EXPECT_NE(shadow, 0U);
  for (u32 i = 0; i < 50; ++i) (void)queues_.note_evicted();
  queues_.add(Pfn(200), Arrival::refault, shadow);  // 50 evictions ago, |M| = 50
  EXPECT_EQ(queue(200), PageQueue::main);
  queues_.remove(Pfn(200));
  for (u32 i = 0; i < 10; ++i) (void)queues_.note_evicted();
  queues_.add(Pfn(200), Arrival::refault, shadow);
  EXPECT_EQ(queue(200), PageQueue::probation);
  EXPECT_EQ(counters_[Counter::workingset_refault], 2U);
  EXPECT_EQ(counters_[Counter::workingset_activate], 1U);
}

TEST_F(ThreeQueueTest, a_page_brought_in_ahead_is_not_promoted) {
  add_fresh(0, 100);
  for (u32 i = 0; i < 90; ++i) queues_.rotate(Pfn(i));
  const u32 shadow = queues_.note_evicted();
  queues_.add(Pfn(200), Arrival::readahead, shadow);
  EXPECT_EQ(queue(200), PageQueue::probation);
}

TEST_F(ThreeQueueTest, cold_pages_are_next) {
  add_fresh(0, 100);
  for (u32 i = 0; i < 10; ++i) (void)unmap_next();
  queues_.remove(Pfn(90));
  queues_.add_cold(Pfn(90));
  EXPECT_EQ(queues_.next_to_evict(), Pfn(90));
}

TEST_F(ThreeQueueTest, locked_pages_are_named_by_nobody) {
  add_fresh(0, 10);
  for (u32 i = 0; i < 10; ++i) queues_.lock(Pfn(i));
  EXPECT_FALSE(queues_.next_to_unmap().valid());
  EXPECT_EQ(queues_.locked(), 10U);
  queues_.lock(Pfn(3));
  queues_.unlock(Pfn(3));
  queues_.unlock(Pfn(3));
  EXPECT_EQ(queue(3), PageQueue::main);
  EXPECT_EQ(queues_.next_to_unmap(), Pfn(3));
}

// Two epochs' worth of evictions, with soft faults in a half of U now and then.
TEST_F(ThreeQueueTest, u_grows_when_young_pages_are_touched_and_shrinks_when_all_are_alike) {
  add_fresh(0, 2000);
  const auto run = [&](bool young_only) {
    for (u32 i = 0; i < 8 * 1024; ++i) {
      while (queues_.wants_unmapped()) (void)unmap_next();
      if (i % 4 == 0) {
        // The newest of U; and, when all are alike, also one from its old end.
        for (u32 f = 0; f < 2000; ++f) {
          const PageQueue want =
              young_only || i % 8 == 0 ? PageQueue::unmapped_young : PageQueue::unmapped_old;
          if (queue(f) == want) {
            queues_.touched(Pfn(f));
            break;
          }
        }
      }
      (void)queues_.note_evicted();
    }
  };
  run(true);
  EXPECT_EQ(queues_.unmapped_percent(), ThreeQueue::kUnmappedPercentMax);
  run(false);
  EXPECT_LT(queues_.unmapped_percent(), ThreeQueue::kUnmappedPercentStart);
  for (u32 i = 0; i < 20; ++i) run(false);
  EXPECT_EQ(queues_.unmapped_percent(), ThreeQueue::kUnmappedPercentMin);
  const u32 before = queues_.unmapped_percent();
  for (u32 i = 0; i < 8 * 1024; ++i) (void)queues_.note_evicted();
  EXPECT_EQ(queues_.unmapped_percent(), before) << "without soft faults nothing is known";
}

TEST_F(ThreeQueueTest, random_use_keeps_every_page_on_one_queue) {
  Prng prng(2);
  std::set<u32> resident;
  for (u32 step = 0; step < 20'000; ++step) {
    const u32 pfn = static_cast<u32>(prng.below(600));
    if (!resident.contains(pfn)) {
      queues_.add(Pfn(pfn), static_cast<Arrival>(prng.below(3)), static_cast<u32>(prng.below(100)));
      resident.insert(pfn);
    } else {
      switch (prng.below(6)) {
        case 0:
          if (queue(pfn) == PageQueue::unmapped_young || queue(pfn) == PageQueue::unmapped_old) {
            queues_.touched(Pfn(pfn));
          }
          break;
        case 1: queues_.lock(Pfn(pfn)); break;
        case 2: queues_.unlock(Pfn(pfn)); break;
        case 3: (void)unmap_next(); break;
        default: queues_.remove(Pfn(pfn)); resident.erase(pfn);
      }
    }
    ASSERT_EQ(queues_.resident() + queues_.locked(), resident.size());
    if (step % 200 == 0) {
      ASSERT_TRUE(queues_.validate());
    }
  }
}

TEST_F(ThreeQueueTest, validate_sees_damage) {
  add_fresh(0, 20);
  for (u32 i = 0; i < 4; ++i) (void)unmap_next();
  queues_.rotate(Pfn(10));
  queues_.lock(Pfn(11));
  for (u32 i : {0U, 3U, 8U, 10U, 11U}) {
    const PageQueue good = pages_[i].queue;
    pages_[i].queue = PageQueue::none;
    EXPECT_FALSE(queues_.validate()) << i;
    pages_[i].queue = good;
    EXPECT_TRUE(queues_.validate());
  }
}

}  // namespace
}  // namespace spillway
