// The pool of compressed pages: a log of segments whose objects are appended, die, are moved by
// cleaning and leave for the disk.
#include "swap/pool.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "swap/swap_bed_test.h"

namespace spillway {
namespace {

class PoolTest : public ::testing::Test {
 protected:
  void start(u64 frames_max) {
    ASSERT_TRUE(slots_.init(bed_.machine(), bed_.allocator, bed_.frames, 1 << 16).ok());
    ASSERT_TRUE(pool_
                    .init(bed_.machine(), bed_.allocator, bed_.frames, slots_, bed_.observer,
                          PageCount(frames_max))
                    .ok());
  }
  // Stores `bytes` bytes that `seed` stands for, under a new slot.
  Result<SlotId> put(u64 seed, u32 bytes, Stream stream = Stream::compressed) {
    const SlotId id = slots_.alloc(kAllocReclaim).value();
    u8 data[kPageSize];
    make_page(data, seed, Bytes::random);
    const Encoded object{
        .stored = static_cast<u16>(bytes), .content = static_cast<u16>(bytes), .data = data};
    const Result<Place> place = pool_.append(id, object, stream, false);
    if (!place.ok()) {
      slots_.free(id);
      return place.error();
    }
    slots_[id].word = SlotWord::object(SlotState::pool, place.value());
    model_[id.v] = {seed, bytes};
    return id;
  }
  void kill(SlotId id) {
    const Place place = slots_[id].word.place();
    slots_[id].word = SlotWord::empty();
    pool_.kill(place);
    slots_.free(id);
    model_.erase(id.v);
  }
  // Every live object has its bytes, and the books agree.
  void check() {
    ASSERT_TRUE(pool_.validate());
    u64 live = 0;
    for (const auto& [v, want] : model_) {
      const Place place = slots_[SlotId(v)].word.place();
      const ObjectHeader header = pool_.header_at(place.segment, place.offset);
      ASSERT_EQ(header.slot, v);
      ASSERT_EQ(header.stored, want.bytes);
      u8 scratch[kPageSize];
      u8 page[kPageSize];
      make_page(page, want.seed, Bytes::random);
      ASSERT_EQ(std::memcmp(pool_.data_at(place, scratch), page, want.bytes), 0) << v;
      live += object_bytes(want.bytes);
    }
    ASSERT_EQ(pool_.live_bytes(), live);
    ASSERT_LE(pool_.frames_used().v, pool_.frames_max().v + kSegmentFrames);
  }

