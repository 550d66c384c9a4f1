#include "slab/kmalloc.h"

namespace spillway {
namespace {

constexpr const char* kNames[Kmalloc::kClasses] = {
    "size-32",   "size-64",   "size-128",   "size-256",   "size-512",   "size-1024",  "size-2048",
    "size-4096", "size-8192", "size-16384", "size-32768", "size-65536", "size-131072"};

}  // namespace

Status Kmalloc::init(SlabChain& chain, const KmallocConfig& config, AllocFlags flags) {
  SPW_ASSERT_EQ(count_, 0u);
  pages_ = &chain.frame_table()[Pfn(0)];
  base_ = reinterpret_cast<u64>(chain.memory().bytes(Pfn(0)));
  bytes_ = chain.memory().count().bytes();
  while (count_ < kClasses) {
    const u32 size = static_cast<u32>(kSizeMin << count_);
    const bool largest = size == kSizeMax && config.check == SlabCheck::full;
    const Status status = caches_[count_].init(chain,
                                               {.name = kNames[count_],
                                                .size = size,
                                                .hwcache_align = true,
                                                .check = largest ? SlabCheck::sanity : config.check,
                                                .locking = config.locking,
                                                .line = config.line,
                                                .limit = size > kPageSize ? 0 : config.limit,
                                                .tag = count_ + 1},
                                               flags);
    if (!status.ok()) {
      (void)destroy();
      return status;
    }
    for (u32 slot = 0; slot < chain.slots(); ++slot) {
      fast_[slot][count_] = &caches_[count_].fast(slot);
    }
    ++count_;
  }
  return kOk;
}

Status Kmalloc::destroy() {
  for (u32 k = 0; k < count_; ++k) {
    if (caches_[k].objects_active() != 0) {
      // Says so and changes nothing.
      const Status refused = caches_[k].destroy();
      SPW_ASSERT(!refused.ok());
      return refused.error();
    }
  }
  while (count_ > 0) {
    const Status status = caches_[--count_].destroy();
    SPW_ASSERT(status.ok());
  }
  return kOk;
}

}  // namespace spillway
