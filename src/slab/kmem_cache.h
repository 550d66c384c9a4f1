// KmemCache: objects of one size, cut from slabs of 2^order frames, with a magazine of free objects
// per slot in front of them.
//
// An allocation pops the slot's magazine; when that is empty, a batch of objects moves from the
// depot or the slabs into it; when no slab has a free object, the cache grows by a slab. A free
// pushes; a full magazine first gives a batch back, to the depot while that has room, else to the
// slabs. The depot (Bonwick's; Linux's shared array) is a stack of free objects that all slots
// share: a batch enters and leaves it as a copy of pointers, without a look at its slabs. Partial
// slabs are used before empty ones: of the partial ones that which became partial last, of the
// empty ones the oldest (two lists in place of 2.4.0's one with a pointer into it: the same order
// without the pointer; nobody looks for a full slab, so full ones are on no list). Slabs whose
// objects are all free stay until reap, shrink or empty_max take them; objects in magazines and
// depot keep their slab.
//
// Every frame of a slab leads to it (Page::private_data), so free needs no size and a foreign
// pointer is recognised. What is found, and when, is told at SlabCheck.
//
// Slots: a magazine has no lock. With SlabLocking::own, calls that name a slot must be made by the
// one thread that owns the slot at that time; different slots may be used at the same time, also to
// free objects that came from another slot. Whoever does not own all slots can still ask for their
// objects (request_drain): each owner gives them up at its next free.
// Growing calls PageAllocator::alloc without any lock held: use AllocFlags::atomic where the caller
// does not hold the engine lock. With may_reclaim the same cache may be re-entered meanwhile.
//
// Invariants: I27 objects in use + free = objects per slab; every frame of a slab is counted.
// Cost: alloc and free O(1), and per batch one lock.
#pragma once

#include <bit>

#include "slab/slab.h"
#include "slab/slab_list.h"

namespace spillway {

class SlabChain;

// Which magazines the caller owns.
enum class OwnedSlots : u8 { none, all };

class KmemCache {
 public:
  static constexpr u32 kSlotsMax = 64;

  KmemCache() = default;
  KmemCache(const KmemCache&) = delete;
  KmemCache& operator=(const KmemCache&) = delete;

  // Joins the chain. What SlabLayout cannot serve and names that are there already are bugs.
  // no_memory, wait: no frames for the magazines; without magazines it cannot fail.
  Status init(SlabChain& chain, const KmemCacheConfig& config, AllocFlags flags = kAllocKernel);
  // Leaves the chain and gives everything back. busy: objects are still in use; the cache goes on
  // as if nothing had happened, and SlabChain::refused() names it. Owner of all slots.
  Status destroy();

  // One object: constructed, zeroed or undefined, as configured; AllocFlags::zero asks for zeroes.
  // no_memory, or wait (see PageAllocator::alloc).
  Result<void*> alloc(AllocFlags flags, u32 slot = 0) {
    if (!flags.zero) [[likely]] {
      if (void* object = pop(fast(slot))) return object;
    }
    return alloc_slow(flags, slot);
  }
  // `object` came from this cache and is not free already.
  void free(void* object, u32 slot = 0) {
    if (!push(fast(slot), object)) free_slow(object, slot);
  }

  // Gives all slabs without objects in use back (kmem_cache_shrink), after emptying the depot and
  // the magazines that the caller owns and asking the owners of the others; returns how many slabs
  // went.
  u32 shrink(OwnedSlots owned = OwnedSlots::all);
  // Moves what the slot's magazine holds back to the slabs. Owner of the slot.
  void drain(u32 slot);
  // Makes the owners of all slots give their objects back. Any thread.
  void request_drain();

  const char* name() const { return config_.name; }
  const KmemCacheConfig& config() const { return config_; }
  const SlabLayout& layout() const { return layout_; }
  u32 object_size() const { return config_.size; }
  u32 objects_per_slab() const { return layout_.objects; }
  bool off_slab() const { return layout_.header == 0; }
  // The counts are exact while nobody else uses the cache. While others do, an object that goes
  // from one slot to another meanwhile may be seen in both, or in none.
  u64 objects_active() const { return active_of(objects_cached()); }
  u64 objects_cached() const;
  u64 slabs() const { return slabs_.load(std::memory_order_relaxed); }
  u64 slabs_empty() const { return empty_count_.load(std::memory_order_relaxed); }
  // Frames of slabs, magazines and depot: those with PageOwner::slab that are this cache's.
  u64 frames() const;
  // Moves what the depot holds back to the slabs, and gives its frames back. Any thread.
  void drain_depot();
  u32 limit() const { return limit_; }
  SlabInfo info() const;
  // O(objects): lists, counts, states and magazines agree; at level full, also what lies in and
  // around the objects. At quiescence.
  bool validate() const;
  // The slab that holds `object`; null if no slab of any cache does.
  static Slab* slab_of(const FrameTable& frames, const Frames& memory, const void* object) {
    const u64 delta = reinterpret_cast<u64>(object) - reinterpret_cast<u64>(memory.bytes(Pfn(0)));
    if (delta >= memory.count().bytes()) return nullptr;
    const Page& page = frames[Pfn(static_cast<u32>(delta >> kPageShift))];
    return page.owner == PageOwner::slab ? descriptor(page) : nullptr;
  }
  // For tests that break a slab.
  static Slab* debug_slab(FrameTable& frames, Pfn pfn) { return descriptor(frames[pfn]); }

