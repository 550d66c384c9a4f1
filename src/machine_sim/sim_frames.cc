#include "machine_sim/sim_frames.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace spillway {

bool all_bytes_are(const u8* p, u8 value, u64 bytes) {
  return bytes == 0 || (p[0] == value && std::memcmp(p, p + 1, bytes - 1) == 0);
}

void SimFrames::FreeBytes::operator()(void* p) const { std::free(p); }

SimFrames::SimFrames(const SimConfig& config, FaultPlan& plan)
    : plan_(plan),
      prng_(mix64(config.seed ^ 0xf7a3e5)),
      features_(config.features),
      short_one_in_(config.quota_short_one_in),
      budget_(config.budget),
      frames_(config.frames.v) {
  // Two pages more than asked for, to align by hand, so that a pair of frames is aligned to its
  // size in memory too (kernel stacks are found by masking). calloc hands out lazy zero pages, so a
  // large arena costs nothing until its frames come online.
  constexpr u64 kAlign = 2 * kPageSize;
  arena_.reset(std::calloc(config.frames.v + 2, kPageSize));
  SPW_ASSERT(arena_ != nullptr);
  const u64 raw = reinterpret_cast<u64>(arena_.get());
  base_ = reinterpret_cast<u8*>((raw + kAlign - 1) & ~(kAlign - 1));
  count_ = config.frames;
}

SimFrames::Frame& SimFrames::frame(Pfn pfn) {
  SPW_ASSERT_LT(pfn.v, count_.v);
  return frames_[pfn.v];
}

const SimFrames::Frame& SimFrames::frame(Pfn pfn) const {
  SPW_ASSERT_LT(pfn.v, count_.v);
  return frames_[pfn.v];
}

PageCount SimFrames::acquire_quota(PageCount want) {
  if (plan_.fires(Failure::acquire_quota)) return PageCount(0);
  const u64 limit = std::min(budget_.v, count_.v);
  u64 grant = std::min(want.v, limit - std::min(limit, granted_.v));
  if (short_one_in_ != 0 && grant > 1 && prng_.one_in(short_one_in_)) {
    grant = prng_.between(1, grant - 1);
  }
  granted_ += PageCount(grant);
  return PageCount(grant);
}

void SimFrames::release_quota(PageCount count) {
  SPW_ASSERT_LE(count, granted_ - online_);
  granted_ -= count;
}

PageCount SimFrames::quota_wanted_back() {
  return PageCount(granted_.v > budget_.v ? granted_.v - budget_.v : 0);
}

Status SimFrames::bring_online(Pfn first, PageCount count) {
  SPW_ASSERT_LE(first.v + count.v, count_.v);
  SPW_ASSERT_LE(count, granted_ - online_);
  for (u64 i = 0; i < count.v; ++i) {
    SPW_ASSERT(frame(first + static_cast<u32>(i)).state == State::offline);
  }
  if (plan_.fires(Failure::bring_online)) return Error::no_memory;
  for (u64 i = 0; i < count.v; ++i) {
    const Pfn pfn = first + static_cast<u32>(i);
    Frame& f = frame(pfn);
    if (!all_bytes_are(bytes(pfn), f.patterned ? kOfflinePattern : u8{0})) {
      SPW_PANIC("sim: an offline frame was written");
    }
    std::memset(bytes(pfn), 0, kPageSize);
    f.state = State::home;
  }
  online_ += count;
  return kOk;
}

void SimFrames::take_offline(Pfn first, PageCount count) {
  SPW_ASSERT_LE(first.v + count.v, count_.v);
  for (u64 i = 0; i < count.v; ++i) {
    const Pfn pfn = first + static_cast<u32>(i);
    Frame& f = frame(pfn);
    SPW_ASSERT(f.state == State::home);
    SPW_ASSERT_EQ(f.transfers, 0U);
    std::memset(bytes(pfn), kOfflinePattern, kPageSize);
    f.patterned = true;
    f.state = State::offline;
  }
  online_ -= count;
}

void SimFrames::begin_mapping(Pfn pfn) {
  Frame& f = frame(pfn);
  if (f.state == State::mapped) {
    if (!features_.shared_frames) SPW_PANIC("sim: mapping a frame that is mapped already");
  } else {
    SPW_ASSERT(f.state == State::home);
  }
  SPW_ASSERT_EQ(f.reads, 0U);
  if (f.transfers != 0) {
    // Without sharing, a frame that a device works on is not handed to a program meanwhile.
    if (!features_.shared_frames) SPW_PANIC("sim: mapping a frame with transfers in flight");
    f.mapped_during_io = true;
  }
  ++f.mappings;
  f.state = State::mapped;
}

void SimFrames::end_mapping(Pfn pfn) {
  Frame& f = frame(pfn);
  SPW_ASSERT(f.state == State::mapped);
  SPW_ASSERT_NE(f.mappings, 0U);
  if (--f.mappings == 0) f.state = State::home;
}

void SimFrames::begin_io(Pfn pfn, IoOp op) {
  Frame& f = frame(pfn);
  if (f.state == State::mapped) {
    if (op == IoOp::read) SPW_PANIC("sim: a read into a mapped frame");
    if (!features_.frame_bytes_while_mapped) SPW_PANIC("sim: a transfer from a mapped frame");
    f.mapped_during_io = true;
  } else {
    SPW_ASSERT(f.state == State::home);
  }
  ++f.transfers;
  f.reads = static_cast<u16>(f.reads + (op == IoOp::read ? 1 : 0));
}

void SimFrames::end_io(Pfn pfn, IoOp op) {
  Frame& f = frame(pfn);
  SPW_ASSERT(f.state != State::offline);
  SPW_ASSERT_NE(f.transfers, 0U);
  --f.transfers;
  if (op == IoOp::read) {
    SPW_ASSERT_NE(f.reads, 0U);
    --f.reads;
  }
  if (f.transfers == 0) f.mapped_during_io = false;
}

}  // namespace spillway
