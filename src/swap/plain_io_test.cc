// Pages that go out to plain areas and come back: written from their frames while the swap cache
// holds them, read together with their neighbours, never handed out with wrong bytes. Rows 35-44
// of the acceptance table, as far as swap itself answers for them.
#include "swap/plain_io.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <vector>

#include "swap/swap_bed_test.h"

namespace spillway {
namespace {

struct Written {
  Pfn pfn;
  Status status;
};

class WriteWatcher final : public FakeReclaimer {
 public:
  using FakeReclaimer::FakeReclaimer;
  void page_written(Pfn pfn, Status status) override { written.push_back({pfn, status}); }
  std::vector<Written> written;
};

class PlainTest : public ::testing::Test, protected SwapInSink {
 protected:
  void start(u64 pages, u64 frame_count = 1024, u64 pool = 0) {
    status_.clear();
    SimConfig config = SwapBed::config_of(frame_count);
    config.block_pages = {pages, pages};
    bed_ = std::make_unique<SwapBed>(config);
    swap_ = std::make_unique<Swap>();
    watcher_ = std::make_unique<WriteWatcher>(bed_->allocator);
    ASSERT_TRUE(swap_
                    ->init(bed_->machine(), bed_->allocator, bed_->frames, bed_->observer,
                           PageCount(pool), 1 << 16)
                    .ok());
    swap_->set_swap_in_sink(*this);
    swap_->set_reclaimer(*watcher_);
  }
  void area_on(u32 device, i32 priority = SwapAreas::kPriorityDefault, const SwapFormat& how = {}) {
    while (!swap_->areas().format(device, how).ok()) ASSERT_TRUE(bed_->sim.complete_one());
    while (!swap_->areas().swap_on(device, priority, PageCount(0)).ok()) {
      ASSERT_TRUE(bed_->sim.complete_one());
    }
  }
  void finish_io() {
    while (bed_->sim.complete_one()) {
    }
  }
  // An anonymous page in the swap cache, dirty.
  Pfn page(u64 id) {
    const Pfn pfn = bed_->take();
    make_page(bed_->bytes(pfn), id, Bytes::random);
    EXPECT_TRUE(swap_->add_to_swap(pfn).ok());
    return pfn;
  }
  SlotId slot_of(Pfn pfn) { return bed_->frames[pfn].slot; }
  bool is(Pfn pfn, PageFlag flag) { return bed_->frames[pfn].has(flag); }
  void drop(Pfn pfn) {
    swap_->delete_from_cache(pfn);
    bed_->allocator.free(pfn, 0);
  }
  // A page that is only in its slot, with one reference for the caller.
  SlotId stored(u64 id) {
    const Pfn pfn = page(id);
    const SlotId slot = slot_of(pfn);
    swap_->get(slot);
    EXPECT_TRUE(swap_->write(pfn).ok());
    finish_io();
    EXPECT_FALSE(is(pfn, PageFlag::dirty));
    drop(pfn);
    return slot;
  }
  Pfn frame_for_read() {
    const Pfn pfn = bed_->take();
    bed_->frames.transition(pfn, PageState::isolated, PageState::reading);
    return pfn;
  }
  // Reads the slots with one call; the pages stay in the swap cache, isolated.
  std::vector<Pfn> read(const std::vector<SlotId>& slots) {
    std::vector<ReadTarget> targets;
    std::vector<Pfn> pfns;
    for (SlotId slot : slots) {
      pfns.push_back(frame_for_read());
      targets.push_back({slot, pfns.back()});
    }
    EXPECT_TRUE(swap_->read(targets.data(), static_cast<u32>(targets.size())).ok());
    finish_io();
    for (Pfn pfn : pfns) bed_->frames.transition(pfn, PageState::reading, PageState::isolated);
    return pfns;
  }
  void page_read(Pfn pfn, SlotId slot, Status status) override {
    EXPECT_EQ(bed_->frames[pfn].state, PageState::reading);
    EXPECT_EQ(swap_->cached(slot), pfn);
    status_.insert_or_assign(slot.v, status);
  }
  FaultPlan& plan(u32 device = 0) { return bed_->sim.block(device).failures(); }
  u64 count(Counter c) const { return bed_->count(c); }