 private:
  friend class SlabChain;
  friend class Kmalloc;

  // The free objects of a slot. `word` holds their number in its low 16 bits and above it the
  // allocations that the slot has served: both change in one addition.
  struct Magazine {
    static constexpr u64 kAvail = 0xffff;
    static constexpr u64 kServed = 1 << 16;
    // Written by the owner, read by anybody: relaxed, no order is meant.
    std::atomic<u64> word;
    // 0: somebody wants the objects back. Set by anybody; relaxed, since the objects move under
    // the cache's lock.
    std::atomic<u32> limit;
    u32 unused[5];
    void** entries() { return reinterpret_cast<void**>(this + 1); }

    u32 avail() const { return static_cast<u32>(word.load(std::memory_order_relaxed) & kAvail); }
  };
  static_assert(sizeof(Magazine) == 32, "with 252, 124 or 60 entries a power of two");
  // Always empty and always full, so that fast paths leave it alone.
  static Magazine kClosed;

  // A frame of the depot: pointers to free objects.
  struct DepotFrame {
    static constexpr u32 kEntries = (kPageSize - 16) / sizeof(void*);
    u32 below;  // the next frame of the list, or Pfn::kNone
    u32 count;
    u64 unused;
    void* entry[kEntries];
  };
  static_assert(sizeof(DepotFrame) == kPageSize);

  Magazine& magazine(u32 slot) const {
    SPW_DEBUG_ASSERT(slot < slots_);
    return *reinterpret_cast<Magazine*>(magazines_ + (u64{slot} << magazine_shift_));
  }
  // The slot's magazine, or kClosed when there is more to do per object than to move it.
  Magazine& fast(u32 slot) const {
    SPW_DEBUG_ASSERT(slot < slots_);
    return *reinterpret_cast<Magazine*>(fast_ + u64{slot} * fast_stride_);
  }
  static void* pop(Magazine& m) {
    const u64 word = m.word.load(std::memory_order_relaxed);
    const u64 avail = word & Magazine::kAvail;
    if (avail == 0) [[unlikely]]
      return nullptr;
    m.word.store(word + Magazine::kServed - 1, std::memory_order_relaxed);
    return m.entries()[avail - 1];
  }
  static bool push(Magazine& m, void* object) {
    const u64 word = m.word.load(std::memory_order_relaxed);
    const u64 avail = word & Magazine::kAvail;
    if (avail >= m.limit.load(std::memory_order_relaxed)) [[unlikely]]
      return false;
    m.entries()[avail] = object;
    m.word.store(word + 1, std::memory_order_relaxed);
    return true;
  }
  static Slab* descriptor(const Page& page) { return reinterpret_cast<Slab*>(page.private_data); }

  u64 active_of(u64 cached) const {
    const u64 in_use = in_use_.load(std::memory_order_relaxed);
    return in_use > cached ? in_use - cached : 0;
  }
  // The ways of what the fast paths leave alone: by the cache's magazines, or without any.
  Result<void*> alloc_slow(AllocFlags flags, u32 slot);
  void free_slow(void* object, u32 slot);
  Result<void*> alloc_cached(AllocFlags flags, u32 slot);
  void free_cached(void* object, u32 slot);
  void* take(u32 slot);
  void* take_one() SPW_REQUIRES(lock_);
  Result<void*> take_after_growing(AllocFlags flags, u32 slot);
  u32 refill(Magazine& m);
  // Take `count` objects from the top of the magazine: to the slabs; to the depot, false if that
  // has no room.
  void flush(Magazine& m, u32 count);
  bool flush_to_depot(Magazine& m, u32 count);
  bool put_to_depot(void** objects, u32 count) SPW_REQUIRES(lock_);
  bool add_depot_frame();
  u32 take_from_depot(void** out, u32 want) SPW_REQUIRES(lock_);
  void put_batch(void** objects, u32 count) SPW_REQUIRES(lock_);
  DepotFrame& depot_frame(u32 pfn) const {
    return *reinterpret_cast<DepotFrame*>(base_ + (u64{pfn} << kPageShift));
  }
  u32 take_batch(void** out, u32 want) SPW_REQUIRES(lock_);
  u32 put(Slab& slab, u32 index) SPW_REQUIRES(lock_);
  bool changes_list(u32 was) const { return was == layout_.objects || was == 1; }
  void relist(Slab& slab, u32 was) SPW_REQUIRES(lock_);
  Result<void*> alloc_direct(AllocFlags flags);
  Result<void*> alloc_locked(AllocFlags flags);
  void free_direct(void* object);
  void free_locked(void* object);
  // Unlinks up to `count` empty slabs, the newest first; a chain through Page::next.
  Pfn take_empty(u64 count) SPW_REQUIRES(lock_);
  Pfn take_surplus() SPW_REQUIRES(lock_);
  u32 release(Pfn chain);
  u32 release_empty(u64 count);

