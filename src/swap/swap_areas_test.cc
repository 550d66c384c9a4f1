// Plain areas as a whole: formatted, switched on and off through their devices, chosen by
// priority; every bad header is refused, every failure leaves the area off and nothing taken.
#include "swap/swap_areas.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "swap/swap_bed_test.h"
#include "swap/swap_header.h"

namespace spillway {
namespace {

constexpr i32 kDefault = SwapAreas::kPriorityDefault;

class SwapAreasTest : public ::testing::Test {
 protected:
  void start(std::vector<u64> devices, u64 frame_count = 512) {
    SimConfig config = SwapBed::config_of(frame_count);
    config.block_pages = std::move(devices);
    bed_ = std::make_unique<SwapBed>(config);
    areas_ = std::make_unique<SwapAreas>();
    ASSERT_TRUE(areas_->init(bed_->machine(), bed_->allocator, bed_->observer).ok());
    free_ = bed_->allocator.free_pages().v;
  }
  template <class Call>
  auto finish(Call call) {
    auto result = call();
    while (!result.ok() && result.error() == Error::wait && bed_->sim.complete_one()) {
      result = call();
    }
    return result;
  }
  Status format(u32 device, const SwapFormat& how = {}) {
    return finish([&] { return areas_->format(device, how); });
  }
  Result<u32> on(u32 device, i32 priority = kDefault, u64 size = 0) {
    return finish([&] { return areas_->swap_on(device, priority, PageCount(size)); });
  }
  u32 ready(u32 device, i32 priority = kDefault) {
    EXPECT_TRUE(format(device).ok());
    return on(device, priority).value();
  }
  SlotId take() {
    const Result<SlotId> slot = areas_->alloc();
    if (!slot.ok()) return kNoSlot;
    areas_->find(slot.value())->word = SlotWord::plain();
    return slot.value();
  }
  SwapAreaInfo info(u32 area) {
    SwapAreaInfo found{};
    areas_->for_each([&](SwapAreaInfo i) {
      if (i.area == area) found = i;
    });
    return found;
  }
  // Nothing is taken and nothing is on.
  void expect_nothing() {
    EXPECT_EQ(bed_->allocator.free_pages().v, free_);
    EXPECT_EQ(areas_->meta_frames(), 0U);
    EXPECT_FALSE(areas_->any_writable());
    EXPECT_FALSE(areas_->io_in_flight());
  }
  std::unique_ptr<SwapBed> bed_;
  std::unique_ptr<SwapAreas> areas_;
  u64 free_ = 0;
};

TEST_F(SwapAreasTest, an_area_goes_on_and_off) {
  start({1000});
  const u32 bad[] = {9, 500};
  ASSERT_TRUE(format(0, {.bad_pages = bad, .bad_count = 2}).ok());
  expect_nothing();
  EXPECT_EQ(areas_->swap_on(0, 5, PageCount(0)).error(), Error::wait);
  EXPECT_TRUE(areas_->io_in_flight());
  EXPECT_EQ(areas_->swap_on(0, 5, PageCount(0)).error(), Error::wait);
  EXPECT_EQ(areas_->format(0, {}).error(), Error::busy);
  const u32 area = on(0, 5).value();
  EXPECT_EQ(area, 1U);
  EXPECT_EQ(areas_->swap_on(0, 5, PageCount(0)).error(), Error::busy);
  EXPECT_EQ(areas_->format(0, {}).error(), Error::busy);
  EXPECT_EQ(areas_->total_pages().v, 997U);
  EXPECT_EQ(areas_->free_pages().v, 997U);
  const SlotId slot = take();
  EXPECT_EQ(slot.area(), area);
  const SwapAreaInfo line = info(area);
  EXPECT_EQ(line.device, 0U);
  EXPECT_EQ(line.size.v, 997U);
  EXPECT_EQ(line.used.v, 1U);
  EXPECT_EQ(line.priority, 5);
  EXPECT_TRUE(line.writable);
  EXPECT_EQ(areas_->finish_off(area).error(), Error::invalid) << "not begun";
  EXPECT_EQ(areas_->cancel_off(area).error(), Error::invalid);
  ASSERT_TRUE(areas_->begin_off(area).ok());
  EXPECT_EQ(areas_->begin_off(area).error(), Error::invalid);
  EXPECT_EQ(areas_->alloc().error(), Error::no_space);
  EXPECT_EQ(areas_->total_pages().v, 0U);
  EXPECT_EQ(areas_->free_pages().v, 0U);
  EXPECT_FALSE(info(area).writable);
  EXPECT_EQ(areas_->finish_off(area).error(), Error::busy);
  ASSERT_TRUE(areas_->cancel_off(area).ok());
  EXPECT_EQ(areas_->free_pages().v, 996U);
  EXPECT_EQ(info(area).priority, 5);
  ASSERT_TRUE(areas_->begin_off(area).ok());
  EXPECT_EQ(areas_->next_used(SlotId(area, 0)), slot);
  EXPECT_EQ(areas_->next_used(slot), kNoSlot);
  areas_->free(slot);
  ASSERT_TRUE(areas_->finish_off(area).ok());
  EXPECT_EQ(areas_->find(slot), nullptr);
  expect_nothing();
  EXPECT_EQ(on(0).value(), area) << "its header is still there";
}

TEST_F(SwapAreasTest, headers_that_are_none_are_refused) {
  start({100});
  EXPECT_EQ(on(0).error(), Error::invalid) << "nothing was ever written";
  SwapHeader good;
  const u32 bad[] = {4};
  good.make(100, bad, 1);
  const auto refused = [&](auto change) {
    SwapHeader header = good;
    change(header);
    bed_->sim.block(0).store(0, &header);
    const Result<u32> result = on(0);
    expect_nothing();
    return !result.ok() && result.error() == Error::invalid;
  };
  EXPECT_TRUE(refused([](SwapHeader& h) { h.magic[3] = 'X'; }));
  EXPECT_TRUE(refused([](SwapHeader& h) { std::memcpy(h.magic, "SWAP-SPACE", 10); }));
  EXPECT_TRUE(refused([](SwapHeader& h) { h.version = 2; }));
  EXPECT_TRUE(refused([](SwapHeader& h) { h.last_page = 100; })) << "longer than the device";
  EXPECT_TRUE(refused([](SwapHeader& h) { h.last_page = 0; }));
  EXPECT_TRUE(refused([](SwapHeader& h) { h.bad[0] = 100; }));
  EXPECT_TRUE(refused([](SwapHeader& h) { h.bad[0] = 0; }));
  EXPECT_TRUE(refused([](SwapHeader& h) { h.bad_count = SwapHeader::kBadMax + 1; }));
  EXPECT_TRUE(refused([](SwapHeader& h) {
    h.last_page = 1;
    h.bad[0] = 1;
  })) << "no good page";
  bed_->sim.block(0).store(0, &good);
  EXPECT_TRUE(on(0).ok());
  EXPECT_EQ(areas_->total_pages().v, 98U);
}

TEST_F(SwapAreasTest, a_header_that_lists_one_bad_page_twice_counts_it_once) {
  start({100});
  const u32 bad[] = {4, 4, 5};
  ASSERT_TRUE(format(0, {.bad_pages = bad, .bad_count = 3}).ok());
  ASSERT_TRUE(on(0).ok());
  EXPECT_EQ(areas_->total_pages().v, 97U);
}

TEST_F(SwapAreasTest, sizes) {
  start({100, 100});
  const u32 bad[] = {3, 60};
  ASSERT_TRUE(format(0, {.size = PageCount(80), .bad_pages = bad, .bad_count = 2}).ok());
  ASSERT_TRUE(on(0, 0, 50).ok());
  EXPECT_EQ(areas_->total_pages().v, 48U) << "49 slots, one of them bad";
  EXPECT_TRUE(areas_->validate());
  EXPECT_EQ(format(1, {.size = PageCount(101)}).error(), Error::invalid);
  EXPECT_EQ(format(1, {.size = PageCount(1)}).error(), Error::invalid);
  const u32 outside[] = {90};
  EXPECT_EQ(format(1, {.size = PageCount(90), .bad_pages = outside, .bad_count = 1}).error(),
            Error::invalid);
  ASSERT_TRUE(format(1).ok());
  EXPECT_EQ(on(1, 0, 1).error(), Error::invalid) << "nothing but the header";
  EXPECT_EQ(on(2).error(), Error::invalid);
  EXPECT_EQ(format(2).error(), Error::invalid);
  EXPECT_EQ(on(1, SwapAreas::kPriorityMax + 1).error(), Error::invalid);
  EXPECT_EQ(on(1, -2).error(), Error::invalid);
}

TEST_F(SwapAreasTest, default_priorities_count_downward) {
  start({100, 100, 100, 100});
  EXPECT_EQ(info(ready(2)).priority, -2);
  EXPECT_EQ(info(ready(0)).priority, -3);
  EXPECT_EQ(info(ready(3, 7)).priority, 7);
  EXPECT_EQ(info(ready(1)).priority, -4);
}

TEST_F(SwapAreasTest, higher_priorities_first_and_equal_ones_in_turn) {
  start({40, 60, 60, 50});
  ready(0);
  ready(1, 3);
  ready(2, 3);
  ready(3, 9);
  std::vector<u32> order;
  for (SlotId slot = take(); slot.valid(); slot = take()) order.push_back(slot.area());
  ASSERT_EQ(order.size(), 39U + 59 + 59 + 49);
  for (u64 i = 0; i < order.size(); ++i) {
    if (i < 49) {
      ASSERT_EQ(order[i], 4U);
    } else if (i >= 49 + 118) {
      ASSERT_EQ(order[i], 1U);
    } else {
      ASSERT_TRUE(order[i] == 2 || order[i] == 3);
      if (i > 49) {
        ASSERT_NE(order[i], order[i - 1]) << i;
      }
    }
  }
  EXPECT_EQ(areas_->free_pages().v, 0U);
  EXPECT_EQ(areas_->used(), order.size());
  EXPECT_TRUE(areas_->any_writable()) << "full is not off";
  // A slot that comes free in the best area is the next one.
  areas_->free(SlotId(1, 5));
  areas_->free(SlotId(4, 5));
  EXPECT_EQ(take(), SlotId(4, 5));
  EXPECT_EQ(take(), SlotId(1, 5));
}

TEST_F(SwapAreasTest, failed_transfers_of_the_header) {
  start({100});
  FaultPlan& plan = bed_->sim.block(0).failures();
  plan.arm(Failure::write_io, 1);
  EXPECT_EQ(format(0).error(), Error::io);
  expect_nothing();
  EXPECT_EQ(on(0).error(), Error::invalid);
  ASSERT_TRUE(format(0).ok());
  plan.arm(Failure::read_io, 1);
  EXPECT_EQ(on(0).error(), Error::io);
  expect_nothing();
  EXPECT_EQ(bed_->count(Counter::io_error), 2U);
  EXPECT_TRUE(on(0).ok());
}

TEST_F(SwapAreasTest, too_little_memory) {
  start({100'000}, 256);
  ASSERT_TRUE(format(0).ok());
  EXPECT_EQ(on(0).error(), Error::no_memory);
  expect_nothing();
  std::vector<Pfn> taken;
  for (Result<Pfn> p = bed_->allocator.alloc(0, kAllocReclaim); p.ok();
       p = bed_->allocator.alloc(0, kAllocReclaim)) {
    taken.push_back(p.value());
  }
  EXPECT_EQ(areas_->swap_on(0, kDefault, PageCount(0)).error(), Error::no_memory);
  EXPECT_EQ(areas_->format(0, {}).error(), Error::no_memory);
  for (Pfn p : taken) bed_->allocator.free(p, 0);
  ASSERT_TRUE(on(0, kDefault, 1000).ok());
}

TEST_F(SwapAreasTest, waiting_for_frames_goes_on_where_it_was) {
  start({20'000}, 256);
  ASSERT_TRUE(format(0).ok());
  std::vector<Pfn> taken;
  for (u32 i = 0; i < 150; ++i) taken.push_back(bed_->take());
  bed_->reclaimer.outcome = ReclaimOutcome::wait;
  EXPECT_EQ(on(0).error(), Error::wait);
  EXPECT_FALSE(areas_->any_writable());
  for (Pfn p : taken) bed_->allocator.free(p, 0);
  EXPECT_EQ(on(0).value(), 1U);
  EXPECT_TRUE(areas_->validate());
}

TEST_F(SwapAreasTest, nothing_is_submitted_while_quiesced) {
  start({100});
  areas_->set_quiesced(true);
  EXPECT_EQ(areas_->format(0, {}).error(), Error::wait);
  EXPECT_EQ(areas_->swap_on(0, kDefault, PageCount(0)).error(), Error::wait);
  EXPECT_EQ(bed_->sim.pending(), 0U);
  areas_->set_quiesced(false);
  ready(0);
}

TEST_F(SwapAreasTest, without_devices_there_is_nothing) {
  start({});
  EXPECT_EQ(areas_->alloc().error(), Error::no_space);
  EXPECT_EQ(areas_->format(0, {}).error(), Error::invalid);
  EXPECT_EQ(areas_->begin_off(1).error(), Error::invalid);
  EXPECT_EQ(areas_->begin_off(0).error(), Error::invalid);
  EXPECT_EQ(areas_->find(SlotId(1, 1)), nullptr);
  EXPECT_EQ(areas_->next_used(SlotId(3, 0)), kNoSlot);
  EXPECT_TRUE(areas_->validate());
}

}  // namespace
}  // namespace spillway
