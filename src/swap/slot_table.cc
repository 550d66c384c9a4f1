#include "swap/slot_table.h"

#include "base/hash.h"
#include "base/prng.h"

namespace spillway {
namespace {

// A chunk's frame descriptor: private_data = in use (16) | first free (16) | chunk number (32).
struct ChunkState {
  u16 in_use;
  u16 free_head;
  u32 chunk;
};
ChunkState get(const Page& page) {
  return {static_cast<u16>(page.private_data), static_cast<u16>(page.private_data >> 16),
          static_cast<u32>(page.private_data >> 32)};
}
void put(Page& page, ChunkState s) {
  page.private_data = s.in_use | (u64{s.free_head} << 16) | (u64{s.chunk} << 32);
}

}  // namespace

u64 slot_checksum(SlotId id, u32 generation, const u8* page) {
  return checksum64(page, kPageSize, mix64((u64{id.v} << 32) | generation));
}

Status SlotTable::init(Machine& machine, PageAllocator& allocator, FrameTable& frames,
                       u64 slots_max) {
  allocator_ = &allocator;
  frames_ = &frames;
  memory_ = &machine.frames;
  SPW_ASSERT_LE(slots_max, u64{1} << SlotId::kOffsetBits);
  directory_size_ = (slots_max + kPerChunk - 1) / kPerChunk;
  directory_ = static_cast<u32*>(machine.boot.alloc(directory_size_ * sizeof(u32), 64));
  if (directory_ == nullptr) return Error::no_memory;
  return kOk;
}

void SlotTable::link_partial(Pfn pfn) {
  Page& page = (*frames_)[pfn];
  page.prev = Pfn::kNone;
  page.next = partial_head_;
  if (partial_head_ != Pfn::kNone) (*frames_)[Pfn(partial_head_)].prev = pfn.v;
  partial_head_ = pfn.v;
}

void SlotTable::unlink_partial(Pfn pfn) {
  Page& page = (*frames_)[pfn];
  if (page.prev != Pfn::kNone) {
    (*frames_)[Pfn(page.prev)].next = page.next;
  } else {
    partial_head_ = page.next;
  }
  if (page.next != Pfn::kNone) (*frames_)[Pfn(page.next)].prev = page.prev;
  page.prev = page.next = Pfn::kNone;
}

Result<u32> SlotTable::add_chunk(AllocFlags flags) {
  u64 chunk = directory_hint_;
  while (chunk < directory_size_ && directory_[chunk] != 0) ++chunk;
  directory_hint_ = chunk;
  if (chunk == directory_size_) return Error::no_space;
  flags.zero = true;
  SPW_TRY_ASSIGN(pfn, allocator_->alloc_kernel(PageOwner::swap_meta, flags));
  Slot* slots = reinterpret_cast<Slot*>(memory_->bytes(pfn));
  for (u32 i = 0; i < kPerChunk; ++i) slots[i].cache_pfn = i + 1 < kPerChunk ? i + 1 : kEnd;
  u16 free_head = 0;
  u16 in_use = 0;
  if (chunk == 0) {
    // Slot 0 is never handed out: it stays out of the free list for ever.
    free_head = 1;
    in_use = 1;
  }
  put((*frames_)[pfn], {in_use, free_head, static_cast<u32>(chunk)});
  directory_[chunk] = pfn.v + 1;
  link_partial(pfn);
  ++chunks_;
  return pfn.v;
}

Result<SlotId> SlotTable::alloc(AllocFlags flags) {
  if (partial_head_ == Pfn::kNone) {
    SPW_TRY_ASSIGN(ignored, add_chunk(flags));
    (void)ignored;
  }
  const Pfn pfn{partial_head_};
  Page& page = (*frames_)[pfn];
  ChunkState s = get(page);
  Slot* slots = reinterpret_cast<Slot*>(memory_->bytes(pfn));
  const u16 index = s.free_head;
  SPW_ASSERT_LT(index, kPerChunk);
  Slot& slot = slots[index];
  s.free_head = static_cast<u16>(slot.cache_pfn);
  ++s.in_use;
  put(page, s);
  if (s.free_head == kEnd) unlink_partial(pfn);
  slot.word = SlotWord::empty();
  slot.cache_pfn = Pfn::kNone;
  slot.shadow = 0;
  slot.set_error(SlotError::none);
  ++used_;
  return SlotId(s.chunk * kPerChunk + index);
}

void SlotTable::free(SlotId id) {
  Slot& slot = (*this)[id];
  SPW_ASSERT_EQ(slot.cache_pfn, Pfn::kNone);
  const Pfn pfn = memory_->pfn_of(&slot);
  Page& page = (*frames_)[pfn];
  ChunkState s = get(page);
  const bool was_full = s.free_head == kEnd;
  slot.word = SlotWord();
  slot.cache_pfn = s.free_head;
  s.free_head = static_cast<u16>(id.v % kPerChunk);
  --s.in_use;
  put(page, s);
  --used_;
  if (was_full) link_partial(pfn);
  if (s.in_use == 0) {
    unlink_partial(pfn);
    directory_[s.chunk] = 0;
    if (s.chunk < directory_hint_) directory_hint_ = s.chunk;
    --chunks_;
    allocator_->free_kernel(pfn, PageOwner::swap_meta);
  }
}

Slot* SlotTable::find(SlotId id) const {
  const u64 chunk = id.v / kPerChunk;
  if (!id.valid() || chunk >= directory_size_ || directory_[chunk] == 0) return nullptr;
  return reinterpret_cast<Slot*>(memory_->bytes(Pfn(directory_[chunk] - 1))) + id.v % kPerChunk;
}

}  // namespace spillway
