// The engine lock and the way into the engine for threads whose stack and thread block may be
// swapped out at any moment that they do not hold the lock.
#include "machine_host/engine_lock.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>

#include "machine_host/engine_thread.h"
#include "machine_host/host_machine_test.h"
#include "machine_host/syscalls.h"

namespace spillway {
namespace {

u64 g_counter = 0;

TEST(EngineLock, locked_call_passes_arguments_and_results) {
  ASSERT_TRUE(prepare_entry_stack());
  const LockedResult r = locked_call(
      [](u64 a, u64 b, u64 c, u64 d, u64 e) -> LockedResult {
        EXPECT_TRUE(g_engine_lock.debug_is_held());
        return {a + 10 * b + 100 * c + 1000 * d + 10000 * e, ~u64{0}};
      },
      1, 2, 3, 4, 5);
  EXPECT_EQ(r.value, 54321U);
  EXPECT_EQ(r.status, ~u64{0});
  EXPECT_FALSE(g_engine_lock.debug_is_held());
}

TEST(EngineLock, locked_call_runs_on_another_stack_and_thread_block) {
  ASSERT_TRUE(prepare_entry_stack());
  const u64 here = reinterpret_cast<u64>(__builtin_frame_address(0));
  const LockedResult r = locked_call([](u64, u64, u64, u64, u64) -> LockedResult {
    u64 thread_pointer;
    asm("movq %%fs:0, %0" : "=r"(thread_pointer));
    return {reinterpret_cast<u64>(__builtin_frame_address(0)), thread_pointer};
  });
  EXPECT_GT(r.value > here ? r.value - here : here - r.value, u64{1} << 20);
  EXPECT_NE(r.status, static_cast<u64>(pthread_self()));
  EXPECT_EQ(errno = 0, 0);  // our own thread block is back
}

TEST(EngineLock, excludes_threads_of_both_kinds) {
  ASSERT_TRUE(prepare_entry_stack());
  g_counter = 0;
  constexpr u64 kRounds = 20'000;
  const auto add = [](void*) -> void* {
    for (u64 i = 0; i < kRounds; ++i) {
      locked_call([](u64, u64, u64, u64, u64) -> LockedResult {
        const u64 before = *const_cast<volatile u64*>(&g_counter);
        *const_cast<volatile u64*>(&g_counter) = before + 1;
        return {0, 0};
      });
    }
    return nullptr;
  };
  pthread_t threads[3];
  for (pthread_t& t : threads) ASSERT_EQ(pthread_create(&t, nullptr, add, nullptr), 0);
  EngineThread engine;
  ASSERT_TRUE(engine
                  .start(
                      [](void*) {
                        for (u64 i = 0; i < kRounds; ++i) {
                          EngineGuard guard;
                          ++g_counter;
                        }
                      },
                      nullptr, "spillway/test", nullptr, 0)
                  .ok());
  for (pthread_t& t : threads) pthread_join(t, nullptr);
  engine.join();
  EXPECT_EQ(g_counter, 4 * kRounds);
}

// A thread whose stack, thread block and rseq area lie in the managed region, which the "engine"
// takes away as often as it can, under the lock: each touch under the lock would deadlock.
struct Thief final : FaultSink {
  HostMachine* host = nullptr;
  u64 first = 0;  // vpn of the first stack page; page i is backed by frame i
  u32 pages = 0;
  std::atomic<bool> stop{false};
  bool mapped[256] = {};
  u64 stolen = 0;

