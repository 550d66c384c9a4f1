// mremap: page-table entries move, frames and slots stay.
#include "space/address_space.h"

namespace spillway {
namespace {

constexpr u32 kBatch = 32;  // as address_space_pages.cc

bool mapped(Pte entry) { return entry.is(Pte::Kind::present) || entry.is(Pte::Kind::zero); }

}  // namespace

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
      while (n < kBatch && i + n < span.count && mapped(span.ptes[i + n])) {
        const Pte entry = span.ptes[i + n];
        batch[n++] = entry.is(Pte::Kind::zero) ? kNoPfn : entry.pfn();
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
        if (entry.resident()) {
          mm_->rmap.move(entry.pfn(), {id_, span.start + (i + k)}, {id_, target});
        }
        if (entry.is(Pte::Kind::swapped) && mm_->swap.reading(entry.slot())) {
          // If it is read for this entry and not into the swap cache.
          Page& page = mm_->frames[mm_->swap.cached(entry.slot())];
          const bool ours =
              page.rmap != 0 && page.rmap_space() == id_ && page.rmap_vpn() == span.start + (i + k);
          if (ours) page.set_rmap(id_, target);
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

// What limits say about the area's copy at `place`. Nothing has changed yet.
Status AddressSpace::check_move(const Area& area, VpnRange old_range, PageCount new_pages) {
  const u64 growth = new_pages > old_range.pages() ? (new_pages - old_range.pages()).v : 0;
  if (growth > 0 && area.accounted()) SPW_TRY(mm_->commit.allows(PageCount(growth)));
  // Up to three areas more: the new one, and the old one's two remains.
  if (tree_.size() + 3 > limits_.map_count) return Error::no_memory;
  return kOk;
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
  SPW_TRY(check_move(*area, old_range, new_pages));
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
  const AvlLink<Area> unlinked = target->link;
  *target = *area;
  target->link = unlinked;
  target->start = place.start;
  target->end = place.end;
  if (area->mapping != nullptr) target->pgoff = area->index_of(old_range.start);
  insert(target);
  move_entries(moved, place.start, prot);
  // What is left lies behind the part that moved, perhaps in several areas, each with its rights.
  for (Area* a = find_above(old_range.start); a != nullptr && a->start < old_range.end;
       a = AreaTree::next(a)) {
    zap(intersection(a->range(), old_range), a->prot);
  }
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
  const u64 old_pages = old_range.pages().v;
  const bool grows = new_pages.v > old_pages;
  const VpnRange tail{old_range.start + new_pages.v, old_range.end};
  if (!grows && fixed && area->end < tail.start) return Error::fault;
  // Shrinking is munmap of the tail, whatever lies there; a move to a fixed place takes it along,
  // so that a refusal leaves it.
  if (!grows && fixed) return move_area(area, old_range, new_pages, true, to);
  if (!tail.empty()) SPW_TRY(unmap(tail));
  if (!grows) return old_range.start;
  if (area->end < old_range.end) return Error::fault;
  if (area->mapping != nullptr &&
      area->pgoff + (old_range.start.v - area->start.v) + new_pages.v > kMappingPagesMax) {
    return Error::invalid;
  }
  if (grows && area->locked && locked_vm_ + (new_pages - old_range.pages()) > limits_.memlock) {
    return Error::again;
  }
  // As in Linux, what a fixed target replaces does not count in favour of the growth.
  if (grows && total_vm_ + (new_pages - old_range.pages()) > limits_.as) return Error::no_memory;
  if (fixed) return move_area(area, old_range, new_pages, true, to);
  // In place, when the area ends here and nothing follows; the guard pages of a stack above are
  // no obstacle in Linux either.
  const Vpn new_end = old_range.start + new_pages.v;
  const Area* after = AreaTree::next(area);
  const Vpn room = after == nullptr ? range_.end : after->start;
  const bool in_heap_room = !brk_gap_ && area->start < brk_limit_;
  const Vpn limit = in_heap_room ? brk_limit_ : room;
  if (area->end == old_range.end && new_end <= room && new_end <= limit) {
    const VpnRange growth{old_range.end, new_end};
    if (area->accounted()) SPW_TRY(mm_->commit.allows(growth.pages()));
    if (area->prot != Prot::none) {
      SPW_TRY(mm_->machine.mmu.protect(id_, addr_of(growth.start), growth.pages(), area->prot));
    }
    area->end = new_end;
    resized(*area, static_cast<i64>(growth.pages().v));
    update_gap(AreaTree::next(area));
    merge_around(growth);
    return old_range.start;
  }
  if (!may_move) return Error::no_memory;
  return move_area(area, old_range, new_pages, false, Vpn(0));
}

}  // namespace spillway
