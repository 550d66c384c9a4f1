#include "swap/plain_io.h"

namespace spillway {

Status PlainIo::init(Machine& machine, FrameTable& frames, const Observer& observer,
                     SwapAreas& areas) {
  machine_ = &machine;
  frames_ = &frames;
  observer_ = &observer;
  areas_ = &areas;
  if (machine.block_device_count == 0) return kOk;
  constexpr u32 kTransfers = kWritesMax + kReadsMax;
  Transfer* all = static_cast<Transfer*>(machine.boot.alloc(kTransfers * sizeof(Transfer), 64));
  if (all == nullptr) return Error::no_memory;
  for (u32 i = 0; i < kTransfers; ++i) {
    all[i] = Transfer{};
    all[i].next_free = free_;
    free_ = &all[i];
  }
  return kOk;
}

PlainIo::Transfer* PlainIo::take(u32* in_use) {
  Transfer* transfer = free_;
  SPW_ASSERT(transfer != nullptr);  // there are as many as writes and reads together
  free_ = transfer->next_free;
  *transfer = Transfer{};
  ++*in_use;
  return transfer;
}

void PlainIo::give_back(Transfer& transfer, u32* in_use) {
  transfer.next_free = free_;
  free_ = &transfer;
  --*in_use;
}

void PlainIo::submit(Transfer& transfer, IoOp op) {
  IoRequest& io = transfer.io;
  const u32 from = transfer.single == 0 ? 0 : transfer.single - 1;
  io.op = op;
  io.block = transfer.first.offset() + from;
  io.count = transfer.single == 0 ? transfer.count : 1;
  for (u32 i = 0; i < io.count; ++i) io.frames[i] = transfer.frames[from + i];
  io.sink = this;
  io.cookie = reinterpret_cast<u64>(&transfer);
  const bool write = op == IoOp::write;
  observer_->count(write ? Counter::disk_writes : Counter::disk_reads);
  observer_->count(write ? Counter::disk_write_bytes : Counter::disk_read_bytes,
                   io.count * kPageSize);
  areas_->device(transfer.first.area()).submit(io);
}

Status PlainIo::write(Pfn pfn) {
  Page& page = (*frames_)[pfn];
  SPW_ASSERT(page.state == PageState::unmapped || page.state == PageState::isolated);
  SPW_ASSERT(page.has(PageFlag::dirty) && !page.has(PageFlag::writeback));
  if (writes_ == kWritesMax) return Error::wait;
  Slot& slot = *areas_->find(page.slot);
  SPW_ASSERT_EQ(slot.cache_pfn, pfn.v);
  // What the slot held is lost from now on, whether the write succeeds or not.
  slot.word = SlotWord::empty().with_refs(slot.word.refs());
  ++slot.generation;
  slot.checksum = slot_checksum(page.slot, slot.generation, machine_->frames.bytes(pfn));
  page.set(PageFlag::writeback);
  page.clear(PageFlag::dirty);
  page.clear(PageFlag::error);
  Transfer* transfer = take(&writes_);
  transfer->first = page.slot;
  transfer->count = 1;
  transfer->frames[0] = pfn;
  observer_->count(Counter::pswpout);
  submit(*transfer, IoOp::write);
  return kOk;
}

Status PlainIo::read(const ReadTarget* targets, u32 count) {
  SPW_ASSERT(count >= 1 && count <= kReadTargetsMax);
  const auto continues = [targets](u32 i, u32 length) {
    return length < kIoFramesMax && targets[i].slot.v == targets[i - 1].slot.v + 1;
  };
  u32 runs = 1;
  for (u32 i = 1, length = 1; i < count; ++i) {
    length = continues(i, length) ? length + 1 : 1;
    if (length == 1) ++runs;
  }
  if (runs > kReadsMax - reads_) return Error::busy;
  for (u32 i = 0; i < count;) {
    Transfer* transfer = take(&reads_);
    transfer->first = targets[i].slot;
    do {
      SPW_ASSERT(areas_->find(targets[i].slot)->word.state() == SlotState::plain);
      transfer->frames[transfer->count++] = targets[i].pfn;
      ++i;
    } while (i < count && continues(i, transfer->count));
    submit(*transfer, IoOp::read);
  }
  return kOk;
}

void PlainIo::io_done(IoRequest& request, Status status) {
  Transfer& transfer = *reinterpret_cast<Transfer*>(request.cookie);
  if (!status.ok()) {
    observer_->count(Counter::io_error);
    observer_->event(EventKind::swap_io_error, SlotId(transfer.first.area(), 0).v + request.block,
                     static_cast<u64>(status.error()));
  }
  if (request.op == IoOp::write) {
    write_done(transfer, status);
  } else {
    read_done(transfer, status);
  }
}

void PlainIo::write_done(Transfer& transfer, Status status) {
  const Pfn pfn = transfer.frames[0];
  const SlotId id = transfer.first;
  give_back(transfer, &writes_);
  Page& page = (*frames_)[pfn];
  SPW_ASSERT(page.slot == id && page.has(PageFlag::writeback));
  page.clear(PageFlag::writeback);
  if (status.ok()) {
    Slot& slot = *areas_->find(id);
    slot.word = SlotWord::plain().with_refs(slot.word.refs());
  } else {
    page.set(PageFlag::dirty);
    page.set(PageFlag::error);
  }
  reclaimer_->page_written(pfn, status);
}

void PlainIo::read_done(Transfer& transfer, Status status) {
  if (transfer.single == 0 && transfer.count > 1 && !status.ok()) {
    // One bad page must not take its neighbours with it: read them one by one.
    transfer.single = 1;
    submit(transfer, IoOp::read);
    return;
  }
  if (transfer.single != 0) {
    const u32 i = transfer.single - 1;
    const SlotId id(transfer.first.v + i);
    const Pfn pfn = transfer.frames[i];
    // The next one first: the sink may start reads of its own.
    if (transfer.single++ < transfer.count) {
      submit(transfer, IoOp::read);
    } else {
      give_back(transfer, &reads_);
    }
    deliver(id, pfn, status);
    return;
  }
  const Transfer done = transfer;
  give_back(transfer, &reads_);
  for (u32 i = 0; i < done.count; ++i) deliver(SlotId(done.first.v + i), done.frames[i], status);
}

void PlainIo::deliver(SlotId id, Pfn pfn, Status status) {
  Slot& slot = *areas_->find(id);
  SPW_ASSERT_EQ(slot.cache_pfn, pfn.v);
  if (status.ok() &&
      slot_checksum(id, slot.generation, machine_->frames.bytes(pfn)) != slot.checksum) {
    observer_->event(EventKind::swap_corrupt, id.v, slot.generation);
    slot.set_error(SlotError::corrupt);
    status = Error::corrupt;
  }
  sink_->page_read(pfn, id, status);
}

}  // namespace spillway
