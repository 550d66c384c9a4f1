// SpaceBed: address spaces over swap, with a reclaimer that unmaps and evicts exactly what a test
// names, and pages put in place by hand, as room fault would.
#pragma once

#include <string>

#include "space/space_table.h"
#include "swap/swap_bed_test.h"

namespace spillway {

inline constexpr VpnRange kSpaceRange{Vpn(u64{1} << 20), Vpn((u64{1} << 20) + (u64{1} << 16))};
inline constexpr PageCount kSpaceBrk{256};

class SpaceReclaimer final : public FakeReclaimer {
 public:
  using FakeReclaimer::FakeReclaimer;
  void wire(SpaceTable& spaces, Swap& swap, FrameTable& frames, PageAllocator& allocator) {
    spaces_ = &spaces;
    swap_ = &swap;
    frames_ = &frames;
    allocator_ = &allocator;
  }
  void page_cold(Pfn pfn) override {
    bool unmapped = false;
    if ((*frames_)[pfn].state == PageState::mapped) spaces_->unmap_pages(&pfn, 1, &unmapped);
  }
  ReclaimOutcome page_out(Pfn pfn) override {
    page_cold(pfn);
    if ((*frames_)[pfn].state != PageState::unmapped) return ReclaimOutcome::exhausted;
    const Result<SlotId> slot = swap_->store(pfn);
    if (!slot.ok()) {
      return slot.error() == Error::wait ? ReclaimOutcome::wait : ReclaimOutcome::exhausted;
    }
    spaces_->replace_by_slot(pfn, slot.value());
    (*frames_)[pfn].owner = PageOwner::none;
    frames_->transition(pfn, PageState::unmapped, PageState::isolated);
    allocator_->free(pfn, 0);
    return ReclaimOutcome::progress;
  }
  void page_added(Pfn, Arrival arrival, u32) override {
    if (arrival == Arrival::refault) ++refaults;
    if (arrival == Arrival::readahead) ++aheads;
  }
  u64 refaults = 0;
  u64 aheads = 0;

 private:
  SpaceTable* spaces_ = nullptr;
  Swap* swap_ = nullptr;
  FrameTable* frames_ = nullptr;
  PageAllocator* allocator_ = nullptr;
};

struct SpaceBed : SwapBed {
  explicit SpaceBed(const SimConfig& config, u64 pool = 512) : SwapBed(config) {
    allocator.set_reclaimer(ageing);
    slabs.init(allocator, frames, machine().frames);
    EXPECT_TRUE(areas.init(slabs, KmemCacheConfig::core("area", sizeof(Area))).ok());
    rmap.init(slabs, frames);
    cache.init(slabs, allocator, frames, observer, sim.clock());
    cache.set_reclaimer(ageing);
    swap.set_reclaimer(ageing);
    EXPECT_TRUE(swap.init(machine(), allocator, frames, observer, PageCount(pool), 1 << 16).ok());
    EXPECT_TRUE(spaces.init(mm).ok());
    ageing.wire(spaces, swap, frames, allocator);
    space = &spaces.at(spaces.create(kSpaceRange, kSpaceBrk).value());
  }
  explicit SpaceBed(u64 frame_count = 2048, u64 disk_pages = 0, Features features = {})
      : SpaceBed(config_with(frame_count, disk_pages, features)) {}
  static SimConfig config_with(u64 frame_count, u64 disk_pages, Features features) {
    SimConfig config = with_disk(frame_count, disk_pages);
    config.features = features;
    return config;
  }

  Vpn map(u64 pages, Prot prot = Prot::read_write) {
    MapParams params;
    params.range = {Vpn(0), Vpn(pages)};
    params.prot = prot;
    return space->map(params).value();
  }
  Result<Vpn> map_at(Vpn start, u64 pages, Prot prot = Prot::read_write) {
    MapParams params;
    params.range = {start, start + pages};
    params.prot = prot;
    params.fixed = true;
    return space->map(params);
  }
  // A mapped page with the contents of `id`, as a fault would leave it.
  void touch(Vpn vpn, u64 id, Bytes kind = Bytes::text) {
    Pte* pte = space->table().ensure(vpn, kAllocReclaim).value();
    ASSERT_TRUE(pte->none());
    const Prot prot = space->find(vpn)->prot;
    const Pfn pfn = take();
    make_page(bytes(pfn), id, kind);
    machine().mmu.map(space->id(), addr_of(vpn), pfn, 1, prot);
    frames.transition(pfn, PageState::isolated, PageState::mapped);
    frames[pfn].owner = PageOwner::user;
    rmap.add(pfn, {space->id(), vpn});
    space->table().store(pte, Pte::present(pfn, prot));
  }
  void unmap_page(Vpn vpn) { ageing.page_cold(space->table().get(vpn).pfn()); }
  void evict(Vpn vpn) {
    const Pfn pfn = space->table().get(vpn).pfn();
    ReclaimOutcome outcome = ageing.page_out(pfn);
    while (outcome == ReclaimOutcome::wait && sim.complete_one()) outcome = ageing.page_out(pfn);
    ASSERT_EQ(outcome, ReclaimOutcome::progress);
  }
  // Writes the pool out, so that swapped pages are on disk.
  void spill() {
    for (u32 i = 0; i < 1000; ++i) {
      while (swap.make_space() == ReclaimOutcome::progress) {
      }
      if (!sim.complete_one()) break;
    }
  }
  // What the page holds, wherever it is (not on disk). The contents are not brought in.
  bool holds(Vpn vpn, u64 id, Bytes kind = Bytes::text) {
    const Pte pte = space->table().get(vpn);
    u8 page[kPageSize];
    switch (pte.kind()) {
      case Pte::Kind::present:
        EXPECT_FALSE(sim.mmu().load(0, space->id(), addr_of(vpn), page, kPageSize).has_value());
        return is_page(page, id, kind);
      case Pte::Kind::unmapped: return is_page(bytes(pte.pfn()), id, kind);
      case Pte::Kind::swapped: {
        const Pfn pfn = take();
        const bool good =
            swap.load(pte.slot(), pfn) == LoadOutcome::done && is_page(bytes(pfn), id, kind);
        allocator.free(pfn, 0);
        return good;
      }
      default: return false;
    }
  }
  // The areas as text: "start+pages prot flags", starts relative to the space.
  std::string areas_text() const {
    std::string out;
    for (const Area* a = space->areas().first(); a != nullptr; a = AreaTree::next(a)) {
      out += std::to_string(a->start.v - kSpaceRange.start.v) + "+" +
             std::to_string(a->range().pages().v) + ":" +
             std::to_string(static_cast<u32>(a->prot)) + (a->locked ? "L" : "") +
             (a->noreserve ? "N" : "") + (a->foreign ? "F" : "") + " ";
    }
    return out;
  }
  bool sound() {
    return space->validate() && swap.validate() && areas.validate() && allocator.validate() &&
           sim.mmu().mirror_agrees();
  }

  SpaceReclaimer ageing{allocator};
  SlabChain slabs;
  KmemCache areas;
  Rmap rmap;
  PageCache cache;
  Commit commit;
  Swap swap;
  SpaceTable spaces;
  MmContext mm{machine(), frames, allocator, swap, ageing, observer, areas, rmap, cache, commit};
  AddressSpace* space = nullptr;
};

}  // namespace spillway
