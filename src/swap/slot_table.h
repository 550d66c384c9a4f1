// SlotTable: the swap map. One record per swapped page says where its content is now, in one
// word {state, references, place}; moving a page between tiers changes this word and no page table.
//
// Records live in frames of the arena (128 to a frame), so their cost is inside the budget.
// Slot 0 is never handed out (I19). Thread safety: the engine lock. Cost: O(1), except that a
// new chunk of records searches the directory from a hint.
#pragma once

#include "page/page_allocator.h"

namespace spillway {

enum class SlotState : u8 {
  free = 0,
  empty = 1,        // allocated, no content yet
  same_filled = 2,  // one 32-bit value, repeated: no bytes stored
  pool = 3,         // an object in a segment of the compressed pool
  disk = 4,         // an object in a segment of the swap file
  plain = 5,        // the page of a plain area at the slot's own offset
  bad = 6,          // plain areas: never handed out (I19)
};

// Where an object lies: segment, offset in units of 16 bytes, and bytes stored.
struct Place {
  u32 segment;  // < 2^24: 1 TiB of 64 KiB segments
  u32 offset;   // bytes, multiple of 16, < 64 KiB
  u32 stored;   // bytes after the object header, <= 4096
  bool operator==(const Place&) const = default;
};

// bits 0-2 state | 3-14 references | 15-27 stored | 28-39 offset/16 | 40-63 segment
// For same_filled, bits 15-46 hold the value.
class SlotWord {
 public:
  static constexpr u32 kRefsMax = 4095;  // sticky: a slot that reached it is never freed (row 44)
  static constexpr u32 kSegmentMax = (1U << 24) - 1;

  constexpr SlotWord() = default;
  static constexpr SlotWord empty() { return SlotWord(SlotState::empty, 0); }
  static constexpr SlotWord same_filled(u32 value) {
    return SlotWord(SlotState::same_filled, u64{value} << 15);
  }
  static constexpr SlotWord object(SlotState tier, Place p) {
    return SlotWord(tier,
                    (u64{p.stored} << 15) | (u64{p.offset / 16} << 28) | (u64{p.segment} << 40));
  }
  static constexpr SlotWord unusable() { return SlotWord(SlotState::bad, 0).with_refs(0); }
  static constexpr SlotWord plain() { return SlotWord(SlotState::plain, 0); }
  constexpr SlotState state() const { return static_cast<SlotState>(bits_ & 7); }
  constexpr u32 refs() const { return static_cast<u32>(bits_ >> 3) & kRefsMax; }
  constexpr SlotWord with_refs(u32 n) const {
    SlotWord w = *this;
    w.bits_ = (bits_ & ~(u64{kRefsMax} << 3)) | (u64{n} << 3);
    return w;
  }
  constexpr u32 fill() const { return static_cast<u32>(bits_ >> 15); }
  constexpr Place place() const {
    return {static_cast<u32>(bits_ >> 40), (static_cast<u32>(bits_ >> 28) & 0xfff) * 16,
            static_cast<u32>(bits_ >> 15) & 0x1fff};
  }
  constexpr bool in(SlotState tier, Place p) const { return state() == tier && place() == p; }

 private:
  constexpr SlotWord(SlotState s, u64 rest) : bits_(static_cast<u64>(s) | (u64{1} << 3) | rest) {}
  u64 bits_ = 0;
};

// The checksum of a page in its slot: bound to the slot and to how often it was stored there, so
// that stale and misplaced contents do not match.
u64 slot_checksum(SlotId id, u32 generation, const u8* page);

// Set on a slot when its content could not be read back.
enum class SlotError : u8 { none, io, corrupt };

struct Slot {
  SlotWord word;
  u64 checksum;         // of the 4096 bytes, seeded with slot number and generation
  u32 cache_pfn;        // frame in the swap cache, Pfn::kNone if none; free slots: next free
  u32 shadow;           // the policy's mark of when the page was evicted
  u32 generation : 30;  // grows with each store: a stale object fails its checksum
  u32 error_bits : 2;   // SlotError

  SlotError error() const { return static_cast<SlotError>(error_bits); }
  void set_error(SlotError e) { error_bits = static_cast<u8>(e) & 3; }
};
static_assert(sizeof(Slot) == 32);

class SlotTable {
 public:
  // `slots_max` bounds the table; its directory is boot memory, four bytes per 128 slots.
  Status init(Machine& machine, PageAllocator& allocator, FrameTable& frames, u64 slots_max);

  // A slot in state empty with one reference. no_space: all in use; no_memory: no frame.
  Result<SlotId> alloc(AllocFlags flags);
  // The slot must be dead: no content, no reference.
  void free(SlotId id);

  Slot& operator[](SlotId id) {
    Slot* slot = find(id);
    SPW_ASSERT(slot != nullptr && slot->word.state() != SlotState::free);
    return *slot;
  }
  // The slot's record, or null when nothing is stored at that number (for walks over objects
  // that may be long dead).
  Slot* find(SlotId id) const;

  u64 used() const { return used_; }
  u64 chunks() const { return chunks_; }
  static constexpr u32 kPerChunk = static_cast<u32>(kPageSize / sizeof(Slot));

  // Calls fn(SlotId, const Slot&) for each slot in use. For audits.
  template <class Fn>
  void for_each(Fn fn) const {
    for (u64 c = 0; c < directory_size_; ++c) {
      if (directory_[c] == 0) continue;
      const Slot* slots = reinterpret_cast<const Slot*>(memory_->bytes(Pfn(directory_[c] - 1)));
      for (u32 i = 0; i < kPerChunk; ++i) {
        if (slots[i].word.state() != SlotState::free) {
          fn(SlotId(static_cast<u32>(c * kPerChunk + i)), slots[i]);
        }
      }
    }
  }

 private:
  static constexpr u16 kEnd = 0xffff;
  Result<u32> add_chunk(AllocFlags flags);
  void link_partial(Pfn pfn);
  void unlink_partial(Pfn pfn);

  PageAllocator* allocator_ = nullptr;
  FrameTable* frames_ = nullptr;
  Frames* memory_ = nullptr;
  u32* directory_ = nullptr;  // chunk -> frame + 1, 0 = none
  u64 directory_size_ = 0;
  u64 directory_hint_ = 0;  // no empty entry below
  u32 partial_head_ = Pfn::kNone;
  u64 used_ = 0;
  u64 chunks_ = 0;
};

}  // namespace spillway