  std::unique_ptr<SwapBed> bed_;
  std::unique_ptr<Swap> swap_;
  std::unique_ptr<WriteWatcher> watcher_;
  std::map<u32, Status> status_;
};

TEST_F(PlainTest, a_page_goes_out_and_comes_back) {
  start(1000);
  area_on(0);
  const u64 reads = count(Counter::disk_reads);
  const Pfn pfn = page(7);
  const SlotId slot = slot_of(pfn);
  EXPECT_EQ(slot.area(), 1U);
  EXPECT_EQ(swap_->refs(slot), 1U) << "the cache's";
  EXPECT_EQ(swap_->cached(slot), pfn);
  EXPECT_EQ(swap_->cached_pages().v, 1U);
  EXPECT_TRUE(is(pfn, PageFlag::dirty));
  EXPECT_FALSE(swap_->on_disk(slot)) << "never written";
  swap_->get(slot);
  ASSERT_TRUE(swap_->write(pfn).ok());
  EXPECT_TRUE(is(pfn, PageFlag::writeback));
  EXPECT_FALSE(is(pfn, PageFlag::dirty));
  EXPECT_TRUE(swap_->io_in_flight());
  EXPECT_TRUE(swap_->validate());
  finish_io();
  ASSERT_EQ(watcher_->written.size(), 1U);
  EXPECT_EQ(watcher_->written[0].pfn, pfn);
  EXPECT_TRUE(watcher_->written[0].status.ok());
  EXPECT_FALSE(is(pfn, PageFlag::writeback));
  EXPECT_TRUE(swap_->on_disk(slot));
  EXPECT_TRUE(swap_->same_as_slot(pfn));
  EXPECT_EQ(std::memcmp(bed_->sim.block(0).stored(slot.offset()), bed_->bytes(pfn), kPageSize), 0);
  drop(pfn);
  EXPECT_EQ(swap_->refs(slot), 1U);
  EXPECT_EQ(swap_->load(slot, pfn), LoadOutcome::on_disk);
  const Pfn back = read({slot})[0];
  EXPECT_TRUE(is_page(bed_->bytes(back), 7, Bytes::random));
  EXPECT_EQ(swap_->refs(slot), 2U);
  EXPECT_TRUE(swap_->worth_keeping(slot));
  EXPECT_EQ(count(Counter::disk_reads), reads + 1);
  swap_->put(slot);
  drop(back);
  EXPECT_EQ(swap_->areas().used(), 0U);
  EXPECT_TRUE(swap_->validate());
}

TEST_F(PlainTest, row_37_a_page_is_written_again_to_its_slot) {
  start(100);
  area_on(0);
  const Pfn pfn = page(1);
  const SlotId slot = slot_of(pfn);
  ASSERT_TRUE(swap_->write(pfn).ok());
  finish_io();
  make_page(bed_->bytes(pfn), 2, Bytes::random);
  EXPECT_FALSE(swap_->same_as_slot(pfn));
  bed_->frames[pfn].set(PageFlag::dirty);
  ASSERT_TRUE(swap_->write(pfn).ok());
  finish_io();
  EXPECT_EQ(slot_of(pfn), slot);
  swap_->get(slot);
  drop(pfn);
  EXPECT_TRUE(is_page(bed_->bytes(read({slot})[0]), 2, Bytes::random));
  EXPECT_EQ(count(Counter::pswpout), 2U);
}

TEST_F(PlainTest, a_failed_write_leaves_the_page_dirty) {
  for (Failure failure : {Failure::write_io, Failure::write_torn, Failure::write_no_space}) {
    start(100);
    area_on(0);
    const Pfn pfn = page(1);
    const SlotId slot = slot_of(pfn);
    swap_->get(slot);
    // The first write, and one of a page that the slot held already.
    for (u64 round = 0; round < 2; ++round) {
      make_page(bed_->bytes(pfn), round + 1, Bytes::random);
      bed_->frames[pfn].set(PageFlag::dirty);
      plan().arm(failure, 1);
      ASSERT_TRUE(swap_->write(pfn).ok());
      finish_io();
      EXPECT_TRUE(is(pfn, PageFlag::dirty));
      EXPECT_TRUE(is(pfn, PageFlag::error));
      EXPECT_FALSE(is(pfn, PageFlag::writeback));
      EXPECT_FALSE(watcher_->written.back().status.ok());
      EXPECT_FALSE(swap_->on_disk(slot)) << "whatever is there now, it is not asked for";
      EXPECT_EQ(count(Counter::io_error), round + 1);
      EXPECT_TRUE(swap_->validate());
      ASSERT_TRUE(swap_->write(pfn).ok());
      finish_io();
      EXPECT_FALSE(is(pfn, PageFlag::error));
      EXPECT_TRUE(swap_->on_disk(slot));
    }
    drop(pfn);
    EXPECT_TRUE(is_page(bed_->bytes(read({slot})[0]), 2, Bytes::random));
  }
}

// A write that is reported as good but is not all there, and bits that change on the medium.
TEST_F(PlainTest, damaged_storage_is_corrupt_and_stays_so) {
  start(100);
  area_on(0);
  plan().arm(Failure::write_lost, 1);
  const SlotId lost = stored(1);
  const SlotId flipped = stored(2);
  bed_->sim.block(0).flip_bit(flipped.offset(), 12345);
  const SlotId good = stored(3);
  for (Pfn pfn : read({lost, flipped, good})) drop(pfn);
  EXPECT_EQ(status_.at(lost.v).error(), Error::corrupt);
  EXPECT_EQ(status_.at(flipped.v).error(), Error::corrupt);
  EXPECT_TRUE(status_.at(good.v).ok());
  const Pfn pfn = bed_->take();
  EXPECT_EQ(swap_->load(lost, pfn), LoadOutcome::corrupt);
  swap_->put(lost);
  EXPECT_EQ(swap_->find_slot(lost), nullptr);
}

// What another slot, or the same one earlier, held is not taken for the page.
TEST_F(PlainTest, stale_and_misplaced_pages_are_corrupt) {
  start(100);
  area_on(0);
  const SlotId a = stored(1);
  const SlotId b = stored(1);
  u8 of_b[kPageSize];
  std::memcpy(of_b, bed_->sim.block(0).stored(b.offset()), kPageSize);
  const Pfn pfn = read({a})[0];
  make_page(bed_->bytes(pfn), 9, Bytes::random);
  bed_->frames[pfn].set(PageFlag::dirty);
  ASSERT_TRUE(swap_->write(pfn).ok());
  finish_io();
  drop(pfn);
  bed_->sim.block(0).store(a.offset(), of_b);
  drop(read({a})[0]);
  EXPECT_EQ(status_.at(a.v).error(), Error::corrupt);
}

TEST_F(PlainTest, row_41_a_read_error_takes_no_neighbour_with_it) {
  start(100);
  area_on(0);
  std::vector<SlotId> slots;
  for (u64 i = 0; i < 8; ++i) slots.push_back(stored(i));
  plan().fail_block(IoOp::read, slots[3].offset());
  const std::vector<Pfn> pfns = read(slots);
  for (u64 i = 0; i < 8; ++i) {
    EXPECT_EQ(status_.at(slots[i].v).ok(), i != 3) << i;
    if (i != 3) {
      EXPECT_TRUE(is_page(bed_->bytes(pfns[i]), i, Bytes::random));
    }
    drop(pfns[i]);
  }
  EXPECT_EQ(status_.at(slots[3].v).error(), Error::io);
  EXPECT_FALSE(swap_->io_in_flight());
  // The fault that waits for the page gets its error once; a later access tries again.
  swap_->note_io_error(slots[3]);
  const Pfn pfn = bed_->take();
  EXPECT_EQ(swap_->load(slots[3], pfn), LoadOutcome::io);
  swap_->clear_error(slots[3]);
  plan().clear_blocks();
  EXPECT_EQ(swap_->load(slots[3], pfn), LoadOutcome::on_disk);
  EXPECT_TRUE(is_page(bed_->bytes(read({slots[3]})[0]), 3, Bytes::random));
}

TEST_F(PlainTest, consecutive_slots_share_a_request) {
  start(100);
  area_on(0, 5);
  area_on(1, 5);
  std::vector<SlotId> first;
  std::vector<SlotId> all;
  for (u64 i = 0; i < 60; ++i) {
    all.push_back(stored(i));
    if (all.back().area() == 1) first.push_back(all.back());
  }
  ASSERT_EQ(first.size(), 30U);
  u64 reads = count(Counter::disk_reads);
  for (Pfn pfn : read(first)) drop(pfn);
  EXPECT_EQ(count(Counter::disk_reads), reads + 2) << "16 pages are the most of a request";
  reads = count(Counter::disk_reads);
  std::vector<SlotId> mixed(all.begin(), all.begin() + 32);
  const std::vector<Pfn> pfns = read(mixed);
  EXPECT_EQ(count(Counter::disk_reads), reads + 32) << "the areas took turns";
  for (u64 i = 0; i < 32; ++i) EXPECT_TRUE(is_page(bed_->bytes(pfns[i]), i, Bytes::random));
}

TEST_F(PlainTest, requests_have_their_limits) {
  start(400);
  area_on(0);
  std::vector<Pfn> pfns;
  for (u32 i = 0; i < PlainIo::kWritesMax + 1; ++i) {
    pfns.push_back(page(i));
    swap_->get(slot_of(pfns.back()));
  }
  for (u32 i = 0; i < PlainIo::kWritesMax; ++i) ASSERT_TRUE(swap_->write(pfns[i]).ok());
  EXPECT_EQ(swap_->write(pfns.back()).error(), Error::wait);
  EXPECT_TRUE(is(pfns.back(), PageFlag::dirty));
  EXPECT_FALSE(is(pfns.back(), PageFlag::writeback));
  ASSERT_TRUE(bed_->sim.complete_one());
  EXPECT_TRUE(swap_->write(pfns.back()).ok());
  finish_io();
  std::vector<SlotId> slots;
  for (Pfn pfn : pfns) {
    slots.push_back(slot_of(pfn));
    drop(pfn);
  }
  u32 started = 0;
  for (; started < PlainIo::kReadsMax; ++started) {
    const ReadTarget target{slots[started], frame_for_read()};
    ASSERT_TRUE(swap_->read(&target, 1).ok());
  }
  const ReadTarget more{slots[started], frame_for_read()};
  EXPECT_EQ(swap_->read(&more, 1).error(), Error::busy);
  EXPECT_EQ(swap_->cached(more.slot), kNoPfn);
  EXPECT_EQ(swap_->refs(more.slot), 1U);
  finish_io();
  EXPECT_TRUE(swap_->read(&more, 1).ok());
  finish_io();
}

TEST_F(PlainTest, the_window_is_aligned_and_stops_at_holes) {
  start(100);
  const u32 bad[] = {43};
  area_on(0, 0, {.bad_pages = bad, .bad_count = 1});
  std::vector<SlotId> slots;
  for (u64 i = 0; i < 98; ++i) slots.push_back(stored(i));
  ASSERT_EQ(slots.back(), SlotId(1, 99));
  SlotId out[32];
  const auto window = [&](u32 offset, u32 cluster) {
    const u32 n = swap_->readahead_window(SlotId(1, offset), cluster, out);
    for (u32 i = 1; i < n; ++i) EXPECT_EQ(out[i].v, out[0].v + i);
    return std::pair(n == 0 ? 0 : out[0].offset(), n);
  };
  EXPECT_EQ(window(21, 3), std::pair(16U, 8U));
  EXPECT_EQ(window(21, 0), std::pair(21U, 1U));
  EXPECT_EQ(window(33, 5), std::pair(32U, 11U)) << "up to the bad slot";
  EXPECT_EQ(window(2, 3), std::pair(1U, 7U)) << "after the header";
  EXPECT_EQ(window(97, 4), std::pair(96U, 4U)) << "up to the end";
  swap_->put(SlotId(1, 18));
  EXPECT_EQ(window(21, 3), std::pair(16U, 2U)) << "the hole lies before the slot";
  swap_->put(SlotId(1, 16));
  EXPECT_EQ(window(21, 3).second, 0U);
}

TEST_F(PlainTest, nobody_wants_a_page_that_is_written) {
  start(100);
  area_on(0);
  const Pfn pfn = page(1);
  const SlotId slot = slot_of(pfn);
  swap_->get(slot);
  ASSERT_TRUE(swap_->write(pfn).ok());
  swap_->put(slot);
  bed_->frames[pfn].set(PageFlag::free_after_io);
  EXPECT_EQ(swap_->areas().used(), 1U) << "the slot is being written";
  finish_io();
  ASSERT_EQ(watcher_->written.size(), 1U);
  EXPECT_FALSE(swap_->shared(pfn));
  bed_->frames[pfn].clear(PageFlag::free_after_io);
  drop(pfn);
  EXPECT_EQ(bed_->frames[pfn].flags, 0U);
  EXPECT_EQ(swap_->areas().used(), 0U);
}

TEST_F(PlainTest, row_44_a_count_that_stuck_is_reset_when_the_area_is_switched_off) {
  start(100);
  area_on(0);
  const SlotId slot = stored(1);
  for (u32 i = 0; i < 2 * SlotWord::kRefsMax; ++i) swap_->get(slot);
  for (u32 i = 0; i < 3 * SlotWord::kRefsMax; ++i) swap_->put(slot);
  EXPECT_EQ(swap_->refs(slot), SlotWord::kRefsMax);
  const Pfn pfn = read({slot})[0];
  ASSERT_TRUE(swap_->areas().begin_off(1).ok());
  EXPECT_EQ(swap_->areas().next_used(SlotId(1, 0)), slot);
  EXPECT_EQ(swap_->areas().finish_off(1).error(), Error::busy);
  // The last entry is known to be gone: what is left is the cache's reference.
  swap_->reset_refs(slot, 1);
  drop(pfn);
  EXPECT_TRUE(swap_->areas().finish_off(1).ok());
  EXPECT_FALSE(swap_->has_plain());
}

TEST_F(PlainTest, tiers_and_plain_areas_beside_each_other) {
  start(100);
  EXPECT_FALSE(swap_->has_plain());
  EXPECT_FALSE(swap_->has_tiers());
  const Pfn zero = bed_->take();
  std::memset(bed_->bytes(zero), 0, kPageSize);
  EXPECT_EQ(swap_->add_to_swap(zero).error(), Error::no_space);
  area_on(0);
  EXPECT_TRUE(swap_->has_plain());
  EXPECT_EQ(swap_->store(zero).error(), Error::no_space) << "there is no tier";
  start(100, 1024, 64);
  area_on(1);
  EXPECT_TRUE(swap_->has_tiers());
  const SlotId plain = stored(1);
  const Pfn pfn = bed_->take();
  make_page(bed_->bytes(pfn), 2, Bytes::text);
  const SlotId tiered = swap_->store(pfn).value();
  EXPECT_EQ(plain.area(), 2U);
  EXPECT_EQ(tiered.area(), 0U);
  EXPECT_EQ(swap_->slots_used(), 2U);
  u32 seen = 0;
  swap_->for_each_slot([&](SlotId id, const Slot&) { seen += id == plain || id == tiered; });
  EXPECT_EQ(seen, 2U);
  swap_->set_shadow(plain, 77);
  swap_->set_shadow(tiered, 78);
  EXPECT_EQ(swap_->shadow(plain), 77U);
  EXPECT_EQ(swap_->shadow(tiered), 78U);
  swap_->put(tiered);
  EXPECT_TRUE(is_page(bed_->bytes(read({plain})[0]), 1, Bytes::random));
  EXPECT_TRUE(swap_->validate());
}

TEST_F(PlainTest, nothing_is_submitted_while_quiesced) {
  start(100);
  area_on(0);
  const SlotId slot = stored(1);
  const Pfn pfn = page(2);
  const Pfn other = page(3);
  ASSERT_TRUE(swap_->write(other).ok());
  swap_->set_quiesced(true);
  EXPECT_TRUE(swap_->io_in_flight());
  EXPECT_EQ(swap_->write(pfn).error(), Error::wait);
  const ReadTarget target{slot, frame_for_read()};
  EXPECT_EQ(swap_->read(&target, 1).error(), Error::wait);
  finish_io();
  EXPECT_FALSE(swap_->io_in_flight());
  swap_->set_quiesced(false);
  EXPECT_TRUE(swap_->write(pfn).ok());
  EXPECT_TRUE(swap_->read(&target, 1).ok());
  finish_io();
}

TEST_F(PlainTest, full_areas) {
  start(40);
  area_on(0, 2);
  area_on(1, 1);
  std::vector<Pfn> pfns;
  for (u32 i = 0; i < 78; ++i) {
    pfns.push_back(page(i));
    EXPECT_EQ(slot_of(pfns.back()).area(), i < 39 ? 1U : 2U);
  }
  const Pfn pfn = bed_->take();
  EXPECT_EQ(swap_->add_to_swap(pfn).error(), Error::no_space);
  EXPECT_FALSE(is(pfn, PageFlag::dirty));
  EXPECT_EQ(swap_->areas().free_pages().v, 0U);
  drop(pfns[5]);
  EXPECT_FALSE(is(pfns[5], PageFlag::dirty)) << "there is nothing any more that it differs from";
  EXPECT_EQ(swap_->areas().free_pages().v, 1U);
  EXPECT_EQ(swap_->add_to_swap(pfn).value().area(), 1U);
}

TEST_F(PlainTest, validate_sees_damage) {
  start(100);
  area_on(0);
  const SlotId slot = stored(1);
  const Pfn pfn = page(2);
  ASSERT_TRUE(swap_->validate());
  Slot& first = *swap_->areas().find(slot);
  const SlotWord word = first.word;
  first.word = word.with_refs(0);
  EXPECT_FALSE(swap_->validate());
  first.word = SlotWord::empty();
  EXPECT_FALSE(swap_->validate()) << "neither written nor in the cache";
  first.word = word;
  Slot& second = *swap_->areas().find(slot_of(pfn));
  second.cache_pfn = bed_->take().v;
  EXPECT_FALSE(swap_->validate()) << "I17";
  second.cache_pfn = pfn.v;
  EXPECT_TRUE(swap_->validate());
}

using PlainDeathTest = PlainTest;

TEST_F(PlainDeathTest, nothing_dirty_is_dropped) {
  start(100, 1024, 64);
  area_on(0);
  const Pfn pfn = page(1);
  const SlotId slot = slot_of(pfn);
  swap_->get(slot);
  EXPECT_DEATH(swap_->delete_from_cache(pfn), "") << "another reference will look for it";
  EXPECT_DEATH((void)swap_->store(pfn), "") << "a plain slot";
  ASSERT_TRUE(swap_->write(pfn).ok());
  EXPECT_DEATH(swap_->delete_from_cache(pfn), "") << "being written";
  EXPECT_DEATH((void)swap_->write(pfn), "") << "twice";
  finish_io();
  EXPECT_DEATH((void)swap_->write(pfn), "") << "clean";
  swap_->put(slot);
  drop(pfn);
  const Pfn never = page(2);
  const ReadTarget target{slot_of(never), frame_for_read()};
  EXPECT_DEATH((void)swap_->read(&target, 1), "") << "never written";
}

// Random use with failing transfers against a model: pages by slot, what they are and where.
struct Model {
  struct Entry {
    u64 id = 0;
    Pfn pfn;       // resident
    u32 refs = 0;  // beside the cache's
  };
  std::map<u32, Entry> slots;
};

class PlainModelTest : public PlainTest {
 protected:
  using Iterator = std::map<u32, Model::Entry>::iterator;

