// The self-test of UFFDIO_MOVE: does this kernel move pages, keep their bytes, and say the truth?
#include <fcntl.h>
#include <sys/mman.h>

#include "machine_host/engine_thread.h"
#include "machine_host/handler_threads.h"
#include "machine_host/move.h"
#include "machine_host/syscalls.h"

namespace spillway {
namespace {

constexpr u64 kPages = 64;
constexpr u64 kBytes = kPages << kPageShift;

// Clears the accessed bits of the whole process again and again: what DAMON or the kernel's
// reclaim do to pages in the middle of a move. Only while a long test runs.
struct Disturber {
  std::atomic<bool> stop{false};
  EngineThread thread;

  static void main(void* argument) {
    Disturber* self = static_cast<Disturber*>(argument);
    const i64 fd = sys::open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    while (!self->stop.load(std::memory_order_acquire) && !sys::failed(fd)) {
      sys::write(static_cast<int>(fd), "1", 1);
    }
    if (!sys::failed(fd)) sys::close(static_cast<int>(fd));
  }
};

u64* stamp_of(u64 base, u64 page) {
  return reinterpret_cast<u64*>(base + (page << kPageShift) + page * 8);
}

// Moves the pages there and back, in runs of changing length, checking each round.
void run_rounds(Mover& mover, u64 home, u64 away, u64 until_ns, MoveSelfTest& test) {
  u64 round = 0;
  do {
    const u64 run = 1 + round % kPages;
    for (u64 first = 0; first < kPages; first += run) {
      const u64 count = kPages - first < run ? kPages - first : run;
      const u64 offset = first << kPageShift;
      const MoveResult out = mover.move(away + offset, home + offset, count);
      for (u64 i = first; out.stop == MoveStop::none && i < first + count; ++i) {
        if (*stamp_of(away, i) != round * kPages + i) {
          test.correct = false;
          return;
        }
        *stamp_of(away, i) = (round + 1) * kPages + i;
      }
      const MoveResult back = mover.move(home + offset, away + offset, count);
      test.pages_moved += out.pages + back.pages;
      if (out.stop != MoveStop::none || back.stop != MoveStop::none) {
        test.correct = false;
        test.error = out.stop != MoveStop::none ? out.error : back.error;
        return;
      }
    }
    ++round;
  } while (host_now_ns() < until_ns);
}

}  // namespace

MoveSelfTest move_self_test(int uffd, u64 duration_ns) {
  MoveSelfTest test;
  // Two mappings with a gap, so that the kernel does not merge them into one.
  const i64 at = sys::mmap(0, 3 * kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  if (sys::failed(at)) {
    test.error = at;
    return test;
  }
  const u64 home = static_cast<u64>(at);
  const u64 away = home + 2 * kBytes;
  sys::mprotect(home, kBytes, PROT_READ | PROT_WRITE);
  sys::mprotect(away, kBytes, PROT_READ | PROT_WRITE);
  sys::madvise(home, 3 * kBytes, MADV_NOHUGEPAGE);
  // Written before it is registered, so that no handler is needed.
  for (u64 i = 0; i < kPages; ++i) *stamp_of(home, i) = i;
  test.error = uffd_register(uffd, home, kBytes);
  if (test.error == 0) test.error = uffd_register(uffd, away, kBytes);
  if (test.error == 0) {
    const UffdProgress probe = uffd_move(uffd, away, home, kPageSize, WakeMode::do_not_wake);
    test.error = probe.result;
    test.supported = probe.result == 0;
  }
  if (test.supported) {
    Counters counters = {};
    Mover mover(uffd, counters);
    constexpr u64 kDisturbFromNs = 10'000'000;  // a start-up test is too short to be disturbed
    Disturber disturber;
    const bool disturbed =
        duration_ns >= kDisturbFromNs &&
        disturber.thread.start(Disturber::main, &disturber, "spillway/test", nullptr, 0).ok();
    test.correct = mover.move(home, away, 1).stop == MoveStop::none;
    if (test.correct) run_rounds(mover, home, away, host_now_ns() + duration_ns, test);
    disturber.stop.store(true, std::memory_order_release);
    if (disturbed) disturber.thread.join();
    test.spurious_eexist = counters[Counter::move_eexist];
  }
  sys::munmap(home, 3 * kBytes);
  return test;
}

}  // namespace spillway