  Status init_magazines(AllocFlags flags);
  Status grow(AllocFlags flags);
  Status make_slab(AllocFlags flags, u32 colour);
  void set_up_objects(Slab& slab);
  void free_slab(Slab& slab);
  void tag_frames(Pfn first, u32 order, Slab* slab);
  void free_frames(Pfn first, u32 order);

  u8* object_at(const Slab& slab, u32 index) const {
    return slab.start + u64{index} * layout_.stride;
  }
  u8* start_of(Pfn first, u32 colour) const {
    const u32 unit = config_.line > layout_.align ? config_.line : layout_.align;
    return base_ + (u64{first.v} << kPageShift) + colour * unit + layout_.header + layout_.before;
  }
  // The object's slab and index; any doubt is reported.
  Slab& locate(const void* object, u32* index) const;
  bool try_locate(const void* object, Slab** slab, u32* index) const;
  // The same without a call, for kmem_cache.cc.
  bool find(const void* object, Slab** slab, u32* index) const;
  Slab& locate_here(const void* object, u32* index) const;
  void check_free(Slab& slab, u32 index);
  void check_alloc(void* object);
  // Level full: what a free or a used object must look like; null, or what is wrong.
  const char* damage(const u8* object, bool taken) const;
  void dress(u8* object, bool taken) const;
  u32 fingerprint(const u8* object) const;
  bool validate_list(const SlabList& list, u64* slabs, u64* in_use, u64* cached) const;
  bool validate_full(u64* slabs, u64* in_use, u64* cached) const;
  bool validate_place(Pfn first, u64* in_use, u64* cached) const;
  bool validate_slab(Slab& slab, u64* cached) const;
  bool validate_cached(void* const* objects, u32 count) const;
  bool validate_depot() const SPW_REQUIRES(lock_);

  // After every change of partial_.
  void note_partial() SPW_REQUIRES(lock_) {
    next_slab_ = partial_.empty() ? nullptr : descriptor((*frames_)[partial_.head()]);
  }
  Slab* open_slab() SPW_REQUIRES(lock_);
  void close_slab() SPW_REQUIRES(lock_);

  // What the fast paths read, together.
  u8* fast_ = reinterpret_cast<u8*>(&kClosed);
  u64 fast_stride_ = 0;
  u8* magazines_ = nullptr;
  u32 magazine_shift_ = 0;
  u32 slots_ = 0;
  u32 limit_ = 0;
  u32 batch_ = 0;
  // For locate.
  u8* base_ = nullptr;
  u64 bytes_ = 0;       // of all frames
  u64 reciprocal_ = 0;  // 2^40 / stride, rounded up
  SlabLayout layout_;
  // The first slab of partial_, from which the next object comes; null if there is none.
  Slab* next_slab_ SPW_GUARDED_BY(lock_) = nullptr;

  SlabChain* chain_ = nullptr;
  PageAllocator* allocator_ = nullptr;
  FrameTable* frames_ = nullptr;
  Frames* memory_ = nullptr;
  KmemCacheConfig config_;
  Pfn magazine_first_;
  u32 magazine_order_ = 0;
  KmemCache* next_ = nullptr;  // in the chain

  bool own_lock_ = false;
  // mutable: views and validate() take it too.
  mutable SpinLock<Rank::slab> lock_;
  SlabList partial_ SPW_GUARDED_BY(lock_);
  SlabList empty_ SPW_GUARDED_BY(lock_);
  u32 colour_next_ SPW_GUARDED_BY(lock_) = 0;
  u32 growing_ SPW_GUARDED_BY(lock_) = 0;
  bool grown_ SPW_GUARDED_BY(lock_) = false;  // since reap last looked
  u64 high_mark_ SPW_GUARDED_BY(lock_) = 0;
  u64 grown_count_ SPW_GUARDED_BY(lock_) = 0;
  u64 reaped_ SPW_GUARDED_BY(lock_) = 0;
  u64 errors_ SPW_GUARDED_BY(lock_) = 0;
  u64 allocs_direct_ SPW_GUARDED_BY(lock_) = 0;  // not through a magazine
  // Frames of the depot: a stack with objects in each, and empty ones.
  u32 depot_top_ SPW_GUARDED_BY(lock_) = Pfn::kNone;
  u32 depot_spare_ SPW_GUARDED_BY(lock_) = Pfn::kNone;
  // Written under the lock, read anywhere.
  std::atomic<u64> depot_count_{0};   // objects
  std::atomic<u32> depot_frames_{0};  // may exceed the limit by what threads add at once
  std::atomic<u64> in_use_{0};        // objects that are not in their slab
  std::atomic<u64> slabs_{0};
  std::atomic<u64> empty_count_{0};
};

}  // namespace spillway
