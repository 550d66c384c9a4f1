// Ports by which lower rooms ask for what only higher rooms can do (DESIGN: requests go down by
// call, calls upward exist only through ports).
#pragma once

#include "base/result.h"
#include "base/units.h"

namespace spillway {

// How far an allocation may go. Every allocation may fail (no_memory); there is no flag that
// forbids it, and nobody sleeps in one. Who may wait says so by may_reclaim, and only he is told
// to: his answer can be Error::wait, which means that frames come free when an I/O ends and that
// the call has changed nothing.
//
//                  grows the zone   reclaims   may answer wait   goes below the min watermark
//   atomic         no               no         no                no
//   none set       yes              no         no                no
//   may_reclaim    yes              yes        yes               no
//   memalloc       yes              no         no                yes, to the last frame
//
// (policy linux24 has marks of its own instead of min: see linux24_alloc.cc; the mark is looked at
// before frames are taken, so that threads which ask at the same moment may together go below it by
// what each takes)
//
// The order makes no difference to what is allowed, but to what helps: for several frames in a row
// reclaim is tried a bounded number of times, because many free frames need not be neighbours.
struct AllocFlags {
  bool may_reclaim = false;  // may evict pages; needs the engine lock
  bool memalloc = false;     // may use the reserve under the min watermark (PF_MEMALLOC)
  bool zero = false;         // the frame's bytes must read as zero
  // GFP_ATOMIC: only what is free now above the min watermark. Neither grows the zone nor reclaims,
  // so it needs no engine lock (unless a policy decides about frames, which always does).
  bool atomic = false;
};
inline constexpr AllocFlags kAllocUser{.may_reclaim = true};
inline constexpr AllocFlags kAllocUserZero{.may_reclaim = true, .zero = true};
inline constexpr AllocFlags kAllocKernel{.may_reclaim = true};
inline constexpr AllocFlags kAllocAtomic{.atomic = true};
inline constexpr AllocFlags kAllocReclaim{.memalloc = true};

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

// Implemented by room reclaim, once per policy.
//
// A page is announced once when it becomes resident (page_added or page_added_unmapped) and taken
// back once (page_removed). In between the policy hears what happens to it; which queue a page is
// on, and whether on any, is its business. Anonymous pages, pages of files and of shared memory are
// told apart by Page::owner.
class Reclaimer {
 public:
  // Frees at least `want` frames if it can. Never sleeps, never recurses.
  virtual ReclaimOutcome reclaim(PageCount want) = 0;

  // The page is now resident and mapped. `shadow` is what the policy left behind when the page
  // was last evicted, 0 if unknown.
  virtual void page_added(Pfn pfn, Arrival arrival, u32 shadow) = 0;
  // The page is resident but unmapped from the start: read ahead of its use, or put into a cache.
  virtual void page_added_unmapped(Pfn pfn) = 0;
  // Follows page_added_unmapped when the page is back at an index of the page cache where the
  // policy had left `shadow`. Policies without shadows of cached pages need not know.
  virtual void page_refaulted(Pfn pfn, u32 shadow) {
    (void)pfn;
    (void)shadow;
  }
  // A resident page was used by other means than a mapped access: it was found in a cache, or
  // unmapped, and is mapped again; or it was read or written by a system call.
  virtual void page_touched(Pfn pfn) = 0;
  // As page_touched, by a fault: a page found in a cache, or resident but unmapped, is mapped.
  virtual void page_mapped(Pfn pfn) { page_touched(pfn); }
  // The last mapping of a page went away that stays resident in a cache.
  virtual void page_unmapped(Pfn pfn) = 0;
  // The page is no longer what ageing is about (freed, or changed its cache).
  virtual void page_removed(Pfn pfn) = 0;
  // The page must not be evicted until page_unlocked.
  virtual void page_locked(Pfn pfn) = 0;
  virtual void page_unlocked(Pfn pfn) = 0;
  // The write-back of a page ended: its dirty flag is clear again unless it failed.
  virtual void page_written(Pfn pfn, Status status) = 0;
  // Advice: nobody will need the page soon (MADV_COLD). Unmaps it if it can.
  virtual void page_cold(Pfn pfn) = 0;
  // Advice: evict the page now (MADV_PAGEOUT). progress: it is gone; wait, exhausted as reclaim;
  // exhausted also when somebody holds the page.
  virtual ReclaimOutcome page_out(Pfn pfn) = 0;
  // A resident anonymous page entered or left the swap cache without becoming another page.
  // Policies that age only pages of caches (linux24) list it from now on, or no more.
  virtual void page_entered_cache(Pfn pfn) { (void)pfn; }
  virtual void page_left_cache(Pfn pfn) { (void)pfn; }
  // The space is gone, and its number may be given out again.
  virtual void space_ended(SpaceId space) { (void)space; }

  // For a policy that decides how frames are given out (PageAllocator::let_reclaimer_decide).
  // What PageAllocator::alloc promises, but for the zeroing.
  virtual Result<Pfn> alloc_pages(u32 order, AllocFlags flags) {
    (void)order;
    (void)flags;
    return Error::not_supported;
  }
  // Frames that were given out without asking it, and frames that came back.
  virtual void frames_taken(Pfn first, u32 count) {
    (void)first;
    (void)count;
  }
  virtual void frames_freed(u32 count) { (void)count; }

 protected:
  ~Reclaimer() = default;
};

// How an attempt to take a page away from everybody who maps it ended.
enum class UnmapOutcome : u8 {
  unmapped,  // no entry holds the frame any more, or none was there
  held,      // somebody holds it (pinned for I/O): what was unmapped before that stays unmapped
  locked,    // an area with VM_LOCKED maps it: nothing changed
};

// What reclaim asks of the owner of a mapping. Implemented by room space: this is the reverse map.
class Mapper {
 public:
  // Soft unmap, for machines without accessed bits: the entries stay and say "resident but
  // unmapped", so that a touch is seen. Anonymous pages with one place. outcome[i] tells whether
  // pfns[i] is unmapped now; pages that somebody holds stay mapped. Pages of the page cache lose
  // their entries instead, as try_to_unmap does it: the cache keeps them findable.
  virtual void unmap_pages(const Pfn* pfns, u32 count, bool* unmapped) = 0;
  // The softly unmapped page now lives in `slot`: rewrites what maps it. The frame is the caller's.
  virtual void replace_by_slot(Pfn pfn, SlotId slot) = 0;
  // Takes the page away from everybody (Linux's try_to_unmap). Entries of a page in the swap cache
  // become swap entries, each with a reference of the slot; entries of a page of the page cache
  // become empty. Dirty bits of entries go to the page. The page's state is unmapped then.
  virtual UnmapOutcome try_to_unmap(Pfn pfn) = 0;
  // Reads and clears the accessed bits of all entries that map the page, on machines that have
  // them; false elsewhere.
  virtual bool test_and_clear_young(Pfn pfn) = 0;

 protected:
  ~Mapper() = default;
};

}  // namespace spillway
