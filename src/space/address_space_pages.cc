// What system calls do to the pages of an address space: zap, protect, move, advice.
#include "space/address_space.h"

namespace spillway {
namespace {

// Pages handed to the machine in one call. Batches of 32 already cost a tenth of single calls
// (HOST.md section 4: MOVE 1.0 us alone, 0.18 in 16, 0.10 in 64).
constexpr u32 kBatch = 32;

}  // namespace

void release_user_page(MmContext& mm, Pfn pfn) {
  Page& page = mm.frames[pfn];
  if (page.in_swap_cache()) mm.swap.delete_from_cache(pfn);
  page.clear_rmap();
  page.owner = PageOwner::none;
  mm.frames.transition(pfn, page.state, PageState::isolated);
  mm.allocator.free(pfn, 0);
}

void AddressSpace::forget_swapped(SlotId slot) {
  if (mm_->swap.reading(slot)) {
    // The page is on its way: cut it loose; it is freed when it arrives.
    mm_->frames[mm_->swap.cached(slot)].clear_rmap();
  }
  mm_->swap.put(slot);
}

void AddressSpace::zap_span(PageTable::Span& span, Prot prot) {
  Pfn batch[kBatch];
  for (u32 i = 0; i < span.count;) {
    Pte* pte = &span.ptes[i];
    switch (pte->kind()) {
      case Pte::Kind::none:
      case Pte::Kind::table: ++i; continue;
      case Pte::Kind::swapped: {
        const SlotId slot = pte->slot();
        table_.store(pte, Pte{});
        forget_swapped(slot);
        ++i;
        continue;
      }
      case Pte::Kind::unmapped: {
        const Pfn pfn = pte->pfn();
        table_.store(pte, Pte{});
        mm_->reclaimer.page_removed(pfn);
        release_user_page(*mm_, pfn);
        ++i;
        continue;
      }
      case Pte::Kind::zero:
      case Pte::Kind::present: break;
    }
    u32 n = 0;
    while (n < kBatch && i + n < span.count &&
           (span.ptes[i + n].is(Pte::Kind::present) || span.ptes[i + n].is(Pte::Kind::zero))) {
      const Pte entry = span.ptes[i + n];
      batch[n++] = entry.is(Pte::Kind::zero) ? kNoPfn : entry.pfn();
    }
    mm_->machine.mmu.drop(id_, addr_of(span.start + i), batch, n, prot);
    for (u32 k = 0; k < n; ++k) {
      table_.store(&span.ptes[i + k], Pte{});
      if (!batch[k].valid()) continue;
      mm_->reclaimer.page_removed(batch[k]);
      release_user_page(*mm_, batch[k]);
    }
    i += n;
  }
}

void AddressSpace::zap(VpnRange range, Prot prot) {
  PageTable::Span span;
  for (Vpn at = range.start; table_.next_span(at, range.end, &span); at = span.start + span.count) {
    zap_span(span, prot);
  }
}

// Makes every present page of the range resident-but-unmapped. no_memory if one is held.
Status AddressSpace::unmap_for_none(VpnRange range) {
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    const VpnRange part{a->start > range.start ? a->start : range.start,
                        a->end < range.end ? a->end : range.end};
    PageTable::Span span;
    for (Vpn at = part.start; table_.next_span(at, part.end, &span); at = span.start + span.count) {
      for (u32 i = 0; i < span.count; ++i) {
        const Pte entry = span.ptes[i];
        const VirtAddr va = addr_of(span.start + i);
        if (entry.is(Pte::Kind::zero)) {
          const Pfn none = kNoPfn;
          mm_->machine.mmu.drop(id_, va, &none, 1, a->prot);
          table_.store(&span.ptes[i], Pte{});
        } else if (entry.is(Pte::Kind::present)) {
          // A page that nobody may touch need not stay, locked or not; it is locked again by the
          // fault that brings it back.
          if (a->locked) mm_->reclaimer.page_unlocked(entry.pfn());
          mm_->reclaimer.page_cold(entry.pfn());
          if (span.ptes[i].is(Pte::Kind::present)) {
            if (a->locked) mm_->reclaimer.page_locked(entry.pfn());
            return Error::no_memory;
          }
        }
      }
    }
  }
  return kOk;
}

void AddressSpace::set_present_prot(VpnRange range, Prot prot) {
  PageTable::Span span;
  for (Vpn at = range.start; table_.next_span(at, range.end, &span); at = span.start + span.count) {
    for (u32 i = 0; i < span.count; ++i) {
      const Pte old = span.ptes[i];
      if (!old.is(Pte::Kind::present)) continue;
      table_.store(&span.ptes[i], Pte::present(old.pfn(), prot)
                                      .with_accessed(old.accessed())
                                      .with_dirty(old.dirty())
                                      .with_readahead(old.readahead()));
    }
  }
}

