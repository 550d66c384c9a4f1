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
  layout_ = {brk_limit_, range.end, false};
  SPW_TRY(table_.init(mm.allocator, mm.frames, mm.machine.frames));
  mm.machine.mmu.set_root(id, table_.root());
  return kOk;
}

void AddressSpace::set_brk_start(Vpn start, u64 data_bytes) {
  data_bytes_ = data_bytes;
  brk_start_ = start;
  brk_limit_ = range_.end;
  brk_ = addr_of(start);
  brk_gap_ = true;
}

void AddressSpace::clear() {
  while (Area* area = tree_.first()) {
    zap(area->range(), area->prot);
    erase(area);
    free_area(area);
  }
  table_.free_empty({Vpn(0), kVpnEnd});
  lock_future_ = false;
}

void AddressSpace::destroy() {
  clear();
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

// The area became longer or shorter by `pages`.
void AddressSpace::resized(const Area& area, i64 pages) {
  const PageCount change(static_cast<u64>(pages < 0 ? -pages : pages));
  if (pages < 0) {
    total_vm_ -= change;
    if (area.locked) locked_vm_ -= change;
    if (area.accounted()) mm_->commit.uncharge(change);
  } else {
    total_vm_ += change;
    if (area.locked) locked_vm_ += change;
    if (area.accounted()) mm_->commit.charge(change);
  }
}

void AddressSpace::link_shared(Area* area) {
  if (area->mapping == nullptr) return;
  area->share_prev = nullptr;
  area->share_next = area->mapping->areas;
  if (area->share_next != nullptr) area->share_next->share_prev = area;
  area->mapping->areas = area;
  area->ops->area_opened(*area);
}

void AddressSpace::unlink_shared(Area* area) {
  if (area->mapping == nullptr) return;
  if (area->share_prev != nullptr) {
    area->share_prev->share_next = area->share_next;
  } else {
    area->mapping->areas = area->share_next;
  }
  if (area->share_next != nullptr) area->share_next->share_prev = area->share_prev;
  // May end the mapping: the area does not look at it again.
  area->ops->area_closed(*area);
}

void AddressSpace::insert(Area* area) {
  SPW_ASSERT_LT(area->start.v, area->end.v);
  area->space = this;
  tree_.insert(*area);
  update_gap(area);
  update_gap(AreaTree::next(area));
  resized(*area, static_cast<i64>(area->pages().v));
  link_shared(area);
}

void AddressSpace::erase(Area* area) {
  Area* after = AreaTree::next(area);
  tree_.erase(*area);
  update_gap(after);
  resized(*area, -static_cast<i64>(area->pages().v));
  if (last_hit_ == area) last_hit_ = nullptr;
  unlink_shared(area);
}

// Where the room before `area` ends: some pages below a stack stay free.
Vpn AddressSpace::room_end(const Area* area) const {
  const u64 guard = area->growsdown ? limits_.stack_guard_gap.v : 0;
  return guard < area->gap ? area->start - guard : area->start - area->gap;
}

// The part of the gap before `area` that mmap may use: not what is kept for brk, nor the pages
// below a stack.
VpnRange AddressSpace::usable_gap(const Area* area) const {
  const u64 gap_start = area->start.v - area->gap;
  const u64 start = gap_start > layout_.mmap_low.v ? gap_start : layout_.mmap_low.v;
  u64 end = room_end(area).v;
  if (layout_.top_down && end > layout_.mmap_high.v) end = layout_.mmap_high.v;
  return {Vpn(start), Vpn(end > start ? end : start)};
}

// The lowest area with a usable gap of `pages` before it. Only the few gaps that reach into what
// mmap may not use look larger than they are, so the search backs out of few subtrees.
const Area* AddressSpace::lowest_gap(const Area* node, u64 pages) const {
  if (node == nullptr || node->max_gap < pages) return nullptr;
  if (const Area* left = lowest_gap(AreaTree::left(node), pages)) return left;
  if (node->gap >= pages && usable_gap(node).pages().v >= pages) return node;
  return lowest_gap(AreaTree::right(node), pages);
}

const Area* AddressSpace::highest_gap(const Area* node, u64 pages) const {
  if (node == nullptr || node->max_gap < pages) return nullptr;
  if (const Area* right = highest_gap(AreaTree::right(node), pages)) return right;
  if (node->gap >= pages && usable_gap(node).pages().v >= pages) return node;
  return highest_gap(AreaTree::left(node), pages);
}

Result<Vpn> AddressSpace::find_gap_down(u64 pages) const {
  const Area* last = tree_.last();
  const Vpn low = last == nullptr || last->end < layout_.mmap_low ? layout_.mmap_low : last->end;
  if (low < layout_.mmap_high && layout_.mmap_high.v - low.v >= pages) {
    return layout_.mmap_high - pages;
  }
  if (const Area* area = highest_gap(tree_.root(), pages)) {
    return usable_gap(area).end - pages;
  }
  return Error::no_memory;
}

Result<Vpn> AddressSpace::find_gap(u64 pages, Vpn hint) const {
  if (hint >= layout_.mmap_low && hint < range_.end && range_.end.v - hint.v >= pages) {
    const Area* before = tree_.floor(hint.v);
    const Area* after = before == nullptr ? tree_.first() : AreaTree::next(before);
    if ((before == nullptr || before->end <= hint) &&
        (after == nullptr || room_end(after).v >= hint.v + pages)) {
      return hint;
    }
  }
  if (layout_.top_down) return find_gap_down(pages);
  if (const Area* area = lowest_gap(tree_.root(), pages)) return usable_gap(area).start;
  const Area* last = tree_.last();
  const Vpn start = last == nullptr || last->end < layout_.mmap_low ? layout_.mmap_low : last->end;
  if (start < range_.end && range_.end.v - start.v >= pages) return start;
  return Error::no_memory;
}

void AddressSpace::split(Area* area, Vpn at) {
  SPW_ASSERT(area->start < at && at < area->end);
  Area* upper = take_area();
  const AvlLink<Area> unlinked = upper->link;
  *upper = *area;
  upper->link = unlinked;
  upper->start = at;
  if (area->mapping != nullptr) upper->pgoff = area->pgoff + (at.v - area->start.v);
  const Vpn end = area->end;
  area->end = at;
  resized(*area, -static_cast<i64>(end.v - at.v));
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
    if (after != nullptr && area->joins(*after)) {
      const VpnRange high = after->range();
      erase(after);
      area->end = high.end;
      resized(*area, static_cast<i64>(high.pages().v));
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

// Pages of the range that are committed / mapped now.
u64 AddressSpace::accounted_pages(VpnRange range) {
  u64 pages = 0;
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    if (a->accounted()) pages += intersection(a->range(), range).pages().v;
  }
  return pages;
}

u64 AddressSpace::mapped_pages(VpnRange range) {
  u64 pages = 0;
  for (Area* a = find_above(range.start); a != nullptr && a->start < range.end;
       a = AreaTree::next(a)) {
    pages += intersection(a->range(), range).pages().v;
  }
  return pages;
}

// What limits say about a new area at `place`. Nothing has changed yet.
Status AddressSpace::check_new(const MapParams& params, VpnRange place) {
  const u64 replaced = params.fixed ? mapped_pages(place) : 0;
  if (total_vm_.v - replaced + place.pages().v > limits_.as.v) return Error::no_memory;
  if (tree_.size() > limits_.map_count) return Error::no_memory;
  const bool accounted =
      !params.shared && !params.noreserve && !params.foreign && allows(params.prot, Prot::write);
  if (accounted) {
    // Of a sum that is limited, what the new area replaces is taken off first.
    u64 pages = place.pages().v;
    if (params.fixed && mm_->commit.mode() == CommitMode::never) {
      const u64 freed = accounted_pages(place);
      pages = pages > freed ? pages - freed : 0;
    }
    SPW_TRY(mm_->commit.allows(PageCount(pages)));
  }
  return kOk;
}

// Taking the range out of the middle of an area leaves one area more.
Status AddressSpace::check_split(VpnRange range) const {
  const Area* area = tree_.floor(range.start.v);
  const bool middle = area != nullptr && area->start < range.start && area->end > range.end;
  return middle && tree_.size() >= limits_.map_count ? Status(Error::no_memory) : kOk;
}

// Whether there may be as many areas as there are when what lies in the range has been changed: no
// new one comes to be at an edge where nothing changes, or where the changed part joins its
// neighbour. no_memory.
Status AddressSpace::check_edges(VpnRange range, void (*change)(Area&, u64), u64 value) {
  u64 more = 0;
  if (const Area* low = find(range.start); low != nullptr && low->start < range.start) {
    Area rest = *low;
    rest.end = range.start;
    Area changed = *low;
    changed.start = range.start;
    changed.pgoff += range.start.v - low->start.v;
    change(changed, value);
    const Area* after = low->end <= range.end ? AreaTree::next(low) : nullptr;
    if (!rest.joins(changed) && (after == nullptr || !changed.joins(*after))) ++more;
  }
  if (const Area* high = find(range.end); high != nullptr && high->start < range.end) {
    Area rest = *high;
    rest.start = range.end;
    rest.pgoff += range.end.v - high->start.v;
    Area changed = *high;
    changed.end = range.end;
    change(changed, value);
    bool joins = false;
    if (const Area* before = AreaTree::prev(high);
        before != nullptr && high->start >= range.start) {
      Area other = *before;
      if (high->start > range.start) change(other, value);
      joins = other.joins(changed);
    }
    if (!changed.joins(rest) && !joins) ++more;
  }
  const bool fits = more == 0 || tree_.size() + more <= limits_.map_count;
  return fits ? kOk : Status(Error::no_memory);
}

Result<Vpn> AddressSpace::map(const MapParams& params) {
  const u64 pages = params.range.pages().v;
  if (pages == 0) return Error::invalid;
  if (pages > range_.pages().v) return Error::no_memory;
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
  SPW_TRY(check_new(params, place));
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
  area->may = params.may;
  area->locked = params.locked;
  area->noreserve = params.noreserve;
  area->foreign = params.foreign;
  area->shared = params.shared;
  area->may_share = params.may_share;
  area->growsdown = params.growsdown;
  area->stack = params.stack;
  area->executable = params.executable;
  area->mapping = params.mapping;
  area->ops = params.ops;
  area->file = params.file;
  area->pgoff = params.pgoff;
  insert(area);
  merge_around(place);
  mm_->observer.event(EventKind::space_mmap, place.start.v, pages);
  return place.start;
}

Status AddressSpace::unmap(VpnRange range) {
  if (range.empty()) return Error::invalid;
  SPW_TRY(check_split(range));
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
  const u64 heap_bytes = wanted.v - addr_of(brk_start_).v;
  if (wanted > brk_ &&
      (heap_bytes > limits_.data_bytes || data_bytes_ > limits_.data_bytes - heap_bytes)) {
    return brk_;
  }
  if (new_end > old_end) {
    const VpnRange growth{old_end, new_end};
    const Area* above = find_above(growth.start);
    const Vpn needed = brk_gap_ ? growth.end + 1 : growth.end;
    const u64 guard =
        above != nullptr && above->growsdown && brk_gap_ ? limits_.stack_guard_gap.v : 0;
    if (above != nullptr && above->start < needed + guard) return brk_;
    if (lock_future_ && locked_vm_ + growth.pages() > limits_.memlock) return brk_;
    MapParams params;
    params.range = growth;
    params.prot = Prot::read_write;
    params.fixed = true;
    params.locked = lock_future_;
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

Status AddressSpace::expand_stack(Area* area, Vpn vpn) {
  SPW_ASSERT(area->growsdown && vpn < area->start);
  const WalkScope walk(mm_->observer.walk, "expand_stack", "to {a:x}", addr_of(vpn).v);
  const PageCount grow(area->start.v - vpn.v);
  if (area->end.v - vpn.v > limits_.stack.v) {
    mm_->observer.step("RLIMIT_STACK is {a} pages, {b} would be needed: refused", limits_.stack.v,
                       area->end.v - vpn.v);
    return Error::no_memory;
  }
  if (total_vm_ + grow > limits_.as) {
    mm_->observer.step("RLIMIT_AS is {a} pages: refused", limits_.as.v);
    return Error::no_memory;
  }
  if (area->locked && locked_vm_ + grow > limits_.memlock) {
    mm_->observer.step("RLIMIT_MEMLOCK is {a} pages: refused", limits_.memlock.v);
    return Error::no_memory;
  }
  const Area* below = AreaTree::prev(area);
  const Vpn lowest = below == nullptr ? range_.start : below->end;
  const u64 guard = below == nullptr || below->growsdown || below->prot == Prot::none
                        ? 0
                        : limits_.stack_guard_gap.v;
  if (vpn.v < lowest.v + guard) {
    mm_->observer.step("the area below ends at {a:x}, {b} guard pages: refused", addr_of(lowest).v,
                       guard);
    return Error::no_memory;
  }
  if (area->accounted()) SPW_TRY(mm_->commit.allows(grow));
  if (area->mapping != nullptr) area->pgoff -= grow.v;
  area->start = vpn;
  resized(*area, static_cast<i64>(grow.v));
  update_gap(area);
  mm_->observer.step("vm_start moves down by {a} pages, total_vm is {b}", grow.v, total_vm_.v);
  return kOk;
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
