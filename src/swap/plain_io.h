// PlainIo: the transfers between frames in the swap cache and the slots of plain areas. A page
// is written from, and read into, its own frame. Every page read is compared with the checksum of
// what was written.
// Thread safety: the engine lock.
#pragma once

#include "swap/swap_areas.h"
#include "swap/swap_disk.h"

namespace spillway {

// Told when a page that was being read is there. Implemented by room fault.
class SwapInSink {
 public:
  // The frame (state reading, in the swap cache) holds the page of `slot`, or status says why not
  // (io, corrupt). The frame belongs to the sink, which takes it out of the cache (and frees it)
  // unless it is good and wanted; nobody wants it if Swap::shared says no.
  virtual void page_read(Pfn pfn, SlotId slot, Status status) = 0;

 protected:
  ~SwapInSink() = default;
};

class PlainIo final : public IoSink {
 public:
  // Pages being written at most: Linux's swap_cluster (8) x 2^page_cluster (4) (MECHANISMS 7.5).
  static constexpr u32 kWritesMax = 128;
  // Requests for reading at most: a device's full rate takes 32 of them (SwapDisk::kReadsMax);
  // twice that, because a window of slots may fall apart into several.
  static constexpr u32 kReadsMax = 64;

  Status init(Machine& machine, FrameTable& frames, const Observer& observer, SwapAreas& areas);
  void set_swap_in_sink(SwapInSink& sink) { sink_ = &sink; }
  void set_reclaimer(Reclaimer& reclaimer) { reclaimer_ = &reclaimer; }

  Status write(Pfn pfn);
  Status read(const ReadTarget* targets, u32 count);

  u32 in_flight() const { return writes_ + reads_; }
  u32 writes_in_flight() const { return writes_; }
  void io_done(IoRequest& request, Status status) override;

 private:
  struct Transfer {
    IoRequest io;
    SlotId first;
    u32 count = 0;
    Pfn frames[kIoFramesMax];
    u32 single = 0;  // reading page by page after a failure: pages done + 1; 0 = all at once
    Transfer* next_free = nullptr;
  };

  Transfer* take(u32* in_use);
  void give_back(Transfer& transfer, u32* in_use);
  void submit(Transfer& transfer, IoOp op);
  void write_done(Transfer& transfer, Status status);
  void read_done(Transfer& transfer, Status status);
  void deliver(SlotId slot, Pfn pfn, Status status);

  Machine* machine_ = nullptr;
  FrameTable* frames_ = nullptr;
  const Observer* observer_ = nullptr;
  SwapAreas* areas_ = nullptr;
  SwapInSink* sink_ = nullptr;
  Reclaimer* reclaimer_ = nullptr;
  Transfer* free_ = nullptr;
  u32 writes_ = 0;
  u32 reads_ = 0;
};

}  // namespace spillway