  Iterator any() {
    const auto it =
        model_.slots.lower_bound(static_cast<u32>(prng_.between(SlotId(1, 0).v, SlotId(1, 600).v)));
    return it == model_.slots.end() ? model_.slots.begin() : it;
  }
  void forget_if_dead(Iterator it) {
    if (it->second.refs == 0 && !it->second.pfn.valid()) model_.slots.erase(it);
  }
  void add() {
    if (bed_->allocator.free_pages().v < 100) return;
    const Pfn pfn = bed_->take();
    make_page(bed_->bytes(pfn), ++ids_, Bytes::text);
    const Result<SlotId> slot = swap_->add_to_swap(pfn);
    if (!slot.ok()) {
      ASSERT_EQ(swap_->areas().free_pages().v, 0U);
      bed_->allocator.free(pfn, 0);
      return;
    }
    ASSERT_FALSE(model_.slots.contains(slot.value().v));
    model_.slots[slot.value().v] = {ids_, pfn, 0};
  }
  void evict(Iterator it) {
    const Pfn pfn = it->second.pfn;
    if (!pfn.valid() || is(pfn, PageFlag::writeback)) return;
    if (is(pfn, PageFlag::dirty) && it->second.refs > 0) {
      (void)swap_->write(pfn);
      return;
    }
    drop(pfn);
    it->second.pfn = kNoPfn;
    forget_if_dead(it);
  }
  void fetch(Iterator it) {
    if (it->second.pfn.valid() || bed_->allocator.free_pages().v < 100) return;
    SlotId window[32];
    const u32 n = swap_->readahead_window(SlotId(it->first), 3, window);
    std::vector<ReadTarget> targets;
    for (u32 i = 0; i < n; ++i) {
      if (!swap_->cached(window[i]).valid()) targets.push_back({window[i], frame_for_read()});
    }
    if (targets.empty() || !swap_->read(targets.data(), static_cast<u32>(targets.size())).ok()) {
      for (const ReadTarget& t : targets) give_back(t.pfn);
      return;
    }
    for (const ReadTarget& t : targets) model_.slots.at(t.slot.v).pfn = t.pfn;
  }
  void give_back(Pfn pfn) {
    bed_->frames.transition(pfn, PageState::reading, PageState::isolated);
    bed_->allocator.free(pfn, 0);
  }
  void page_read(Pfn pfn, SlotId slot, Status status) override {
    const auto it = model_.slots.find(slot.v);
    ASSERT_NE(it, model_.slots.end());
    ASSERT_EQ(it->second.pfn, pfn);
    if (status.ok()) {
      ASSERT_TRUE(is_page(bed_->bytes(pfn), it->second.id, Bytes::text)) << "I21";
      bed_->frames.transition(pfn, PageState::reading, PageState::isolated);
      return;
    }
    ASSERT_EQ(status.error(), Error::io);
    swap_->delete_from_cache(pfn);
    give_back(pfn);
    it->second.pfn = kNoPfn;
    forget_if_dead(it);
  }
  void change(Iterator it) {
    const Pfn pfn = it->second.pfn;
    if (!pfn.valid() || it->second.refs > 0) return;
    if (bed_->frames[pfn].state == PageState::reading || is(pfn, PageFlag::writeback)) return;
    it->second.id = ++ids_;
    make_page(bed_->bytes(pfn), ids_, Bytes::text);
    bed_->frames[pfn].set(PageFlag::dirty);
  }
  void step() {
    switch (prng_.below(8)) {
      case 0:
      case 1: add(); return;
      case 7: (void)bed_->sim.complete_one(); return;
      default: break;
    }
    if (model_.slots.empty()) return;
    const Iterator it = any();
    const SlotId slot(it->first);
    switch (prng_.below(6)) {
      case 0:
        swap_->get(slot);
        ++it->second.refs;
        break;
      case 1:
        if (it->second.refs == 0) break;
        swap_->put(slot);
        --it->second.refs;
        forget_if_dead(it);
        break;
      case 2:
      case 3:
        if (bed_->frames[it->second.pfn.valid() ? it->second.pfn : Pfn(0)].state !=
            PageState::reading) {
          evict(it);
        }
        break;
      case 4: fetch(it); break;
      default: change(it); break;
    }
  }
  void agree() {
    ASSERT_TRUE(swap_->validate());
    u64 cached = 0;
    for (const auto& [v, entry] : model_.slots) {
      const SlotId slot(v);
      ASSERT_EQ(swap_->cached(slot), entry.pfn);
      ASSERT_EQ(swap_->refs(slot), entry.refs + (entry.pfn.valid() ? 1 : 0));
      cached += entry.pfn.valid() ? 1 : 0;
    }
    ASSERT_EQ(swap_->areas().used(), model_.slots.size());
    ASSERT_EQ(swap_->cached_pages().v, cached);
    ASSERT_EQ(swap_->areas().free_pages().v + model_.slots.size(), swap_->areas().total_pages().v);
  }

