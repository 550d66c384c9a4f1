#include "machine_sim/sim_disk.h"

#include <cstring>

#include "base/hash.h"

namespace spillway {

SimDisk::SimDisk(const SimConfig& config, SimFrames& frames, FaultPlan& plan, const u64& now_ns)
    : frames_(frames),
      plan_(plan),
      now_ns_(now_ns),
      prng_(mix64(config.seed ^ 0xd15c)),
      latency_min_ns_(config.disk_latency_min_ns),
      latency_max_ns_(config.disk_latency_max_ns),
      segments_max_(config.disk_pages.v / kIoFramesMax),
      segments_(segments_max_) {
  SPW_ASSERT_LE(latency_min_ns_, latency_max_ns_);
  size_ = PageCount(segments_max_ * kIoFramesMax);
}

u64 SimDisk::buffer_checksum(const IoRequest& request) const {
  u64 sum = 0;
  for (u32 i = 0; i < request.count; ++i) {
    sum = checksum64(frames_.bytes(request.frames[i]), kPageSize, sum);
  }
  return sum;
}

void SimDisk::check_request(const IoRequest& request) const {
  const u64 end = request.block + request.count;
  for (u64 s = request.block / kIoFramesMax; s * kIoFramesMax < end; ++s) {
    SPW_ASSERT(segments_[s].mine);
    if (request.op == IoOp::write) SPW_ASSERT_EQ(segments_[s].relatives, 0U);
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
  const bool inside = request.block <= size_.v && request.count <= size_.v - request.block;
  if (inside) check_request(request);
  for (u32 i = 0; i < request.count; ++i) {
    frames_.begin_io(request.frames[i]);
    // A manager that reads the buffer before io_done sees the pattern, not the old contents.
    if (request.op == IoOp::read) {
      std::memset(frames_.bytes(request.frames[i]), SimFrames::kReadingPattern, kPageSize);
    }
  }
  const u64 due = now_ns_ + prng_.between(latency_min_ns_, latency_max_ns_);
  queue_.emplace(due, Transfer{&request, buffer_checksum(request)});
}

u64 SimDisk::next_completion_ns() const { return queue_.empty() ? ~u64{0} : queue_.begin()->first; }

bool SimDisk::complete_one() {
  if (queue_.empty()) return false;
  const Transfer transfer = queue_.begin()->second;
  queue_.erase(queue_.begin());
  IoRequest& request = *transfer.request;
  if (buffer_checksum(request) != transfer.checksum) {
    SPW_PANIC("sim: a buffer changed while its request was in flight");
  }
  for (u32 i = 0; i < request.count; ++i) frames_.end_io(request.frames[i]);
  Status status = Error::invalid;
  if (request.block <= size_.v && request.count <= size_.v - request.block) {
    status = request.op == IoOp::write ? finish_write(request) : finish_read(request);
  }
  request.sink->io_done(request, status);
  return true;
}

void SimDisk::store_blocks(const IoRequest& request, u64 bytes) {
  for (u32 i = 0; u64{i} * kPageSize < bytes; ++i) {
    Page& page = blocks_[request.block + i];
    if (page == nullptr) {
      page = std::make_unique<u8[]>(kPageSize);
      std::memset(page.get(), kUnwrittenPattern, kPageSize);
    }
    const u64 rest = bytes - u64{i} * kPageSize;
    std::memcpy(page.get(), frames_.bytes(request.frames[i]), rest < kPageSize ? rest : kPageSize);
  }
}

Status SimDisk::finish_write(const IoRequest& request) {
  const u64 bytes = u64{request.count} * kPageSize;
  if (plan_.fires(Failure::write_no_space)) return Error::no_space;
  if (plan_.fires(Failure::write_io)) return Error::io;
  if (plan_.fires(Failure::write_torn)) {
    store_blocks(request, bytes / 2);
    return Error::io;
  }
  if (plan_.fires(Failure::write_lost)) {
    store_blocks(request, bytes / 2);
    damaged_ += request.count - request.count / 2;
    return kOk;
  }
  store_blocks(request, bytes);
  return kOk;
}

Status SimDisk::finish_read(const IoRequest& request) {
  if (plan_.fires(Failure::read_io)) return Error::io;
  if (plan_.fires(Failure::read_flip)) {
    flip_bit(request.block + prng_.below(request.count), prng_.below(kPageSize * 8));
  }
  for (u32 i = 0; i < request.count; ++i) {
    u8* frame = frames_.bytes(request.frames[i]);
    const auto it = blocks_.find(request.block + i);
    if (it == blocks_.end()) {
      std::memset(frame, kUnwrittenPattern, kPageSize);
    } else {
      std::memcpy(frame, it->second.get(), kPageSize);
    }
  }
  return kOk;
}

void SimDisk::flip_bit(u64 block, u64 bit) {
  const auto it = blocks_.find(block);
  if (it == blocks_.end()) return;
  it->second[bit / 8 % kPageSize] ^= static_cast<u8>(1U << (bit % 8));
  ++damaged_;
}

Result<u64> SimDisk::claim_segment() {
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

void SimDisk::forget_segment(u64 segment) {
  for (u64 i = 0; i < kIoFramesMax; ++i) blocks_.erase(segment * kIoFramesMax + i);
}

void SimDisk::release_segment(u64 segment) {
  SPW_ASSERT_LT(segment, segments_.size());
  Segment& s = segments_[segment];
  SPW_ASSERT(s.mine);
  for (const auto& [due, transfer] : queue_) {
    const IoRequest& r = *transfer.request;
    const u64 first = segment * kIoFramesMax;
    const bool overlaps = r.block < first + kIoFramesMax && first < r.block + r.count;
    if (overlaps && r.op == IoOp::write) {
      SPW_PANIC("sim: a segment is released while a write to it is in flight");
    }
  }
  s.mine = false;
  --claimed_;
  if (s.free()) forget_segment(segment);
}

bool SimDisk::sole_owner(u64 segment) const {
  SPW_ASSERT_LT(segment, segments_.size());
  return segments_[segment].mine && segments_[segment].relatives == 0;
}

void SimDisk::add_relative(u64 segment) {
  SPW_ASSERT_LT(segment, segments_.size());
  ++segments_[segment].relatives;
}

void SimDisk::remove_relative(u64 segment) {
  SPW_ASSERT_LT(segment, segments_.size());
  Segment& s = segments_[segment];
  SPW_ASSERT_NE(s.relatives, 0U);
  if (--s.relatives == 0 && !s.mine) forget_segment(segment);
}

}  // namespace spillway
