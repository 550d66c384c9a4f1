// AddressSpace: areas in a balanced tree, the page table, and the system calls on both. What it
// does to pages already there; bringing pages in is room fault.
//
// Invariants: I9 areas sorted, disjoint, non-empty, total_vm and locked_vm are their sums; I11
// every non-empty entry lies inside an area; I12 no entry grants more than its area; I13 a private
// page with more than one place is writable nowhere.
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
  Prot may = Prot::all;
  bool fixed = false;
  bool noreplace = false;
  bool noreserve = false;
  bool locked = false;
  bool foreign = false;
  bool shared = false;
  bool may_share = false;
  bool growsdown = false;
  bool stack = false;
  bool executable = false;
  Mapping* mapping = nullptr;  // with ops; the area takes a reference through area_opened
  AreaOps* ops = nullptr;
  void* file = nullptr;
  u64 pgoff = 0;
};

// Where mmap chooses places when it is not told one.
struct SpaceLayout {
  Vpn mmap_low;   // nothing is placed below
  Vpn mmap_high;  // top-down placement starts here
  bool top_down = false;
};

// Limits of a process, in pages; that of its data counts bytes, as the break does.
struct SpaceLimits {
  PageCount as{~u64{0}};
  u64 data_bytes{~u64{0}};
  PageCount stack{~u64{0}};
  PageCount memlock{~u64{0}};
  PageCount stack_guard_gap{0};
  u64 map_count{65530};
};

class AddressSpace {
 public:
  // `range` is where areas may be; its first brk_pages are kept for the heap.
  Status init(MmContext& mm, SpaceId id, VpnRange range, PageCount brk_pages);
  // Unmaps everything and gives the tables back.
  void destroy();
  // Unmaps everything; the space stays, with its limits (exec).
  void clear();
  // Makes this space, which is empty, a copy of `parent`: pages are shared, private ones
  // copy-on-write. On failure this space may hold a part and must be destroyed.
  Status fork_from(AddressSpace& parent);

  SpaceId id() const { return id_; }
  VpnRange range() const { return range_; }
  PageTable& table() { return table_; }
  const PageTable& table() const { return table_; }
  // The area that contains `vpn`, or null.
  Area* find(Vpn vpn);
  // The first area that ends above `vpn`, or null (Linux's find_vma).
  Area* find_above(Vpn vpn);

  Result<Vpn> map(const MapParams& params);
  Status unmap(VpnRange range);
  // access: an area may not be given the right (VM_MAY*).
  Status protect(VpnRange range, Prot prot);
  // Moves or resizes; see System::mremap for the rules.
  Result<Vpn> remap(VpnRange old_range, PageCount new_pages, bool may_move, bool fixed, Vpn to);
  // The break in bytes after the call; growing fails silently, as brk(2) does.
  Result<VirtAddr> brk(VirtAddr wanted);
  // Where the heap starts (exec); it is empty. `data_bytes` of initialised data before it count
  // against the limit of the heap.
  void set_brk_start(Vpn start, u64 data_bytes = 0);
  VirtAddr brk_now() const { return brk_; }
  Vpn brk_start() const { return brk_start_; }
  Status set_locked(VpnRange range, bool locked, PageCount locked_max);
  // mlockall(MCL_FUTURE): new areas are locked from birth.
  void set_lock_future(bool on) { lock_future_ = on; }
  bool lock_future() const { return lock_future_; }
  // The stack area grows down to contain `vpn` (expand_stack). no_memory: a limit or a neighbour.
  Status expand_stack(Area* area, Vpn vpn);

