#include "swap/swap_disk.h"

#include <cstring>

namespace spillway {
namespace {

// A disk segment is cleaned when at most half of it is live, so that two cleanings free one.
constexpr u32 kDiskCleanLiveMax = kSegmentBytes / 2;
// Segments that one search for a victim looks at; a hand goes round.
constexpr u32 kDiskSearchMax = 1024;

}  // namespace

Status SwapDisk::init(Machine& machine, PageAllocator& allocator, FrameTable& frames,
                      const Observer& observer) {
  machine_ = &machine;
  allocator_ = &allocator;
  frames_ = &frames;
  observer_ = &observer;
  device_ = machine.swap_device;
  if (device_ == nullptr) return kOk;
  segments_total_ = device_->size().v / kSegmentFrames;
  if (segments_total_ > SlotWord::kSegmentMax) segments_total_ = SlotWord::kSegmentMax;
  live_ = static_cast<u32*>(machine.boot.alloc(segments_total_ * sizeof(u32) + 8, 64));
  ReadOp* ops = static_cast<ReadOp*>(machine.boot.alloc(kReadsMax * sizeof(ReadOp), 64));
  if (live_ == nullptr || ops == nullptr) return Error::no_memory;
  for (u32 i = 0; i < kReadsMax; ++i) {
    ops[i] = ReadOp{};
    ops[i].next_free = free_ops_;
    free_ops_ = &ops[i];
  }
  return kOk;
}

Result<u32> SwapDisk::claim() {
  SPW_TRY_ASSIGN(segment, device_->claim_segment());
  SPW_ASSERT_LT(segment, segments_total_);
  ++segments_used_;
  return static_cast<u32>(segment);
}

void SwapDisk::adopt(u32 segment, u32 bytes) {
  live_[segment] = bytes;
  if (bytes == 0) unclaim(segment);
}

void SwapDisk::unclaim(u32 segment) {
  device_->release_segment(segment);
  --segments_used_;
}

void SwapDisk::kill(Place place) {
  const u32 size = object_bytes(place.stored);
  SPW_ASSERT_LE(size, live_[place.segment]);
  live_[place.segment] -= size;
  // A segment that is being read for cleaning is given back when the read ends: it could be
  // written anew before.
  const bool being_cleaned = cleaning_ && place.segment == cleaning_segment_;
  if (live_[place.segment] == 0 && !being_cleaned) unclaim(place.segment);
}

void SwapDisk::submit_write(Segment& segment, u32 disk_segment, IoSink& sink) {
  segment.disk_segment = disk_segment;
  segment.io.block = u64{disk_segment} * kSegmentFrames;
  segment.io.sink = &sink;
  observer_->count(Counter::disk_writes);
  observer_->count(Counter::disk_write_bytes, segment.io.count * kPageSize);
  device_->submit(segment.io);
}

ReadOp* SwapDisk::take_op() {
  ReadOp* op = free_ops_;
  if (op == nullptr) return nullptr;
  free_ops_ = op->next_free;
  *op = ReadOp{};
  ++reads_;
  return op;
}

void SwapDisk::finish_read(ReadOp& op) {
  for (u32 i = 0; i < op.io.count; ++i) {
    allocator_->free_kernel(op.io.frames[i], PageOwner::pool);
  }
  if (op.cleaning) {
    cleaning_ = false;
    if (live_[op.segment] == 0) unclaim(op.segment);
  }
  op.next_free = free_ops_;
  free_ops_ = &op;
  --reads_;
}

Status SwapDisk::alloc_transfer(ReadOp& op, u32 blocks) {
  for (op.io.count = 0; op.io.count < blocks; ++op.io.count) {
    // From the reserve: a read is what lets a program go on, and its frames come back soon.
    const Result<Pfn> pfn = allocator_->alloc_kernel(PageOwner::pool, kAllocReclaim);
    if (!pfn.ok()) return pfn.error();
    op.io.frames[op.io.count] = pfn.value();
  }
  return kOk;
}

Status SwapDisk::submit_read(const ReadTarget* targets, u32 count, const SlotTable& slots,
                             IoSink& sink) {
  SPW_ASSERT(count >= 1 && count <= kReadTargetsMax);
  u32 first = kSegmentFrames;
  u32 last = 0;
  u32 segment = 0;
  for (u32 i = 0; i < count; ++i) {
    const Place place = slots.find(targets[i].slot)->word.place();
    const u32 start = place.offset >> kPageShift;
    const u32 end = (place.offset + object_bytes(place.stored) - 1) >> kPageShift;
    if (i == 0) segment = place.segment;
    SPW_ASSERT_EQ(place.segment, segment);
    if (start < first) first = start;
    if (end > last) last = end;
  }
  ReadOp* op = take_op();
  if (op == nullptr) return Error::busy;
  const Status room = alloc_transfer(*op, last - first + 1);
  if (!room.ok()) {
    finish_read(*op);
    return room;
  }
  for (u32 i = 0; i < count; ++i) op->targets[i] = targets[i];
  op->target_count = count;
  op->segment = segment;
  op->first_block = first;
  op->io.op = IoOp::read;
  op->io.block = u64{segment} * kSegmentFrames + first;
  op->io.sink = &sink;
  op->io.cookie = reinterpret_cast<u64>(op);
  observer_->count(Counter::disk_reads);
  observer_->count(Counter::disk_read_bytes, op->io.count * kPageSize);
  device_->submit(op->io);
  return kOk;
}

bool SwapDisk::submit_clean(IoSink& sink) {
  if (cleaning_ || segments_total_ == 0) return false;
  u32 victim = 0;
  u32 best = kDiskCleanLiveMax + 1;
  for (u32 i = 0; i < kDiskSearchMax && i < segments_total_; ++i) {
    clean_hand_ = (clean_hand_ + 1) % static_cast<u32>(segments_total_);
    const u32 live = live_[clean_hand_];
    if (live != 0 && live < best && clean_hand_ != unreadable_ &&
        device_->sole_owner(clean_hand_)) {
      best = live;
      victim = clean_hand_;
    }
  }
  if (best > kDiskCleanLiveMax) return false;
  ReadOp* op = take_op();
  if (op == nullptr) return false;
  if (!alloc_transfer(*op, kSegmentFrames).ok()) {
    finish_read(*op);
    return false;
  }
  op->cleaning = true;
  cleaning_ = true;
  cleaning_segment_ = victim;
  op->segment = victim;
  op->io.op = IoOp::read;
  op->io.block = u64{victim} * kSegmentFrames;
  op->io.sink = &sink;
  op->io.cookie = reinterpret_cast<u64>(op);
  observer_->count(Counter::disk_reads);
  observer_->count(Counter::disk_read_bytes, op->io.count * kPageSize);
  device_->submit(op->io);
  return true;
}

ObjectHeader SwapDisk::header_in(const ReadOp& op, u32 offset) const {
  ObjectHeader header;
  const u32 block = (offset >> kPageShift) - op.first_block;
  std::memcpy(&header, machine_->frames.bytes(op.io.frames[block]) + (offset & kPageMask),
              sizeof header);
  return header;
}

const u8* SwapDisk::data_in(const ReadOp& op, u32 offset, u32 stored, u8* scratch) const {
  u32 from = offset + static_cast<u32>(sizeof(ObjectHeader));
  u32 done = 0;
  while (done < stored) {
    const u32 at = from & static_cast<u32>(kPageMask);
    const u32 block = (from >> kPageShift) - op.first_block;
    if (block >= op.io.count) return nullptr;  // a header that lies about its length
    u32 n = static_cast<u32>(kPageSize) - at;
    if (n > stored - done) n = stored - done;
    const u8* bytes = machine_->frames.bytes(op.io.frames[block]) + at;
    if (n == stored) return bytes;
    std::memcpy(scratch + done, bytes, n);
    done += n;
    from += n;
  }
  return scratch;
}

}  // namespace spillway
