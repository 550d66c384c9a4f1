// Swap as a whole on the simulated disk: pages go out and come back through every tier, storage
// that lies is found out, and failing I/O loses nothing.
#include "swap/swap.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <vector>

#include "swap/swap_bed_test.h"

namespace spillway {
namespace {

class SwapTest : public ::testing::Test, protected SwapInSink {
 protected:
  void start(u64 pool, u64 disk_pages, u64 frame_count = 2048) {
    model_.clear();
    status_.clear();
    bed_ = std::make_unique<SwapBed>(frame_count, disk_pages);
    swap_ = std::make_unique<Swap>();
    ASSERT_TRUE(swap_
                    ->init(bed_->machine(), bed_->allocator, bed_->frames, bed_->observer,
                           PageCount(pool), 1 << 16)
                    .ok());
    swap_->set_swap_in_sink(*this);
    bed_->reclaimer.outcome = ReclaimOutcome::exhausted;
  }
  struct Want {
    u64 id;
    Bytes kind;
  };
  // Stores a page and frees its frame, as reclaim does.
  Result<SlotId> store(u64 id, Bytes kind) {
    const Pfn pfn = bed_->take();
    make_page(bed_->bytes(pfn), id, kind);
    Result<SlotId> slot = swap_->store(pfn);
    for (u32 i = 0; !slot.ok() && slot.error() == Error::wait && i < 1000; ++i) {
      if (!bed_->sim.complete_one()) break;
      EXPECT_TRUE(is_page(bed_->bytes(pfn), id, kind)) << "a failed store changed the page";
      slot = swap_->store(pfn);
    }
    bed_->allocator.free(pfn, 0);
    if (slot.ok()) model_[slot.value().v] = {id, kind};
    return slot;
  }
  void put(SlotId slot) {
    swap_->put(slot);
    model_.erase(slot.v);
  }
  void finish_io() {
    while (bed_->sim.complete_one()) {
    }
  }
  // Brings everything that can go to disk there.
  void spill() {
    for (u32 i = 0; i < 1000; ++i) {
      while (swap_->background_step()) {
      }
      if (!bed_->sim.complete_one()) break;
    }
  }
  // Reads the page, from disk if need be; the slot keeps its reference.
  Status fetch(SlotId slot, bool* good) {
    const Pfn pfn = bed_->take();
    LoadOutcome outcome = swap_->load(slot, pfn);
    Status status = kOk;
    if (outcome == LoadOutcome::on_disk) {
      bed_->frames.transition(pfn, PageState::isolated, PageState::reading);
      const ReadTarget target{slot, pfn};
      status = swap_->read(&target, 1);
      EXPECT_TRUE(status.ok());
      EXPECT_EQ(swap_->load(slot, pfn), LoadOutcome::reading);
      finish_io();
      status = status_.at(slot.v);
      EXPECT_TRUE(swap_->shared(pfn));
      swap_->delete_from_cache(pfn);
      if (bed_->frames[pfn].state == PageState::reading) {
        bed_->frames.transition(pfn, PageState::reading, PageState::isolated);
      }
    } else if (outcome != LoadOutcome::done) {
      status = outcome == LoadOutcome::io ? Error::io : Error::corrupt;
    }
    const Want want = model_.at(slot.v);
    *good = status.ok() && is_page(bed_->bytes(pfn), want.id, want.kind);
    bed_->allocator.free(pfn, 0);
    return status;
  }
  void expect_page(SlotId slot) {
    bool good = false;
    ASSERT_TRUE(fetch(slot, &good).ok()) << slot.v;
    ASSERT_TRUE(good) << slot.v;
  }
  void expect_all() {
    for (const auto& [v, want] : model_) {
      ASSERT_NO_FATAL_FAILURE(expect_page(SlotId(v)));
    }
  }
  void page_read(Pfn pfn, SlotId slot, Status status) override {
    EXPECT_EQ(bed_->frames[pfn].state, PageState::reading);
    status_.insert_or_assign(slot.v, status);
  }
  void expect_empty() {
    finish_io();
    while (!model_.empty()) put(SlotId(model_.begin()->first));
    finish_io();
    EXPECT_EQ(swap_->slots().used(), 0U);
    EXPECT_EQ(swap_->pool().live_bytes(), 0U);
    EXPECT_EQ(swap_->disk().segments_used(), 0U);
    EXPECT_TRUE(swap_->validate());
    EXPECT_TRUE(bed_->sum_holds());
  }
  u64 count(Counter c) const { return bed_->count(c); }

