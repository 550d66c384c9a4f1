// Making slabs and giving them back.
#include <cstring>

#include "base/prng.h"
#include "slab/kmem_cache.h"
#include "slab/slab_chain.h"

namespace spillway {

Status KmemCache::init(SlabChain& chain, const KmemCacheConfig& config, AllocFlags flags) {
  SPW_ASSERT(chain_ == nullptr);
  SPW_ASSERT(config.name != nullptr && config.name[0] != '\0');
  SPW_ASSERT_LE(std::strlen(config.name), u64{18});
  SPW_ASSERT(config.several || chain.find(config.name) == nullptr);
  SPW_ASSERT(config.size >= 8 && config.size <= kObjectSizeMax);
  SPW_ASSERT(std::has_single_bit(config.align) && config.align <= kPageSize);
  SPW_ASSERT(std::has_single_bit(config.line) && config.line >= 8 && config.line <= kPageSize);
  SPW_ASSERT(config.dtor == nullptr || config.ctor != nullptr);
  SPW_ASSERT(config.ctor == nullptr || !config.zero);
  config_ = config;
  layout_ = slab_layout(config, chain.break_order());
  SPW_ASSERT(layout_.objects > 0 && layout_.objects < 0xffff);
  allocator_ = chain.allocator_;
  frames_ = chain.frames_;
  memory_ = chain.memory_;
  base_ = memory_->bytes(Pfn(0));
  bytes_ = memory_->count().bytes();
  reciprocal_ = ((u64{1} << 40) + layout_.stride - 1) / layout_.stride;
  limit_ = config.limit == KmemCacheConfig::kLimitBySize ? magazine_limit_for(config.size)
                                                         : config.limit;
  SPW_ASSERT_LE(limit_, 0x7fffu);
  batch_ = limit_ > 1 ? limit_ / 2 : limit_;
  slots_ = chain.slots_;
  if (limit_ != 0) {
    const Status status = init_magazines(flags);
    if (!status.ok()) {
      limit_ = 0;
      return status;
    }
  }
  own_lock_ = config.locking == SlabLocking::own;
  // Else two such caches would use the descriptors' cache at once (see SlabChain::init).
  SPW_ASSERT(!own_lock_ || !off_slab() || chain.few_.own_lock_);
  if (config.depot_frames == KmemCacheConfig::kLimitBySize) {
    config_.depot_frames = own_lock_ && limit_ != 0 ? KmemCacheConfig::kDepotFrames : 0;
  }
  if (batch_ > DepotFrame::kEntries) config_.depot_frames = 0;
  if (limit_ != 0 && config.check == SlabCheck::none && !config.zero) {
    fast_ = magazines_;
    fast_stride_ = u64{1} << magazine_shift_;
  }
  chain_ = &chain;
  chain.add(*this);
  return kOk;
}

Status KmemCache::init_magazines(AllocFlags flags) {
  const u64 bytes = std::bit_ceil(sizeof(Magazine) + limit_ * sizeof(void*));
  magazine_shift_ = static_cast<u32>(std::countr_zero(bytes));
  const u64 pages = pages_for(bytes * slots_).v;
  magazine_order_ = static_cast<u32>(std::countr_zero(std::bit_ceil(pages)));
  flags.zero = true;
  SPW_TRY_ASSIGN(first, allocator_->alloc(magazine_order_, flags));
  magazine_first_ = first;
  tag_frames(first, magazine_order_, nullptr);
  magazines_ = memory_->bytes(first);
  for (u32 slot = 0; slot < slots_; ++slot) {
    magazine(slot).limit.store(limit_, std::memory_order_relaxed);
  }
  return kOk;
}

Status KmemCache::destroy() {
  SPW_ASSERT(chain_ != nullptr);
  (void)shrink(OwnedSlots::all);
  if (slabs() != 0) {
    chain_->refused_ = name();
    return Error::busy;
  }
  chain_->remove(*this);
  if (limit_ != 0) free_frames(magazine_first_, magazine_order_);
  limit_ = 0;
  fast_ = reinterpret_cast<u8*>(&kClosed);
  fast_stride_ = 0;
  chain_ = nullptr;
  return kOk;
}

void KmemCache::tag_frames(Pfn first, u32 order, Slab* slab) {
  for (u32 i = 0; i < (1U << order); ++i) {
    Page& page = (*frames_)[first + i];
    frames_->transition(first + i, PageState::isolated, PageState::kernel);
    page.owner = PageOwner::slab;
    page.private_data = reinterpret_cast<u64>(slab);
    page.index = slab != nullptr ? config_.tag : 0;
    page.prev = page.next = Pfn::kNone;
  }
}

void KmemCache::free_frames(Pfn first, u32 order) {
  for (u32 i = 0; i < (1U << order); ++i) {
    Page& page = (*frames_)[first + i];
    SPW_ASSERT_EQ(static_cast<u8>(page.owner), static_cast<u8>(PageOwner::slab));
    page.owner = PageOwner::none;
    page.private_data = 0;
    page.index = 0;
    frames_->transition(first + i, PageState::kernel, PageState::isolated);
  }
  allocator_->free(first, order);
}

Status KmemCache::grow(AllocFlags flags) {
  u32 colour = 0;
  {
    GuardIf guard(own_lock_, lock_);
    ++growing_;  // reap lets the cache be until the slab is there
    grown_ = true;
    colour = colour_next_;
    colour_next_ = colour + 1 < layout_.colours ? colour + 1 : 0;
  }
  const Status status = make_slab(flags, colour);
  GuardIf guard(own_lock_, lock_);
  --growing_;
  if (status.ok()) ++grown_count_;
  return status;
}

Status KmemCache::make_slab(AllocFlags flags, u32 colour) {
  flags.zero = false;  // objects are zeroed one by one, when they are handed out
  SPW_TRY_ASSIGN(first, allocator_->alloc(layout_.order, flags));
  const u32 unit = config_.line > layout_.align ? config_.line : layout_.align;
  u8* memory = memory_->bytes(first) + colour * unit;
  if (off_slab()) {
    const Result<void*> own = chain_->descriptors_for(layout_.objects).alloc(flags);
    if (!own.ok()) {
      allocator_->free(first, layout_.order);
      return own.error();
    }
    memory = static_cast<u8*>(own.value());
  }
  Slab& slab = *reinterpret_cast<Slab*>(memory);
  slab.cache = this;
  slab.first = first.v;
  slab.start = start_of(first, colour);
  slab.in_use = 0;
  slab.colour = static_cast<u16>(colour);
  for (u32 i = 0; i < layout_.objects; ++i) {
    slab.stack(i) = static_cast<u16>(i);
    slab.state(i) = Slab::kFree;
  }
  tag_frames(first, layout_.order, &slab);
  set_up_objects(slab);
  GuardIf guard(own_lock_, lock_);
  empty_.push_back(*frames_, first);
  empty_count_.store(slabs_empty() + 1, std::memory_order_relaxed);
  slabs_.store(slabs() + 1, std::memory_order_relaxed);
  return kOk;
}

void KmemCache::set_up_objects(Slab& slab) {
  for (u32 i = 0; i < layout_.objects; ++i) {
    u8* object = object_at(slab, i);
    if (config_.ctor != nullptr) config_.ctor(object, config_.context);
    if (config_.check == SlabCheck::full) {
      std::memset(object + config_.size, kPoison, layout_.after - config_.size);
      dress(object, false);
    }
  }
}

Pfn KmemCache::take_empty(u64 count) {
  Pfn chain;
  for (; count > 0; --count) {
    const bool listed = !empty_.empty();
    // Else there may be one that stayed on the partial list: see relist.
    if (!listed && (next_slab_ == nullptr || next_slab_->in_use != 0)) break;
    const Pfn slab = listed ? empty_.tail() : partial_.head();
    (listed ? empty_ : partial_).remove(*frames_, slab);
    if (!listed) note_partial();
    (*frames_)[slab].next = chain.v;
    chain = slab;
    empty_count_.store(slabs_empty() - 1, std::memory_order_relaxed);
    slabs_.store(slabs() - 1, std::memory_order_relaxed);
    ++reaped_;
  }
  return chain;
}

Pfn KmemCache::take_surplus() {
  const u64 empty = slabs_empty();
  return empty > config_.empty_max ? take_empty(empty - config_.empty_max) : kNoPfn;
}

u32 KmemCache::release(Pfn chain) {
  u32 count = 0;
  for (; chain.valid(); ++count) {
    Page& page = (*frames_)[chain];
    chain = Pfn(page.next);
    page.next = Pfn::kNone;
    free_slab(*descriptor(page));
  }
  return count;
}

u32 KmemCache::release_empty(u64 count) {
  Pfn chain;
  {
    GuardIf guard(own_lock_, lock_);
    chain = take_empty(count);
  }
  return release(chain);
}

void KmemCache::free_slab(Slab& slab) {
  SPW_ASSERT_EQ(slab.in_use, 0);
  for (u32 i = 0; i < layout_.objects; ++i) {
    u8* object = object_at(slab, i);
    if (config_.check == SlabCheck::full) {
      if (const char* wrong = damage(object, false)) slab_bug(wrong, name(), object);
    }
    if (config_.dtor != nullptr) config_.dtor(object, config_.context);
  }
  free_frames(Pfn(slab.first), layout_.order);
  if (off_slab()) chain_->descriptors_for(layout_.objects).free(&slab);
}

}  // namespace spillway