  Model model_;
  Prng prng_{0};
  u64 ids_ = 0;
};

TEST_F(PlainModelTest, random_use_agrees_with_a_model) {
  for (u64 seed = 1; seed <= 8; ++seed) {
    start(300, 600);
    area_on(0, 1);
    area_on(1, seed % 2 == 0 ? 1 : 2);
    model_.slots.clear();
    prng_ = Prng(seed);
    for (u32 i = 0; i < 8000; ++i) {
      if (prng_.one_in(100)) {
        const Failure kinds[] = {Failure::read_io, Failure::write_io, Failure::write_torn};
        plan(static_cast<u32>(prng_.below(2))).arm(kinds[prng_.below(3)], 1 + prng_.below(5));
      }
      ASSERT_NO_FATAL_FAILURE(step()) << "seed " << seed << " step " << i;
      if (i % 500 == 0) {
        ASSERT_NO_FATAL_FAILURE(agree()) << "seed " << seed << " step " << i;
      }
    }
    bed_->sim.disarm_all();
    finish_io();
    ASSERT_NO_FATAL_FAILURE(agree());
    // I20: everything goes, and nothing is left.
    while (!model_.slots.empty()) {
      const auto it = model_.slots.begin();
      while (it->second.refs > 0) {
        swap_->put(SlotId(it->first));
        --it->second.refs;
      }
      if (it->second.pfn.valid()) drop(it->second.pfn);
      model_.slots.erase(it);
    }
    for (u32 area : {1U, 2U}) {
      ASSERT_TRUE(swap_->areas().begin_off(area).ok());
      ASSERT_TRUE(swap_->areas().finish_off(area).ok());
    }
    ASSERT_EQ(swap_->meta_frames(), 0U);
    ASSERT_TRUE(bed_->sum_holds());
  }
}

}  // namespace
}  // namespace spillway
