#include "page/buddy.h"

namespace spillway {

void Buddy::push(Pfn pfn, u32 order) {
  Page& page = (*frames_)[pfn];
  List& list = lists_[order];
  page.order = static_cast<u8>(order);
  page.prev = Pfn::kNone;
  page.next = list.head;
  if (list.head != Pfn::kNone) (*frames_)[Pfn(list.head)].prev = pfn.v;
  list.head = pfn.v;
  ++list.count;
}

void Buddy::unlink(Pfn pfn, u32 order) {
  Page& page = (*frames_)[pfn];
  List& list = lists_[order];
  if (page.prev != Pfn::kNone) {
    (*frames_)[Pfn(page.prev)].next = page.next;
  } else {
    list.head = page.next;
  }
  if (page.next != Pfn::kNone) (*frames_)[Pfn(page.next)].prev = page.prev;
  page.prev = page.next = Pfn::kNone;
  page.order = kNotHead;
  --list.count;
}

void Buddy::mark(Pfn pfn, u32 order, PageState from, PageState to) {
  for (u32 i = 0; i < (1U << order); ++i) {
    frames_->transition(pfn + i, from, to);
    (*frames_)[pfn + i].order = kNotHead;
  }
}

Pfn Buddy::alloc(u32 order) {
  if (order > kOrderMax) return kNoPfn;
  u32 from = order;
  while (from <= kOrderMax && lists_[from].count == 0) ++from;
  if (from > kOrderMax) return kNoPfn;
  const Pfn pfn{lists_[from].head};
  unlink(pfn, from);
  while (from > order) {
    --from;
    // The upper half goes back, so that consecutive requests get rising frames: runs of
    // consecutive frames let a machine map many pages with one call.
    push(pfn + (1U << from), from);
  }
  mark(pfn, order, PageState::free, PageState::isolated);
  free_pages_ -= PageCount(u64{1} << order);
  return pfn;
}

void Buddy::free(Pfn pfn, u32 order) {
  SPW_ASSERT_LE(order, kOrderMax);
  SPW_ASSERT_EQ(pfn.v & ((1U << order) - 1), 0u);
  mark(pfn, order, PageState::isolated, PageState::free);
  free_pages_ += PageCount(u64{1} << order);
  while (order < kOrderMax) {
    const Pfn buddy{pfn.v ^ (1U << order)};
    if (buddy.v + (1U << order) > frames_->count().v) break;
    if (frames_->state_of_neighbour(buddy) != PageState::free) break;
    if ((*frames_)[buddy].order != order) break;
    unlink(buddy, order);
    if (buddy < pfn) pfn = buddy;
    ++order;
  }
  push(pfn, order);
}

u32 Buddy::alloc_run(u32 want, Pfn* first) {
  SPW_ASSERT(want >= 1 && want <= (1U << kOrderMax));
  // The smallest order that covers the request, then smaller pieces.
  u32 order = 0;
  while ((1U << order) < want) ++order;
  Pfn pfn = alloc(order);
  while (!pfn.valid() && order > 0) pfn = alloc(--order);
  if (!pfn.valid()) return 0;
  *first = pfn;
  const u32 got = 1U << order;
  const u32 keep = got < want ? got : want;
  for (u32 i = keep; i < got; ++i) free(pfn + i, 0);
  return keep;
}

bool Buddy::validate() const {
  u64 total = 0;
  for (u32 order = 0; order < kOrderCount; ++order) {
    u32 count = 0;
    for (u32 at = lists_[order].head; at != Pfn::kNone; at = (*frames_)[Pfn(at)].next) {
      const Page& page = (*frames_)[Pfn(at)];
      if (page.state != PageState::free || page.order != order) return false;
      if ((at & ((1U << order) - 1)) != 0) return false;
      for (u32 i = 1; i < (1U << order); ++i) {
        const Page& inner = (*frames_)[Pfn(at + i)];
        if (inner.state != PageState::free || inner.order != kNotHead) return false;
      }
      const u32 buddy = at ^ (1U << order);
      if (order < kOrderMax && buddy + (1U << order) <= frames_->count().v) {
        const Page& other = (*frames_)[Pfn(buddy)];
        if (other.state == PageState::free && other.order == order) return false;
      }
      if (++count > lists_[order].count) return false;
    }
    if (count != lists_[order].count) return false;
    total += u64{count} << order;
  }
  u64 states = 0;
  for (u32 i = 0; i < frames_->count().v; ++i) {
    if ((*frames_)[Pfn(i)].state == PageState::free) ++states;
  }
  return total == free_pages_.v && states == total;
}

}  // namespace spillway
