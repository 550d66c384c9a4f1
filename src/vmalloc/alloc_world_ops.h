// The world that runs programs of alloc_ops.h, inline: the fuzzer and the tests share it.
#pragma once

#include "vmalloc/alloc_program_ops.h"

namespace spillway {

inline AllocWorld::AllocWorld() : sim_(alloc_world::config()) {
  Machine& machine = sim_.machine();
  void* pages = machine.boot.alloc(kFrames * sizeof(Page), 64);
  frames_.init(static_cast<Page*>(pages), PageCount(kFrames));
  allocator_.init(machine, frames_, observer_);
  // The first frames are static memory.
  SPW_ASSERT(allocator_.reserve(Pfn(0), PageCount(5)).ok());
  while (allocator_.grow(PageAllocator::kGrowBatch) > 0) {
  }
  slabs_.init(allocator_, frames_, machine.frames);
  // At level full, so that a write past an object's end is seen.
  SPW_ASSERT(general_.init(slabs_, {.check = SlabCheck::full}).ok());
  SPW_ASSERT(space_
                 .init(machine, allocator_, frames_, slabs_, observer_, alloc_world::kSpace,
                       {alloc_world::kBase, alloc_world::kBase + alloc_world::kRange})
                 .ok());
}

inline std::string AllocWorld::run(const std::vector<AllocOp>& program) {
  for (const AllocOp& op : program) {
    step(op);
    ++done_;
    if (done_ == damage_after_) damage();
    if (done_ % 64 == 0) check();
    if (!wrong_.empty()) {
      return wrong_ + " at operation " + std::to_string(done_) + ", " + print(op);
    }
  }
  end();
  return wrong_.empty() ? "" : wrong_ + " at the end";
}

inline void AllocWorld::step(const AllocOp& op) {
  const u64 held = op.b;
  switch (op.kind) {
    case AllocOpKind::alloc: alloc(op.a % (kOrderMax + 2)); return;
    case AllocOpKind::free: free_block(held); return;
    case AllocOpKind::run: run_of(1 + op.a * 2U); return;
    case AllocOpKind::create: create(op.a >> 5, op.a * 8U + (op.b & 7), op.b); return;
    case AllocOpKind::destroy: {
      KmemCache* cache = caches_[op.a % kCaches].get();
      if (cache == nullptr) return;
      u64 active = 0;
      for (const Object& o : objects_) active += o.cache == op.a % kCaches ? 1 : 0;
      if (cache->objects_active() != active) fail("a cache miscounts its objects");
      if (cache->destroy().ok() != (active == 0)) fail("destroy of a cache");
      if (active == 0) caches_[op.a % kCaches].reset();
      return;
    }
    case AllocOpKind::take: take(op.a % kCaches, op.b % 64 + 1U); return;
    case AllocOpKind::give:
      for (u32 i = 0; i <= op.a % 64U; ++i) give(held);
      return;
    case AllocOpKind::shrink:
      if (KmemCache* cache = caches_[op.a % kCaches].get()) (void)cache->shrink();
      return;
    case AllocOpKind::reap: (void)slabs_.reap(); return;
    case AllocOpKind::kmalloc:
      for (u32 i = 0; i <= op.a % 8U; ++i) take_general(op.b);
      return;
    case AllocOpKind::kfree:
      for (u32 i = 0; i <= op.a % 8U; ++i) give_general(held);
      return;
    case AllocOpKind::vmalloc: map(op.b % 600 * kPageSize - (op.b % 600 == 0 ? 0 : op.a)); return;
    case AllocOpKind::vfree: unmap(held); return;
    case AllocOpKind::vwrong: {
      const VirtAddr at = addr_of(alloc_world::kBase + op.a * 511ULL) + op.b;
      for (const Area& area : areas_) {
        if (area.at == at) return;
      }
      if (space_.free(at).ok()) fail("free of an address that no area starts at");
      return;
    }
    case AllocOpKind::purge: (void)space_.purge(); return;
    case AllocOpKind::offline: (void)allocator_.shrink(op.b % 256); return;
    case AllocOpKind::online: (void)allocator_.grow(op.b); return;
    case AllocOpKind::drain:
      allocator_.drain_pcp();
      sim_.cpus().set_current(op.a % sim_.config().cpus);
      return;
    case AllocOpKind::check: check(); return;
    case AllocOpKind::kCount: return;
  }
}

inline void AllocWorld::alloc(u32 order) {
  if (blocks_.size() >= kBlocksMax) return;
  const Result<Pfn> got = allocator_.alloc(order, alloc_world::kNoWait);
  if (!got.ok()) return;
  if (order > kOrderMax) fail("an order that does not exist");
  if (got.value().v % (1U << order) != 0) fail("a block that is not aligned");
  if (got.value().v < 5) fail("a reserved frame was given out");
  blocks_.push_back({got.value(), 1U << order, order, true, next_mark_++ << 32});
  for (u32 i = 0; i < 1U << order; ++i) {
    alloc_world::fill(page(got.value() + i), 64, blocks_.back().mark + i * kPageSize);
  }
}

inline void AllocWorld::run_of(u32 want) {
  if (blocks_.size() >= kBlocksMax) return;
  Pfn first;
  const u32 got = allocator_.alloc_run(want, &first);
  if (got > want) fail("a run longer than asked for");
  if (got == 0) return;
  blocks_.push_back({first, got, 0, false, next_mark_++ << 32});
  for (u32 i = 0; i < got; ++i) {
    alloc_world::fill(page(first + i), 64, blocks_.back().mark + i * kPageSize);
  }
}

inline void AllocWorld::free_block(u64 which) {
  if (blocks_.empty()) return;
  Block& block = blocks_[which % blocks_.size()];
  for (u32 i = 0; i < block.frames; ++i) {
    if (!alloc_world::holds(page(block.pfn + i), 64, block.mark + i * kPageSize)) {
      fail("a block lost its contents");
    }
    if (!block.whole) allocator_.free(block.pfn + i, 0);
  }
  if (block.whole) allocator_.free(block.pfn, block.order);
  block = blocks_.back();
  blocks_.pop_back();
}

inline void AllocWorld::create(u32 which, u32 kind, u32 size) {
  static constexpr const char* kNames[kCaches] = {"fuzz0", "fuzz1", "fuzz2", "fuzz3",
                                                  "fuzz4", "fuzz5", "fuzz6", "fuzz7"};
  static u32 bytes[kCaches];
  if (caches_[which % kCaches] != nullptr) return;
  const u32 at = which % kCaches;
  const KmemCacheConfig config = alloc_world::kind_of(kind & 0xff, size, kNames[at], &bytes[at]);
  auto cache = std::make_unique<KmemCache>();
  if (cache->init(slabs_, config, alloc_world::kNoWait).ok()) caches_[at] = std::move(cache);
}

inline void AllocWorld::take(u32 which, u32 count) {
  KmemCache* cache = caches_[which].get();
  for (u32 i = 0; cache != nullptr && i < count; ++i) {
    const Result<void*> got = cache->alloc(alloc_world::kNoWait);
    if (!got.ok()) return;
    u8* at = static_cast<u8*>(got.value());
    const u32 size = cache->object_size();
    if (reinterpret_cast<u64>(at) % cache->config().align != 0) fail("an object not aligned");
    if (cache->config().ctor != nullptr && !all_bytes_are(at, alloc_world::kConstructed, size)) {
      fail("an object that is not in its constructed state");
    }
    if (cache->config().zero && !all_bytes_are(at, 0, size)) fail("an object that is not zeroed");
    objects_.push_back({which, at, next_mark_++ << 32});
    alloc_world::fill(at, size, objects_.back().mark);
  }
}

inline void AllocWorld::give(u64 which) {
  if (objects_.empty()) return;
  Object& object = objects_[which % objects_.size()];
  KmemCache& cache = *caches_[object.cache];
  if (!alloc_world::holds(object.at, cache.object_size(), object.mark)) {
    fail("an object lost its contents");
  }
  if (slabs_.cache_of(object.at) != &cache) fail("an object is not found by its frame");
  if (cache.config().ctor != nullptr) {
    std::memset(object.at, alloc_world::kConstructed, cache.object_size());
  }
  cache.free(object.at);
  object = objects_.back();
  objects_.pop_back();
}

inline void AllocWorld::take_general(u64 bytes) {
  const Result<void*> got = general_.alloc(bytes, alloc_world::kNoWait);
  if (!got.ok()) return;
  if (general_.usable_size(got.value()) < bytes) fail("a general object that is too small");
  const u64 usable = general_.usable_size(got.value());
  generals_.push_back({static_cast<u8*>(got.value()), usable, next_mark_++ << 32});
  alloc_world::fill(generals_.back().at, usable, generals_.back().mark);
}

inline void AllocWorld::give_general(u64 which) {
  if (generals_.empty()) return;
  General& object = generals_[which % generals_.size()];
  if (!alloc_world::holds(object.at, object.bytes, object.mark)) {
    fail("a general object lost its contents");
  }
  general_.free(object.at);
  object = generals_.back();
  generals_.pop_back();
}

inline bool AllocWorld::store_word(VirtAddr at, u64 word) {
  return !sim_.mmu().store(sim_.cpus().current(), alloc_world::kSpace, at, &word, 8).has_value();
}
inline bool AllocWorld::load_word(VirtAddr at, u64* word) {
  return !sim_.mmu().load(sim_.cpus().current(), alloc_world::kSpace, at, word, 8).has_value();
}

inline void AllocWorld::map(u64 bytes) {
  const Result<VirtAddr> got = space_.alloc(bytes, alloc_world::kNoWait);
  if (!got.ok()) {
    if (bytes == 0 ? got.error() != Error::invalid : got.error() != Error::no_memory) {
      fail("vmalloc: wrong error");
    }
    return;
  }
  const u64 pages = pages_for(bytes).v;
  areas_.push_back({got.value(), pages, next_mark_++ << 32});
  u64 word = 0;
  for (u64 i = 0; i < pages; ++i) {
    if (!store_word(got.value() + i * kPageSize, mix64(areas_.back().mark + i))) {
      fail("a page of an area faults");
    }
  }
  if (load_word(got.value() + pages * kPageSize, &word)) fail("no guard behind an area");
  if (load_word(VirtAddr(got.value().v - kPageSize), &word)) fail("no guard before an area");
}

inline void AllocWorld::unmap(u64 which) {
  if (areas_.empty()) return;
  Area& area = areas_[which % areas_.size()];
  u64 word = 0;
  for (u64 i = 0; i < area.pages; ++i) {
    if (!load_word(area.at + i * kPageSize, &word) || word != mix64(area.mark + i)) {
      fail("an area lost its contents");
    }
  }
  if (!space_.free(area.at).ok()) fail("vfree refused");
  area = areas_.back();
  areas_.pop_back();
}

inline void AllocWorld::check() {
  if (!allocator_.validate()) fail("page allocator");
  if (!slabs_.validate()) fail("object caches");
  if (!space_.validate()) fail("vmalloc");
  const std::string mirror = sim_.mmu().mirror_difference();
  if (!mirror.empty()) fail(mirror);
  u64 held =
      slabs_.frames() + space_.usage().pages + space_.usage().lazy_pages + space_.usage().tables;
  for (const Block& block : blocks_) held += block.frames;
  const u64 all = held + allocator_.free_pages().v + allocator_.reserved().v;
  if (all != allocator_.online().v) {
    fail("I1: " + std::to_string(all) + " of " + std::to_string(allocator_.online().v) + " frames");
  }
}

inline void AllocWorld::end() {
  check();
  while (!blocks_.empty()) free_block(blocks_.size() - 1);
  while (!objects_.empty()) give(objects_.size() - 1);
  while (!generals_.empty()) give_general(generals_.size() - 1);
  if (!general_.destroy().ok()) fail("general caches stay");
  while (!areas_.empty()) unmap(areas_.size() - 1);
  (void)space_.purge();
  for (auto& cache : caches_) {
    if (cache == nullptr) continue;
    if (!cache->destroy().ok()) fail("an empty cache stays");
    cache.reset();
  }
  (void)slabs_.shrink_all();
  while (allocator_.grow(PageAllocator::kGrowBatch) > 0) {
  }
  allocator_.drain_pcp();
  check();
  if (space_.usage().tables != 0) fail("a table is left");
  // Magazines of the chain's own caches, if it has any, are all that may be out.
  if (allocator_.free_pages().v + slabs_.frames() != kFrames - 5) fail("frames are lost");
  if (slabs_.frames() == 0 && allocator_.blocks(kOrderMax) != kFrames / 512 - 1) {
    fail("free frames have not merged");
  }
}

inline void AllocWorld::damage() {
  if (!generals_.empty()) {
    generals_[0].at[0] ^= 1;
  } else if (!objects_.empty()) {
    objects_[0].at[0] ^= 1;
  } else if (!blocks_.empty()) {
    page(blocks_[0].pfn)[0] ^= 1;
  } else if (!areas_.empty()) {
    (void)store_word(areas_[0].at, 0);
  }
}

}  // namespace spillway
