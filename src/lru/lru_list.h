// LruList: a FIFO of pages, linked by frame number through their descriptors: no allocation, O(1)
// at both ends and for removal from the middle. A page is on at most one list (I3); the list
// writes its queue tag into the page, and every step checks it.
// Thread safety: the engine lock.
#pragma once

#include "page/page.h"

namespace spillway {

class LruList {
 public:
  void init(FrameTable& frames, PageQueue queue) {
    frames_ = &frames;
    queue_ = queue;
  }
  u64 size() const { return size_; }
  bool empty() const { return size_ == 0; }
  PageQueue queue() const { return queue_; }

  void push_head(Pfn pfn) {
    Page& page = (*frames_)[pfn];
    SPW_ASSERT_EQ(static_cast<u8>(page.queue), static_cast<u8>(PageQueue::none));
    page.queue = queue_;
    page.prev = Pfn::kNone;
    page.next = head_;
    if (head_ != Pfn::kNone) {
      (*frames_)[Pfn(head_)].prev = pfn.v;
    } else {
      tail_ = pfn.v;
    }
    head_ = pfn.v;
    ++size_;
  }

  void push_tail(Pfn pfn) {
    Page& page = (*frames_)[pfn];
    SPW_ASSERT_EQ(static_cast<u8>(page.queue), static_cast<u8>(PageQueue::none));
    page.queue = queue_;
    page.next = Pfn::kNone;
    page.prev = tail_;
    if (tail_ != Pfn::kNone) {
      (*frames_)[Pfn(tail_)].next = pfn.v;
    } else {
      head_ = pfn.v;
    }
    tail_ = pfn.v;
    ++size_;
  }

  Pfn tail() const { return Pfn(tail_); }
  Pfn head() const { return Pfn(head_); }
  // The page nearer to the head, for scans from the tail.
  Pfn toward_head(Pfn pfn) const { return Pfn((*frames_)[pfn].prev); }

  void remove(Pfn pfn) {
    Page& page = (*frames_)[pfn];
    SPW_ASSERT_EQ(static_cast<u8>(page.queue), static_cast<u8>(queue_));
    if (page.prev != Pfn::kNone) {
      (*frames_)[Pfn(page.prev)].next = page.next;
    } else {
      head_ = page.next;
    }
    if (page.next != Pfn::kNone) {
      (*frames_)[Pfn(page.next)].prev = page.prev;
    } else {
      tail_ = page.prev;
    }
    page.prev = page.next = Pfn::kNone;
    page.queue = PageQueue::none;
    --size_;
  }

  // O(size): links, tags and count agree.
  bool validate() const {
    u64 count = 0;
    u32 before = Pfn::kNone;
    for (u32 at = head_; at != Pfn::kNone; at = (*frames_)[Pfn(at)].next) {
      const Page& page = (*frames_)[Pfn(at)];
      if (page.queue != queue_ || page.prev != before || ++count > size_) return false;
      before = at;
    }
    return count == size_ && tail_ == before;
  }

 private:
  FrameTable* frames_ = nullptr;
  PageQueue queue_ = PageQueue::none;
  u32 head_ = Pfn::kNone;
  u32 tail_ = Pfn::kNone;
  u64 size_ = 0;
};

}  // namespace spillway
