// fork: a copy of an address space in which every page is shared. Private pages that may be written
// lose the write right on both sides, so that the first write on either makes a copy (MECHANISMS
// 4.3).
#include "space/address_space.h"

namespace spillway {

Status AddressSpace::fork_from(AddressSpace& parent) {
  SPW_ASSERT(tree_.empty());
  const WalkScope walk(mm_->observer.walk, "dup_mmap", "{a} areas", parent.area_count());
  layout_ = parent.layout_;
  limits_ = parent.limits_;
  brk_start_ = parent.brk_start_;
  brk_limit_ = parent.brk_limit_;
  brk_ = parent.brk_;
  data_bytes_ = parent.data_bytes_;
  brk_gap_ = parent.brk_gap_;
  SPW_TRY(copy_areas(parent));
  for (Area* area = tree_.first(); area != nullptr; area = AreaTree::next(area)) {
    const Status copied = copy_entries(parent, *area);
    if (!copied.ok()) return copied;
  }
  mm_->rmap.trim();
  return kOk;
}

Status AddressSpace::copy_areas(AddressSpace& parent) {
  u64 committed = 0;
  for (Area* a = parent.tree_.first(); a != nullptr; a = AreaTree::next(a)) {
    if (!a->dontcopy && a->accounted()) committed += a->pages().v;
  }
  SPW_TRY(mm_->commit.allows(PageCount(committed)));
  for (Area* a = parent.tree_.first(); a != nullptr; a = AreaTree::next(a)) {
    if (a->dontcopy) continue;
    SPW_TRY(reserve_areas(1));
    Area* copy = take_area();
    const AvlLink<Area> unlinked = copy->link;
    *copy = *a;
    copy->link = unlinked;
    copy->locked = false;  // locks are not inherited
    insert(copy);
  }
  return kOk;
}

// Nodes of the reverse map that copying the span takes beyond those reserved already.
u32 AddressSpace::nodes_lacking(const PageTable::Span& span) const {
  u32 needed = 0;
  for (u32 i = 0; i < span.count; ++i) {
    if (span.ptes[i].resident() && mm_->rmap.needs_node(span.ptes[i].pfn())) ++needed;
  }
  return needed > mm_->rmap.reserved() ? needed - mm_->rmap.reserved() : 0;
}

Status AddressSpace::copy_entries(AddressSpace& parent, Area& area) {
  PageTable::Span span;
  for (Vpn at = area.start; parent.table_.next_span(at, area.end, &span);
       at = span.start + span.count) {
    bool used = false;
    for (u32 i = 0; i < span.count && !used; ++i) used = !span.ptes[i].none();
    if (!used) continue;
    // Reserving may reclaim, which rewrites entries of the parent; copying a span does not.
    SPW_TRY_ASSIGN(leaf, table_.ensure(span.start, kAllocKernel));
    (void)leaf;
    while (const u32 lacking = nodes_lacking(span)) {
      SPW_TRY(mm_->rmap.reserve(mm_->rmap.reserved() + lacking));
    }
    SPW_TRY(copy_span(parent, area, span));
  }
  return kOk;
}

Status AddressSpace::copy_span(AddressSpace& parent, Area& area, PageTable::Span& span) {
  const WalkScope walk(mm_->observer.walk, "copy_page_range", "{a:x}, {b} entries",
                       addr_of(span.start).v, span.count);
  const bool cow = !area.shared && allows(area.may, Prot::write);
  u64 shared = 0;
  u64 swapped = 0;
  for (u32 i = 0; i < span.count; ++i) {
    Pte* source = &span.ptes[i];
    Pte entry = *source;
    if (entry.none()) continue;
    const Vpn vpn = span.start + i;
    Pte* target = table_.find(vpn);
    switch (entry.kind()) {
      case Pte::Kind::none:
      case Pte::Kind::table: break;
      case Pte::Kind::zero: mm_->machine.mmu.map(id_, addr_of(vpn), kNoPfn, 1, area.prot); break;
      case Pte::Kind::swapped:
        mm_->swap.get(entry.slot());
        ++swapped;
        break;
      case Pte::Kind::unmapped: mm_->rmap.add(entry.pfn(), {id_, vpn}); break;
      case Pte::Kind::present:
        if (cow && entry.writable()) {
          entry = entry.with_writable(false);
          parent.table_.store(source, entry);
        }
        mm_->machine.mmu.map(id_, addr_of(vpn), entry.pfn(), 1, area.prot);
        mm_->rmap.add(entry.pfn(), {id_, vpn});
        // What the child has not touched is not young; what it did not write is not its to clean.
        entry = entry.with_accessed(false);
        if (area.shared) entry = entry.with_dirty(false);
        ++shared;
        break;
    }
    table_.store(target, entry);
  }
  if (cow) mm_->machine.mmu.refresh(parent.id(), addr_of(span.start), span.count);
  mm_->observer.step(
      cow ? "{a} pages shared, write-protected in parent and child; {b} slots duplicated"
          : "{a} pages shared; {b} slots duplicated",
      shared, swapped);
  return kOk;
}

}  // namespace spillway
