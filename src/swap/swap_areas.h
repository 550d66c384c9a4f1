// SwapAreas: the plain swap areas, each on a block device of its own: formatted, switched on and
// off, and chosen by priority. The transfers of pages are PlainIo's.
//
// Area number = number of the block device + 1. Linux 2.4 had 8 areas in all; here the slot's
// number has room for 31. Calls that need the device return Error::wait and are to be made again,
// with the same arguments, when an I/O has ended.
// Thread safety: the engine lock.
#pragma once

#include "observe/observe.h"
#include "swap/swap_area.h"

namespace spillway {

// What format writes into the header of an area.
struct SwapFormat {
  PageCount size{};                // with the header; 0 = the whole device
  const u32* bad_pages = nullptr;  // bad_count pages that must not be used
  u32 bad_count = 0;
};

// One line of /proc/swaps.
struct SwapAreaInfo {
  u32 area;
  u32 device;
  PageCount size;  // slots that can be handed out
  PageCount used;
  i32 priority;
  bool writable;  // false while it is being switched off
};

class SwapAreas final : public IoSink {
 public:
  static constexpr u32 kAreasMax = 31;
  static constexpr i32 kPriorityMax = 32767;   // as Linux: 15 bits
  static constexpr i32 kPriorityDefault = -1;  // "one less than all others", from -2 on

  Status init(Machine& machine, PageAllocator& allocator, const Observer& observer);

  // Makes the device an empty area. invalid: no such device, or the sizes do not fit; busy: an
  // area is on or on its way; io: the write failed; wait, no_memory.
  Status format(u32 device, const SwapFormat& format);
  // Switches the area of the device on and returns its number. `size` limits how much of it is
  // used, 0 = all that the header declares. busy: it is on already, or being formatted; invalid:
  // no such device, bad priority, or the header is not one (SwapHeader::check); io; no_memory: no
  // frames for the records; wait. Errors but wait change nothing.
  Result<u32> swap_on(u32 device, i32 priority, PageCount size);

  // Switching off: from begin_off on no slot is handed out, and cancel_off takes that back. The
  // caller empties the area (next_used) and ends with finish_off, which gives the records back, or
  // says busy while slots are in use. invalid: the area is not on, or not in this phase.
  Status begin_off(u32 area);
  Status cancel_off(u32 area);
  Status finish_off(u32 area);
  // The first slot in use above `slot` in its area, kNoSlot if none; begin with offset 0.
  SlotId next_used(SlotId slot) const;

  // A slot of the area of the highest priority that has one; areas of equal priority take turns,
  // slot by slot. In state empty, with one reference. no_space: there is none.
  Result<SlotId> alloc();
  void free(SlotId slot) { at(slot.area()).slots.free(slot.offset()); }
  // The record of a slot of an area that is on, whatever its state; null elsewhere.
  Slot* find(SlotId slot) const;
  BlockDevice& device(u32 area) const { return *machine_->block_devices[area - 1]; }

  // Whether some area hands slots out.
  bool any_writable() const;
  // Whether the area is being switched off: what is brought in from it must not go back.
  bool going_off(u32 area) const { return on(area) && !at(area).writable; }
  // nr_swap_pages and total_swap_pages: of the areas that hand slots out.
  PageCount free_pages() const;
  PageCount total_pages() const;
  u64 used() const;         // slots in use, in all areas
  u64 meta_frames() const;  // frames of all records
  // Calls fn(SwapAreaInfo) for each area that is on, by number.
  template <class Fn>
  void for_each(Fn fn) const {
    for (u32 n = 1; n <= count_; ++n) {
      if (at(n).state == State::on) fn(info(n));
    }
  }
  // Calls fn(SlotId, const Slot&) for each slot in use.
  template <class Fn>
  void for_each_slot(Fn fn) const {
    for (u32 n = 1; n <= count_; ++n) {
      if (at(n).state != State::on) continue;
      const SwapArea& slots = at(n).slots;
      for (u32 o = slots.next_used(0); o != 0; o = slots.next_used(o)) {
        fn(SlotId(n, o), *slots.find(o));
      }
    }
  }

  void set_quiesced(bool on) { quiesced_ = on; }
  bool io_in_flight() const { return transfers_ > 0; }
  void io_done(IoRequest& request, Status status) override;
  bool validate() const;

 private:
  enum class State : u8 { off, formatting, starting, on };
  struct Area {
    SwapArea slots;
    State state = State::off;
    bool writable = false;
    bool header_pending = false;
    i32 priority = 0;
    PageCount wanted;  // what the first call of swap_on said
    Status header_status = kOk;
    Pfn header;  // frame of the header, while formatting and starting
    IoRequest io;
  };

  Area& at(u32 area) const {
    SPW_DEBUG_ASSERT(area >= 1 && area <= count_);
    return areas_[area - 1];
  }
  bool on(u32 area) const { return area >= 1 && area <= count_ && at(area).state == State::on; }
  SwapAreaInfo info(u32 area) const;
  Status submit_header(u32 area, IoOp op);
  void drop_header(Area& area);
  Status start(Area& area, PageCount device_size);
  i32 next_default_priority() const;

  Machine* machine_ = nullptr;
  PageAllocator* allocator_ = nullptr;
  const Observer* observer_ = nullptr;
  Area* areas_ = nullptr;  // one for each block device
  u32 count_ = 0;
  u32 last_ = 0;  // area that the last slot came from
  u32 transfers_ = 0;
  bool quiesced_ = false;
};

}  // namespace spillway
