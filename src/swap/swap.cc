#include "swap/swap.h"

namespace spillway {

Status Swap::init(Machine& machine, PageAllocator& allocator, FrameTable& frames,
                  const Observer& observer, PageCount pool_max, u64 slots_max) {
  machine_ = &machine;
  frames_ = &frames;
  observer_ = &observer;
  pool_max_ = pool_max;
  scratch_ = static_cast<u8*>(machine.boot.alloc(kPageSize, 64));
  if (scratch_ == nullptr) return Error::no_memory;
  SPW_TRY(codec_.init(machine.boot));
  SPW_TRY(slots_.init(machine, allocator, frames, slots_max));
  SPW_TRY(disk_.init(machine, allocator, frames, observer));
  SPW_TRY(areas_.init(machine, allocator, observer));
  SPW_TRY(plain_io_.init(machine, frames, observer, areas_));
  return pool_.init(machine, allocator, frames, slots_, observer, pool_max);
}

Status Swap::verify(SlotId id, const u8* page) {
  const Slot& slot = slots_[id];
  if (slot_checksum(id, slot.generation, page) == slot.checksum) return kOk;
  observer_->event(EventKind::swap_corrupt, id.v, slot.generation);
  return Error::corrupt;
}

void Swap::kill_content(Slot& slot) {
  switch (slot.word.state()) {
    case SlotState::pool: pool_.kill(slot.word.place()); break;
    case SlotState::disk:
      disk_.kill(slot.word.place());
      disk_full_ = false;
      clean_failures_ = 0;
      break;
    case SlotState::free:
    case SlotState::empty:
    case SlotState::same_filled:
    case SlotState::plain:
    case SlotState::bad: break;
  }
  slot.word = SlotWord::empty().with_refs(slot.word.refs());
}

void Swap::release(SlotId id) {
  if (id.area() != 0) {
    areas_.free(id);
    return;
  }
  Slot& slot = slots_[id];
  // The word must say "empty" before the object dies, so that nobody sees a live word there.
  kill_content(slot);
  slots_.free(id);
}

void Swap::get(SlotId id) {
  Slot& slot = slot_at(id);
  const u32 refs = slot.word.refs();
  if (refs < SlotWord::kRefsMax) slot.word = slot.word.with_refs(refs + 1);
}

void Swap::put(SlotId id) {
  Slot& slot = slot_at(id);
  const u32 refs = slot.word.refs();
  SPW_ASSERT_LT(0u, refs);
  if (refs == SlotWord::kRefsMax) return;
  slot.word = slot.word.with_refs(refs - 1);
  if (refs > 1) return;
  SPW_ASSERT_EQ(slot.cache_pfn, Pfn::kNone);
  release(id);
}

Result<Place> Swap::append(SlotId slot, const Encoded& object) {
  const Stream stream = (object.content & ObjectHeader::kCompressed) != 0 || object.stored < 2048
                            ? Stream::compressed
                            : Stream::raw;
  // Twice: once as it is, once after room was made.
  for (u32 attempt = 0;; ++attempt) {
    const Result<Place> place = pool_.append(slot, object, stream, false);
    if (place.ok()) return place;
    if (attempt == 1) return place.error();
    switch (make_space()) {
      case ReclaimOutcome::progress: break;
      case ReclaimOutcome::wait: return Error::wait;
      case ReclaimOutcome::exhausted: return place.error();
    }
  }
}

Result<SlotId> Swap::store(Pfn pfn) {
  // Without tiers, pages of one value can still go; where there are plain areas, those are asked.
  if (!has_tiers() && has_plain()) return Error::no_space;
  Page& page = (*frames_)[pfn];
  const u8* bytes = machine_->frames.bytes(pfn);
  SlotId id = page.slot;
  SPW_ASSERT_EQ(id.area(), 0U);
  if (id.valid()) {
    const Slot& slot = slots_[id];
    if (slot_checksum(id, slot.generation, bytes) == slot.checksum) {
      observer_->count(Counter::swap_clean);
      leave_cache(pfn);
      return id;
    }
    // Others would find the new contents where they left the old: a shared page is copied before
    // it is written. A page that was written first and then got entries of its slot is dirty.
    SPW_ASSERT(slot.word.refs() == 1 || page.has(PageFlag::dirty));
  }
  const bool fresh = !id.valid();
  if (fresh) {
    SPW_TRY_ASSIGN(slot_id, slots_.alloc(kAllocReclaim));
    id = slot_id;
  }
  const Encoded object = codec_.encode(bytes);
  SlotWord word = SlotWord::same_filled(object.fill);
  if (!object.same_filled) {
    const Result<Place> place = append(id, object);
    if (!place.ok()) {
      if (fresh) slots_.free(id);
      return place.error() == Error::wait ? Error::wait : Error::no_space;
    }
    word = SlotWord::object(SlotState::pool, place.value());
  }
  Slot& slot = slots_[id];
  kill_content(slot);
  ++slot.generation;
  slot.word = word.with_refs(slot.word.refs());
  slot.checksum = slot_checksum(id, slot.generation, bytes);
  if (!fresh) leave_cache(pfn);
  observer_->count(Counter::pswpout);
  if (object.same_filled) {
    observer_->count(Counter::swap_same_filled);
  } else {
    if ((object.content & ObjectHeader::kCompressed) == 0 && object.stored >= 2048) {
      observer_->count(Counter::swap_incompressible);
    }
    observer_->count(Counter::swap_bytes_in, kPageSize);
    observer_->count(Counter::swap_bytes_out, object_bytes(object.stored));
  }
  observer_->event(EventKind::swap_store, id.v, object.stored);
  return id;
}

LoadOutcome Swap::load(SlotId id, Pfn pfn) {
  const Slot& slot = slot_at(id);
  if (cached(id).valid()) return reading(id) ? LoadOutcome::reading : LoadOutcome::cached;
  switch (slot.error()) {
    case SlotError::none: break;
    case SlotError::io: return LoadOutcome::io;
    case SlotError::corrupt: return LoadOutcome::corrupt;
  }
  u8* out = machine_->frames.bytes(pfn);
  switch (slot.word.state()) {
    case SlotState::disk:
    case SlotState::plain: return LoadOutcome::on_disk;
    case SlotState::same_filled: Codec::fill(slot.word.fill(), out); break;
    case SlotState::pool: {
      const Place place = slot.word.place();
      const ObjectHeader header = pool_.header_at(place.segment, place.offset);
      if (header.slot != id.v || header.stored != place.stored ||
          !codec_.decode(header, pool_.data_at(place, scratch_), out).ok()) {
        return LoadOutcome::corrupt;
      }
      break;
    }
    case SlotState::free:
    case SlotState::empty:
    case SlotState::bad: SPW_PANIC("load of a slot without content");
  }
  return verify(id, out).ok() ? LoadOutcome::done : LoadOutcome::corrupt;
}

Status Swap::read(const ReadTarget* targets, u32 count) {
  if (quiesced_) return Error::wait;
  SPW_TRY(targets[0].slot.area() != 0 ? plain_io_.read(targets, count)
                                      : disk_.submit_read(targets, count, slots_, *this));
  for (u32 i = 0; i < count; ++i) {
    get(targets[i].slot);
    add_to_cache(targets[i].pfn, targets[i].slot);
  }
  return kOk;
}

void Swap::set_pool_share(PageCount online, PageCount total) {
  // At least two segments, so that one can be filled while another is written.
  u64 share = pool_max_.v * online.v / total.v;
  if (share < 2 * kSegmentFrames) share = 2 * kSegmentFrames;
  pool_.set_frames_max(PageCount(share));
}

bool Swap::start_write() {
  if (quiesced_) return false;
  if (!disk_.present() || disk_full_ || write_errors_ >= kWriteErrorsMax) return false;
  if (pool_.writing() >= kWritesMax) return false;
  if (pool_.sealed(Stream::raw) + pool_.sealed(Stream::compressed) == 0) return false;
  const Result<u32> disk_segment = disk_.claim();
  if (!disk_segment.ok()) {
    disk_full_ = claim_failed_ = true;
    return false;
  }
  const u32 segment = pool_.begin_write();
  SPW_ASSERT_NE(segment, Segment::kNoSegment);
  observer_->event(EventKind::swap_spill, segment, disk_segment.value());
  disk_.submit_write(pool_[segment], disk_segment.value(), *this);
  return true;
}

bool Swap::start_clean() {
  if (!disk_.present() || !disk_full_ || disk_.cleaning()) return false;
  // What is cleaned must be written elsewhere.
  if (write_errors_ >= kWriteErrorsMax || clean_failures_ >= kCleanFailuresMax) return false;
  return disk_.submit_clean(*this);
}

ReclaimOutcome Swap::make_space() {
  if (pool_.clean_one(false)) return ReclaimOutcome::progress;
  if (pool_.sealed(Stream::raw) + pool_.sealed(Stream::compressed) == 0 && pool_.writing() == 0) {
    // Small pools may consist of nothing but open segments.
    pool_.seal_open();
  }
  // Segments that forked relatives held may have come free since nothing could be claimed.
  if (claim_failed_) disk_full_ = claim_failed_ = false;
  while (start_write()) {
  }
  if (quiesced_) return ReclaimOutcome::wait;
  (void)start_clean();
  if (pool_.writing() > 0 || disk_.cleaning()) return ReclaimOutcome::wait;
  if (pool_.clean_one(true)) return ReclaimOutcome::progress;
  return ReclaimOutcome::exhausted;
}

bool Swap::background_wanted() const {
  if (quiesced_) return false;
  if (!disk_.present() || disk_full_ || write_errors_ >= kWriteErrorsMax) return false;
  if (pool_.writing() >= kWritesMax) return false;
  return pool_.sealed(Stream::raw) > 0 ||
         (pool_.nearly_full() && pool_.sealed(Stream::compressed) > 0);
}

bool Swap::background_step() {
  if (pool_.nearly_full() && pool_.clean_one(false)) return true;
  if (!background_wanted()) return false;
  return start_write();
}

void Swap::io_done(IoRequest& request, Status status) {
  if (!status.ok()) {
    observer_->count(Counter::io_error);
    observer_->event(EventKind::swap_io_error, request.block / kSegmentFrames,
                     static_cast<u64>(status.error()));
  }
  if (request.op == IoOp::write) {
    write_done(static_cast<u32>(request.cookie), status);
    return;
  }
  ReadOp& op = *reinterpret_cast<ReadOp*>(request.cookie);
  if (op.cleaning) {
    clean_done(op, status);
  } else {
    read_done(op, status);
  }
}

void Swap::write_done(u32 segment, Status status) {
  const u32 disk_segment = pool_[segment].disk_segment;
  if (!status.ok()) {
    // Nothing is lost: the segment is still in RAM.
    if (status.error() == Error::no_space) {
      disk_full_ = true;
      claim_failed_ = false;
    } else {
      ++write_errors_;
    }
    disk_.unclaim(disk_segment);
    pool_.end_write(segment, false, [](SlotId, Place) {});
    return;
  }
  write_errors_ = 0;
  u32 live = 0;
  pool_.end_write(segment, true, [&](SlotId id, Place from) {
    Slot& slot = slots_[id];
    const Place to{disk_segment, from.offset, from.stored};
    slot.word = SlotWord::object(SlotState::disk, to).with_refs(slot.word.refs());
    live += object_bytes(from.stored);
  });
  disk_.adopt(disk_segment, live);
  observer_->count(Counter::pool_spilled);
}

Status Swap::decode_target(const ReadOp& op, const ReadTarget& target) {
  const Place place = slots_[target.slot].word.place();
  const ObjectHeader header = disk_.header_in(op, place.offset);
  if (header.slot != target.slot.v || header.stored != place.stored) return Error::corrupt;
  const u8* data = disk_.data_in(op, place.offset, header.stored, scratch_);
  if (data == nullptr) return Error::corrupt;
  u8* out = machine_->frames.bytes(target.pfn);
  SPW_TRY(codec_.decode(header, data, out));
  return verify(target.slot, out);
}

void Swap::read_done(ReadOp& op, Status status) {
  for (u32 i = 0; i < op.target_count; ++i) {
    const ReadTarget target = op.targets[i];
    Slot& slot = slots_[target.slot];
    SPW_ASSERT_EQ(slot.cache_pfn, target.pfn.v);
    const Status result = status.ok() ? decode_target(op, target) : status;
    // Damaged bytes stay damaged; whether a failed transfer matters is the sink's decision.
    if (!result.ok() && result.error() == Error::corrupt) slot.set_error(SlotError::corrupt);
    sink_->page_read(target.pfn, target.slot, result);
  }
  disk_.finish_read(op);
}

void Swap::clean_done(ReadOp& op, Status status) {
  ++clean_failures_;
  if (status.ok()) {
    u32 offset = 0;
    while (offset + sizeof(ObjectHeader) <= kSegmentBytes && disk_.live_bytes(op.segment) > 0) {
      const ObjectHeader header = disk_.header_in(op, offset);
      if (header.stored == 0 || header.stored > kPageSize) break;  // the end, or not a segment
      const Place from{op.segment, offset, header.stored};
      offset += object_bytes(header.stored);
      Slot* slot = slots_.find(SlotId(header.slot));
      if (slot == nullptr || !slot->word.in(SlotState::disk, from)) continue;
      if (reading(SlotId(header.slot))) continue;
      const u8* data = disk_.data_in(op, from.offset, header.stored, scratch_);
      if (data == nullptr) break;
      const Encoded object{.stored = header.stored, .content = header.content, .data = data};
      const Result<Place> to = pool_.append(SlotId(header.slot), object, Stream::compressed, true);
      if (!to.ok()) break;
      slot->word = SlotWord::object(SlotState::pool, to.value()).with_refs(slot->word.refs());
      disk_.kill(from);
      disk_full_ = false;
      clean_failures_ = 0;
    }
    observer_->count(Counter::disk_cleaned);
  } else {
    disk_.avoid(op.segment);
  }
  disk_.finish_read(op);
}

bool Swap::validate() {
  bool good = pool_.validate() && areas_.validate();
  u64 disk_bytes = 0;
  u64 cached = 0;
  for_each_slot([&](SlotId id, const Slot& slot) {
    if (slot.word.state() == SlotState::disk) {
      disk_bytes += object_bytes(slot.word.place().stored);
      if (disk_.live_bytes(slot.word.place().segment) == 0) good = false;
    }
    if (slot.word.refs() == 0) good = false;
    if (slot.cache_pfn == Pfn::kNone) return;
    ++cached;
    if ((*frames_)[Pfn(slot.cache_pfn)].slot != id) good = false;
  });
  u64 live = 0;
  for (u32 i = 0; i < disk_.segments_total(); ++i) live += disk_.live_bytes(i);
  return good && live == disk_bytes && cached == cached_pages_.v;
}

}  // namespace spillway
