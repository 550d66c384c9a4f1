// Typed events: what the engine decided, for traces, scenarios and post-mortems. Rooms emit them
// through a TraceSink; the default sink is a ring that keeps the last ones, so that a panic can
// print its own history. Emitting never allocates or waits.
#pragma once

#include "base/types.h"

namespace spillway {

// X(identifier, "room.verb", meaning of a, meaning of b)
#define SPW_EVENTS(X)                                          \
  X(fault_begin, "fault.begin", "address", "access")           \
  X(fault_end, "fault.end", "address", "outcome")              \
  X(fault_fresh, "fault.fresh", "vpn", "pfn")                  \
  X(fault_soft, "fault.soft", "vpn", "pfn")                    \
  X(fault_swap_in, "fault.swap_in", "vpn", "slot")             \
  X(reclaim_unmap, "reclaim.unmap", "pfn", "vpn")              \
  X(reclaim_evict, "reclaim.evict", "pfn", "slot")             \
  X(reclaim_refault, "reclaim.refault", "slot", "distance")    \
  X(reclaim_stall, "reclaim.stall", "wanted", "freed")         \
  X(swap_store, "swap.store", "slot", "bytes")                 \
  X(swap_spill, "swap.spill", "pool segment", "disk segment")  \
  X(swap_clean, "swap.clean", "segment", "live bytes")         \
  X(swap_corrupt, "swap.corrupt", "slot", "generation")        \
  X(swap_io_error, "swap.io_error", "place", "error")          \
  X(space_mmap, "space.mmap", "start vpn", "pages")            \
  X(space_munmap, "space.munmap", "start vpn", "pages")        \
  X(pagecache_read, "pagecache.read", "first page", "pages")   \
  X(pagecache_write, "pagecache.write", "page", "pfn")         \
  X(pagecache_io_error, "pagecache.io_error", "page", "error") \
  X(page_online, "page.online", "first pfn", "pages")          \
  X(page_offline, "page.offline", "first pfn", "pages")        \
  X(vmalloc_purge, "vmalloc.purge", "pages", "batches")        \
  X(vmalloc_bad_free, "vmalloc.bad_free", "address", "0")      \
  X(limit_hit, "limit.hit", "which", "value")

enum class EventKind : u16 {
#define X(id, name, a, b) id,
  SPW_EVENTS(X)
#undef X
      kCount
};

const char* name_of(EventKind kind);

struct Event {
  u64 sequence;
  u64 a;
  u64 b;
  EventKind kind;
};

// Receives every event; called with the engine lock held. Must not call back into the engine.
class TraceSink {
 public:
  virtual void emit(EventKind kind, u64 a, u64 b) = 0;

 protected:
  ~TraceSink() = default;
};

// Keeps the last kCapacity events.
class EventRing final : public TraceSink {
 public:
  static constexpr u32 kCapacity = 256;  // two pages of history: enough to see a whole fault

  void emit(EventKind kind, u64 a, u64 b) override {
    ring_[next_ % kCapacity] = Event{next_, a, b, kind};
    ++next_;
  }
  // Number of events kept, and the i-th of them, oldest first.
  u32 size() const { return next_ < kCapacity ? static_cast<u32>(next_) : kCapacity; }
  const Event& at(u32 i) const {
    const u64 first = next_ < kCapacity ? 0 : next_ - kCapacity;
    return ring_[(first + i) % kCapacity];
  }

 private:
  Event ring_[kCapacity] = {};
  u64 next_ = 0;
};

}  // namespace spillway
