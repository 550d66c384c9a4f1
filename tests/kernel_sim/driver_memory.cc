// System calls on address spaces, performed and compared with the model.

#include <algorithm>

#include "driver.h"

namespace spillway::ksim {

std::vector<AreaView> Driver::kernel_areas(Pid pid) const {
  std::vector<AreaView> views(64);
  u32 count = kernel_->areas(pid, views.data(), static_cast<u32>(views.size()));
  if (count > views.size()) {
    views.resize(count);
    count = kernel_->areas(pid, views.data(), count);
  }
  views.resize(count);
  return views;
}

Context Driver::context(const Proc& proc) const {
  return Context{world_, proc, setup_, kernel_->meminfo().commit_limit, top(), {}};
}

namespace {

u32 mmap_flags(const Op& op) {
  u32 flags = op.has(FlagBit::shared) ? kMapShared : kMapPrivate;
  if (op.file == kNoFile) flags |= kMapAnonymous;
  constexpr struct {
    FlagBit ours;
    u32 linux;
  } kFlags[] = {{FlagBit::fixed, kMapFixed},         {FlagBit::noreplace, kMapFixedNoreplace},
                {FlagBit::noreserve, kMapNoreserve}, {FlagBit::locked, kMapLocked},
                {FlagBit::populate, kMapPopulate},   {FlagBit::growsdown, kMapGrowsdown}};
  for (const auto& f : kFlags) {
    if (op.has(f.ours)) flags |= f.linux;
  }
  return flags;
}

// What no process has open.
constexpr i32 kBadFd = 31;

}  // namespace

Result<u64> Driver::call(const Proc& proc, const Op& op) {
  const Pid pid = proc.pid;
  switch (op.kind) {
    case OpKind::mmap: {
      const bool open = op.file != kNoFile && proc.files[op.file].object != nullptr;
      return kernel_->mmap(pid, op.at, op.len, static_cast<u32>(op.prot), mmap_flags(op),
                           open ? proc.files[op.file].fd : kBadFd, op.off);
    }
    case OpKind::mremap: {
      const u32 flags = (op.has(FlagBit::may_move) ? kMremapMaymove : 0) |
                        (op.has(FlagBit::fixed) ? kMremapFixed : 0);
      return kernel_->mremap(pid, op.at, op.len, op.newlen, flags, op.to);
    }
    case OpKind::munmap: return kernel_->munmap(pid, op.at, op.len);
    case OpKind::mprotect: return kernel_->mprotect(pid, op.at, op.len, static_cast<u32>(op.prot));
    case OpKind::madvise: return kernel_->madvise(pid, op.at, op.len, static_cast<i32>(op.advice));
    case OpKind::mlock: return kernel_->mlock(pid, op.at, op.len);
    case OpKind::munlock: return kernel_->munlock(pid, op.at, op.len);
    case OpKind::mlockall:
      return kernel_->mlockall(pid, (op.has(FlagBit::current) ? kMclCurrent : 0) |
                                        (op.has(FlagBit::future) ? kMclFuture : 0));
    case OpKind::munlockall: return kernel_->munlockall(pid);
    case OpKind::msync:
      return kernel_->msync(pid, op.at, op.len,
                            (op.has(FlagBit::sync) ? kMsSync : 0) |
                                (op.has(FlagBit::async) ? kMsAsync : 0) |
                                (op.has(FlagBit::invalidate) ? kMsInvalidate : 0));
    default: fail("not a system call: " + print(op));
  }
}

void Driver::run_memory_call(u32 slot, const Op& op) {
  Proc& proc = *world_.at(slot);
  if (op.kind == OpKind::mmap && op.file != kNoFile) {
    if (op.file >= kFilesMax) return;
    // A program that could be changed would be another one.
    if (op.file >= kFirstProgram && op.has(FlagBit::shared)) return;
  }
  Context c = context(proc);
  c.kernel_areas = kernel_areas(proc.pid);
  const Prediction p = predict(c, op);
  const Result<u64> result = to_the_end(name_of(op.kind), [&] { return call(proc, op); });
  note(result);
  if (!result.ok()) {
    check_error(op, p, result.error());
    if (op.kind == OpKind::mlock || op.kind == OpKind::mlockall) after_failed_lock(slot, op);
    if (op.kind == OpKind::mremap) after_failed_remap(slot, op);
    if (op.kind == OpKind::madvise) after_failed_advice(slot, op, result.error(), p);
    return;
  }
  if (!p.success) fail(std::string(name_of(op.kind)) + " succeeds where it must not: " + print(op));
  if (op.kind == OpKind::mmap || op.kind == OpKind::mremap) {
    const u64 at = result.value();
    if ((at & kPageMask) != 0 || !place_is_right(c, op, at / kPageSize)) {
      fail(std::string(name_of(op.kind)) + " chooses a wrong place: " + std::to_string(at) + ", " +
           print(op));
    }
  } else if (result.value() != 0) {
    fail(std::string(name_of(op.kind)) + " returns other than zero: " + print(op));
  }
  if (op.kind == OpKind::madvise && op.len == 0) return;
  apply(c, op, result.value());
}

void Driver::check_error(const Op& op, const Prediction& p, Error error) {
  if (p.allows(error) || resource_error_is_right(error)) return;
  // A call that brings pages in needs room for all of them.
  const u64 pages = std::min(pages_of(op.at, op.len).pages(), setup_.frames * 8);
  const bool brings = op.kind == OpKind::madvise || op.kind == OpKind::mlock;
  const bool advice = op.kind == OpKind::madvise;
  const bool short_of_memory = error == Error::again || (advice && error == Error::no_memory);
  if (brings && short_of_memory && demand() + 2 * pages > supply()) return;
  // A call that brings pages in says ENOMEM for whatever kept one of them away, madvise EFAULT.
  const bool read_failed = fired(Failure::read_io) != 0 || damaged() != 0;
  if (error == (advice ? Error::fault : Error::no_memory) && read_failed) return;
  fail(std::string(name_of(op.kind)) + " refused with " + spillway::name_of(error) + ": " +
       print(op) + ", needs " + std::to_string(demand()) + " pages of " + std::to_string(supply()));
}

// The areas may be locked by now although pages are missing: what the kernel says is right, as
// long as only areas of the call changed.
void Driver::after_failed_lock(u32 slot, const Op& op) {
  Proc& proc = *world_.at(slot);
  PageRange range{0, kVpnEnd.v};
  if (op.kind == OpKind::mlock) {
    range = pages_of(op.at & ~kPageMask, op.len + (op.at & kPageMask));
  } else if (op.has(FlagBit::current)) {
    const Context c = context(proc);
    if (predict(c, op).success) proc.space->lock_future = op.has(FlagBit::future);
  }
  for (const AreaView& v : kernel_areas(proc.pid)) {
    const PageRange part = range.clip({v.range.start.v, v.range.end.v});
    if (!v.locked || part.empty()) continue;
    proc.space->change(part, [](ModelArea& a) { a.locked = true; });
  }
  bring_in(proc.space.get(), range);
}

// Moving to a fixed place begins with munmap of what is too much; the rest may be refused then.
void Driver::after_failed_remap(u32 slot, const Op& op) {
  Proc& proc = *world_.at(slot);
  const PageRange old = pages_of(op.at, op.len);
  const PageRange tail{old.first + pages_for(op.newlen).v, old.end};
  if (!op.has(FlagBit::fixed) || tail.empty()) return;
  for (const AreaView& v : kernel_areas(proc.pid)) {
    if (tail.overlaps({v.range.start.v, v.range.end.v})) return;
  }
  proc.space->unmap(tail);
}

// A hole is reported when the advice was followed elsewhere.
void Driver::after_failed_advice(u32 slot, const Op& op, Error error, const Prediction& p) {
  Space& space = *world_.at(slot)->space;
  const PageRange range = pages_of(op.at, op.len);
  if (op.advice == 22 || op.advice == 23) {
    bring_in(&space, range);
  } else if (error == Error::again) {
    // Some areas have followed. What one page is asked for is done, or not at all.
    for (const ModelArea& a : space.areas_in(range)) {
      const PageRange pages = a.range.clip(range);
      for (u64 page = pages.first; page < pages.end; ++page) {
        Op part = op;
        part.at = page * kPageSize;
        part.len = kPageSize;
        const Proc& proc = *world_.at(slot);
        if (to_the_end("madvise", [&] { return call(proc, part); }).ok()) {
          apply(context(proc), part, 0);
        }
      }
    }
  } else if (error == Error::no_memory && p.allows(error)) {
    for (const ModelArea& a : space.areas_in(range)) {
      Op part = op;
      const PageRange pages = a.range.clip(range);
      part.at = pages.first * kPageSize;
      part.len = pages.pages() * kPageSize;
      apply(context(*world_.at(slot)), part, 0);
    }
  }
}

void Driver::run_brk(u32 slot, const Op& op) {
  Proc& proc = *world_.at(slot);
  const Context c = context(proc);
  const u64 wanted = proc.space->brk_start + op.at;
  const u64 want = predict_brk(c, wanted);
  const Result<u64> result = to_the_end("brk", [&] { return kernel_->brk(proc.pid, wanted); });
  note(result);
  if (!result.ok()) fail(std::string("brk fails: ") + spillway::name_of(result.error()));
  const u64 got = result.value();
  // For want of memory, or of areas, the break may stay where it is.
  const bool may_stay = resource_error_is_right(Error::no_memory) || setup_.map_count_max < 1000;
  if (got != want && !(got == proc.space->brk && may_stay)) {
    fail("brk returns a wrong break: " + std::to_string(got) + " instead of " +
         std::to_string(want));
  }
  apply_brk(proc.space.get(), got);
}

void Driver::run_mincore(u32 slot, const Op& op) {
  Proc& proc = *world_.at(slot);
  const Context c = context(proc);
  const Prediction p = predict(c, op);
  const PageRange range = pages_of(op.at, op.len);
  // A range that is longer than all areas is refused before the vector is touched.
  std::vector<u8> vec(std::min(range.pages(), proc.space->total_vm()) + 1, 0x77);
  const Result<u64> result = kernel_->mincore(proc.pid, op.at, op.len, vec.data());
  if (!result.ok()) {
    check_error(op, p, result.error());
    return;
  }
  if (!p.success) fail("mincore succeeds where it must not: " + print(op));
  for (u64 i = 0; i < range.pages(); ++i) {
    if (vec[i] > 1) fail("mincore leaves a byte unset: " + print(op));
    note(vec[i]);
  }
  if (vec.back() != 0x77) fail("mincore writes beyond its vector: " + print(op));
}

Driver::Step Driver::perform_msync(u32 slot, Waiting* w) {
  Proc& proc = *world_.at(slot);
  const Op& op = w->op;
  const Prediction p = predict(context(proc), op);
  const Result<u64> result = call(proc, op);
  note(result);
  if (!result.ok()) {
    if (result.error() == Error::wait) return Step::wait;
    if (!p.allows(result.error())) check_sync_error(op, result.error());
    return Step::done;
  }
  if (!p.success) fail("msync succeeds where it must not: " + print(op));
  if (!op.has(FlagBit::sync)) return Step::done;
  const PageRange range = pages_of(op.at, op.len);
  for (const ModelArea& a : proc.space->areas_in(range)) {
    if (!a.shared || a.object->kind != ObjectKind::file) continue;
    const PageRange part = a.range.clip(range);
    check_on_device(*a.object, {a.index_of(part.first), a.index_of(part.end - 1) + 1}, op);
  }
  return Step::done;
}

}  // namespace spillway::ksim
