// PageTable: the page table of one address space, four levels of frames in the machine's format
// (machine/pte.h). This is the truth about where every page of the space is; the Mmu mirrors its
// present entries.
//
// A table frame counts its non-empty entries in Page::private_data, so that tables that became
// empty can be given back. Every change goes through store(). Tables are freed only by
// free_empty() and destroy(): reclaim rewrites entries but never empties them.
//
// Costs: find O(levels). Thread safety: the engine lock.
#pragma once

#include "machine/pte.h"
#include "page/page_allocator.h"

namespace spillway {

class PageTable {
 public:
  // Allocates the root. no_memory or wait.
  Status init(PageAllocator& allocator, FrameTable& frames, Frames& memory,
              AllocFlags flags = kAllocKernel);
  // All entries must be empty.
  void destroy();

  Pfn root() const { return root_; }
  // The entry for `vpn`, or null if no leaf table covers it yet (then it is empty).
  Pte* find(Vpn vpn) const;
  Pte get(Vpn vpn) const {
    const Pte* pte = find(vpn);
    return pte == nullptr ? Pte{} : *pte;
  }
  // As find, allocating tables on the way. no_memory or wait; tables made before the failure
  // stay, empty, and are found again by a retry. The pointer stays valid until free_empty.
  Result<Pte*> ensure(Vpn vpn, AllocFlags flags);
  // Writes an entry of a leaf table.
  void store(Pte* pte, Pte value);

  // A stretch of consecutive entries within one leaf table.
  struct Span {
    Pte* ptes;
    Vpn start;
    u32 count;
  };
  // The next span at or after `from` and before `end`; false when there is none. Skips address
  // ranges without leaf tables at the cost of the levels above.
  bool next_span(Vpn from, Vpn end, Span* span) const;

  // Gives back table frames that cover only addresses in `range` ... and are empty.
  void free_empty(VpnRange range);

  u64 tables() const { return tables_; }
  // Entries that hold a frame, mapped or not.
  u64 resident() const { return resident_; }

 private:
  Pte* table_at(Pfn pfn) const { return reinterpret_cast<Pte*>(memory_->bytes(pfn)); }
  // Frees empty tables below `table` (at `level`, covering addresses from `base`).
  void free_below(Pfn table, u32 level, Vpn base, VpnRange range);
  void free_table(Pfn pfn);

  PageAllocator* allocator_ = nullptr;
  FrameTable* frames_ = nullptr;
  Frames* memory_ = nullptr;
  Pfn root_;
  u64 tables_ = 0;
  u64 resident_ = 0;
};

}  // namespace spillway
