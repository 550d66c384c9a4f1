#include "machine_host/host_mmu.h"

#include <sys/mman.h>

#include "machine_host/stop.h"
#include "machine_host/syscalls.h"

namespace spillway {
namespace {

constexpr int kSoftProt = PROT_READ | PROT_WRITE;

u32 contiguous(const Pfn* frames, u32 count) {
  u32 run = 1;
  while (run < count && frames[run].v == frames[0].v + run) ++run;
  return run;
}

}  // namespace

Status HostMmu::prepare(u64 bytes_max, u64 bytes_min) {
  i64 at = sys::kNoMemory;
  u64 bytes = bytes_max & ~kPageMask;
  for (; bytes >= bytes_min; bytes = (bytes / 2) & ~kPageMask) {
    at = sys::mmap(0, bytes, kSoftProt, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    if (!sys::failed(at)) break;
  }
  if (sys::failed(at)) return Error::no_memory;
  const u64 start = static_cast<u64>(at);
  sys::madvise(start, bytes, MADV_NOHUGEPAGE);
  sys::madvise(start, bytes, MADV_DONTFORK);
  // One byte per page of the region, backed only where a page is not soft.
  const i64 prots = sys::mmap(0, bytes >> kPageShift, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  if (sys::failed(prots)) {
    sys::munmap(start, bytes);
    return Error::no_memory;
  }
  prots_ = reinterpret_cast<u8*>(prots);
  region_ = {VirtAddr(start).vpn(), VirtAddr(start + bytes).vpn()};
  const i64 staging = sys::mmap(0, kPageSize, PROT_READ | PROT_WRITE | PROT_EXEC,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  // Without it (SELinux may forbid it) writable and executable pages simply stay resident.
  staging_ = sys::failed(staging) ? 0 : static_cast<u64>(staging);
  return kOk;
}

void HostMmu::unprepare() {
  if (prots_ == nullptr) return;
  sys::munmap(addr_of(region_.start).v, region_.pages().bytes());
  sys::munmap(reinterpret_cast<u64>(prots_), region_.pages().v);
  if (staging_ != 0) sys::munmap(staging_, kPageSize);
  prots_ = nullptr;
}

i64 HostMmu::register_with(const Uffd& uffd) {
  uffd_ = uffd.fd;
  features_ = uffd.features;
  mover_.set_uffd(uffd.fd);
  if (staging_ != 0 && uffd_register(uffd_, staging_, kPageSize) != 0) {
    sys::munmap(staging_, kPageSize);
    staging_ = 0;
  }
  return for_managed(
      [this](u64 start, u64 bytes) { return uffd_register(uffd_, start, bytes, register_mode()); });
}

// Write protection is needed only where MOVE is missing: see copy_out.
UffdMode HostMmu::register_mode() const {
  return (features_ & kUffdFeatureMove) == 0 ? UffdMode::missing_and_write_protect
                                             : UffdMode::missing;
}

template <class Fn>
i64 HostMmu::for_managed(Fn fn) const {
  const u64 base = addr_of(region_.start).v;
  u64 begin = 0;
  for (u64 i = hard_low_; i < hard_high_; ++i) {
    if (prots_[i] != kForeign) continue;
    if (i > begin) {
      const i64 result = fn(base + (begin << kPageShift), (i - begin) << kPageShift);
      if (result != 0) return result;
    }
    begin = i + 1;
  }
  const u64 end = region_.pages().v;
  return begin < end ? fn(base + (begin << kPageShift), (end - begin) << kPageShift) : 0;
}

void HostMmu::set_counters(Counters& counters) {
  counters_ = &counters;
  mover_.set_counters(counters);
}

i64 HostMmu::set_fork(bool inherit) {
  const int advice = inherit ? MADV_DOFORK : MADV_DONTFORK;
  const i64 region =
      for_managed([advice](u64 start, u64 bytes) { return sys::madvise(start, bytes, advice); });
  const i64 arena = sys::madvise(frames_.start(), frames_.length(), advice);
  return region != 0 ? region : arena;
}

void HostMmu::stop_move(const char* what, const MoveResult& result, u64 va) {
  Message m;
  m.text("stopped, because going on could give wrong data: ").text(what).text(" at ").hex(va);
  m.text(": ").text(name_of(result.stop));
  if (result.stop == MoveStop::vanished) {
    m.text("; does the program use raw system calls to unmap memory?");
  }
  stop_program(StopReason::internal, m);
}

void HostMmu::map(SpaceId, VirtAddr va, Pfn first, u32 count, Prot prot) {
  const u8 kernel_prot = kernel_prot_of(prot);
  ensure_prot(va.v, count, kernel_prot);
  if (kernel_prot != kSoft || (features_ & kUffdFeatureMove) == 0) {
    copy_in(va.v, frames_.home(first), count);
    return;
  }
  u64 done = 0;
  while (done < count) {
    const u64 at = va.v + (done << kPageShift);
    const u64 home = frames_.home(first + static_cast<u32>(done));
    const MoveResult moved = mover_.move(at, home, count - done);
    done += moved.pages;
    switch (moved.stop) {
      case MoveStop::none: break;
      case MoveStop::busy:
      case MoveStop::differs:
        // A page at home has no writer, so a copy of it is as good as itself.
        copy_in(va.v + (done << kPageShift), frames_.home(first + static_cast<u32>(done)), 1);
        ++done;
        break;
      case MoveStop::vanished:
      case MoveStop::occupied:
      case MoveStop::stuck: stop_move("mapping a page", moved, va.v + (done << kPageShift));
    }
  }
}

void HostMmu::copy_in(u64 va, u64 home, u64 pages) {
  u64 done = 0;
  const u64 bytes = pages << kPageShift;
  while (done < bytes) {
    const UffdProgress got =
        uffd_copy(uffd_, va + done, home + done, bytes - done, WakeMode::do_not_wake);
    if (got.result == 0) {
      done = bytes;
    } else if (got.result == sys::kAgain) {
      if (got.progress > 0) done += static_cast<u64>(got.progress);
    } else {
      stop_move("copying a page in", {0, MoveStop::differs, got.result}, va + done);
    }
  }
  // The frame counts once: its page now is the one at the program's address.
  if (sys::madvise(home, bytes, MADV_DONTNEED) != 0) stop_internal("a frame stayed", home, pages);
  counters_->add(Counter::move_fallback, pages);
}

u32 HostMmu::unmap(SpaceId, VirtAddr va, const Pfn* frames, u32 count, Prot prot) {
  const u8 kernel_prot = kernel_prot_of(prot);
  u32 done = 0;
  while (done < count) {
    const u32 run = contiguous(frames + done, count - done);
    const u64 at = va.v + (u64{done} << kPageShift);
    const u64 home = frames_.home(frames[done]);
    if (kernel_prot != kSoft || (features_ & kUffdFeatureMove) == 0) {
      if (!copy_out(at, home, run, kernel_prot)) return done;
      done += run;
      continue;
    }
    const MoveResult moved = mover_.move(home, at, run);
    done += static_cast<u32>(moved.pages);
    switch (moved.stop) {
      case MoveStop::none: break;
      // Pinned; or a mapping that the program locked behind our back, whose pages may be pinned
      // as well, which copying could not see: they stay.
      case MoveStop::busy:
      case MoveStop::differs: return done;
      case MoveStop::vanished:
      case MoveStop::occupied:
      case MoveStop::stuck: stop_move("unmapping a page", moved, va.v + (u64{done} << kPageShift));
    }
  }
  return done;
}

// Copies pages home and drops them at the program's address; false: not done, they stay.
bool HostMmu::copy_out(u64 va, u64 home, u64 pages, u8 kernel_prot) {
  const u64 bytes = pages << kPageShift;
  if ((kernel_prot & PROT_WRITE) != 0 && kernel_prot != kSoft) {
    for (u64 i = 0; i < pages; ++i) {
      if (stage_out(va + (i << kPageShift), home + (i << kPageShift))) continue;
      // All or nothing: what went home already comes back.
      if (i > 0) copy_in(va, home, i);
      return false;
    }
    return true;
  }
  if (kernel_prot == kSoft) {
    // A kernel without MOVE: writers are held off by write protection while the page is copied;
    // their faults come back to the handler as ordinary ones.
    if (uffd_write_protect(uffd_, va, bytes) != 0) return false;
  }
  u64 done = 0;
  while (done < bytes) {
    const UffdProgress got =
        uffd_copy(uffd_, home + done, va + done, bytes - done, WakeMode::do_not_wake);
    if (got.result == 0) {
      done = bytes;
    } else if (got.result == sys::kAgain) {
      if (got.progress > 0) done += static_cast<u64>(got.progress);
    } else {
      stop_move("copying a page out", {0, MoveStop::differs, got.result}, va + done);
    }
  }
  if (sys::madvise(va, bytes, MADV_DONTNEED) != 0) stop_internal("a page stayed", va, pages);
  if (kernel_prot == kSoft) uffd_wake(uffd_, va, bytes);
  counters_->add(Counter::move_fallback, pages);
  return true;
}

// A writable and executable page leaves in one atomic step, by MOVE, for the staging page, where
// nobody can write to it while it is copied home.
bool HostMmu::stage_out(u64 va, u64 home) {
  if (staging_ == 0 || (features_ & kUffdFeatureMove) == 0) return false;
  const MoveResult moved = mover_.move(staging_, va, 1);
  switch (moved.stop) {
    case MoveStop::none: break;
    case MoveStop::busy:
    case MoveStop::differs: return false;
    case MoveStop::vanished:
    case MoveStop::occupied:
    case MoveStop::stuck: stop_move("unmapping a page", moved, va);
  }
  const UffdProgress got = uffd_copy(uffd_, home, staging_, kPageSize, WakeMode::do_not_wake);
  if (got.result != 0) stop_move("copying a page out", {0, MoveStop::differs, got.result}, va);
  if (sys::madvise(staging_, kPageSize, MADV_DONTNEED) != 0) {
    stop_internal("the staging page stayed", staging_, va);
  }
  counters_->add(Counter::move_fallback);
  return true;
}

void HostMmu::drop(SpaceId, VirtAddr va, const Pfn* frames, u32 count, Prot prot) {
  if (kernel_prot_of(prot) != kSoft || (features_ & kUffdFeatureMove) == 0) {
    drop_by_zap(va.v, frames, count);
    return;
  }
  u32 done = 0;
  while (done < count) {
    const u32 run = contiguous(frames + done, count - done);
    const u64 at = va.v + (u64{done} << kPageShift);
    const MoveResult moved = mover_.move(frames_.home(frames[done]), at, run);
    done += static_cast<u32>(moved.pages);
    switch (moved.stop) {
      case MoveStop::none: break;
      case MoveStop::busy:
      case MoveStop::differs:
      case MoveStop::vanished:
        // Whoever holds the page keeps it; the frame gets a new one.
        drop_by_zap(va.v + (u64{done} << kPageShift), frames + done, 1);
        ++done;
        break;
      case MoveStop::occupied:
      case MoveStop::stuck: stop_move("dropping a page", moved, at);
    }
  }
}

void HostMmu::drop_by_zap(u64 va, const Pfn* frames, u32 count) {
  if (sys::madvise(va, u64{count} << kPageShift, MADV_DONTNEED) != 0) {
    stop_internal("a page stayed", va, count);
  }
  for (u32 done = 0; done < count;) {
    const u32 run = contiguous(frames + done, count - done);
    if (!frames_.fill_with_zeros(frames_.home(frames[done]), u64{run} << kPageShift).ok()) {
      Message m;
      m.text("the system has no memory left for a frame that the budget allows");
      stop_program(StopReason::exhausted, m);
    }
    done += run;
  }
  counters_->add(Counter::move_fallback, count);
}

void HostMmu::move(SpaceId space, VirtAddr from, VirtAddr to, const Pfn* frames, u32 count,
                   Prot prot) {
  const u8 kernel_prot = kernel_prot_of(prot);
  ensure_prot(to.v, count, kernel_prot);
  u32 done = 0;
  if (kernel_prot == kSoft && (features_ & kUffdFeatureMove) != 0) {
    const MoveResult moved = mover_.move(to.v, from.v, count);
    done = static_cast<u32>(moved.pages);
    if (moved.stop == MoveStop::none) return;
    // A pinned page cannot change its address without losing the transfer that holds it.
    if (moved.stop != MoveStop::differs) stop_move("moving a page", moved, from.v);
  }
  for (; done < count; ++done) {
    const VirtAddr source = from + (u64{done} << kPageShift);
    if (unmap(space, source, frames + done, 1, prot) != 1) {
      stop_move("moving a page", {0, MoveStop::busy, 0}, source.v);
    }
    map(space, to + (u64{done} << kPageShift), frames[done], 1, prot);
  }
}

void HostMmu::wake(SpaceId, VirtAddr va, PageCount count) { uffd_wake(uffd_, va.v, count.bytes()); }

}  // namespace spillway