  FaultOutcome on_fault(SpaceId space, VirtAddr va, Access, u32) override {
    const u64 page = va.vpn().v - first;
    if (page >= pages) return FaultOutcome::maperr;
    if (!mapped[page])
      host->mmu().map(space, addr_of(va.vpn()), Pfn(static_cast<u32>(page)), 1, Prot::read_write);
    mapped[page] = true;
    return FaultOutcome::done;
  }
  void steal() {
    for (u32 i = 0; i < pages; ++i) {
      const Pfn frame(i);
      if (!mapped[i]) continue;
      if (host->mmu().unmap(SpaceId(1), addr_of(Vpn(first + i)), &frame, 1, Prot::read_write) ==
          1) {
        mapped[i] = false;
        ++stolen;
      }
    }
  }
};

TEST(EngineLock, a_thread_may_lose_its_stack_at_any_time) {
  constexpr u32 kPages = 64;
  TestMachine test(kPages);
  Thief thief;
  thief.host = &test.host;
  thief.first = test.host.region().start.v + 16;
  thief.pages = kPages;
  {
    EngineGuard guard;
    ASSERT_EQ(test.host.frames().acquire_quota(PageCount(kPages)).v, kPages);
    ASSERT_TRUE(test.host.frames().bring_online(Pfn(0), PageCount(kPages)).ok());
    test.port.sink = &thief;
  }
  // libc puts the thread block at the top of the stack that it is given.
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  ASSERT_EQ(pthread_attr_setstack(&attributes, reinterpret_cast<void*>(addr_of(Vpn(thief.first)).v),
                                  kPages * kPageSize),
            0);
  static Thief* g_thief = nullptr;
  g_thief = &thief;
  int fds[static_cast<u32>(FdRole::kCount)];
  const u32 fd_count = engine_fds(fds);
  EngineThread engine;
  ASSERT_TRUE(engine
                  .start(
                      [](void* argument) {
                        Thief* self = static_cast<Thief*>(argument);
                        while (!self->stop.load(std::memory_order_acquire)) {
                          {
                            EngineGuard guard;
                            self->steal();
                          }
                          sys::call(SYS_sched_yield);
                        }
                      },
                      &thief, "spillway/test", fds, fd_count)
                  .ok());
  pthread_t thread;
  ASSERT_EQ(pthread_create(
                &thread, &attributes,
                [](void*) -> void* {
                  for (u64 i = 0; i < 20'000; ++i) {
                    volatile u64 local = i;
                    const LockedResult r = locked_call(
                        [](u64 a, u64, u64, u64, u64) -> LockedResult {
                          // All pages of this very thread go while it holds the lock.
                          g_thief->steal();
                          // Long enough to be preempted now and then: the kernel's rseq write.
                          if (a % 64 == 0) sys::call(SYS_sched_yield);
                          return {a * 3, 7};
                        },
                        i);
                    if (r.value != i * 3 || r.status != 7 || local != i) return &g_counter;
                  }
                  return nullptr;
                },
                nullptr),
            0);
  void* wrong = nullptr;
  pthread_join(thread, &wrong);
  thief.stop.store(true);
  engine.join();
  EXPECT_EQ(wrong, nullptr);
  EXPECT_GT(thief.stolen, 20'000U);
  pthread_attr_destroy(&attributes);
  EngineGuard guard;
  test.port.sink = nullptr;
}

TEST(EngineThread, has_files_signals_and_a_name_of_its_own) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  struct Report {
    int keep;
    int drop;
    i64 kept;
    i64 dropped;
    u64 blocked;
    char name[16];
    i32 tid;
  } report = {};
  report.keep = pipe_fds[1];
  report.drop = pipe_fds[0];
  EngineThread thread;
  ASSERT_TRUE(thread
                  .start(
                      [](void* argument) {
                        Report* r = static_cast<Report*>(argument);
                        r->kept = sys::call(SYS_fcntl, r->keep, 1 /* F_GETFD */);
                        r->dropped = sys::call(SYS_fcntl, r->drop, 1 /* F_GETFD */);
                        r->blocked = sys::block_signals();
                        sys::call(SYS_prctl, 16 /* PR_GET_NAME */, r->name);
                        r->tid = sys::gettid();
                      },
                      &report, "spillway/test", &report.keep, 1)
                  .ok());
  thread.join();
  EXPECT_GE(report.kept, 0);
  EXPECT_EQ(report.dropped, sys::kBadFd);
  EXPECT_EQ(report.blocked | (1U << 8) | (1U << 18), ~u64{0});  // all but SIGKILL and SIGSTOP
  EXPECT_STREQ(report.name, "spillway/test");
  EXPECT_NE(report.tid, getpid());
  // The program's own descriptors are untouched, and the signal mask too.
  EXPECT_GE(fcntl(pipe_fds[0], F_GETFD), 0);
  sigset_t mask;
  sigprocmask(SIG_SETMASK, nullptr, &mask);
  EXPECT_EQ(sigismember(&mask, SIGTERM), 0);
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}

}  // namespace
}  // namespace spillway
