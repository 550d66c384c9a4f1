#include "swap/swap_areas.h"

#include "swap/swap_header.h"

namespace spillway {

static_assert(Machine::kBlockDevicesMax <= SwapAreas::kAreasMax);

Status SwapAreas::init(Machine& machine, PageAllocator& allocator, const Observer& observer) {
  machine_ = &machine;
  allocator_ = &allocator;
  observer_ = &observer;
  count_ = machine.block_device_count;
  if (count_ == 0) return kOk;
  areas_ = static_cast<Area*>(machine.boot.alloc(count_ * sizeof(Area), 64));
  if (areas_ == nullptr) return Error::no_memory;
  for (u32 n = 1; n <= count_; ++n) {
    at(n) = Area{};
    at(n).slots.init(machine.frames, allocator);
  }
  return kOk;
}

// Starts writing or reading the header; the area's frame for it is there already.
Status SwapAreas::submit_header(u32 number, IoOp op) {
  Area& area = at(number);
  area.io = IoRequest{};
  area.io.op = op;
  area.io.count = 1;
  area.io.frames[0] = area.header;
  area.io.sink = this;
  area.io.cookie = number;
  area.header_pending = true;
  ++transfers_;
  const bool write = op == IoOp::write;
  observer_->count(write ? Counter::disk_writes : Counter::disk_reads);
  observer_->count(write ? Counter::disk_write_bytes : Counter::disk_read_bytes, kPageSize);
  device(number).submit(area.io);
  return Error::wait;
}

void SwapAreas::io_done(IoRequest& request, Status status) {
  Area& area = at(static_cast<u32>(request.cookie));
  area.header_pending = false;
  area.header_status = status;
  --transfers_;
  if (status.ok()) return;
  observer_->count(Counter::io_error);
  observer_->event(EventKind::swap_io_error, SlotId(static_cast<u32>(request.cookie), 0).v,
                   static_cast<u64>(status.error()));
}

void SwapAreas::drop_header(Area& area) {
  allocator_->free_kernel(area.header, PageOwner::pool);
  area.header = kNoPfn;
}

Status SwapAreas::format(u32 device_number, const SwapFormat& format) {
  if (device_number >= count_) return Error::invalid;
  const u32 number = device_number + 1;
  Area& area = at(number);
  if (area.state == State::formatting) {
    if (area.header_pending) return Error::wait;
    drop_header(area);
    area.state = State::off;
    return area.header_status;
  }
  if (area.state != State::off) return Error::busy;
  const PageCount size = format.size.v == 0 ? device(number).size() : format.size;
  if (size.v < 2 || size.v > u64{1} << SlotId::kOffsetBits) return Error::invalid;
  if (format.bad_count > SwapHeader::kBadMax) return Error::invalid;
  if (quiesced_) return Error::wait;
  SPW_TRY_ASSIGN(pfn, allocator_->alloc_kernel(PageOwner::pool, kAllocKernel));
  area.header = pfn;
  SwapHeader* header = reinterpret_cast<SwapHeader*>(machine_->frames.bytes(pfn));
  header->make(static_cast<u32>(size.v), format.bad_pages, format.bad_count);
  const Status sound = header->check(device(number).size());
  if (!sound.ok()) {
    drop_header(area);
    return sound;
  }
  area.state = State::formatting;
  return submit_header(number, IoOp::write);
}

i32 SwapAreas::next_default_priority() const {
  i32 lowest = kPriorityDefault;
  for (u32 n = 1; n <= count_; ++n) {
    if (at(n).state == State::on && at(n).priority < lowest) lowest = at(n).priority;
  }
  return lowest - 1;
}

// The header is there: takes the records that it asks for.
Status SwapAreas::start(Area& area, PageCount device_size) {
  SPW_TRY(area.header_status);
  const SwapHeader& header =
      *reinterpret_cast<const SwapHeader*>(machine_->frames.bytes(area.header));
  SPW_TRY(header.check(device_size));
  u32 pages = header.last_page + 1;
  if (area.wanted.v != 0 && area.wanted.v < pages) pages = static_cast<u32>(area.wanted.v);
  if (pages < 2) return Error::invalid;
  SPW_TRY(area.slots.reserve(pages));
  for (u32 i = 0; i < header.bad_count; ++i) {
    if (header.bad[i] < pages) area.slots.mark_bad(header.bad[i]);
  }
  if (area.slots.good() > 0) return kOk;
  area.slots.release();
  return Error::invalid;
}

Result<u32> SwapAreas::swap_on(u32 device_number, i32 priority, PageCount size) {
  if (device_number >= count_) return Error::invalid;
  if (priority < kPriorityDefault || priority > kPriorityMax) return Error::invalid;
  const u32 number = device_number + 1;
  Area& area = at(number);
  if (area.state == State::off) {
    if (quiesced_) return Error::wait;
    SPW_TRY_ASSIGN(pfn, allocator_->alloc_kernel(PageOwner::pool, kAllocKernel));
    area.header = pfn;
    area.state = State::starting;
    area.wanted = size;
    SPW_TRY(submit_header(number, IoOp::read));
  }
  if (area.state != State::starting) return Error::busy;
  if (area.header_pending) return Error::wait;
  const Status status = start(area, device(number).size());
  if (!status.ok() && status.error() == Error::wait) return Error::wait;
  drop_header(area);
  if (!status.ok()) {
    area.state = State::off;
    return status.error();
  }
  area.priority = priority == kPriorityDefault ? next_default_priority() : priority;
  area.state = State::on;
  area.writable = true;
  return number;
}

Status SwapAreas::begin_off(u32 area) {
  if (!on(area) || !at(area).writable) return Error::invalid;
  at(area).writable = false;
  return kOk;
}

Status SwapAreas::cancel_off(u32 area) {
  if (!on(area) || at(area).writable) return Error::invalid;
  at(area).writable = true;
  return kOk;
}

Status SwapAreas::finish_off(u32 area) {
  if (!on(area) || at(area).writable) return Error::invalid;
  if (at(area).slots.used() != 0) return Error::busy;
  at(area).slots.release();
  at(area).state = State::off;
  return kOk;
}

SlotId SwapAreas::next_used(SlotId slot) const {
  if (!on(slot.area())) return kNoSlot;
  const u32 offset = at(slot.area()).slots.next_used(slot.offset());
  return offset == 0 ? kNoSlot : SlotId(slot.area(), offset);
}

Result<SlotId> SwapAreas::alloc() {
  u32 best = 0;
  // In turn, beginning after the area that was used last: of equal priorities the next one wins.
  for (u32 i = 0; i < count_; ++i) {
    const u32 number = (last_ + i) % count_ + 1;
    const Area& area = at(number);
    if (area.state != State::on || !area.writable || area.slots.free_count() == 0) continue;
    if (best == 0 || area.priority > at(best).priority) best = number;
  }
  if (best == 0) return Error::no_space;
  last_ = best;
  return SlotId(best, at(best).slots.alloc());
}

Slot* SwapAreas::find(SlotId slot) const {
  return on(slot.area()) ? at(slot.area()).slots.find(slot.offset()) : nullptr;
}

bool SwapAreas::any_writable() const { return total_pages().v != 0; }

PageCount SwapAreas::free_pages() const {
  u64 pages = 0;
  for (u32 n = 1; n <= count_; ++n) pages += at(n).writable && on(n) ? at(n).slots.free_count() : 0;
  return PageCount(pages);
}

PageCount SwapAreas::total_pages() const {
  u64 pages = 0;
  for (u32 n = 1; n <= count_; ++n) pages += at(n).writable && on(n) ? at(n).slots.good() : 0;
  return PageCount(pages);
}

u64 SwapAreas::used() const {
  u64 slots = 0;
  for (u32 n = 1; n <= count_; ++n) slots += on(n) ? at(n).slots.used() : 0;
  return slots;
}

u64 SwapAreas::meta_frames() const {
  u64 frames = 0;
  for (u32 n = 1; n <= count_; ++n) frames += at(n).slots.meta_frames();
  return frames;
}

SwapAreaInfo SwapAreas::info(u32 number) const {
  const Area& area = at(number);
  return {number,        number - 1,   PageCount(area.slots.good()), PageCount(area.slots.used()),
          area.priority, area.writable};
}

bool SwapAreas::validate() const {
  for (u32 n = 1; n <= count_; ++n) {
    if (on(n) && !at(n).slots.validate()) return false;
  }
  return true;
}

}  // namespace spillway
