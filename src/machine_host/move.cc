#include "machine_host/move.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "machine_host/stop.h"
#include "machine_host/syscalls.h"

namespace spillway {
namespace {

// EAGAIN means that a lock was contended or a page table changed under the kernel's hands. It
// was never seen more than twice in a row; a thousand means that something else is wrong.
constexpr u32 kAgainMax = 1000;
// A touched page can be shared again only by another fork, which the engine lock excludes. The
// third failure means a pin.
constexpr u32 kBusyMax = 3;

bool present_by_mincore(u64 page) {
  u8 state = 0;
  return sys::mincore(page, kPageSize, &state) == 0 && (state & 1) != 0;
}

// Breaks sharing after a fork by a write that leaves the byte alone even if the program writes
// it at the same moment.
void touch_by_or(u64 page) { asm volatile("lock orb $0, (%0)" : : "r"(page) : "memory", "cc"); }

UffdProgress move_without_wake(int fd, u64 to, u64 from, u64 bytes) {
  return uffd_move(fd, to, from, bytes, WakeMode::do_not_wake);
}

}  // namespace

const MoveKernel kRealMoveKernel = {move_without_wake, present_by_mincore, touch_by_or};

const char* name_of(MoveStop stop) {
  switch (stop) {
    case MoveStop::none: return "moved";
    case MoveStop::busy: return "busy";
    case MoveStop::differs: return "differs";
    case MoveStop::vanished: return "vanished";
    case MoveStop::occupied: return "occupied";
    case MoveStop::stuck: return "stuck";
  }
  return "?";
}

MoveResult Mover::move(u64 to, u64 from, u64 pages) {
  u64 done = 0;
  u32 again = 0;
  while (done < pages) {
    const u64 offset = done << kPageShift;
    const u64 left = (pages - done) << kPageShift;
    const UffdProgress got = kernel_->move(uffd_, to + offset, from + offset, left);
    if (got.result == 0) {
      done = pages;
      break;
    }
    counters_->add(Counter::move_retry);
    if (got.result == sys::kAgain) {
      if (got.progress > 0) {
        done += static_cast<u64>(got.progress) >> kPageShift;
        again = 0;
      } else if (++again > kAgainMax) {
        return {done, MoveStop::stuck, got.result};
      }
      continue;
    }
    if (got.result == sys::kExists) {
      // The kernel cannot be believed about progress here.
      const MoveResult rest = recount(to + offset, from + offset, pages - done);
      return {done + rest.pages, rest.stop, rest.error};
    }
    // The first page of what is left is the one that failed.
    const MoveResult one = move_one(to + offset, from + offset);
    if (one.stop != MoveStop::none) return {done, one.stop, one.error};
    ++done;
  }
  if (paranoid_) {
    for (u64 i = 0; i < pages; ++i) {
      const u64 offset = i << kPageShift;
      if (kernel_->present(from + offset) || !kernel_->present(to + offset)) {
        stop_internal("a page moved without moving", from + offset, to + offset);
      }
    }
  }
  return {done, MoveStop::none, 0};
}

MoveResult Mover::recount(u64 to, u64 from, u64 pages) {
  for (u64 i = 0; i < pages; ++i) {
    const u64 offset = i << kPageShift;
    const MoveResult one = move_one(to + offset, from + offset);
    if (one.stop != MoveStop::none) return {i, one.stop, one.error};
  }
  return {pages, MoveStop::none, 0};
}

MoveResult Mover::move_one(u64 to, u64 from) {
  u32 again = 0;
  u32 busy = 0;
  for (;;) {
    const UffdProgress got = kernel_->move(uffd_, to, from, kPageSize);
    if (got.result == 0) return {1, MoveStop::none, 0};
    counters_->add(Counter::move_retry);
    // Nothing is ever at the destination before a move, so a page that is there and no longer
    // at its source was moved by this call or by one whose answer was wrong.
    if (!kernel_->present(from) && kernel_->present(to)) {
      if (got.result != sys::kAgain) counters_->add(Counter::move_eexist);
      return {1, MoveStop::none, 0};
    }
    switch (got.result) {
      case sys::kAgain:
        if (got.progress == static_cast<i64>(kPageSize)) return {1, MoveStop::none, 0};
        if (++again > kAgainMax) return {0, MoveStop::stuck, got.result};
        continue;
      case sys::kExists:
        return {0, kernel_->present(from) ? MoveStop::occupied : MoveStop::vanished, got.result};
      case sys::kBusy:
        if (++busy > kBusyMax) return {0, MoveStop::busy, got.result};
        // Touching a page that is not there would wait for the handler: for ourselves.
        if (!kernel_->present(from)) return {0, MoveStop::vanished, got.result};
        kernel_->touch(from);
        continue;
      case sys::kNoEntry:
        // A page that the kernel is migrating looks absent for a moment.
        if (kernel_->present(from) && ++again <= kAgainMax) continue;
        return {0, kernel_->present(from) ? MoveStop::differs : MoveStop::vanished, got.result};
      case sys::kBadFd:
        stop_internal("the program closed file descriptors that are not its own", from, to);
      default: return {0, MoveStop::differs, got.result};
    }
  }
}

}  // namespace spillway
