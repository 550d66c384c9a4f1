#include "predict.h"

#include <algorithm>

namespace spillway::ksim {
namespace {

// Requests beyond may find no gap, depending on where the others lie.
constexpr u64 kSurelyFits = u64{1} << 17;

bool aligned(u64 at) { return (at & kPageMask) == 0; }
bool wraps(u64 at, u64 len) {
  const u64 pages = pages_for(len).v;
  return pages > kVpnEnd.v || at / kPageSize + pages > kVpnEnd.v;
}

bool fixed_place(const Op& op) { return op.has(FlagBit::fixed) || op.has(FlagBit::noreplace); }

// The kernel may count more areas than the model, which always joins neighbours.
bool near_map_limit(const Context& c) {
  return std::max<u64>(c.space().area_count(), c.kernel_areas.size()) + 4 >= c.setup.map_count_max;
}

const Descriptor& descriptor(const Context& c, const Op& op) { return c.proc.files[op.file]; }

// What depends on an open file; false: no more is looked at.
bool predict_file(const Context& c, const Op& op, Prediction* p) {
  const Descriptor& d = descriptor(c, op);
  if (d.object == nullptr) {
    p->refuse(Error::bad_fd);
    return false;
  }
  const bool writes = op.has(FlagBit::shared) && allows(op.prot, Prot::write);
  p->refuse_if(writes && !d.write, Error::access);
  p->refuse_if(!d.read, Error::access);
  return true;
}

bool will_be_accounted(const Context& c, const Op& op) {
  return !op.has(FlagBit::shared) && allows(op.prot, Prot::write) &&
         !(op.has(FlagBit::noreserve) && c.setup.overcommit != 2);
}

Prediction predict_mmap(const Context& c, const Op& op) {
  Prediction p;
  const Space& space = c.space();
  const u64 pages = pages_for(op.len).v;
  p.refuse_if(!aligned(op.off), Error::invalid);
  p.refuse_if(op.len == 0, Error::invalid);
  p.refuse_if(op.len > c.top, Error::no_memory);
  const bool file = op.file != kNoFile;
  if (file && !predict_file(c, op, &p)) return p;
  if (file && (op.off >> kPageShift) + pages > kMappingPagesMax) p.refuse(Error::overflow);
  if (op.has(FlagBit::growsdown) && (file || op.has(FlagBit::shared))) p.refuse(Error::invalid);
  const bool lock = op.has(FlagBit::locked) || space.lock_future;
  p.refuse_if(op.has(FlagBit::locked) && space.limits.memlock == 0, Error::perm);
  p.refuse_if(lock && space.locked_vm() + pages > space.limits.memlock, Error::again);
  PageRange place{};
  if (fixed_place(op)) {
    p.refuse_if(!aligned(op.at), Error::invalid);
    p.refuse_if(op.len <= c.top && op.at > c.top - op.len, Error::no_memory);
    p.refuse_if(op.at < kMinAddress, Error::perm);
    place = pages_of(op.at, op.len);
    if (op.has(FlagBit::noreplace) && !space.is_free(place)) p.refuse(Error::exists);
  } else if (pages > kSurelyFits) {
    p.also(Error::no_memory);
  }
  if (space.total_vm() - space.mapped_pages(place) + pages > space.limits.as) {
    p.refuse(Error::no_memory);
  }
  if (near_map_limit(c)) p.also(Error::no_memory);
  if (will_be_accounted(c, op)) {
    const u64 freed = c.setup.overcommit == 2 ? space.accounted_pages(place) : 0;
    p.refuse_if(pages > freed && commit_refuses(c, pages - freed), Error::no_memory);
  }
  const bool reserves = !(op.has(FlagBit::noreserve) && c.setup.overcommit != 2);
  if (!file && op.has(FlagBit::shared) && reserves) {
    p.refuse_if(commit_refuses(c, pages), Error::no_memory);
  }
  return p;
}

// Growing to `new_pages`, in place or elsewhere.
void predict_growth(const Context& c, const Op& op, const ModelArea& area, Prediction* p) {
  const Space& space = c.space();
  const PageRange old = pages_of(op.at, op.len);
  const u64 new_pages = pages_for(op.newlen).v;
  const u64 growth = new_pages - old.pages();
  const bool has_numbers = area.object != nullptr;
  const u64 first = area.pgoff + (old.first - area.range.first);
  p->refuse_if(has_numbers && first + new_pages > kMappingPagesMax, Error::invalid);
  if (area.locked && space.locked_vm() + growth > space.limits.memlock) p->refuse(Error::again);
  if (area.accounted() && commit_refuses(c, growth)) p->refuse(Error::no_memory);
  // As in Linux, what a fixed target replaces does not count in favour of the growth.
  if (space.total_vm() + growth > space.limits.as) p->refuse(Error::no_memory);
  if (op.has(FlagBit::fixed)) return;
  const PageRange more{old.end, old.first + new_pages};
  const bool in_place = space.is_free(more) && more.end <= c.top / kPageSize;
  if (!in_place && !op.has(FlagBit::may_move)) p->refuse(Error::no_memory);
  // Neighbours need not be one area.
  p->also(Error::no_memory);
}

// What is moved or grown must be one area; the kernel may not have joined what the model has.
void predict_one_area(const Context& c, PageRange range, Prediction* p) {
  const ModelArea* area = c.space().find(range.first);
  if (area == nullptr || area->range.end < range.end) p->refuse(Error::fault);
  for (const AreaView& v : c.kernel_areas) {
    if (range.first < v.range.end.v && v.range.end.v < range.end) p->also(Error::fault);
  }
}

Prediction predict_mremap(const Context& c, const Op& op) {
  Prediction p;
  const bool fixed = op.has(FlagBit::fixed);
  const u64 new_pages = pages_for(op.newlen).v;
  const u64 old_pages = pages_for(op.len).v;
  p.refuse_if(fixed && !op.has(FlagBit::may_move), Error::invalid);
  p.refuse_if(!aligned(op.at) || new_pages == 0 || old_pages == 0, Error::invalid);
  p.refuse_if(new_pages > c.top / kPageSize, Error::invalid);
  const bool too_high = op.at > c.top || op.len > c.top - op.at;
  p.refuse_if(too_high, new_pages < old_pages ? Error::invalid : Error::fault);
  const ModelArea* area = c.space().find(op.at / kPageSize);
  p.refuse_if(area == nullptr, Error::fault);
  if (!p.success) {
    p.also(Error::fault);
    if (fixed) p.also(Error::invalid);
    return p;
  }
  const PageRange old = pages_of(op.at, op.len);
  if (fixed) {
    const PageRange to{op.to / kPageSize, op.to / kPageSize + new_pages};
    p.refuse_if(!aligned(op.to) || op.to > c.top - new_pages * kPageSize, Error::invalid);
    p.refuse_if(to.overlaps(old), Error::invalid);
    p.refuse_if(op.to < kMinAddress, Error::perm);
  }
  if (near_map_limit(c)) p.also(Error::no_memory);
  // Shrinking is munmap of the tail, whatever lies there.
  const u64 keep = std::min(new_pages, old_pages);
  if (fixed || new_pages > old_pages) predict_one_area(c, {old.first, old.first + keep}, &p);
  if (p.success && new_pages > old_pages) predict_growth(c, op, *area, &p);
  return p;
}

bool known_advice(u64 advice) {
  constexpr u64 kKnown[] = {0, 1, 2, 3, 4, 8, 10, 11, 20, 21, 22, 23};
  return std::find(std::begin(kKnown), std::end(kKnown), advice) != std::end(kKnown);
}

// Whether a page of the range lies behind the end of what its area maps.
bool reaches_behind_end(const Space& space, PageRange range) {
  for (const ModelArea& a : space.areas_in(range)) {
    const PageRange part = a.range.clip(range);
    if (a.object == nullptr || a.prot == Prot::none) continue;
    if (a.index_of(part.end - 1) >= a.object->size_pages()) return true;
  }
  return false;
}

Prediction predict_madvise(const Context& c, const Op& op) {
  Prediction p;
  const Space& space = c.space();
  p.refuse_if(!aligned(op.at) || !known_advice(op.advice), Error::invalid);
  p.refuse_if(wraps(op.at, op.len), Error::invalid);
  if (op.len == 0 || !p.success) return p;
  const PageRange range = pages_of(op.at, op.len);
  // Holes are reported at the end, when the rest has followed the advice.
  p.refuse_if(!space.covered(range), Error::no_memory);
  const bool zaps = op.advice == 4 || op.advice == 8;
  const bool leaves = op.advice == 20 || op.advice == 21;
  if ((zaps || leaves) && space.any_locked(range)) p.refuse(Error::invalid);
  if (op.advice == 8) {
    for (const ModelArea& a : space.areas_in(range)) {
      p.refuse_if(a.object != nullptr, Error::invalid);
    }
  }
  const bool populates = op.advice == 22 || op.advice == 23;
  if (populates) {
    // The lowest page that cannot come decides.
    p.refuse_if(reaches_behind_end(space, range), Error::fault);
    const Prot needed = op.advice == 23 ? Prot::write : Prot::read;
    for (const ModelArea& a : space.areas_in(range)) {
      p.refuse_if(!allows(a.prot, needed), Error::invalid);
    }
  } else if (near_map_limit(c)) {
    p.also(Error::again);
  }
  return p;
}

PageRange lock_range(const Op& op) {
  return pages_of(op.at & ~kPageMask, op.len + (op.at & kPageMask));
}

Prediction predict_mlock(const Context& c, const Op& op) {
  Prediction p;
  const Space& space = c.space();
  const bool lock = op.kind == OpKind::mlock;
  p.refuse_if(lock && space.limits.memlock == 0, Error::perm);
  p.refuse_if(lock && op.len / kPageSize > space.limits.memlock, Error::no_memory);
  const u64 bytes = op.len + (op.at & kPageMask);
  if (bytes < op.len || (op.at & ~kPageMask) + bytes < bytes) p.refuse(Error::invalid);
  if (!p.success) return p;
  if (wraps(op.at & ~kPageMask, bytes)) {
    p.refuse(Error::no_memory);
    return p;
  }
  const PageRange range = lock_range(op);
  if (range.empty()) return p;
  p.refuse_if(!space.covered(range), Error::no_memory);
  u64 more = 0;
  for (const ModelArea& a : space.areas_in(range)) {
    if (!a.locked) more += a.range.clip(range).pages();
  }
  if (lock && space.locked_vm() + more > space.limits.memlock) p.refuse(Error::no_memory);
  if (lock && p.success && reaches_behind_end(space, range)) p.refuse(Error::no_memory);
  for (const ModelArea& a : space.areas_in(range)) {
    p.refuse_if(lock && a.prot == Prot::none, Error::no_memory);
  }
  if (near_map_limit(c)) p.also(Error::no_memory);
  return p;
}

Prediction predict_mlockall(const Context& c, const Op& op) {
  Prediction p;
  const Space& space = c.space();
  const bool now = op.has(FlagBit::current);
  p.refuse_if(!now && !op.has(FlagBit::future), Error::invalid);
  p.refuse_if(space.limits.memlock == 0, Error::perm);
  p.refuse_if(now && space.total_vm() > space.limits.memlock, Error::no_memory);
  return p;
}

Prediction predict_msync(const Context& c, const Op& op) {
  Prediction p;
  p.refuse_if(!aligned(op.at), Error::invalid);
  p.refuse_if(op.has(FlagBit::sync) && op.has(FlagBit::async), Error::invalid);
  if (!p.success) return p;
  if (wraps(op.at, op.len)) {
    p.refuse(Error::no_memory);
    return p;
  }
  const PageRange range = pages_of(op.at, op.len);
  if (range.empty()) return p;
  p.refuse_if(!c.space().covered(range), Error::no_memory);
  if (op.has(FlagBit::invalidate) && c.space().any_locked(range)) p.refuse(Error::busy);
  return p;
}

Prediction predict_mprotect(const Context& c, const Op& op) {
  Prediction p;
  const Space& space = c.space();
  p.refuse_if(!aligned(op.at), Error::invalid);
  if (op.len == 0 || !p.success) return p;
  if (wraps(op.at, op.len)) {
    p.refuse(Error::no_memory);
    return p;
  }
  const PageRange range = pages_of(op.at, op.len);
  p.refuse_if(!space.covered(range), Error::no_memory);
  u64 more = 0;
  for (const ModelArea& a : space.areas_in(range)) {
    p.refuse_if((static_cast<u8>(op.prot) & ~static_cast<u8>(a.may)) != 0, Error::access);
    ModelArea changed = a;
    changed.prot = op.prot;
    if (changed.accounted() && !a.accounted()) more += a.range.clip(range).pages();
  }
  p.refuse_if(more > 0 && commit_refuses(c, more), Error::no_memory);
  if (near_map_limit(c)) p.also(Error::no_memory);
  return p;
}

void apply_mmap(const Context& c, const Op& op, u64 result) {
  Space& space = c.space();
  const u64 pages = pages_for(op.len).v;
  ModelArea a;
  a.range = {result / kPageSize, result / kPageSize + pages};
  a.prot = op.prot;
  a.noreserve = op.has(FlagBit::noreserve) && c.setup.overcommit != 2;
  a.locked = op.has(FlagBit::locked) || space.lock_future;
  a.growsdown = op.has(FlagBit::growsdown);
  if (op.file != kNoFile) {
    const Descriptor& d = descriptor(c, op);
    a.object = d.object;
    a.pgoff = op.off >> kPageShift;
    a.may_share = op.has(FlagBit::shared);
    a.shared = a.may_share && d.write;
    if (a.may_share && !d.write) a.may = Prot::read_exec;
  } else if (op.has(FlagBit::shared)) {
    a.shared = a.may_share = true;
    a.object = std::make_shared<Object>();
    a.object->size_bytes = pages * kPageSize;
    a.object->committed = a.noreserve ? 0 : pages;
  }
  space.map(a);
  if (a.locked || op.has(FlagBit::populate)) bring_in(&space, a.range);
}

void apply_mremap(const Context& c, const Op& op, u64 result) {
  Space& space = c.space();
  PageRange old = pages_of(op.at, op.len);
  const PageRange place{result / kPageSize, result / kPageSize + pages_for(op.newlen).v};
  if (place.pages() < old.pages()) {
    space.unmap({old.first + place.pages(), old.end});
    old.end = old.first + place.pages();
  }
  const bool grows = place.pages() > old.pages();
  const bool locked = space.find(old.first)->locked;
  if (place.first != old.first) {
    if (op.has(FlagBit::fixed)) space.unmap(place);
    space.move(old, place);
  } else if (grows) {
    ModelArea more = *space.find(old.end - 1);
    if (more.object != nullptr) more.pgoff = more.index_of(old.end);
    more.range = {old.end, place.end};
    space.map(more);
  }
  if (locked && grows) bring_in(&space, place);
}

void apply_madvise(const Context& c, const Op& op) {
  Space& space = c.space();
  const PageRange range = pages_of(op.at, op.len);
  switch (op.advice) {
    case 0:
    case 1:
    case 2:
      space.change(range, [&](ModelArea& a) { a.hint = static_cast<u32>(op.advice); });
      return;
    case 4:
    case 8: space.discard(range); return;
    case 10:
    case 11: space.change(range, [&](ModelArea& a) { a.dontcopy = op.advice == 10; }); return;
    case 22:
    case 23: bring_in(&space, range); return;
    default: return;
  }
}

}  // namespace

void bring_in(Space* space, PageRange range) {
  space->maybe_copied(range);
  for (const ModelArea& a : space->areas_in(range)) {
    if (a.prot != Prot::none) space->touch(a.range.clip(range));
  }
}

bool commit_refuses(const Context& c, u64 pages) {
  if (pages == 0) return false;
  if (c.setup.overcommit == 1) return false;
  if (c.setup.overcommit == 0) return pages > c.commit_most;
  return c.world.committed() + pages > c.commit_most;
}

Prediction predict(const Context& c, const Op& op) {
  Prediction p;
  switch (op.kind) {
    case OpKind::mmap: return predict_mmap(c, op);
    case OpKind::mremap: return predict_mremap(c, op);
    case OpKind::madvise: return predict_madvise(c, op);
    case OpKind::mprotect: return predict_mprotect(c, op);
    case OpKind::mlock:
    case OpKind::munlock: return predict_mlock(c, op);
    case OpKind::mlockall: return predict_mlockall(c, op);
    case OpKind::msync: return predict_msync(c, op);
    case OpKind::munmap:
      p.refuse_if(!aligned(op.at) || op.len == 0, Error::invalid);
      p.refuse_if(op.at > c.top || op.len > c.top - op.at, Error::invalid);
      if (near_map_limit(c)) p.also(Error::no_memory);
      return p;
    case OpKind::mincore:
      p.refuse_if(!aligned(op.at), Error::invalid);
      if (!p.success) return p;
      p.refuse_if(wraps(op.at, op.len), Error::no_memory);
      if (p.success) p.refuse_if(!c.space().covered(pages_of(op.at, op.len)), Error::no_memory);
      return p;
    default: return p;
  }
}

bool place_is_right(const Context& c, const Op& op, u64 page) {
  const Space& space = c.space();
  const u64 low = c.setup.modern != 0 ? kMinAddress : kClassicTop / 3;
  const auto chosen = [&](u64 pages) {
    const PageRange place{page, page + pages};
    return place.first >= low / kPageSize && place.end <= c.top / kPageSize && space.is_free(place);
  };
  if (op.kind == OpKind::mmap) {
    if (fixed_place(op)) return page == op.at / kPageSize;
    return chosen(pages_for(op.len).v);
  }
  const PageRange old = pages_of(op.at, op.len);
  const u64 new_pages = pages_for(op.newlen).v;
  if (op.has(FlagBit::fixed)) return page == op.to / kPageSize;
  if (page == old.first) {
    return new_pages <= old.pages() || space.is_free({old.end, old.first + new_pages});
  }
  return new_pages > old.pages() && op.has(FlagBit::may_move) && chosen(new_pages);
}

void apply(const Context& c, const Op& op, u64 result) {
  Space& space = c.space();
  const PageRange range = pages_of(op.at, op.len);
  switch (op.kind) {
    case OpKind::mmap: apply_mmap(c, op, result); return;
    case OpKind::mremap: apply_mremap(c, op, result); return;
    case OpKind::madvise: apply_madvise(c, op); return;
    case OpKind::munmap: space.unmap(range); return;
    case OpKind::mprotect:
      space.change(range, [&](ModelArea& a) { a.prot = op.prot; });
      // Locked private pages that may be written are copied at once, as by mlock.
      for (const ModelArea& a : space.areas_in(range)) {
        if (a.locked && allows(a.prot, Prot::write)) bring_in(&space, a.range.clip(range));
      }
      return;
    case OpKind::mlock:
    case OpKind::munlock: {
      const bool lock = op.kind == OpKind::mlock;
      space.change(lock_range(op), [&](ModelArea& a) { a.locked = lock; });
      if (lock) bring_in(&space, lock_range(op));
      return;
    }
    case OpKind::mlockall:
      space.lock_future = op.has(FlagBit::future);
      if (!op.has(FlagBit::current)) return;
      space.change({0, kVpnEnd.v}, [](ModelArea& a) { a.locked = true; });
      bring_in(&space, {0, kVpnEnd.v});
      return;
    case OpKind::munlockall:
      space.lock_future = false;
      space.change({0, kVpnEnd.v}, [](ModelArea& a) { a.locked = false; });
      return;
    default: return;
  }
}

u64 predict_brk(const Context& c, u64 wanted) {
  const Space& space = c.space();
  if (wanted < space.brk_start || wanted > c.top) return space.brk;
  const PageRange growth{pages_for(space.brk).v, pages_for(wanted).v};
  const u64 heap = wanted - space.brk_start;
  if (wanted > space.brk &&
      (heap > space.limits.data_bytes || space.image_data_bytes > space.limits.data_bytes - heap)) {
    return space.brk;
  }
  if (growth.empty()) return wanted;
  // One page stays free above the heap, and some below a stack.
  const ModelArea* above = space.find_above(growth.first);
  const u64 gap = above != nullptr && above->growsdown ? c.setup.guard_gap : 0;
  if (above != nullptr && above->range.first < growth.end + 1 + gap) return space.brk;
  const u64 pages = growth.pages();
  if (space.lock_future && space.locked_vm() + pages > space.limits.memlock) return space.brk;
  if (space.total_vm() + pages > space.limits.as) return space.brk;
  if (commit_refuses(c, pages)) return space.brk;
  return wanted;
}

void apply_brk(Space* space, u64 brk) {
  const PageRange growth{pages_for(space->brk).v, pages_for(brk).v};
  if (growth.empty()) {
    space->unmap({growth.end, growth.first});
  } else {
    ModelArea a;
    a.range = growth;
    a.prot = Prot::read_write;
    a.locked = space->lock_future;
    space->map(a);
  }
  space->brk = brk;
}

const ModelArea* stack_that_grows(const Context& c, u64 va) {
  const Space& space = c.space();
  const u64 page = va / kPageSize;
  const ModelArea* area = space.find_above(page);
  if (area == nullptr || !area->growsdown || area->range.first <= page) return nullptr;
  if (c.setup.strict_stack != 0 && va + 32 < c.proc.sp) return nullptr;
  const u64 grow = area->range.first - page;
  if (area->range.end - page > space.limits.stack) return nullptr;
  if (space.total_vm() + grow > space.limits.as) return nullptr;
  if (area->locked && space.locked_vm() + grow > space.limits.memlock) return nullptr;
  const ModelArea* below = space.below(*area);
  const u64 lowest = below == nullptr ? kMinAddress / kPageSize : below->range.end;
  const bool gap = below != nullptr && !below->growsdown && below->prot != Prot::none;
  if (page < lowest + (gap ? c.setup.guard_gap : 0)) return nullptr;
  if (area->accounted() && commit_refuses(c, grow)) return nullptr;
  return area;
}

}  // namespace spillway::ksim
