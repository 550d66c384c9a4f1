// Page: the descriptor of one page frame, and the state machine that it obeys.
//
// Every frame of the arena has one descriptor in the frame table (FrameTable), found by number.
// A frame is in exactly one state, and its state changes only through FrameTable::transition,
// which checks the step against kPageTransitions (docs/page-states.md is generated from it).
// Thread safety: the zone lock while a frame is free, else whoever owns the frame.
#pragma once

#include <atomic>

#include "base/assert.h"
#include "base/units.h"

namespace spillway {

enum class PageState : u8 {
  offline,   // no memory behind it
  reserved,  // present, but not the allocator's: never allocated, freed, aged or scanned (R3)
  free,      // in a buddy list
  pcp,       // in a CPU's list of free frames
  isolated,  // in the hands of one code path, on no list
  kernel,    // holds an object of the manager: see the owner tag
  mapped,    // a program's page, present in its page table
  unmapped,  // a program's page, resident but unmapped
  reading,   // a program's page, being read from swap
};
inline constexpr u32 kPageStateCount = 9;
const char* name_of(PageState s);

// user: an anonymous page of a program. file, shmem: a page of the page cache, whose Mapping is in
// Page::private_data; mapped, unmapped and reading say the same of them as of anonymous pages.
// stack: half of a task's kernel stack. vmalloc: behind one page of a VmallocSpace. boot: reserved.
enum class PageOwner : u8 {
  none,
  boot,
  slab,
  table,
  swap_meta,
  pool,
  user,
  file,
  shmem,
  stack,
  vmalloc,
};
inline constexpr u32 kPageOwnerCount = 11;
const char* name_of(PageOwner o);

// Which ageing queue a page is on; which of them exist is the policy's business.
enum class PageQueue : u8 {
  none,
  probation,  // three queues
  main,
  unmapped,
  locked,  // every policy: Linux's unevictable
  active,  // linux24
  inactive_dirty,
  inactive_clean,
  active_anon,  // two lists
  inactive_anon,
  active_file,
  inactive_file,
};
inline constexpr u32 kPageQueueCount = 12;
const char* name_of(PageQueue q);

// Bits of Page::flags.
enum class PageFlag : u16 {
  dirty = 1 << 0,          // differs from its backing (file block or swap slot)
  referenced = 1 << 1,     // touched since the ageing policy last looked
  writeback = 1 << 2,      // being written: the frame stays put and must not be freed
  uptodate = 1 << 3,       // page cache: the bytes are the file's
  error = 1 << 4,          // the last transfer of the page failed
  free_after_io = 1 << 5,  // nobody wants the page any more: freed when its write ends
  reclaim = 1 << 6,        // written in order to leave: freed when its write ends (PG_reclaim)
  workingset = 1 << 7,     // it was active once since it came (PG_workingset)
};

// Bit `to` of kPageTransitions[from] says that the step is legal.
inline constexpr u16 page_bit(PageState s) { return static_cast<u16>(1U << static_cast<u8>(s)); }
inline constexpr u16 kPageTransitions[kPageStateCount] = {
    /* offline  */ page_bit(PageState::reserved),
    /* reserved */ page_bit(PageState::isolated),
    /* free     */ page_bit(PageState::isolated) | page_bit(PageState::pcp),
    /* pcp      */ page_bit(PageState::isolated) | page_bit(PageState::free),
    /* isolated */ page_bit(PageState::free) | page_bit(PageState::pcp) |
        page_bit(PageState::offline) | page_bit(PageState::reserved) | page_bit(PageState::kernel) |
        page_bit(PageState::mapped) | page_bit(PageState::unmapped) | page_bit(PageState::reading),
    /* kernel   */ page_bit(PageState::isolated),
    /* mapped   */ page_bit(PageState::unmapped) | page_bit(PageState::isolated),
    /* unmapped */ page_bit(PageState::mapped) | page_bit(PageState::isolated),
    /* reading  */ page_bit(PageState::unmapped) | page_bit(PageState::isolated),
};
constexpr bool page_may_go(PageState from, PageState to) {
  return (kPageTransitions[static_cast<u8>(from)] & page_bit(to)) != 0;
}

// Order of a frame inside a free block that is not the block's head.
inline constexpr u8 kNotHead = 0xff;

struct Page {
  PageState state = PageState::offline;
  PageOwner owner = PageOwner::none;
  PageQueue queue = PageQueue::none;
  u8 order = 0;           // of the free block that starts here, kNotHead inside one
  u32 prev = Pfn::kNone;  // links of the one list that the page is on
  u32 next = Pfn::kNone;
  // The page is in the swap cache under this slot; none = it is not (I18). The slot's content
  // equals the page unless the page is dirty, the machine's dirty bit says so, or, where there is
  // none, a comparison does.
  SlotId slot;
  // Reverse map: the entries that hold the frame. 0 = none; one place, space and page; or, with
  // kRmapChain, a pointer to a chain of places (space/rmap.h).
  u64 rmap = 0;
  // The owner's: live entries of a table, objects in use of a slab, the Mapping of a cached page,
  // marks of a page on its way in, ...
  u64 private_data = 0;
  u32 index = 0;     // page cache: page number within its Mapping
  u32 mapcount = 0;  // entries in the reverse map
  u16 flags = 0;     // PageFlag
  u8 age = 0;        // policy linux24: 0..64
  u8 pins = 0;       // transient holders: the page is not given up meanwhile

