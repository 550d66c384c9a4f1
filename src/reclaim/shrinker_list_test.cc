#include "reclaim/shrinker_list.h"

#include <gtest/gtest.h>

#include "machine_sim/sim_machine.h"

namespace spillway {
namespace {

class CountingShrinker : public Shrinker {
 public:
  CountingShrinker(u64 objects_in, u32 seeks_in) : objects(objects_in), seeks_(seeks_in) {}
  const char* shrinker_name() const override { return "counting"; }
  u64 count_objects() const override { return objects; }
  u64 scan_objects(const ShrinkControl& control) override {
    largest = control.nr_to_scan > largest ? control.nr_to_scan : largest;
    may_enter_fs = control.may_enter_fs;
    scanned += control.nr_to_scan;
    if (!frees) return 0;
    objects -= control.nr_to_scan;
    return control.nr_to_scan;
  }
  u32 seeks() const override { return seeks_; }

  u64 objects;
  u64 scanned = 0;
  u64 largest = 0;
  bool may_enter_fs = true;
  bool frees = true;

 private:
  u32 seeks_;
};

class NoTrace : public TraceSink {
 public:
  void emit(EventKind, u64, u64) override {}
};

struct Bed {
  Bed() { list.init(allocator, observer); }
  Counters counters{};
  NoTrace trace;
  Observer observer{&counters, &trace};
  PageAllocator allocator;
  ShrinkerList list;
};

TEST(ShrinkerListTest, asks_for_the_same_share_of_each_less_of_what_is_dear) {
  Bed bed;
  CountingShrinker cheap(10000, Shrinker::kDefaultSeeks);
  CountingShrinker dear(10000, 8 * Shrinker::kDefaultSeeks);
  bed.list.add(cheap);
  bed.list.add(dear);
  EXPECT_EQ(bed.list.count(), 20000u);
  (void)bed.list.shrink(4);
  EXPECT_EQ(cheap.scanned, 10000u / 16 * 2);
  EXPECT_EQ(dear.scanned, 10000u / 16 / 4);
  EXPECT_LE(cheap.largest, ShrinkerList::kBatch);
}

TEST(ShrinkerListTest, parts_of_objects_add_up) {
  Bed bed;
  CountingShrinker few(10, Shrinker::kDefaultSeeks);
  bed.list.add(few);
  u32 rounds = 0;
  for (; few.scanned == 0 && rounds < 1000; ++rounds) (void)bed.list.shrink(12);
  // 10 objects >> 12, twice, is 1/205 of an object.
  EXPECT_GE(rounds, 100u);
  EXPECT_LE(rounds, 300u);
}

TEST(ShrinkerListTest, priority_0_asks_for_all_and_a_removed_one_for_nothing) {
  Bed bed;
  CountingShrinker a(300, 100);
  CountingShrinker b(5, 1);
  bed.list.add(a);
  bed.list.add(b);
  EXPECT_EQ(bed.list.shrink(0), 305u);
  EXPECT_EQ(a.objects + b.objects, 0u);
  b.objects = 7;
  a.objects = 7;
  bed.list.remove(b);
  EXPECT_EQ(bed.list.shrink(0), 7u);
  EXPECT_EQ(b.objects, 7u);
}

TEST(ShrinkerListTest, linux24_asks_for_one_of_six_rounded_up) {
  Bed bed;
  CountingShrinker a(60, 100);
  CountingShrinker b(1, 1);
  bed.list.add(a);
  bed.list.add(b);
  EXPECT_EQ(bed.list.shrink_share(6), 11u);
}

TEST(ShrinkerListTest, says_when_file_systems_may_not_be_entered) {
  Bed bed;
  CountingShrinker a(60, 2);
  bed.list.add(a);
  {
    const PageAllocator::NoFs outer(bed.allocator);
    const PageAllocator::NoFs inner(bed.allocator);
    (void)bed.list.shrink(0);
    EXPECT_FALSE(a.may_enter_fs);
  }
  a.objects = 1;
  (void)bed.list.shrink(0);
  EXPECT_TRUE(a.may_enter_fs);
}

TEST(ShrinkerListTest, priority_for_a_share) {
  EXPECT_EQ(ShrinkerList::priority_for(1, 1), 0u);
  EXPECT_EQ(ShrinkerList::priority_for(32, 64), 1u);
  EXPECT_EQ(ShrinkerList::priority_for(32, 1 << 20), 12u);
  EXPECT_EQ(ShrinkerList::priority_for(100, 0), 0u);
}

}  // namespace
}  // namespace spillway
