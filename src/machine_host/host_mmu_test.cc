// What the host's MMU does beyond the conformance suite: signals, executable pages, pinned and
// shared pages, foreign mappings, forks.
#include "machine_host/host_mmu.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cstring>

#include "machine_host/host_machine_test.h"

namespace spillway {
namespace {

sigjmp_buf g_escape;
int g_signal = 0;
void on_signal(int number) {
  g_signal = number;
  siglongjmp(g_escape, 1);
}
// The signal that reading the byte raises, or 0.
int signal_of_read(u64 address) {
  struct sigaction action = {};
  struct sigaction old_segv = {};
  struct sigaction old_bus = {};
  action.sa_handler = on_signal;
  sigaction(SIGSEGV, &action, &old_segv);
  sigaction(SIGBUS, &action, &old_bus);
  g_signal = 0;
  if (sigsetjmp(g_escape, 1) == 0) (void)*reinterpret_cast<volatile u8*>(address);
  sigaction(SIGSEGV, &old_segv, nullptr);
  sigaction(SIGBUS, &old_bus, nullptr);
  return g_signal;
}

class HostMmuTest : public testing::Test {
 protected:
  static constexpr u32 kFrames = 32;
  void SetUp() override {
    g_engine_lock.lock();
    ASSERT_EQ(frames().acquire_quota(PageCount(kFrames)).v, kFrames);
    ASSERT_TRUE(frames().bring_online(Pfn(0), PageCount(kFrames)).ok());
    g_engine_lock.unlock();
  }
  HostMmu& mmu() { return test_.host.mmu(); }
  HostFrames& frames() { return test_.host.frames(); }
  VirtAddr at(u64 page) { return VirtAddr(test_.base() + (u64{1} << 24) + page * kPageSize); }
  u8* bytes(u64 page) { return reinterpret_cast<u8*>(at(page).v); }
  void map(u64 page, u32 frame, u32 count, Prot prot = Prot::read_write) {
    EngineGuard guard;
    mmu().map(SpaceId(1), at(page), Pfn(frame), count, prot);
  }
  u32 unmap(u64 page, u32 frame, u32 count, Prot prot = Prot::read_write) {
    EngineGuard guard;
    Pfn list[kFrames];
    for (u32 i = 0; i < count; ++i) list[i] = Pfn(frame + i);
    return mmu().unmap(SpaceId(1), at(page), list, count, prot);
  }
  u64 move_fallbacks() { return test_.self->counters[Counter::move_fallback]; }

