// Segments shared by a family of processes: nothing that anybody refers to is ever handed out
// again, and what the dead held comes back.
#include "machine_host/swap_segments.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine_host/engine_thread.h"
#include "machine_host/syscalls.h"

namespace spillway {
namespace {

// Stands for the engine thread on whose death a process's segments are freed.
struct Guard {
  SwapSegments* segments;
  std::atomic<u32> ready{0};
  EngineThread thread;
  explicit Guard(SwapSegments& s) : segments(&s) {
    EXPECT_TRUE(thread.start(main, this, "spillway/test", nullptr, 0).ok());
    while (ready.load() == 0) sys::futex_wait(&ready, 0, 0, sys::Sharing::this_process);
  }
  static void main(void* argument) {
    Guard* self = static_cast<Guard*>(argument);
    self->segments->guard_with_this_thread();
    self->ready.store(1);
    sys::futex_wake(&self->ready, 1, sys::Sharing::this_process);
    for (;;) sys::call(SYS_pause);
  }
};

// Forks as the engine does; the child runs `body` under a guard and ends by its return.
template <class Body>
pid_t fork_holder(SwapSegments& segments, Body body) {
  EXPECT_TRUE(segments.fork_prepare().ok());
  const pid_t pid = fork();
  if (pid == 0) {
    segments.fork_child();
    static Guard* guard = new Guard(segments);
    (void)guard;
    _exit(body());
  }
  segments.fork_parent();
  return pid;
}

int wait_for(pid_t pid) {
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(SwapSegments, hands_each_segment_out_once) {
  SwapSegments s;
  ASSERT_TRUE(s.prepare(100).ok());
  bool seen[100] = {};
  for (int i = 0; i < 100; ++i) {
    const Result<u64> got = s.claim(100);
    ASSERT_TRUE(got.ok());
    ASSERT_FALSE(seen[got.value()]);
    seen[got.value()] = true;
    EXPECT_TRUE(s.sole_owner(got.value()));
  }
  EXPECT_EQ(s.claim(100).error(), Error::no_space);
  s.release(42);
  EXPECT_EQ(s.in_use(), 99U);
  EXPECT_EQ(s.claim(100).value(), 42U);
  s.unprepare();
}

TEST(SwapSegments, keeps_below_the_limit) {
  SwapSegments s;
  ASSERT_TRUE(s.prepare(100).ok());
  for (u64 i = 0; i < 10; ++i) EXPECT_LT(s.claim(10).value(), 10U);
  EXPECT_EQ(s.claim(10).error(), Error::no_space);
  EXPECT_GE(s.claim(20).value(), 10U);
  s.unprepare();
}

TEST(SwapSegments, a_fork_shares_and_the_last_holder_frees) {
  SwapSegments s;
  ASSERT_TRUE(s.prepare(64).ok());
  const u64 segment = s.claim(64).value();
  int go[2];
  ASSERT_EQ(pipe(go), 0);
  const pid_t child = fork_holder(s, [&] {
    char c;
    (void)!read(go[0], &c, 1);
    // The parent has let go by now.
    if (!s.sole_owner(segment)) return 2;
    s.release(segment);
    return 0;
  });
  EXPECT_FALSE(s.sole_owner(segment));
  s.release(segment);
  EXPECT_EQ(s.in_use(), 1U);
  for (int i = 0; i < 63; ++i) EXPECT_NE(s.claim(64).value(), segment);
  EXPECT_EQ(s.claim(64).error(), Error::no_space);
  (void)!write(go[1], "x", 1);
  EXPECT_EQ(wait_for(child), 0);
  EXPECT_EQ(s.claim(64).value(), segment);
  s.unprepare();
}

TEST(SwapSegments, what_a_killed_child_held_is_reaped_and_what_a_living_one_holds_is_not) {
  SwapSegments s;
  ASSERT_TRUE(s.prepare(64).ok());
  const u64 shared = s.claim(64).value();
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork_holder(s, [&] {
    for (int i = 0; i < 5; ++i) (void)s.claim(64).value();
    (void)!write(ready[1], "x", 1);
    for (;;) pause();
    return 0;
  });
  char c;
  ASSERT_EQ(read(ready[0], &c, 1), 1);
  EXPECT_EQ(s.in_use(), 6U);
  EXPECT_EQ(s.reap_dead(), 0U);
  EXPECT_FALSE(s.sole_owner(shared));
  kill(child, SIGKILL);
  EXPECT_EQ(wait_for(child), 128 + SIGKILL);
  EXPECT_EQ(s.reap_dead(), 5U);
  EXPECT_TRUE(s.sole_owner(shared));
  s.unprepare();
}

TEST(SwapSegments, exec_counts_as_death_of_the_engine) {
  SwapSegments s;
  ASSERT_TRUE(s.prepare(64).ok());
  (void)s.claim(64).value();
  const pid_t child = fork_holder(s, [] {
    execl("/bin/sleep", "sleep", "30", nullptr);
    return 1;
  });
  // The child lives on as another program, which knows nothing of segments.
  while (s.reap_dead() == 0 && !s.sole_owner(0)) usleep(1000);
  EXPECT_TRUE(s.sole_owner(0));
  kill(child, SIGKILL);
  wait_for(child);
  s.unprepare();
}

TEST(SwapSegments, a_child_that_died_before_it_had_a_guard_is_never_reaped) {
  SwapSegments s;
  ASSERT_TRUE(s.prepare(64).ok());
  const u64 segment = s.claim(64).value();
  ASSERT_TRUE(s.fork_prepare().ok());
  const pid_t child = fork();
  if (child == 0) _exit(0);
  wait_for(child);
  EXPECT_EQ(s.reap_dead(), 0U);
  EXPECT_FALSE(s.sole_owner(segment));
  s.unprepare();
}

TEST(SwapSegments, entries_of_dead_children_are_used_again_even_if_they_held_nothing) {
  SwapSegments s;
  ASSERT_TRUE(s.prepare(64).ok());
  for (u32 i = 0; i < SwapSegments::kHoldersMax + 10; ++i) {
    const pid_t child = fork_holder(s, [] { return 0; });
    ASSERT_EQ(wait_for(child), 0) << i;
  }
  s.unprepare();
}

TEST(SwapSegments, a_failed_fork_leaves_no_trace) {
  SwapSegments s;
  ASSERT_TRUE(s.prepare(64).ok());
  const u64 segment = s.claim(64).value();
  for (u32 i = 0; i < 2 * SwapSegments::kHoldersMax; ++i) {
    ASSERT_TRUE(s.fork_prepare().ok());
    EXPECT_FALSE(s.sole_owner(segment));
    s.fork_failed();
    EXPECT_TRUE(s.sole_owner(segment));
  }
  s.unprepare();
}

// Children claim and release at random and are killed at random times; afterwards everything
// that was not held by the parent is free, or leaked, and nothing was given to two.
TEST(SwapSegments, kills_at_random_times_never_free_what_is_held) {
  SwapSegments s;
  ASSERT_TRUE(s.prepare(512).ok());
  std::vector<u64> mine;
  for (int i = 0; i < 50; ++i) mine.push_back(s.claim(512).value());
  for (int round = 0; round < 20; ++round) {
    const pid_t child = fork_holder(s, [&] {
      u64 random = static_cast<u64>(getpid());
      std::vector<u64> held = mine;
      for (;;) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        if ((random >> 40 & 1) != 0 || held.empty()) {
          const Result<u64> got = s.claim(512);
          if (got.ok()) held.push_back(got.value());
        } else {
          std::swap(held[(random >> 20) % held.size()], held.back());
          s.release(held.back());
          held.pop_back();
        }
      }
      return 0;
    });
    usleep(static_cast<useconds_t>(200 + round * 150));
    kill(child, SIGKILL);
    wait_for(child);
    s.reap_dead();
    for (u64 segment : mine) ASSERT_TRUE(s.holds(segment));
  }
  u64 free = 0;
  for (Result<u64> got = s.claim(512); got.ok(); got = s.claim(512)) {
    for (u64 segment : mine) ASSERT_NE(got.value(), segment);
    ++free;
  }
  EXPECT_GE(free, 512U - 50U - 20U);  // at most one leak per kill
  s.unprepare();
}

}  // namespace
}  // namespace spillway
