// Area: a stretch of an address space with one protection and one kind of content, as Linux's
// vm_area_struct. Areas of a space are disjoint, sorted, non-empty (I9).
#pragma once

#include "base/avl.h"
#include "machine/pte.h"
#include "pagecache/mapping.h"

namespace spillway {

struct Area;
class AddressSpace;

// What the object behind an area wants to hear (Linux's vm_ops). Implemented by files and shared
// memory segments, whose life areas prolong.
class AreaOps {
 public:
  // A new area refers to the object: mapped, split off, or copied by fork.
  virtual void area_opened(Area& area) = 0;
  // An area that referred to it is gone.
  virtual void area_closed(Area& area) = 0;
  // Its name in /proc/PID/maps; "" for none. The literal or buffer outlives the area.
  virtual const char* area_name(const Area& area) const = 0;

 protected:
  ~AreaOps() = default;
};

// madvise's NORMAL, RANDOM, SEQUENTIAL.
enum class AccessHint : u8 { normal, random, sequential };

// Pages of a mapping that an area can show: their numbers have 32 bits, and the last is nobody's
// (PageCache::kNobodyWants).
inline constexpr u64 kMappingPagesMax = ~u32{0};

struct Area {
  Vpn start;
  Vpn end;
  Prot prot = Prot::none;
  Prot may = Prot::all;  // what mprotect may grant (VM_MAY*)
  AccessHint hint = AccessHint::normal;
  bool locked = false;         // never evicted (mlock)
  bool noreserve = false;      // not counted as committed
  bool foreign = false;        // the program mapped something else here; we only know the place
  bool shared = false;         // writes go to the mapping (VM_SHARED)
  bool may_share = false;      // asked for as shared: maps shows `s` (VM_MAYSHARE)
  bool growsdown = false;      // a stack
  bool stack = false;          // the process's first stack
  bool dontcopy = false;       // fork leaves it out (MADV_DONTFORK)
  bool executable = false;     // a mapped program (VM_DENYWRITE)
  Mapping* mapping = nullptr;  // null: anonymous memory
  AreaOps* ops = nullptr;      // with a mapping: its life
  void* file = nullptr;        // for ops: by which name the mapping was opened (vm_file)
  u64 pgoff = 0;               // page of the mapping that `start` shows
  AddressSpace* space = nullptr;
  Area* share_prev = nullptr;  // the list of Mapping::areas
  Area* share_next = nullptr;
  u64 gap = 0;      // free pages between the area before (or the space's start) and this
  u64 max_gap = 0;  // largest gap in the subtree
  AvlLink<Area> link;

  VpnRange range() const { return {start, end}; }
  PageCount pages() const { return range().pages(); }
  u32 index_of(Vpn vpn) const { return static_cast<u32>(pgoff + (vpn.v - start.v)); }
  // Whether its pages count as committed (VM_ACCOUNT).
  bool accounted() const { return !shared && !noreserve && !foreign && allows(prot, Prot::write); }
  // Whether two neighbours could be one: `after` begins where this ends.
  bool joins(const Area& after) const {
    return end == after.start && prot == after.prot && may == after.may && hint == after.hint &&
           locked == after.locked && noreserve == after.noreserve && shared == after.shared &&
           may_share == after.may_share && growsdown == after.growsdown && stack == after.stack &&
           dontcopy == after.dontcopy && executable == after.executable && !foreign &&
           !after.foreign && mapping == after.mapping && ops == after.ops && file == after.file &&
           (mapping == nullptr || pgoff + pages().v == after.pgoff);
  }
};

struct AreaTraits {
  using Key = u64;
  static Key key(const Area& a) { return a.start.v; }
  static AvlLink<Area>& link(Area& a) { return a.link; }
  static void update(Area& a, Area* left, Area* right) {
    a.max_gap = a.gap;
    if (left != nullptr && left->max_gap > a.max_gap) a.max_gap = left->max_gap;
    if (right != nullptr && right->max_gap > a.max_gap) a.max_gap = right->max_gap;
  }
};
using AreaTree = AvlTree<Area, AreaTraits>;

}  // namespace spillway