  std::unique_ptr<SwapBed> bed_;
  std::unique_ptr<Swap> swap_;
  std::map<u32, Want> model_;
  std::map<u32, Status> status_;
};

TEST_F(SwapTest, every_kind_of_page_comes_back_from_the_pool) {
  start(512, 0);
  for (u64 i = 1; i <= 200; ++i) ASSERT_TRUE(store(i, kAllBytes[i % 5]).ok());
  expect_all();
  EXPECT_EQ(count(Counter::pswpout), 200U);
  EXPECT_EQ(count(Counter::swap_same_filled), 80U);
  EXPECT_EQ(count(Counter::swap_incompressible), 80U);
  EXPECT_TRUE(swap_->validate());
  expect_empty();
}

TEST_F(SwapTest, every_kind_of_page_comes_back_from_disk) {
  start(64, 4096);
  for (u64 i = 1; i <= 1500; ++i) ASSERT_TRUE(store(i, kAllBytes[i % 5]).ok()) << i;
  spill();
  EXPECT_TRUE(swap_->validate());
  u32 on_disk = 0;
  for (const auto& [v, want] : model_) on_disk += swap_->on_disk(SlotId(v)) ? 1 : 0;
  EXPECT_GT(on_disk, 500U);
  expect_all();
  EXPECT_LE(swap_->pool().frames_used().v, 64U + kSegmentFrames);
  expect_empty();
}

TEST_F(SwapTest, row_36_an_unchanged_page_is_not_written_again) {
  start(64, 4096);
  for (u64 i = 1; i <= 200; ++i) ASSERT_TRUE(store(i, Bytes::random).ok());
  spill();
  const SlotId slot(model_.begin()->first);
  ASSERT_TRUE(swap_->on_disk(slot));
  const Want want = model_.begin()->second;
  const Pfn pfn = bed_->take();
  make_page(bed_->bytes(pfn), want.id, want.kind);
  swap_->add_to_cache(pfn, slot);
  EXPECT_EQ(swap_->cached(slot), pfn);
  const u64 out = count(Counter::pswpout);
  EXPECT_EQ(swap_->store(pfn).value(), slot);
  EXPECT_EQ(count(Counter::swap_clean), 1U);
  EXPECT_EQ(count(Counter::pswpout), out);
  EXPECT_TRUE(swap_->on_disk(slot));
  EXPECT_EQ(bed_->frames[pfn].slot, kNoSlot);
  EXPECT_EQ(swap_->cached(slot), kNoPfn);
  EXPECT_EQ(swap_->refs(slot), 1U);
  // One byte differs: stored anew, under the same number.
  make_page(bed_->bytes(pfn), want.id, want.kind);
  bed_->bytes(pfn)[4095] ^= 1;
  swap_->add_to_cache(pfn, slot);
  EXPECT_EQ(swap_->store(pfn).value(), slot);
  EXPECT_EQ(swap_->cached(slot), kNoPfn);
  EXPECT_EQ(count(Counter::pswpout), out + 1);
  EXPECT_FALSE(swap_->on_disk(slot));
  EXPECT_TRUE(swap_->validate());
  u8 page[kPageSize];
  std::memcpy(page, bed_->bytes(pfn), kPageSize);
  ASSERT_EQ(swap_->load(slot, pfn), LoadOutcome::done);
  EXPECT_EQ(std::memcmp(page, bed_->bytes(pfn), kPageSize), 0);
  bed_->allocator.free(pfn, 0);
}

TEST_F(SwapTest, row_44_references_stick_at_their_maximum) {
  start(64, 0);
  const SlotId slot = store(1, Bytes::text).value();
  const SlotId twice = store(2, Bytes::text).value();
  swap_->get(twice);
  swap_->put(twice);
  EXPECT_EQ(swap_->refs(twice), 1U);
  for (u32 i = 0; i < 2 * SlotWord::kRefsMax; ++i) swap_->get(slot);
  for (u32 i = 0; i < 3 * SlotWord::kRefsMax; ++i) swap_->put(slot);
  EXPECT_EQ(swap_->refs(slot), SlotWord::kRefsMax);
  expect_page(slot);
  put(twice);
  EXPECT_EQ(swap_->slots().used(), 1U);
}

TEST_F(SwapTest, damaged_storage_is_corrupt_and_stays_so) {
  start(64, 4096);
  for (u64 i = 1; i <= 200; ++i) ASSERT_TRUE(store(i, Bytes::random).ok());
  spill();
  const SlotId slot(model_.begin()->first);
  ASSERT_TRUE(swap_->on_disk(slot));
  const u64 block = u64{swap_->disk_segment(slot)} * kSegmentFrames;
  for (u64 i = 0; i < kSegmentFrames; ++i) bed_->sim.disk().flip_bit(block + i, 9999);
  bool good = true;
  EXPECT_EQ(fetch(slot, &good).error(), Error::corrupt);
  EXPECT_EQ(fetch(slot, &good).error(), Error::corrupt);
  put(slot);
  EXPECT_TRUE(swap_->validate());
}

// Every single bit of a stored object matters: the header, the bytes, the gap does not.
TEST_F(SwapTest, no_bit_of_a_stored_page_changes_unnoticed) {
  start(64, 4096);
  for (u64 i = 1; i <= 40; ++i) ASSERT_TRUE(store(i, Bytes::text).ok());
  u32 checked = 0;
  const SlotId slot(model_.begin()->first);
  const Want want = model_.begin()->second;
  const Pfn pfn = bed_->take();
  // The pool is in frames that we can reach: find the object by its header.
  for (u32 f = 0; f < bed_->frames.count().v && checked == 0; ++f) {
    if (bed_->frames[Pfn(f)].owner != PageOwner::pool) continue;
    u8* bytes = bed_->bytes(Pfn(f));
    ObjectHeader header;
    std::memcpy(&header, bytes, sizeof header);
    if (header.slot != slot.v) continue;
    for (u32 bit = 0; bit < (sizeof header + header.stored) * 8; ++bit) {
      bytes[bit / 8] ^= static_cast<u8>(1U << (bit % 8));
      const LoadOutcome outcome = swap_->load(slot, pfn);
      // LZ4 may have two ways to say one thing; a wrong page is what must not happen.
      ASSERT_TRUE(outcome == LoadOutcome::corrupt ||
                  (outcome == LoadOutcome::done && is_page(bed_->bytes(pfn), want.id, want.kind)))
          << bit;
      bytes[bit / 8] ^= static_cast<u8>(1U << (bit % 8));
      ++checked;
    }
  }
  EXPECT_GT(checked, 100U);
  EXPECT_EQ(swap_->load(slot, pfn), LoadOutcome::done);
}

TEST_F(SwapTest, a_slot_given_up_while_it_is_read_ends_with_the_read) {
  start(64, 4096);
  for (u64 i = 1; i <= 200; ++i) ASSERT_TRUE(store(i, Bytes::random).ok());
  spill();
  const SlotId slot(model_.begin()->first);
  const Pfn pfn = bed_->take();
  bed_->frames.transition(pfn, PageState::isolated, PageState::reading);
  const ReadTarget target{slot, pfn};
  ASSERT_TRUE(swap_->read(&target, 1).ok());
  EXPECT_TRUE(swap_->reading(slot));
  const u64 used = swap_->slots().used();
  put(slot);
  EXPECT_EQ(swap_->slots().used(), used);
  EXPECT_FALSE(swap_->shared(pfn));
  finish_io();
  EXPECT_TRUE(status_.at(slot.v).ok());
  EXPECT_EQ(swap_->slots().used(), used) << "the swap cache refers to it";
  swap_->delete_from_cache(pfn);
  EXPECT_EQ(swap_->slots().used(), used - 1);
  EXPECT_TRUE(swap_->validate());
}

TEST_F(SwapTest, several_pages_of_a_segment_take_one_read) {
  start(64, 4096);
  for (u64 i = 1; i <= 200; ++i) ASSERT_TRUE(store(i, Bytes::random).ok());
  spill();
  std::vector<ReadTarget> targets;
  const u32 segment = swap_->disk_segment(SlotId(model_.begin()->first));
  for (const auto& [v, want] : model_) {
    if (!swap_->on_disk(SlotId(v)) || swap_->disk_segment(SlotId(v)) != segment) continue;
    const Pfn pfn = bed_->take();
    bed_->frames.transition(pfn, PageState::isolated, PageState::reading);
    targets.push_back({SlotId(v), pfn});
  }
  ASSERT_GT(targets.size(), 10U);
  const u64 reads = count(Counter::disk_reads);
  ASSERT_TRUE(swap_->read(targets.data(), static_cast<u32>(targets.size())).ok());
  finish_io();
  EXPECT_EQ(count(Counter::disk_reads), reads + 1);
  for (const ReadTarget& t : targets) {
    EXPECT_TRUE(status_.at(t.slot.v).ok());
    const Want want = model_.at(t.slot.v);
    EXPECT_TRUE(is_page(bed_->bytes(t.pfn), want.id, want.kind));
  }
}

TEST_F(SwapTest, no_room_for_a_read_is_an_error_that_changes_nothing) {
  start(64, 4096, 512);
  for (u64 i = 1; i <= 200; ++i) ASSERT_TRUE(store(i, Bytes::random).ok());
  spill();
  const SlotId slot(model_.begin()->first);
  const Pfn pfn = bed_->take();
  bed_->frames.transition(pfn, PageState::isolated, PageState::reading);
  std::vector<Pfn> taken;
  for (Result<Pfn> p = bed_->allocator.alloc(0, kAllocReclaim); p.ok();
       p = bed_->allocator.alloc(0, kAllocReclaim)) {
    taken.push_back(p.value());
  }
  const ReadTarget target{slot, pfn};
  EXPECT_EQ(swap_->read(&target, 1).error(), Error::no_memory);
  EXPECT_FALSE(swap_->reading(slot));
  EXPECT_EQ(swap_->disk().reads_in_flight(), 0U);
  for (Pfn p : taken) bed_->allocator.free(p, 0);
  ASSERT_TRUE(swap_->read(&target, 1).ok());
  finish_io();
  EXPECT_TRUE(status_.at(slot.v).ok());
}

TEST_F(SwapTest, without_a_disk_a_full_pool_says_so_and_loses_nothing) {
  start(64, 0);
  Result<SlotId> slot = kNoSlot;
  for (u64 i = 1; i <= 200 && slot.ok(); ++i) slot = store(i, Bytes::random);
  EXPECT_EQ(slot.error(), Error::no_space);
  EXPECT_EQ(swap_->make_space(), ReclaimOutcome::exhausted);
  expect_all();
  put(SlotId(model_.begin()->first));
  put(SlotId(model_.begin()->first));
  expect_all();
  expect_empty();
}

TEST_F(SwapTest, a_failed_write_keeps_the_pages_in_ram) {
  for (Failure failure :
       {Failure::write_io, Failure::write_torn, Failure::write_no_space, Failure::claim_segment}) {
    start(256, 4096);
    bed_->sim.failures().arm(failure, 2, 3);
    for (u64 i = 1; i <= 200; ++i) ASSERT_TRUE(store(i, Bytes::random).ok());
    spill();
    EXPECT_EQ(bed_->sim.failures().fired(failure) > 0, true) << name_of(failure);
    ASSERT_TRUE(swap_->validate());
    ASSERT_NO_FATAL_FAILURE(expect_all()) << name_of(failure);
    expect_empty();
  }
}

TEST_F(SwapTest, a_dying_disk_is_given_up) {
  start(64, 4096);
  bed_->sim.failures().arm(Failure::write_io, 1, 1'000'000);
  Result<SlotId> slot = kNoSlot;
  for (u64 i = 1; i <= 500 && slot.ok(); ++i) slot = store(i, Bytes::random);
  EXPECT_EQ(slot.error(), Error::no_space);
  EXPECT_LE(bed_->sim.failures().fired(Failure::write_io), 2 * Swap::kWriteErrorsMax);
  EXPECT_FALSE(swap_->io_in_flight());
  expect_all();
  expect_empty();
}

TEST_F(SwapTest, a_full_disk_is_cleaned) {
  start(64, 1024);
  std::vector<SlotId> slots;
  Result<SlotId> slot = kNoSlot;
  for (u64 i = 1; i <= 5000; ++i) {
    slot = store(i, Bytes::random);
    if (!slot.ok()) break;
    slots.push_back(slot.value());
  }
  ASSERT_EQ(slot.error(), Error::no_space);
  ASSERT_GT(slots.size(), 900U);
  expect_all();
  // Two thirds die, spread over all segments: none becomes free by itself.
  for (u64 i = 0; i < slots.size(); ++i) {
    if (i % 3 != 0) put(slots[i]);
  }
  for (u64 i = 0; i < 400; ++i) ASSERT_TRUE(store(10'000 + i, Bytes::random).ok()) << i;
  EXPECT_GT(count(Counter::disk_cleaned), 0U);
  ASSERT_TRUE(swap_->validate());
  expect_all();
  expect_empty();
}

// A segment that is being cleaned dies meanwhile: it must not be written before the read ended.
TEST_F(SwapTest, a_segment_that_dies_while_it_is_cleaned_is_not_reused_too_early) {
  start(64, 1024);
  std::vector<SlotId> slots;
  for (u64 i = 1; i <= 5000; ++i) {
    const Result<SlotId> slot = store(i, Bytes::random);
    if (!slot.ok()) break;
    slots.push_back(slot.value());
  }
  finish_io();
  for (u64 i = 0; i < slots.size(); ++i) {
    if (i % 3 != 0) put(slots[i]);
  }
  // Until a cleaning read is in flight.
  u64 id = 10'000;
  std::vector<SlotId> more;
  while (!swap_->disk().cleaning()) {
    const Pfn pfn = bed_->take();
    make_page(bed_->bytes(pfn), id, Bytes::random);
    const Result<SlotId> slot = swap_->store(pfn);
    if (slot.ok()) {
      model_[slot.value().v] = {id++, Bytes::random};
    } else if (!swap_->disk().cleaning()) {
      ASSERT_TRUE(bed_->sim.complete_one());
    }
    bed_->allocator.free(pfn, 0);
  }
  // Everything old dies while the read is in flight, and more is written.
  for (u64 i = 0; i < slots.size(); i += 3) put(slots[i]);
  for (u64 i = 0; i < 600; ++i) {
    const Pfn pfn = bed_->take();
    make_page(bed_->bytes(pfn), id, Bytes::random);
    Result<SlotId> slot = swap_->store(pfn);
    while (!slot.ok() && slot.error() == Error::wait && bed_->sim.complete_one()) {
      slot = swap_->store(pfn);
    }
    bed_->allocator.free(pfn, 0);
    ASSERT_TRUE(slot.ok());
    model_[slot.value().v] = {id++, Bytes::random};
  }
  finish_io();
  ASSERT_TRUE(swap_->validate());
  expect_all();
  expect_empty();
}

// A part of the disk that cannot be read must not turn "full" into waiting for ever.
TEST_F(SwapTest, a_full_disk_that_cannot_be_cleaned_is_full) {
  start(64, 1024);
  std::vector<SlotId> slots;
  for (u64 i = 1; i <= 5000; ++i) {
    const Result<SlotId> slot = store(i, Bytes::random);
    if (!slot.ok()) break;
    slots.push_back(slot.value());
  }
  finish_io();
  for (u64 i = 0; i < slots.size(); ++i) {
    if (i % 3 == 0) put(slots[i]);
  }
  for (u64 i = 0; i < slots.size(); ++i) {
    if (i % 3 == 1) put(slots[i]);
  }
  bed_->sim.failures().arm(Failure::read_io, 1, 1'000'000);
  const Pfn pfn = bed_->take();
  u32 waits = 0;
  for (u64 id = 10'000; id < 20'000; ++id) {
    make_page(bed_->bytes(pfn), id, Bytes::random);
    Result<SlotId> slot = swap_->store(pfn);
    for (; !slot.ok() && slot.error() == Error::wait && waits < 10'000; ++waits) {
      if (!bed_->sim.complete_one()) break;
      slot = swap_->store(pfn);
    }
    if (!slot.ok()) {
      EXPECT_EQ(slot.error(), Error::no_space) << "waited " << waits << " times";
      break;
    }
    model_[slot.value().v] = {id, Bytes::random};
  }
  EXPECT_LT(waits, 10'000U);
  bed_->allocator.free(pfn, 0);
  bed_->sim.failures().disarm_all();
  ASSERT_TRUE(swap_->validate());
  expect_all();
  // A disk that can be read again is cleaned again, once something has died.
  put(SlotId(model_.begin()->first));
  expect_empty();
}

// Fail the first transfer, then the second, until none fails: the pages that were stored come
// back, unless it was their own read that failed.
TEST_F(SwapTest, every_failing_transfer_is_survived) {
  for (Failure failure : {Failure::read_io, Failure::write_io, Failure::write_no_space}) {
    for (u64 nth = 1; nth < 60; ++nth) {
      start(64, 1024, 1024);
      bed_->sim.failures().arm(failure, nth);
      std::vector<SlotId> slots;
      for (u64 i = 1; i <= 300; ++i) {
        const Result<SlotId> slot = store(i, kAllBytes[i % 5]);
        ASSERT_TRUE(slot.ok()) << name_of(failure) << nth;
        slots.push_back(slot.value());
      }
      spill();
      for (u64 i = 0; i < slots.size(); i += 9) {
        bool good = false;
        const Status status = fetch(slots[i], &good);
        if (!status.ok()) {
          ASSERT_EQ(failure, Failure::read_io);
          ASSERT_EQ(status.error(), Error::io);
          swap_->clear_error(slots[i]);
          ASSERT_TRUE(fetch(slots[i], &good).ok()) << "the second try";
        }
        ASSERT_TRUE(good);
      }
      ASSERT_TRUE(swap_->validate());
      ASSERT_NO_FATAL_FAILURE(expect_empty());
      if (bed_->sim.failures().fired(failure) == 0) break;
    }
  }
}

TEST_F(SwapTest, random_use_agrees_with_a_model) {
  for (u64 seed = 1; seed <= 6; ++seed) {
    start(48, seed % 2 == 0 ? 512 : 0, 1024);
    Prng prng(seed);
    std::vector<SlotId> slots;
    for (u64 step = 0; step < 1500; ++step) {
      if (prng.below(10) < 6) {
        const Result<SlotId> slot = store(step + 1, kAllBytes[prng.below(5)]);
        if (slot.ok()) slots.push_back(slot.value());
      } else if (!slots.empty()) {
        const u64 i = prng.below(slots.size());
        ASSERT_NO_FATAL_FAILURE(expect_page(slots[i]));
        if (prng.one_in(2)) {
          put(slots[i]);
          slots[i] = slots.back();
          slots.pop_back();
        }
      }
      if (prng.one_in(10)) (void)swap_->background_step();
      if (prng.one_in(10)) (void)bed_->sim.complete_one();
      if (step % 250 == 0) {
        ASSERT_TRUE(swap_->validate());
      }
    }
    ASSERT_NO_FATAL_FAILURE(expect_all());
    expect_empty();
  }
}

TEST_F(SwapTest, validate_sees_damage) {
  start(64, 1024);
  for (u64 i = 1; i <= 200; ++i) ASSERT_TRUE(store(i, Bytes::random).ok());
  spill();
  ASSERT_TRUE(swap_->validate());
  for (const auto& [v, want] : model_) {
    Slot& slot = *swap_->slots().find(SlotId(v));
    const SlotWord word = slot.word;
    slot.word = word.with_refs(0);
    EXPECT_FALSE(swap_->validate()) << "a slot without a holder";
    slot.word = SlotWord::empty();
    EXPECT_FALSE(swap_->validate()) << "a slot that forgot its object";
    slot.word = word;
  }
  EXPECT_TRUE(swap_->validate());
}

}  // namespace
}  // namespace spillway
