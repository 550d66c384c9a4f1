// SwapArea: the slots of one plain swap area: a record for each page of its device, and which of
// them is handed out next.
//
// Records live in frames of the arena (128 to a frame), found through a directory of such frames;
// all are taken when the area is switched on and given back when it is switched off.
// I19: slot 0, which is the header's, and bad slots are never handed out.
// Thread safety: the engine lock. Cost: O(1), except that choosing a slot, when a run ends, looks
// at the directory, one word for each 128 slots.
#pragma once

#include "swap/slot_table.h"

namespace spillway {

class SwapArea {
 public:
  // Pages that go out together should lie together, for readahead by offset to be useful: so many
  // slots are handed out one after the other before the next free run is looked for (Linux's
  // SWAPFILE_CLUSTER).
  static constexpr u32 kRunLength = 256;

  void init(Frames& memory, PageAllocator& allocator);

  // Takes records for slots 0..pages-1, all free but slot 0. no_memory: nothing has changed;
  // wait: call again when an I/O has ended, what was taken is kept.
  Status reserve(u32 pages);
  // Gives the records back.
  void release();
  // Excludes a slot; twice is as good as once. Only before the first alloc().
  void mark_bad(u32 offset);

  // The lowest numbers that keep pages together: the current run goes on, over used slots, for
  // kRunLength slots; then the lowest kRunLength free slots in a row, if there are so many;
  // otherwise the lowest free slot. In state empty, with one reference. 0: none is free.
  u32 alloc();
  // The slot must have no content and no reference.
  void free(u32 offset);

  // The record of a slot inside the area, whatever its state; null beyond the end.
  Slot* find(u32 offset) const;
  // The first slot in use above `offset`, 0 if there is none.
  u32 next_used(u32 offset) const;

  u32 pages() const { return pages_; }            // of the device, with the header
  u32 good() const { return pages_ - bad_ - 1; }  // that can be handed out
  u32 bad() const { return bad_; }
  u32 free_count() const { return free_; }
  u32 used() const { return good() - free_; }
  // Frames taken for records and directory.
  u32 meta_frames() const { return meta_frames_; }

  // O(slots): counts, hints and records agree.
  bool validate() const;

 private:
  struct Chunk {
    u32 pfn;  // frame of the records + 1, 0 = none
    u32 free;
  };
  static constexpr u32 kPerChunk = SlotTable::kPerChunk;
  static constexpr u32 kPerDirectory = static_cast<u32>(kPageSize / sizeof(Chunk));
  static constexpr u32 kDirectories = (u32{1} << SlotId::kOffsetBits) / (kPerChunk * kPerDirectory);

  Chunk& chunk(u32 c) const {
    return reinterpret_cast<Chunk*>(
        memory_->bytes(Pfn(root_[c / kPerDirectory] - 1)))[c % kPerDirectory];
  }
  u32 chunk_count() const { return (pages_ + kPerChunk - 1) / kPerChunk; }
  bool is_free(u32 offset) const {
    const Slot* slot = find(offset);
    return slot != nullptr && slot->word.state() == SlotState::free;
  }
  Status add_chunk(u32 c);
  u32 next_free(u32 from) const;
  u32 find_run() const;
  void take(u32 offset);

  Frames* memory_ = nullptr;
  PageAllocator* allocator_ = nullptr;
  u32 root_[kDirectories] = {};  // directory frame + 1, 0 = none
  u32 pages_ = 0;
  u32 bad_ = 0;
  u32 free_ = 0;
  u32 meta_frames_ = 0;
  u32 reserved_ = 0;  // chunks that have their records
  u32 lowest_ = 0;    // no free slot below, none above highest_
  u32 highest_ = 0;
  u32 run_next_ = 0;  // where the current run goes on
  u32 run_left_ = 0;
};

}  // namespace spillway
