#include "machine_host/thread_pair.h"

#include "machine_host/syscalls.h"

namespace spillway {
namespace {

bool equal(const u64* a, const u64* b, u64 bytes) {
  for (u64 i = 0; i < bytes / sizeof(u64); ++i) {
    if (a[i] != b[i]) return false;
  }
  return true;
}

u32 cpus_in(const u64* mask, u64 bytes) {
  u32 count = 0;
  for (u64 i = 0; i < bytes / sizeof(u64); ++i) {
    count += static_cast<u32>(__builtin_popcountll(mask[i]));
  }
  return count;
}

}  // namespace

bool ThreadPair::consider(i32 tid, i32 cpu, u64 now_ns) {
  last_fault_ns_ = now_ns;
  const i32 paired = tid_.load(std::memory_order_acquire);
  if (paired == tid) return true;
  if (paired != 0) widen();
  if (tid != last_tid_) {
    last_tid_ = tid;
    streak_ = 0;
  }
  if (++streak_ < kStreak || !enabled_ || cpu < 0) return false;
  if (now_ns < hold_until_ns_.load(std::memory_order_acquire)) return false;
  streak_ = 0;
  u64 mask[kMaskWords] = {};
  const i64 bytes = sys::call(SYS_sched_getaffinity, tid, sizeof(mask), mask);
  // A thread that has one CPU only needs no help.
  if (bytes <= 0 || cpus_in(mask, static_cast<u64>(bytes)) < 2) return false;
  for (u32 i = 0; i < kMaskWords; ++i) {
    wide_[i] = mask[i];
    narrow_[i] = 0;
  }
  const u32 index = static_cast<u32>(cpu);
  if (index / 64 >= kMaskWords || (mask[index / 64] >> (index % 64) & 1) == 0) return false;
  narrow_[index / 64] = u64{1} << (index % 64);
  mask_bytes_.store(static_cast<u64>(bytes), std::memory_order_release);
  if (sys::call(SYS_sched_setaffinity, tid, bytes, narrow_) != 0) return false;
  // release: whoever takes tid_ sees the masks.
  tid_.store(tid, std::memory_order_release);
  ++pairings_;
  return true;
}

void ThreadPair::widen() {
  const i32 tid = tid_.exchange(0, std::memory_order_acq_rel);
  if (tid == 0) return;
  const u64 bytes = mask_bytes_.load(std::memory_order_acquire);
  u64 now[kMaskWords] = {};
  if (sys::call(SYS_sched_getaffinity, tid, sizeof(now), now) <= 0) return;  // it has ended
  // A mask that somebody else has set meanwhile is theirs.
  if (equal(now, narrow_, bytes)) sys::call(SYS_sched_setaffinity, tid, bytes, wide_);
}

void ThreadPair::quiet(u64 now_ns) {
  if (active() && now_ns - last_fault_ns_ >= kQuietNs) widen();
}

void ThreadPair::release(u64 now_ns) {
  hold_until_ns_.store(now_ns + kHoldNs, std::memory_order_release);
  widen();
}

void ThreadPair::restore_own() {
  const u64 bytes = mask_bytes_.load(std::memory_order_acquire);
  if (bytes == 0) return;
  u64 now[kMaskWords] = {};
  if (sys::call(SYS_sched_getaffinity, 0, sizeof(now), now) <= 0) return;
  if (equal(now, narrow_, bytes)) sys::call(SYS_sched_setaffinity, 0, bytes, wide_);
}

void ThreadPair::fork_child() {
  tid_.store(0, std::memory_order_relaxed);
  last_tid_ = 0;
  streak_ = 0;
}

}  // namespace spillway
