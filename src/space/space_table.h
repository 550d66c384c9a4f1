// SpaceTable: all address spaces of a System, and the reverse map over them (Mapper): from a
// frame to the entry that maps it, so that a page is unmapped at the cost of its mapping and
// not of a walk over page tables.
// Thread safety: the engine lock.
#pragma once

#include "space/address_space.h"

namespace spillway {

// What look_at_references found.
struct PageReferences {
  u32 young = 0;            // entries that were used since the last look
  bool executable = false;  // one of them in an area of a program
  bool locked = false;      // an area with VM_LOCKED maps the page
};

class SpaceTable final : public Mapper {
 public:
  // Spaces at once; their records are boot memory. A host process has one.
  static constexpr u32 kSpacesMax = 256;

  Status init(MmContext& mm);
  // no_memory when kSpacesMax exist or there is no frame for the root table.
  Result<SpaceId> create(VpnRange range, PageCount brk_pages);
  void destroy(SpaceId id);
  // Null if there is no such space.
  AddressSpace* find(SpaceId id);
  AddressSpace& at(SpaceId id) {
    AddressSpace* space = find(id);
    SPW_ASSERT(space != nullptr);
    return *space;
  }
  template <class Fn>
  void for_each(Fn fn) {
    for (u32 i = 1; i < kSpacesMax; ++i) {
      if (used_[i]) fn(spaces_[i]);
    }
  }

  void unmap_pages(const Pfn* pfns, u32 count, bool* unmapped) override;
  void replace_by_slot(Pfn pfn, SlotId slot) override;
  UnmapOutcome try_to_unmap(Pfn pfn) override;
  bool test_and_clear_young(Pfn pfn) override;
  // Linux's folio_referenced: what the page's mappings say about its use. Clears accessed bits.
  PageReferences look_at_references(Pfn pfn);
  // The entry at a place of a reverse map.
  Pte* entry_at(RmapPlace place);
  // Whether an entry of kind present holds the page, and not only soft ones.
  bool mapped_by_any(Pfn pfn);
  // Whether an area with VM_LOCKED maps the page.
  bool locked_by_area(Pfn pfn);
  // Takes every entry of the mapping's pages from `first` on away, private copies included, as
  // truncation must (unmap_mapping_range).
  void unmap_mapping(Mapping& mapping, u32 first);

 private:
  u32 unmap_run(const Pfn* pfns, u32 count, bool* unmapped);
  bool soft_unmap_shared(Pfn pfn);
  void keep_dirty(Pfn pfn, Pte entry);

 public:
  // Takes one entry of a page in a cache away, as try_to_unmap does with all. False: held.
  bool unmap_one(Pfn pfn, RmapPlace place);

 private:
  MmContext* mm_ = nullptr;
  AddressSpace* spaces_ = nullptr;
  bool used_[kSpacesMax] = {};
};

}  // namespace spillway
