// ThreeQueuePolicy: makes frames free. Keeps the ageing queues, unmaps pages by the reverse map,
// puts their contents into swap and gives the frames back. Implements the Reclaimer port.
//
// Rules: reclaim never recurses and never needs more memory than the reserve (I35); every loop has
// a limit; running out is an outcome, not a hang. Thread safety: the engine lock.
#pragma once

#include "reclaim/policy.h"
#include "reclaim/three_queue.h"
#include "space/space_table.h"

namespace spillway {

class ThreeQueuePolicy final : public ReclaimPolicy {
 public:
  // Pages unmapped together: neighbours are moved home in one call.
  static constexpr u32 kUnmapBatch = 32;
  // Frames freed by one run at least, so that the next allocations find some.
  static constexpr u64 kReclaimMin = 16;
  // Pages that one run looks at for each page that it is asked for, and at least.
  static constexpr u64 kScanFactor = 8;
  static constexpr u64 kScanMin = 4096;

  // Programs keep so many pages whatever the background work wishes for: a readahead window, so
  // that a page just read for a fault does not leave again before the fault is retried. Smaller
  // machines reclaim only when somebody asks.
  static constexpr u64 kKeepResident = 64;

  // `background`: whether background_step reclaims at all (Config::background_reclaim).
  void init(PageOut& pageout, bool background);

  ReclaimOutcome reclaim(PageCount want) override;
  void page_added(Pfn pfn, Arrival arrival, u32 shadow) override;
  void page_refaulted(Pfn pfn, u32 shadow) override;
  void page_touched(Pfn pfn) override;
  void page_removed(Pfn pfn) override;
  void page_added_unmapped(Pfn pfn) override { queues_.add_unmapped(pfn); }
  void page_unmapped(Pfn pfn) override;
  void page_written(Pfn pfn, Status status) override;
  void page_locked(Pfn pfn) override { queues_.lock(pfn); }
  void page_unlocked(Pfn pfn) override { queues_.unlock(pfn); }
  void page_cold(Pfn pfn) override;
  ReclaimOutcome page_out(Pfn pfn) override;

  const char* name() const override { return "three_queue"; }
  bool background_step() override;
  bool background_wanted() const override;
  u64 queue_size(PageQueue queue) const override;
  Pfn queue_head(PageQueue queue) const override;
  u64 dirtyable_pages() const override;
  bool validate() const override;

  const ThreeQueue& queues() const { return queues_; }

 private:
  enum class Evicted : u8 { freed, started, kept, wait };
  // Where unmapped pages go in U: to its head, or to its tail, to be evicted next.
  enum class UnmapTo : u8 { head, tail };
  // Unmaps a batch of pages that the policy names; returns how many are on U now.
  u32 unmap_batch(UnmapTo end);
  void put_on_unmapped(Pfn pfn, UnmapTo end);
  void to_head_of_unmapped(Pfn pfn);
  Evicted evict(Pfn pfn);
  ReclaimOutcome run(u64 want);

  PageOut* pageout_ = nullptr;
  FrameTable* frames_ = nullptr;
  PageAllocator* allocator_ = nullptr;
  Swap* swap_ = nullptr;
  Mapper* mapper_ = nullptr;
  const Observer* observer_ = nullptr;
  bool background_ = true;
  ThreeQueue queues_;
};

}  // namespace spillway
