// Mover against a kernel that answers as the test wants: every error of UFFDIO_MOVE, and the
// rule that a page is never lost and never claimed to be where it is not.
#include "machine_host/move.h"

#include <gtest/gtest.h>

#include <deque>
#include <set>

#include "machine_host/syscalls.h"

namespace spillway {
namespace {

constexpr u64 kFrom = 0x100000;
constexpr u64 kTo = 0x900000;

// Pages that are present, and answers to give before the truth is told.
struct FakeKernel {
  enum class Answer { truth, again_after_one, again, busy, spurious_exists, invalid, no_entry };
  std::set<u64> present;
  std::set<u64> pinned;
  std::set<u64> shared;  // busy until touched
  std::deque<Answer> answers;
  u64 calls = 0;
  u64 touches = 0;

  // As the kernel does it: pages in order until one cannot be moved.
  UffdProgress move(u64 to, u64 from, u64 bytes) {
    ++calls;
    Answer answer = Answer::truth;
    if (!answers.empty()) {
      answer = answers.front();
      answers.pop_front();
    }
    if (answer == Answer::again) return {sys::kAgain, sys::kAgain};
    if (answer == Answer::busy) return {sys::kBusy, sys::kBusy};
    if (answer == Answer::invalid) return {sys::kInvalid, sys::kInvalid};
    if (answer == Answer::no_entry) return {sys::kNoEntry, sys::kNoEntry};
    u64 moved = 0;
    i64 error = 0;
    for (u64 at = 0; at < bytes && error == 0; at += kPageSize) {
      if (answer == Answer::again_after_one && moved > 0)
        error = sys::kAgain;
      else if (present.count(to + at) != 0)
        error = sys::kExists;
      else if (present.count(from + at) == 0)
        error = sys::kNoEntry;
      else if (pinned.count(from + at) != 0 || shared.count(from + at) != 0)
        error = sys::kBusy;
      else {
        present.erase(from + at);
        present.insert(to + at);
        moved += kPageSize;
      }
    }
    if (answer == Answer::spurious_exists) return {sys::kExists, sys::kExists};
    if (error == 0) return {0, static_cast<i64>(bytes)};
    if (moved > 0) return {sys::kAgain, static_cast<i64>(moved)};
    return {error, error};
  }
};
FakeKernel* g_fake = nullptr;

const MoveKernel kFakeKernel = {
    [](int, u64 to, u64 from, u64 bytes) { return g_fake->move(to, from, bytes); },
    [](u64 page) { return g_fake->present.count(page) != 0; },
    [](u64 page) {
      ++g_fake->touches;
      EXPECT_EQ(g_fake->present.count(page), 1U) << "touching this page would deadlock";
      g_fake->shared.erase(page);
    }};

class MoveTest : public testing::Test {
 protected:
  using Answer = FakeKernel::Answer;
  void SetUp() override {
    g_fake = &fake_;
    mover_.set_paranoid(true);
    for (u64 i = 0; i < 8; ++i) fake_.present.insert(page(kFrom, i));
  }
  static u64 page(u64 base, u64 i) { return base + i * kPageSize; }
  bool all_at(u64 base, u64 first, u64 last) {
    for (u64 i = first; i < last; ++i) {
      if (fake_.present.count(page(base, i)) == 0) return false;
    }
    return true;
  }

