// What system calls do to the pages of an address space: zap, protect, move, advice.
#include "space/space_table.h"

namespace spillway {
namespace {

// Pages handed to the machine in one call. Batches of 32 already cost a tenth of single calls
// (HOST.md section 4: MOVE 1.0 us alone, 0.18 in 16, 0.10 in 64).
constexpr u32 kBatch = 32;

}  // namespace

void AddressSpace::zap_span(PageTable::Span& span, Prot prot) {
  Pfn batch[kBatch];
  bool dirty[kBatch];
  for (u32 i = 0; i < span.count;) {
    Pte* pte = &span.ptes[i];
    const RmapPlace place{id_, span.start + i};
    switch (pte->kind()) {
      case Pte::Kind::none:
      case Pte::Kind::table: ++i; continue;
      case Pte::Kind::swapped: {
        const SlotId slot = pte->slot();
        table_.store(pte, Pte{});
        forget_swap_entry(*mm_, slot);
        ++i;
        continue;
      }
      case Pte::Kind::unmapped: {
        const Pfn pfn = pte->pfn();
        table_.store(pte, Pte{});
        forget_mapping(*mm_, pfn, place, false);
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
      dirty[n] = entry.dirty();
      batch[n++] = entry.is(Pte::Kind::zero) ? kNoPfn : entry.pfn();
    }
    mm_->machine.mmu.drop(id_, addr_of(span.start + i), batch, n, prot);
    for (u32 k = 0; k < n; ++k) {
      table_.store(&span.ptes[i + k], Pte{});
      if (batch[k].valid()) {
        forget_mapping(*mm_, batch[k], {id_, span.start + (i + k)}, dirty[k]);
      }
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
    const VpnRange part = intersection(a->range(), range);
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

Prot AddressSpace::entry_prot(const Area& area, Pfn pfn) const {
  if (area.shared || !mm_->machine.features.shared_frames) return area.prot;
  const Page& page = mm_->frames[pfn];
  const bool alone = !page.in_page_cache() && page.mapcount <= 1 &&
                     (!page.in_swap_cache() || !mm_->swap.shared(pfn));
  // A page that may be written may be read, even where the area says write alone.
  if (alone || !allows(area.prot, Prot::write)) return area.prot;
  return allows(area.prot, Prot::exec) ? Prot::read_exec : Prot::read;
}

// Rights that a private entry lost to copy-on-write do not come back here: the next write asks.
void AddressSpace::set_present_prot(VpnRange range, Area& area) {
  const bool shares = mm_->machine.features.shared_frames;
  PageTable::Span span;
  for (Vpn at = range.start; table_.next_span(at, range.end, &span); at = span.start + span.count) {
    for (u32 i = 0; i < span.count; ++i) {
      const Pte old = span.ptes[i];
      if (old.is(Pte::Kind::zero) && area.prot == Prot::none) {
        // The zero page cannot say that nobody may read it; nothing is lost with its entry.
        const Pfn none = kNoPfn;
        mm_->machine.mmu.drop(id_, addr_of(span.start + i), &none, 1, area.prot);
        table_.store(&span.ptes[i], Pte{});
      }
      if (!old.is(Pte::Kind::present)) continue;
      const bool may_write = !shares || area.shared || old.writable();
      table_.store(&span.ptes[i], Pte::present(old.pfn(), area.prot)
                                      .with_writable(allows(area.prot, Prot::write) && may_write)
                                      .with_accessed(old.accessed())
                                      .with_dirty(old.dirty())
                                      .with_readahead(old.readahead()));
    }
    if (shares) mm_->machine.mmu.refresh(id_, addr_of(span.start), span.count);
  }
}

Status AddressSpace::protect(VpnRange range, Prot prot) {
  if (range.empty()) return kOk;
  u64 more = 0;
  Vpn at = range.start;  // the lowest fault decides, a hole or a right that cannot be had
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    if (a->start > at) return Error::no_memory;
    if (a->foreign) return Error::not_supported;
    at = a->end;
    if ((static_cast<u8>(prot) & ~static_cast<u8>(a->may)) != 0) return Error::access;
    Area changed = *a;
    changed.prot = prot;
    if (changed.accounted() && !a->accounted()) more += intersection(a->range(), range).pages().v;
  }
  if (at < range.end) return Error::no_memory;
  if (more > 0) SPW_TRY(mm_->commit.allows(PageCount(more)));
  SPW_TRY(check_edges(
      range, [](Area& a, u64 to) { a.prot = static_cast<Prot>(to); }, static_cast<u64>(prot)));
  SPW_TRY(reserve_areas(2));
  const bool shares = mm_->machine.features.shared_frames;
  if (prot == Prot::none && !shares) {
    SPW_TRY(unmap_for_none(range));
  }
  SPW_TRY(mm_->machine.mmu.protect(id_, addr_of(range.start), range.pages(), prot));
  split_edges(range);
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    if (a->accounted()) mm_->commit.uncharge(a->pages());
    a->prot = prot;
    if (a->accounted()) mm_->commit.charge(a->pages());
    if (prot != Prot::none || shares) set_present_prot(a->range(), *a);
  }
  merge_around(range);
  return kOk;
}

// Locks, or unlocks where no other locked area maps them, the pages that the area has present.
void AddressSpace::lock_present(Area& area) {
  PageTable::Span span;
  for (Vpn at = area.start; table_.next_span(at, area.end, &span); at = span.start + span.count) {
    for (u32 i = 0; i < span.count; ++i) {
      if (!span.ptes[i].is(Pte::Kind::present)) continue;
      const Pfn pfn = span.ptes[i].pfn();
      if (area.locked) {
        mm_->reclaimer.page_locked(pfn);
      } else if (!mm_->spaces->locked_by_area(pfn)) {
        mm_->reclaimer.page_unlocked(pfn);
      }
    }
  }
}

Status AddressSpace::set_locked(VpnRange range, bool locked, PageCount locked_max) {
  SPW_TRY(check_mapped(range));
  u64 more = 0;
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    if (!a->locked) more += intersection(a->range(), range).pages().v;
  }
  if (locked && locked_vm_.v + more > locked_max.v) return Error::no_memory;
  SPW_TRY(check_edges(
      range, [](Area& a, u64 to) { a.locked = to != 0; }, locked ? 1 : 0));
  SPW_TRY(reserve_areas(2));
  split_edges(range);
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    if (a->locked == locked) continue;
    a->locked = locked;
    if (locked) {
      locked_vm_ += a->pages();
    } else {
      locked_vm_ -= a->pages();
    }
    lock_present(*a);
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
    zap(intersection(a->range(), range), a->prot);
  }
  table_.free_empty(range);
  return kOk;
}

Status AddressSpace::discard_free(VpnRange range) {
  SPW_TRY(check_mapped(range));
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    if (a->mapping != nullptr) return Error::invalid;
  }
  return discard(range);
}

