// The policy two_list by its rules: where pages start, what activates them, what leaves first, and
// what a refault says. On the full machine, through real faults.
#include <gtest/gtest.h>

#include <new>
#include <string>
#include <vector>

#include "machine_sim/sim_machine.h"
#include "system/system_impl.h"
#include "vfs/test_file_test.h"

namespace spillway {
namespace {

constexpr VpnRange kRange{Vpn(u64{1} << 20), Vpn((u64{1} << 20) + (u64{1} << 12))};

class FunctionNames final : public WalkSink {
 public:
  void enter(const char* function, const char*, u64, u64, u64) override {
    names += std::string(function) + " ";
  }
  void leave() override {}
  void step(const char*, u64, u64, u64) override {}
  std::string names;
};

class TwoListTest : public ::testing::Test {
 protected:
  void start(u64 frames, u64 slots, bool accessed_bit = true) {
    SimConfig machine;
    machine.frames = PageCount(frames);
    machine.block_pages = {slots == 0 ? 16 : slots, 512};
    machine.features.zero_page = false;
    machine.features.accessed_bit = accessed_bit;
    sim_ = std::make_unique<SimMachine>(machine);
    Config config;
    config.policy = Policy::two_list;
    config.file_device = 1;
    config.page_cluster = 0;
    config.readahead_min = config.readahead_max = config.fresh_around_max = 1;
    void* memory = sim_->boot().alloc(sizeof(SystemImpl), alignof(SystemImpl));
    impl_ = ::new (memory) SystemImpl(sim_->machine(), config, counters_, ring_);
    ASSERT_TRUE(impl_->boot().ok());
    (void)impl_->allocator.grow(static_cast<u32>(frames));
    if (slots > 0) {
      ASSERT_TRUE(finish([&] { return impl_->swap.areas().format(0, {}); }).ok());
      ASSERT_TRUE(finish([&] { return impl_->swap.areas().swap_on(0, 1, PageCount(0)); }).ok());
    }
    file_ = make_test_file(impl_->vfs, "file", 512);
    space_ = impl_->system.create_space(kRange, PageCount(0)).value();
  }
  template <class Call>
  auto finish(Call call) -> decltype(call()) {
    for (;;) {
      const auto result = call();
      if (result.ok() || result.error() != Error::wait || !sim_->complete_one()) return result;
    }
  }
  TwoListPolicy& policy() { return impl_->two_list; }
  AddressSpace& space() { return impl_->spaces.at(space_); }
  void map(u64 first, u64 pages, Prot prot = Prot::read_write, bool of_file = false) {
    MapParams params;
    params.range = {kRange.start + first, kRange.start + first + pages};
    params.prot = prot;
    params.fixed = true;
    if (of_file) {
      params.shared = params.may_share = true;
      params.mapping = &file_->mapping;
      params.ops = &impl_->file_areas;
      params.pgoff = first;
    }
    ASSERT_TRUE(space().map(params).ok());
  }
  Pfn touch(u64 page, bool write = false) {
    const VirtAddr va = addr_of(kRange.start + page);
    u8 byte = static_cast<u8>(page);
    for (u32 attempt = 0; attempt < 1000; ++attempt) {
      const SimAccess access = write ? sim_->store(impl_->system, space_, va, &byte, 1, attempt)
                                     : sim_->load(impl_->system, space_, va, &byte, 1, attempt);
      if (access.outcome == FaultOutcome::done) return entry(page).pfn();
      if (access.outcome != FaultOutcome::wait) break;
      sim_->complete_one();
    }
    ADD_FAILURE() << "page " << page << " does not come";
    return kNoPfn;
  }
  void fill(u64 first, u64 pages) {
    map(first, pages);
    for (u64 i = first; i < first + pages; ++i) touch(i, true);
  }
  void read_file(u64 page) {
    u8 byte = 0;
    u64 done = 0;
    ASSERT_TRUE(finish([&] {
                  return impl_->vfs.read(*file_, readahead_, page * kPageSize, &byte, 1, &done);
                }).ok());
  }
  Pte entry(u64 page) { return space().table().get(kRange.start + page); }
  PageQueue queue_of(u64 page) { return impl_->frames[entry(page).pfn()].queue; }
  u64 size(PageQueue queue) { return policy().queue_size(queue); }
  ReclaimOutcome reclaim(u64 want) { return policy().reclaim(PageCount(want)); }
  void complete_all() {
    while (sim_->complete_one()) {
    }
  }
  void expect_sound() {
    const AuditReport report = impl_->system.audit();
    EXPECT_TRUE(report.ok) << report.what << " " << report.left << " " << report.right;
  }
  u64 count(Counter c) const { return counters_[c]; }

