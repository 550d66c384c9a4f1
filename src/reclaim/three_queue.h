// ThreeQueue: the ageing policy for machines without accessed bits. Resident pages are on FIFOs:
//
//   S  probation  mapped      new pages, and refaults from long ago; about 20 % of resident pages
//   M  main       mapped      pages that were touched again after they had been unmapped or evicted
//   U  unmapped   not mapped  on their way out; a touch is a soft fault, which moves the page to M
//
// Pages of files and of shared memory come to U when they are read or made, and go to S when they
// are used for the first time. Those that only read(2) and write(2) use are on S and M without
// being mapped; a use while they are there is remembered in PageFlag::referenced.
//
// A soft fault costs nearly as much as a fault that decompresses a page, and a larger U spares few
// of those: on a compile, U of 25 % instead of 3 % took 185,000 more soft faults to spare 14,000
// major ones. So U is as large as it can be while soft faults stay a small part of evictions:
// large where hardly anything is touched again (scans), small where accesses are random.
//
// Evicted pages leave a shadow, the eviction count at that time; a page that refaults within |M|
// evictions goes to M at once.
//
// A program that goes round and round over more than fits would find every page gone just before
// it comes back for it. So when most evicted pages return, but later than |M| evictions, a share
// of them is kept: clusters of 32 pages chosen by a hash of their address, always the same
// ones, go to M, and the share grows until M is full. The rest streams through S.
//
// The kept share does for FIFOs what bimodal insertion does for LRU caches (Qureshi et al.,
// "Adaptive insertion policies", ISCA 2007). Other sources: S3-FIFO (Yang et al., SOSP 2023) for
// probation and main, workingset detection (Linux mm/workingset.c) for the shadow. Which page
// leaves first is decided here and nowhere else. Thread safety: the engine lock.
#pragma once

#include "lru/lru_list.h"
#include "observe/observe.h"
#include "page/reclaimer.h"

namespace spillway {

class ThreeQueue {
 public:
  static constexpr u32 kProbationPercent = 20;
  static constexpr u32 kUnmappedPercentMin = 1;
  static constexpr u32 kUnmappedPercentMax = 25;
  static constexpr u32 kUnmappedPercentStart = 5;

  void init(FrameTable& frames, const Observer& observer);

  void add(Pfn pfn, Arrival arrival, u32 shadow);
  void add_unmapped(Pfn pfn);  // head of U
  void add_cold(Pfn pfn);      // tail of U: next to go
  void touched(Pfn pfn);       // U -> M
  void used_first(Pfn pfn);    // U -> S: a cached page that nobody had used before
  // A cached page is back that left `shadow`: whether it should go to M when it is used.
  bool note_refault(Pfn pfn, u32 shadow);
  void rotate(Pfn pfn);  // off its queue's tail, to the head of M
  void lock(Pfn pfn);
  void unlock(Pfn pfn);
  void remove(Pfn pfn);

  // The mapped page that should be unmapped next, kNoPfn if there is none.
  Pfn next_to_unmap();
  // The unmapped page that should be evicted next.
  Pfn next_to_evict() const;
  // Whether U is smaller than it should be.
  bool wants_unmapped() const { return unmapped() < unmapped_target(); }
  // A page was evicted: its shadow (never 0).
  u32 note_evicted();
  // The shadow that note_evicted() will give to the next page.
  u32 next_shadow() const { return evictions_ + 1 == 0 ? 1 : evictions_ + 1; }

  u64 probation() const { return probation_.size(); }
  u64 main() const { return main_.size(); }
  u64 unmapped() const { return unmapped_.size(); }
  u64 locked() const { return locked_.size(); }
  u64 resident() const { return probation() + main() + unmapped(); }
  u64 unmapped_target() const { return resident() * unmapped_percent_ / 100 + 1; }
  u32 unmapped_percent() const { return unmapped_percent_; }
  // Sixteenths of the pages of a loop that are kept.
  u32 kept_share() const { return kept_share_; }
  // The list behind a queue, null for queues of other policies.
  const LruList* find_list(PageQueue queue) const;
  bool validate() const;

 private:
  LruList& list_of(PageQueue queue);
  bool is_near(Pfn pfn, u32 shadow);
  bool is_kept(Pfn pfn) const;
  void adapt();
  void adapt_unmapped();
  void adapt_kept();

  FrameTable* frames_ = nullptr;
  const Observer* observer_ = nullptr;
  LruList probation_;
  LruList main_;
  LruList unmapped_;
  LruList locked_;
  u32 evictions_ = 0;
  u32 unmapped_percent_ = kUnmappedPercentStart;
  u64 epoch_evictions_ = 0;
  u64 soft_hits_ = 0;  // pages of U that were touched
  u32 kept_share_ = 0;
  u64 far_refaults_ = 0;  // pages that came back later than |M| evictions
  u64 main_unmaps_ = 0;   // pages of M that had to be unmapped
};

}  // namespace spillway
