// What must hold whatever happened: audits, justified shortage, the end.

#include <algorithm>

#include "driver.h"

namespace spillway::sim {
namespace {

// Frames in transit: a transfer from disk, a segment being cleaned, what a fault holds while it
// works.
constexpr u64 kSlackFrames = 40;

}  // namespace

bool Driver::failed_at_least_once(std::initializer_list<Failure> kinds) const {
  return std::any_of(kinds.begin(), kinds.end(),
                     [&](Failure f) { return sim_.failures().fired(f) != 0; });
}

// Pages that need room of their own: locked ones need a frame, written ones a frame or swap.
u64 Driver::demand() const {
  u64 pages = locked();
  for (const Space& space : spaces_) pages += space.model->solid_pages();
  return pages;
}

u64 Driver::locked() const {
  u64 pages = 0;
  for (const Space& space : spaces_) pages += space.model->locked_vm();
  return pages;
}

// Frames that programs can surely have: those that are not the manager's.
u64 Driver::frame_supply() const {
  const Snapshot s = system_->snapshot();
  // A disk needs a pool of some size to collect pages in.
  u64 pool = setup_.pool_max;
  if (sim_.has_disk()) pool = std::max(pool, std::min<u64>(4 * kIoFramesMax, setup_.frames / 4));
  // Of the pool, two open segments may be empty and half of the others dead; what is live in
  // the rest are programs' pages.
  pool = std::min(pool, 2 * kIoFramesMax + pool / 2);
  const u64 managers = s.frames_kernel + s.frames_tables + s.frames_swap_meta + s.frames_reserved +
                       s.watermark_min + pool + kSlackFrames;
  return least_budget_ > managers ? least_budget_ - managers : 0;
}

// What the machine can hold at least, counted without any help of compression, and of the disk
// only what is left when many segments are half dead.
u64 Driver::supply() const {
  return frame_supply() + std::min(least_disk_ * 2 / 5, setup_.slots_max);
}

bool Driver::shortage_is_possible() const {
  if (failed_at_least_once({Failure::acquire_quota, Failure::bring_online, Failure::claim_segment,
                            Failure::write_io, Failure::write_torn, Failure::write_no_space,
                            Failure::read_io, Failure::protect})) {
    return true;
  }
  // Segments that a relative holds cannot be used again; held pages cannot be evicted.
  if (!relatives_.empty() || setup_.busy_one_in != 0 || sim_.mmu().any_pinned()) return true;
  return demand() > supply() || locked() > frame_supply();
}

bool Driver::resource_error_is_right(Error error) const {
  switch (error) {
    case Error::io: return failed_at_least_once({Failure::read_io});
    case Error::corrupt: return sim_.has_disk() && sim_.disk().damaged() != 0;
    case Error::no_memory:
    case Error::no_space:
    case Error::again: return shortage_is_possible();
    default: return false;
  }
}

std::string Driver::describe_state() const {
  if (system_ == nullptr) return "not booted";
  const Snapshot s = system_->snapshot();
  using harness::field;
  return "frames:" + field("online", s.frames_online) + field("free", s.frames_free) +
         field("kernel", s.frames_kernel) + field("tables", s.frames_tables) +
         field("slot_tables", s.frames_swap_meta) + field("pool", s.frames_pool) +
         field("mapped", s.mapped) + field("unmapped", s.unmapped) + field("locked", s.locked) +
         field("min", s.watermark_min) + field("granted", sim_.frames().granted().v) +
         field("budget", sim_.frames().budget().v) + "; swap:" + field("slots", s.slots_used) +
         field("pool_live_bytes", s.pool_bytes_live) + field("segments", s.disk_segments_used) +
         field("in_flight", sim_.pending());
}

void Driver::audit() {
  require_sound(system_->audit());
  const Snapshot s = system_->snapshot();
  const auto check = [&](const char* what, u64 got, u64 want) {
    if (got == want) return;
    fail(std::string("snapshot: ") + what + ": " + std::to_string(got) + " instead of " +
         std::to_string(want));
  };
  check("mapped", s.mapped, sim_.mmu().mapped_pages());
  check("frames_total", s.frames_total, setup_.frames);
  check("frames_online", s.frames_online, sim_.frames().online().v);
  u64 areas = 0;
  u64 total_vm = 0;
  for (const Space& space : spaces_) {
    if (space.model == nullptr) continue;
    areas += space.model->area_count();
    total_vm += space.model->total_vm();
  }
  if (!inconclusive_) {
    check("areas", s.areas, areas);
    check("total_vm", s.total_vm, total_vm);
  }
  if (sim_.has_disk()) check("segments", s.disk_segments_used, sim_.disk().segments_claimed());
}

// Frames that others want are given back when the work is done, unless what is left would not do.
void Driver::check_given_back() const {
  // A System may keep this many whatever others want; fewer could not serve a fault.
  constexpr u64 kKeepFrames = 256;
  if (sim_.frames().online().v <= kKeepFrames || shortage_is_possible()) return;
  if (sim_.frames().granted() > sim_.frames().budget()) {
    fail("frames are not given back: " + describe_state());
  }
}

// Reads every page that was ever written, where the area lets it be read. A page that cannot be
// brought in for want of memory or because of an injected failure is skipped.
void Driver::verify_all() {
  for (u32 t = 0; t < tasks_.size() && t < spaces_.size() && !inconclusive_; ++t) {
    const SpaceModel& m = *spaces_[tasks_[t].space].model;
    for (const ModelArea& area : m.areas()) {
      if (area.kind.foreign || area.kind.prot != Prot::none) continue;
      Op open;
      open.kind = OpKind::mprotect;
      open.task = t;
      open.at = area.range.first * kPageSize;
      open.len = area.range.pages() * kPageSize;
      open.prot = Prot::read;
      run_task_op(&tasks_[t], open);
      if (tasks_[t].waiting.has_value()) drive(&tasks_[t]);
    }
    for (u64 page = m.next_written(0); page != ~u64{0}; page = m.next_written(page + 1)) {
      verify_page(t, page);
    }
  }
}

void Driver::verify_page(u32 task, u64 page) {
  Op load;
  load.kind = OpKind::load;
  load.task = task;
  load.at = page * kPageSize;
  load.len = kPageSize;
  run_task_op(&tasks_[task], load);
  if (tasks_[task].waiting.has_value()) drive(&tasks_[task]);
}

void Driver::check_nothing_is_left() {
  const Snapshot s = system_->snapshot();
  const auto check = [&](const char* what, u64 left) {
    if (left != 0) fail(std::string("leak: ") + what + ": " + std::to_string(left));
  };
  check("mapped", sim_.mmu().mapped_pages());
  check("frames_user", s.frames_user);
  check("frames_tables", s.frames_tables);
  check("slots_used", s.slots_used);
  check("pool_bytes_live", s.pool_bytes_live);
  check("disk_segments_used", s.disk_segments_used);
  check("areas", s.areas);
  check("total_vm", s.total_vm);
  if (sim_.has_disk()) check("segments claimed", sim_.disk().segments_claimed());
}

}  // namespace spillway::sim
