// Area: a stretch of an address space with one protection and one kind of content, as Linux's
// vm_area_struct. Areas of a space are disjoint, sorted, non-empty (I9).
#pragma once

#include "base/avl.h"
#include "machine/pte.h"

namespace spillway {

struct Area {
  Vpn start;
  Vpn end;
  Prot prot = Prot::none;
  bool locked = false;     // never evicted (mlock)
  bool noreserve = false;  // not counted as committed
  bool foreign = false;    // the program mapped something else here; we only know the place
  u64 gap = 0;             // free pages between the area before (or the space's start) and this
  u64 max_gap = 0;         // largest gap in the subtree
  AvlLink<Area> link;

  VpnRange range() const { return {start, end}; }
  // Whether two areas could be one.
  bool same_kind(const Area& o) const {
    return prot == o.prot && locked == o.locked && noreserve == o.noreserve && !foreign &&
           !o.foreign;
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
