// The three queues: which page is named next, what a touch and a refault do, how U adapts, and
// what validate() notices.
#include "reclaim/three_queue.h"

#include <gtest/gtest.h>

#include <map>
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
  EXPECT_EQ(queues_.unmapped(), 51U);  // 5 %, and one
}

TEST_F(ThreeQueueTest, a_touch_of_u_goes_to_main) {
  add_fresh(0, 100);
  for (u32 i = 0; i < 20; ++i) (void)unmap_next();
  EXPECT_EQ(queue(0), PageQueue::unmapped);
  EXPECT_EQ(queue(19), PageQueue::unmapped);
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
TEST_F(ThreeQueueTest, u_shrinks_while_soft_faults_are_many_and_grows_while_they_are_few) {
  add_fresh(0, 2000);
  const auto run = [&](u32 evictions, u32 touch_one_in) {
    for (u32 i = 0; i < evictions; ++i) {
      while (queues_.wants_unmapped()) (void)unmap_next();
      if (touch_one_in != 0 && i % touch_one_in == 0) queues_.touched(queues_.next_to_evict());
      (void)queues_.note_evicted();
    }
  };
  run(100 * 1024, 0);
  EXPECT_EQ(queues_.unmapped_percent(), ThreeQueue::kUnmappedPercentMax);
  run(2 * 1024, 2);
  EXPECT_LT(queues_.unmapped_percent(), ThreeQueue::kUnmappedPercentMax);
  run(20 * 1024, 2);
  EXPECT_EQ(queues_.unmapped_percent(), ThreeQueue::kUnmappedPercentMin);
  run(20 * 1024, 10);
  EXPECT_EQ(queues_.unmapped_percent(), ThreeQueue::kUnmappedPercentMin) << "one in ten is enough";
}

TEST_F(ThreeQueueTest, a_loop_that_does_not_fit_is_kept_in_part) {
  // 2,000 frames, 4,000 pages, round and round.
  constexpr u32 kFrames = 2000;
  constexpr u32 kPages = 4000;
  std::vector<u32> shadow(kPages, 0);
  std::map<u32, u32> frame_of;
  std::vector<u32> page_in(kFrames, 0);
  std::vector<u32> unused;
  for (u32 f = 0; f < kFrames; ++f) unused.push_back(f);
  u64 hits = 0;
  for (u32 round = 0; round < 40; ++round) {
    hits = 0;
    for (u32 page = 0; page < kPages; ++page) {
      if (const auto at = frame_of.find(page); at != frame_of.end()) {
        if (queue(at->second) == PageQueue::unmapped) queues_.touched(Pfn(at->second));
        ++hits;
        continue;
      }
      if (unused.empty()) {
        while (queues_.wants_unmapped()) (void)unmap_next();
        const Pfn victim = queues_.next_to_evict();
        queues_.remove(victim);
        shadow[page_in[victim.v]] = queues_.note_evicted();
        frame_of.erase(page_in[victim.v]);
        unused.push_back(victim.v);
      }
      const u32 frame = unused.back();
      unused.pop_back();
      frame_of[page] = frame;
      page_in[frame] = page;
      frames_[Pfn(frame)].set_rmap(SpaceId(1), Vpn(page));
      queues_.add(Pfn(frame), shadow[page] != 0 ? Arrival::refault : Arrival::fresh, shadow[page]);
    }
  }
  // A pure FIFO or LRU would have none.
  EXPECT_GT(hits, kPages / 4);
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
          if (queue(pfn) == PageQueue::unmapped) queues_.touched(Pfn(pfn));
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
