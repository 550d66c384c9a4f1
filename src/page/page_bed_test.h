// PageBed: frames, descriptors and a page allocator on the simulated machine, with a reclaimer
// that does what the test tells it: the floor on which tests of the rooms above stand too.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "machine_sim/sim_machine.h"
#include "page/page_allocator.h"

namespace spillway {

// Answers reclaim() from a script and frees what it was given for that purpose.
class FakeReclaimer : public Reclaimer {
 public:
  explicit FakeReclaimer(PageAllocator& allocator) : allocator_(allocator) {}

  ReclaimOutcome reclaim(PageCount want) override {
    ++calls;
    wanted += want.v;
    allocator_.enter_reclaim();
    for (u64 i = 0; i < frees_per_call && !hoard.empty(); ++i) {
      allocator_.free(hoard.back(), 0);
      hoard.pop_back();
    }
    allocator_.leave_reclaim();
    return outcome;
  }
  void page_added(Pfn, Arrival, u32) override {}
  void page_touched(Pfn) override {}
  void page_unmapped(Pfn) override {}
  void page_removed(Pfn) override {}
  void page_added_unmapped(Pfn) override {}
  void page_locked(Pfn) override {}
  void page_unlocked(Pfn) override {}
  void page_written(Pfn, Status) override {}
  void page_cold(Pfn) override {}
  ReclaimOutcome page_out(Pfn) override { return ReclaimOutcome::exhausted; }

  ReclaimOutcome outcome = ReclaimOutcome::exhausted;
  std::vector<Pfn> hoard;  // isolated frames that reclaim gives back, from the end
  u64 frees_per_call = 1;
  u64 calls = 0;
  u64 wanted = 0;

 private:
  PageAllocator& allocator_;
};

struct PageBed {
  explicit PageBed(const SimConfig& config) : sim(config) {
    const PageCount count = sim.machine().frames.count();
    void* pages = sim.machine().boot.alloc(count.v * sizeof(Page), 64);
    frames.init(static_cast<Page*>(pages), count);
    allocator.init(sim.machine(), frames, observer);
    allocator.set_reclaimer(reclaimer);
  }
  explicit PageBed(u64 frame_count) : PageBed(config_of(frame_count)) {}
  static SimConfig config_of(u64 frame_count) {
    SimConfig config;
    config.frames = PageCount(frame_count);
    return config;
  }
  // Brings everything online.
  void grow_all() { (void)allocator.grow(static_cast<u32>(frames.count().v)); }
  u64 count(Counter c) const { return counters[c]; }
  // I1, counted from the descriptors: free + isolated + kernel + reserved == online.
  bool sum_holds() {
    u64 free_frames = 0;
    u64 taken = 0;
    u64 reserved = 0;
    for (u32 i = 0; i < frames.count().v; ++i) {
      const PageState s = frames[Pfn(i)].state;
      if (s == PageState::free || s == PageState::pcp) ++free_frames;
      if (s == PageState::isolated || s == PageState::kernel) ++taken;
      if (s == PageState::reserved) ++reserved;
    }
    return free_frames == allocator.free_pages().v && reserved == allocator.reserved().v &&
           free_frames + taken + reserved == allocator.online().v &&
           sim.frames().online() == allocator.online();
  }

  SimMachine sim;
  Counters counters{};
  EventRing events;
  Observer observer{&counters, &events};
  FrameTable frames;
  PageAllocator allocator;
  FakeReclaimer reclaimer{allocator};
};

}  // namespace spillway