// Changes what areas are in a way that their pages do not feel.
Status AddressSpace::change_areas(VpnRange range, void (*change)(Area&, u64), u64 value) {
  SPW_TRY(check_mapped(range));
  SPW_TRY(check_edges(range, change, value));
  SPW_TRY(reserve_areas(2));
  split_edges(range);
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    change(*a, value);
  }
  merge_around(range);
  return kOk;
}

Status AddressSpace::set_hint(VpnRange range, AccessHint hint) {
  return change_areas(
      range, [](Area& a, u64 to) { a.hint = static_cast<AccessHint>(to); }, static_cast<u64>(hint));
}

Status AddressSpace::set_dontcopy(VpnRange range, bool on) {
  return change_areas(
      range, [](Area& a, u64 to) { a.dontcopy = to != 0; }, on ? 1 : 0);
}

void AddressSpace::collect_dirty(VpnRange range) {
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    if (!a->shared || a->mapping == nullptr) continue;
    const VpnRange part = intersection(a->range(), range);
    PageTable::Span span;
    for (Vpn at = part.start; table_.next_span(at, part.end, &span); at = span.start + span.count) {
      for (u32 i = 0; i < span.count; ++i) {
        const Pte entry = span.ptes[i];
        if (!entry.is(Pte::Kind::present) || !entry.dirty()) continue;
        table_.store(&span.ptes[i], entry.with_dirty(false));
        mm_->machine.mmu.refresh(id_, addr_of(span.start + i), 1);
        mm_->cache.set_dirty(entry.pfn());
      }
    }
  }
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

}  // namespace spillway