  FakeKernel fake_;
  Counters counters_ = {};
  Mover mover_{-1, counters_, kFakeKernel};
};

TEST_F(MoveTest, a_whole_run_takes_one_call) {
  const MoveResult r = mover_.move(kTo, kFrom, 8);
  EXPECT_EQ(r.stop, MoveStop::none);
  EXPECT_EQ(r.pages, 8U);
  EXPECT_EQ(fake_.calls, 1U);
  EXPECT_TRUE(all_at(kTo, 0, 8));
  EXPECT_EQ(counters_[Counter::move_retry], 0U);
}

TEST_F(MoveTest, goes_on_after_partial_progress_and_after_races) {
  fake_.answers = {Answer::again, Answer::again_after_one, Answer::again, Answer::again_after_one};
  EXPECT_EQ(mover_.move(kTo, kFrom, 8).stop, MoveStop::none);
  EXPECT_TRUE(all_at(kTo, 0, 8));
  EXPECT_EQ(counters_[Counter::move_retry], 4U);
}

TEST_F(MoveTest, again_for_ever_is_given_up) {
  fake_.answers.assign(5000, Answer::again);
  const MoveResult r = mover_.move(kTo, kFrom, 8);
  EXPECT_EQ(r.stop, MoveStop::stuck);
  EXPECT_EQ(r.pages, 0U);
  EXPECT_LT(fake_.calls, 2000U);
  EXPECT_TRUE(all_at(kFrom, 0, 8));
}

TEST_F(MoveTest, a_page_shared_after_a_fork_is_touched_and_moves) {
  fake_.shared = {page(kFrom, 3), page(kFrom, 4)};
  EXPECT_EQ(mover_.move(kTo, kFrom, 8).stop, MoveStop::none);
  EXPECT_EQ(fake_.touches, 2U);
  EXPECT_TRUE(all_at(kTo, 0, 8));
}

TEST_F(MoveTest, a_pinned_page_stays_with_what_follows_it) {
  fake_.pinned = {page(kFrom, 5)};
  const MoveResult r = mover_.move(kTo, kFrom, 8);
  EXPECT_EQ(r.stop, MoveStop::busy);
  EXPECT_EQ(r.pages, 5U);
  EXPECT_TRUE(all_at(kTo, 0, 5));
  EXPECT_TRUE(all_at(kFrom, 5, 8));
}

TEST_F(MoveTest, the_eexist_bug_of_a_whole_run_is_seen_through) {
  // All eight pages moved, but the kernel says that the destination existed.
  fake_.answers = {Answer::spurious_exists};
  const MoveResult r = mover_.move(kTo, kFrom, 8);
  EXPECT_EQ(r.stop, MoveStop::none);
  EXPECT_EQ(r.pages, 8U);
  EXPECT_TRUE(all_at(kTo, 0, 8));
  EXPECT_EQ(counters_[Counter::move_eexist], 8U);
}

TEST_F(MoveTest, the_eexist_bug_in_the_middle_is_seen_through) {
  fake_.pinned = {page(kFrom, 4)};
  fake_.answers = {Answer::spurious_exists};
  const MoveResult r = mover_.move(kTo, kFrom, 8);
  EXPECT_EQ(r.stop, MoveStop::busy);
  EXPECT_EQ(r.pages, 4U);
  EXPECT_EQ(counters_[Counter::move_eexist], 4U);
  EXPECT_TRUE(all_at(kTo, 0, 4));
  EXPECT_TRUE(all_at(kFrom, 4, 8));
}

TEST_F(MoveTest, the_eexist_bug_of_a_single_page_is_seen_through) {
  fake_.answers = {Answer::spurious_exists, Answer::truth};
  EXPECT_EQ(mover_.move(kTo, kFrom, 1).stop, MoveStop::none);
  EXPECT_EQ(counters_[Counter::move_eexist], 1U);
}

TEST_F(MoveTest, a_destination_that_really_exists_is_never_taken_for_moved) {
  fake_.present.insert(page(kTo, 2));
  const MoveResult r = mover_.move(kTo, kFrom, 8);
  EXPECT_EQ(r.stop, MoveStop::occupied);
  EXPECT_EQ(r.pages, 2U);
  EXPECT_TRUE(all_at(kFrom, 2, 8));
}

TEST_F(MoveTest, a_page_that_is_nowhere_is_reported) {
  fake_.present.erase(page(kFrom, 1));
  const MoveResult r = mover_.move(kTo, kFrom, 8);
  EXPECT_EQ(r.stop, MoveStop::vanished);
  EXPECT_EQ(r.pages, 1U);
  fake_.present.insert(page(kFrom, 1));
}

TEST_F(MoveTest, a_page_in_migration_is_waited_for) {
  fake_.answers = {Answer::no_entry, Answer::no_entry, Answer::no_entry};
  EXPECT_EQ(mover_.move(kTo, kFrom, 1).stop, MoveStop::none);
}

TEST_F(MoveTest, mappings_that_differ_are_left_to_the_caller) {
  fake_.answers = {Answer::invalid, Answer::invalid};
  const MoveResult r = mover_.move(kTo, kFrom, 4);
  EXPECT_EQ(r.stop, MoveStop::differs);
  EXPECT_EQ(r.error, sys::kInvalid);
  EXPECT_TRUE(all_at(kFrom, 0, 4));
}

// Every order of answers, at random: what is reported is what is so.
TEST_F(MoveTest, random_answers_never_lose_a_page) {
  u64 random = 7;
  for (int round = 0; round < 20'000; ++round) {
    fake_.present.clear();
    fake_.pinned.clear();
    fake_.shared.clear();
    fake_.answers.clear();
    for (u64 i = 0; i < 8; ++i) {
      fake_.present.insert(page(kFrom, i));
      random = random * 6364136223846793005ULL + 1442695040888963407ULL;
      if (random >> 60 == 0) fake_.pinned.insert(page(kFrom, i));
      if (random >> 60 == 1) fake_.shared.insert(page(kFrom, i));
      fake_.answers.push_back(static_cast<Answer>((random >> 40) % 7));
    }
    const MoveResult r = mover_.move(kTo, kFrom, 8);
    ASSERT_EQ(fake_.present.size(), 8U);
    ASSERT_TRUE(all_at(kTo, 0, r.pages)) << round;
    ASSERT_TRUE(all_at(kFrom, r.pages, 8)) << round;
    ASSERT_EQ(r.stop == MoveStop::none, r.pages == 8);
  }
}

// The real kernel, disturbed as DAMON would: bounded here, longer in `spillway doctor`.
TEST(MoveSelfTest, this_kernel_moves_pages_correctly) {
  const Uffd uffd = uffd_open(-1, UserModeOnly::allow);
  ASSERT_GE(uffd.fd, 0);
  if ((uffd.features & kUffdFeatureMove) == 0) GTEST_SKIP() << "no UFFDIO_MOVE";
  const MoveSelfTest test = move_self_test(uffd.fd, 50'000'000);
  EXPECT_TRUE(test.supported);
  EXPECT_TRUE(test.correct);
  EXPECT_GT(test.pages_moved, 100U);
  sys::close(uffd.fd);
  if (uffd.device_fd >= 0) sys::close(uffd.device_fd);
}

}  // namespace
}  // namespace spillway
