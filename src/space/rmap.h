// Rmap: the reverse map, from a frame to every page-table entry that holds it, so that a page is
// unmapped at the cost of its mappings and not of a walk over page tables. Exact: an entry of kind
// present or unmapped has one place here, and nothing else has (I4).
//
// A page with one place keeps it in its descriptor. With more, the descriptor points to a chain of
// nodes of kPlaces places each. Nodes come from a slab and are reserved ahead, so that add() never
// fails. Cost: add O(1), remove O(places). Thread safety: the engine lock.
#pragma once

#include "slab/slab_chain.h"

namespace spillway {

struct RmapPlace {
  SpaceId space;
  Vpn vpn;
  constexpr bool operator==(const RmapPlace&) const = default;
};

class Rmap {
 public:
  // 62 bytes of places beside the link: two nodes to a cache line pair, 64 to a frame.
  static constexpr u32 kPlaces = 7;

  void init(SlabChain& slabs, FrameTable& frames);

  // Makes sure that the next `nodes` nodes can be had. no_memory or wait.
  Status reserve(u32 nodes);
  u32 reserved() const { return reserved_; }
  // Whether add() to this page would take a node, given `more` additions before it.
  bool needs_node(Pfn pfn, u32 more = 0) const;
  // Gives reserved nodes beyond a few back to the slab.
  void trim();
  // As trim, and gives the nodes kept in reserve back as well, and their empty slabs.
  void shrink();

  void add(Pfn pfn, RmapPlace place);
  // The place is there.
  void remove(Pfn pfn, RmapPlace place);
  void move(Pfn pfn, RmapPlace from, RmapPlace to);
  bool has(Pfn pfn, RmapPlace place) const;

  // Calls fn(RmapPlace) for each place. fn must not change the page's map. Returning false ends it.
  template <class Fn>
  void for_each(Pfn pfn, Fn fn) const {
    const Page& page = (*frames_)[pfn];
    if (page.rmap == 0) return;
    if ((page.rmap & Page::kRmapChain) == 0) {
      (void)fn(RmapPlace{page.rmap_space(), page.rmap_vpn()});
      return;
    }
    u32 left = page.mapcount;
    for (const Node* n = chain(page); n != nullptr; n = n->next) {
      const u32 here = left % kPlaces == 0 ? kPlaces : left % kPlaces;
      for (u32 i = 0; i < here; ++i) {
        if (!fn(unpack(n->places[i]))) return;
      }
      left -= here;
    }
  }
  // Some place of the page; only if it has one.
  RmapPlace first(Pfn pfn) const;

  const KmemCache& nodes() const { return nodes_; }

 private:
  // Only the first node of a chain may have empty places: it holds mapcount mod kPlaces.
  struct Node {
    u64 places[kPlaces];
    Node* next;
  };
  static u64 pack(RmapPlace p) { return (u64{p.space.v} << 48) | p.vpn.v; }
  static RmapPlace unpack(u64 bits) {
    return {SpaceId(static_cast<u16>(bits >> 48)), Vpn(bits & ((u64{1} << 48) - 1))};
  }
  static Node* chain(const Page& page) {
    return reinterpret_cast<Node*>(page.rmap & ~Page::kRmapChain);
  }
  u64* find(Page& page, RmapPlace place);
  Node* take_node();
  void give_node(Node* node);

  FrameTable* frames_ = nullptr;
  KmemCache nodes_;
  Node* reserve_ = nullptr;
  u32 reserved_ = 0;
};

}  // namespace spillway
