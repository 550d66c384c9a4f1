// What must hold whatever happened: audits, areas, justified shortage, the end.

#include <algorithm>

#include "driver.h"

namespace spillway::ksim {
namespace {

// Frames in transit, of tables, slabs, records of slots and the reserve.
constexpr u64 kSlackFrames = 40;
// Areas longer than that are read where something was written, and at their ends.
constexpr u64 kReadWholePages = 600;

// An area as both sides can see it; neighbours that look the same count as one.
struct Seen {
  PageRange range;
  Prot prot;
  bool shared, growsdown, locked, noreserve;
  u32 mapping;
  u64 pgoff;

  bool joins(const Seen& after) const {
    return range.end == after.range.first && prot == after.prot && shared == after.shared &&
           growsdown == after.growsdown && locked == after.locked && noreserve == after.noreserve &&
           mapping == after.mapping && (mapping == 0 || pgoff + range.pages() == after.pgoff);
  }
  bool operator==(const Seen& o) const {
    return range.first == o.range.first && range.end == o.range.end && prot == o.prot &&
           shared == o.shared && growsdown == o.growsdown && locked == o.locked &&
           noreserve == o.noreserve && mapping == o.mapping && pgoff == o.pgoff;
  }
};

void add_seen(std::vector<Seen>* list, Seen next) {
  if (next.mapping == 0) next.pgoff = 0;
  if (!list->empty() && list->back().joins(next)) {
    list->back().range.end = next.range.end;
  } else {
    list->push_back(next);
  }
}

std::string describe(const std::vector<Seen>& list, u64 i) {
  if (i >= list.size()) return "none";
  const Seen& s = list[i];
  return std::to_string(s.range.first) + "-" + std::to_string(s.range.end) + " prot " +
         std::to_string(static_cast<u32>(s.prot)) + (s.shared ? " shared" : "") +
         (s.growsdown ? " growsdown" : "") + (s.locked ? " locked" : "") +
         (s.noreserve ? " noreserve" : "") + " mapping " + std::to_string(s.mapping) + " pgoff " +
         std::to_string(s.pgoff);
}

}  // namespace

// The object's number in the kernel's views, from whichever view shows it; 0 if none does.
u32 Driver::mapping_id_of(const Object& object) const {
  if (object.kind == ObjectKind::file) {
    const bool linked = object.number < kFilesMax && world_.files[object.number].get() == &object;
    FileView files[64];
    const u32 count = std::min<u32>(kernel_->files(files, 64), 64);
    const std::string name = "f" + std::to_string(object.number);
    for (u32 i = 0; i < count; ++i) {
      const FileView& v = files[i];
      // An unlinked file may have had the same name.
      if (object.inode_number == 0 && linked && v.linked && name == v.name) {
        object.inode_number = v.number;
      }
      if (object.inode_number != 0 && object.inode_number == v.number) return v.mapping;
    }
    return 0;
  }
  if (object.mapping_id != 0) return object.mapping_id;
  ShmView segments[64];
  const u32 count = std::min<u32>(kernel_->segments(segments, 64), 64);
  for (u32 i = 0; i < count; ++i) {
    if (object.kind == ObjectKind::segment && segments[i].id == object.shm_id) {
      return segments[i].mapping;
    }
  }
  return 0;
}

void Driver::check_areas(u32 slot) {
  const Proc& proc = *world_.at(slot);
  const std::vector<AreaView> views = kernel_areas(proc.pid);
  std::vector<Seen> theirs;
  std::vector<Seen> ours;
  for (const AreaView& v : views) {
    add_seen(&theirs, {{v.range.start.v, v.range.end.v},
                       v.prot,
                       v.shared,
                       v.growsdown,
                       v.locked,
                       v.noreserve,
                       v.mapping,
                       v.pgoff});
  }
  for (const ModelArea& a : proc.space->areas()) {
    u32 id = 0;
    if (a.object != nullptr) {
      id = mapping_id_of(*a.object);
      if (id == 0) {
        // Shared memory without a name is known by its areas only: the first one tells its number.
        for (const AreaView& v : views) {
          if (v.range.start.v <= a.range.first && a.range.first < v.range.end.v) id = v.mapping;
        }
      }
      a.object->mapping_id = id;
    }
    add_seen(&ours,
             {a.range, a.prot, a.may_share, a.growsdown, a.locked, a.noreserve, id, a.pgoff});
  }
  for (u64 i = 0; i < std::max(ours.size(), theirs.size()); ++i) {
    if (i < ours.size() && i < theirs.size() && ours[i] == theirs[i]) continue;
    fail("areas: p" + std::to_string(slot) + " has " + describe(theirs, i) + " instead of " +
         describe(ours, i));
  }
}

// What views say must be what the model knows.
void Driver::check_views() {
  const MemInfo info = kernel_->meminfo();
  if (info.committed_as != world_.committed()) {
    fail("committed: " + std::to_string(info.committed_as) + " instead of " +
         std::to_string(world_.committed()));
  }
  std::vector<TaskView> tasks(Kernel::kTasksMax);
  const u32 count = kernel_->tasks(tasks.data(), Kernel::kTasksMax);
  u32 seen = 0;
  for (u32 slot = 0; slot < kSlotsMax; ++slot) {
    const Proc* proc = world_.at(slot);
    if (proc == nullptr) continue;
    for (u32 i = 0; i < count; ++i) {
      if (tasks[i].pid != proc->pid.v) continue;
      ++seen;
      const Space& space = *proc->space;
      if (tasks[i].total_vm != space.total_vm() || tasks[i].locked_vm != space.locked_vm() ||
          tasks[i].brk.v != space.brk || tasks[i].start_brk.v != space.brk_start) {
        fail("tasks: total_vm, locked_vm or brk of p" + std::to_string(slot) + " is wrong");
      }
    }
  }
  if (seen != count) fail("tasks: " + std::to_string(count) + " of " + std::to_string(seen));
  for (const ObjectPtr& s : world_.segments) {
    if (s == nullptr) continue;
    ShmView views[64];
    const u32 n = std::min<u32>(kernel_->segments(views, 64), 64);
    const auto* v =
        std::find_if(views, views + n, [&](const ShmView& x) { return x.id == s->shm_id; });
    if (v == views + n) fail("segments: one is missing");
    if (v->dest != s->dest || v->locked != s->locked || v->size_bytes != s->size_bytes) {
      fail("segments: flags or size are wrong");
    }
  }
  for (u32 i = 0; i < kFilesMax; ++i) {
    if (world_.files[i] == nullptr) continue;
    FileView views[64];
    const u32 n = std::min<u32>(kernel_->files(views, 64), 64);
    const std::string name = "f" + std::to_string(i);
    const auto* v = std::find_if(views, views + n,
                                 [&](const FileView& x) { return x.linked && name == x.name; });
    if (v == views + n) fail("files: one is missing");
    if (v->size_bytes != world_.files[i]->size_bytes) fail("files: a wrong size");
  }
}

void Driver::audit() {
  forget_removed_segments();
  require_sound(kernel_->audit());
  if (counters_[Counter::oom_kill] != victims_) {
    fail("oom: " + std::to_string(counters_[Counter::oom_kill]) + " kills and " +
         std::to_string(victims_) + " victims");
  }
  for (u32 slot = 0; slot < kSlotsMax; ++slot) {
    if (world_.at(slot) != nullptr) check_areas(slot);
  }
  check_views();
}

u64 Driver::fired_on(std::initializer_list<Failure> kinds, u32 first, u32 last) const {
  u64 sum = 0;
  for (const Failure f : kinds) {
    for (u32 d = first; d <= last && d < sim_.block_count(); ++d) {
      sum += sim_.block(d).failures().fired(f);
    }
  }
  return sum;
}

u64 Driver::fired(Failure failure) const {
  return sim_.failures().fired(failure) + fired_on({failure}, 0, sim_.block_count());
}

u64 Driver::damaged() const {
  u64 sum = sim_.has_disk() ? sim_.disk().damaged() : 0;
  for (u32 d = 0; d < sim_.block_count(); ++d) sum += sim_.block(d).damaged();
  return sum;
}

// A failed read is told at most once.
void Driver::read_error_told(const Op& op) {
  if (++read_errors_told_ > fired(Failure::read_io)) {
    fail(std::string(name_of(op.kind)) +
         " tells of more failed reads than there were: " + print(op));
  }
}

// Pages with contents, once each, and locked ones.
u64 Driver::demand() const {
  u64 pages = 0;
  for (const SpacePtr& s : world_.spaces()) {
    pages += s->own().size() + s->locked_vm();
    pages += 4 + s->area_count() / 4;  // tables and records
  }
  for (const ObjectPtr& o : world_.objects()) pages += o->pages.size();
  return pages;
}

u64 Driver::supply() const {
  u64 pages = setup_.frames > kSlackFrames ? setup_.frames - kSlackFrames : 0;
  const u64 pool = std::min(setup_.pool_max, pages / 2);
  pages -= pool / 2;
  const u64 sizes[] = {0, setup_.swap1, setup_.swap2, setup_.swap3};
  for (u32 d = 1; d < 4; ++d) {
    if (swap_on_[d] && sizes[d] > 1 && swapoff_ != d) pages += sizes[d] - 1;
  }
  // Linux 2.4 knows no tiers.
  const bool tiers = setup_.policy != static_cast<u64>(Policy::linux24);
  return pages + (tiers ? setup_.disk_pages * 2 / 5 : 0);
}

bool Driver::shortage_is_possible() const {
  for (u32 f = 0; f < kFailureCount; ++f) {
    if (fired(static_cast<Failure>(f)) != 0) return true;
  }
  if (setup_.busy_one_in != 0 || sim_.mmu().any_pinned()) return true;
  // Tables and kernel stacks fill memory: no page is left that could go.
  const MemInfo m = kernel_->meminfo();
  if (m.anon_pages + m.cached + m.swap_cached <= m.unevictable) return true;
  u64 locked = 0;
  for (const SpacePtr& s : world_.spaces()) locked += s->locked_vm();
  for (const ObjectPtr& o : world_.objects()) {
    if (o->locked) locked += o->pages.size();
  }
  const u64 room = setup_.frames > kSlackFrames ? setup_.frames - kSlackFrames : 0;
  u64 wanted = demand();
  if (setup_.fresh_around > 1) {
    // Windows of fresh pages are brought in around each that is touched.
    for (const SpacePtr& s : world_.spaces()) wanted += s->total_vm();
  }
  // Tables, records, readahead and the reserve take their part.
  return wanted + wanted / 8 > supply() || locked * 2 > room;
}

bool Driver::resource_error_is_right(Error error) const {
  switch (error) {
    case Error::no_memory:
    case Error::no_space:
    case Error::again: return shortage_is_possible();
    default: return false;
  }
}

std::string Driver::describe_state() const {
  if (kernel_ == nullptr) return "not booted";
  const MemInfo m = kernel_->meminfo();
  using harness::field;
  return "frames:" + field("total", m.mem_total) + field("free", m.mem_free) +
         field("tables", m.page_tables) + field("slab", m.slab) +
         field("kernel_stack", m.kernel_stack) + field("swap_meta", m.swap_meta) +
         field("pool", m.pool) + field("cached", m.cached) + field("swap_cached", m.swap_cached) +
         field("anon", m.anon_pages) + field("mapped", m.mapped) + field("dirty", m.dirty) +
         field("writeback", m.writeback) + field("locked", m.unevictable) +
         field("min", m.watermark_min) + "; swap:" + field("total", m.swap_total) +
         field("free", m.swap_free) + "; " + field("in_flight", sim_.pending());
}

void Driver::verify_page(u32 slot, u64 page) {
  Op load;
  load.kind = OpKind::load;
  load.task = slot;
  load.at = page * kPageSize;
  load.len = kPageSize;
  run_task_op(slot, load);
  if (world_.at(slot) != nullptr && waiting_[slot].has_value()) drive(slot);
}

void Driver::verify_space(u32 slot) {
  for (const ModelArea& area : world_.at(slot)->space->areas()) {
    if (!permits(area.prot, Access::read)) continue;
    u64 end = area.range.end;
    if (area.object != nullptr) {
      const u64 size = area.object->size_pages();
      const u64 pages = size > area.pgoff ? size - area.pgoff : 0;
      end = std::min(end, area.range.first + pages);
    }
    const bool whole = area.range.pages() <= kReadWholePages;
    for (u64 page = area.range.first; page < end; ++page) {
      if (world_.at(slot) == nullptr) return;  // a victim of its own reading
      const Space& space = *world_.at(slot)->space;
      const bool written =
          space.own().count(page) != 0 ||
          (area.object != nullptr && area.object->pages.count(area.index_of(page)) != 0);
      if (whole || written || page < area.range.first + 4 || page + 4 >= end) {
        verify_page(slot, page);
      }
    }
  }
}

void Driver::verify_all() {
  for (u32 slot = 0; slot < kSlotsMax; ++slot) {
    if (world_.is_leader(slot)) verify_space(slot);
  }
  audit();
}

// Files are read once more, by somebody who has them open only now, and synced.
void Driver::verify_files() {
  u32 slot = 0;
  while (slot < kSlotsMax && world_.at(slot) != nullptr) ++slot;
  if (slot == kSlotsMax) {
    slot = 0;
    kernel_->exit(world_.at(slot)->pid, 0);
    process_ended(world_.at(slot)->leader, 0);
  }
  spawn(slot);
  if (world_.at(slot) == nullptr) return;
  const auto run_one = [&](Op op) {
    if (world_.at(slot) == nullptr) return;
    op.task = slot;
    run_task_op(slot, op);
    if (waiting_[slot].has_value()) drive(slot);
    find_victims();
  };
  for (u32 i = 0; i < kFilesMax; ++i) {
    if (world_.files[i] == nullptr) continue;
    Op op;
    op.file = i;
    op.kind = OpKind::open;
    op.flags = bit(FlagBit::read);
    run_one(op);
    op.kind = OpKind::pread;
    op.len = world_.files[i]->size_bytes + 10;
    run_one(op);
    op.kind = OpKind::fsync;
    run_one(op);
    op.kind = OpKind::close;
    run_one(op);
  }
}

// Names of files and segments go before the processes: without swap there may be too little to
// promise for a process that does it afterwards.
void Driver::end_everything() {
  u32 last = 0;
  while (last < kSlotsMax && !world_.is_leader(last)) ++last;
  if (last == kSlotsMax) {
    last = 0;
    spawn(last);
  }
  if (world_.at(last) != nullptr) {
    const Pid pid = world_.at(last)->pid;
    forget_removed_segments();
    for (ObjectPtr& s : world_.segments) {
      if (s == nullptr) continue;
      if (!kernel_->shmctl(pid, s->shm_id, kIpcRmid).ok()) fail("shmctl refused at the end");
      s->dest = true;
    }
    for (u32 i = 0; i < kFilesMax; ++i) {
      if (world_.files[i] == nullptr) continue;
      const std::string path = "f" + std::to_string(i);
      if (!kernel_->unlink(pid, path.c_str()).ok()) fail("unlink refused at the end");
      world_.files[i] = nullptr;
    }
  }
  for (u32 slot = 0; slot < kSlotsMax; ++slot) {
    if (!world_.is_leader(slot)) continue;
    kernel_->exit(world_.at(slot)->pid, 7);
    process_ended(slot, 7);
  }
  settle();
  for (u32 d = 1; d < setup_.devices(); ++d) {
    if (!swap_on_[d]) continue;
    const Result<u64> off = to_the_end("swapoff", [&] { return kernel_->swapoff(d); });
    if (!off.ok())
      fail(std::string("leak: swapoff refused with ") + spillway::name_of(off.error()));
    swap_on_[d] = false;
  }
  settle();
}

void Driver::check_nothing_is_left() {
  forget_removed_segments();
  // Nobody could be had who removes them.
  if (!world_.objects().empty()) return;
  const MemInfo m = kernel_->meminfo();
  const auto check = [&](const char* what, u64 left, u64 most) {
    if (left > most) fail(std::string("leak: ") + what + ": " + std::to_string(left));
  };
  check("mapped pages", sim_.mmu().mapped_pages(), 0);
  check("cached", m.cached, 0);
  check("swap_cached", m.swap_cached, 0);
  check("anon_pages", m.anon_pages, 0);
  check("page_tables", m.page_tables, 0);
  check("committed_as", m.committed_as, 0);
  check("swap_total", m.swap_total, 0);
  FileView files[1];
  check("files", kernel_->files(files, 1), 0);
  ShmView segments[1];
  check("segments", kernel_->segments(segments, 1), 0);
  if (sim_.has_disk()) check("disk segments", sim_.disk().segments_claimed(), 0);
  // Object caches may keep a slab or two for the next time.
  const u64 used = m.mem_total - m.mem_free;
  const u64 used_at_boot = at_boot_.mem_total - at_boot_.mem_free;
  const u64 kept = m.slab + m.swap_meta + m.pool;
  if (used > used_at_boot + kept) {
    std::string text = "leak: frames: " + std::to_string(used) + ", " +
                       std::to_string(used_at_boot) + " at boot, slabs " + std::to_string(m.slab);
    for (u64 i = 0; i < setup_.frames; ++i) {
      const FrameView f = kernel_->frame(Pfn(static_cast<u32>(i)));
      if (f.state == PageState::free || f.state == PageState::pcp) continue;
      text += std::string(", ") + spillway::name_of(f.state) + "/" + spillway::name_of(f.owner);
    }
    fail(text);
  }
  check("slabs", m.slab, at_boot_.slab + 8);
}

}  // namespace spillway::ksim