  Status discard(VpnRange range);       // MADV_DONTNEED
  Status discard_free(VpnRange range);  // MADV_FREE: private anonymous areas only
  Status cold(VpnRange range);          // MADV_COLD
  Status page_out(VpnRange range);      // MADV_PAGEOUT
  Status set_hint(VpnRange range, AccessHint hint);
  Status set_dontcopy(VpnRange range, bool on);
  // Moves dirty bits of entries of shared areas to their pages (msync's first half).
  void collect_dirty(VpnRange range);
  Status check_mapped(VpnRange range);  // no_memory if it has a hole, not_supported if foreign
  bool touches_foreign(VpnRange range);
  // vec[i] = 1 if page i of the range is resident.
  Status resident(VpnRange range, u8* vec);
  // Frees all pages in the range; entries become empty. `prot` as for Mmu::drop.
  void zap(VpnRange range, Prot prot);

  PageCount total_vm() const { return total_vm_; }
  PageCount locked_vm() const { return locked_vm_; }
  u64 area_count() const { return tree_.size(); }
  const AreaTree& areas() const { return tree_; }
  // O(areas): I9 and the gap summaries.
  bool validate() const;

  SpaceLimits& limits() { return limits_; }
  void set_layout(const SpaceLayout& layout) { layout_ = layout; }

  // What an entry for a page that belongs to the area grants: less than the area for a private page
  // that others share, so that a write is noticed.
  Prot entry_prot(const Area& area, Pfn pfn) const;

 private:
  friend class SpaceTable;
  // Areas that one call can need: mremap splits at both ends of two ranges and makes a new one.
  static constexpr u32 kReserveMax = 5;

  Status reserve_areas(u32 count);
  Area* take_area();
  void free_area(Area* area);
  void insert(Area* area);
  void erase(Area* area);
  void resized(const Area& area, i64 pages);
  void link_shared(Area* area);
  void unlink_shared(Area* area);
  void update_gap(Area* area);
  Result<Vpn> find_gap(u64 pages, Vpn hint) const;
  Result<Vpn> find_gap_down(u64 pages) const;
  const Area* lowest_gap(const Area* node, u64 pages) const;
  const Area* highest_gap(const Area* node, u64 pages) const;
  Vpn room_end(const Area* area) const;
  VpnRange usable_gap(const Area* area) const;
  Status check_new(const MapParams& params, VpnRange place);
  u64 accounted_pages(VpnRange range);
  u64 mapped_pages(VpnRange range);
  Status check_split(VpnRange range) const;
  Status check_edges(VpnRange range, void (*change)(Area&, u64), u64 value);
  Status change_areas(VpnRange range, void (*change)(Area&, u64), u64 value);
  void split(Area* area, Vpn at);
  void split_edges(VpnRange range);
  void merge_around(VpnRange range);
  bool has_hard_areas(VpnRange range);
  void zap_span(PageTable::Span& span, Prot prot);
  void remove_areas(VpnRange range);
  Status unmap_for_none(VpnRange range);
  void set_present_prot(VpnRange range, Area& area);
  void lock_present(Area& area);
  Status reserve_tables(VpnRange from, Vpn to);
  void move_entries(VpnRange from, Vpn to, Prot prot);
  Status check_move(const Area& area, VpnRange old_range, PageCount new_pages);
  Result<Vpn> move_area(Area* area, VpnRange old_range, PageCount new_pages, bool fixed, Vpn to);
  Status copy_areas(AddressSpace& parent);
  Status copy_entries(AddressSpace& parent, Area& area);
  u32 nodes_lacking(const PageTable::Span& span) const;
  Status copy_span(AddressSpace& parent, Area& area, PageTable::Span& span);

  MmContext* mm_ = nullptr;
  SpaceId id_;
  VpnRange range_;
  SpaceLayout layout_;
  SpaceLimits limits_;
  Vpn brk_start_;
  Vpn brk_limit_;
  VirtAddr brk_;
  u64 data_bytes_ = 0;
  bool brk_gap_ = false;  // one free page is kept above the heap, as Linux does
  bool lock_future_ = false;
  PageTable table_;
  AreaTree tree_;
  Area* last_hit_ = nullptr;
  Area* reserve_[kReserveMax] = {};
  u32 reserved_ = 0;
  PageCount total_vm_;
  PageCount locked_vm_;
};

}  // namespace spillway