  Counters counters_{};
  EventRing ring_;
  std::unique_ptr<SimMachine> sim_;
  SystemImpl* impl_ = nullptr;
  Inode* file_ = nullptr;
  FileReadahead readahead_;
  SpaceId space_;
};

TEST_F(TwoListTest, new_pages_start_inactive_on_the_list_of_their_kind) {
  start(512, 512);
  fill(0, 10);
  map(20, 4, Prot::read, true);
  for (u64 i = 20; i < 24; ++i) touch(i);
  read_file(30);
  EXPECT_EQ(size(PageQueue::inactive_anon), 10U);
  EXPECT_EQ(size(PageQueue::inactive_file), 5U);
  EXPECT_EQ(size(PageQueue::active_anon) + size(PageQueue::active_file), 0U);
  expect_sound();
}

TEST_F(TwoListTest, the_second_use_by_read_activates) {
  start(512, 512);
  read_file(3);
  EXPECT_EQ(size(PageQueue::inactive_file), 1U);
  read_file(3);
  EXPECT_EQ(size(PageQueue::active_file), 1U);
}

TEST_F(TwoListTest, a_mapped_page_is_spared_once_and_activated_when_it_is_used_again) {
  start(512, 512);
  fill(0, 64);
  (void)reclaim(1);  // everything is young: a first look spares, what is idle then goes
  complete_all();
  for (u64 i = 40; i < 64; ++i) touch(i);
  while (size(PageQueue::active_anon) == 0) {
    (void)reclaim(1);
    complete_all();
  }
  for (u64 i = 0; i < 40; ++i) {
    if (!entry(i).is(Pte::Kind::present)) continue;
    EXPECT_EQ(queue_of(i), PageQueue::inactive_anon) << i;
  }
  expect_sound();
}

TEST_F(TwoListTest, pages_of_programs_are_activated_at_the_first_look) {
  start(512, 512);
  map(0, 8, Prot::read_exec, true);
  for (u64 i = 0; i < 8; ++i) touch(i);
  for (u64 i = 100; i < 200; i += 2) read_file(i);  // something that can go instead
  EXPECT_EQ(reclaim(20), ReclaimOutcome::progress);
  EXPECT_EQ(size(PageQueue::active_file), 8U);
}

TEST_F(TwoListTest, without_free_swap_only_files_are_scanned) {
  start(512, 16);
  fill(0, 100);
  for (u64 i = 0; i < 60; ++i) read_file(i);
  while (impl_->swap.areas().free_pages().v > 0) {
    ASSERT_NE(policy().page_out(touch(impl_->swap.areas().free_pages().v)), ReclaimOutcome::wait);
  }
  complete_all();
  const u64 anonymous = size(PageQueue::inactive_anon) + size(PageQueue::active_anon);
  const u64 cached = size(PageQueue::inactive_file);
  EXPECT_EQ(reclaim(20), ReclaimOutcome::progress);
  EXPECT_EQ(size(PageQueue::inactive_anon) + size(PageQueue::active_anon), anonymous);
  EXPECT_LE(size(PageQueue::inactive_file) + 20, cached);
  expect_sound();
}

TEST_F(TwoListTest, a_dirty_page_of_a_file_is_freed_when_its_write_ends) {
  start(512, 512);
  map(0, 8, Prot::read_write, true);
  for (u64 i = 0; i < 8; ++i) touch(i, true);
  EXPECT_EQ(reclaim(2), ReclaimOutcome::wait);
  EXPECT_GT(impl_->cache.writeback(), 0U);
  expect_sound();
  const u64 cached = impl_->cache.pages();
  complete_all();
  EXPECT_LT(impl_->cache.pages(), cached);
  expect_sound();
  for (u64 i = 0; i < 8; ++i) {
    u8 byte = 0;
    const Pfn pfn = touch(i);
    byte = *sim_->machine().frames.bytes(pfn);
    EXPECT_EQ(byte, static_cast<u8>(i));
  }
}

TEST_F(TwoListTest, a_near_refault_is_activated_and_a_far_one_is_not) {
  start(512, 1024);
  fill(0, 100);
  for (u64 i = 0; i < 40; i += 2) {
    read_file(i);
    read_file(i);
  }
  ASSERT_GT(size(PageQueue::active_file), 0U);  // a working set that 5 may belong to
  ASSERT_NE(policy().page_out(touch(5)), ReclaimOutcome::wait);
  complete_all();
  ASSERT_TRUE(entry(5).is(Pte::Kind::swapped));
  touch(5);
  EXPECT_EQ(queue_of(5), PageQueue::active_anon);
  EXPECT_EQ(count(Counter::workingset_activate), 1U);
  // Now more goes than the lists hold: 6 leaves first and is back last.
  ASSERT_NE(policy().page_out(touch(6)), ReclaimOutcome::wait);
  fill(200, 600);
  complete_all();
  ASSERT_TRUE(entry(6).is(Pte::Kind::swapped));
  const u64 activated = count(Counter::workingset_activate);
  touch(6);
  EXPECT_EQ(queue_of(6), PageQueue::inactive_anon);
  EXPECT_EQ(count(Counter::workingset_activate), activated);
  EXPECT_GE(count(Counter::workingset_refault), 2U);
  expect_sound();
}

TEST_F(TwoListTest, the_return_of_a_page_that_was_active_is_a_restore) {
  start(512, 1024);
  fill(0, 20);
  read_file(3);
  read_file(3);
  ASSERT_EQ(size(PageQueue::active_file), 1U);
  policy().age();  // the inactive list is low: it is deactivated, as one that was active
  ASSERT_EQ(size(PageQueue::inactive_file), 1U);
  EXPECT_EQ(reclaim(1), ReclaimOutcome::progress);
  ASSERT_EQ(size(PageQueue::inactive_file), 0U);
  read_file(3);
  EXPECT_EQ(size(PageQueue::active_file), 1U);
  EXPECT_EQ(count(Counter::workingset_restore), 1U);
}

TEST_F(TwoListTest, kswapd_works_from_the_low_to_the_high_mark) {
  start(512, 1024);
  map(0, 500);
  u64 page = 0;
  while (!impl_->allocator.below_low()) touch(page++, true);
  FunctionNames names;
  impl_->observer.walk = &names;
  ASSERT_TRUE(impl_->system.background_wanted());
  for (u32 step = 0; step < 200 && impl_->system.background_wanted(); ++step) {
    (void)impl_->system.background_step();
    complete_all();
  }
  EXPECT_FALSE(impl_->allocator.below_high());
  EXPECT_FALSE(impl_->system.background_wanted());
  for (const char* name :
       {"kswapd ", "balance_pgdat ", "shrink_node ", "shrink_inactive_list ", "try_to_unmap "}) {
    EXPECT_NE(names.names.find(name), std::string::npos) << name;
  }
  expect_sound();
}

TEST_F(TwoListTest, locked_pages_are_on_a_list_that_nobody_scans) {
  start(512, 512);
  fill(0, 50);
  ASSERT_TRUE(space().set_locked({kRange.start, kRange.start + 10}, true, PageCount(10)).ok());
  EXPECT_EQ(size(PageQueue::locked), 10U);
  for (u32 i = 0; i < 10; ++i) {
    (void)reclaim(10);
    complete_all();
  }
  for (u64 i = 0; i < 10; ++i) EXPECT_TRUE(entry(i).is(Pte::Kind::present)) << i;
  expect_sound();
}

// Without accessed bits the lists are FIFOs, and a refault is the second chance.
TEST_F(TwoListTest, works_without_accessed_bits) {
  start(256, 1024, false);
  fill(0, 400);
  complete_all();
  for (u32 round = 0; round < 3; ++round) {
    for (u64 i = 0; i < 400; ++i) {
      const Pfn pfn = touch(i);
      ASSERT_EQ(*sim_->machine().frames.bytes(pfn), static_cast<u8>(i));
    }
  }
  EXPECT_GT(count(Counter::workingset_refault), 0U);
  expect_sound();
}

}  // namespace
}  // namespace spillway
