#include "swap/pool.h"

#include <cstring>

namespace spillway {
namespace {

// A segment is worth cleaning when at most this share of it is live. At 80 % four objects are
// copied for each page that finds room, about 2 us; the alternative, the disk, costs 80 us for a
// page that comes back. What is never touched stays fully live and goes to disk. Measured against
// 55 % on random and zipf accesses: 35 to 40 % fewer disk reads, half the writes.
constexpr u32 kCleanLivePercent = 80;
// When there is no other way to make room: a segment must give back at least two of 16 frames,
// because moving its objects may cost a partly filled one.
constexpr u32 kCleanDesperatePercent = 87;
// Sealed segments that one search looks at, oldest first: bounds the search in large pools;
// old segments have had the most time to lose objects.
constexpr u32 kVictimSearchMax = 64;

}  // namespace

Status Pool::init(Machine& machine, PageAllocator& allocator, FrameTable& frames, SlotTable& slots,
                  const Observer& observer, PageCount frames_max) {
  machine_ = &machine;
  allocator_ = &allocator;
  frames_ = &frames;
  slots_ = &slots;
  observer_ = &observer;
  frames_max_ = frames_limit_ = frames_max;
  // Partly filled segments (open, or sealed early) make for more segments than full ones would:
  // twice the number covers every frame being in a half-filled segment.
  u64 count = 2 * (frames_max.v / kSegmentFrames) + 8;
  if (count > SlotWord::kSegmentMax) count = SlotWord::kSegmentMax;
  segment_count_ = static_cast<u32>(count);
  segments_ = static_cast<Segment*>(machine.boot.alloc(count * sizeof(Segment), 64));
  scratch_ = static_cast<u8*>(machine.boot.alloc(kPageSize, 64));
  if (segments_ == nullptr || scratch_ == nullptr) return Error::no_memory;
  return kOk;
}

Status Pool::open_segment(Stream stream) {
  u32 id = free_head_;
  if (id != Segment::kNoSegment) {
    free_head_ = segments_[id].next;
  } else if (never_used_ < segment_count_) {
    id = never_used_++;
  } else {
    return Error::no_space;
  }
  segments_[id] = Segment{};
  segments_[id].state = SegmentState::open;
  segments_[id].stream = stream;
  open_[static_cast<u32>(stream)] = id;
  return kOk;
}

void Pool::push_sealed(u32 segment) {
  Segment& s = segments_[segment];
  SealedList& list = sealed_[static_cast<u32>(s.stream)];
  s.prev = Segment::kNoSegment;
  s.next = list.head;
  if (list.head != Segment::kNoSegment) {
    segments_[list.head].prev = segment;
  } else {
    list.tail = segment;
  }
  list.head = segment;
  ++list.count;
}

void Pool::remove_sealed(u32 segment) {
  Segment& s = segments_[segment];
  SealedList& list = sealed_[static_cast<u32>(s.stream)];
  (s.prev != Segment::kNoSegment ? segments_[s.prev].next : list.head) = s.next;
  (s.next != Segment::kNoSegment ? segments_[s.next].prev : list.tail) = s.prev;
  s.prev = s.next = Segment::kNoSegment;
  --list.count;
}

void Pool::seal(Stream stream) {
  const u32 id = open_[static_cast<u32>(stream)];
  if (id == Segment::kNoSegment) return;
  open_[static_cast<u32>(stream)] = Segment::kNoSegment;
  segments_[id].state = SegmentState::sealed;
  push_sealed(id);
  release_if_dead(id);
}

void Pool::seal_open() {
  for (u32 i = 0; i < kStreamCount; ++i) {
    const u32 id = open_[i];
    if (id != Segment::kNoSegment && segments_[id].used > 0) seal(static_cast<Stream>(i));
  }
}

void Pool::release_if_dead(u32 segment) {
  Segment& s = segments_[segment];
  if (s.state != SegmentState::sealed || s.live != 0) return;
  remove_sealed(segment);
  for (u32 i = 0; i < s.frame_count; ++i) {
    allocator_->free_kernel(s.frames[i], PageOwner::pool);
  }
  frames_used_ -= PageCount(s.frame_count);
  s.frame_count = 0;
  s.state = SegmentState::free;
  s.next = free_head_;
  free_head_ = segment;
}

Status Pool::extend(Segment& segment, u32 bytes, bool over_limit) {
  u64 limit = frames_max_.v + (over_limit ? kSegmentFrames : 0);
  if (limit < cleaning_limit_) limit = cleaning_limit_;
  while (segment.frame_count * kPageSize < segment.used + bytes) {
    if (frames_used_.v >= limit) return Error::no_space;
    SPW_TRY_ASSIGN(pfn, allocator_->alloc_kernel(PageOwner::pool, kAllocReclaim));
    segment.frames[segment.frame_count++] = pfn;
    frames_used_ += PageCount(1);
  }
  return kOk;
}

void Pool::write_bytes(const Segment& segment, u32 offset, const void* from, u32 bytes) {
  const u8* source = static_cast<const u8*>(from);
  while (bytes > 0) {
    const u32 at = offset & static_cast<u32>(kPageMask);
    u32 n = static_cast<u32>(kPageSize) - at;
    if (n > bytes) n = bytes;
    std::memcpy(machine_->frames.bytes(segment.frames[offset >> kPageShift]) + at, source, n);
    source += n;
    offset += n;
    bytes -= n;
  }
}

Result<Place> Pool::append(SlotId slot, const Encoded& object, Stream stream, bool over_limit) {
  const u32 size = object_bytes(object.stored);
  u32& open = open_[static_cast<u32>(stream)];
  if (open != Segment::kNoSegment && segments_[open].used + size > kSegmentBytes) seal(stream);
  if (open == Segment::kNoSegment) {
    SPW_TRY(open_segment(stream));
  }
  Segment& segment = segments_[open];
  SPW_TRY(extend(segment, size, over_limit));
  const ObjectHeader header{slot.v, object.stored, object.content};
  const Place place{open, segment.used, object.stored};
  write_bytes(segment, place.offset, &header, sizeof header);
  write_bytes(segment, place.offset + static_cast<u32>(sizeof header), object.data, object.stored);
  // The gap to the next object must not carry what the frame held before to the disk.
  constexpr u8 kGap[16] = {};
  const u32 end = static_cast<u32>(sizeof header) + object.stored;
  write_bytes(segment, place.offset + end, kGap, size - end);
  segment.used += size;
  segment.live += size;
  live_bytes_ += size;
  return place;
}

void Pool::kill(Place place) {
  Segment& segment = segments_[place.segment];
  const u32 size = object_bytes(place.stored);
  SPW_ASSERT_LE(size, segment.live);
  segment.live -= size;
  live_bytes_ -= size;
  release_if_dead(place.segment);
}

ObjectHeader Pool::header_at(u32 segment, u32 offset) const {
  ObjectHeader header;
  const Segment& s = segments_[segment];
  std::memcpy(&header,
              machine_->frames.bytes(s.frames[offset >> kPageShift]) + (offset & kPageMask),
              sizeof header);
  return header;
}

const u8* Pool::data_at(Place place, u8* scratch) const {
  const Segment& s = segments_[place.segment];
  u32 offset = place.offset + static_cast<u32>(sizeof(ObjectHeader));
  const u32 at = offset & static_cast<u32>(kPageMask);
  if (at + place.stored <= kPageSize) {
    return machine_->frames.bytes(s.frames[offset >> kPageShift]) + at;
  }
  u32 done = 0;
  while (done < place.stored) {
    const u32 in_page = offset & static_cast<u32>(kPageMask);
    u32 n = static_cast<u32>(kPageSize) - in_page;
    if (n > place.stored - done) n = place.stored - done;
    std::memcpy(scratch + done, machine_->frames.bytes(s.frames[offset >> kPageShift]) + in_page,
                n);
    done += n;
    offset += n;
  }
  return scratch;
}

u32 Pool::pick_victim(u32 live_percent_max) const {
  u32 best = Segment::kNoSegment;
  u32 best_live = kSegmentBytes;
  u32 looked = 0;
  for (u32 i = 0; i < kStreamCount; ++i) {
    for (u32 at = sealed_[i].tail; at != Segment::kNoSegment && looked < kVictimSearchMax;
         at = segments_[at].prev, ++looked) {
      const Segment& s = segments_[at];
      // Relative to the frames it holds, so that early-sealed segments count as they are.
      const u64 held = s.frame_count * kPageSize;
      // Moving what lives must leave a frame over, or two segments would be cleaned into each other
      // for ever, each time counted as progress.
      const bool gains = pages_for(s.live).v < s.frame_count;
      if (gains && s.live * u64{100} <= held * live_percent_max && s.live < best_live) {
        best = at;
        best_live = s.live;
      }
    }
  }
  return best;
}

bool Pool::clean_one(bool desperate) {
  const u32 victim = pick_victim(desperate ? kCleanDesperatePercent : kCleanLivePercent);
  if (victim == Segment::kNoSegment) return false;
  Segment& from = segments_[victim];
  observer_->event(EventKind::swap_clean, victim, from.live);
  const Stream stream = from.stream;
  bool complete = true;
  // Whatever the limit says: what lives in the victim moves, and then more frames come free than
  // that took. Stopping half way would leave both segments, and no way to clean either.
  cleaning_limit_ = frames_used_.v + pages_for(from.live).v + 1;
  for_each_live(victim, [&](SlotId id, Place place) {
    if (!complete) return;
    const ObjectHeader header = header_at(victim, place.offset);
    const Encoded object{
        .stored = header.stored, .content = header.content, .data = data_at(place, scratch_)};
    const Result<Place> to = append(id, object, stream, true);
    if (!to.ok()) {
      complete = false;  // what has moved stays moved; the rest stays where it is
      return;
    }
    Slot& slot = (*slots_)[id];
    slot.word = SlotWord::object(SlotState::pool, to.value()).with_refs(slot.word.refs());
    from.live -= object_bytes(header.stored);
    live_bytes_ -= object_bytes(header.stored);
  });
  cleaning_limit_ = 0;
  release_if_dead(victim);
  if (complete) observer_->count(Counter::pool_cleaned);
  return complete;
}

u32 Pool::begin_write() {
  u32 id = sealed_[static_cast<u32>(Stream::raw)].tail;
  if (id == Segment::kNoSegment) id = sealed_[static_cast<u32>(Stream::compressed)].tail;
  if (id == Segment::kNoSegment) return id;
  remove_sealed(id);
  Segment& s = segments_[id];
  s.state = SegmentState::writing;
  ++writing_;
  // Bytes behind the last object were somebody's once: they must not reach the disk. They may
  // reach into frames that were taken for an object which then did not come.
  for (u32 offset = s.used; offset < s.frame_count * kPageSize;) {
    const u32 at = offset & static_cast<u32>(kPageMask);
    std::memset(machine_->frames.bytes(s.frames[offset >> kPageShift]) + at, 0, kPageSize - at);
    offset += static_cast<u32>(kPageSize) - at;
  }
  s.io = IoRequest{};
  s.io.op = IoOp::write;
  s.io.count = s.frame_count;
  for (u32 i = 0; i < s.frame_count; ++i) s.io.frames[i] = s.frames[i];
  s.io.cookie = id;
  return id;
}

bool Pool::validate() {
  u64 live_total = 0;
  u64 frames_total = 0;
  for (u32 i = 0; i < never_used_; ++i) {
    Segment& s = segments_[i];
    if (s.state == SegmentState::free) {
      if (s.frame_count != 0 || s.live != 0) return false;
      continue;
    }
    u32 live = 0;
    for_each_live(i, [&](SlotId, Place place) { live += object_bytes(place.stored); });
    if (live != s.live || s.used > s.frame_count * kPageSize) return false;
    live_total += live;
    frames_total += s.frame_count;
  }
  return live_total == live_bytes_ && frames_total == frames_used_.v;
}

}  // namespace spillway
