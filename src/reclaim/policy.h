// ReclaimPolicy: which pages leave memory, and when. Each policy is a module of its own (Config::
// policy chooses): three_queue, linux24, two_list. What they have in common, taking one page out,
// is PageOut's. Thread safety: the engine lock.
#pragma once

#include "observe/observe.h"
#include "reclaim/pageout.h"

namespace spillway {

class ReclaimPolicy : public Reclaimer {
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
};

}  // namespace spillway
