#include "machine_host/host_frames.h"

#include <sys/mman.h>

#include "machine_host/stop.h"
#include "machine_host/syscalls.h"
#include "machine_host/uffd.h"

namespace spillway {
namespace {

// Frames that one COPY fills: large enough to hide the cost of the call, small enough that the
// kernel's locks are not held for long.
constexpr u64 kZeroBytes = u64{64} * kPageSize;

}  // namespace

Status HostFrames::prepare(PageCount count, Ledger& ledger, LedgerProcess& self) {
  const i64 at = sys::mmap(0, count.bytes(), PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  if (sys::failed(at)) return Error::no_memory;
  const i64 zeros = sys::mmap(0, kZeroBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
  if (sys::failed(zeros)) {
    sys::munmap(static_cast<u64>(at), count.bytes());
    return Error::no_memory;
  }
  base_ = reinterpret_cast<u8*>(at);
  count_ = count;
  zeros_ = static_cast<u64>(zeros);
  ledger_ = &ledger;
  self_ = &self;
  // A huge page would be split at its first MOVE; a process forked behind our back must crash
  // rather than read an arena without its manager.
  sys::madvise(start(), length(), MADV_NOHUGEPAGE);
  sys::madvise(start(), length(), MADV_DONTFORK);
  return kOk;
}

void HostFrames::unprepare() {
  if (base_ == nullptr) return;
  sys::munmap(start(), length());
  sys::munmap(zeros_, kZeroBytes);
  base_ = nullptr;
  count_ = PageCount(0);
}

i64 HostFrames::register_with(int uffd) {
  uffd_ = uffd;
  return uffd_register(uffd, start(), length());
}

bool HostFrames::wait_for_quota(PageCount count, u64 timeout_ns) {
  constexpr u64 kStepNs = 1'000'000;
  for (u64 waited_ns = 0;; waited_ns += kStepNs) {
    const u64 missing = count.v - granted_ahead_;
    granted_ahead_ += ledger_acquire(*ledger_, *self_, missing);
    if (granted_ahead_ >= count.v) return true;
    if (waited_ns >= timeout_ns) return false;
    // Frames of processes that have just died come back only if somebody looks.
    ledger_reap_dead(*ledger_);
    const sys::TimeSpec step = sys::time_spec(kStepNs);
    sys::call(SYS_nanosleep, &step, nullptr);
  }
}

PageCount HostFrames::acquire_quota(PageCount want) {
  const u64 ahead = want.v < granted_ahead_ ? want.v : granted_ahead_;
  granted_ahead_ -= ahead;
  if (ahead == want.v) return want;
  return PageCount(ahead + ledger_acquire(*ledger_, *self_, want.v - ahead));
}

void HostFrames::release_quota(PageCount count) { ledger_release(*ledger_, *self_, count.v); }

PageCount HostFrames::quota_wanted_back() {
  const u32 sequence = ledger_->need_sequence.load(std::memory_order_acquire);
  if (sequence == need_seen_ && !need_open_) return PageCount(0);
  need_seen_ = sequence;
  const u64 wanted = ledger_wanted_back(*ledger_, *self_);
  need_open_ = wanted > 0;
  return PageCount(wanted);
}

Status HostFrames::fill_with_zeros(u64 start, u64 bytes) {
  u64 done = 0;
  while (done < bytes) {
    const u64 part = bytes - done < kZeroBytes ? bytes - done : kZeroBytes;
    const UffdProgress got = uffd_copy(uffd_, start + done, zeros_, part, WakeMode::do_not_wake);
    if (got.result == 0) {
      done += part;
    } else if (got.result == sys::kAgain) {
      if (got.progress > 0) done += static_cast<u64>(got.progress);
    } else if (got.result == sys::kBadFd) {
      stop_internal("the program closed file descriptors that are not its own", start);
    } else if (got.result == sys::kExists) {
      stop_internal("a frame that should be empty is not", start + done, done);
    } else {
      // Only what we brought ourselves is taken back: nothing was there before.
      if (done > 0) sys::madvise(start, done, MADV_DONTNEED);
      return Error::no_memory;
    }
  }
  return kOk;
}

Status HostFrames::bring_online(Pfn first, PageCount count) {
  SPW_ASSERT_LE(u64{first.v} + count.v, count_.v);
  // COPY of zeros and not ZEROPAGE: the shared zero page cannot be moved.
  return fill_with_zeros(home(first), count.bytes());
}

void HostFrames::take_offline(Pfn first, PageCount count) {
  SPW_ASSERT_LE(u64{first.v} + count.v, count_.v);
  const i64 result = sys::madvise(home(first), count.bytes(), MADV_DONTNEED);
  if (result != 0) stop_internal("frames could not be given back", home(first), count.v);
}

}  // namespace spillway
