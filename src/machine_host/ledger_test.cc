// The ledger: fair division among processes that may die at any moment. Processes are real ones,
// because death is what matters.
#include "machine_host/ledger.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine_host/process_id.h"

namespace spillway {
namespace {

class LedgerTest : public testing::Test {
 protected:
  void SetUp() override {
    ledger_ = ledger_create(1000, 300, u64{1} << 20, &fd_);
    ASSERT_NE(ledger_, nullptr);
  }
  void TearDown() override {
    munmap(ledger_, sizeof(Ledger));
    close(fd_);
  }
  // A child that joins, takes `frames` and then sleeps until it is killed.
  pid_t start_holder(u64 frames) {
    int ready[2];
    EXPECT_EQ(pipe(ready), 0);
    const pid_t pid = fork();
    if (pid == 0) {
      LedgerProcess* self = ledger_join(*ledger_, getpid(), "holder");
      const u64 got = ledger_acquire(*ledger_, *self, frames);
      (void)!write(ready[1], &got, sizeof(got));
      for (;;) pause();
    }
    u64 got = 0;
    EXPECT_EQ(read(ready[0], &got, sizeof(got)), static_cast<ssize_t>(sizeof(got)));
    EXPECT_EQ(got, frames);
    close(ready[0]);
    close(ready[1]);
    return pid;
  }
  static void kill_and_wait(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  u64 held_by_all() {
    u64 sum = 0;
    for (const LedgerProcess& p : ledger_->process) {
      if (p.pid.load() > 0) sum += p.frames_held.load();
    }
    return sum;
  }

  Ledger* ledger_ = nullptr;
  int fd_ = -1;
};

TEST_F(LedgerTest, one_engine_may_have_everything_and_no_more) {
  LedgerProcess* self = ledger_join(*ledger_, getpid(), "one");
  ASSERT_NE(self, nullptr);
  EXPECT_STREQ(self->command, "one");
  EXPECT_EQ(ledger_acquire(*ledger_, *self, 600), 600U);
  EXPECT_EQ(ledger_->frames_free.load(), 400U);
  EXPECT_EQ(ledger_acquire(*ledger_, *self, 600), 400U);
  EXPECT_EQ(self->frames_wanted.load(), 200U);
  EXPECT_EQ(ledger_acquire(*ledger_, *self, 1), 0U);
  // Nobody else is in need, so nothing has to go back.
  EXPECT_EQ(ledger_wanted_back(*ledger_, *self), 0U);
  ledger_release(*ledger_, *self, 250);
  EXPECT_EQ(self->frames_wanted.load(), 0U);
  EXPECT_EQ(ledger_->frames_free.load(), 250U);
  ledger_leave(*ledger_, *self);
  EXPECT_EQ(ledger_->frames_free.load(), 1000U);
}

TEST_F(LedgerTest, attaches_to_a_ledger_and_to_nothing_else) {
  Ledger* again = ledger_attach(fd_);
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(again->frames_total, 1000U);
  munmap(again, sizeof(Ledger));
  EXPECT_EQ(ledger_attach(-1), nullptr);
  const int other = memfd_create("other", 0);
  EXPECT_EQ(ledger_attach(other), nullptr);
  ASSERT_EQ(ftruncate(other, sizeof(Ledger)), 0);
  EXPECT_EQ(ledger_attach(other), nullptr);
  close(other);
}

TEST_F(LedgerTest, who_has_more_than_a_fair_share_gives_back_to_who_wants) {
  LedgerProcess* self = ledger_join(*ledger_, getpid(), "first");
  EXPECT_EQ(ledger_acquire(*ledger_, *self, 1000), 1000U);
  const u32 sequence = ledger_->need_sequence.load();
  LedgerProcess* second = ledger_join(*ledger_, getppid(), "second");
  EXPECT_EQ(ledger_acquire(*ledger_, *second, 800), 0U);
  EXPECT_NE(ledger_->need_sequence.load(), sequence);
  // Half of 1000 is everybody's share: 500 are to come back, not the 800 that were asked for.
  EXPECT_EQ(ledger_wanted_back(*ledger_, *self), 500U);
  EXPECT_EQ(ledger_wanted_back(*ledger_, *second), 0U);
  ledger_release(*ledger_, *self, 500);
  EXPECT_EQ(ledger_acquire(*ledger_, *second, 800), 500U);
  EXPECT_EQ(ledger_wanted_back(*ledger_, *self), 0U);
  EXPECT_LE(held_by_all(), 1000U);
}

TEST_F(LedgerTest, small_needs_are_met_in_full_and_the_rest_is_divided) {
  LedgerProcess* big = ledger_join(*ledger_, getpid(), "big");
  EXPECT_EQ(ledger_acquire(*ledger_, *big, 1000), 1000U);
  LedgerProcess* small = ledger_join(*ledger_, getppid(), "small");
  EXPECT_EQ(ledger_acquire(*ledger_, *small, 30), 0U);
  EXPECT_EQ(ledger_wanted_back(*ledger_, *big), 30U);
}

TEST_F(LedgerTest, frames_of_a_killed_process_come_back) {
  LedgerProcess* self = ledger_join(*ledger_, getpid(), "self");
  const pid_t child = start_holder(700);
  EXPECT_EQ(ledger_acquire(*ledger_, *self, 1000), 300U);
  EXPECT_EQ(ledger_reap_dead(*ledger_), 0U);
  kill(child, SIGKILL);
  // A zombie is dead: its memory is gone, whoever collects it or does not.
  siginfo_t info = {};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(ledger_reap_dead(*ledger_), 700U);
  EXPECT_EQ(ledger_acquire(*ledger_, *self, 1000), 700U);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(ledger_reap_dead(*ledger_), 0U);
}

TEST_F(LedgerTest, a_program_that_replaced_itself_gives_its_old_frames_back) {
  LedgerProcess* before = ledger_join(*ledger_, getpid(), "before");
  EXPECT_EQ(ledger_acquire(*ledger_, *before, 900), 900U);
  LedgerProcess* after = ledger_join(*ledger_, getpid(), "after");
  ASSERT_NE(after, nullptr);
  EXPECT_NE(after, before);
  EXPECT_EQ(ledger_acquire(*ledger_, *after, 1000), 1000U);
}

TEST_F(LedgerTest, the_debt_of_a_forked_child_is_paid_before_anybody_grows) {
  LedgerProcess* parent = ledger_join(*ledger_, getpid(), "parent");
  EXPECT_EQ(ledger_acquire(*ledger_, *parent, 800), 800U);
  LedgerProcess* child = ledger_join(*ledger_, 0, "child");
  ASSERT_NE(child, nullptr);
  const u32 sequence = ledger_->need_sequence.load();
  ledger_confirm(*ledger_, *child, getppid(), 800);
  EXPECT_NE(ledger_->need_sequence.load(), sequence);
  EXPECT_EQ(ledger_acquire(*ledger_, *parent, 1), 0U);
  EXPECT_EQ(ledger_wanted_back(*ledger_, *parent), 300U);
  EXPECT_EQ(ledger_wanted_back(*ledger_, *child), 300U);
  ledger_release(*ledger_, *parent, 300);
  ledger_release(*ledger_, *child, 300);
  EXPECT_EQ(held_by_all(), 1000U);
  EXPECT_EQ(ledger_wanted_back(*ledger_, *child), 0U);
}

TEST_F(LedgerTest, an_entry_of_a_fork_that_failed_is_used_again) {
  LedgerProcess* reserved = ledger_join(*ledger_, 0, "child");
  ASSERT_NE(reserved, nullptr);
  ledger_abandon(*reserved);
  for (u32 i = 0; i < kLedgerProcesses; ++i) {
    LedgerProcess* next = ledger_join(*ledger_, 0, "child");
    ASSERT_NE(next, nullptr) << i;
  }
  EXPECT_EQ(ledger_join(*ledger_, 0, "child"), nullptr);
}

TEST_F(LedgerTest, counters_outlive_their_engines) {
  // More engines than entries: those that are used again add their counters to the sum.
  for (u32 i = 0; i < kLedgerProcesses + 100; ++i) {
    LedgerProcess* p = ledger_join(*ledger_, getpid(), "short");
    ASSERT_NE(p, nullptr);
    p->counters.add(Counter::pgfault, 2);
    p->counters.raise_to(Counter::frames_online_max, i);
    ledger_leave(*ledger_, *p);
  }
  const Counters total = ledger_total(*ledger_);
  EXPECT_EQ(total[Counter::pgfault], 2 * (kLedgerProcesses + 100U));
  EXPECT_EQ(ledger_->engines_started.load(), kLedgerProcesses + 100U);
}

// Several processes grow and shrink at random, some are killed in the middle of it; the sum of
// what they hold never exceeds the budget by more than a step back takes to be made.
TEST_F(LedgerTest, never_grants_more_than_there_is) {
  constexpr int kChildren = 6;
  pid_t children[kChildren];
  for (int c = 0; c < kChildren; ++c) {
    children[c] = fork();
    if (children[c] != 0) continue;
    LedgerProcess* self = ledger_join(*ledger_, getpid(), "racer");
    u64 held = 0;
    u64 random = static_cast<u64>(getpid());
    for (int i = 0; c % 2 == 0 || i < 3000; ++i) {
      random = random * 6364136223846793005ULL + 1442695040888963407ULL;
      const u64 n = (random >> 33) % 200;
      if ((random >> 20 & 1) != 0) {
        held += ledger_acquire(*ledger_, *self, n);
      } else {
        const u64 back = n < held ? n : held;
        ledger_release(*ledger_, *self, back);
        held -= back;
      }
      if (self->frames_held.load() != held) _exit(2);
    }
    ledger_leave(*ledger_, *self);
    _exit(0);
  }
  for (int c = 1; c < kChildren; c += 2) {
    int status = 0;
    waitpid(children[c], &status, 0);
    EXPECT_EQ(status, 0);
  }
  for (int c = 0; c < kChildren; c += 2) kill_and_wait(children[c]);
  ledger_reap_dead(*ledger_);
  EXPECT_EQ(held_by_all(), 0U);
  EXPECT_EQ(ledger_->frames_free.load(), 1000U);
}

TEST(ProcessId, knows_the_living_and_the_dead) {
  EXPECT_NE(process_start_time(getpid()), 0U);
  EXPECT_FALSE(process_is_dead(getpid(), process_start_time(getpid())));
  EXPECT_TRUE(process_is_dead(getpid(), process_start_time(getpid()) + 1));
  EXPECT_TRUE(process_is_dead(0x3ffffff, 0));
}

TEST(ProcessId, reads_fields_behind_a_command_with_brackets_and_blanks) {
  const char* text = "17 (a (b) c) S 4 5 6 7 8 9";
  EXPECT_EQ(stat_field(text, 4), 4U);
  EXPECT_EQ(stat_field(text, 9), 9U);
  EXPECT_EQ(stat_field(text, 22), 0U);
}

}  // namespace
}  // namespace spillway
