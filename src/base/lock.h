// Ranked spin locks. A thread may take a lock only if its rank is higher than that of every
// lock it already holds; builds with SPW_LOCK_CHECK assert it. docs/locking.md has the order.
// Guard is the only way in. Spin locks are held for a bounded, short time: nothing that waits,
// allocates or calls upward runs under one.
#pragma once

#include <atomic>

#include "base/assert.h"
#include "base/thread_annotations.h"

namespace spillway {

// The lock order, outermost first. There is no rank "none".
enum class Rank : u8 {
  slab = 5,   // lists and counts of one object cache
  pcp = 10,   // one CPU's list of free frames
  zone = 20,  // buddy lists and counts of a zone
  leaf = 200  // protects one index or counter; nothing is taken inside
};

namespace detail {
#ifdef SPW_LOCK_CHECK
void lock_check_acquire(Rank rank);
void lock_check_release(Rank rank);
#else
inline void lock_check_acquire(Rank) {}
inline void lock_check_release(Rank) {}
#endif
}  // namespace detail

template <Rank R>
class SPW_CAPABILITY("spinlock") SpinLock {
 public:
  SpinLock() = default;
  SpinLock(const SpinLock&) = delete;
  SpinLock& operator=(const SpinLock&) = delete;

 private:
  template <Rank>
  friend class Guard;
  template <Rank>
  friend class GuardIf;

  void lock() SPW_ACQUIRE() {
    detail::lock_check_acquire(R);
    // acquire pairs with the release in unlock().
    while (held_.exchange(true, std::memory_order_acquire)) {
      while (held_.load(std::memory_order_relaxed)) __builtin_ia32_pause();
    }
  }
  void unlock() SPW_RELEASE() {
    held_.store(false, std::memory_order_release);
    detail::lock_check_release(R);
  }

  std::atomic<bool> held_{false};
};

template <Rank R>
class SPW_SCOPED_CAPABILITY Guard {
 public:
  explicit Guard(SpinLock<R>& lock) SPW_ACQUIRE(lock) : lock_(lock) { lock_.lock(); }
  ~Guard() SPW_RELEASE() { lock_.unlock(); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  SpinLock<R>& lock_;
};

// For a structure that is either used under its owner's lock or has one of its own. The analysis
// takes the lock as held in both cases.
template <Rank R>
class SPW_SCOPED_CAPABILITY GuardIf {
 public:
  GuardIf(bool own, SpinLock<R>& lock) SPW_ACQUIRE(lock) SPW_NO_THREAD_SAFETY
      : lock_(own ? &lock : nullptr) {
    if (lock_ != nullptr) lock_->lock();
  }
  ~GuardIf() SPW_RELEASE() SPW_NO_THREAD_SAFETY {
    if (lock_ != nullptr) lock_->unlock();
  }
  GuardIf(const GuardIf&) = delete;
  GuardIf& operator=(const GuardIf&) = delete;

 private:
  SpinLock<R>* lock_;
};

}  // namespace spillway