  TestMachine test_{kFrames};
};

TEST_F(HostMmuTest, an_access_that_nobody_serves_is_a_genuine_signal) {
  EXPECT_EQ(signal_of_read(at(3).v), SIGSEGV);
  EXPECT_EQ(mmu().debug_trap_count(), 1U);
  // A system call gets EFAULT instead.
  u8 byte = 0;
  EXPECT_FALSE(try_read(at(4).v, &byte, 1));
  // What is mapped there later is reachable.
  frames().bytes(Pfn(0))[0] = 99;
  map(3, 0, 1);
  EXPECT_EQ(bytes(3)[0], 99);
}

TEST_F(HostMmuTest, traps_are_bounded_and_end_where_an_area_begins) {
  for (u64 page = 0; page < 300; ++page) ASSERT_EQ(signal_of_read(at(2 * page).v), SIGSEGV);
  EXPECT_LE(mmu().debug_trap_count(), 64U);
  EngineGuard guard;
  mmu().forget_traps(at(0), PageCount(700));
  EXPECT_EQ(mmu().debug_trap_count(), 0U);
}

struct BusSink final : FaultSink {
  FaultOutcome on_fault(SpaceId, VirtAddr, Access, u32) override { return FaultOutcome::bus; }
};
TEST_F(HostMmuTest, a_page_that_cannot_be_read_back_raises_sigbus_until_it_is_replaced) {
  BusSink sink;
  test_.port.sink = &sink;
  EXPECT_EQ(signal_of_read(at(3).v), SIGBUS);
  EXPECT_EQ(signal_of_read(at(3).v), SIGBUS);
  u8 byte = 0;
  EXPECT_FALSE(try_read(at(3).v, &byte, 1));
  map(3, 0, 1);
  EXPECT_EQ(signal_of_read(at(3).v), 0);
  test_.port.sink = nullptr;
}

TEST_F(HostMmuTest, code_runs_from_pages_that_came_and_went) {
  constexpr u8 kReturn42[] = {0xb8, 42, 0, 0, 0, 0xc3};
  std::memcpy(frames().bytes(Pfn(1)), kReturn42, sizeof(kReturn42));
  for (const Prot prot : {Prot::read_exec, Prot::all}) {
    map(5, 1, 1, prot);
    EXPECT_EQ(reinterpret_cast<int (*)()>(at(5).v)(), 42);
    EXPECT_EQ(unmap(5, 1, 1, prot), 1U);
    EXPECT_EQ(std::memcmp(frames().bytes(Pfn(1)), kReturn42, sizeof(kReturn42)), 0);
  }
}

// A writer that never stops while a writable and executable page comes and goes: no write may be
// lost, which a copy beside the writer would do.
struct RwxSink final : FaultSink {
  HostMmu* mmu;
  VirtAddr va;
  bool mapped = false;
  FaultOutcome on_fault(SpaceId space, VirtAddr, Access, u32) override {
    if (!mapped) mmu->map(space, va, Pfn(2), 1, Prot::all);
    mapped = true;
    return FaultOutcome::done;
  }
};
TEST_F(HostMmuTest, no_write_to_a_writable_and_executable_page_is_lost) {
  RwxSink sink;
  sink.mmu = &mmu();
  sink.va = at(6);
  {
    EngineGuard guard;
    test_.port.sink = &sink;
    ASSERT_TRUE(mmu().protect(SpaceId(1), at(6), PageCount(1), Prot::all).ok());
  }
  struct Writer {
    volatile u64* word;
    std::atomic<bool> stop{false};
    u64 written = 0;
    bool lost = false;
  } writer;
  writer.word = reinterpret_cast<volatile u64*>(at(6).v);
  pthread_t thread;
  ASSERT_EQ(pthread_create(
                &thread, nullptr,
                [](void* argument) -> void* {
                  Writer* w = static_cast<Writer*>(argument);
                  while (!w->stop.load()) {
                    if (*w->word != w->written) w->lost = true;
                    *w->word = ++w->written;
                  }
                  return nullptr;
                },
                &writer),
            0);
  u64 unmapped = 0;
  while (unmapped < 2000) {
    sys::call(SYS_sched_yield);
    EngineGuard guard;
    if (!sink.mapped) continue;
    const Pfn frame(2);
    if (mmu().unmap(SpaceId(1), at(6), &frame, 1, Prot::all) == 1) {
      sink.mapped = false;
      ++unmapped;
    }
  }
  writer.stop.store(true);
  pthread_join(thread, nullptr);
  EXPECT_FALSE(writer.lost);
  EngineGuard guard;
  test_.port.sink = nullptr;
}

TEST_F(HostMmuTest, a_page_pinned_for_direct_io_stays_until_it_is_released) {
  const int fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_DIRECT, 0600);
  if (fd < 0) GTEST_SKIP() << "no O_DIRECT here";
  // vmsplice with SPLICE_F_GIFT takes references and no pins, io_uring is not everywhere: what
  // can be tested everywhere is that a transfer and moves of the same page do not disturb
  // each other.
  frames().bytes(Pfn(3))[17] = 42;
  map(8, 3, 1);
  EXPECT_EQ(pwrite(fd, bytes(8), kPageSize, 0), static_cast<ssize_t>(kPageSize));
  bytes(8)[17] = 1;
  EXPECT_EQ(pread(fd, bytes(8), kPageSize, 0), static_cast<ssize_t>(kPageSize));
  EXPECT_EQ(unmap(8, 3, 1), 1U);
  EXPECT_EQ(frames().bytes(Pfn(3))[17], 42);
  close(fd);
}

TEST_F(HostMmuTest, a_file_mapped_over_the_region_is_left_alone_and_taken_back) {
  const int fd = memfd_create("foreign", 0);
  ASSERT_EQ(ftruncate(fd, 2 * kPageSize), 0);
  ASSERT_EQ(pwrite(fd, "file", 4, 0), 4);
  void* mapped = mmap(bytes(10), 2 * kPageSize, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
  ASSERT_EQ(mapped, bytes(10));
  EngineGuard guard;
  mmu().mark_foreign(at(10), PageCount(2));
  bool foreign = false;
  EXPECT_EQ(mmu().foreign_run(at(8), PageCount(10), &foreign), 2U);
  EXPECT_FALSE(foreign);
  EXPECT_EQ(mmu().foreign_run(at(10), PageCount(10), &foreign), 2U);
  EXPECT_TRUE(foreign);
  EXPECT_EQ(mmu().set_fork(true), 0);
  EXPECT_EQ(mmu().set_fork(false), 0);
  EXPECT_EQ(std::memcmp(bytes(10), "file", 4), 0);
  mmu().restore(SpaceId(1), at(10), PageCount(2));
  EXPECT_EQ(mmu().foreign_run(at(10), PageCount(2), &foreign), 2U);
  EXPECT_FALSE(foreign);
  frames().bytes(Pfn(4))[0] = 44;
  mmu().map(SpaceId(1), at(10), Pfn(4), 1, Prot::read_write);
  EXPECT_EQ(bytes(10)[0], 44);
  close(fd);
}

TEST_F(HostMmuTest, scattered_frames_leave_in_any_order) {
  for (u32 i = 0; i < 8; ++i) frames().bytes(Pfn(i))[0] = static_cast<u8>(100 + i);
  const u32 order[] = {3, 4, 5, 1, 0, 7, 6, 2};
  for (u32 i = 0; i < 8; ++i) map(20 + i, order[i], 1);
  Pfn list[8];
  for (u32 i = 0; i < 8; ++i) list[i] = Pfn(order[i]);
  {
    EngineGuard guard;
    EXPECT_EQ(mmu().unmap(SpaceId(1), at(20), list, 8, Prot::read_write), 8U);
  }
  for (u32 i = 0; i < 8; ++i) EXPECT_EQ(frames().bytes(Pfn(i))[0], 100 + i);
}

// A fork by the engine: both sides see what was there, then go their own ways.
struct HomeSink final : FaultSink {
  HostMmu* mmu;
  VirtAddr base;
  bool mapped[16] = {};
  FaultOutcome on_fault(SpaceId space, VirtAddr va, Access, u32) override {
    const u64 page = (va.v - base.v) >> kPageShift;
    if (page >= 16) return FaultOutcome::maperr;
    if (!mapped[page]) {
      mmu->map(space, addr_of(va.vpn()), Pfn(static_cast<u32>(page)), 1, Prot::read_write);
    }
    mapped[page] = true;
    return FaultOutcome::done;
  }
};
HostMachine* g_host = nullptr;
LockedResult fork_now(u64, u64, u64, u64, u64) {
  bool wait = false;
  return {static_cast<u64>(g_host->fork(SIGCHLD, &wait)), wait ? 1U : 0U};
}
TEST_F(HostMmuTest, a_forked_child_has_its_own_engine_and_its_own_pages) {
  HomeSink sink;
  sink.mmu = &mmu();
  sink.base = at(0);
  g_host = &test_.host;
  test_.port.sink = &sink;
  for (u32 i = 0; i < 16; ++i) bytes(i)[5] = static_cast<u8>(i + 1);
  EXPECT_EQ(unmap(0, 0, 8), 8U);
  for (u32 i = 0; i < 8; ++i) sink.mapped[i] = false;
  const LockedResult forked = locked_call(fork_now);
  ASSERT_EQ(forked.status, 0U);
  if (forked.value == 0) {
    int code = 0;
    for (u32 i = 0; i < 16; ++i) code |= bytes(i)[5] == i + 1 ? 0 : 1;
    for (u32 i = 0; i < 16; ++i) bytes(i)[5] = 200;
    // Pages shared with the parent move too, once they are made the child's own.
    for (u32 i = 8; i < 16; ++i) code |= unmap(i, i, 1) == 1 ? 0 : 2;
    for (u32 i = 8; i < 16; ++i) code |= frames().bytes(Pfn(i))[5] == 200 ? 0 : 4;
    // Another fork below it.
    const LockedResult nested = locked_call(fork_now);
    if (nested.value == 0) _exit(bytes(2)[5] == 200 ? 0 : 1);
    int status = 0;
    waitpid(static_cast<pid_t>(nested.value), &status, 0);
    code |= status == 0 ? 0 : 8;
    _exit(code);
  }
  for (u32 i = 0; i < 8; ++i) bytes(i)[5] = 100;
  int status = 0;
  waitpid(static_cast<pid_t>(forked.value), &status, 0);
  EXPECT_EQ(status, 0);
  for (u32 i = 0; i < 16; ++i) EXPECT_EQ(bytes(i)[5], i < 8 ? 100 : i + 1);
  EXPECT_EQ(unmap(8, 8, 8), 8U);
  EngineGuard guard;
  test_.port.sink = nullptr;
}

TEST_F(HostMmuTest, a_fork_behind_the_engines_back_cannot_read_zeros) {
  frames().bytes(Pfn(0))[0] = 1;
  map(0, 0, 1);
  const pid_t pid = fork();
  if (pid == 0) {
    signal(SIGSEGV, SIG_DFL);
    _exit(*reinterpret_cast<volatile u8*>(at(0).v));
  }
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

}  // namespace
}  // namespace spillway
