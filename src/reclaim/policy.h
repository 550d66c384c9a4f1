// ReclaimPolicy: which pages leave memory, and when. Each policy is a module of its own (Config::
// policy chooses): three_queue, linux24, two_list. What they have in common, taking one page out,
// is PageOut's. Thread safety: the engine lock.
#pragma once

#include "observe/observe.h"
#include "reclaim/pageout.h"
#include "vfs/flusher.h"

namespace spillway {

class ReclaimPolicy : public Reclaimer, public DirtyBase {
 public:
  virtual const char* name() const = 0;

  // kswapd: one bounded piece of keeping frames free above the high watermark. True: more now.
  virtual bool background_step() = 0;
  // Whether background_step has something to do: a cheap test.
  virtual bool background_wanted() const = 0;
  // What a kernel does once in a while even without shortage: looks at some pages and ages them.
  virtual void age() {}
  // kreclaimd (linux24): turns pages that are as good as free into free ones.
  virtual bool reclaimd_step() { return false; }
  virtual bool reclaimd_wanted() const { return false; }

  // Looks once at every page that the space has mapped, as a scan of page tables does, and unmaps
  // those whose time has come; returns how many. 0 from policies that do not scan page tables.
  virtual u64 visit(AddressSpace& space) {
    (void)space;
    return 0;
  }
  // Whether memory is used up, so that only the end of a process helps. By default: the last
  // reclaim found nothing that could be freed, now or when an I/O ends.
  virtual bool out_of_memory() const { return exhausted_; }

  // Length of a queue; 0 for queues of other policies.
  virtual u64 queue_size(PageQueue queue) const = 0;
  // The frame at the head of a queue, and the next one; kNoPfn at the end. For views.
  virtual Pfn queue_head(PageQueue queue) const = 0;
  // Whether a page in this state must be on a queue, for audits (I3).
  virtual bool must_be_queued(const Page& page) const {
    return page.state == PageState::mapped || page.state == PageState::unmapped;
  }
  // How many frames the policy would like to be inactive (linux24's inactive_target); 0 elsewhere.
  virtual u64 inactive_target() const { return 0; }
  // O(pages): lists, counts and descriptors agree.
  virtual bool validate() const = 0;

  // Pages known to the policy that could be evicted.
  u64 evictable() const {
    u64 sum = 0;
    for (u32 q = 1; q < kPageQueueCount; ++q) {
      if (static_cast<PageQueue>(q) != PageQueue::locked) {
        sum += queue_size(static_cast<PageQueue>(q));
      }
    }
    return sum;
  }

 protected:
  ~ReclaimPolicy() = default;
  // DirtyBase as Linux since 2.6.36 has it (global_dirtyable_memory): what is free above the
  // reserve, and `file_pages` of the page cache.
  static u64 dirtyable(const MmContext& mm, u64 file_pages) {
    const u64 free = mm.allocator.free_pages().v;
    const u64 kept = mm.allocator.marks().high.v;
    return (free > kept ? free - kept : 0) + file_pages;
  }
  // Remembers how a reclaim ended, for out_of_memory.
  ReclaimOutcome noted(ReclaimOutcome outcome) {
    exhausted_ = outcome == ReclaimOutcome::exhausted;
    return outcome;
  }

 private:
  bool exhausted_ = false;
};

}  // namespace spillway