Status AddressSpace::protect(VpnRange range, Prot prot) {
  if (range.empty()) return kOk;
  SPW_TRY(check_mapped(range));
  SPW_TRY(reserve_areas(2));
  if (prot == Prot::none) {
    SPW_TRY(unmap_for_none(range));
  }
  SPW_TRY(mm_->machine.mmu.protect(id_, addr_of(range.start), range.pages(), prot));
  split_edges(range);
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    a->prot = prot;
  }
  if (prot != Prot::none) set_present_prot(range, prot);
  merge_around(range);
  return kOk;
}

Status AddressSpace::set_locked(VpnRange range, bool locked, PageCount locked_max) {
  SPW_TRY(check_mapped(range));
  u64 more = 0;
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    const Vpn start = a->start > range.start ? a->start : range.start;
    const Vpn end = a->end < range.end ? a->end : range.end;
    if (!a->locked) more += end.v - start.v;
  }
  if (locked && locked_vm_.v + more > locked_max.v) return Error::no_memory;
  SPW_TRY(reserve_areas(2));
  split_edges(range);
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    if (a->locked == locked) continue;
    a->locked = locked;
    if (locked) {
      locked_vm_ += a->range().pages();
    } else {
      locked_vm_ -= a->range().pages();
    }
    PageTable::Span span;
    for (Vpn at = a->start; table_.next_span(at, a->end, &span); at = span.start + span.count) {
      for (u32 i = 0; i < span.count; ++i) {
        if (!span.ptes[i].is(Pte::Kind::present)) continue;
        if (locked) {
          mm_->reclaimer.page_locked(span.ptes[i].pfn());
        } else {
          mm_->reclaimer.page_unlocked(span.ptes[i].pfn());
        }
      }
    }
  }
  merge_around(range);
  return kOk;
}

Status AddressSpace::discard(VpnRange range) {
  SPW_TRY(check_mapped(range));
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    if (a->locked) return Error::invalid;
  }
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    const Vpn start = a->start > range.start ? a->start : range.start;
    const Vpn end = a->end < range.end ? a->end : range.end;
    zap({start, end}, a->prot);
  }
  table_.free_empty(range);
  return kOk;
}

Status AddressSpace::cold(VpnRange range) {
  SPW_TRY(check_mapped(range));
  PageTable::Span span;
  for (Vpn at = range.start; table_.next_span(at, range.end, &span); at = span.start + span.count) {
    for (u32 i = 0; i < span.count; ++i) {
      if (span.ptes[i].resident()) mm_->reclaimer.page_cold(span.ptes[i].pfn());
    }
  }
  return kOk;
}

Status AddressSpace::page_out(VpnRange range) {
  SPW_TRY(check_mapped(range));
  PageTable::Span span;
  for (Vpn at = range.start; table_.next_span(at, range.end, &span); at = span.start + span.count) {
    for (u32 i = 0; i < span.count; ++i) {
      if (!span.ptes[i].resident()) continue;
      // Advice: what cannot go now may stay.
      if (mm_->reclaimer.page_out(span.ptes[i].pfn()) == ReclaimOutcome::wait) return Error::wait;
    }
  }
  return kOk;
}

Status AddressSpace::resident(VpnRange range, u8* vec) {
  SPW_TRY(check_mapped(range));
  for (u64 i = 0; i < range.pages().v; ++i) vec[i] = 0;
  PageTable::Span span;
  for (Vpn at = range.start; table_.next_span(at, range.end, &span); at = span.start + span.count) {
    for (u32 i = 0; i < span.count; ++i) {
      vec[span.start.v + i - range.start.v] = span.ptes[i].resident() ? 1 : 0;
    }
  }
  return kOk;
}

// Makes the leaf tables that moving `from` to `to` will need.
Status AddressSpace::reserve_tables(VpnRange from, Vpn to) {
  PageTable::Span span;
  for (Vpn at = from.start; table_.next_span(at, from.end, &span); at = span.start + span.count) {
    const u64 offset = span.start.v - from.start.v;
    SPW_TRY_ASSIGN(first, table_.ensure(to + offset, kAllocKernel));
    SPW_TRY_ASSIGN(last, table_.ensure(to + offset + (span.count - 1), kAllocKernel));
    (void)first;
    (void)last;
  }
  return kOk;
}

