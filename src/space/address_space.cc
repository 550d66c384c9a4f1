// The tree of areas: finding, splitting, merging, gaps, and mmap, munmap, brk on top.
#include "space/address_space.h"

namespace spillway {
namespace {

// Protections that a machine enforces by itself; see Mmu::protect.
constexpr bool is_hard(Prot p) {
  return p != Prot::none && p != Prot::read_write && p != Prot::write;
}

}  // namespace

Status AddressSpace::init(MmContext& mm, SpaceId id, VpnRange range, PageCount brk_pages) {
  mm_ = &mm;
  id_ = id;
  range_ = range;
  brk_start_ = range.start;
  brk_limit_ = range.start + brk_pages.v;
  brk_ = addr_of(brk_start_);
  commit_max_ = range.pages();
  SPW_TRY(table_.init(mm.allocator, mm.frames, mm.machine.frames));
  mm.machine.mmu.set_root(id, table_.root());
  return kOk;
}

void AddressSpace::destroy() {
  while (Area* area = tree_.first()) {
    zap(area->range(), area->prot);
    erase(area);
    free_area(area);
  }
  while (reserved_ > 0) mm_->areas.free(reserve_[--reserved_]);
  mm_->machine.mmu.set_root(id_, kNoPfn);
  table_.destroy();
}

Area* AddressSpace::find(Vpn vpn) {
  if (last_hit_ != nullptr && last_hit_->range().contains(vpn)) return last_hit_;
  Area* area = tree_.floor(vpn.v);
  if (area == nullptr || !area->range().contains(vpn)) return nullptr;
  last_hit_ = area;
  return area;
}

Area* AddressSpace::find_above(Vpn vpn) {
  Area* area = tree_.floor(vpn.v);
  if (area == nullptr) return tree_.first();
  return area->end > vpn ? area : AreaTree::next(area);
}

Status AddressSpace::reserve_areas(u32 count) {
  SPW_ASSERT_LE(count, kReserveMax);
  while (reserved_ < count) {
    SPW_TRY_ASSIGN(memory, mm_->areas.alloc(kAllocKernel));
    reserve_[reserved_++] = static_cast<Area*>(memory);
  }
  return kOk;
}

Area* AddressSpace::take_area() {
  SPW_ASSERT_LT(0u, reserved_);
  Area* area = reserve_[--reserved_];
  *area = Area{};
  return area;
}

void AddressSpace::free_area(Area* area) {
  if (last_hit_ == area) last_hit_ = nullptr;
  mm_->areas.free(area);
}

void AddressSpace::update_gap(Area* area) {
  if (area == nullptr) return;
  const Area* before = AreaTree::prev(area);
  area->gap = area->start.v - (before == nullptr ? range_.start.v : before->end.v);
  tree_.refresh(*area);
}

void AddressSpace::insert(Area* area) {
  SPW_ASSERT_LT(area->start.v, area->end.v);
  tree_.insert(*area);
  update_gap(area);
  update_gap(AreaTree::next(area));
  total_vm_ += area->range().pages();
  if (area->locked) locked_vm_ += area->range().pages();
}

void AddressSpace::erase(Area* area) {
  Area* after = AreaTree::next(area);
  tree_.erase(*area);
  update_gap(after);
  total_vm_ -= area->range().pages();
  if (area->locked) locked_vm_ -= area->range().pages();
  if (last_hit_ == area) last_hit_ = nullptr;
}

// The part of the gap before `area` that mmap may use: not what is kept for brk.
u64 AddressSpace::usable_gap(const Area* area) const {
  const u64 gap_start = area->start.v - area->gap;
  const u64 start = gap_start > brk_limit_.v ? gap_start : brk_limit_.v;
  return area->start.v > start ? area->start.v - start : 0;
}

// The lowest area with a usable gap of `pages` before it. Only the one gap that reaches into
// the brk reserve can look larger than it is, so the search backs out of at most one subtree.
const Area* AddressSpace::lowest_gap(const Area* node, u64 pages) const {
  if (node == nullptr || node->max_gap < pages) return nullptr;
  if (const Area* left = lowest_gap(AreaTree::left(node), pages)) return left;
  if (node->gap >= pages && usable_gap(node) >= pages) return node;
  return lowest_gap(AreaTree::right(node), pages);
}

Result<Vpn> AddressSpace::find_gap(u64 pages, Vpn hint) const {
  if (hint >= brk_limit_ && hint < range_.end && range_.end.v - hint.v >= pages) {
    const Area* before = tree_.floor(hint.v);
    const Area* after = before == nullptr ? tree_.first() : AreaTree::next(before);
    if ((before == nullptr || before->end <= hint) &&
        (after == nullptr || after->start.v >= hint.v + pages)) {
      return hint;
    }
  }
  if (const Area* area = lowest_gap(tree_.root(), pages)) {
    return Vpn(area->start.v - usable_gap(area));
  }
  const Area* last = tree_.last();
  const Vpn start = last == nullptr || last->end < brk_limit_ ? brk_limit_ : last->end;
  if (start < range_.end && range_.end.v - start.v >= pages) return start;
  return Error::no_memory;
}

void AddressSpace::split(Area* area, Vpn at) {
  SPW_ASSERT(area->start < at && at < area->end);
  Area* upper = take_area();
  const VpnRange high{at, area->end};
  upper->start = high.start;
  upper->end = high.end;
  upper->prot = area->prot;
  upper->locked = area->locked;
  upper->noreserve = area->noreserve;
  upper->foreign = area->foreign;
  area->end = at;
  total_vm_ -= high.pages();
  if (area->locked) locked_vm_ -= high.pages();
  insert(upper);
}

void AddressSpace::split_edges(VpnRange range) {
  Area* area = find(range.start);
  if (area != nullptr && area->start < range.start) split(area, range.start);
  area = find(range.end);
  if (area != nullptr && area->start < range.end) split(area, range.end);
}

// Joins neighbours of one kind from just before to just after the range.
void AddressSpace::merge_around(VpnRange range) {
  Area* area = tree_.floor(range.start.v == 0 ? 0 : range.start.v - 1);
  if (area == nullptr) area = tree_.first();
  while (area != nullptr && area->start <= range.end) {
    Area* after = AreaTree::next(area);
    if (after != nullptr && area->end == after->start && area->same_kind(*after)) {
      const VpnRange high = after->range();
      erase(after);
      area->end = high.end;
      total_vm_ += high.pages();
      if (area->locked) locked_vm_ += high.pages();
      update_gap(AreaTree::next(area));
      free_area(after);
    } else {
      area = after;
    }
  }
}

bool AddressSpace::has_hard_areas(VpnRange range) {
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    if (is_hard(a->prot) && !a->foreign) return true;
  }
  return false;
}

