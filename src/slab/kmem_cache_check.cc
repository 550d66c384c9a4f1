// What a cache notices about its objects, and what it tells about it
#include <cstring>

#include "base/hash.h"
#include "base/prng.h"
#include "slab/kmem_cache.h"

namespace spillway {
namespace {

constexpr u64 kFingerprintSeed = 0x510bULL;

struct RedZone {
  u32 word;
  u32 check;  // taken: the word's complement; free, with a ctor: what the object looked like
};

void put_red(u8* at, u32 word, u32 check) {
  const RedZone zone{word, check};
  std::memcpy(at, &zone, sizeof zone);
}

bool is_red(const u8* at, u32 word, u32 check) {
  RedZone zone;
  std::memcpy(&zone, at, sizeof zone);
  return zone.word == word && zone.check == check;
}

bool all_bytes(const u8* from, const u8* to, u8 byte) {
  for (; from < to; ++from) {
    if (*from != byte) return false;
  }
  return true;
}

}  // namespace

// A free at level sanity or full, into a magazine (cached) or straight into the slab.
void KmemCache::check_free(Slab& slab, u32 index) {
  u8* const object = object_at(slab, index);
  u16& state = slab.state(index);
  if (state != Slab::kTaken) slab_bug("double free", name(), object);
  if (config_.check == SlabCheck::full) {
    if (const char* wrong = damage(object, true)) slab_bug(wrong, name(), object);
    dress(object, false);
  }
  if (limit_ != 0) state = Slab::kCached;
}

// An allocation at level sanity or full.
void KmemCache::check_alloc(void* object) {
  u8* bytes = static_cast<u8*>(object);
  if (limit_ != 0) {
    u32 index = 0;
    Slab& slab = locate(object, &index);
    SPW_ASSERT_EQ(slab.state(index), u16{Slab::kCached});
    slab.state(index) = Slab::kTaken;
  }
  if (config_.check == SlabCheck::full) {
    if (const char* wrong = damage(bytes, false)) slab_bug(wrong, name(), object);
    dress(bytes, true);
  }
}

u32 KmemCache::fingerprint(const u8* object) const {
  return config_.ctor == nullptr
             ? 0
             : static_cast<u32>(checksum64(object, config_.size, kFingerprintSeed));
}

void KmemCache::dress(u8* object, bool taken) const {
  const u32 word = taken ? kRedTaken : kRedFree;
  if (!taken && config_.ctor == nullptr) {
    std::memset(object, kPoison, config_.size - 1);
    object[config_.size - 1] = kPoisonEnd;
  }
  put_red(object - sizeof(RedZone), word, taken ? ~word : fingerprint(object));
  put_red(object + layout_.after, word, ~word);
}

const char* KmemCache::damage(const u8* object, bool taken) const {
  const u32 word = taken ? kRedTaken : kRedFree;
  const u8* end = object + config_.size;
  if (!all_bytes(end, object + layout_.after, kPoison) ||
      !is_red(object + layout_.after, word, ~word)) {
    return "write past the end";
  }
  const u8* red = object - sizeof(RedZone);
  if (taken || config_.ctor == nullptr) {
    if (!is_red(red, word, taken ? ~word : 0)) return "write before the object";
  } else if (!is_red(red, word, fingerprint(object))) {
    return "write after free, or before the object";
  }
  if (!taken && config_.ctor == nullptr &&
      (!all_bytes(object, end - 1, kPoison) || end[-1] != kPoisonEnd)) {
    return "write after free";
  }
  return nullptr;
}

SlabInfo KmemCache::info() const {
  // A view may be taken while others use the cache. The lock makes its counts of slabs agree;
  // magazines have none, so what comes of them is held to what can be.
  GuardIf guard(own_lock_, lock_);
  u64 allocs = allocs_direct_;
  for (u32 slot = 0; limit_ != 0 && slot < slots_; ++slot) {
    allocs += magazine(slot).word.load(std::memory_order_relaxed) / Magazine::kServed;
  }
  const u64 cached = objects_cached();
  const u64 active = active_of(cached);
  return {.name = name(),
          .objects_active = active,
          .objects_cached = cached,
          .objects_total = slabs() * layout_.objects,
          .slabs_active = slabs() - slabs_empty(),
          .slabs_total = slabs(),
          .object_size = config_.size,
          .objects_per_slab = layout_.objects,
          .pages_per_slab = 1U << layout_.order,
          .limit = limit_,
          .batch = batch_,
          .allocs = allocs,
          .frees = allocs > active ? allocs - active : 0,
          .grown = grown_count_,
          .reaped = reaped_,
          .high_mark = high_mark_,
          .errors = errors_,
          .frames = frames()};
}

bool KmemCache::validate_slab(Slab& slab, u64* cached) const {
  // The stack holds each free object once: as many, and the same sum of their scrambled numbers.
  u64 free_sum = 0;
  u64 stack_sum = 0;
  u32 free_count = 0;
  for (u32 i = 0; i < layout_.objects; ++i) {
    const u16 state = slab.state(i);
    if (state > Slab::kCached) return false;
    if (state == Slab::kFree) {
      ++free_count;
      free_sum += mix64(i);
    }
    if (state == Slab::kCached) ++*cached;
    if (i >= slab.in_use) {
      if (slab.stack(i) >= layout_.objects) return false;
      stack_sum += mix64(slab.stack(i));
    }
    if (config_.check == SlabCheck::full &&
        damage(object_at(slab, i), state == Slab::kTaken) != nullptr) {
      return false;
    }
  }
  return free_count + slab.in_use == layout_.objects && free_sum == stack_sum;
}

bool KmemCache::validate_place(Pfn first, u64* in_use, u64* cached) const {
  const Page& page = (*frames_)[first];
  if (page.owner != PageOwner::slab) return false;
  Slab* slab = descriptor(page);
  if (slab == nullptr || slab->cache != this || slab->first != first.v) return false;
  if (slab->start != start_of(first, slab->colour) || slab->in_use > layout_.objects) return false;
  for (u32 i = 1; i < (1U << layout_.order); ++i) {
    const Page& tail = (*frames_)[first + i];
    if (tail.owner != PageOwner::slab || descriptor(tail) != slab) return false;
  }
  *in_use += slab->in_use;
  return validate_slab(*slab, cached);
}

// The empty slabs or the partial ones.
bool KmemCache::validate_list(const SlabList& list, u64* slabs, u64* in_use, u64* cached) const {
  const bool empty = &list == &empty_;
  u32 before = Pfn::kNone;
  for (u32 at = list.head().v; at != Pfn::kNone; at = (*frames_)[Pfn(at)].next) {
    if ((*frames_)[Pfn(at)].prev != before || ++*slabs > slabs_) return false;
    before = at;
    if (!validate_place(Pfn(at), in_use, cached)) return false;
    const u32 used = descriptor((*frames_)[Pfn(at)])->in_use;
    if (empty ? used != 0 : used == layout_.objects) return false;
    if (!empty && used == 0 && list.head() != list.tail()) return false;
  }
  return list.tail().v == before;
}

// Full slabs are on no list: they are found by their frames, as many as the lists leave out.
bool KmemCache::validate_full(u64* slabs, u64* in_use, u64* cached) const {
  for (u32 i = 0; *slabs < slabs_ && i < frames_->count().v; ++i) {
    const Page& page = (*frames_)[Pfn(i)];
    if (page.owner != PageOwner::slab || page.private_data == 0) continue;
    const Slab& slab = *descriptor(page);
    if (slab.cache != this || slab.first != i || slab.in_use != layout_.objects) continue;
    if (page.next != Pfn::kNone || page.prev != Pfn::kNone) return false;
    if (!validate_place(Pfn(i), in_use, cached)) return false;
    ++*slabs;
  }
  return *slabs == slabs_;
}

bool KmemCache::validate_cached(void* const* objects, u32 count) const {
  const u16 state = config_.check == SlabCheck::none ? Slab::kTaken : Slab::kCached;
  for (u32 i = 0; i < count; ++i) {
    Slab* slab = nullptr;
    u32 index = 0;
    if (!try_locate(objects[i], &slab, &index) || slab->state(index) != state) return false;
  }
  return true;
}

bool KmemCache::validate() const {
  GuardIf guard(own_lock_, lock_);
  u64 slabs = 0;
  u64 in_use = 0;
  u64 cached = 0;
  if (!validate_list(empty_, &slabs, &in_use, &cached)) return false;
  const u64 idle = next_slab_ != nullptr && next_slab_->in_use == 0 ? 1 : 0;
  if (slabs + idle != empty_count_) return false;
  if (!validate_list(partial_, &slabs, &in_use, &cached)) return false;
  const Pfn next = partial_.head();
  if (next_slab_ != (next.valid() ? descriptor((*frames_)[next]) : nullptr)) return false;
  if (!validate_full(&slabs, &in_use, &cached) || in_use != in_use_) return false;
  for (u32 slot = 0; limit_ != 0 && slot < slots_; ++slot) {
    Magazine& m = magazine(slot);
    if (m.avail() > limit_) return false;
    if (!validate_cached(m.entries(), m.avail())) return false;
  }
  if (!validate_depot()) return false;
  return config_.check == SlabCheck::none || cached == objects_cached();
}

}  // namespace spillway
