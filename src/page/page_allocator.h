// PageAllocator: one zone of frames with watermarks, the buddy lists, per-CPU lists in front of
// them, and the share of the budget behind them.
//
// An allocation tries, in this order: the CPU's list or the buddy lists while more than
// the min watermark stays free; more frames from the budget; the CPU lists of others; reclaim (if
// the caller may). Frames under the min watermark are for memory that frees memory: reclaim
// itself and callers with AllocFlags::memalloc (I35, I37).
//
// A single frame comes from and goes to the list of the caller's CPU. Lists are filled and emptied
// in batches under the zone lock; in between, alloc and free take the list's own lock, write
// nothing that another CPU reads but the list's length, and read nothing that another CPU writes
// more often than once in a batch. Frames in lists are free ones: free_pages() counts them.
//
// Thread safety: free(), alloc_run() and the CPU lists have locks of their own. alloc() may grow
// the zone or reclaim when it runs short, so it needs the engine lock, as all that says so; with
// AllocFlags::atomic it does neither. While other threads move batches, free_pages() may leave out
// the frames on the way, never count them twice.
#pragma once

#include "base/lock.h"
#include "machine/machine.h"
#include "observe/observe.h"
#include "page/buddy.h"
#include "page/reclaimer.h"

namespace spillway {

struct Watermarks {
  PageCount min;
  PageCount low;
  PageCount high;
};

// Marks for a zone with `online` frames. min is 1/128 of it, at least 64 frames (four segments of
// the compressed pool, so that incompressible pages can be on their way to disk while memory is
// full), at most 2048, and in tiny zones an eighth. low and high are 2 and 3 times min
// (MECHANISMS 1.5).
constexpr Watermarks watermarks_for(PageCount online) {
  u64 min = online.v / 128;
  if (min < 64) min = 64;
  if (min > 2048) min = 2048;
  if (min > online.v / 8) min = online.v / 8;
  return {PageCount(min), PageCount(2 * min), PageCount(3 * min)};
}

class PageAllocator {
 public:
  static constexpr u32 kCpusMax = 64;     // more CPUs share lists: a list is a cache, not a right
  static constexpr u32 kPcpBatch = 16;    // frames moved between a CPU's list and the zone at once
  static constexpr u32 kPcpHigh = 48;     // most frames in a CPU's list: three batches
  static constexpr u32 kCacheLine = 64;   // of x86-64
  static constexpr u32 kGrowBatch = 256;  // frames brought online at once: 1 MiB, about 0.3 ms
  static constexpr u32 kRetryMax = 16;    // reclaim attempts of one allocation, as Linux

  // All frames start offline. `observer` outlives the allocator.
  //
  // A frame comes online reserved, as all RAM is when a kernel boots. grow() hands it to the free
  // lists at once, unless reserve() had set it aside before.
  void init(Machine& machine, FrameTable& frames, const Observer& observer);
  void set_reclaimer(Reclaimer& reclaimer) { reclaimer_ = &reclaimer; }
  // From now on Reclaimer::alloc_pages decides where frames come from, by rmqueue() and grow().
  void let_reclaimer_decide() { reclaimer_decides_ = true; }
  bool reclaimer_decides() const { return reclaimer_decides_; }

  // Static memory: brings [first, first + count), all offline, online as reserved frames of owner
  // boot, which are never allocated, freed, aged or scanned. Before the first grow(). no_memory:
  // the budget or the machine refused, and nothing has changed; invalid: not in the arena, or no
  // longer offline.
  Status reserve(Pfn first, PageCount count);
  // The one exception (free_initmem): reserved frames [first, first + count) become free. Each
  // frame can be released once; again is a bug.
  void release_reserved(Pfn first, PageCount count);

  // A block of 2^order isolated frames, aligned to its size. no_memory: nothing left; wait: frames
  // come free when an I/O completes.
  Result<Pfn> alloc(u32 order, AllocFlags flags);
  // A block from the CPU's list or the buddy lists, whatever the watermarks say; kNoPfn if they
  // have none. For who decides about watermarks himself.
  Pfn rmqueue(u32 order);
  // A block of 2^order frames for an object of the manager, in state kernel with the owner's tag.
  // It is given back whole, with the same order (I31).
  Result<Pfn> alloc_kernel(PageOwner owner, AllocFlags flags, u32 order = 0);
  void free_kernel(Pfn pfn, PageOwner owner, u32 order = 0);
  // Up to `want` consecutive isolated frames that can be had without reclaim and above the min
  // watermark; 0 if none.
  u32 alloc_run(u32 want, Pfn* first);
  // Gives isolated frames back; of a block that starts with a reserved frame nothing, which is
  // counted (Linux's __free_pages).
  void free(Pfn pfn, u32 order);

  // Frees frames until `want` more can be had above the min watermark, growing first. Engine lock.
  ReclaimOutcome make_room(PageCount want);

  PageCount free_pages() const { return PageCount(buddy_free() + pcp_free()); }
  // free + allocated + reserved = online, always (I1).
  PageCount online() const { return online_; }
  PageCount reserved() const { return reserved_; }
  // MemTotal: what is online and not reserved.
  PageCount managed() const { return online_ - reserved_; }
  const Watermarks& marks() const { return marks_; }
  // Fixes the marks; otherwise they follow the number of online frames.
  void set_marks(const Watermarks& marks) {
    put_marks(marks);
    fixed_marks_ = true;
  }
  bool below_low() const { return free_pages() < marks_.low; }
  bool below_high() const { return free_pages() < marks_.high; }

