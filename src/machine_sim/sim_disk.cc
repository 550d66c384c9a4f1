#include "machine_sim/sim_disk.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace spillway {

SimDisk::SimDisk(const SimConfig& config, u32 number, SimFrames& frames, FaultPlan& plan,
                 const u64& now_ns)
    : number_(number),
      frames_(frames),
      plan_(plan),
      now_ns_(now_ns),
      // The swap device's stream is the same whether there are other devices or not.
      prng_(mix64(config.seed ^ 0xd15c ^ (u64{number + 1} << 32))),
      latency_min_ns_(config.disk_latency_min_ns),
      latency_max_ns_(config.disk_latency_max_ns) {
  SPW_ASSERT_LE(latency_min_ns_, latency_max_ns_);
  if (is_plain()) {
    std::snprintf(name_, sizeof name_, "block%u", number);
    size_ = PageCount(config.block_pages[number]);
  } else {
    std::snprintf(name_, sizeof name_, "swap");
    segments_max_ = config.disk_pages.v / kIoFramesMax;
    segments_.resize(segments_max_);
    size_ = PageCount(segments_max_ * kIoFramesMax);
  }
}

void SimDisk::check_request(const IoRequest& request) const {
  const u64 end = request.block + request.count;
  if (!is_plain()) {
    for (u64 s = request.block / kIoFramesMax; s * kIoFramesMax < end; ++s) {
      SPW_ASSERT(segments_[s].mine);
      if (request.op == IoOp::write) SPW_ASSERT_EQ(segments_[s].relatives, 0U);
    }
  }
  for (const auto& [due, transfer] : queue_) {
    const IoRequest& other = *transfer.request;
    if (other.block >= end || request.block >= other.block + other.count) continue;
    if (other.op == IoOp::write || request.op == IoOp::write) {
      SPW_PANIC("sim: two requests in flight overlap and one of them writes");
    }
  }
}

void SimDisk::submit(IoRequest& request) {
  SPW_ASSERT(request.sink != nullptr);
  SPW_ASSERT_LE(1U, request.count);
  SPW_ASSERT_LE(request.count, kIoFramesMax);
  if (inside(request)) check_request(request);
  Transfer transfer{&request, nullptr};
  if (request.op == IoOp::write) {
    transfer.bytes = std::make_unique_for_overwrite<u8[]>(request.count * kPageSize);
  }
  for (u32 i = 0; i < request.count; ++i) {
    frames_.begin_io(request.frames[i], request.op);
    u8* frame = frames_.bytes(request.frames[i]);
    // A manager that reads the buffer before io_done sees the pattern, not the old contents.
    if (request.op == IoOp::read) {
      std::memset(frame, SimFrames::kReadingPattern, kPageSize);
    } else {
      std::memcpy(&transfer.bytes[i * kPageSize], frame, kPageSize);
    }
  }
  const u64 due = now_ns_ + prng_.between(latency_min_ns_, latency_max_ns_);
  queue_.emplace(due, std::move(transfer));
}

u64 SimDisk::next_completion_ns() const { return queue_.empty() ? ~u64{0} : queue_.begin()->first; }

void SimDisk::check_buffer(Transfer& transfer) {
  const IoRequest& request = *transfer.request;
  for (u32 i = 0; i < request.count; ++i) {
    const u8* frame = frames_.bytes(request.frames[i]);
    if (request.op == IoOp::read) {
      if (!all_bytes_are(frame, SimFrames::kReadingPattern)) {
        SPW_PANIC("sim: a buffer changed while its request was in flight");
      }
      continue;
    }
    u8* bytes = &transfer.bytes[i * kPageSize];
    if (frames_.mapped_during_io(request.frames[i])) {
      u64 draw = prng_.next();
      for (u64 at = 0; at < kPageSize; at += kSectorSize, draw >>= 1) {
        if ((draw & 1) != 0) std::memcpy(bytes + at, frame + at, kSectorSize);
      }
    } else if (std::memcmp(bytes, frame, kPageSize) != 0) {
      SPW_PANIC("sim: a buffer changed while its request was in flight");
    }
  }
}

bool SimDisk::complete_one() {
  if (queue_.empty()) return false;
  Transfer transfer = std::move(queue_.begin()->second);
  queue_.erase(queue_.begin());
  IoRequest& request = *transfer.request;
  check_buffer(transfer);
  for (u32 i = 0; i < request.count; ++i) frames_.end_io(request.frames[i], request.op);
  Status status = Error::invalid;
  if (inside(request)) {
    status = request.op == IoOp::write ? finish_write(transfer) : finish_read(request);
  }
  request.sink->io_done(request, status);
  return true;
}

SimDisk::Page& SimDisk::page_of(u64 block) {
  Page& page = blocks_[block];
  if (page == nullptr) {
    page = std::make_unique_for_overwrite<u8[]>(kPageSize);
    std::memset(page.get(), unwritten(), kPageSize);
  }
  return page;
}