  struct Want {
    u64 seed;
    u32 bytes;
  };
  SwapBed bed_{2048};
  SlotTable slots_;
  Pool pool_;
  std::map<u32, Want> model_;
};

TEST_F(PoolTest, objects_lie_one_behind_the_other_and_across_frames) {
  start(256);
  for (u32 i = 0; i < 100; ++i) ASSERT_TRUE(put(i, 1 + i * 40).ok());
  bool across = false;
  for (const auto& [v, want] : model_) {
    const Place place = slots_[SlotId(v)].word.place();
    across |= place.offset / kPageSize != (place.offset + 7 + want.bytes) / kPageSize;
    EXPECT_EQ(place.offset % 16, 0U);
  }
  EXPECT_TRUE(across);
  check();
}

TEST_F(PoolTest, compressible_and_raw_objects_are_kept_apart) {
  start(256);
  const SlotId a = put(1, 500, Stream::compressed).value();
  const SlotId b = put(2, 4096, Stream::raw).value();
  EXPECT_NE(slots_[a].word.place().segment, slots_[b].word.place().segment);
}

TEST_F(PoolTest, the_limit_is_a_limit) {
  start(32);
  u32 stored = 0;
  while (put(stored, 4096, Stream::raw).ok()) ++stored;
  EXPECT_LE(pool_.frames_used().v, 32U);
  EXPECT_GE(stored, 29U);
  EXPECT_EQ(put(1, 4096, Stream::raw).error(), Error::no_space);
  check();
}

TEST_F(PoolTest, no_frame_is_an_error_that_loses_nothing) {
  start(256);
  for (u32 i = 0; i < 20; ++i) ASSERT_TRUE(put(i, 3000).ok());
  std::vector<Pfn> taken;
  for (Result<Pfn> p = bed_.allocator.alloc(0, kAllocReclaim); p.ok();
       p = bed_.allocator.alloc(0, kAllocReclaim)) {
    taken.push_back(p.value());
  }
  Result<SlotId> last = kNoSlot;
  for (u32 i = 0; i < 5 && last.ok(); ++i) last = put(100 + i, 4096);
  EXPECT_EQ(last.error(), Error::no_memory);
  check();
  for (Pfn pfn : taken) bed_.allocator.free(pfn, 0);
  EXPECT_TRUE(put(7, 4096).ok());
  check();
}

TEST_F(PoolTest, a_segment_goes_when_its_last_object_dies) {
  start(256);
  std::vector<SlotId> ids;
  for (u32 i = 0; i < 60; ++i) ids.push_back(put(i, 4000).value());
  const u64 used = pool_.frames_used().v;
  for (u32 i = 0; i < 16; ++i) kill(ids[i]);
  EXPECT_LT(pool_.frames_used().v, used);
  check();
  for (u32 i = 16; i < 60; ++i) kill(ids[i]);
  EXPECT_EQ(pool_.live_bytes(), 0U);
  EXPECT_LE(pool_.frames_used().v, u64{kSegmentFrames}) << "only the open segment may remain";
  EXPECT_TRUE(bed_.sum_holds());
}

TEST_F(PoolTest, cleaning_moves_what_lives_and_frees_the_rest) {
  start(256);
  std::vector<SlotId> ids;
  for (u32 i = 0; i < 200; ++i) ids.push_back(put(i, 2000).value());
  EXPECT_FALSE(pool_.clean_one(false)) << "nothing is dead yet";
  for (u32 i = 0; i < 200; ++i) {
    if (i % 4 != 0) kill(ids[i]);
  }
  const u64 used = pool_.frames_used().v;
  u32 cleaned = 0;
  while (pool_.clean_one(false)) ++cleaned;
  EXPECT_GT(cleaned, 2U);
  EXPECT_LT(pool_.frames_used().v, used / 2);
  check();
}

TEST_F(PoolTest, desperate_cleaning_takes_segments_that_are_mostly_alive) {
  start(256);
  std::vector<SlotId> ids;
  for (u32 i = 0; i < 160; ++i) ids.push_back(put(i, 2000).value());
  for (u32 i = 0; i < 160; i += 7) kill(ids[i]);  // six sevenths live
  EXPECT_FALSE(pool_.clean_one(false));
  EXPECT_TRUE(pool_.clean_one(true));
  check();
}

TEST_F(PoolTest, a_written_segment_leaves_and_a_failed_write_stays) {
  start(256);
  std::vector<SlotId> ids;
  for (u32 i = 0; i < 40; ++i) ids.push_back(put(i, 4096, Stream::raw).value());
  const u32 failed = pool_.begin_write();
  ASSERT_NE(failed, Segment::kNoSegment);
  EXPECT_EQ(pool_[failed].state, SegmentState::writing);
  EXPECT_EQ(pool_.writing(), 1U);
  check();
  pool_.end_write(failed, false, [](SlotId, Place) { ADD_FAILURE(); });
  check();
  const u32 segment = pool_.begin_write();
  SlotId dead;
  for (SlotId id : ids) {
    if (slots_[id].word.place().segment == segment) dead = id;
  }
  ASSERT_TRUE(dead.valid());
  kill(dead);  // while it is being written
  u32 moved = 0;
  pool_.end_write(segment, true, [&](SlotId id, Place place) {
    EXPECT_EQ(place.segment, segment);
    slots_[id].word = SlotWord::object(SlotState::disk, {5, place.offset, place.stored});
    model_.erase(id.v);
    ++moved;
  });
  EXPECT_EQ(moved, 14U);
  EXPECT_EQ(pool_.writing(), 0U);
  check();
}

TEST_F(PoolTest, raw_segments_are_written_first_and_open_ones_only_when_sealed) {
  start(256);
  for (u32 i = 0; i < 40; ++i) ASSERT_TRUE(put(i, 2000).ok());
  ASSERT_TRUE(put(99, 4096, Stream::raw).ok());
  EXPECT_EQ(pool_.sealed(Stream::raw), 0U);
  pool_.seal_open();
  EXPECT_EQ(pool_.sealed(Stream::raw), 1U);
  const u32 segment = pool_.begin_write();
  EXPECT_EQ(pool_[segment].stream, Stream::raw);
  EXPECT_EQ(pool_[segment].io.count, 2U) << "no more frames than it has";
}

// What a frame held before must not reach the disk: it was some other program's.
TEST_F(PoolTest, nothing_but_objects_and_zeros_is_written) {
  start(256);
  std::vector<Pfn> dirty;
  for (Result<Pfn> p = bed_.allocator.alloc(0, kAllocReclaim); p.ok();
       p = bed_.allocator.alloc(0, kAllocReclaim)) {
    std::memset(bed_.bytes(p.value()), 0xEE, kPageSize);
    dirty.push_back(p.value());
  }
  for (Pfn pfn : dirty) bed_.allocator.free(pfn, 0);
  const auto put_zeros = [&](u32 bytes) {
    const SlotId id = slots_.alloc(kAllocReclaim).value();
    const u8 zeros[kPageSize] = {};
    const Encoded object{.stored = static_cast<u16>(bytes), .content = 1, .data = zeros};
    const Result<Place> place = pool_.append(id, object, Stream::compressed, false);
    if (!place.ok()) {
      slots_.free(id);
      return false;
    }
    slots_[id].word = SlotWord::object(SlotState::pool, place.value());
    return true;
  };
  for (u32 i = 0; i < 9; ++i) ASSERT_TRUE(put_zeros(1101 + i));
  // A segment can hold a frame that the object which it was taken for did not get.
  dirty.clear();
  while (bed_.allocator.free_pages().v > 1) {
    dirty.push_back(bed_.allocator.alloc(0, kAllocReclaim).value());
  }
  while (put_zeros(4096)) {
  }
  for (Pfn pfn : dirty) bed_.allocator.free(pfn, 0);
  pool_.seal_open();
  const u32 segment = pool_.begin_write();
  ASSERT_NE(segment, Segment::kNoSegment);
  const IoRequest& io = pool_[segment].io;
  for (u32 i = 0; i < io.count; ++i) {
    for (u32 k = 0; k < kPageSize; ++k) {
      ASSERT_NE(bed_.bytes(io.frames[i])[k], 0xEE) << "frame " << i << " byte " << k;
    }
  }
}

TEST_F(PoolTest, random_use_agrees_with_a_model) {
  start(128);
  Prng prng(77);
  std::vector<SlotId> ids;
  for (u32 step = 0; step < 6000; ++step) {
    switch (prng.below(8)) {
      default: {
        const u32 bytes = static_cast<u32>(prng.between(1, kPageSize));
        const Result<SlotId> id = put(step, bytes, bytes > 3500 ? Stream::raw : Stream::compressed);
        if (id.ok()) {
          ids.push_back(id.value());
        } else if (!pool_.clean_one(true) && !ids.empty()) {
          for (u32 i = 0; i < 20 && !ids.empty(); ++i) {
            kill(ids.back());
            ids.pop_back();
          }
        }
        break;
      }
      case 0:
      case 1:
      case 2:
        if (!ids.empty()) {
          const u64 i = prng.below(ids.size());
          kill(ids[i]);
          ids[i] = ids.back();
          ids.pop_back();
        }
        break;
      case 3: (void)pool_.clean_one(prng.one_in(2)); break;
    }
    if (step % 100 == 0) {
      check();
      ASSERT_FALSE(HasFatalFailure()) << step;
    }
  }
}

TEST_F(PoolTest, validate_sees_damage) {
  start(64);
  const SlotId a = put(1, 1000).value();
  (void)put(2, 1000).value();
  ASSERT_TRUE(pool_.validate());
  const SlotWord word = slots_[a].word;
  slots_[a].word = SlotWord::empty();
  EXPECT_FALSE(pool_.validate()) << "an object that died unnoticed";
  slots_[a].word = word;
  pool_[word.place().segment].live += 16;
  EXPECT_FALSE(pool_.validate()) << "live bytes that nobody has";
  pool_[word.place().segment].live -= 16;
  pool_[word.place().segment].frame_count -= 1;
  EXPECT_FALSE(pool_.validate()) << "a frame lost";
  pool_[word.place().segment].frame_count += 1;
  EXPECT_TRUE(pool_.validate());
}

}  // namespace
}  // namespace spillway
