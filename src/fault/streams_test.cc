// Streams: what is recognised as a scan, how its window grows, and what is not taken for one.
#include "fault/streams.h"

#include <gtest/gtest.h>

#include <map>

#include "base/prng.h"

namespace spillway {
namespace {

class StreamsTest : public ::testing::Test {
 protected:
  StreamsTest() { streams_.init(4, 32); }
  // Walks `pages` pages with a stride, faulting only where no window has been before.
  u32 faults_of_scan(i64 start, i64 stride, u32 pages, SpaceId space = SpaceId(1)) {
    u32 faults = 0;
    for (u32 i = 0; i < pages;) {
      const i64 at = start + stride * i;
      const Window w = streams_.on_fault(space, Vpn(static_cast<u64>(at)));
      ++faults;
      EXPECT_GE(w.pages, 1U);
      EXPECT_LE(w.pages, 32U);
      i += w.pages > 1 && w.stride != stride ? 1 : w.pages;
    }
    return faults;
  }
  Streams streams_;
};

TEST_F(StreamsTest, the_window_of_a_sequential_scan_doubles) {
  const SpaceId s(1);
  EXPECT_EQ(streams_.on_fault(s, Vpn(100)).pages, 1U);
  EXPECT_EQ(streams_.on_fault(s, Vpn(101)).pages, 4U);
  EXPECT_EQ(streams_.on_fault(s, Vpn(105)).pages, 8U);
  EXPECT_EQ(streams_.on_fault(s, Vpn(113)).pages, 16U);
  EXPECT_EQ(streams_.on_fault(s, Vpn(129)).pages, 32U);
  EXPECT_EQ(streams_.on_fault(s, Vpn(161)).pages, 32U);
}

TEST_F(StreamsTest, asking_again_for_one_fault_gives_the_same_answer) {
  const SpaceId s(1);
  (void)streams_.on_fault(s, Vpn(100));
  (void)streams_.on_fault(s, Vpn(101));
  const Window w = streams_.on_fault(s, Vpn(105));
  for (u32 retry = 0; retry < 5; ++retry) {
    const Window again = streams_.on_fault(s, Vpn(105));
    EXPECT_EQ(again.pages, w.pages);
    EXPECT_EQ(again.stride, w.stride);
  }
  EXPECT_EQ(streams_.on_fault(s, Vpn(113)).pages, 16U);
}

TEST_F(StreamsTest, scans_of_every_direction_and_stride_take_few_faults) {
  for (i64 stride : {1, -1, 2, 7, -16, 100, 511}) {
    streams_ = Streams();
    streams_.init(4, 32);
    EXPECT_LT(faults_of_scan(1 << 24, stride, 1000), 45U) << stride;
  }
}

TEST_F(StreamsTest, a_stride_other_than_one_is_believed_at_the_third_fault) {
  const SpaceId s(1);
  EXPECT_EQ(streams_.on_fault(s, Vpn(1000)).pages, 1U);
  EXPECT_EQ(streams_.on_fault(s, Vpn(1010)).pages, 1U);
  const Window w = streams_.on_fault(s, Vpn(1020));
  EXPECT_EQ(w.pages, 4U);
  EXPECT_EQ(w.stride, 10);
}

TEST_F(StreamsTest, jumps_beyond_a_table_are_no_stride) {
  for (u32 i = 0; i < 50; ++i) {
    EXPECT_EQ(streams_.on_fault(SpaceId(1), Vpn(u64{i} * 600)).pages, 1U) << i;
  }
}

TEST_F(StreamsTest, interleaved_scans_are_told_apart) {
  u32 faults = 0;
  std::map<u32, u64> at{{0, 1 << 20}, {1, 1 << 22}, {2, 1 << 24}};
  const std::map<u32, u64> start = at;
  for (u32 round = 0; round < 40; ++round) {
    for (auto& [id, vpn] : at) {
      const Window w = streams_.on_fault(SpaceId(1), Vpn(vpn));
      ++faults;
      vpn += w.pages;
    }
  }
  for (const auto& [id, vpn] : at) EXPECT_GT(vpn - start.at(id), 1000U);
  EXPECT_EQ(faults, 120U);
}

TEST_F(StreamsTest, spaces_do_not_share_streams) {
  (void)streams_.on_fault(SpaceId(1), Vpn(100));
  EXPECT_EQ(streams_.on_fault(SpaceId(2), Vpn(101)).pages, 1U);
  EXPECT_EQ(streams_.on_fault(SpaceId(1), Vpn(101)).pages, 4U);
}

TEST_F(StreamsTest, a_window_that_was_cut_short_does_not_grow) {
  const SpaceId s(1);
  (void)streams_.on_fault(s, Vpn(100));
  EXPECT_EQ(streams_.on_fault(s, Vpn(101)).pages, 4U);
  EXPECT_EQ(streams_.on_fault(s, Vpn(103)).pages, 4U) << "only two of four were served";
}

TEST_F(StreamsTest, random_faults_have_no_windows) {
  Prng prng(6);
  u32 pages = 0;
  for (u32 i = 0; i < 10'000; ++i) {
    pages += streams_.on_fault(SpaceId(1), Vpn(prng.below(u64{1} << 24))).pages;
  }
  EXPECT_LT(pages, 10'100U);
}

// In a small working set some random faults look like a scan; most must not.
TEST_F(StreamsTest, random_faults_in_a_small_range_have_few_windows) {
  Prng prng(6);
  u32 wide = 0;
  for (u32 i = 0; i < 10'000; ++i) {
    wide += streams_.on_fault(SpaceId(1), Vpn(prng.below(20'000))).pages > 1 ? 1 : 0;
  }
  EXPECT_LT(wide, 500U);
}

TEST_F(StreamsTest, old_streams_make_room_for_new_ones) {
  for (u32 i = 0; i < 100; ++i) (void)streams_.on_fault(SpaceId(1), Vpn(u64{i} << 20));
  EXPECT_LT(faults_of_scan(1 << 28, 1, 500), 25U);
}

TEST_F(StreamsTest, a_scan_down_to_page_0_ends_there) {
  const SpaceId s(1);
  (void)streams_.on_fault(s, Vpn(3));
  const Window w = streams_.on_fault(s, Vpn(2));
  EXPECT_EQ(w.stride, -1);
  (void)streams_.on_fault(s, Vpn(0));
}

}  // namespace
}  // namespace spillway
