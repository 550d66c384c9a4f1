// Swap: where pages go that are not resident. One interface over two kinds of places.
//
// The tiers: same-filled pages (no bytes), the compressed pool in RAM, the swap file. A slot knows
// its tier; pages move between tiers without any page table noticing. store() takes a page away
// from its frame at once.
//
// Plain areas, as in Linux: a block device each, with a slot for each of its pages. A page gets a
// slot first (add_to_swap), is written from its own frame while it stays in the swap cache
// (write), and may give the frame up when it is clean.
//
// Every content carries a checksum bound to its slot and generation. It is verified whenever a page
// comes back; a mismatch is Error::corrupt, and the page is never handed out. The same checksum
// recognises a page that did not change since it was read from disk, which is then dropped
// instead of written again.
//
// The swap cache: a frame that holds the page of a slot, at most one per slot (I17). It is found
// from the slot (cached) and the slot from it (Page::slot), and it has one reference of the slot.
// A page that is being read is in the cache, so nobody reads it twice.
//
// Thread safety: the engine lock. Nothing here sleeps: Error::wait means that space comes free
// when an I/O in flight completes.
#pragma once

#include <utility>

#include "swap/plain_io.h"
#include "swap/swap_areas.h"
#include "swap/swap_disk.h"

namespace spillway {

// What a load did.
enum class LoadOutcome : u8 {
  done,     // the frame holds the page
  on_disk,  // it must be read first: see Swap::read
  reading,  // a read is in flight already
  cached,   // the swap cache has it: see Swap::cached
  io,       // an earlier read failed
  corrupt,  // the stored bytes do not match their checksum
};

class Swap final : public IoSink {
 public:
  // Segment writes in flight at most: 512 KiB, enough to keep a disk busy (PEERS: 64K writes).
  static constexpr u32 kWritesMax = 8;
  static constexpr u32 kPageClusterMax = 5;  // 32 slots, as many as one call of read() takes
  // After so many failed writes in a row the disk is given up: a dying disk must not be hammered.
  static constexpr u32 kWriteErrorsMax = 8;
  // After so many cleanings in a row that brought nothing the disk counts as full, until a page on
  // it dies: waiting for a cleaning that cannot succeed would never end.
  static constexpr u32 kCleanFailuresMax = 4;

  Status init(Machine& machine, PageAllocator& allocator, FrameTable& frames,
              const Observer& observer, PageCount pool_max, u64 slots_max);
  void set_swap_in_sink(SwapInSink& sink) {
    sink_ = &sink;
    plain_io_.set_swap_in_sink(sink);
  }
  // Who is told that a write of a plain area ended; needed before the first write().
  void set_reclaimer(Reclaimer& reclaimer) { plain_io_.set_reclaimer(reclaimer); }

  // Stores the page in `pfn` (unmapped, bytes at home, in no plain slot) in the tiers and returns
  // its slot, with one reference for the caller. A page in the swap cache leaves it and hands its
  // reference on; what its slot holds is used if the page is unchanged. Errors leave page and slot
  // as they were: wait; no_space (all tiers full, or there are none); no_memory.
  Result<SlotId> store(Pfn pfn);

  // Brings the page of `slot` into `pfn` (isolated), if that needs no I/O.
  LoadOutcome load(SlotId slot, Pfn pfn);
  // Whether load() would need the disk.
  bool on_disk(SlotId slot) const {
    const SlotState state = slot_word(slot).state();
    return state == SlotState::disk || state == SlotState::plain;
  }
  // Whether the page in the swap cache is still on its way.
  bool reading(SlotId slot) const;
  // The disk segment of a slot that is on_disk. Plain areas have segments of 16 slots.
  u32 disk_segment(SlotId slot) const {
    if (slot.area() != 0) return kPlainSegment | (slot.v / kIoFramesMax);
    return slot_word(slot).place().segment;
  }
  // Starts reading the targets (all on_disk, not cached, and in one segment or else in plain areas;
  // frames in state reading) and puts them into the swap cache, with a reference of its own.
  // Consecutive targets in consecutive plain slots share a request. The sink is told of each page;
  // of a request that failed, each page is read again by itself. Errors change nothing: busy,
  // no_memory, wait.
  Status read(const ReadTarget* targets, u32 count);

  // The frame in the swap cache under `slot`, kNoPfn if none.
  Pfn cached(SlotId slot) const { return Pfn(slot_at(slot).cache_pfn); }
  // Puts a page that is in no cache under a slot that has none. One of the caller's references
  // becomes the cache's.
  void add_to_cache(Pfn pfn, SlotId slot);
  // Takes the page out and puts the cache's reference, which may free the slot. Not while it is
  // written. The flags dirty and error go, they compared page and slot. The page of a plain slot
  // must be in the slot, or have no other reference: a caller that has the last one puts it before.
  void delete_from_cache(Pfn pfn);
  // A slot of a plain area for a page that is in no cache: the page is in the swap cache then,
  // which has the only reference, and dirty, because nothing is written yet. no_space: no area has
  // a free slot.
  Result<SlotId> add_to_swap(Pfn pfn);
  // Whether others than the swap cache refer to the slot of the page, which is in the cache.
  bool shared(Pfn pfn) const { return refs((*frames_)[pfn].slot) > 1; }

  // Starts writing a dirty page of a plain area from its frame (state unmapped or isolated, in the
  // swap cache): it is clean and under writeback then, and may be mapped again, but must not be
  // freed. When the write ends, writeback goes, dirty is back if it failed, and
  // Reclaimer::page_written hears of it, who frees the page if it says free_after_io and nobody
  // shares() it. wait: too many writes are in flight.
  Status write(Pfn pfn);
  // For machines without dirty bits: whether the page, which is in the swap cache and not mapped,
  // is what its slot holds.
  bool same_as_slot(Pfn pfn) const;
  // Slots that are worth reading with `slot`, which is on_disk: those of its aligned window of
  // 2^page_cluster slots, from the window's start (the header is passed over) up to the first free
  // or bad slot. Some may be cached; `slot` itself is not among them if a hole lies before it.
  // Returns how many; `out` has room for 2^kPageClusterMax.
  u32 readahead_window(SlotId slot, u32 page_cluster, SlotId* out) const;

