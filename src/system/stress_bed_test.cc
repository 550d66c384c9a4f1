// The operations of the stress bed. See stress_bed_test.h.
#include "system/stress_bed_test.h"
#include "vfs/test_file_test.h"

#include <algorithm>
#include <cstdarg>

namespace spillway {

std::string StressWalk::text() const {
  std::string out;
  const size_t first = lines_.size() > 80 ? lines_.size() - 80 : 0;
  for (size_t i = first; i < lines_.size(); ++i) {
    const Line& line = lines_[i];
    out += std::string(2 * line.depth, ' ') + line.function + " ";
    for (const char* at = line.text; *at != 0; ++at) {
      if (*at != '{') {
        out += *at;
        continue;
      }
      const u64 value = line.values[at[1] - 'a'];
      char number[32];
      if (at[2] == ':' && at[3] == 's') {
        out += reinterpret_cast<const char*>(value);
      } else {
        std::snprintf(number, sizeof number, at[2] == ':' ? "0x%llx" : "%llu",
                      static_cast<unsigned long long>(value));
        out += number;
      }
      while (*at != '}') ++at;
    }
    out += "\n";
  }
  return out;
}

void StressBed::log(const char* format, ...) {
  char text[200];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  log_.push_back(std::to_string(steps_) + " " + text);
  if (log_.size() > 40) log_.pop_front();
  if (std::getenv("SPW_STRESS_LOG") != nullptr) std::fprintf(stderr, "%s\n", log_.back().c_str());
}

std::string StressBed::story() const {
  std::string text = std::string("policy ") + policy_name(policy_) + ", seed " +
                     std::to_string(seed_) + ", step " + std::to_string(steps_) + "\n";
  for (const std::string& line : log_) text += line + "\n";
  return text + walk_.text();
}

void StressBed::panicked(const PanicInfo& info) {
  std::fprintf(stderr, "%s:%d: %s (%llu, %llu)\n%s", info.file, info.line, info.expression,
               static_cast<unsigned long long>(info.left),
               static_cast<unsigned long long>(info.right), story().c_str());
}

void StressBed::check() {
  const AuditReport report = system().audit();
  ASSERT_TRUE(report.ok) << report.what << " " << report.left << " " << report.right << "\n"
                         << story();
  ASSERT_EQ(sim.mmu().mirror_difference(), "") << story();
}

template <class Call>
auto StressBed::finish_call(Call call) -> decltype(call()) {
  for (u32 tries = 0;; ++tries) {
    const auto result = call();
    if (result.ok() || result.error() != Error::wait) return result;
    if (!one_io() && tries > 100) {
      ADD_FAILURE() << "a call waits for nothing\n" << story();
      return result;
    }
  }
}

void StressBed::boot() {
  ASSERT_TRUE(impl->boot().ok());
  for (u32 i = 0; i < setup.areas.size(); ++i) {
    ASSERT_TRUE(finish_call([&] { return impl->swap.areas().format(i, {}); }).ok());
    const i32 priority = prng.one_in(2) ? 5 : SwapAreas::kPriorityDefault;
    ASSERT_TRUE(
        finish_call([&] { return impl->swap.areas().swap_on(i, priority, PageCount(0)); }).ok());
  }
  for (u64 i = 0; i < kFiles; ++i) {
    auto file = std::make_shared<StressObject>();
    const u64 pages = prng.between(8, 150);
    const std::string name = "file" + std::to_string(i);
    file->inode = make_test_file(impl->vfs, name.c_str(), pages, 200);
    file->bytes.resize(pages * kPageSize);
    files.push_back(file);
  }
  for (u32 i = 0; i < 1 + setup.machine.seed % 2; ++i) ASSERT_NO_FATAL_FAILURE(op_space());
  for (u32 i = 0; i < 6; ++i) ASSERT_NO_FATAL_FAILURE(op_map());
}

void StressBed::run(u32 steps) {
  for (u32 i = 0; i < steps; ++i) {
    ++steps_;
    walk_.clear();
    step();
    if (failed()) return;
    check();
    if (failed()) return;
  }
}

void StressBed::step() {
  StressTask& task = tasks[prng.below(kTasks)];
  const u64 dice = prng.below(100);
  if (dice < 50) {
    if (!task.busy) start_access(task);
    drive(task);
  } else if (dice < 70) {
    op_sweep();
  } else if (dice < 78) {
    for (u64 n = prng.below(4); n-- > 0;) one_io();
  } else if (dice < 82) {
    op_background();
  } else if (dice < 86) {
    op_file();
  } else if (dice < 89) {
    op_map();
  } else if (dice < 91) {
    op_unmap();
  } else if (dice < 93) {
    op_fork();
  } else if (dice < 94) {
    if (prng.one_in(2)) op_exit();
  } else if (dice < 96) {
    op_advice();
  } else if (dice < 97) {
    op_protect();
  } else if (dice < 98) {
    op_lock();
  } else if (dice < 99) {
    op_truncate();
  } else {
    op_failures();
  }
}

StressSpace* StressBed::find_space(SpaceId id) {
  for (StressSpace& s : spaces) {
    if (s.id == id) return &s;
  }
  return nullptr;
}

StressSpace* StressBed::any_space() {
  if (spaces.empty()) op_space();
  return spaces.empty() ? nullptr : &spaces[prng.below(spaces.size())];
}

u64 StressBed::demand() const {
  u64 pages = 0;
  for (const StressSpace& s : spaces) {
    for (const StressRegion& r : s.regions) pages += r.is_private() ? r.pages : 0;
  }
  for (const auto& segment : segments) pages += segment->pages();
  return pages;
}

// Pages of one value, of a few words, and of noise: what compresses and what does not.
void StressBed::fill(std::vector<u8>& bytes) {
  const u64 kind = prng.below(3);
  const u8 value = static_cast<u8>(prng.next());
  for (u64 i = 0; i < bytes.size(); ++i) {
    bytes[i] = kind == 0   ? value
               : kind == 1 ? static_cast<u8>(value + i / 64)
                           : static_cast<u8>(prng.next());
  }
}

void StressBed::start_access(StressTask& task) {
  StressSpace* space = any_space();
  if (space == nullptr || space->regions.empty()) return;
  StressRegion& region = space->regions[prng.below(space->regions.size())];
  // Some pages are wanted more often than others.
  u64 page = prng.below(region.pages);
  if (prng.one_in(2)) page = page * page / region.pages / 2;
  task = StressTask{};
  task.busy = true;
  task.space = space->id;
  task.vpn = region.start + page;
  task.write = prng.one_in(2);
  const bool whole = prng.one_in(3);
  task.offset = whole ? 0 : prng.below(kPageSize);
  const u64 room = kPageSize - task.offset;
  task.data.resize(whole ? kPageSize : 1 + prng.below(room < 64 ? room : 64));
  if (task.write) fill(task.data);
}

// A process goes through a stretch of its memory, which fills the machine.
void StressBed::op_sweep() {
  StressSpace* space = any_space();
  if (space == nullptr || space->regions.empty()) return;
  const StressRegion& region = space->regions[prng.below(space->regions.size())];
  const SpaceId id = space->id;
  const Vpn first = region.start + prng.below(region.pages);
  const Vpn end = region.start + region.pages;
  const u64 count = prng.between(8, 100);
  const bool write = prng.one_in(2);
  StressTask& task = tasks[0];
  for (Vpn at = first; at < end && at < first + count; at = at + 1) {
    task = StressTask{};
    task.busy = true;
    task.space = id;
    task.vpn = at;
    task.write = write;
    task.data.resize(write && prng.one_in(2) ? kPageSize : 16);
    if (write) fill(task.data);
    while (task.busy && !failed()) {
      drive(task);
      if (task.busy) one_io();
    }
    if (failed()) return;
  }
}

void StressBed::drive(StressTask& task) {
  if (!task.busy) return;
  StressSpace* space = find_space(task.space);
  if (space == nullptr || space->find(task.vpn) == nullptr) {
    task.busy = false;  // unmapped meanwhile
    return;
  }
  const VirtAddr va = addr_of(task.vpn) + task.offset;
  std::vector<u8> got(task.data.size());
  const SimAccess access =
      task.write
          ? sim.store(system(), task.space, va, task.data.data(), task.data.size(), task.attempt)
          : sim.load(system(), task.space, va, got.data(), got.size(), task.attempt);
  log("%s space %u page %llu+%llu, %zu bytes, attempt %u: %u", task.write ? "store" : "load",
      unsigned{task.space.v}, static_cast<unsigned long long>(task.vpn.v - kRange.start.v),
      static_cast<unsigned long long>(task.offset), task.data.size(), task.attempt,
      static_cast<unsigned>(access.outcome));
  ended(task, access, got.data());
}

void StressBed::ended(StressTask& task, const SimAccess& access, const u8* got) {
  StressRegion& region = *find_space(task.space)->find(task.vpn);
  const u64 page = task.vpn.v - region.start.v;
  task.busy = false;
  switch (access.outcome) {
    case FaultOutcome::done: {
      ASSERT_TRUE(permits(region.prot, task.write ? Access::write : Access::read)) << story();
      ASSERT_FALSE(region.beyond_end(page)) << story();
      if (task.write) {
        std::memcpy(region.page_for_write(page) + task.offset, task.data.data(), task.data.size());
      } else {
        const u8* want = region.page(page) + task.offset;
        for (u64 i = 0; i < task.data.size(); ++i) {
          ASSERT_EQ(got[i], want[i]) << "SILENT CORRUPTION: byte " << task.offset + i << " of page "
                                     << task.vpn.v - kRange.start.v << "\n"
                                     << story();
        }
      }
      return;
    }
    case FaultOutcome::wait:
      task.busy = true;
      ++task.attempt;
      if (prng.one_in(2)) one_io();
      // A fault may ask for a moment without an I/O, but not for ever.
      ASSERT_LT(task.attempt, 3000U) << "a fault is retried for ever\n" << story();
      return;
    case FaultOutcome::accerr:
      ASSERT_FALSE(permits(region.prot, task.write ? Access::write : Access::read)) << story();
      return;
    case FaultOutcome::bus:
      ++buses;
      ASSERT_TRUE(ever_failed_ || region.beyond_end(page)) << story();
      return;
    case FaultOutcome::oom:
      ++ooms;
      ASSERT_TRUE(setup.may_run_out || failing_) << "out of memory without need\n" << story();
      ASSERT_EQ(could_go(), "") << "I36: out of memory while pages could go\n" << story();
      release_something();
      return;
    case FaultOutcome::maperr:
    case FaultOutcome::corrupt:
      FAIL() << "outcome " << static_cast<unsigned>(access.outcome) << "\n" << story();
  }
}

// Pages that reclaim could have freed, but for devices that hold or refuse pages.
std::string StressBed::could_go() const {
  std::string text;
  if (setup.machine.busy_one_in != 0 || ever_failed_) return text;
  const bool slots = impl->swap.areas().free_pages().v > 0;
  for (u32 i = 0; i < impl->frames.count().v; ++i) {
    const Page& page = impl->frames[Pfn(i)];
    if (page.state != PageState::mapped && page.state != PageState::unmapped) continue;
    if (page.queue == PageQueue::locked || impl->spaces.locked_by_area(Pfn(i))) continue;
    if (page.owner != PageOwner::file && !slots) continue;
    if (page.queue == PageQueue::inactive_clean) continue;  // as good as free: part of the reserve
    text += "frame " + std::to_string(i) + ": " + name_of(page.owner) + " " + name_of(page.state) +
            " on " + name_of(page.queue) + ", flags " + std::to_string(page.flags) + ", age " +
            std::to_string(page.age) + ", " + std::to_string(page.mapcount) + " mappings\n";
  }
  return text;
}

// As who sees the out-of-memory killer.
void StressBed::release_something() {
  if (spaces.size() > 1) {
    op_exit();
  } else {
    op_unmap();
  }
}

void StressBed::op_space() {
  if (spaces.size() == kSpacesMax) return;
  const Result<SpaceId> id =
      finish_call([&] { return system().create_space(kRange, PageCount(0)); });
  if (!id.ok()) return;
  log("space %u", unsigned{id.value().v});
  spaces.push_back({id.value(), {}});
  op_map();
}

Vpn StressBed::free_place(StressSpace& space, u64 pages) {
  for (u32 tries = 0; tries < 20; ++tries) {
    const Vpn at = kRange.start + prng.below(kRange.pages().v - pages);
    const VpnRange range{at, at + pages};
    const bool taken =
        std::any_of(space.regions.begin(), space.regions.end(),
                    [&](const StressRegion& r) { return r.range().overlaps(range); });
    if (!taken) return at;
  }
  return Vpn(0);
}

void StressBed::op_map() {
  StressSpace* space = any_space();
  if (space == nullptr || space->regions.size() >= 6) return;
  StressRegion r;
  r.pages = prng.between(1, prng.one_in(4) ? 8 : 140);
  r.start = free_place(*space, r.pages);
  if (r.start.v == 0) return;
  MapParams params;
  params.range = r.range();
  params.fixed = true;
  params.noreserve = true;
  const u64 kind = prng.below(8);
  std::shared_ptr<StressObject> made;
  if (kind >= 3) {
    if (kind < 5 && !segments.empty() && prng.one_in(2)) {
      r.object = segments[prng.below(segments.size())];
    } else if (kind < 5) {
      if (demand() + r.pages > setup.demand_max || segments.size() >= 3) return;
      made = std::make_shared<StressObject>();
      const Result<ShmObject*> object =
          impl->shmem.create(r.pages * kPageSize, prng.one_in(2), 7, true);
      if (!object.ok()) return;
      made->shm = object.value();
      made->bytes.resize(r.pages * kPageSize);
      r.object = made;
    } else {
      r.object = files[prng.below(files.size())];
    }
    r.shared = kind < 7;
    r.first = r.object->pages() <= 1 ? 0 : prng.below(r.object->pages());
    r.pages = std::min(r.pages, std::max<u64>(1, r.object->pages() - r.first));
    params.range = r.range();
    params.shared = params.may_share = r.shared;
    params.pgoff = r.first;
    params.mapping = r.object->shm != nullptr ? &r.object->shm->mapping : &r.object->inode->mapping;
    params.ops = r.object->shm != nullptr ? static_cast<AreaOps*>(&impl->shmem)
                                          : static_cast<AreaOps*>(&impl->file_areas);
    if (kind == 7 && prng.one_in(2)) r.prot = Prot::read_exec;
  }
  params.prot = r.prot;
  const bool fits = !r.is_private() || demand() + r.pages <= setup.demand_max;
  const bool mapped =
      fits && finish_call([&] { return impl->spaces.at(space->id).map(params); }).ok();
  if (!mapped) {
    if (made != nullptr) {
      if (made->shm->segment)
        impl->shmem.remove_segment(*made->shm);
      else
        impl->shmem.drop_unused(*made->shm);
    }
    return;
  }
  if (made != nullptr) segments.push_back(made);
  if (r.object != nullptr) ++r.object->regions;
  r.own.resize(r.is_private() ? r.pages * kPageSize : 0);
  r.owned.assign(r.pages, r.object == nullptr);
  log("map space %u at %llu, %llu pages, kind %llu, object page %llu", unsigned{space->id.v},
      static_cast<unsigned long long>(r.start.v - kRange.start.v),
      static_cast<unsigned long long>(r.pages), static_cast<unsigned long long>(kind),
      static_cast<unsigned long long>(r.first));
  space->regions.push_back(std::move(r));
}

// What the model knows of a range goes; objects that end with their last mapping too.
void StressBed::unmap(StressSpace& space, VpnRange range) {
  std::vector<StressRegion> kept;
  for (StressRegion& r : space.regions) {
    if (!r.range().overlaps(range)) {
      kept.push_back(std::move(r));
      continue;
    }
    const auto part = [&](Vpn from, Vpn to) {
      if (!(from < to)) return;
      StressRegion p = r;
      const u64 skip = from.v - r.start.v;
      p.start = from;
      p.pages = to.v - from.v;
      p.first = r.first + skip;
      p.owned.assign(r.owned.begin() + static_cast<i64>(skip),
                     r.owned.begin() + static_cast<i64>(skip + p.pages));
      if (r.is_private()) {
        p.own.assign(r.own.begin() + static_cast<i64>(skip << kPageShift),
                     r.own.begin() + static_cast<i64>((skip + p.pages) << kPageShift));
      }
      if (p.object != nullptr) ++p.object->regions;
      kept.push_back(std::move(p));
    };
    part(r.start, range.start < r.start + r.pages ? range.start : r.start + r.pages);
    part(range.end > r.start ? range.end : r.start, r.start + r.pages);
    if (r.object != nullptr) --r.object->regions;
  }
  space.regions = std::move(kept);
  std::erase_if(segments, [](const std::shared_ptr<StressObject>& s) {
    return s->regions == 0 && !s->shm->segment;
  });
}

void StressBed::op_unmap() {
  StressSpace* space = any_space();
  if (space == nullptr || space->regions.empty()) return;
  const StressRegion& r = space->regions[prng.below(space->regions.size())];
  VpnRange range = r.range();
  if (prng.one_in(2)) {
    const Vpn from = r.start + prng.below(r.pages);
    range = {from, from + 1 + prng.below(r.start.v + r.pages - from.v)};
  }
  const bool done =
      finish_call([&] {
        return system().munmap(space->id, addr_of(range.start), range.pages().bytes());
      }).ok();
  log("unmap space %u at %llu, %llu pages: %d", unsigned{space->id.v},
      static_cast<unsigned long long>(range.start.v - kRange.start.v),
      static_cast<unsigned long long>(range.pages().v), done ? 1 : 0);
  if (done) unmap(*space, range);
}

void StressBed::op_fork() {
  StressSpace* parent = any_space();
  if (parent == nullptr || spaces.size() == kSpacesMax) return;
  u64 more = 0;
  for (const StressRegion& r : parent->regions) more += r.is_private() ? r.pages : 0;
  if (demand() + more > setup.demand_max) return;
  const SpaceId parent_id = parent->id;
  for (u32 tries = 0; tries < 20; ++tries) {
    const Result<SpaceId> child =
        finish_call([&] { return system().create_space(kRange, PageCount(0)); });
    if (!child.ok()) return;
    const Status forked = impl->spaces.at(child.value()).fork_from(impl->spaces.at(parent_id));
    log("fork %u to %u: %d", unsigned{parent_id.v}, unsigned{child.value().v}, forked.ok() ? 1 : 0);
    if (forked.ok()) {
      StressSpace copy = *find_space(parent_id);
      copy.id = child.value();
      for (StressRegion& r : copy.regions) {
        r.locked = false;
        if (r.object != nullptr) ++r.object->regions;
      }
      spaces.push_back(std::move(copy));
      return;
    }
    system().destroy_space(child.value());
    check();
    if (failed() || forked.error() != Error::wait) return;
    one_io();
  }
}

void StressBed::destroy(StressSpace& space) {
  log("exit %u", unsigned{space.id.v});
  system().destroy_space(space.id);
  unmap(space, kRange);
  const SpaceId id = space.id;
  std::erase_if(spaces, [&](const StressSpace& s) { return s.id == id; });
  for (StressTask& task : tasks) {
    if (task.space == id) task.busy = false;
  }
}

void StressBed::op_exit() {
  if (spaces.size() > 1) destroy(*any_space());
}

void StressBed::op_file() {
  StressObject& file = *files[prng.below(files.size())];
  if (file.pages() == 0) return;
  if (prng.one_in(8)) {
    // Dirty entries too, as msync would: the flags go to the pages first.
    for (StressSpace& s : spaces) impl->spaces.at(s.id).collect_dirty(kRange);
    const Status synced = finish_call([&] { return impl->vfs.fsync(*file.inode); });
    log("sync: %d", synced.ok() ? 1 : 0);
    ASSERT_TRUE(synced.ok() || ever_failed_ || synced.error() == Error::again) << story();
    return;
  }
  const u64 offset = prng.below(file.bytes.size());
  std::vector<u8> data(1 + prng.below(std::min<u64>(3 * kPageSize, file.bytes.size() - offset)));
  u64 done = 0;
  if (prng.one_in(2)) {
    fill(data);
    const auto written = finish_call(
        [&] { return impl->vfs.write(*file.inode, offset, data.data(), data.size(), &done); });
    log("write file at %llu, %zu bytes: %d", static_cast<unsigned long long>(offset), data.size(),
        written.ok() ? 1 : 0);
    // What was done before an error is done.
    std::memcpy(file.bytes.data() + offset, data.data(), done);
    ASSERT_TRUE(written.ok() || ever_failed_ || written.error() == Error::no_memory) << story();
    return;
  }
  FileReadahead readahead;
  const auto read = finish_call([&] {
    return impl->vfs.read(*file.inode, readahead, offset, data.data(), data.size(), &done);
  });
  log("read file at %llu, %zu bytes: %d", static_cast<unsigned long long>(offset), data.size(),
      read.ok() ? 1 : 0);
  ASSERT_TRUE(read.ok() || ever_failed_ || read.error() == Error::no_memory) << story();
  ASSERT_EQ(std::memcmp(data.data(), file.bytes.data() + offset, done), 0)
      << "SILENT CORRUPTION of a file\n"
      << story();
}

// vmtruncate, to whole pages.
void StressBed::op_truncate() {
  StressObject& file = *files[prng.below(files.size())];
  const u64 old_pages = file.pages();
  const u64 pages = prng.between(4, 180);
  // Whoever waits for a page of the file would keep it busy.
  const Status sized =
      finish_call([&] { return impl->vfs.set_size(*file.inode, pages * kPageSize); });
  log("truncate to %llu pages: %d", static_cast<unsigned long long>(pages), sized.ok() ? 1 : 0);
  if (!sized.ok()) return;
  if (pages < old_pages) {
    for (StressSpace& s : spaces) {
      for (StressRegion& r : s.regions) {
        if (r.object.get() != &file || r.shared) continue;
        for (u64 i = 0; i < r.pages; ++i) {
          if (r.first + i >= pages) r.owned[i] = false;
        }
      }
    }
  }
  file.bytes.resize(pages * kPageSize);
}

void StressBed::op_advice() {
  StressSpace* space = any_space();
  if (space == nullptr || space->regions.empty()) return;
  StressRegion& r = space->regions[prng.below(space->regions.size())];
  const Vpn from = r.start + prng.below(r.pages);
  const VpnRange range{from, from + 1 + prng.below(r.start.v + r.pages - from.v)};
  constexpr Advice kAdvice[] = {Advice::dontneed, Advice::cold, Advice::pageout, Advice::willneed};
  const Advice advice = kAdvice[prng.below(4)];
  const auto result = finish_call([&] {
    return system().madvise(space->id, addr_of(range.start), range.pages().bytes(), advice);
  });
  log("advice %d space %u at %llu, %llu pages: %d", static_cast<int>(advice), unsigned{space->id.v},
      static_cast<unsigned long long>(range.start.v - kRange.start.v),
      static_cast<unsigned long long>(range.pages().v), result.ok() ? 1 : 0);
  if (advice != Advice::dontneed) return;
  ASSERT_EQ(result.ok(), !r.locked) << story();
  if (!result.ok() || r.shared) return;
  for (Vpn at = range.start; at < range.end; at = at + 1) {
    const u64 page = at.v - r.start.v;
    r.owned[page] = r.object == nullptr;
    std::memset(r.own.data() + (page << kPageShift), 0, kPageSize);
  }
}

void StressBed::op_protect() {
  StressSpace* space = any_space();
  if (space == nullptr || space->regions.empty()) return;
  StressRegion& r = space->regions[prng.below(space->regions.size())];
  constexpr Prot kProt[] = {Prot::read_write, Prot::read_write, Prot::read, Prot::none};
  const Prot prot = kProt[prng.below(4)];
  const bool done =
      finish_call([&] {
        return system().mprotect(space->id, addr_of(r.start), r.pages * kPageSize, prot);
      }).ok();
  log("protect space %u at %llu: %d, %d", unsigned{space->id.v},
      static_cast<unsigned long long>(r.start.v - kRange.start.v), static_cast<int>(prot),
      done ? 1 : 0);
  if (done) r.prot = prot;
}

void StressBed::op_lock() {
  StressSpace* space = any_space();
  if (space == nullptr || space->regions.empty()) return;
  StressRegion& r = space->regions[prng.below(space->regions.size())];
  if (r.locked) {
    ASSERT_TRUE(system().munlock(space->id, addr_of(r.start), r.pages * kPageSize).ok());
    r.locked = false;
    return;
  }
  // Locking copies the pages of a private mapping, which the model does not know.
  if (r.object != nullptr && !r.shared) return;
  const auto locked =
      finish_call([&] { return system().mlock(space->id, addr_of(r.start), r.pages * kPageSize); });
  log("lock space %u at %llu: %d", unsigned{space->id.v},
      static_cast<unsigned long long>(r.start.v - kRange.start.v), locked.ok() ? 1 : 0);
  // What was locked before an error stays so; the model wants all or nothing.
  r.locked = locked.ok();
  if (!locked.ok()) {
    (void)system().munlock(space->id, addr_of(r.start), r.pages * kPageSize);
  }
}

void StressBed::op_failures() {
  if (failing_) {
    sim.disarm_all();
    failing_ = false;
    return;
  }
  constexpr Failure kKinds[] = {Failure::read_io, Failure::write_io, Failure::write_torn};
  const Failure kind = kKinds[prng.below(3)];
  const u64 device = prng.below(sim.block_count() + (sim.has_disk() ? 1 : 0));
  FaultPlan& plan = device < sim.block_count() ? sim.block(static_cast<u32>(device)).failures()
                                               : sim.disk().failures();
  plan.arm(kind, 1 + prng.below(5), 1 + prng.below(4));
  log("arm %s on device %llu", name_of(kind), static_cast<unsigned long long>(device));
  failing_ = ever_failed_ = true;
}

void StressBed::op_background() {
  switch (prng.below(4)) {
    case 0:
      while (system().background_wanted() && system().background_step().more) {
      }
      break;
    case 1: (void)system().background_step(); break;
    case 2: impl->reclaim.age(); break;
    case 3:
      while (impl->reclaim.reclaimd_wanted() && impl->reclaim.reclaimd_step()) {
      }
      break;
  }
}

void StressBed::settle_tasks() {
  for (StressTask& task : tasks) {
    while (task.busy && !failed()) {
      drive(task);
      one_io();
    }
  }
}

void StressBed::read_all() {
  for (u64 s = 0; s < spaces.size(); ++s) {
    const SpaceId id = spaces[s].id;
    std::vector<VpnRange> ranges;
    for (const StressRegion& r : spaces[s].regions) {
      if (r.prot != Prot::none) ranges.push_back(r.range());
    }
    for (const VpnRange& range : ranges) {
      for (Vpn at = range.start; at < range.end; at = at + 1) {
        // Each failure of the past may be told once.
        for (u32 tries = 0; tries < 4; ++tries) {
          StressSpace* space = find_space(id);
          StressRegion* region = space == nullptr ? nullptr : space->find(at);
          if (region == nullptr || region->beyond_end(at.v - region->start.v)) break;
          StressTask& task = tasks[0];
          task = StressTask{};
          task.busy = true;
          task.space = id;
          task.vpn = at;
          task.data.resize(kPageSize);
          const u64 before = buses + ooms;
          settle_tasks();
          if (failed()) return;
          if (buses + ooms == before) break;
          ASSERT_LT(tries, 3U) << "a page cannot be read any more\n" << story();
        }
      }
    }
  }
}

void StressBed::finish() {
  sim.disarm_all();
  failing_ = false;
  settle_tasks();
  if (failed()) return;
  read_all();
  if (failed()) return;
  check();
  while (!spaces.empty() && !failed()) destroy(spaces.front());
  for (const auto& segment : segments) impl->shmem.remove_segment(*segment->shm);
  while (one_io()) {
  }
  check();
  if (failed()) return;
  const Snapshot s = system().snapshot();
  EXPECT_EQ(s.slots_used, 0U) << story();
  EXPECT_EQ(s.frames_tables, 0U) << story();
  EXPECT_EQ(impl->swap.cached_pages().v, 0U) << story();
  EXPECT_EQ(impl->cache.shmem_pages(), 0U) << story();
  EXPECT_EQ(s.frames_user, impl->cache.pages()) << story();
}

}  // namespace spillway
