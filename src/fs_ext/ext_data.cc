// ExtFs: pages of files from and to the device.
#include <algorithm>
#include <cstring>

#include "fs_ext/ext_fs.h"

namespace spillway {

Status ExtFs::read_pages(Mapping& mapping, u32 index, const Pfn* frames, u32 count) {
  Inode& inode = inode_of(mapping);
  SPW_ASSERT_LE(count, kIoFramesMax);
  (void)deliver();
  if (!written_.empty()) {
    const Change change(*this);
    SPW_TRY(settle());
  }
  const Call call(*this, ExtIo::Waits::no);
  if (!whole_pages()) {
    Status each[kIoFramesMax];
    for (u32 i = 0; i < count; ++i) {
      each[i] = read_blocks_of_page(inode, index + i, frames[i]);
      // Nothing has been told yet: the whole call is repeated when the blocks are there.
      if (!each[i].ok() && each[i].error() == Error::wait) return Error::wait;
    }
    for (u32 i = 0; i < count; ++i) cache_->read_done(frames[i], each[i]);
    return kOk;
  }
  constexpr u64 kZeros = 0;
  constexpr u64 kBad = ~u64{0};
  u64 physical[kIoFramesMax];
  u32 requests = 0;
  for (u32 i = 0; i < count; ++i) {
    const Result<Run> run = map(inode, u64{index} + i);
    if (!run.ok() && run.error() == Error::wait) return Error::wait;
    physical[i] = kBad;
    if (run.ok()) {
      const Run& r = run.value();
      physical[i] = r.kind == RunKind::written ? r.physical + (u64{index} + i - r.first) : kZeros;
    }
    const bool reads = physical[i] != kZeros && physical[i] != kBad;
    if (reads && in_transfer(IoOp::read, physical[i])) return Error::wait;
    const bool continues = i != 0 && reads && physical[i] == physical[i - 1] + 1;
    if (reads && !continues) ++requests;
  }
  if (!transfers_.room_for(requests)) return Error::wait;
  for (u32 i = 0; i < count;) {
    if (physical[i] == kZeros) {
      std::memset(machine_->frames.bytes(frames[i]), 0, kPageSize);
      cache_->read_done(frames[i++], kOk);
    } else if (physical[i] == kBad) {
      cache_->read_done(frames[i++], Error::corrupt);
    } else {
      const u32 begin = i++;
      while (i < count && physical[i] != kBad && physical[i] == physical[i - 1] + 1) ++i;
      transfers_.read(mapping, index + begin, physical[begin], frames + begin, i - begin);
    }
  }
  return kOk;
}

// With blocks smaller than a page: through the buffer cache (X1).
Status ExtFs::read_blocks_of_page(Inode& inode, u32 index, Pfn pfn) {
  u8* const out = machine_->frames.bytes(pfn);
  const u32 per_page = blocks_per_page();
  const u64 size = probe_.block_size;
  std::memset(out, 0, kPageSize);
  const u64 first = u64{index} * per_page;
  const u64 end_of_file = blocks_for(inode.mapping.size_bytes);
  for (u32 i = 0; i < per_page && first + i < end_of_file; ++i) {
    SPW_TRY_ASSIGN(run, map(inode, first + i));
    if (run.kind != RunKind::written) continue;
    const u64 physical = run.physical + (first + i - run.first);
    const u64 run_left = run.end() - (first + i);
    if (io_.keeps(physical)) SPW_TRY(commit(Commit::in_order));
    const Result<Buffer*> buffer = io_.bread(physical);
    if (!buffer.ok() && buffer.error() == Error::wait) {
      // The rest of what the page cache asks for lies behind, most likely.
      buffers_->read_ahead(physical, static_cast<u32>(run_left < 64 ? run_left : 64));
    }
    if (!buffer.ok()) return buffer.error();
    std::memcpy(out + i * size, buffer.value()->data, size);
    buffers_->brelse(*buffer.value());
  }
  zero_behind_end(out, index, inode.mapping.size_bytes);
  return kOk;
}

WriteOutcome ExtFs::write_page(Mapping& mapping, Pfn pfn) {
  Inode& inode = inode_of(mapping);
  const Page& page = (*frames_)[pfn];
  if (mode_ == ExtMode::read_only || busy_) return WriteOutcome::refused;
  if (page.state == PageState::mapped && !machine_->features.frame_bytes_while_mapped) {
    return WriteOutcome::refused;
  }
  const u32 index = page.index;
  if (index >= mapping.size_pages()) return WriteOutcome::refused;
  if (!transfers_.room_for(1)) return WriteOutcome::wait;
  const u64 first = u64{index} * blocks_per_page();
  const u64 count = std::min<u64>(blocks_per_page(), blocks_for(mapping.size_bytes) - first);
  // A page that got dirty without asking for its blocks (a store through a mapping, or a tail that
  // was trimmed): it can have them now, unless this is reclaim.
  const auto missing = [&]() -> Result<bool> {
    const Call call(*this, ExtIo::Waits::no);
    for (u64 block = first; block < first + count;) {
      SPW_TRY_ASSIGN(run, map(inode, block));
      if (run.kind == RunKind::hole) return true;
      block = run.end();
    }
    return false;
  };
  Result<bool> lacks = missing();
  if (lacks.ok() && lacks.value()) {
    if (allocator_->in_reclaim()) return WriteOutcome::refused;
    const Status reserved = reserve_blocks(inode, index, 1);
    lacks = reserved.ok() ? Result<bool>(false) : Result<bool>(reserved.error());
  }
  // Not for want of memory either is a page lost: it stays dirty and comes again. But no I/O that
  // could be waited for brings memory.
  const auto comes_again = [](const auto& result) {
    return !result.ok() && (result.error() == Error::wait || result.error() == Error::no_memory);
  };
  const auto later = [](Error error) {
    return error == Error::wait ? WriteOutcome::wait : WriteOutcome::refused;
  };
  if (comes_again(lacks)) return later(lacks.error());
  if (!lacks.ok()) {
    ended_.push_back({pfn, lacks.error()});
    return WriteOutcome::started;
  }
  // Programs may have stored behind the end of file: that must not reach the device.
  zero_behind_end(machine_->frames.bytes(pfn), index, mapping.size_bytes);
  const Call call(*this, ExtIo::Waits::no);
  if (!whole_pages()) {
    const Status status = write_blocks_of_page(inode, index, pfn, first, count);
    if (comes_again(status)) return later(status.error());
    ended_.push_back({pfn, status});
    return WriteOutcome::started;
  }
  const Result<Run> run = map(inode, first);
  if (comes_again(run)) return later(run.error());
  if (!run.ok() || run.value().kind == RunKind::hole) {
    // It was given a block and yet has none: the file's map makes no sense.
    ended_.push_back({pfn, run.ok() ? Error::corrupt : run.error()});
    return WriteOutcome::started;
  }
  const u64 block = run.value().physical + (first - run.value().first);
  if (in_transfer(IoOp::write, block)) return WriteOutcome::wait;
  transfers_.write(mapping, index, block, pfn, run.value().kind == RunKind::unwritten ? 1 : 0);
  return WriteOutcome::started;
}

Status ExtFs::write_blocks_of_page(Inode& inode, u32 index, Pfn pfn, u64 first, u64 count) {
  const u8* const bytes = machine_->frames.bytes(pfn);
  const u64 size = probe_.block_size;
  SPW_ASSERT_EQ(first, u64{index} * blocks_per_page());
  for (u64 i = 0; i < count; ++i) {
    SPW_TRY_ASSIGN(run, map(inode, first + i));
    if (run.kind == RunKind::hole) return Error::corrupt;  // see write_page
    const u64 physical = run.physical + (first + i - run.first);
    SPW_TRY(status_of_ext(io_.write(physical * size, size, bytes + i * size)));
    if (run.kind == RunKind::unwritten) {
      note_written(inode, first + i, 1);
    }
  }
  return kOk;
}

void ExtFs::page_written(Mapping& mapping, u32 index, u32 note, Status status) {
  if (!status.ok() || note == 0) return;
  note_written(inode_of(mapping), index, 1);
}

}  // namespace spillway
