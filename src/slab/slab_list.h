// SlabList: slabs in an order, linked through Page::prev and next of their first frames. Inline,
// since objects that come and go one at a time move their slab between two lists each time.
// Whoever owns the list locks.
#pragma once

#include "page/page.h"

namespace spillway {

class SlabList {
 public:
  bool empty() const { return head_ == Pfn::kNone; }
  Pfn head() const { return Pfn(head_); }
  Pfn tail() const { return Pfn(tail_); }

  void push_front(FrameTable& frames, Pfn slab) {
    Page& page = frames[slab];
    page.prev = Pfn::kNone;
    page.next = head_;
    if (head_ != Pfn::kNone) {
      frames[Pfn(head_)].prev = slab.v;
    } else {
      tail_ = slab.v;
    }
    head_ = slab.v;
  }
  void push_back(FrameTable& frames, Pfn slab) {
    Page& page = frames[slab];
    page.next = Pfn::kNone;
    page.prev = tail_;
    if (tail_ != Pfn::kNone) {
      frames[Pfn(tail_)].next = slab.v;
    } else {
      head_ = slab.v;
    }
    tail_ = slab.v;
  }
  void remove(FrameTable& frames, Pfn slab) {
    Page& page = frames[slab];
    if (page.prev != Pfn::kNone) {
      frames[Pfn(page.prev)].next = page.next;
    } else {
      head_ = page.next;
    }
    if (page.next != Pfn::kNone) {
      frames[Pfn(page.next)].prev = page.prev;
    } else {
      tail_ = page.prev;
    }
    page.prev = page.next = Pfn::kNone;
  }

 private:
  u32 head_ = Pfn::kNone;
  u32 tail_ = Pfn::kNone;
};

}  // namespace spillway