void SimDisk::store_blocks(const Transfer& transfer, u64 bytes) {
  for (u64 done = 0; done < bytes; done += kPageSize) {
    Page& page = page_of(transfer.request->block + done / kPageSize);
    std::memcpy(page.get(), &transfer.bytes[done], std::min(bytes - done, kPageSize));
  }
}

u64 SimDisk::bytes_kept(Failure failure, const IoRequest& request) const {
  const u64 bad = plan_.first_bad_block(failure, request.block, request.count);
  if (bad == FaultPlan::kNoBlock) return u64{request.count} * kPageSize / 2;
  return (bad - request.block) * kPageSize + kPageSize / 2;
}

Status SimDisk::finish_write(const Transfer& transfer) {
  const IoRequest& r = *transfer.request;
  if (plan_.fires(Failure::write_no_space, r.block, r.count)) return Error::no_space;
  if (plan_.fires(Failure::write_io, r.block, r.count)) return Error::io;
  if (plan_.fires(Failure::write_torn, r.block, r.count)) {
    store_blocks(transfer, bytes_kept(Failure::write_torn, r));
    return Error::io;
  }
  if (plan_.fires(Failure::write_lost, r.block, r.count)) {
    const u64 kept = bytes_kept(Failure::write_lost, r);
    store_blocks(transfer, kept);
    damaged_ += r.count - kept / kPageSize;
    return kOk;
  }
  store_blocks(transfer, u64{r.count} * kPageSize);
  return kOk;
}

Status SimDisk::finish_read(const IoRequest& request) {
  const u64 block = request.block;
  if (plan_.fires(Failure::read_io, block, request.count)) return Error::io;
  if (plan_.fires(Failure::read_flip, block, request.count)) {
    const u64 bad = plan_.first_bad_block(Failure::read_flip, block, request.count);
    const u64 victim = bad != FaultPlan::kNoBlock ? bad : block + prng_.below(request.count);
    flip_bit(victim, prng_.below(kPageSize * 8));
  }
  for (u32 i = 0; i < request.count; ++i) {
    u8* frame = frames_.bytes(request.frames[i]);
    const u8* page = stored(block + i);
    if (page == nullptr) {
      std::memset(frame, unwritten(), kPageSize);
    } else {
      std::memcpy(frame, page, kPageSize);
    }
  }
  return kOk;
}

const u8* SimDisk::stored(u64 block) const {
  SPW_ASSERT_LT(block, size_.v);
  const auto it = blocks_.find(block);
  return it == blocks_.end() ? nullptr : it->second.get();
}

void SimDisk::store(u64 block, const void* page) {
  SPW_ASSERT_LT(block, size_.v);
  std::memcpy(page_of(block).get(), page, kPageSize);
}

void SimDisk::flip_bit(u64 block, u64 bit) {
  const auto it = blocks_.find(block);
  if (it == blocks_.end()) return;
  it->second[bit / 8 % kPageSize] ^= static_cast<u8>(1U << (bit % 8));
  ++damaged_;
}

const SimDisk::Segment& SimDisk::segment(u64 index) const {
  if (is_plain()) SPW_PANIC("sim: a segment of a plain device");
  SPW_ASSERT_LT(index, segments_.size());
  return segments_[index];
}

Result<u64> SimDisk::claim_segment() {
  if (is_plain()) SPW_PANIC("sim: a segment of a plain device");
  if (plan_.fires(Failure::claim_segment)) return Error::no_space;
  if (claimed_ >= segments_max_) return Error::no_space;
  for (u64 s = 0; s < segments_.size(); ++s) {
    if (!segments_[s].free()) continue;
    segments_[s].mine = true;
    ++claimed_;
    return s;
  }
  return Error::no_space;
}

void SimDisk::forget_segment(u64 index) {
  for (u64 i = 0; i < kIoFramesMax; ++i) blocks_.erase(index * kIoFramesMax + i);
}

void SimDisk::release_segment(u64 index) {
  Segment& s = segment(index);
  SPW_ASSERT(s.mine);
  for (const auto& [due, transfer] : queue_) {
    const IoRequest& r = *transfer.request;
    const u64 first = index * kIoFramesMax;
    const bool overlaps = r.block < first + kIoFramesMax && first < r.block + r.count;
    if (overlaps && r.op == IoOp::write) {
      SPW_PANIC("sim: a segment is released while a write to it is in flight");
    }
  }
  s.mine = false;
  --claimed_;
  if (s.free()) forget_segment(index);
}

bool SimDisk::sole_owner(u64 index) const {
  const Segment& s = segment(index);
  return s.mine && s.relatives == 0;
}

void SimDisk::add_relative(u64 index) { ++segment(index).relatives; }

void SimDisk::remove_relative(u64 index) {
  Segment& s = segment(index);
  SPW_ASSERT_NE(s.relatives, 0U);
  if (--s.relatives == 0 && !s.mine) forget_segment(index);
}

}  // namespace spillway
