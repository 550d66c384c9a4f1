// TableBuilder: page tables for tests of the machine itself, where no memory manager writes them.
// Tables are taken from the top of the arena, one frame each; nothing is ever freed.
#pragma once

#include "machine/machine.h"

namespace spillway {

class TableBuilder {
 public:
  // `top` is the frame after the last one that may be used; those frames must be online.
  TableBuilder(Machine& machine, SpaceId space, Pfn top)
      : machine_(machine), next_(top), root_(take_frame()) {
    machine.mmu.set_root(space, root_);
  }

  void set(Vpn vpn, Pte pte) { *slot(vpn) = pte; }
  Pte get(Vpn vpn) { return *slot(vpn); }

 private:
  Pfn take_frame() {
    next_ = Pfn(next_.v - 1);
    return next_;
  }
  Pte* slot(Vpn vpn) {
    Pfn table = root_;
    for (u32 level = kTableLevels - 1; level > 0; --level) {
      Pte& pte = entries(table)[table_index(vpn, level)];
      if (pte.none()) pte = Pte::table(take_frame());
      table = pte.pfn();
    }
    return &entries(table)[table_index(vpn, 0)];
  }
  Pte* entries(Pfn table) { return reinterpret_cast<Pte*>(machine_.frames.bytes(table)); }

  Machine& machine_;
  Pfn next_;
  Pfn root_;
};

}  // namespace spillway
