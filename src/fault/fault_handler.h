// FaultHandler: brings pages in. One fault serves a window of pages where a stream was
// recognised; otherwise one.
//
// What an entry is decides: empty -> a fresh zeroed page (or the zero page); resident but
// unmapped -> mapped again, a soft fault; swapped -> decoded from the pool, or read from disk,
// which is a wait. docs/life-of-a-fault.md walks through it. Thread safety: the engine lock.
#pragma once

#include "fault/streams.h"
#include "machine/fault_sink.h"
#include "space/space_table.h"

namespace spillway {

struct FaultConfig {
  u32 readahead_min;
  u32 readahead_max;
  u32 fresh_around_max;
  u32 page_cluster = 3;
};

// How populate touches pages: as mlock does (private ones that may be written are written, so that
// no later write has to copy), or as the caller says.
enum class Populate : u8 { as_area, read, write };

// What the fault entry must know of the task that faulted.
struct FaultTask {
  bool strict_stack = false;  // no access more than 32 bytes below sp extends the stack
  VirtAddr sp;
};

class FaultHandler final : public SwapInSink {
 public:
  static constexpr u32 kWindowMax = 64;
  // From this retry on, a page that had to be read is mapped as soon as it arrives: left unmapped
  // on a machine short of frames, it might be evicted before each retry, for ever.
  static constexpr u32 kUrgentAttempt = 2;
  // Attempts of populate on one page: the read, the copy-on-write, and twice more for bad luck.
  static constexpr u32 kPopulateAttempts = 4;

  void init(MmContext& mm, SpaceTable& spaces, const FaultConfig& config);

  FaultOutcome handle(AddressSpace& space, VirtAddr va, Access access, u32 attempt,
                      const FaultTask& task = {});
  // Makes every page of the range resident (mlock, MAP_POPULATE). wait: call again. Errors as
  // a fault would have.
  // `reached`, if not null, becomes the page that did not come: a caller that goes on there makes
  // progress even where not all of the range fits into memory. `how` is as_area on machines that do
  // not share frames.
  FaultOutcome populate(AddressSpace& space, VpnRange range, Vpn* reached = nullptr,
                        Populate how = Populate::as_area);
  // Starts bringing swapped pages of the range back while frames are free (MADV_WILLNEED).
  void will_need(AddressSpace& space, VpnRange range);

  // An isolated frame with its contents becomes the private page at `vpn`, mapped with all the
  // area's rights and dirty. The leaf table exists, its entry is empty.
  void install_page(AddressSpace& space, Area& area, Vpn vpn, Pfn pfn) {
    install_anonymous(space, area, vpn, pfn);
  }
  // swapoff: brings the page behind a swap entry in, as a read would, whatever its area allows; and
  // a page of shared memory. wait: call again.
  FaultOutcome unuse_entry(AddressSpace& space, Vpn vpn);
  FaultOutcome unuse_shared(Mapping& mapping, u32 index, SlotId slot);

  void page_read(Pfn pfn, SlotId slot, Status status) override;

 private:
  struct Ready {
    Vpn vpn;
    Pfn pfn;
    Arrival arrival = Arrival::fresh;
    u32 shadow = 0;
    bool soft = false;  // was resident but unmapped
  };
  // The work on one window: what is at hand, and what came of it. Jobs are members, not locals:
  // clearing these arrays for each fault would cost as much as the fault's own work.
  struct Job {
    AddressSpace* space = nullptr;
    Area* area = nullptr;
    Vpn first;
    Access access = Access::read;
    Window window;
    bool urgent = false;  // the first page, if it must be read, is mapped on arrival
    u32 ready_count = 0;
    u32 frame_count = 0;
    u32 frame_next = 0;
    u32 read_count = 0;
    FaultOutcome outcome = FaultOutcome::done;  // of the first page
    Ready ready[kWindowMax];
    Pfn frames[kWindowMax];  // frames taken for pages that need one
    ReadTarget reads[kWindowMax];

    void begin(AddressSpace& where, Area& in, Vpn vpn, Access how, Window pages) {
      space = &where;
      area = &in;
      first = vpn;
      access = how;
      window = pages;
      urgent = false;
      ready_count = frame_count = frame_next = read_count = 0;
      outcome = FaultOutcome::done;
    }
  };

  // Whether a slot belongs to one entry only, so that its page can go straight to the entry. On
  // machines that do not share frames that is always so.
  bool swapped_alone(SlotId slot) const {
    return !mm_->machine.features.shared_frames || (slot.area() == 0 && mm_->swap.refs(slot) == 1);
  }
  FaultOutcome resolve(AddressSpace& space, Area& area, Vpn vpn, Access access, u32 attempt);
  FaultOutcome grow_stack(AddressSpace& space, Area& area, VirtAddr va, const FaultTask& task);
  FaultOutcome populate_one(AddressSpace& space, Area& area, Vpn vpn, Populate how);
  FaultOutcome take_frame(AllocFlags flags, Pfn* out);
  FaultOutcome take_frame_beside(Pfn held, Pfn* out);
  FaultOutcome reserve_place(Pfn pfn);
  // fault_swap.cc
  FaultOutcome swap_fault(AddressSpace& space, Area& area, Vpn vpn, SlotId slot, Access access,
                          u32 attempt);
  void install_swapped(AddressSpace& space, Area& area, Vpn vpn, SlotId slot, Pfn pfn,
                       Access access);
  FaultOutcome swap_read(AddressSpace& space, Vpn vpn, SlotId slot, u32 attempt);
  u32 cluster_of(SlotId slot, SlotId* out) const;
  FaultOutcome read_cluster(SlotId slot, Pfn pfn);
  void cached_page_read(Pfn pfn, SlotId slot, Status status);
  void drop_read(Pfn pfn, SlotId slot, Status status);
  // fault_cow.cc
  FaultOutcome wp_fault(AddressSpace& space, Area& area, Vpn vpn);
  void install_anonymous(AddressSpace& space, Area& area, Vpn vpn, Pfn pfn);
  // fault_file.cc
  FaultOutcome file_fault(AddressSpace& space, Area& area, Vpn vpn, Access access, u32 attempt);
  void map_cached(AddressSpace& space, Area& area, Vpn vpn, Pfn pfn, Access access);
  FaultOutcome file_miss(Area& area, u32 index, CacheEntry entry);
  FaultOutcome shmem_swap_in(Mapping& mapping, u32 index, SlotId slot);
  void file_will_need(Area& area, VpnRange range);
  // fault_window.cc
  u32 clip_window(const Job& job) const;
  u32 frames_needed(const Job& job, u32 pages) const;
  FaultOutcome take_frames(Job& job, u32 pages);
  bool prepare(Job& job, Vpn vpn, bool first);
  bool prepare_fresh(Job& job, Vpn vpn);
  bool prepare_swapped(Job& job, Vpn vpn, SlotId slot, bool first);
  void map_ready(Job& job);
  void map_zero(Job& job, Vpn vpn);
  void start_reads(Job& job);
  void give_up_read(Pfn pfn);
  void settle(const Job& job, const Ready& page);
  void map_arrived(AddressSpace& space, const Area& area, Pfn pfn);
  void return_frames(Job& job);
  FaultOutcome serve(Job& job);
  void read_ahead(const Job& job);

  MmContext* mm_ = nullptr;
  SpaceTable* spaces_ = nullptr;
  FaultConfig config_{};
  Streams streams_;
  Job job_;
  Job ahead_;
};

}  // namespace spillway
