// AddressSpace: areas in a balanced tree, the page table, and the system calls on both. What it
// does to pages already there; bringing pages in is room fault.
//
// Invariants: I9 areas sorted, disjoint, non-empty, total_vm and locked_vm are their sums; I11
// every non-empty entry lies inside an area.
// Calls follow "reserve, then commit": what can fail is done first, so a refused call changes
// nothing. Error::wait means the same: nothing has changed, wait for an I/O and call again.
// Thread safety: the engine lock.
#pragma once

#include "pagetable/page_table.h"
#include "space/area.h"
#include "space/mm_context.h"

namespace spillway {

struct MapParams {
  VpnRange range;  // the place, when fixed; otherwise only its length counts and start is a hint
  Prot prot = Prot::none;
  bool fixed = false;
  bool noreplace = false;
  bool noreserve = false;
  bool locked = false;
  bool foreign = false;
};

class AddressSpace {
 public:
  // `range` is where areas may be; its first brk_pages are kept for the heap.
  Status init(MmContext& mm, SpaceId id, VpnRange range, PageCount brk_pages);
  // Unmaps everything and gives the tables back.
  void destroy();

  SpaceId id() const { return id_; }
  VpnRange range() const { return range_; }
  PageTable& table() { return table_; }
  // The area that contains `vpn`, or null.
  Area* find(Vpn vpn);
  // The first area that ends above `vpn`, or null (Linux's find_vma).
  Area* find_above(Vpn vpn);

  Result<Vpn> map(const MapParams& params);
  Status unmap(VpnRange range);
  Status protect(VpnRange range, Prot prot);
  // Moves or resizes; see System::mremap for the rules.
  Result<Vpn> remap(VpnRange old_range, PageCount new_pages, bool may_move, bool fixed, Vpn to);
  // The break in bytes after the call; growing fails silently, as brk(2) does.
  Result<VirtAddr> brk(VirtAddr wanted);
  Status set_locked(VpnRange range, bool locked, PageCount locked_max);

  Status discard(VpnRange range);       // MADV_DONTNEED, MADV_FREE
  Status cold(VpnRange range);          // MADV_COLD
  Status page_out(VpnRange range);      // MADV_PAGEOUT
  Status check_mapped(VpnRange range);  // no_memory if it has a hole, not_supported if foreign
  bool touches_foreign(VpnRange range);
  // vec[i] = 1 if page i of the range is resident.
  Status resident(VpnRange range, u8* vec);

  PageCount total_vm() const { return total_vm_; }
  PageCount locked_vm() const { return locked_vm_; }
  u64 area_count() const { return tree_.size(); }
  const AreaTree& areas() const { return tree_; }
  // O(areas): I9 and the gap summaries.
  bool validate() const;

  // Largest request that is not refused as an obvious overcommit.
  void set_commit_max(PageCount pages) { commit_max_ = pages; }

 private:
  friend class SpaceTable;
  // Areas that one call can need: mremap splits at both ends of two ranges and makes a new one.
  static constexpr u32 kReserveMax = 5;

  Status reserve_areas(u32 count);
  Area* take_area();
  void free_area(Area* area);
  void insert(Area* area);
  void erase(Area* area);
  void update_gap(Area* area);
  Result<Vpn> find_gap(u64 pages, Vpn hint) const;
  const Area* lowest_gap(const Area* node, u64 pages) const;
  u64 usable_gap(const Area* area) const;
  void split(Area* area, Vpn at);
  void split_edges(VpnRange range);
  void merge_around(VpnRange range);
  bool has_hard_areas(VpnRange range);
  // Frees all pages in the range; entries become empty. `prot` as for Mmu::drop.
  void zap(VpnRange range, Prot prot);
  void zap_span(PageTable::Span& span, Prot prot);
  void forget_swapped(SlotId slot);
  void remove_areas(VpnRange range);
  Status unmap_for_none(VpnRange range);
  void set_present_prot(VpnRange range, Prot prot);
  Status reserve_tables(VpnRange from, Vpn to);
  void move_entries(VpnRange from, Vpn to, Prot prot);
  Result<Vpn> move_area(Area* area, VpnRange old_range, PageCount new_pages, bool fixed, Vpn to);

  MmContext* mm_ = nullptr;
  SpaceId id_;
  VpnRange range_;
  Vpn brk_start_;
  Vpn brk_limit_;
  VirtAddr brk_;
  PageTable table_;
  AreaTree tree_;
  Area* last_hit_ = nullptr;
  Area* reserve_[kReserveMax] = {};
  u32 reserved_ = 0;
  PageCount total_vm_;
  PageCount locked_vm_;
  PageCount commit_max_;
};

}  // namespace spillway
