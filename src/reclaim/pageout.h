// PageOut: takes one page out of memory, whatever it is. Policies choose the page; this knows what
// has to happen to it: unmap it everywhere by the reverse map, give an anonymous page a place in
// swap, write what is dirty, free what is clean. Thread safety: the engine lock.
#pragma once

#include "reclaim/shrinker_list.h"
#include "space/space_table.h"

namespace spillway {

enum class PageOutcome : u8 {
  freed,     // the frame is free; the page left the policy
  started,   // it is unmapped and being written; Reclaimer::page_written follows
  moved,     // a page of shared memory became one of the swap cache: announced to the policy anew
  keep,      // locked, held, pinned, under write-back already, or its owner refused
  no_space,  // all swap is full
  wait,      // an I/O must end first
};

class PageOut {
 public:
  void init(MmContext& mm) {
    mm_ = &mm;
    shrinkers_.init(mm.allocator, mm.observer);
  }
  MmContext& mm() { return *mm_; }
  // What else can be freed than pages, for all policies.
  ShrinkerList& shrinkers() { return shrinkers_; }

  // One step towards taking the page out. The page is on the policy's queues, or on none; freed
  // and moved take it off by Reclaimer::page_removed. `shadow` is what it leaves behind. keep and
  // no_space may leave it unmapped.
  PageOutcome run(Pfn pfn, u32 shadow);
  // Whether a transfer is in flight whose end may free a frame, or bring a page that can go.
  bool io_in_flight() const;
  // Frees a page of a cache that is clean, unmapped and not in transfer; false if it is not.
  bool free_clean(Pfn pfn, u32 shadow);
  // Takes one resident entry away from its page without any write (the end of Linux 2.4's
  // try_to_swap_out). An anonymous page that is in no cache gets a slot and enters the swap cache,
  // dirty, which Reclaimer::page_entered_cache hears before the entry goes. The entry becomes a
  // swap entry with a reference of the slot, or empty for a page of the page cache, and its dirty
  // bit goes to the page. freed: the entry is gone; the page stays where it is, unmapped with its
  // last entry. keep (held, or in transfer), no_space: nothing has changed.
  PageOutcome unmap_entry(AddressSpace& space, Vpn vpn);

 private:
  PageOutcome cached_out(Pfn pfn, u32 shadow);
  PageOutcome plain_out(Pfn pfn, u32 shadow);
  PageOutcome tiered_out(Pfn pfn, u32 shadow);
  bool free_cached(Pfn pfn, u32 shadow);
  void free_anonymous(Pfn pfn);
  bool area_goes_off(const Page& page) const;

  MmContext* mm_ = nullptr;
  ShrinkerList shrinkers_;
};

}  // namespace spillway
