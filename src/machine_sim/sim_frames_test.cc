#include "machine_sim/sim_frames.h"

#include <gtest/gtest.h>

#include <cstring>

#include "machine_sim/panic_text_test.h"

namespace spillway {
namespace {

SimConfig config() {
  SimConfig c;
  c.frames = PageCount(16);
  return c;
}

TEST(FaultPlan, fires_at_the_nth_opportunity_only) {
  FaultPlan plan;
  EXPECT_FALSE(plan.fires(Failure::read_io));
  plan.arm(Failure::read_io, 3, 2);
  EXPECT_FALSE(plan.fires(Failure::read_io));
  EXPECT_FALSE(plan.fires(Failure::write_io));
  EXPECT_FALSE(plan.fires(Failure::read_io));
  EXPECT_TRUE(plan.fires(Failure::read_io));
  EXPECT_TRUE(plan.fires(Failure::read_io));
  EXPECT_FALSE(plan.fires(Failure::read_io));
  EXPECT_EQ(plan.fired(Failure::read_io), 2U);
  plan.arm(Failure::read_io, 1);
  plan.disarm_all();
  EXPECT_FALSE(plan.fires(Failure::read_io));
  for (u32 i = 0; i < kFailureCount; ++i) {
    EXPECT_GT(std::strlen(name_of(static_cast<Failure>(i))), 3U);
    EXPECT_GT(std::strlen(describe(static_cast<Failure>(i))), 10U);
  }
}

TEST(SimFrames, grants_no_more_than_the_budget_and_wants_the_excess_back) {
  FaultPlan plan;
  SimFrames frames(config(), plan);
  frames.set_budget(PageCount(10));
  EXPECT_EQ(frames.acquire_quota(PageCount(8)).v, 8U);
  EXPECT_EQ(frames.acquire_quota(PageCount(8)).v, 2U);
  EXPECT_EQ(frames.acquire_quota(PageCount(8)).v, 0U);
  EXPECT_EQ(frames.quota_wanted_back().v, 0U);
  frames.set_budget(PageCount(7));
  EXPECT_EQ(frames.quota_wanted_back().v, 3U);
  frames.release_quota(PageCount(3));
  EXPECT_EQ(frames.quota_wanted_back().v, 0U);
  EXPECT_EQ(frames.acquire_quota(PageCount(1)).v, 0U);
}

TEST(SimFrames, never_grants_more_than_the_arena) {
  FaultPlan plan;
  SimFrames frames(config(), plan);
  EXPECT_EQ(frames.acquire_quota(PageCount(1000)).v, 16U);
}

TEST(SimFrames, short_grants_are_positive_and_repeat_with_the_seed) {
  FaultPlan plan;
  SimConfig c = config();
  c.frames = PageCount(10'000);
  c.quota_short_one_in = 2;
  SimFrames a(c, plan);
  SimFrames b(c, plan);
  u64 shorter = 0;
  for (int i = 0; i < 100; ++i) {
    const u64 granted = a.acquire_quota(PageCount(8)).v;
    EXPECT_EQ(granted, b.acquire_quota(PageCount(8)).v);
    ASSERT_GE(granted, 1U);
    shorter += granted < 8 ? 1 : 0;
  }
  EXPECT_GT(shorter, 20U);
  EXPECT_LT(shorter, 80U);
}

TEST(SimFrames, injected_failures_change_nothing) {
  FaultPlan plan;
  SimFrames frames(config(), plan);
  plan.arm(Failure::acquire_quota, 1);
  EXPECT_EQ(frames.acquire_quota(PageCount(4)).v, 0U);
  EXPECT_EQ(frames.acquire_quota(PageCount(4)).v, 4U);
  plan.arm(Failure::bring_online, 1);
  EXPECT_EQ(frames.bring_online(Pfn(0), PageCount(4)).error(), Error::no_memory);
  EXPECT_EQ(frames.online().v, 0U);
  EXPECT_TRUE(frames.bring_online(Pfn(0), PageCount(4)).ok());
}

TEST(SimFramesDeathTest, misuse_is_a_panic) {
  print_panics();
  FaultPlan plan;
  SimFrames frames(config(), plan);
  EXPECT_DEATH((void)frames.bring_online(Pfn(0), PageCount(1)), "granted_ - online_");
  frames.acquire_quota(PageCount(4));
  ASSERT_TRUE(frames.bring_online(Pfn(0), PageCount(2)).ok());
  EXPECT_DEATH((void)frames.bring_online(Pfn(1), PageCount(1)), "State::offline");
  EXPECT_DEATH(frames.take_offline(Pfn(1), PageCount(2)), "State::home");
  EXPECT_DEATH(frames.release_quota(PageCount(3)), "granted_ - online_");
  frames.begin_io(Pfn(0), IoOp::read);
  EXPECT_DEATH(frames.take_offline(Pfn(0), PageCount(1)), "transfers");
  EXPECT_DEATH(frames.begin_mapping(Pfn(0)), "reads");
  EXPECT_DEATH(frames.end_mapping(Pfn(1)), "State::mapped");
}

TEST(SimFrames, mappings_nest_where_frames_are_shared) {
  FaultPlan plan;
  SimFrames frames(config(), plan);
  frames.acquire_quota(PageCount(1));
  ASSERT_TRUE(frames.bring_online(Pfn(0), PageCount(1)).ok());
  frames.begin_mapping(Pfn(0));
  frames.begin_mapping(Pfn(0));
  EXPECT_EQ(frames.mappings(Pfn(0)), 2U);
  frames.end_mapping(Pfn(0));
  EXPECT_EQ(frames.state(Pfn(0)), SimFrames::State::mapped);
  frames.end_mapping(Pfn(0));
  EXPECT_EQ(frames.state(Pfn(0)), SimFrames::State::home);
  EXPECT_EQ(frames.mappings(Pfn(0)), 0U);
}

TEST(SimFramesDeathTest, frames_that_are_not_shared_have_one_user) {
  print_panics();
  FaultPlan plan;
  SimConfig c = config();
  c.features.shared_frames = false;
  SimFrames frames(c, plan);
  frames.acquire_quota(PageCount(2));
  ASSERT_TRUE(frames.bring_online(Pfn(0), PageCount(2)).ok());
  frames.begin_mapping(Pfn(0));
  EXPECT_DEATH(frames.begin_mapping(Pfn(0)), "mapped already");
  EXPECT_DEATH(frames.begin_io(Pfn(0), IoOp::read), "read into a mapped frame");
  frames.begin_io(Pfn(0), IoOp::write);
  EXPECT_TRUE(frames.mapped_during_io(Pfn(0)));
  frames.begin_io(Pfn(1), IoOp::write);
  EXPECT_DEATH(frames.begin_mapping(Pfn(1)), "transfers in flight");

  c.features.frame_bytes_while_mapped = false;
  SimFrames host(c, plan);
  host.acquire_quota(PageCount(1));
  ASSERT_TRUE(host.bring_online(Pfn(0), PageCount(1)).ok());
  host.begin_mapping(Pfn(0));
  EXPECT_DEATH(host.begin_io(Pfn(0), IoOp::write), "transfer from a mapped frame");
}

TEST(SimFramesDeathTest, writing_an_offline_frame_is_found_when_it_comes_online) {
  print_panics();
  FaultPlan plan;
  SimFrames frames(config(), plan);
  frames.acquire_quota(PageCount(4));
  frames.bytes(Pfn(3))[100] = 1;
  EXPECT_DEATH((void)frames.bring_online(Pfn(3), PageCount(1)), "offline frame was written");
  ASSERT_TRUE(frames.bring_online(Pfn(0), PageCount(1)).ok());
  frames.take_offline(Pfn(0), PageCount(1));
  frames.bytes(Pfn(0))[4095] = 0;
  EXPECT_DEATH((void)frames.bring_online(Pfn(0), PageCount(1)), "offline frame was written");
}

}  // namespace
}  // namespace spillway
