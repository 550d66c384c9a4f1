#include "space/rmap.h"

namespace spillway {
namespace {

// Nodes that trim() leaves: a fault on a shared page takes one.
constexpr u32 kKeep = 4;

}  // namespace

void Rmap::init(SlabChain& slabs, FrameTable& frames) {
  frames_ = &frames;
  const Status status = nodes_.init(slabs, KmemCacheConfig::core("rmap", sizeof(Node)));
  SPW_ASSERT(status.ok());
}

Status Rmap::reserve(u32 nodes) {
  while (reserved_ < nodes) {
    SPW_TRY_ASSIGN(memory, nodes_.alloc(kAllocKernel));
    give_node(static_cast<Node*>(memory));
  }
  return kOk;
}

void Rmap::trim() {
  while (reserved_ > kKeep) nodes_.free(take_node());
}

void Rmap::shrink() {
  while (reserved_ > 0) nodes_.free(take_node());
  (void)nodes_.shrink();
}

Rmap::Node* Rmap::take_node() {
  SPW_ASSERT_LT(0u, reserved_);
  Node* node = reserve_;
  reserve_ = node->next;
  --reserved_;
  node->next = nullptr;
  return node;
}

void Rmap::give_node(Node* node) {
  node->next = reserve_;
  reserve_ = node;
  ++reserved_;
}

bool Rmap::needs_node(Pfn pfn, u32 more) const {
  const u32 count = (*frames_)[pfn].mapcount + more;
  return count == 1 || (count > 1 && count % kPlaces == 0);
}

void Rmap::add(Pfn pfn, RmapPlace place) {
  Page& page = (*frames_)[pfn];
  SPW_ASSERT(place.space.v < (Page::kRmapChain >> 48));
  if (page.mapcount == 0) {
    SPW_ASSERT_EQ(page.rmap, 0u);
    page.rmap = pack(place);
    page.mapcount = 1;
    return;
  }
  if (page.mapcount == 1) {
    Node* node = take_node();
    node->places[0] = page.rmap;
    page.rmap = Page::kRmapChain | reinterpret_cast<u64>(node);
  } else if (page.mapcount % kPlaces == 0) {
    Node* node = take_node();
    node->next = chain(page);
    page.rmap = Page::kRmapChain | reinterpret_cast<u64>(node);
  }
  chain(page)->places[page.mapcount % kPlaces] = pack(place);
  ++page.mapcount;
}

u64* Rmap::find(Page& page, RmapPlace place) {
  const u64 wanted = pack(place);
  if ((page.rmap & Page::kRmapChain) == 0) return page.rmap == wanted ? &page.rmap : nullptr;
  u32 left = page.mapcount;
  for (Node* n = chain(page); n != nullptr; n = n->next) {
    const u32 here = left % kPlaces == 0 ? kPlaces : left % kPlaces;
    for (u32 i = 0; i < here; ++i) {
      if (n->places[i] == wanted) return &n->places[i];
    }
    left -= here;
  }
  return nullptr;
}

bool Rmap::has(Pfn pfn, RmapPlace place) const {
  bool found = false;
  for_each(pfn, [&](RmapPlace p) {
    found = p == place;
    return !found;
  });
  return found;
}

void Rmap::remove(Pfn pfn, RmapPlace place) {
  Page& page = (*frames_)[pfn];
  u64* where = find(page, place);
  SPW_ASSERT(where != nullptr);
  if (page.mapcount == 1) {
    page.rmap = 0;
    page.mapcount = 0;
    return;
  }
  // The last place of the first node fills the gap.
  Node* head = chain(page);
  --page.mapcount;
  *where = head->places[page.mapcount % kPlaces];
  if (page.mapcount == 1) {
    page.rmap = head->places[0];
    nodes_.free(head);
  } else if (page.mapcount % kPlaces == 0) {
    page.rmap = Page::kRmapChain | reinterpret_cast<u64>(head->next);
    nodes_.free(head);
  }
}

void Rmap::move(Pfn pfn, RmapPlace from, RmapPlace to) {
  u64* where = find((*frames_)[pfn], from);
  SPW_ASSERT(where != nullptr);
  *where = pack(to);
}

RmapPlace Rmap::first(Pfn pfn) const {
  SPW_ASSERT((*frames_)[pfn].mapcount > 0);
  RmapPlace found{};
  for_each(pfn, [&](RmapPlace p) {
    found = p;
    return false;
  });
  return found;
}

}  // namespace spillway
