// VmallocSpace: contiguous addresses from single frames (Linux's vmalloc; MECHANISMS 12.5).
//
// Areas live in one address-sorted tree; each is enclosed by guard pages of its own. Freed areas
// are unmapped later, in batches (README.md says what that may not mean). Costs: alloc O(areas +
// pages), free O(log areas), purge O(pages noted). Thread safety: the engine lock.
#pragma once

#include "base/avl.h"
#include "observe/observe.h"
#include "page/shrinker.h"
#include "pagetable/page_table.h"
#include "slab/slab_chain.h"

namespace spillway {

// One area of a VmallocSpace.
struct VmallocArea {
  Vpn start;          // first page of the area; the page before is its lower guard
  u64 pages = 0;      // without guards; the page behind them is the upper guard
  bool lazy = false;  // freed, still mapped
  VmallocArea* next_lazy = nullptr;
  AvlLink<VmallocArea> link;

  // With both guards.
  VpnRange span() const { return {start - 1, start + pages + 1}; }
};

struct VmallocTraits {
  using Key = Vpn;
  static Key key(const VmallocArea& a) { return a.start; }
  static AvlLink<VmallocArea>& link(VmallocArea& a) { return a.link; }
  static void update(VmallocArea&, VmallocArea*, VmallocArea*) {}
};
using VmallocTree = AvlTree<VmallocArea, VmallocTraits>;

// What the space has, in pages where no other unit is named.
struct VmallocUsage {
  u64 areas = 0;       // allocated
  u64 pages = 0;       // in them
  u64 lazy_areas = 0;  // freed and not yet unmapped
  u64 lazy_pages = 0;
  u64 tables = 0;     // frames of the page table
  u64 purges = 0;     // batches since boot
  u64 bad_frees = 0;  // frees that were refused
};

// A line of vmallocinfo.
struct VmallocView {
  VirtAddr start;
  u64 pages;
  bool lazy;
};

class VmallocSpace final : public Shrinker {
 public:
  // Freed pages that may wait for a purge: 256 KiB. Bounds what laziness keeps from others.
  static constexpr u64 kLazyPagesMax = 64;

  // `range` is where areas may lie, at `space` of the machine's MMU; nobody else maps anything
  // there. Takes no frame before the first alloc.
  Status init(Machine& machine, PageAllocator& allocator, FrameTable& frames, SlabChain& slabs,
              const Observer& observer, SpaceId space, VpnRange range);
  bool ready() const { return machine_ != nullptr; }
  SpaceId space() const { return space_; }

  // `bytes`, rounded up to pages, of addresses that hold frames with undefined contents. invalid: 0
  // bytes, or no space was given; no_memory: more than all RAM, no room, or no frames; wait: frames
  // come free when an I/O completes. In every case nothing has changed.
  Result<VirtAddr> alloc(u64 bytes, AllocFlags flags = kAllocKernel);
  // Gives the area that starts at `addr` back. invalid: not aligned, or no area starts there, or it
  // was freed before: reported (event vmalloc.bad_free) and nothing has changed.
  Status free(VirtAddr addr);
  // Ends all freed areas now; returns how many pages that freed.
  u64 purge();

  // The frame behind an address of an area; kNoPfn elsewhere, guards included.
  Pfn frame_at(VirtAddr addr) const;
  const VmallocUsage& usage() const { return usage_; }
  // Fills up to `max` records in order of addresses; returns how many areas there are, lazy ones
  // included.
  u32 areas(VmallocView* out, u32 max) const;
  // O(areas + pages): I30, and that counts agree.
  bool validate() const;

  const char* shrinker_name() const override { return "vmalloc"; }
  u64 count_objects() const override { return filling_ ? 0 : usage_.lazy_pages; }
  u64 scan_objects(const ShrinkControl& control) override;
  // Unmapping costs less than bringing a page back.
  u32 seeks() const override { return 1; }

 private:
  bool find_room(u64 pages, Vpn* start) const;
  Result<VpnRange> room_for(u64 pages);
  Status fill(VpnRange range, AllocFlags flags);
  Status fill_pages(VpnRange range, AllocFlags flags);
  void map_all(VpnRange range);
  void take_back(VpnRange range);
  void end_area(VmallocArea& area);
  void drop_table();
  Pte entry(Vpn vpn) const { return has_table_ ? table_.get(vpn) : Pte{}; }

  Machine* machine_ = nullptr;
  PageAllocator* allocator_ = nullptr;
  FrameTable* frames_ = nullptr;
  const Observer* observer_ = nullptr;
  SpaceId space_;
  VpnRange range_;
  PageTable table_;
  bool has_table_ = false;
  bool filling_ = false;  // an allocation walks the table: reclaim that it causes must not purge
  KmemCache records_;
  VmallocTree tree_;
  VmallocArea* lazy_ = nullptr;
  VmallocUsage usage_;
};

}  // namespace spillway
