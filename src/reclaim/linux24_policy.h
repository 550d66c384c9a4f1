// Linux24Policy: the ageing of Linux 2.4.0, without its faults (MECHANISMS 1.3, 1.4, 6, 7, 19).
//
// Pages of caches (page cache, swap cache) are on one of three lists and have an age of 0 to 64:
//
//   active          in use, or age > 0
//   inactive_dirty  age 0; perhaps dirty, perhaps still mapped
//   inactive_clean  clean, unmapped, still findable: as good as free
//
// A private anonymous page that was never swapped is on none; only scans of page tables see it.
// swap_out goes over page tables, process by process: a page that was accessed gets older by 3, one
// that was not loses half of its age, and at age 0 its entry is taken away. page_launder writes
// what is dirty and turns inactive_dirty pages into inactive_clean ones. The allocator takes those
// directly (reclaim_page).
//
// In files of their own: linux24_policy.cc ageing and the lists; linux24_swap_out.cc scans of page
// tables; linux24_launder.cc page_launder, reclaim_page, kreclaimd; linux24_kswapd.cc shortages,
// refill_inactive, kswapd; linux24_alloc.cc __alloc_pages.
//
// Nothing sleeps: where 2.4 would wait for a write, calls return that I/O is in flight.
// Invariants: I3, I7, I35 to I39. Pages on an inactive list have age 0. Needs accessed bits, dirty
// bits and shared frames; swaps to plain areas only. Thread safety: the engine lock.
#pragma once

#include "lru/lru_list.h"
#include "reclaim/policy.h"

namespace spillway {

class Linux24Policy final : public ReclaimPolicy {
 public:
  static constexpr u32 kAgeStart = 2;
  static constexpr u32 kAgeAdvance = 3;
  static constexpr u32 kAgeMax = 64;
  // Scans look at 1/2^priority of their list; 0 is everything.
  static constexpr u32 kPriority = 6;
  // A process is visited in 32 turns, of 8 pages at least (SWAP_SHIFT, SWAP_MIN).
  static constexpr u32 kSwapShift = 5;
  static constexpr u64 kSwapMin = 8;
  // Turns of one reclaim. An age of 64 is gone after 8 visits and a turn without result makes two
  // of each page, so more turns than 5 are needed only by pages whose write is refused.
  static constexpr u32 kTurnsMax = 16;
  // Attempts of one allocation, as PageAllocator::kRetryMax.
  static constexpr u32 kAttemptsMax = PageAllocator::kRetryMax;
  static constexpr u64 kSecond = 1'000'000'000;

  static bool supported(const Features& features) {
    return features.accessed_bit && features.dirty_bit && features.shared_frames;
  }
  // Watermarks of a zone of 2.4.0 that is not the DMA zone (MECHANISMS 1.5).
  static Watermarks marks_for(PageCount frames);

  // Takes the allocator's decisions over. `background`: whether background_step does anything.
  // `page_cluster`: log2 of the pages that go together (vm.page-cluster).
  void init(PageOut& pageout, bool background, u32 page_cluster);

  // --- Reclaimer
  ReclaimOutcome reclaim(PageCount want) override;
  void page_added(Pfn pfn, Arrival arrival, u32 shadow) override;
  void page_added_unmapped(Pfn pfn) override;
  void page_touched(Pfn pfn) override { age_page_up(pfn); }
  void page_unmapped(Pfn) override {}
  void page_removed(Pfn pfn) override;
  void page_entered_cache(Pfn pfn) override { lru_cache_add(pfn); }
  void page_left_cache(Pfn pfn) override { page_removed(pfn); }
  void page_written(Pfn pfn, Status status) override;
  void page_locked(Pfn pfn) override;
  void page_unlocked(Pfn pfn) override;
  // The next visit finds the page old.
  void page_cold(Pfn pfn) override;
  ReclaimOutcome page_out(Pfn pfn) override;
  void space_ended(SpaceId space) override { turns_[space.v] = {}; }
  // __alloc_pages.
  Result<Pfn> alloc_pages(u32 order, AllocFlags flags) override;
  void frames_taken(Pfn first, u32 count) override;
  void frames_freed(u32 count) override;

  // --- ReclaimPolicy
  const char* name() const override { return "linux24"; }
  // One turn of kswapd.
  bool background_step() override;
  // It was woken, or a second has passed and there is something to age.
  bool background_wanted() const override;
  // What happens without shortage: 1/64 of the active list, and one visit of every space.
  void age() override;
  // kreclaimd: frees inactive_clean pages while few frames are free.
  bool reclaimd_step() override;
  bool reclaimd_wanted() const override;
  u64 visit(AddressSpace& space) override;
  // Few frames are free, few pages are clean, swap is full, and nothing on its way helps.
  bool out_of_memory() const override;
  u64 queue_size(PageQueue queue) const override;
  Pfn queue_head(PageQueue queue) const override;
  bool must_be_queued(const Page& page) const override {
    return page.in_page_cache() || page.in_swap_cache();
  }
  u64 inactive_target() const override;
  u64 dirtyable_pages() const override;  // nr_free_buffer_pages
  bool short_of_clean_pages() const override;
  bool validate() const override;

