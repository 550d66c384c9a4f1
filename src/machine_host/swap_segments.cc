#include "machine_host/swap_segments.h"

#include <sys/mman.h>

#include "base/units.h"
#include "machine_host/syscalls.h"

namespace spillway {
namespace {

constexpr u32 kOwnerDied = 0x40000000;  // FUTEX_OWNER_DIED

// The kernel's view of a list of robust futexes: our list has one entry. It is private memory
// of the process, so a forked child starts its own in guard_with_this_thread.
struct RobustNode {
  RobustNode* next;
};
struct RobustHead {
  RobustNode list;
  i64 futex_offset;
  RobustNode* pending;
};
RobustHead g_robust_head;
RobustNode g_robust_node;

}  // namespace

Status SwapSegments::prepare(u64 segments) {
  segments_ = segments;
  words_ = (segments + 63) / 64;
  const u64 counts_at = (sizeof(Shared) + kPageMask) & ~kPageMask;
  const u64 bits_at = (counts_at + segments * sizeof(u16) + kPageMask) & ~kPageMask;
  bytes_ = bits_at + u64{kHoldersMax} * words_ * sizeof(u64);
  const i64 at =
      sys::mmap(0, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE);
  if (sys::failed(at)) return Error::no_memory;
  // All zeros, which is the right start for every field.
  u8* base = reinterpret_cast<u8*>(at);
  shared_ = reinterpret_cast<Shared*>(base);
  counts_ = reinterpret_cast<std::atomic<u16>*>(base + counts_at);
  const i32 self = take_holder();
  SPW_ASSERT_EQ(self, 0);
  self_ = 0;
  shared_->holder[self_].state.store(kLive, std::memory_order_release);
  return kOk;
}

void SwapSegments::unprepare() {
  if (shared_ == nullptr) return;
  sys::munmap(reinterpret_cast<u64>(shared_), bytes_);
  shared_ = nullptr;
}

std::atomic<u64>* SwapSegments::bits(u32 holder) const {
  const u64 counts_at = (sizeof(Shared) + kPageMask) & ~kPageMask;
  const u64 bits_at = (counts_at + segments_ * sizeof(u16) + kPageMask) & ~kPageMask;
  u8* base = reinterpret_cast<u8*>(shared_);
  return reinterpret_cast<std::atomic<u64>*>(base + bits_at) + u64{holder} * words_;
}

i32 SwapSegments::take_holder() {
  for (u32 i = 0; i < kHoldersMax; ++i) {
    u32 expected = kFree;
    Holder& h = shared_->holder[i];
    if (h.state.load(std::memory_order_relaxed) == kFree &&
        h.state.compare_exchange_strong(expected, kForking, std::memory_order_acq_rel)) {
      h.guard.store(0, std::memory_order_relaxed);
      return static_cast<i32>(i);
    }
  }
  return -1;
}

void SwapSegments::guard_with_this_thread() {
  Holder& self = shared_->holder[self_];
  g_robust_head.futex_offset =
      reinterpret_cast<i64>(&self.guard) - reinterpret_cast<i64>(&g_robust_node);
  g_robust_head.pending = nullptr;
  g_robust_node.next = &g_robust_head.list;
  g_robust_head.list.next = &g_robust_node;
  if (sys::call(SYS_set_robust_list, &g_robust_head, sizeof(g_robust_head)) != 0) return;
  // From here on the kernel marks the word when this thread ends. Where it could not be
  // arranged, the holder simply never counts as dead.
  self.guard.store(static_cast<u32>(sys::gettid()), std::memory_order_release);
}

bool SwapSegments::holds(u64 segment) const {
  const u64 word = bits(self_)[segment / 64].load(std::memory_order_relaxed);
  return (word >> (segment % 64) & 1) != 0;
}

Result<u64> SwapSegments::claim(u64 limit) {
  if (limit > segments_) limit = segments_;
  for (u64 step = 0; step < limit; ++step) {
    u64 segment = hint_ + step;
    if (segment >= limit) segment -= limit;
    if (segment >= limit) segment = step;  // the hint itself was beyond the limit
    u16 expected = 0;
    if (counts_[segment].load(std::memory_order_relaxed) != 0) continue;
    if (!counts_[segment].compare_exchange_strong(expected, 1, std::memory_order_acq_rel)) continue;
    bits(self_)[segment / 64].fetch_or(u64{1} << (segment % 64), std::memory_order_release);
    shared_->in_use.fetch_add(1, std::memory_order_relaxed);
    hint_ = segment + 1;
    return segment;
  }
  return Error::no_space;
}

// One holder less; true when that was the last.
bool SwapSegments::put(u64 segment) {
  const u16 before = counts_[segment].fetch_sub(1, std::memory_order_acq_rel);
  SPW_ASSERT_NE(before, 0);
  if (before == 1) shared_->in_use.fetch_sub(1, std::memory_order_relaxed);
  return before == 1;
}

void SwapSegments::release(u64 segment) {
  SPW_ASSERT(segment < segments_ && holds(segment));
  bits(self_)[segment / 64].fetch_and(~(u64{1} << (segment % 64)), std::memory_order_acq_rel);
  if (put(segment) && segment < hint_) hint_ = segment;  // low segments first: a compact file
}

bool SwapSegments::sole_owner(u64 segment) const {
  return holds(segment) && counts_[segment].load(std::memory_order_acquire) == 1;
}

u64 SwapSegments::in_use() const { return shared_->in_use.load(std::memory_order_relaxed); }

void SwapSegments::raise_allocated(u64 to) {
  u64 now = allocated();
  while (now < to && !shared_->allocated.compare_exchange_weak(now, to)) {
  }
}

Status SwapSegments::fork_prepare() {
  i32 child = take_holder();
  if (child < 0) {
    reap_dead();  // entries of the dead, even of those that held nothing
    child = take_holder();
  }
  if (child < 0) return Error::no_space;
  child_ = static_cast<u32>(child);
  for (u64 w = 0; w < words_; ++w) {
    const u64 mine = bits(self_)[w].load(std::memory_order_relaxed);
    for (u64 left = mine; left != 0; left &= left - 1) {
      const u64 segment = w * 64 + static_cast<u64>(__builtin_ctzll(left));
      counts_[segment].fetch_add(1, std::memory_order_acq_rel);
    }
    if (mine != 0) bits(child_)[w].store(mine, std::memory_order_release);
  }
  return kOk;
}

void SwapSegments::fork_failed() { drop_holder(child_); }

// Nothing to do: until the child has a guard, its entry counts as alive.
void SwapSegments::fork_parent() {}

void SwapSegments::fork_child() {
  self_ = child_;
  shared_->holder[self_].state.store(kLive, std::memory_order_release);
}

void SwapSegments::drop_holder(u32 holder) {
  std::atomic<u64>* map = bits(holder);
  for (u64 w = 0; w < words_; ++w) {
    u64 left = map[w].load(std::memory_order_relaxed);
    while (left != 0) {
      const u64 bit = left & ~(left - 1);
      left &= left - 1;
      map[w].fetch_and(~bit, std::memory_order_acq_rel);
      put(w * 64 + static_cast<u64>(__builtin_ctzll(bit)));
    }
  }
  shared_->holder[holder].state.store(kFree, std::memory_order_release);
}

u64 SwapSegments::reap_dead() {
  const u64 before = in_use();
  for (u32 i = 0; i < kHoldersMax; ++i) {
    Holder& h = shared_->holder[i];
    if (i == self_ || h.state.load(std::memory_order_acquire) != kLive) continue;
    if ((h.guard.load(std::memory_order_acquire) & kOwnerDied) == 0) continue;
    u32 expected = kLive;
    if (h.state.compare_exchange_strong(expected, kReaping, std::memory_order_acq_rel)) {
      drop_holder(i);
    }
  }
  const u64 after = in_use();
  return before > after ? before - after : 0;
}

}  // namespace spillway
