// Ages and scans of page tables under linux24: when a page is unmapped, what its entry becomes, and
// what is left alone. Rows are those of docs/acceptance.md.
#include <gtest/gtest.h>

#include "reclaim/linux24_bed_test.h"

namespace spillway {
namespace {

class Linux24SwapOut : public ::testing::Test {
 protected:
  void SetUp() override { start(); }
  void start(u64 frame_count = 1024, u64 swap_pages = 4096) {
    bed_ = std::make_unique<Linux24Bed>(frame_count, swap_pages);
    a_ = bed_->a;
    b_ = bed_->b;
    c_ = bed_->c;
  }
  void TearDown() override { EXPECT_EQ(bed_->unsound(), ""); }
  u64 count(Counter counter) const { return bed_->count(counter); }

  std::unique_ptr<Linux24Bed> bed_;
  AddressSpace* a_ = nullptr;
  AddressSpace* b_ = nullptr;
  AddressSpace* c_ = nullptr;
};

TEST_F(Linux24SwapOut, a_private_page_is_on_no_list_before_it_is_swapped) {
  bed_->map_anonymous(*a_, 0, 1);
  bed_->fill(*a_, 0, 1);
  EXPECT_EQ(bed_->page_of(*a_, 0).queue, PageQueue::none);
  EXPECT_EQ(bed_->page_of(*a_, 0).age, 2U);
  EXPECT_EQ(bed_->policy.evictable(), 0U);
}

TEST_F(Linux24SwapOut, row_27_an_idle_page_goes_at_the_second_visit) {
  bed_->map_anonymous(*a_, 0, 1);
  bed_->fill(*a_, 0, 1);
  bed_->clear_accessed(*a_, 0);
  const Pfn pfn = bed_->entry(*a_, 0).pfn();
  ASSERT_EQ(bed_->frames[pfn].age, 2U);
  EXPECT_EQ(bed_->policy.visit(*a_), 0U);
  EXPECT_TRUE(bed_->present(*a_, 0));
  EXPECT_EQ(bed_->frames[pfn].age, 1U);
  EXPECT_EQ(bed_->policy.visit(*a_), 1U);
  const Pte entry = bed_->entry(*a_, 0);
  ASSERT_TRUE(entry.is(Pte::Kind::swapped));
  EXPECT_EQ(bed_->swap.refs(entry.slot()), 2U) << "the swap cache and the entry";
  EXPECT_EQ(bed_->swap.cached(entry.slot()), pfn);
  EXPECT_EQ(bed_->frames[pfn].queue, PageQueue::inactive_dirty);
  EXPECT_TRUE(bed_->frames[pfn].has(PageFlag::dirty));
  EXPECT_EQ(count(Counter::pswpout), 0U) << "swap_out writes nothing";
}

TEST_F(Linux24SwapOut, a_page_just_faulted_in_goes_at_the_fourth_visit) {
  bed_->map_anonymous(*a_, 0, 1);
  bed_->fill(*a_, 0, 1);
  EXPECT_EQ(bed_->visits_until_unmapped(*a_, 0), 4U) << "2 -> 5 -> 2 -> 1 -> 0";
}

TEST_F(Linux24SwapOut, row_28_age_ladder) {
  bed_->map_anonymous(*a_, 0, 1);
  bed_->fill(*a_, 0, 1);
  for (u32 n = 1; n <= 21; ++n) {
    ASSERT_EQ(bed_->policy.visit(*a_), 0U);
    const u32 expected = 2 + 3 * n < 64 ? 2 + 3 * n : 64;
    ASSERT_EQ(bed_->page_of(*a_, 0).age, expected) << n;
    ASSERT_EQ(bed_->touch(*a_, 0), FaultOutcome::done);
  }
  bed_->clear_accessed(*a_, 0);
  const u32 ages[] = {32, 16, 8, 4, 2, 1};
  for (const u32 age : ages) {
    ASSERT_EQ(bed_->policy.visit(*a_), 0U);
    ASSERT_EQ(bed_->page_of(*a_, 0).age, age);
  }
  EXPECT_EQ(bed_->policy.visit(*a_), 1U) << "the seventh idle visit";
}

TEST_F(Linux24SwapOut, a_page_on_the_active_list_is_aged_by_the_list_only) {
  Inode* file = bed_->make_file("f", 1);
  bed_->map_file(*a_, file, 0, 1);
  ASSERT_EQ(bed_->touch(*a_, 0), FaultOutcome::done);
  bed_->clear_accessed(*a_, 0);
  const u32 age = bed_->page_of(*a_, 0).age;
  ASSERT_EQ(bed_->page_of(*a_, 0).queue, PageQueue::active);
  EXPECT_EQ(bed_->policy.visit(*a_), 0U);
  EXPECT_EQ(bed_->page_of(*a_, 0).age, age);
  (void)bed_->policy.refill_inactive_scan(0, Linux24Policy::Scan::all);
  EXPECT_EQ(bed_->page_of(*a_, 0).age, age / 2);
  EXPECT_EQ(bed_->page_of(*a_, 0).queue, PageQueue::active) << "mapped pages stay active";
}

TEST_F(Linux24SwapOut, row_30_a_clean_file_page_takes_no_slot) {
  Inode* file = bed_->make_file("f", 1);
  bed_->map_file(*a_, file, 0, 1);
  bed_->map_anonymous(*a_, 1, 1);
  ASSERT_EQ(bed_->touch(*a_, 0), FaultOutcome::done);
  bed_->fill(*a_, 1, 1);
  for (u64 page : {0, 1}) {
    bed_->page_of(*a_, page).age = 0;
    bed_->clear_accessed(*a_, page);
  }
  const Pfn cached = bed_->entry(*a_, 0).pfn();
  EXPECT_EQ(bed_->policy.visit(*a_), 2U);
  EXPECT_TRUE(bed_->entry(*a_, 0).none());
  EXPECT_EQ(bed_->frames[cached].queue, PageQueue::inactive_dirty) << "also when it is clean";
  EXPECT_FALSE(bed_->frames[cached].has(PageFlag::dirty));
  EXPECT_TRUE(bed_->entry(*a_, 1).is(Pte::Kind::swapped));
  EXPECT_EQ(bed_->swap.slots_used(), 1U);
}

TEST_F(Linux24SwapOut, a_dirty_entry_of_a_shared_file_page_dirties_the_page) {
  Inode* file = bed_->make_file("f", 1);
  bed_->map_file(*a_, file, 0, 1);
  ASSERT_EQ(bed_->write(*a_, 0, 7), FaultOutcome::done);
  const Pfn pfn = bed_->entry(*a_, 0).pfn();
  bed_->frames[pfn].age = 0;
  bed_->clear_accessed(*a_, 0);
  EXPECT_EQ(bed_->policy.visit(*a_), 1U);
  EXPECT_TRUE(bed_->entry(*a_, 0).none());
  EXPECT_TRUE(bed_->frames[pfn].has(PageFlag::dirty));
  bed_->expect_page(*a_, 0, 7);
}

TEST_F(Linux24SwapOut, row_31_swap_full_leaves_pages_as_they_are) {
  start(1024, 9);  // a header and 8 slots
  bed_->map_anonymous(*a_, 0, 50);
  bed_->fill(*a_, 0, 50);
  u64 unmapped = 0;
  for (u32 i = 0; i < 10; ++i) unmapped += bed_->policy.visit(*a_);
  EXPECT_EQ(unmapped, 8U);
  EXPECT_EQ(a_->table().resident(), 42U);
  EXPECT_EQ(bed_->swap.areas().free_pages().v, 0U);
  for (u64 i = 8; i < 50; ++i) {
    ASSERT_TRUE(bed_->present(*a_, i)) << i;
    ASSERT_TRUE(bed_->entry(*a_, i).dirty());
    ASSERT_EQ(bed_->page_of(*a_, i).queue, PageQueue::none);
  }
  EXPECT_FALSE(bed_->policy.out_of_memory()) << "there are free frames";
  for (u64 i = 0; i < 50; ++i) bed_->expect_page(*a_, i, i + 1);
}

TEST_F(Linux24SwapOut, row_32_locked_areas_are_skipped) {
  bed_->map_anonymous(*a_, 0, 20);
  bed_->map_anonymous(*a_, 20, 10, true);
  bed_->map_anonymous(*a_, 30, 20);
  bed_->fill(*a_, 0, 50);
  EXPECT_EQ(bed_->page_of(*a_, 25).queue, PageQueue::none) << "in no cache: on no list";
  for (u32 i = 0; i < 20; ++i) (void)bed_->policy.visit(*a_);
  EXPECT_EQ(a_->table().resident(), a_->locked_vm().v);
  for (u64 i = 20; i < 30; ++i) EXPECT_TRUE(bed_->present(*a_, i));
}

TEST_F(Linux24SwapOut, pages_of_caches_that_a_locked_area_maps_are_on_the_locked_queue) {
  Inode* file = bed_->make_file("f", 8);
  bed_->map_file(*a_, file, 0, 8);
  for (u64 i = 0; i < 8; ++i) ASSERT_EQ(bed_->touch(*a_, i), FaultOutcome::done);
  ASSERT_TRUE(a_->set_locked({bed_->at(0), bed_->at(8)}, true, PageCount(100)).ok());
  EXPECT_EQ(bed_->size_of(PageQueue::locked), 8U);
  // The child's area is not locked; the parent's keeps the pages where they are.
  ASSERT_TRUE(b_->fork_from(*a_).ok());
  for (u32 i = 0; i < 10; ++i) (void)bed_->policy.visit(*b_);
  EXPECT_EQ(b_->table().resident(), 0U);
  EXPECT_EQ(bed_->size_of(PageQueue::locked), 8U);
  EXPECT_EQ(a_->table().resident(), 8U);
  ASSERT_TRUE(a_->set_locked({bed_->at(0), bed_->at(8)}, false, PageCount(0)).ok());
  EXPECT_EQ(bed_->size_of(PageQueue::locked), 0U);
  EXPECT_EQ(bed_->size_of(PageQueue::active), 8U);
}

TEST_F(Linux24SwapOut, a_locked_parent_keeps_a_page_that_its_child_gave_to_the_swap_cache) {
  bed_->map_anonymous(*a_, 0, 1, true);
  bed_->fill(*a_, 0, 1);
  ASSERT_TRUE(b_->fork_from(*a_).ok());
  const Pfn pfn = bed_->entry(*a_, 0).pfn();
  EXPECT_EQ(bed_->visits_until_unmapped(*b_, 0), 2U) << "a child's bit is clear, age 2";
  EXPECT_TRUE(bed_->present(*a_, 0));
  EXPECT_EQ(bed_->frames[pfn].queue, PageQueue::locked);
  bed_->expect_page(*b_, 0, 1);
}

TEST_F(Linux24SwapOut, row_33_a_page_of_three_spaces) {
  bed_->map_anonymous(*a_, 0, 1);
  bed_->fill(*a_, 0, 1);
  ASSERT_TRUE(b_->fork_from(*a_).ok());
  ASSERT_TRUE(c_->fork_from(*b_).ok());
  bed_->clear_accessed(*a_, 0);
  const Pfn pfn = bed_->entry(*a_, 0).pfn();
  ASSERT_EQ(bed_->frames[pfn].count(), 3U);
  EXPECT_EQ(bed_->policy.visit(*a_) + bed_->policy.visit(*a_), 1U);
  const SlotId slot = bed_->entry(*a_, 0).slot();
  EXPECT_EQ(bed_->swap.refs(slot), 2U);
  EXPECT_EQ(bed_->frames[pfn].queue, PageQueue::active) << "others map it";
  EXPECT_EQ(bed_->frames[pfn].age, 0U);
  EXPECT_EQ(bed_->policy.visit(*b_), 1U) << "old already";
  EXPECT_EQ(bed_->swap.refs(slot), 3U);
  (void)bed_->policy.page_launder(false);
  EXPECT_EQ(bed_->frames[pfn].state, PageState::mapped) << "c still has it";
  EXPECT_EQ(bed_->policy.visit(*c_), 1U);
  EXPECT_EQ(bed_->swap.refs(slot), 4U) << "three entries and the cache";
  EXPECT_EQ(bed_->frames[pfn].queue, PageQueue::inactive_dirty);
  bed_->drain_to(15);
  (void)bed_->policy.page_launder(false);
  bed_->settle_io();
  (void)bed_->policy.page_launder(false);
  EXPECT_EQ(bed_->frames[pfn].queue, PageQueue::inactive_clean);
  EXPECT_EQ(bed_->policy.reclaim_page(), pfn);
  EXPECT_EQ(bed_->swap.refs(slot), 3U);
  bed_->allocator.free(pfn, 0);
  bed_->release_hoard();
  for (AddressSpace* space : {a_, b_, c_}) bed_->expect_page(*space, 0, 1);
}

TEST_F(Linux24SwapOut, a_held_page_stays_and_its_slot_is_given_back) {
  bed_->map_anonymous(*a_, 0, 1);
  bed_->fill(*a_, 0, 1);
  ASSERT_TRUE(bed_->sim.mmu().pin(a_->id(), bed_->at(0)));
  for (u32 i = 0; i < 6; ++i) EXPECT_EQ(bed_->policy.visit(*a_), 0U);
  EXPECT_TRUE(bed_->present(*a_, 0));
  EXPECT_EQ(bed_->swap.slots_used(), 0U);
  EXPECT_EQ(bed_->page_of(*a_, 0).queue, PageQueue::none);
  bed_->sim.mmu().unpin_all();
  EXPECT_EQ(bed_->policy.visit(*a_), 1U);
}

TEST_F(Linux24SwapOut, rescue_from_the_swap_cache_reads_nothing) {
  bed_->map_anonymous(*a_, 0, 1);
  bed_->fill(*a_, 0, 1);
  ASSERT_NE(bed_->visits_until_unmapped(*a_, 0), 0U);
  const Pfn pfn = bed_->swap.cached(bed_->entry(*a_, 0).slot());
  const u64 reads = count(Counter::disk_reads);
  bed_->expect_page(*a_, 0, 1);
  EXPECT_EQ(bed_->entry(*a_, 0).pfn(), pfn);
  EXPECT_EQ(count(Counter::disk_reads), reads);
  EXPECT_EQ(bed_->frames[pfn].queue, PageQueue::active);
  EXPECT_EQ(bed_->frames[pfn].age, 5U) << "0 -> 2 by activation -> 5 by the lookup";
}

TEST_F(Linux24SwapOut, turns_go_to_the_process_with_the_most_left) {
  bed_->map_anonymous(*a_, 0, 320);
  bed_->map_anonymous(*b_, 0, 100);
  bed_->fill(*a_, 0, 320);
  bed_->fill(*b_, 0, 100);
  (void)bed_->policy.swap_out();
  EXPECT_EQ(bed_->policy.swap_address(a_->id()), bed_->at(10)) << "320/32 of the larger one";
  EXPECT_EQ(bed_->policy.swap_cnt(a_->id()), 0U);
  EXPECT_EQ(bed_->policy.swap_cnt(b_->id()), 8U) << "at least 8";
  (void)bed_->policy.swap_out();
  EXPECT_EQ(bed_->policy.swap_address(b_->id()), bed_->at(8));
  // 32 rounds visit the whole of the larger space once; the smaller one starts over.
  for (u32 i = 0; i < 64; ++i) (void)bed_->policy.swap_out();
  for (u64 i = 0; i < 320; ++i) ASSERT_FALSE(bed_->entry(*a_, i).accessed()) << i;
  bed_->spaces.destroy(a_->id());
  EXPECT_EQ(bed_->policy.swap_cnt(SpaceId(1)), 0U);
  EXPECT_EQ(bed_->policy.swap_address(SpaceId(1)), Vpn(0));
}

// What a student reads. Only the words that carry a decision are checked.
class Recorder final : public WalkSink {
 public:
  void enter(const char* function, const char* text, u64 va, u64 vb, u64 vc) override {
    lines.push_back(std::string(function) + ": " + print(text, va, vb, vc));
  }
  void leave() override {}
  void step(const char* text, u64 va, u64 vb, u64 vc) override {
    lines.push_back(print(text, va, vb, vc));
  }
  static std::string print(std::string text, u64 va, u64 vb, u64 vc) {
    const u64 values[] = {va, vb, vc};
    for (u32 i = 0; i < 3; ++i) {
      const std::string name(1, static_cast<char>('a' + i));
      for (const std::string& form : {"{" + name + "}", "{" + name + ":x}"}) {
        for (std::size_t at = text.find(form); at != std::string::npos; at = text.find(form)) {
          text.replace(at, form.size(), std::to_string(values[i]));
        }
      }
    }
    return text;
  }
  bool has(const std::string& part) const {
    for (const std::string& line : lines) {
      if (line.find(part) != std::string::npos) return true;
    }
    return false;
  }
  std::vector<std::string> lines;
};

TEST_F(Linux24SwapOut, the_walk_tells_what_was_decided) {
  bed_->map_anonymous(*a_, 0, 1);
  bed_->fill(*a_, 0, 1);
  Recorder walk;
  bed_->observer.walk = &walk;
  (void)bed_->policy.visit(*a_);
  EXPECT_TRUE(walk.has("accessed since the last visit: the bit is cleared, age 2 -> 5"));
  (void)bed_->policy.visit(*a_);
  EXPECT_TRUE(walk.has("not accessed: age 5 -> 2, it stays"));
  (void)bed_->policy.visit(*a_);
  (void)bed_->policy.visit(*a_);
  EXPECT_TRUE(walk.has("not accessed: age 1 -> 0, its time has come"));
  EXPECT_TRUE(walk.has("get_swap_page: slot 1 of area 1; the page enters the swap cache, dirty"));
  EXPECT_TRUE(walk.has("unmapped; only its cache holds the frame"));
  for (const std::string& line : walk.lines) {
    EXPECT_EQ(line.find('{'), std::string::npos) << line;
  }
  bed_->observer.walk = nullptr;
}

}  // namespace
}  // namespace spillway
