// SwapDisk: the segments of the swap file that this process refers to, and the reads in flight.
// Segments are written whole by Swap; reads fetch the blocks around one or more objects of a
// segment into frames of their own, from which the pages are then decoded.
// Thread safety: the engine lock.
#pragma once

#include "swap/pool.h"

namespace spillway {

// A page to be read: the slot says where from, the frame (state reading) where to.
struct ReadTarget {
  SlotId slot;
  Pfn pfn;
};
inline constexpr u32 kReadTargetsMax = 32;

struct ReadOp {
  IoRequest io;
  ReadTarget targets[kReadTargetsMax];
  u32 target_count = 0;
  u32 segment = 0;
  u32 first_block = 0;    // of the segment
  bool cleaning = false;  // the whole segment, to move its live objects elsewhere
  ReadOp* next_free = nullptr;
};

class SwapDisk {
 public:
  // Reads in flight at most: enough for a device to reach its full rate (PEERS: 62 k/s at
  // depth 128, 59 k/s at 32), and few enough that their frames stay below the reserve.
  static constexpr u32 kReadsMax = 32;

  Status init(Machine& machine, PageAllocator& allocator, FrameTable& frames,
              const Observer& observer);
  bool present() const { return device_ != nullptr; }
  u64 segments_total() const { return segments_total_; }
  u64 segments_used() const { return segments_used_; }
  // More than half of the disk is in use: copies of resident pages are not worth keeping.
  bool half_full() const { return segments_used_ * 2 > segments_total_; }

  // Claims a segment to write; no_space when none is left.
  Result<u32> claim();
  // `bytes` of live objects are in the segment now (0 gives it back at once).
  void adopt(u32 segment, u32 bytes);
  void unclaim(u32 segment);
  // One object of the segment is nobody's any more.
  void kill(Place place);

  void submit_write(Segment& segment, u32 disk_segment, IoSink& sink);

  // Starts reading `count` targets, all in one segment. no_memory / wait: no frames for the
  // transfer; busy: too many reads in flight. Nothing has changed then.
  Status submit_read(const ReadTarget* targets, u32 count, const SlotTable& slots, IoSink& sink);
  // Starts reading a whole segment with many dead bytes; false if there is none worth it.
  bool submit_clean(IoSink& sink);
  // The segment could not be read: the next cleaning takes another one.
  void avoid(u32 segment) { unreadable_ = segment; }
  // The bytes of an object inside a finished read; may use scratch when it lies across frames.
  ObjectHeader header_in(const ReadOp& op, u32 offset) const;
  const u8* data_in(const ReadOp& op, u32 offset, u32 stored, u8* scratch) const;
  // Gives the transfer's frames and the operation back.
  void finish_read(ReadOp& op);

  u32 reads_in_flight() const { return reads_; }
  u32 live_bytes(u32 segment) const { return live_[segment]; }
  bool cleaning() const { return cleaning_; }

 private:
  ReadOp* take_op();
  Status alloc_transfer(ReadOp& op, u32 blocks);

  Machine* machine_ = nullptr;
  PageAllocator* allocator_ = nullptr;
  FrameTable* frames_ = nullptr;
  const Observer* observer_ = nullptr;
  BlockDevice* device_ = nullptr;
  u32* live_ = nullptr;  // live bytes per segment
  ReadOp* free_ops_ = nullptr;
  u64 segments_total_ = 0;
  u64 segments_used_ = 0;
  u32 reads_ = 0;
  u32 clean_hand_ = 0;
  u32 cleaning_segment_ = 0;              // while cleaning_
  u32 unreadable_ = Segment::kNoSegment;  // the last one
  bool cleaning_ = false;
};

}  // namespace spillway