void AddressSpace::move_entries(VpnRange from, Vpn to, Prot prot) {
  PageTable::Span span;
  for (Vpn at = from.start; table_.next_span(at, from.end, &span); at = span.start + span.count) {
    const u64 offset = span.start.v - from.start.v;
    for (u32 i = 0; i < span.count;) {
      u32 n = 0;
      Pfn batch[kBatch];
      while (n < kBatch && i + n < span.count && span.ptes[i + n].is(Pte::Kind::present)) {
        batch[n] = span.ptes[i + n].pfn();
        ++n;
      }
      if (n > 0) {
        mm_->machine.mmu.move(id_, addr_of(span.start + i), addr_of(to + offset + i), batch, n,
                              prot);
      }
      for (u32 k = 0; k < (n > 0 ? n : 1); ++k) {
        Pte* source = &span.ptes[i + k];
        const Pte entry = *source;
        if (entry.none()) continue;
        const Vpn target = to + (offset + i + k);
        if (entry.is(Pte::Kind::zero)) {
          const Pfn none = kNoPfn;
          mm_->machine.mmu.drop(id_, addr_of(span.start + i + k), &none, 1, prot);
          table_.store(source, Pte{});
          continue;  // the next read maps it again
        }
        if (entry.resident()) mm_->frames[entry.pfn()].set_rmap(id_, target);
        if (entry.is(Pte::Kind::swapped) && mm_->swap.reading(entry.slot())) {
          mm_->frames[mm_->swap.cached(entry.slot())].set_rmap(id_, target);
        }
        Pte* destination = table_.find(target);
        SPW_ASSERT(destination != nullptr && destination->none());
        table_.store(destination, entry);
        table_.store(source, Pte{});
      }
      i += n > 0 ? n : 1;
    }
  }
}

Result<Vpn> AddressSpace::move_area(Area* area, VpnRange old_range, PageCount new_pages, bool fixed,
                                    Vpn to) {
  const Prot prot = area->prot;
  VpnRange place{to, to + new_pages.v};
  if (fixed) {
    if (place.start < range_.start || place.end > range_.end) return Error::no_memory;
    if (place.overlaps(old_range)) return Error::invalid;
  } else {
    SPW_TRY_ASSIGN(start, find_gap(new_pages.v, Vpn(0)));
    place = {start, start + new_pages.v};
  }
  SPW_TRY(reserve_areas(kReserveMax));
  const u64 keep = old_range.pages().v < new_pages.v ? old_range.pages().v : new_pages.v;
  const VpnRange moved{old_range.start, old_range.start + keep};
  SPW_TRY(reserve_tables(moved, place.start));
  if (prot != Prot::none || has_hard_areas(place)) {
    SPW_TRY(mm_->machine.mmu.protect(id_, addr_of(place.start), place.pages(), prot));
  }
  if (fixed) {
    zap(place, prot);
    remove_areas(place);
  }
  area = find(old_range.start);  // making room may have split it
  SPW_ASSERT(area != nullptr);
  Area* target = take_area();
  target->start = place.start;
  target->end = place.end;
  target->prot = prot;
  target->locked = area->locked;
  target->noreserve = area->noreserve;
  insert(target);
  move_entries(moved, place.start, prot);
  zap(old_range, prot);
  remove_areas(old_range);
  // Giving up a protection can only join the machine's mappings, unless it splits one; then the
  // old place keeps it, which forbids nothing that is still there.
  (void)mm_->machine.mmu.protect(id_, addr_of(old_range.start), old_range.pages(), Prot::none);
  table_.free_empty(old_range);
  merge_around(place);
  return place.start;
}

Result<Vpn> AddressSpace::remap(VpnRange old_range, PageCount new_pages, bool may_move, bool fixed,
                                Vpn to) {
  Area* area = find(old_range.start);
  if (area == nullptr) return Error::fault;
  if (area->foreign) return Error::not_supported;
  if (area->end < old_range.end) return Error::fault;
  const u64 old_pages = old_range.pages().v;
  const bool grows = new_pages.v > old_pages;
  if (grows && new_pages.v > commit_max_.v && !area->noreserve) return Error::no_memory;
  if (fixed) return move_area(area, old_range, new_pages, true, to);
  if (new_pages.v <= old_pages) {
    if (new_pages.v < old_pages) {
      SPW_TRY(unmap({old_range.start + new_pages.v, old_range.end}));
    }
    return old_range.start;
  }
  // In place, when the area ends here and nothing follows.
  const Vpn new_end = old_range.start + new_pages.v;
  const Area* after = AreaTree::next(area);
  const Vpn room_end = after == nullptr ? range_.end : after->start;
  const Vpn limit = area->start < brk_limit_ ? brk_limit_ : room_end;
  if (area->end == old_range.end && new_end <= room_end && new_end <= limit) {
    const VpnRange growth{old_range.end, new_end};
    if (area->prot != Prot::none) {
      SPW_TRY(mm_->machine.mmu.protect(id_, addr_of(growth.start), growth.pages(), area->prot));
    }
    area->end = new_end;
    total_vm_ += growth.pages();
    if (area->locked) locked_vm_ += growth.pages();
    update_gap(AreaTree::next(area));
    merge_around(growth);
    return old_range.start;
  }
  if (!may_move) return Error::no_memory;
  return move_area(area, old_range, new_pages, false, Vpn(0));
}

}  // namespace spillway