  // Brings up to `want` more frames online if the budget grants them; returns how many. Engine
  // lock.
  u32 grow(u32 want);
  // Takes up to `want` free frames offline and returns them to the budget; returns how many.
  u32 shrink(u32 want);

  // Enters and leaves reclaim context: allocations inside use the reserve and do not reclaim.
  void enter_reclaim() { in_reclaim_ = true; }
  void leave_reclaim() { in_reclaim_ = false; }
  bool in_reclaim() const { return in_reclaim_; }

  // While one lives, reclaim does not enter file systems: the caller is inside of one, holding
  // state that a shrinker might want (Linux's memalloc_nofs_save).
  class NoFs {
   public:
    explicit NoFs(PageAllocator& allocator) : allocator_(allocator) { ++allocator_.no_fs_; }
    ~NoFs() { --allocator_.no_fs_; }
    NoFs(const NoFs&) = delete;
    NoFs& operator=(const NoFs&) = delete;

   private:
    PageAllocator& allocator_;
  };
  bool may_enter_fs() const { return no_fs_ == 0; }

  // Takes back what CPU lists hold. Any thread.
  void drain_pcp();
  // Orders that go through CPU lists: 0, as at the start, or none (to measure what they bring).
  // Nobody else uses the allocator meanwhile.
  void use_pcp(bool on) {
    drain_pcp();
    pcp_orders_ = on ? 1 : 0;
  }
  // Adds what CPU lists counted since they last met the zone lock to Counter::pgalloc and pgfree,
  // which are exact then (Linux's vm_events_fold_cpu). Before somebody reads them. Any thread.
  void fold_counts();
  u32 blocks(u32 order) const { return buddy_.blocks(order); }
  // O(frames): I1, I2, I5. Drains nothing; at quiescence.
  bool validate();

 private:
  // A CPU's list: frames [0, count), the one that was freed last on top. An array, so that a batch
  // moves without a look at descriptors that are cold by now. In lines of its own.
  struct alignas(kCacheLine) Pcp {
    SpinLock<Rank::pcp> lock;
    std::atomic<u32> count{0};               // written under the lock, read anywhere
    u64 allocated SPW_GUARDED_BY(lock) = 0;  // since fold
    u64 freed SPW_GUARDED_BY(lock) = 0;
    u32 frames[kPcpHigh] SPW_GUARDED_BY(lock);
  };

  Pfn try_alloc(u32 order, AllocFlags flags);
  Pcp& this_pcp() {
    const u32 cpu = cpus_->current();
    return pcp_[cpu < pcp_count_ ? cpu : cpu % pcp_count_];
  }
  Pfn pcp_alloc();
  void pcp_free(Pfn pfn);
  u32 refill(Pcp& pcp) SPW_REQUIRES(pcp.lock);
  // Gives the `count` frames that have lain in the list longest back to the buddy lists.
  void spill(Pcp& pcp, u32 count) SPW_REQUIRES(pcp.lock);
  void fold(Pcp& pcp) SPW_REQUIRES(pcp.lock, zone_lock_);
  Pfn take_block(u32 order);
  Pfn take_drained(u32 order);
  Pfn rmqueue_here(u32 order);
  void check_free(Pfn pfn) const;
  void free_block(Pfn pfn, u32 order);
  Result<Pfn> alloc_slow(u32 order, AllocFlags flags);
  u32 fresh_run(u32 want);
  void put_marks(const Watermarks& marks) {
    marks_ = marks;
    pages_min_.store(marks.min.v, std::memory_order_relaxed);
  }
  void follow_managed() {
    if (!fixed_marks_) put_marks(watermarks_for(managed()));
  }
  u64 pages_min() const { return pages_min_.load(std::memory_order_relaxed); }
  void to_free_lists(Pfn first, u32 count);
  u64 buddy_free() const { return buddy_free_.load(std::memory_order_relaxed); }
  u64 pcp_free() const;
  // Whether `need` frames can go and the min watermark stays.
  bool above_min(u64 need) const {
    const u64 floor = need + pages_min();
    // The buddy lists alone mostly suffice; then the lists of others stay in their caches.
    return buddy_free() >= floor || free_pages().v >= floor;
  }
  void note_buddy() SPW_REQUIRES(zone_lock_) {
    buddy_free_.store(buddy_.free_pages().v, std::memory_order_relaxed);
  }
  bool pcp_lists_are_sound() const;

  // What every allocation reads, and next to nobody writes after boot.
  alignas(kCacheLine) Machine* machine_ = nullptr;
  Cpus* cpus_ = nullptr;
  FrameTable* frames_ = nullptr;
  const Observer* observer_ = nullptr;
  Reclaimer* reclaimer_ = nullptr;
  std::atomic<u64> pages_min_{0};  // marks_.min, for who allocates without the engine lock
  u32 pcp_count_ = 1;
  u32 pcp_orders_ = 1;  // orders below this go through CPU lists
  bool reclaimer_decides_ = false;

  // Under the engine lock.
  alignas(kCacheLine) Watermarks marks_{};
  PageCount online_;
  PageCount reserved_;
  u32 never_online_ = 0;           // frames from here on were never online
  u32 offline_head_ = Pfn::kNone;  // frames that went offline again
  u32 no_fs_ = 0;
  bool fixed_marks_ = false;
  bool in_reclaim_ = false;

  // Read by every allocation, so it does not share a line with what is written more often.
  alignas(kCacheLine) std::atomic<u64> buddy_free_{0};
  alignas(kCacheLine) SpinLock<Rank::zone> zone_lock_;
  Buddy buddy_;
  Pcp pcp_[kCpusMax];
};

}  // namespace spillway
