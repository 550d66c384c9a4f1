// Scans of page tables: swap_out, by process (MECHANISMS 7.4).
#include "reclaim/linux24_policy.h"

namespace spillway {

// One resident entry. Returns 1 if it was taken away.
u64 Linux24Policy::try_to_swap_out(AddressSpace& space, Vpn vpn, Pte* pte) {
  const Pte entry = *pte;
  const Pfn pfn = entry.pfn();
  const Page& page = (*frames_)[pfn];
  const u32 age = page.age;
  const WalkScope walk(observer_->walk, "try_to_swap_out", "{a:x}: frame {b}, age {c}",
                       addr_of(vpn).v, pfn.v, age);
  observer_->count(Counter::pgscan);
  if (entry.accessed()) {
    space.table().store(pte, entry.with_accessed(false));
    // Or a CPU that remembers the translation would not set the bit again.
    mm_->machine.mmu.refresh(space.id(), addr_of(vpn), 1);
    age_page_up(pfn);
    ++work_;
    observer_->step("accessed since the last visit: the bit is cleared, age {a} -> {b}", age,
                    page.age);
    return 0;
  }
  if (page.queue != PageQueue::active) {
    age_page_down_ageonly(pfn);
    observer_->step(page.age > 0 ? "not accessed: age {a} -> {b}, it stays"
                                 : "not accessed: age {a} -> {b}, its time has come",
                    age, page.age);
  } else {
    observer_->step(page.age > 0
                        ? "not accessed; on the active list, whose own scan lowers its age: {a}, "
                          "it stays"
                        : "not accessed; on the active list, age 0: its time has come",
                    page.age);
  }
  if (page.age > 0) return 0;
  if (page.has(PageFlag::writeback)) {
    observer_->step("locked, because it is being written: it stays");
    return 0;
  }
  switch (pageout_->unmap_entry(space, vpn)) {
    case PageOutcome::freed: break;
    case PageOutcome::keep: observer_->step("somebody holds the page: it stays"); return 0;
    case PageOutcome::no_space: return 0;
    case PageOutcome::started:
    case PageOutcome::moved:
    case PageOutcome::wait: return 0;
  }
  ++work_;
  deactivate_page(pfn);
  observer_->step(page.mapcount > 0
                      ? "unmapped here; {a} other entries hold the frame, its age is 0"
                      : "unmapped; only its cache holds the frame, which is on "
                        "inactive_dirty now",
                  page.mapcount);
  return 1;
}

// Examines resident entries from `from` on, each at the price of 1, while the budget lasts. Returns
// the page to go on with, kVpnEnd after the last area.
Vpn Linux24Policy::scan_space(AddressSpace& space, Vpn from, u64* budget, u64* unmapped) {
  for (Area* area = space.find_above(from); area != nullptr; area = AreaTree::next(area)) {
    if (area->foreign) continue;
    if (area->locked) {
      observer_->step("{a:x}-{b:x} is locked (VM_LOCKED): skipped", addr_of(area->start).v,
                      addr_of(area->end).v);
      continue;
    }
    PageTable::Span span;
    Vpn at = area->start > from ? area->start : from;
    for (; space.table().next_span(at, area->end, &span); at = span.start + span.count) {
      for (u32 i = 0; i < span.count; ++i) {
        if (!span.ptes[i].resident()) continue;
        if (*budget == 0) return span.start + i;
        --*budget;
        *unmapped += try_to_swap_out(space, span.start + i, &span.ptes[i]);
      }
    }
  }
  return kVpnEnd;
}

u64 Linux24Policy::visit(AddressSpace& space) {
  const Context context(*allocator_);
  const WalkScope walk(observer_->walk, "swap_out_mm", "space {a}: every one of its {b} pages",
                       space.id().v, space.table().resident());
  u64 budget = ~u64{0};
  u64 unmapped = 0;
  (void)scan_space(space, Vpn(0), &budget, &unmapped);
  observer_->step("{a} pages unmapped, {b} left", unmapped, space.table().resident());
  return unmapped;
}

u64 Linux24Policy::swap_out_mm(AddressSpace& space) {
  Turn& turn = turns_[space.id().v];
  const WalkScope walk(observer_->walk, "swap_out_mm", "space {a}: {b} pages from {c:x} on",
                       space.id().v, turn.cnt, addr_of(turn.address).v);
  u64 unmapped = 0;
  const Vpn next = scan_space(space, turn.address, &turn.cnt, &unmapped);
  if (next == kVpnEnd) {
    turn = {};
    observer_->step("end of the address space: its turn is over; {a} pages unmapped", unmapped);
  } else {
    turn.address = next;
    observer_->step("its share is used up; goes on at {a:x} next time; {b} pages unmapped",
                    addr_of(next).v, unmapped);
  }
  return unmapped;
}

// The process with the most left of its share, of those that have pages.
AddressSpace* Linux24Policy::choose_space() {
  AddressSpace* best = nullptr;
  u64 most = 0;
  spaces_->for_each([&](AddressSpace& space) {
    const u64 cnt = turns_[space.id().v].cnt;
    if (space.table().resident() == 0 || cnt <= most) return;
    most = cnt;
    best = &space;
  });
  return best;
}

u64 Linux24Policy::swap_out() {
  const WalkScope walk(observer_->walk, "swap_out");
  AddressSpace* space = choose_space();
  if (space == nullptr) {
    spaces_->for_each([&](AddressSpace& each) {
      const u64 rss = each.table().resident();
      if (rss == 0) return;
      const u64 share = rss >> kSwapShift;
      turns_[each.id().v].cnt = share > kSwapMin ? share : kSwapMin;
      observer_->step("every process has had its turn: space {a} gets rss/32, at least 8: {b}",
                      each.id().v, turns_[each.id().v].cnt);
    });
    space = choose_space();
  }
  if (space == nullptr) {
    observer_->step("no process has a page in memory");
    return 0;
  }
  return swap_out_mm(*space);
}

}  // namespace spillway