  // --- For tests and views
  u64 memory_pressure() const { return memory_pressure_; }
  u64 free_shortage() const;
  u64 inactive_shortage() const;
  bool kswapd_woken() const { return kswapd_woken_; }
  // Where the next turn of swap_out goes on in the space, and what is left of its share.
  Vpn swap_address(SpaceId space) const { return turns_[space.v].address; }
  u64 swap_cnt(SpaceId space) const { return turns_[space.v].cnt; }
  // At most 1/2^priority of the active list; returns the pages that were deactivated, at most one
  // with Scan::one.
  enum class Scan : u8 { one, all };
  u64 refill_inactive_scan(u32 priority, Scan scan);
  // One turn at the process with the most left of its share; returns the pages unmapped.
  u64 swap_out();
  // Returns the pages that became inactive_clean. `sync`: the caller could wait for writes.
  u64 page_launder(bool sync);
  // An inactive_clean page as a frame: isolated, of age 2, in no cache any more; or kNoPfn.
  Pfn reclaim_page();

 private:
  // mm->swap_address and mm->swap_cnt.
  struct Turn {
    Vpn address;
    u64 cnt = 0;
  };
  enum class Pass : u8 { no_io, io };
  enum class Laundered : u8 { cleaned, moved, later };
  // Inside, allocations use the reserve and do not reclaim (PF_MEMALLOC, I35).
  class Context;

  void age_page_up(Pfn pfn);
  void age_page_down_ageonly(Pfn pfn);
  void activate_page(Pfn pfn);
  void deactivate_page(Pfn pfn);
  void lru_cache_add(Pfn pfn);
  void move_to(Pfn pfn, LruList& list);
  LruList* find_list(PageQueue queue);
  const LruList* find_list(PageQueue queue) const;

  u64 try_to_swap_out(AddressSpace& space, Vpn vpn, Pte* pte);
  Vpn scan_space(AddressSpace& space, Vpn from, u64* budget, u64* unmapped);
  AddressSpace* choose_space();
  u64 swap_out_mm(AddressSpace& space);

  u64 launder_pass(Pass pass);
  Laundered launder_page(Pfn pfn, Pass pass);
  Laundered launder_dirty(Pfn pfn, Pass pass);
  void take_from_cache(Pfn pfn);

  u64 available() const { return allocator_->free_pages().v + inactive_clean_.size(); }
  u64 freeable_target() const;
  void do_try_to_free_pages(bool user);
  void refill_inactive(bool user);
  ReclaimOutcome balance(u64 goal);
  ReclaimOutcome try_to_free_pages();
  u64 writes_in_flight() const;
  bool second_passed() const;
  void decay_pressure();

  void wake_kswapd(const char* why);
  Pfn take_free(u32 order, bool memalloc);
  Pfn take_frame(u32 order, bool direct, bool memalloc);
  Pfn try_marks(u32 order, bool direct, bool memalloc);
  Pfn free_until_merged(u32 order);

  PageOut* pageout_ = nullptr;
  MmContext* mm_ = nullptr;
  FrameTable* frames_ = nullptr;
  PageAllocator* allocator_ = nullptr;
  Swap* swap_ = nullptr;
  SpaceTable* spaces_ = nullptr;
  const Observer* observer_ = nullptr;
  bool background_ = true;
  u32 page_cluster_ = 3;

  LruList active_;
  LruList inactive_dirty_;
  LruList inactive_clean_;
  LruList locked_;
  Turn turns_[SpaceTable::kSpacesMax];

  u64 memory_pressure_ = 0;
  u64 goal_ = 0;         // free and clean pages that a caller of reclaim() asks for
  u64 work_ = 0;         // grows with whatever brings some page nearer to being free
  u32 file_writes_ = 0;  // that the present pass may still start
  bool kswapd_woken_ = false;
  bool kreclaimd_woken_ = false;
  u32 turns_in_vain_ = 0;  // of kswapd, in a row
  u64 last_turn_ns_ = 0;   // of kswapd
  u64 last_decay_ns_ = 0;
};

class Linux24Policy::Context {
 public:
  explicit Context(PageAllocator& allocator) : allocator_(allocator), was_(allocator.in_reclaim()) {
    allocator_.enter_reclaim();
  }
  ~Context() {
    if (!was_) allocator_.leave_reclaim();
  }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

 private:
  PageAllocator& allocator_;
  const bool was_;
};

}  // namespace spillway
