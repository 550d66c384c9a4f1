// The list of pages against std::deque, and damage that its validator must see.
#include "lru/lru_list.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <vector>

#include "base/prng.h"

namespace spillway {
namespace {

class LruListTest : public ::testing::Test {
 protected:
  LruListTest() : pages_(64) {
    frames_.init(pages_.data(), PageCount(pages_.size()));
    list_.init(frames_, PageQueue::main);
    other_.init(frames_, PageQueue::probation);
  }
  std::vector<Page> pages_;
  FrameTable frames_;
  LruList list_;
  LruList other_;
};

TEST_F(LruListTest, first_in_is_first_at_the_tail) {
  EXPECT_TRUE(list_.empty());
  EXPECT_FALSE(list_.tail().valid());
  for (u32 i = 0; i < 4; ++i) list_.push_head(Pfn(i));
  list_.push_tail(Pfn(9));
  EXPECT_EQ(list_.tail(), Pfn(9));
  EXPECT_EQ(list_.head(), Pfn(3));
  EXPECT_EQ(list_.toward_head(Pfn(9)), Pfn(0));
  EXPECT_EQ(list_.toward_head(Pfn(0)), Pfn(1));
  EXPECT_FALSE(list_.toward_head(Pfn(3)).valid());
}

TEST_F(LruListTest, agrees_with_a_deque) {
  std::deque<u32> model;
  Prng prng(3);
  for (u32 step = 0; step < 5000; ++step) {
    const u32 i = static_cast<u32>(prng.below(pages_.size()));
    const auto at = std::find(model.begin(), model.end(), i);
    if (at != model.end()) {
      list_.remove(Pfn(i));
      model.erase(at);
      ASSERT_EQ(pages_[i].queue, PageQueue::none);
    } else if (prng.one_in(2)) {
      list_.push_head(Pfn(i));
      model.push_front(i);
    } else {
      list_.push_tail(Pfn(i));
      model.push_back(i);
    }
    ASSERT_EQ(list_.size(), model.size());
    ASSERT_TRUE(list_.validate());
    if (model.empty()) continue;
    ASSERT_EQ(list_.head().v, model.front());
    ASSERT_EQ(list_.tail().v, model.back());
    Pfn walk = list_.tail();
    for (auto it = model.rbegin(); it != model.rend(); ++it, walk = list_.toward_head(walk)) {
      ASSERT_EQ(walk.v, *it);
    }
  }
}

TEST_F(LruListTest, validate_sees_damage) {
  for (u32 i = 0; i < 5; ++i) list_.push_head(Pfn(i));
  const std::vector<Page> good = pages_;
  const auto sees = [&](const char* what) {
    EXPECT_FALSE(list_.validate()) << what;
    pages_ = good;
    EXPECT_TRUE(list_.validate());
  };
  pages_[2].queue = PageQueue::probation;
  sees("a tag of another list");
  pages_[2].prev = 0;
  sees("a link that does not lead back");
  pages_[3].next = 1;
  sees("a page left out");
  pages_[0].next = 4;
  sees("a circle");
}

using LruListDeathTest = LruListTest;

TEST_F(LruListDeathTest, a_page_is_on_one_list_only) {
  list_.push_head(Pfn(1));
  EXPECT_DEATH(list_.push_head(Pfn(1)), "");
  EXPECT_DEATH(other_.push_tail(Pfn(1)), "");
  EXPECT_DEATH(other_.remove(Pfn(1)), "");
  EXPECT_DEATH(list_.remove(Pfn(2)), "");
}

}  // namespace
}  // namespace spillway
