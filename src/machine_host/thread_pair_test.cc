// ThreadPair on real threads: when a mask is narrowed, and every way by which it gets wide again.
#include "machine_host/thread_pair.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace spillway {
namespace {

int cpus_of(pid_t tid) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  EXPECT_EQ(sched_getaffinity(tid, sizeof mask, &mask), 0);
  return CPU_COUNT(&mask);
}

class ThreadPairTest : public ::testing::Test {
 protected:
  ThreadPairTest() : thread_([this] { wait(); }) {
    while (tid_.load() == 0) sched_yield();
    all_ = cpus_of(0);
  }
  void SetUp() override {
    if (all_ < 2) GTEST_SKIP() << "one CPU: nothing to narrow";
  }
  ~ThreadPairTest() override {
    done_.store(true);
    thread_.join();
  }
  void wait() {
    tid_.store(static_cast<pid_t>(syscall(SYS_gettid)));
    while (!done_.load()) sched_yield();
  }
  bool fault(u32 times, u64 at_ns = 1) {
    bool kept = false;
    for (u32 i = 0; i < times; ++i) kept = pair_.consider(tid_.load(), sched_getcpu(), at_ns);
    return kept;
  }

  std::atomic<pid_t> tid_{0};
  std::atomic<bool> done_{false};
  std::thread thread_;
  int all_ = 0;
  ThreadPair pair_;
};

TEST_F(ThreadPairTest, a_streak_narrows_and_quiet_widens) {
  EXPECT_FALSE(fault(ThreadPair::kStreak - 1));
  EXPECT_EQ(cpus_of(tid_), all_);
  EXPECT_TRUE(fault(1));
  EXPECT_EQ(cpus_of(tid_), 1);
  pair_.quiet(ThreadPair::kQuietNs);
  EXPECT_EQ(cpus_of(tid_), 1) << "a fault was a moment ago";
  pair_.quiet(ThreadPair::kQuietNs + 1);
  EXPECT_EQ(cpus_of(tid_), all_);
}

TEST_F(ThreadPairTest, another_thread_that_faults_ends_it) {
  ASSERT_TRUE(fault(ThreadPair::kStreak));
  EXPECT_FALSE(pair_.consider(getpid(), 0, 2));
  EXPECT_EQ(cpus_of(tid_), all_);
}

TEST_F(ThreadPairTest, release_widens_and_holds_off) {
  ASSERT_TRUE(fault(ThreadPair::kStreak));
  pair_.release(100);
  EXPECT_EQ(cpus_of(tid_), all_);
  EXPECT_FALSE(fault(4 * ThreadPair::kStreak, 100 + ThreadPair::kHoldNs - 1));
  EXPECT_EQ(cpus_of(tid_), all_);
  EXPECT_TRUE(fault(ThreadPair::kStreak, 100 + ThreadPair::kHoldNs));
  pair_.release(200);
}

TEST_F(ThreadPairTest, a_mask_that_the_program_chose_meanwhile_stays) {
  ASSERT_TRUE(fault(ThreadPair::kStreak));
  cpu_set_t two;
  CPU_ZERO(&two);
  CPU_SET(0, &two);
  CPU_SET(1, &two);
  ASSERT_EQ(sched_setaffinity(tid_, sizeof two, &two), 0);
  pair_.release(1);
  EXPECT_EQ(cpus_of(tid_), 2);
}

TEST_F(ThreadPairTest, one_that_inherited_the_narrow_mask_can_get_rid_of_it) {
  ASSERT_TRUE(fault(ThreadPair::kStreak));
  int inherited = 0;
  int restored = 0;
  std::thread heir([&] {
    cpu_set_t mask;
    CPU_ZERO(&mask);
    sched_getaffinity(tid_, sizeof mask, &mask);
    sched_setaffinity(0, sizeof mask, &mask);
    inherited = cpus_of(0);
    pair_.restore_own();
    restored = cpus_of(0);
  });
  heir.join();
  EXPECT_EQ(inherited, 1);
  EXPECT_EQ(restored, all_);
  pair_.release(1);
}

TEST_F(ThreadPairTest, disabled_means_never) {
  pair_.set_enabled(false);
  EXPECT_FALSE(fault(10 * ThreadPair::kStreak));
  EXPECT_EQ(cpus_of(tid_), all_);
}

}  // namespace
}  // namespace spillway
