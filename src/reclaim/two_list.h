// TwoListPolicy: active and inactive lists, one pair for anonymous pages and one for pages of
// files, as in Linux since 2.6.28; with refault distance, as since 3.15 (files) and 5.9 (anonymous
// pages). Shared memory counts as anonymous, because it goes to swap. Locked pages are on a list
// that nobody scans.
//
// How a page moves. Every new page starts inactive, anonymous ones too, the way since 5.9: a
// program that touches much memory once cannot push out what is in use. Before 5.9 new anonymous
// pages started active.
//   inactive -> active  its accessed bit is found set for the second time; a mapped program's page
//                       at the first time; read(2) or write(2) used it twice (mark_page_accessed);
//                       it refaulted at a distance below the size of the working set
//   active -> inactive  from the tail, accessed or not, whenever the inactive list is low; a mapped
//                       program's page that was accessed goes round once more
//   inactive -> out     from the tail, if not accessed
//
// Refault distance. `age` counts evictions and activations of both kinds. An evicted page leaves
// its value behind as a shadow: when the page is back, what happened in between is how much more
// memory would have kept it. A page that was active before it left says so in its shadow's lowest
// bit, and its return counts as a restore.
//
// Which kind is scanned: files alone while many inactive file pages are not in anybody's working
// set, or when swap is full; else both, weighted by swappiness and by what scanning each has cost
// lately (transfers started, pages looked at in vain, working-set pages that came back).
//
// On machines without accessed bits nothing is seen of mapped accesses: the lists are FIFOs then,
// and the second chance is the refault. Such machines have three_queue, which does better.
//
// Invariants: every resident page of a program or cache is on exactly one list (I3). Reclaim never
// recurses (I35); the last round of a run looks at every page, so that it fails only when nothing
// can go (I36). Locks: the engine lock, as for all policies. Cost: O(1) per event, O(mappings) per
// page scanned.
#pragma once

#include "lru/lru_list.h"
#include "reclaim/policy.h"

namespace spillway {

class TwoListPolicy final : public ReclaimPolicy {
 public:
  static constexpr u32 kBatch = 32;     // pages between two looks at the goal: SWAP_CLUSTER_MAX
  static constexpr u32 kPriority = 12;  // the first round scans size >> 12: DEF_PRIORITY
  static constexpr u32 kSwappiness = 60;
  // Background work leaves so many pages to programs: two clusters of readahead, so that a page
  // just read for a fault does not leave again before the fault is retried.
  static constexpr u64 kKeepResident = 32;

  // `background`: whether background_step reclaims at all (Config::background_reclaim).
  void init(PageOut& pageout, bool background);

  ReclaimOutcome reclaim(PageCount want) override;
  void page_added(Pfn pfn, Arrival arrival, u32 shadow) override;
  void page_added_unmapped(Pfn pfn) override;
  void page_refaulted(Pfn pfn, u32 shadow) override;
  void page_mapped(Pfn pfn) override;
  void page_touched(Pfn pfn) override;
  void page_unmapped(Pfn pfn) override;
  void page_removed(Pfn pfn) override;
  void page_locked(Pfn pfn) override;
  void page_unlocked(Pfn pfn) override;
  void page_written(Pfn pfn, Status status) override;
  void page_cold(Pfn pfn) override;
  ReclaimOutcome page_out(Pfn pfn) override;

  const char* name() const override { return "two_list"; }
  bool background_step() override;
  bool background_wanted() const override;
  void age() override;
  u64 queue_size(PageQueue queue) const override;
  Pfn queue_head(PageQueue queue) const override;
  u64 dirtyable_pages() const override;
  bool validate() const override;

  // Evictions and activations so far, modulo 2^31.
  u32 nonresident_age() const { return age_ & kAgeMask; }
  bool inactive_is_low(bool file) const;

 private:
  static constexpr u32 kAgeMask = 0x7fffffff;  // the shadow's lowest bit is taken

  // What shrink_node knows of the run that it belongs to.
  struct Scan {
    u32 priority = kPriority;
    u64 start_free = 0;  // free frames at the beginning
    u64 goal = 0;        // frames wanted
    // Inactive pages that were not looked at yet. No program runs meanwhile, so a page that was
    // spared because it is in use (I39) would look idle to a second look in the same run.
    u64 unseen[2] = {};
    u64 started = 0;  // pages on their way out: free when their writes end
    bool deactivate[2] = {};
    bool force_deactivate = false;
    bool trim_cache = false;
    bool waits = false;  // nothing more can be started before an I/O ends
  };
  enum class References : u8 { reclaim, reclaim_clean, keep, activate };
  enum class Laundered : u8 { gone, started, kept, failed };

  LruList& list(bool file, bool active) { return lists_[(file ? 2 : 0) + (active ? 1 : 0)]; }
  const LruList& list(bool file, bool active) const {
    return lists_[(file ? 2 : 0) + (active ? 1 : 0)];
  }
  bool is_file(Pfn pfn) const { return (*frames_)[pfn].owner == PageOwner::file; }
  bool is_active(Pfn pfn) const;
  const LruList* find_list(PageQueue queue) const;
  void take_off(Pfn pfn);
  void put(Pfn pfn, bool active);  // to the head of its kind's list
  void activate(Pfn pfn);
  void mark_accessed(Pfn pfn);

  void age_nonresident();
  u32 next_shadow(Pfn pfn) const;
  u64 workingset_size(bool file) const;
  void workingset_refault(Pfn pfn, u32 shadow);
  void note_cost(bool file, u64 transfers, u64 rotated);

  // two_list_shrink.cc
  ReclaimOutcome run(u64 want);
  bool enough(const Scan& scan) const;
  void prepare(Scan& scan) const;
  bool can_reclaim_anon(const Scan& scan) const;
  void get_scan_count(const Scan& scan, u64* nr) const;
  void shrink_node(Scan& scan);
  void shrink_list(Scan& scan, bool file, bool active, u64 pages);
  void shrink_active_list(bool file, u64 pages);
  void shrink_inactive_list(Scan& scan, bool file, u64 pages);
  References check_references(Pfn pfn);
  Laundered launder(Scan& scan, Pfn pfn);

  PageOut* pageout_ = nullptr;
  FrameTable* frames_ = nullptr;
  PageAllocator* allocator_ = nullptr;
  Swap* swap_ = nullptr;
  SpaceTable* spaces_ = nullptr;
  const Observer* observer_ = nullptr;
  bool background_ = true;
  bool kswapd_awake_ = false;
  bool accessed_bit_ = false;
  LruList lists_[4];  // inactive_anon, active_anon, inactive_file, active_file
  LruList locked_;
  u32 age_ = 1;
  u64 cost_[2] = {};       // anonymous, file: decays, see note_cost
  u64 activated_[2] = {};  // refaults that were activated
  u64 seen_[2] = {};       // as activated_, when the last run ended
};

}  // namespace spillway