  // The plain areas: format, swap_on, begin_off, finish_off, ...
  SwapAreas& areas() { return areas_; }
  const SwapAreas& areas() const { return areas_; }
  // Whether pages can go to plain areas, full or not; and to the tiers.
  bool has_plain() const { return areas_.any_writable(); }
  bool has_tiers() const { return pool_max_.v != 0 || machine_->swap_device != nullptr; }
  // While an area is switched off: the slot's count stuck at its maximum, and the caller knows by
  // now how many references there are.
  void reset_refs(SlotId slot, u32 refs);

  // References. A count that reached SlotWord::kRefsMax (4095; Linux: 32767) stays there, because
  // nobody knows any more how many there are: the slot is not freed until its area is switched
  // off. put() frees content and slot when the last one goes.
  void get(SlotId slot);
  void put(SlotId slot);
  u32 refs(SlotId slot) const { return slot_at(slot).word.refs(); }

  // Whether a page just read from `slot` should stay in the swap cache, so that the slot keeps a
  // clean copy of it.
  bool worth_keeping(SlotId slot) const {
    return slot.area() != 0 || (on_disk(slot) && !disk_.half_full());
  }

  u32 shadow(SlotId slot) const { return slot_at(slot).shadow; }
  void set_shadow(SlotId slot, u32 shadow) { slot_at(slot).shadow = shadow; }
  // The page of `slot` could not be read and somebody waits for it: the next load says io.
  void note_io_error(SlotId slot) { slot_at(slot).set_error(SlotError::io); }
  // Forgets a failed read, so that a later access tries again.
  void clear_error(SlotId slot) { slot_at(slot).set_error(SlotError::none); }

  // Starts what makes room in the tiers: cleaning, then segment writes. progress: room was made;
  // wait: it comes with an I/O in flight; exhausted: all tiers are full.
  ReclaimOutcome make_space();
  // Work ahead: writes when the pool is nearly full or holds pages that do not compress. True
  // if there may be more to do now.
  bool background_step();
  bool background_wanted() const;

  // Limits the pool to its part of the frames that are online: a process that has a small share
  // of the budget must not fill it with compressed pages.
  void set_pool_share(PageCount online, PageCount total);

  // While quiesced nothing new is submitted: stores and reads that would need it wait.
  void set_quiesced(bool on) {
    quiesced_ = on;
    areas_.set_quiesced(on);
  }
  u32 plain_writes_in_flight() const { return plain_io_.writes_in_flight(); }
  bool io_in_flight() const {
    return pool_.writing() > 0 || disk_.reads_in_flight() > 0 || plain_io_.in_flight() > 0 ||
           areas_.io_in_flight();
  }
  void io_done(IoRequest& request, Status status) override;

  // The slot's record, null when it is not in use; and fn(SlotId, const Slot&) for each that is.
  // For audits.
  const Slot* find_slot(SlotId slot) const;
  template <class Fn>
  void for_each_slot(Fn fn) const {
    slots_.for_each(fn);
    areas_.for_each_slot(fn);
  }
  // Pages in the swap cache, those on their way with them.
  PageCount cached_pages() const { return cached_pages_; }
  u64 slots_used() const { return slots_.used() + areas_.used(); }
  // Frames of all slot records.
  u64 meta_frames() const { return slots_.chunks() + areas_.meta_frames(); }
  const SlotTable& slots() const { return slots_; }
  const Pool& pool() const { return pool_; }
  const SwapDisk& disk() const { return disk_; }
  // O(slots + objects): live bytes and slot words agree.
  bool validate();

 private:
  static constexpr u32 kPlainSegment = u32{1} << 31;  // no segment of the swap file

  const Slot& slot_at(SlotId slot) const {
    const Slot* record = find_slot(slot);
    SPW_ASSERT(record != nullptr);
    return *record;
  }
  Slot& slot_at(SlotId slot) {
    return slot.area() == 0 ? slots_[slot] : const_cast<Slot&>(std::as_const(*this).slot_at(slot));
  }
  SlotWord slot_word(SlotId slot) const { return slot_at(slot).word; }
  void leave_cache(Pfn pfn);
  Status verify(SlotId id, const u8* page);
  Result<Place> append(SlotId slot, const Encoded& object);
  void kill_content(Slot& slot);
  void release(SlotId id);
  bool start_write();
  bool start_clean();
  void write_done(u32 segment, Status status);
  void read_done(ReadOp& op, Status status);
  void clean_done(ReadOp& op, Status status);
  Status decode_target(const ReadOp& op, const ReadTarget& target);

  Machine* machine_ = nullptr;
  FrameTable* frames_ = nullptr;
  const Observer* observer_ = nullptr;
  SwapInSink* sink_ = nullptr;
  SlotTable slots_;
  Codec codec_;
  Pool pool_;
  SwapDisk disk_;
  SwapAreas areas_;
  PlainIo plain_io_;
  u8* scratch_ = nullptr;  // one object that lies across frames
  u32 write_errors_ = 0;
  u32 clean_failures_ = 0;  // in a row
  bool disk_full_ = false;
  bool claim_failed_ = false;  // why it is full: no segment to claim; else, no space to write
  bool quiesced_ = false;
  PageCount pool_max_;
  PageCount cached_pages_;
};

}  // namespace spillway
