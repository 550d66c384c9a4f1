// Ports by which lower rooms ask for what only higher rooms can do (DESIGN: requests go down by
// call, calls upward exist only through ports).
#pragma once

#include "base/result.h"
#include "base/units.h"

namespace spillway {

enum class ReclaimOutcome : u8 {
  progress,   // frames were freed: try again
  wait,       // frames come free when an I/O in flight completes
  exhausted,  // nothing can be freed: memory and swap are full
};

// Why a page became resident, for the ageing policy.
enum class Arrival : u8 {
  fresh,      // first touch
  refault,    // came back from swap because somebody touched it
  readahead,  // brought in beside a page that somebody touched
};

// Implemented by room reclaim.
class Reclaimer {
 public:
  // Frees at least `want` frames if it can. Never sleeps, never recurses.
  virtual ReclaimOutcome reclaim(PageCount want) = 0;

  // Ageing: the page is now resident and mapped. `shadow` is what evicted() returned for it
  // when it last left, 0 if unknown.
  virtual void page_added(Pfn pfn, Arrival arrival, u32 shadow) = 0;
  // A resident but unmapped page was touched and is mapped again.
  virtual void page_touched(Pfn pfn) = 0;
  // The page leaves the ageing queues (freed, or about to be locked).
  virtual void page_removed(Pfn pfn) = 0;
  // The page is resident but unmapped from the start (read from disk ahead of its use).
  virtual void page_added_unmapped(Pfn pfn) = 0;
  // The page must not be evicted until page_unlocked.
  virtual void page_locked(Pfn pfn) = 0;
  virtual void page_unlocked(Pfn pfn) = 0;
  // Advice: nobody will need the page soon (MADV_COLD). Unmaps it if it can.
  virtual void page_cold(Pfn pfn) = 0;
  // Advice: evict the page now (MADV_PAGEOUT). progress: it is gone; wait, exhausted as reclaim;
  // exhausted also when somebody holds the page.
  virtual ReclaimOutcome page_out(Pfn pfn) = 0;

 protected:
  ~Reclaimer() = default;
};

// What reclaim asks of the owner of a mapping. Implemented by room space (and later by every
// kind of mapping): this is the reverse map.
class Mapper {
 public:
  // Unmaps up to `count` mapped pages; outcome[i] tells whether pfns[i] is unmapped now. Pages
  // that somebody holds stay mapped.
  virtual void unmap_pages(const Pfn* pfns, u32 count, bool* unmapped) = 0;
  // The unmapped page now lives in `slot`: rewrites what maps it. The frame is the caller's.
  virtual void replace_by_slot(Pfn pfn, SlotId slot) = 0;
  // Reads and clears the accessed bit of a mapped page, on machines that have one.
  virtual bool test_and_clear_young(Pfn pfn) = 0;

 protected:
  ~Mapper() = default;
};

}  // namespace spillway
