#include "reclaim/shrinker_list.h"

namespace spillway {
namespace {

constexpr u64 kOne = 1024;  // an object, in the unit of Shrinker::deferred_

}  // namespace

void ShrinkerList::add(Shrinker& shrinker) {
  shrinker.next_ = nullptr;
  shrinker.deferred_ = 0;
  Shrinker** end = &first_;
  while (*end != nullptr) end = &(*end)->next_;
  *end = &shrinker;
}

void ShrinkerList::remove(Shrinker& shrinker) {
  Shrinker** at = &first_;
  while (*at != nullptr && *at != &shrinker) at = &(*at)->next_;
  SPW_ASSERT(*at == &shrinker);
  *at = shrinker.next_;
}

u64 ShrinkerList::count() const {
  u64 sum = 0;
  for (const Shrinker* s = first_; s != nullptr; s = s->next_) sum += s->count_objects();
  return sum;
}

u32 ShrinkerList::priority_for(u64 scanned, u64 pages) {
  u32 priority = 0;
  while (priority < 12 && (scanned << (priority + 1)) <= pages) ++priority;
  return priority;
}

// In batches, so that one call of a shrinker is bounded.
u64 ShrinkerList::scan(Shrinker& shrinker, u64 objects) {
  u64 freed = 0;
  for (u64 left = objects; left > 0;) {
    const u64 batch = left < kBatch ? left : kBatch;
    freed += shrinker.scan_objects({batch, allocator_->may_enter_fs()});
    observer_->count(Counter::slabs_scanned, batch);
    left -= batch;
  }
  return freed;
}

u64 ShrinkerList::shrink(u32 priority) {
  u64 freed = 0;
  for (Shrinker* s = first_; s != nullptr; s = s->next_) {
    const u64 freeable = s->count_objects();
    if (freeable == 0) {
      s->deferred_ = 0;
      continue;
    }
    u64 share = ((freeable * kOne) >> priority) * 4 / (s->seeks() > 0 ? s->seeks() : 1);
    if (priority == 0) share = freeable * kOne;
    // What could not be asked for before must not empty the cache at once.
    share += s->deferred_ < freeable * kOne / 2 ? s->deferred_ : freeable * kOne / 2;
    u64 objects = share / kOne;
    if (objects > freeable) objects = freeable;
    s->deferred_ = share % kOne;
    if (objects == 0) continue;
    const WalkScope walk(observer_->walk, "do_shrink_slab", "{a:s}: {b} of {c} unused objects",
                         walk_string(s->shrinker_name()), objects, freeable);
    const u64 gone = scan(*s, objects);
    observer_->step("{a} freed", gone);
    freed += gone;
  }
  return freed;
}

u64 ShrinkerList::shrink_share(u32 divisor) {
  u64 freed = 0;
  for (Shrinker* s = first_; s != nullptr; s = s->next_) {
    const u64 objects = (s->count_objects() + divisor - 1) / divisor;
    if (objects == 0) continue;
    const WalkScope walk(observer_->walk, s->shrinker_name(), "{a} of {b} unused objects", objects,
                         s->count_objects());
    const u64 gone = scan(*s, objects);
    observer_->step("{a} freed", gone);
    freed += gone;
  }
  return freed;
}

}  // namespace spillway
