// Pool: compressed pages in RAM, a log of 64 KiB segments. Objects are appended to an open
// segment; a page that is freed or stored anew leaves a dead object behind. Segments are cleaned
// (their live objects move to the open segment) or go to disk whole, so the log is also the
// unit of disk I/O.
//
// A segment's frames need not be consecutive; an object may lie across two or three of them.
// Thread safety: the engine lock.
#pragma once

#include "machine/block_device.h"
#include "swap/codec.h"
#include "swap/slot_table.h"

namespace spillway {

inline constexpr u32 kSegmentFrames = kIoFramesMax;
inline constexpr u32 kSegmentBytes = kSegmentFrames * static_cast<u32>(kPageSize);

enum class SegmentState : u8 { free, open, sealed, writing };

// Objects that compress and objects that do not are kept apart: the latter gain nothing from
// staying in RAM and go to disk first.
enum class Stream : u8 { compressed = 0, raw = 1 };
inline constexpr u32 kStreamCount = 2;

struct Segment {
  Pfn frames[kSegmentFrames];
  u32 frame_count = 0;
  u32 used = 0;           // bytes appended
  u32 live = 0;           // bytes of objects that are still somebody's
  u32 prev = kNoSegment;  // age list of sealed segments, or free list
  u32 next = kNoSegment;
  u32 disk_segment = kNoSegment;  // while writing
  SegmentState state = SegmentState::free;
  Stream stream = Stream::compressed;
  IoRequest io;

  static constexpr u32 kNoSegment = ~u32{0};
};

class Pool {
 public:
  // `frames_max`: most frames that the pool may take.
  Status init(Machine& machine, PageAllocator& allocator, FrameTable& frames, SlotTable& slots,
              const Observer& observer, PageCount frames_max);

  // Appends one object for `slot`. no_space: the pool is at its limit; no_memory: no frame.
  // `over_limit` lets cleaning use up to one segment more than the limit.
  Result<Place> append(SlotId slot, const Encoded& object, Stream stream, bool over_limit);
  // The object at `place` is nobody's any more. Frees the segment when it was the last one.
  void kill(Place place);
  // The header and bytes of an object; `scratch` (4096 bytes) is used when it lies across frames.
  ObjectHeader header_at(u32 segment, u32 offset) const;
  const u8* data_at(Place place, u8* scratch) const;

  // Moves the live objects of the emptiest of some sealed segments to the open one; false when
  // none has enough dead bytes to be worth it. `desperate`: any gain is worth it.
  bool clean_one(bool desperate);
  // Oldest sealed segment to send to disk (raw ones first), kNoSegment if there is none. It
  // becomes `writing` and its request is filled in, except for place and sink.
  u32 begin_write();
  // Seals the open segments, even if they are not full, so that begin_write finds them.
  void seal_open();
  // The write of `segment` ended. On success calls moved(slot, old place) for each live object
  // (which must rewrite the slot), then frees the frames; on failure the segment stays, sealed.
  template <class Fn>
  void end_write(u32 segment, bool success, Fn moved) {
    Segment& s = segments_[segment];
    SPW_ASSERT_EQ(static_cast<u8>(s.state), static_cast<u8>(SegmentState::writing));
    --writing_;
    if (!success) {
      s.state = SegmentState::sealed;
      push_sealed(segment);
      release_if_dead(segment);
      return;
    }
    for_each_live(segment, moved);
    live_bytes_ -= s.live;
    s.live = 0;
    s.state = SegmentState::sealed;
    push_sealed(segment);
    release_if_dead(segment);
  }
  // Calls fn(SlotId, Place) for each live object of the segment.
  template <class Fn>
  void for_each_live(u32 segment, Fn fn) {
    const Segment& s = segments_[segment];
    for (u32 offset = 0; offset < s.used;) {
      const ObjectHeader h = header_at(segment, offset);
      const Place place{segment, offset, h.stored};
      const Slot* slot = slots_->find(SlotId(h.slot));
      if (slot != nullptr && slot->word.in(SlotState::pool, place)) fn(SlotId(h.slot), place);
      offset += object_bytes(h.stored);
    }
  }

  Segment& operator[](u32 segment) { return segments_[segment]; }
  PageCount frames_used() const { return frames_used_; }
  PageCount frames_max() const { return frames_max_; }
  // Changes the limit, to at most what init() was given. Frames above it leave with the next
  // cleaning or write.
  void set_frames_max(PageCount max) { frames_max_ = max < frames_limit_ ? max : frames_limit_; }
  bool nearly_full() const { return frames_used_.v * 16 >= frames_max_.v * 15; }
  u64 live_bytes() const { return live_bytes_; }
  u32 writing() const { return writing_; }
  u32 sealed(Stream stream) const { return sealed_[static_cast<u32>(stream)].count; }
  // O(objects): live and used bytes agree with the slots.
  bool validate();

 private:
  struct SealedList {
    u32 head = Segment::kNoSegment;  // newest
    u32 tail = Segment::kNoSegment;  // oldest
    u32 count = 0;
  };
  Status open_segment(Stream stream);
  void seal(Stream stream);
  Status extend(Segment& segment, u32 bytes, bool over_limit);
  void write_bytes(const Segment& segment, u32 offset, const void* from, u32 bytes);
  void push_sealed(u32 segment);
  void remove_sealed(u32 segment);
  void release_if_dead(u32 segment);
  u32 pick_victim(u32 live_percent_max) const;

  Machine* machine_ = nullptr;
  PageAllocator* allocator_ = nullptr;
  FrameTable* frames_ = nullptr;
  SlotTable* slots_ = nullptr;
  const Observer* observer_ = nullptr;
  Segment* segments_ = nullptr;
  u8* scratch_ = nullptr;  // one object, while cleaning
  u32 segment_count_ = 0;
  u32 free_head_ = Segment::kNoSegment;
  u32 never_used_ = 0;  // segments from here on were never used
  u32 open_[kStreamCount] = {Segment::kNoSegment, Segment::kNoSegment};
  SealedList sealed_[kStreamCount];
  PageCount frames_used_;
  PageCount frames_max_;
  u64 cleaning_limit_ = 0;  // frames that may be in use while a segment is cleaned, 0 = as ever
  PageCount frames_limit_;
  u64 live_bytes_ = 0;
  u32 writing_ = 0;
};

}  // namespace spillway
