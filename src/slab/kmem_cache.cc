// The ways of an object: magazine, slab, and back. Growing and giving back: kmem_cache_slabs.cc.
#include "slab/kmem_cache.h"

#include <cstring>

namespace spillway {

constinit KmemCache::Magazine KmemCache::kClosed{};

[[gnu::always_inline]] inline bool KmemCache::find(const void* object, Slab** slab,
                                                   u32* index) const {
  const u64 place = reinterpret_cast<u64>(object) - reinterpret_cast<u64>(base_);
  if (place >= bytes_) return false;
  const Page& page = (*frames_)[Pfn(static_cast<u32>(place >> kPageShift))];
  if (page.owner != PageOwner::slab) return false;
  *slab = descriptor(page);
  if (*slab == nullptr || (*slab)->cache != this) return false;
  const u64 delta = reinterpret_cast<u64>(object) - reinterpret_cast<u64>((*slab)->start);
  if (delta >= kObjectSizeMax) return false;
  // Exact: delta and stride are at most 2^17, so the error stays below 2^-6 of an object.
  const u64 at = (delta * reciprocal_) >> 40;
  *index = static_cast<u32>(at);
  return at * layout_.stride == delta && at < layout_.objects;
}

bool KmemCache::try_locate(const void* object, Slab** slab, u32* index) const {
  return find(object, slab, index);
}

[[gnu::always_inline]] inline Slab& KmemCache::locate_here(const void* object, u32* index) const {
  Slab* slab = nullptr;
  if (!find(object, &slab, index)) [[unlikely]] {
    slab_bug(slab == nullptr       ? "foreign pointer"
             : slab->cache != this ? "object of another cache"
                                   : "pointer into the middle",
             name(), object);
  }
  return *slab;
}

Slab& KmemCache::locate(const void* object, u32* index) const { return locate_here(object, index); }

Result<void*> KmemCache::alloc_slow(AllocFlags flags, u32 slot) {
  return limit_ == 0 ? alloc_direct(flags) : alloc_cached(flags, slot);
}

void KmemCache::free_slow(void* object, u32 slot) {
  return limit_ == 0 ? free_direct(object) : free_cached(object, slot);
}

[[gnu::noinline]] Result<void*> KmemCache::alloc_cached(AllocFlags flags, u32 slot) {
  SPW_ASSERT(config_.ctor == nullptr || !flags.zero);
  void* object = take(slot);
  if (object == nullptr) [[unlikely]] {
    SPW_TRY_ASSIGN(grown, take_after_growing(flags, slot));
    object = grown;
  }
  if (config_.check != SlabCheck::none) check_alloc(object);
  if (config_.zero || flags.zero) std::memset(object, 0, config_.size);
  return object;
}

Result<void*> KmemCache::take_after_growing(AllocFlags flags, u32 slot) {
  for (;;) {
    const Status grown = grow(flags);
    // Even where it failed: reclaim may have freed objects of this cache. Where it did not, others
    // may have taken all of the new slab.
    if (void* object = take(slot)) return object;
    if (!grown.ok()) {
      GuardIf guard(own_lock_, lock_);
      ++errors_;
      return grown.error();
    }
  }
}

// Returns how many objects were in use; who calls sees to the lists then.
[[gnu::always_inline]] inline u32 KmemCache::put(Slab& slab, u32 index) {
  u16& state = slab.state(index);
  if (state == Slab::kFree) [[unlikely]]
    slab_bug("double free", name(), object_at(slab, index));
  const u32 was = slab.in_use;
  SPW_ASSERT_LT(0u, was);
  state = Slab::kFree;
  slab.in_use = static_cast<u16>(was - 1);
  slab.stack(was - 1) = static_cast<u16>(index);
  return was;
}

// The slab with `was` objects in use lost one, its first or its last.
//
// A slab that became empty stays on the partial list while it is the only one that has free
// objects: it would be the next to be used from the empty list too, and an object that comes and
// goes moves no slab. It counts as empty; as soon as another slab becomes partial, it goes where it
// belongs, as the oldest empty one.
void KmemCache::relist(Slab& slab, u32 was) {
  const Pfn first(slab.first);
  if (was == layout_.objects) {
    if (next_slab_ != nullptr && next_slab_->in_use == 0) {
      partial_.remove(*frames_, Pfn(next_slab_->first));
      empty_.push_front(*frames_, Pfn(next_slab_->first));
    }
    partial_.push_front(*frames_, first);
    next_slab_ = &slab;
  }
  if (was != 1) return;
  empty_count_.store(slabs_empty() + 1, std::memory_order_relaxed);
  if (next_slab_ == &slab && partial_.tail() == first && empty_.empty()) return;
  partial_.remove(*frames_, first);
  empty_.push_back(*frames_, first);
  note_partial();
}

// The oldest empty slab becomes a partial one, about to lose an object; null if there is none.
inline Slab* KmemCache::open_slab() {
  const Pfn first = empty_.head();
  if (!first.valid()) return nullptr;
  empty_.remove(*frames_, first);
  partial_.push_front(*frames_, first);
  note_partial();
  return next_slab_;
}

// The first partial slab lost its last free object: full slabs are on no list.
inline void KmemCache::close_slab() {
  partial_.remove(*frames_, partial_.head());
  note_partial();
}

[[gnu::always_inline]] inline void* KmemCache::take_one() {
  Slab* slab = next_slab_;
  if (slab == nullptr) [[unlikely]] {
    slab = open_slab();
    if (slab == nullptr) return nullptr;
  }
  const u32 at = slab->in_use;
  SPW_ASSERT_LT(at, layout_.objects);
  const u32 index = slab->stack(at);
  SPW_ASSERT_LT(index, layout_.objects);
  slab->state(index) = Slab::kTaken;
  slab->in_use = static_cast<u16>(at + 1);
  void* const object = object_at(*slab, index);
  if (at == 0) [[unlikely]]
    empty_count_.store(slabs_empty() - 1, std::memory_order_relaxed);
  if (at + 1 == layout_.objects) [[unlikely]]
    close_slab();
  ++allocs_direct_;
  const u64 in_use = in_use_.load(std::memory_order_relaxed) + 1;
  in_use_.store(in_use, std::memory_order_relaxed);
  if (in_use > high_mark_) high_mark_ = in_use;
  return object;
}

// Caches without magazines. The core lives on them, so the way of an object that takes no slab from
// one list to another is short, and has no lock where the callers have one.
Result<void*> KmemCache::alloc_direct(AllocFlags flags) SPW_NO_THREAD_SAFETY {
  if (own_lock_ || config_.check == SlabCheck::full) [[unlikely]]
    return alloc_locked(flags);
  if (next_slab_ == nullptr && open_slab() == nullptr) [[unlikely]]
    return alloc_locked(flags);
  SPW_ASSERT(config_.ctor == nullptr || !flags.zero);
  void* const object = take_one();
  if (config_.zero || flags.zero) std::memset(object, 0, config_.size);
  return object;
}

// The same with lock, checks or growth.
Result<void*> KmemCache::alloc_locked(AllocFlags flags) {
  SPW_ASSERT(config_.ctor == nullptr || !flags.zero);
  void* object = take(0);
  if (object == nullptr) {
    SPW_TRY_ASSIGN(grown, take_after_growing(flags, 0));
    object = grown;
  }
  if (config_.check == SlabCheck::full) check_alloc(object);
  if (config_.zero || flags.zero) std::memset(object, 0, config_.size);
  return object;
}

void KmemCache::free_direct(void* object) SPW_NO_THREAD_SAFETY {
  if (own_lock_ || config_.check == SlabCheck::full) [[unlikely]]
    return free_locked(object);
  u32 index = 0;
  Slab& slab = locate_here(object, &index);
  const u32 was = put(slab, index);
  in_use_.store(in_use_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
  if (changes_list(was)) [[unlikely]] {
    relist(slab, was);
    if (was == 1 && slabs_empty() > config_.empty_max) (void)release(take_surplus());
  }
}

void KmemCache::free_locked(void* object) {
  Pfn dead;
  {
    GuardIf guard(own_lock_, lock_);
    u32 index = 0;
    Slab& slab = locate_here(object, &index);
    if (config_.check == SlabCheck::full && limit_ == 0) check_free(slab, index);
    const u32 was = put(slab, index);
    if (changes_list(was)) relist(slab, was);
    in_use_.store(in_use_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
    if (was == 1) dead = take_surplus();
  }
  (void)release(dead);
}

void* KmemCache::take(u32 slot) {
  if (limit_ != 0) {
    Magazine& m = magazine(slot);
    if (void* object = pop(m)) return object;
    return refill(m) == 0 ? nullptr : pop(m);
  }
  GuardIf guard(own_lock_, lock_);
  return take_one();
}

u32 KmemCache::refill(Magazine& m) {
  if (m.limit.load(std::memory_order_relaxed) == 0) {
    m.limit.store(limit_, std::memory_order_relaxed);
  }
  GuardIf guard(own_lock_, lock_);
  u32 got = take_from_depot(m.entries(), batch_);
  if (got == 0) got = take_batch(m.entries(), batch_);
  m.word.store(m.word.load(std::memory_order_relaxed) + got, std::memory_order_relaxed);
  return got;
}

u32 KmemCache::take_batch(void** out, u32 want) {
  const u16 state = limit_ != 0 && config_.check != SlabCheck::none ? Slab::kCached : Slab::kTaken;
  u32 got = 0;
  while (got < want) {
    Slab* const slab = next_slab_ != nullptr ? next_slab_ : open_slab();
    if (slab == nullptr) break;
    SPW_ASSERT_LT(slab->in_use, layout_.objects);
    u32 at = slab->in_use;
    if (at == 0) empty_count_.store(slabs_empty() - 1, std::memory_order_relaxed);
    for (; at < layout_.objects && got < want; ++at) {
      const u32 index = slab->stack(at);
      SPW_ASSERT_LT(index, layout_.objects);
      slab->state(index) = state;
      out[got++] = object_at(*slab, index);
    }
    slab->in_use = static_cast<u16>(at);
    if (at == layout_.objects) close_slab();
  }
  const u64 in_use = in_use_.load(std::memory_order_relaxed) + got;
  in_use_.store(in_use, std::memory_order_relaxed);
  if (in_use > high_mark_) high_mark_ = in_use;
  return got;
}

[[gnu::noinline]] void KmemCache::free_cached(void* object, u32 slot) {
  if (config_.check != SlabCheck::none) {
    u32 index = 0;
    Slab& slab = locate(object, &index);
    check_free(slab, index);
  }
  Magazine& m = magazine(slot);
  if (push(m, object)) return;
  if (m.limit.load(std::memory_order_relaxed) == 0) {
    m.limit.store(limit_, std::memory_order_relaxed);
    flush(m, m.avail());
  } else if (!flush_to_depot(m, batch_)) {
    flush(m, batch_);
  }
  // Else somebody asked for the objects again just now.
  if (!push(m, object)) free_locked(object);
}

void KmemCache::flush(Magazine& m, u32 count) {
  const u64 word = m.word.load(std::memory_order_relaxed);
  const u32 avail = static_cast<u32>(word & Magazine::kAvail);
  SPW_ASSERT_LE(count, avail);
  if (count == 0) return;
  Pfn dead;
  {
    GuardIf guard(own_lock_, lock_);
    put_batch(m.entries() + (avail - count), count);
    m.word.store(word - count, std::memory_order_relaxed);
    dead = take_surplus();
  }
  (void)release(dead);
}

void KmemCache::put_batch(void** objects, u32 count) {
  // Up to the top, so that a slab's stack hands out what the magazine would have: newest first.
  Slab* slab = nullptr;
  const u8* start = nullptr;
  for (u32 i = 0; i < count; ++i) {
    const u64 delta = static_cast<u64>(static_cast<u8*>(objects[i]) - start);
    u32 index = 0;
    // Neighbours often lie in one slab: then there is no need to look it up.
    if (slab != nullptr && delta < u64{layout_.objects} * layout_.stride) {
      index = static_cast<u32>((delta * reciprocal_) >> 40);
      if (u64{index} * layout_.stride != delta) {
        slab_bug("pointer into the middle", name(), objects[i]);
      }
    } else {
      slab = &locate(objects[i], &index);
      start = object_at(*slab, 0);
    }
    const u32 was = put(*slab, index);
    if (changes_list(was)) relist(*slab, was);
  }
  in_use_.store(in_use_.load(std::memory_order_relaxed) - count, std::memory_order_relaxed);
}

void KmemCache::drain(u32 slot) {
  if (limit_ == 0) return;
  Magazine& m = magazine(slot);
  m.limit.store(limit_, std::memory_order_relaxed);
  flush(m, m.avail());
}

void KmemCache::request_drain() {
  for (u32 slot = 0; limit_ != 0 && slot < slots_; ++slot) {
    magazine(slot).limit.store(0, std::memory_order_relaxed);
  }
}

u32 KmemCache::shrink(OwnedSlots owned) {
  if (owned == OwnedSlots::none && config_.locking == SlabLocking::own) {
    request_drain();
  } else {
    for (u32 slot = 0; slot < slots_; ++slot) drain(slot);
  }
  drain_depot();
  return release_empty(slabs_empty());
}

u64 KmemCache::objects_cached() const {
  u64 sum = 0;
  for (u32 slot = 0; limit_ != 0 && slot < slots_; ++slot) sum += magazine(slot).avail();
  return sum + depot_count_.load(std::memory_order_relaxed);
}

u64 KmemCache::frames() const {
  return (slabs() << layout_.order) + (limit_ != 0 ? u64{1} << magazine_order_ : 0) +
         depot_frames_.load(std::memory_order_relaxed);
}

}  // namespace spillway
