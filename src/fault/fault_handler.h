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
};

class FaultHandler final : public SwapInSink {
 public:
  static constexpr u32 kWindowMax = 64;
  // From this retry on, a page that had to be read is mapped as soon as it arrives: left unmapped
  // on a machine short of frames, it might be evicted before each retry, for ever.
  static constexpr u32 kUrgentAttempt = 2;

  void init(MmContext& mm, SpaceTable& spaces, const FaultConfig& config);

  FaultOutcome handle(AddressSpace& space, VirtAddr va, Access access, u32 attempt);
  // Makes every page of the range resident (mlock, MAP_POPULATE). wait: call again. Errors as
  // a fault would have.
  FaultOutcome populate(AddressSpace& space, VpnRange range);
  // Starts bringing swapped pages of the range back while frames are free (MADV_WILLNEED).
  void will_need(AddressSpace& space, VpnRange range);

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
