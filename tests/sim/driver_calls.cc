// One operation of a task, performed and compared with the model.

#include <algorithm>
#include <cstring>

#include "driver.h"

namespace spillway::sim {

Driver::Step Driver::perform(Task* task, const Op& op) {
  switch (op.kind) {
    case OpKind::load:
    case OpKind::store: return perform_access(task, op);
    case OpKind::brk: return perform_brk(task, op);
    case OpKind::mincore: return perform_mincore(task, op);
    default: return perform_call(task, op);
  }
}

Result<u64> Driver::call(Space& space, const Op& op) {
  const VirtAddr at = base() + op.at;
  switch (op.kind) {
    case OpKind::mmap: {
      MmapRequest r;
      r.addr = at;
      r.length = op.len;
      r.prot = op.prot;
      r.fixed = (op.flags & kFlagFixed) != 0;
      r.noreplace = (op.flags & kFlagNoreplace) != 0;
      r.noreserve = (op.flags & kFlagNoreserve) != 0;
      r.locked = (op.flags & kFlagLocked) != 0;
      r.populate = (op.flags & kFlagPopulate) != 0;
      r.foreign = (op.flags & kFlagForeign) != 0;
      return system_->mmap(space.id, r);
    }
    case OpKind::mremap: {
      MremapRequest r;
      r.old_addr = at;
      r.old_length = op.len;
      r.new_length = op.newlen;
      r.new_addr = base() + op.to;
      r.may_move = (op.flags & kFlagMayMove) != 0;
      r.fixed = (op.flags & kFlagFixed) != 0;
      return system_->mremap(space.id, r);
    }
    case OpKind::munmap: return system_->munmap(space.id, at, op.len);
    case OpKind::mprotect: return system_->mprotect(space.id, at, op.len, op.prot);
    case OpKind::madvise: return system_->madvise(space.id, at, op.len, op.advice);
    case OpKind::mlock: return system_->mlock(space.id, at, op.len);
    case OpKind::munlock: return system_->munlock(space.id, at, op.len);
    default: fail("not a system call: " + print(op));
  }
}

void Driver::check_foreign(const Space& space, const Op& op) const {
  const PageRange range = pages_of(op.at, op.len);
  if (range.empty() || range.end > setup_.space_pages) return;
  const bool foreign = system_->touches_foreign(space.id, base() + op.at, op.len);
  if (foreign != space.model->any_foreign(range)) fail("touches_foreign is wrong: " + print(op));
}

Driver::Step Driver::perform_call(Task* task, const Op& op) {
  Space& space = spaces_[task->space];
  const Prediction p = predict(*space.model, setup_, op);
  check_foreign(space, op);
  const Result<u64> result = call(space, op);
  note(result.ok() ? result.value() : u64{1} << 63 | static_cast<u64>(result.error()));
  if (!result.ok() && result.error() == Error::wait) {
    // mlock marks the areas first and then brings the pages in; the mark is visible meanwhile.
    if (op.kind == OpKind::mlock && p.success) apply(space.model.get(), op, 0);
    return Step::wait;
  }
  if (!result.ok()) {
    check_error(task, op, p, result.error());
    return Step::done;
  }
  if (!p.success) fail(std::string(name_of(op.kind)) + " succeeds where it must not: " + print(op));
  u64 offset = 0;
  if (op.kind == OpKind::mmap || op.kind == OpKind::mremap) {
    offset = result.value() - base().v;
    if ((offset & kPageMask) != 0 || !place_is_right(*space.model, op, offset / kPageSize)) {
      fail(std::string(name_of(op.kind)) + " chooses a wrong place: offset " +
           std::to_string(offset) + ", " + print(op));
    }
  } else if (result.value() != 0) {
    fail(std::string(name_of(op.kind)) + " returns other than zero: " + print(op));
  }
  apply(space.model.get(), op, offset);
  return Step::done;
}

void Driver::check_error(Task* task, const Op& op, const Prediction& p, Error error) {
  if (p.allows(error)) return;
  if (resource_error_is_right(error)) {
    after_partial_failure(task, op);
    return;
  }
  // A page that a device holds cannot be taken away from its address.
  const bool held = setup_.busy_one_in != 0 || sim_.mmu().any_pinned();
  const bool needs_unmap = op.kind == OpKind::mprotect && op.prot == Prot::none;
  if (held && needs_unmap && (error == Error::no_memory || error == Error::busy)) return;
  fail(std::string(name_of(op.kind)) + " refused with " + name_of(error) + ": " + print(op) +
       ", needs " + std::to_string(demand()) + " pages of " + std::to_string(supply()));
}

// Calls that work in two steps may have done the first one. It is undone on both sides, so that
// the model is right again.
void Driver::after_partial_failure(Task* task, const Op& op) {
  Space& space = spaces_[task->space];
  if (op.kind == OpKind::mlock) {
    const PageRange range = pages_of(op.at, op.len);
    if (!space.model->covered(range) || space.model->any_foreign(range)) return;
    Op undo = op;
    undo.kind = OpKind::munlock;
    if (!call(space, undo).ok()) inconclusive_ = true;
    apply(space.model.get(), undo, 0);
  }
  if (op.kind == OpKind::mremap && (op.flags & kFlagFixed) != 0) {
    Op undo;
    undo.kind = OpKind::munmap;
    undo.at = op.to;
    undo.len = op.newlen;
    const Prediction p = predict(*space.model, setup_, undo);
    if (!p.success || pages_of(op.to, op.newlen).overlaps(pages_of(op.at, op.len))) return;
    if (!call(space, undo).ok()) inconclusive_ = true;
    apply(space.model.get(), undo, 0);
  }
}

Driver::Step Driver::perform_brk(Task* task, const Op& op) {
  Space& space = spaces_[task->space];
  const u64 want = predict_brk(*space.model, setup_, op.at);
  const Result<u64> result = system_->brk(space.id, base() + op.at);
  if (!result.ok()) {
    if (result.error() == Error::wait) return Step::wait;
    fail(std::string("brk fails: ") + name_of(result.error()));
  }
  const u64 got = result.value() - base().v;
  note(got);
  // For want of memory the break may stay where it is.
  if (got != want && !(got == space.model->brk() && resource_error_is_right(Error::no_memory))) {
    fail("brk returns a wrong break: " + std::to_string(got) + " instead of " +
         std::to_string(want));
  }
  apply_brk(space.model.get(), got);
  return Step::done;
}

Driver::Step Driver::perform_mincore(Task* task, const Op& op) {
  Space& space = spaces_[task->space];
  const PageRange range = pages_of(op.at, op.len);
  const Prediction p = predict(*space.model, setup_, op);
  // A range that is longer than the space is refused before the vector is touched.
  std::vector<u8> resident(std::min(range.pages(), setup_.space_pages) + 1, 0x77);
  const Result<u64> result =
      system_->mincore(space.id, base() + op.at, pages_for(op.len), resident.data());
  if (!result.ok()) {
    check_error(task, op, p, result.error());
    return Step::done;
  }
  if (!p.success) fail("mincore succeeds where it must not: " + print(op));
  for (u64 i = 0; i < range.pages(); ++i) {
    if (resident[i] > 1) fail("mincore leaves a byte unset: " + print(op));
    note(resident[i]);
  }
  if (resident.back() != 0x77) fail("mincore writes beyond its vector: " + print(op));
  return Step::done;
}

// Whether a failed access is what the model allows; a prediction of success is checked by the
// bytes.
void Driver::check_outcome(const Task& task, const Op& op, u64 page, Access access, SimAccess a) {
  const ModelArea* area = spaces_[task.space].model->find(page);
  FaultOutcome want = FaultOutcome::done;
  if (area == nullptr) {
    want = FaultOutcome::maperr;
  } else if (!permits(area->kind.prot, access)) {
    want = FaultOutcome::accerr;
  }
  if (a.outcome == want) return;
  if (want == FaultOutcome::done) {
    switch (a.outcome) {
      case FaultOutcome::bus:
        if (resource_error_is_right(Error::io)) return;
        break;
      case FaultOutcome::corrupt:
        if (resource_error_is_right(Error::corrupt)) return;
        break;
      case FaultOutcome::oom:
        if (resource_error_is_right(Error::no_memory)) return;
        break;
      case FaultOutcome::done:
      case FaultOutcome::wait:
      case FaultOutcome::maperr:
      case FaultOutcome::accerr: break;
    }
  }
  fail(std::string("access ends with ") + name_of(a.outcome) + " instead of " + name_of(want) +
       ": page " + std::to_string(page) + " of " + print(op) + ", needs " +
       std::to_string(demand()) + " pages of " + std::to_string(supply()));
}

// A load or store, page by page; each page is one access that either happens or does not.
Driver::Step Driver::perform_access(Task* task, const Op& op) {
  Space& space = spaces_[task->space];
  const Access access = op.kind == OpKind::store ? Access::write : Access::read;
  u8 buffer[kPageSize];
  while (task->progress < op.len) {
    const u64 at = op.at + task->progress;
    const u64 page = at / kPageSize;
    const u64 offset = at & kPageMask;
    const u64 bytes = std::min(op.len - task->progress, kPageSize - offset);
    const ModelArea* area = space.model->find(page);
    // What lies in a foreign mapping is not ours: the program would reach its own file.
    if (area != nullptr && area->kind.foreign) return Step::done;
    SimAccess a{};
    if (access == Access::write) {
      make_page(op.fill, op.seed, page, buffer);
      a = sim_.store(*system_, space.id, base() + at, buffer + offset, bytes, task->attempt);
    } else {
      a = sim_.load(*system_, space.id, base() + at, buffer, bytes, task->attempt);
    }
    note(static_cast<u64>(a.outcome) << 8 | a.faults);
    if (a.outcome == FaultOutcome::wait) return Step::wait;
    check_outcome(*task, op, page, access, a);
    if (a.outcome != FaultOutcome::done) return Step::done;
    if (access == Access::write) {
      space.model->store(page, offset, buffer + offset, bytes);
    } else if (!space.model->load(page, offset, buffer, bytes)) {
      fail("wrong bytes: page " + std::to_string(page) + " of " + print(op));
    }
    task->progress += bytes;
    task->attempt = 0;
  }
  return Step::done;
}

}  // namespace spillway::sim