bool AddressSpace::touches_foreign(VpnRange range) {
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    if (a->foreign) return true;
  }
  return false;
}

Status AddressSpace::check_mapped(VpnRange range) {
  Vpn at = range.start;
  for (Area* a = find_above(at); at < range.end; a = AreaTree::next(a)) {
    if (a == nullptr || a->start > at) return Error::no_memory;
    if (a->foreign) return Error::not_supported;
    at = a->end;
  }
  return kOk;
}

void AddressSpace::remove_areas(VpnRange range) {
  split_edges(range);
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;) {
    Area* after = AreaTree::next(a);
    if (a->foreign) {
      mm_->machine.mmu.restore(id_, addr_of(a->start), a->range().pages());
    }
    erase(a);
    free_area(a);
    a = after;
  }
}

Result<Vpn> AddressSpace::map(const MapParams& params) {
  const u64 pages = params.range.pages().v;
  if (pages == 0) return Error::invalid;
  if (pages > range_.pages().v) return Error::no_memory;
  if (!params.noreserve && params.prot != Prot::none && pages > commit_max_.v) {
    return Error::no_memory;
  }
  VpnRange place = params.range;
  if (params.fixed) {
    if (place.start < range_.start || place.end > range_.end) return Error::no_memory;
    const Area* overlap = find_above(place.start);
    const bool taken = overlap != nullptr && overlap->start < place.end;
    if (taken && params.noreplace) return Error::exists;
  } else {
    SPW_TRY_ASSIGN(start, find_gap(pages, params.range.start));
    place = {start, start + pages};
  }
  SPW_TRY(reserve_areas(3));
  // The machine's part first: it can refuse. Pages that are still there go with the new
  // protection, which is the machine's truth from here on.
  if (is_hard(params.prot) || has_hard_areas(place)) {
    SPW_TRY(mm_->machine.mmu.protect(id_, addr_of(place.start), place.pages(), params.prot));
  }
  if (params.fixed) {
    zap(place, params.prot);
    remove_areas(place);
  }
  Area* area = take_area();
  area->start = place.start;
  area->end = place.end;
  area->prot = params.prot;
  area->locked = params.locked;
  area->noreserve = params.noreserve;
  area->foreign = params.foreign;
  insert(area);
  merge_around(place);
  mm_->observer.event(EventKind::space_mmap, place.start.v, pages);
  return place.start;
}

Status AddressSpace::unmap(VpnRange range) {
  if (range.empty()) return Error::invalid;
  SPW_TRY(reserve_areas(2));
  if (has_hard_areas(range)) {
    SPW_TRY(mm_->machine.mmu.protect(id_, addr_of(range.start), range.pages(), Prot::none));
  }
  zap(range, Prot::none);
  remove_areas(range);
  table_.free_empty(range);
  mm_->observer.event(EventKind::space_munmap, range.start.v, range.pages().v);
  return kOk;
}

Result<VirtAddr> AddressSpace::brk(VirtAddr wanted) {
  if (wanted < addr_of(brk_start_) || wanted > addr_of(brk_limit_)) return brk_;
  const Vpn old_end = brk_start_ + pages_for(brk_.v - addr_of(brk_start_).v).v;
  const Vpn new_end = brk_start_ + pages_for(wanted.v - addr_of(brk_start_).v).v;
  if (new_end > old_end) {
    const VpnRange growth{old_end, new_end};
    const Area* overlap = find_above(growth.start);
    if (overlap != nullptr && overlap->start < growth.end) return brk_;
    MapParams params;
    params.range = growth;
    params.prot = Prot::read_write;
    params.fixed = true;
    const Result<Vpn> mapped = map(params);
    if (!mapped.ok()) {
      if (mapped.error() == Error::wait) return Error::wait;
      return brk_;
    }
  } else if (new_end < old_end) {
    const Status gone = unmap({new_end, old_end});
    if (!gone.ok()) {
      if (gone.error() == Error::wait) return Error::wait;
      return brk_;
    }
  }
  brk_ = wanted;
  return brk_;
}

bool AddressSpace::validate() const {
  if (!tree_.validate()) return false;
  u64 total = 0;
  u64 locked = 0;
  Vpn before = range_.start;
  for (const Area* a = tree_.first(); a != nullptr; a = AreaTree::next(a)) {
    if (a->start < before || a->end <= a->start || a->end > range_.end) return false;
    if (a->gap != a->start.v - before.v || a->max_gap < a->gap) return false;
    before = a->end;
    total += a->range().pages().v;
    if (a->locked) locked += a->range().pages().v;
  }
  return total == total_vm_.v && locked == locked_vm_.v;
}

}  // namespace spillway
