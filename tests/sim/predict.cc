#include "predict.h"

#include <algorithm>

namespace spillway::sim {
namespace {

bool aligned(u64 at) { return (at & kPageMask) == 0; }

bool known(Advice advice) {
  switch (advice) {
    case Advice::normal:
    case Advice::random:
    case Advice::sequential:
    case Advice::willneed:
    case Advice::dontneed:
    case Advice::free:
    case Advice::cold:
    case Advice::pageout: return true;
  }
  return false;
}

bool in_space(const SpaceModel& model, PageRange range) {
  return range.first < range.end && range.end <= model.pages();
}

// The range leaves the addresses that a machine can have.
bool wraps(u64 at, u64 len) {
  return len > addr_of(kVpnEnd).v || (len != 0 && pages_of(at, len).empty());
}

// What every call on existing areas refuses.
void check_range(const SpaceModel& model, const Op& op, Prediction* p) {
  const PageRange range = pages_of(op.at, op.len);
  if (wraps(op.at, op.len)) {
    p->refuse(Error::invalid);
    p->refuse(Error::no_memory);
  }
  if (!model.covered(range)) p->refuse(Error::no_memory);
  if (model.any_foreign(range)) p->refuse(Error::not_supported);
}

// Whether an area's pages count as committed memory: those that the program may write.
bool accounted(Prot prot, bool noreserve, bool foreign) {
  return !noreserve && !foreign && allows(prot, Prot::write);
}

Prediction predict_mmap(const SpaceModel& model, const Setup& setup, const Op& op) {
  Prediction p;
  const u64 pages = pages_for(op.len).v;
  const bool fixed = (op.flags & (kFlagFixed | kFlagNoreplace)) != 0;
  const bool reserve = (op.flags & kFlagNoreserve) == 0;
  if (op.len == 0) p.refuse(Error::invalid);
  if (fixed && !aligned(op.at)) p.refuse(Error::invalid);
  if (pages > model.pages()) p.refuse(Error::no_memory);
  const bool counts = accounted(op.prot, !reserve, (op.flags & kFlagForeign) != 0);
  if (counts && pages > setup.commit_max) p.refuse(Error::no_memory);
  if ((op.flags & kFlagLocked) != 0 && model.locked_vm() + pages > setup.mlock_max) {
    p.refuse(Error::again);
  }
  if (!fixed) {
    if (!model.has_gap(pages)) p.refuse(Error::no_memory);
    return p;
  }
  const PageRange range = pages_of(op.at, op.len);
  if (!in_space(model, range)) p.refuse(Error::no_memory);
  if ((op.flags & kFlagNoreplace) != 0 && !model.is_free(range)) p.refuse(Error::exists);
  return p;
}

Prediction predict_mremap(const SpaceModel& model, const Setup& setup, const Op& op) {
  Prediction p;
  const bool fixed = (op.flags & kFlagFixed) != 0;
  const bool may_move = (op.flags & kFlagMayMove) != 0;
  const u64 new_pages = pages_for(op.newlen).v;
  const PageRange old = pages_of(op.at, op.len);
  if (!aligned(op.at) || op.len == 0 || op.newlen == 0) p.refuse(Error::invalid);
  if (wraps(op.at, op.len) || wraps(op.to, op.newlen)) p.refuse(Error::invalid);
  if (fixed && (!may_move || !aligned(op.to))) p.refuse(Error::invalid);
  const ModelArea* area = model.find(old.first);
  // Shrinking unmaps the tail first, whatever lies there.
  const u64 kept_end = old.first + std::min(new_pages, old.pages());
  const bool shrinks_here = !fixed && new_pages <= old.pages();
  if (area == nullptr || (!shrinks_here && area->range.end < kept_end)) p.refuse(Error::fault);
  if (area != nullptr && area->kind.foreign) p.refuse(Error::not_supported);
  if (new_pages > model.pages()) p.refuse(Error::no_memory);
  if (fixed) {
    const PageRange to{op.to / kPageSize, op.to / kPageSize + new_pages};
    if (!in_space(model, to)) p.refuse(Error::no_memory);
    if (to.overlaps(old)) p.refuse(Error::invalid);
  }
  const bool over_mlock = area != nullptr && area->kind.locked && new_pages > old.pages() &&
                          model.locked_vm() + new_pages - old.pages() > setup.mlock_max;
  if (over_mlock) p.refuse(Error::again);
  if (!p.success || new_pages <= old.pages()) return p;
  const bool counts = accounted(area->kind.prot, area->kind.noreserve, area->kind.foreign);
  if (counts && new_pages - old.pages() > setup.commit_max) p.refuse(Error::no_memory);
  if (fixed) return p;
  const PageRange growth{old.end, old.first + new_pages};
  const bool in_place = growth.end <= model.pages() && model.is_free(growth);
  if (!in_place && (!may_move || !model.has_gap(new_pages))) p.refuse(Error::no_memory);
  // Growing in place into what is kept for brk, or out of it, is the manager's choice.
  if (area->range.first < model.brk_pages() && !(may_move && model.has_gap(new_pages))) {
    p.also(Error::no_memory);
  }
  return p;
}

Prediction predict_madvise(const SpaceModel& model, const Op& op) {
  Prediction p;
  if (!aligned(op.at) || !known(op.advice)) p.refuse(Error::invalid);
  if (op.len == 0 || !p.success) return p;
  const PageRange range = pages_of(op.at, op.len);
  check_range(model, op, &p);
  const bool discards = op.advice == Advice::dontneed || op.advice == Advice::free;
  if (discards && model.any_locked(range)) p.refuse(Error::invalid);
  if (op.advice == Advice::cold || op.advice == Advice::pageout) {
    if (model.any_locked(range)) p.also(Error::invalid);  // Linux refuses; skipping is as good
  }
  return p;
}

}  // namespace

Prediction predict(const SpaceModel& model, const Setup& setup, const Op& op) {
  Prediction p;
  const PageRange range = pages_of(op.at, op.len);
  switch (op.kind) {
    case OpKind::mmap: return predict_mmap(model, setup, op);
    case OpKind::mremap: return predict_mremap(model, setup, op);
    case OpKind::madvise: return predict_madvise(model, op);
    case OpKind::munmap:
      if (!aligned(op.at) || op.len == 0 || !in_space(model, range)) p.refuse(Error::invalid);
      return p;
    case OpKind::mprotect: {
      if (!aligned(op.at)) p.refuse(Error::invalid);
      if (op.len != 0) check_range(model, op, &p);
      u64 more = 0;
      for (const ModelArea& a : model.areas_in(range)) {
        if (accounted(a.kind.prot, a.kind.noreserve, a.kind.foreign)) continue;
        if (accounted(op.prot, a.kind.noreserve, a.kind.foreign)) {
          more += a.range.clip(range).pages();
        }
      }
      if (more > setup.commit_max) p.refuse(Error::no_memory);
      return p;
    }
    case OpKind::mincore:
      if (!aligned(op.at)) p.refuse(Error::invalid);
      if (op.len != 0) check_range(model, op, &p);
      return p;
    case OpKind::mlock:
    case OpKind::munlock: {
      if (range.empty() && !wraps(op.at, op.len)) return p;
      check_range(model, op, &p);
      u64 more = 0;
      for (const ModelArea& a : model.areas_in(range)) {
        if (!a.kind.locked) more += a.range.clip(range).pages();
      }
      if (op.kind == OpKind::mlock && model.locked_vm() + more > setup.mlock_max) {
        p.refuse(Error::no_memory);
      }
      return p;
    }
    default: return p;
  }
}

bool place_is_right(const SpaceModel& model, const Op& op, u64 page) {
  const bool fixed = (op.flags & (kFlagFixed | kFlagNoreplace)) != 0;
  if (op.kind == OpKind::mmap) {
    if (fixed) return page == op.at / kPageSize;
    const PageRange place{page, page + pages_for(op.len).v};
    return place.first >= model.brk_pages() && place.end <= model.pages() && model.is_free(place);
  }
  const PageRange old = pages_of(op.at, op.len);
  const u64 new_pages = pages_for(op.newlen).v;
  if (fixed) return page == op.to / kPageSize;
  if (page == old.first) {
    return new_pages <= old.pages() || model.is_free({old.end, old.first + new_pages});
  }
  const PageRange place{page, page + new_pages};
  return new_pages > old.pages() && (op.flags & kFlagMayMove) != 0 &&
         place.first >= model.brk_pages() && place.end <= model.pages() && model.is_free(place);
}

void apply(SpaceModel* model, const Op& op, u64 result) {
  const PageRange range = pages_of(op.at, op.len);
  switch (op.kind) {
    case OpKind::mmap: {
      const u64 first = result / kPageSize;
      const AreaKind kind{.prot = op.prot,
                          .locked = (op.flags & kFlagLocked) != 0,
                          .noreserve = (op.flags & kFlagNoreserve) != 0,
                          .foreign = (op.flags & kFlagForeign) != 0};
      model->map({first, first + pages_for(op.len).v}, kind);
      return;
    }
    case OpKind::mremap: {
      const u64 first = result / kPageSize;
      const PageRange place{first, first + pages_for(op.newlen).v};
      if (first != range.first) {
        const PageRange moved{range.first, std::min(range.end, range.first + place.pages())};
        if (moved.end < range.end) model->unmap({moved.end, range.end});
        if ((op.flags & kFlagFixed) != 0) model->unmap(place);
        model->move(moved, place);
      } else if (place.end < range.end) {
        model->unmap({place.end, range.end});
      } else if (place.end > range.end) {
        model->map({range.end, place.end}, model->find(range.first)->kind);
      }
      return;
    }
    case OpKind::munmap: model->unmap(range); return;
    case OpKind::mprotect: model->protect(range, op.prot); return;
    case OpKind::madvise:
      if (op.advice == Advice::dontneed) model->discard(range);
      if (op.advice == Advice::free) model->free_lazily(range);
      return;
    case OpKind::mlock: model->set_locked(range, true); return;
    case OpKind::munlock: model->set_locked(range, false); return;
    default: return;
  }
}

u64 predict_brk(const SpaceModel& model, const Setup& setup, u64 wanted) {
  if (wanted > model.brk_pages() * kPageSize) return model.brk();
  const PageRange growth{pages_for(model.brk()).v, pages_for(wanted).v};
  if (growth.pages() > setup.commit_max) return model.brk();
  if (!growth.empty() && !model.is_free(growth)) return model.brk();
  return wanted;
}

void apply_brk(SpaceModel* model, u64 brk) {
  const u64 before = pages_for(model->brk()).v;
  const u64 after = pages_for(brk).v;
  if (after > before) {
    model->map({before, after}, AreaKind{.prot = Prot::read_write});
  } else {
    model->unmap({after, before});
  }
  model->set_brk(brk);
}

}  // namespace spillway::sim