  static constexpr u64 kRmapChain = u64{1} << 63;

  bool has(PageFlag f) const { return (flags & static_cast<u16>(f)) != 0; }
  void set(PageFlag f) { flags = static_cast<u16>(flags | static_cast<u16>(f)); }
  void clear(PageFlag f) { flags = static_cast<u16>(flags & ~static_cast<u16>(f)); }
  bool test_and_clear(PageFlag f) {
    const bool was = has(f);
    clear(f);
    return was;
  }
  bool in_swap_cache() const { return slot.valid(); }
  bool in_page_cache() const { return owner == PageOwner::file || owner == PageOwner::shmem; }
  // Linux 2.4's reference count (rule R1): cache, page-table entries, transient holders.
  u32 count() const {
    return mapcount + pins + (in_swap_cache() ? 1U : 0U) + (in_page_cache() ? 1U : 0U);
  }

  // A page with exactly one place. Rooms from space on use space/rmap.h, which knows chains.
  void set_rmap(SpaceId space, Vpn vpn) { rmap = (u64{space.v} << 48) | vpn.v; }
  void clear_rmap() { rmap = 0; }
  SpaceId rmap_space() const { return SpaceId(static_cast<u16>(rmap >> 48)); }
  Vpn rmap_vpn() const { return Vpn(rmap & ((u64{1} << 48) - 1)); }
};
static_assert(sizeof(Page) == 48);

// Holds a page while room is made for something else, so that it is not the page that goes: on a
// full machine a fault would otherwise be tried again for ever.
class PagePin {
 public:
  explicit PagePin(Page& page) : page_(page) { ++page_.pins; }
  ~PagePin() { --page_.pins; }
  PagePin(const PagePin&) = delete;
  PagePin& operator=(const PagePin&) = delete;

 private:
  Page& page_;
};

// All descriptors, in one array of boot memory.
class FrameTable {
 public:
  void init(Page* pages, PageCount count) {
    pages_ = pages;
    count_ = count;
  }
  PageCount count() const { return count_; }
  Page& operator[](Pfn pfn) {
    SPW_DEBUG_ASSERT(pfn.v < count_.v);
    return pages_[pfn.v];
  }
  const Page& operator[](Pfn pfn) const {
    SPW_DEBUG_ASSERT(pfn.v < count_.v);
    return pages_[pfn.v];
  }

  // Moves the page from one state to another. An illegal or unexpected step is a bug.
  void transition(Pfn pfn, PageState from, PageState to) {
    Page& page = (*this)[pfn];
    SPW_ASSERT_EQ(static_cast<u8>(page.state), static_cast<u8>(from));
    SPW_ASSERT(page_may_go(from, to));
    // Relaxed: see state_of_neighbour.
    std::atomic_ref<PageState>(page.state).store(to, std::memory_order_relaxed);
  }
  // For a frame that may be another thread's: the buddy allocator asks whether a block's
  // neighbour is free. Only `free` is reliable, because it begins and ends under the zone lock,
  // which the caller holds; any other answer is merely "not free".
  PageState state_of_neighbour(Pfn pfn) {
    return std::atomic_ref<PageState>((*this)[pfn].state).load(std::memory_order_relaxed);
  }

 private:
  Page* pages_ = nullptr;
  PageCount count_;
};

}  // namespace spillway
