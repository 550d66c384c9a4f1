#include "page/buddy.h"

#include <bit>

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
  for (u32 i = 0; i < (1U << order); ++i) {
    frames_->transition(pfn + i, PageState::free, PageState::isolated);
  }
  free_pages_ -= PageCount(u64{1} << order);
  return pfn;
}

u32 Buddy::alloc_bulk(u32 want, u32* out) {
  u32 got = 0;
  for (u32 order = 0; got < want && order <= kOrderMax;) {
    if (lists_[order].count == 0) {
      ++order;
      continue;
    }
    const Pfn first{lists_[order].head};
    unlink(first, order);
    const u32 size = 1U << order;
    const u32 taken = want - got < size ? want - got : size;
    for (u32 i = 0; i < taken; ++i) {
      frames_->transition(first + i, PageState::free, PageState::pcp);
      out[got++] = first.v + i;
    }
    // What is left of the block, in the largest pieces that are aligned.
    for (u32 at = taken; at < size;) {
      const u32 piece = static_cast<u32>(std::countr_zero(at));
      push(first + at, piece);
      at += 1U << piece;
    }
  }
  free_pages_ -= PageCount(got);
  return got;
}

// Puts a block, whose frames are free but for their order, on its list together with its buddies.
inline void Buddy::merge(Pfn pfn, u32 order) {
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

void Buddy::free(Pfn pfn, u32 order) {
  SPW_ASSERT_LE(order, kOrderMax);
  SPW_ASSERT_EQ(pfn.v & ((1U << order) - 1), 0u);
  for (u32 i = 0; i < (1U << order); ++i) {
    frames_->transition(pfn + i, PageState::isolated, PageState::free);
    (*frames_)[pfn + i].order = kNotHead;
  }
  free_pages_ += PageCount(u64{1} << order);
  merge(pfn, order);
}

void Buddy::free_bulk(u32 count, const u32* pfns) {
  for (u32 i = 0; i < count; ++i) {
    const Pfn pfn(pfns[i]);
    frames_->transition(pfn, PageState::pcp, PageState::free);
    (*frames_)[pfn].order = kNotHead;
    merge(pfn, 0);
  }
  free_pages_ += PageCount(count);
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
