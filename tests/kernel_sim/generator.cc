#include "generator.h"

#include <algorithm>
#include <iterator>

namespace spillway::ksim {
Op Generator::next(const Driver& driver) {
  Op op;
  if (draw_opening(&op)) {
    ++ops_drawn_;
    return op;
  }
  for (;;) {
    op = Op{};
    op.kind = draw_kind();
    op.task = static_cast<u32>(prng_.below(setup_.slots));
    if (fill_in(&op, driver)) return op;
  }
}

// False: there is nothing for such an operation to do.
bool Generator::fill_in(Op* op, const Driver& driver) {
  if (!by_task(op->kind)) {
    if (op->kind == OpKind::fail && failures_left_ == 0) return false;
    if (op->kind == OpKind::swap_wait && !driver.swapoff_waits()) return false;
    fill_machine_op(op);
    return true;
  }
  const Proc* proc = driver.world().at(op->task);
  if (op->kind == OpKind::spawn) return proc == nullptr;
  if (proc == nullptr) return false;
  if (op->kind == OpKind::retry) return driver.waiting(op->task);
  fill_task_op(op, driver, *proc);
  return true;
}

void Generator::fill_task_op(Op* op, const Driver& driver, const Proc& proc) {
  const Space& space = *proc.space;
  const PageRange range = pick_range(space, 32);
  op->at = range.first * kPageSize;
  op->len = range.pages() * kPageSize;
  switch (op->kind) {
    case OpKind::fork:
    case OpKind::clone: op->other = static_cast<u32>(prng_.below(setup_.slots)); return;
    case OpKind::exec:
      op->file = kFirstProgram + static_cast<u32>(prng_.below(kPrograms));
      op->seed = prng_.below(10'000);
      return;
    case OpKind::kill: {
      constexpr u64 kSignals[] = {7, 9, 11, 15};
      op->number = kSignals[prng_.below(4)];
      return;
    }
    case OpKind::catches: op->number = prng_.one_in(5) ? 0 : 1; return;
    case OpKind::migrate: op->cpu = static_cast<u32>(prng_.below(setup_.cpus)); return;
    case OpKind::limit: fill_limit(op); return;
    case OpKind::oom_adj: op->number = prng_.one_in(8) ? 0 : prng_.between(500, 1500); return;
    case OpKind::sp: op->at = driver.top() - prng_.below(64) * 500; return;
    case OpKind::push:
      op->len = prng_.one_in(3) ? prng_.between(1, 6 * kPageSize) : prng_.between(1, 200);
      draw_content(op);
      return;
    case OpKind::brk:
      op->at = prng_.below(setup_.frames) * kPageSize;
      if (prng_.one_in(3)) op->at += prng_.below(kPageSize);
      return;
    case OpKind::mmap: fill_mmap(op, driver, proc); break;
    case OpKind::mremap: fill_mremap(op, space); break;
    case OpKind::mprotect: op->prot = draw_prot(70); break;
    case OpKind::madvise: {
      constexpr u64 kAdvices[] = {0, 1, 2, 3, 3, 4, 4, 8, 10, 11, 20, 21, 21, 21, 22, 23, 99};
      op->advice = kAdvices[prng_.below(std::size(kAdvices))];
      break;
    }
    case OpKind::mlock: op->len = prng_.between(1, 8) * kPageSize; break;
    case OpKind::mlockall:
      if (!prng_.one_in(3)) op->flags |= bit(FlagBit::current);
      if (prng_.one_in(2)) op->flags |= bit(FlagBit::future);
      return;
    case OpKind::msync:
      if (!prng_.one_in(4)) op->flags |= bit(FlagBit::sync);
      if (prng_.one_in(5)) op->flags |= bit(FlagBit::async);
      if (prng_.one_in(5)) op->flags |= bit(FlagBit::invalidate);
      break;
    case OpKind::store: fill_store(op, driver, proc); return;
    case OpKind::load:
    case OpKind::fetch: fill_load(op, space); return;
    case OpKind::open:
    case OpKind::close:
    case OpKind::pread:
    case OpKind::pwrite:
    case OpKind::ftruncate:
    case OpKind::fsync:
    case OpKind::unlink: fill_file_op(op, driver, proc); return;
    case OpKind::shmget:
    case OpKind::shmat:
    case OpKind::shmdt:
    case OpKind::shmctl: fill_segment_op(op, proc); return;
    default: break;
  }
  if (percent() < 2) op->at += prng_.between(1, kPageMask);
  if (percent() < 1) op->len = draw_wild_length(lengths());
}

void Generator::fill_limit(Op* op) {
  op->which = static_cast<u32>(prng_.below(4));
  const u64 pages[] = {prng_.between(2, 300), prng_.between(50, setup_.frames * 4),
                       prng_.between(1, setup_.frames), prng_.below(setup_.frames / 4 + 1)};
  op->number = pages[op->which] * kPageSize;
  if (op->which != 3 && prng_.one_in(3)) op->number = kUnlimited;
}

u64 Generator::pick_page(const Space& space) {
  const std::vector<ModelArea> areas = space.areas();
  const u64 how = percent();
  if (areas.empty()) return kClassicTop / 3 / kPageSize + prng_.below(4000);
  // Half of all accesses stay near the last place, which moves now and then.
  if (how < 45 && space.find(hot_page_) != nullptr) return hot_page_ + prng_.below(12);
  const ModelArea& a = areas[prng_.below(areas.size())];
  u64 page = a.range.first + prng_.below(a.range.pages());
  if (how >= 80 && how < 86) page = a.range.first;
  if (how >= 86 && how < 92) page = a.range.end - 1;
  if (how >= 92 && how < 94) page = a.range.end;
  if (how >= 94 && how < 97) page = a.range.first - prng_.between(1, 8);
  if (prng_.one_in(4)) hot_page_ = page;
  return page;
}

PageRange Generator::pick_range(const Space& space, u64 pages_max) {
  return range_at(space, pick_page(space), pages_max);
}

void Generator::fill_mmap(Op* op, const Driver& driver, const Proc& proc) {
  const u64 place = op->at;
  op->len = draw_length(lengths());
  op->prot = draw_prot(70);
  op->at = 0;
  const auto flag = [&](u64 percent_of, FlagBit f) {
    if (percent() < percent_of) op->flags |= bit(f);
  };
  if (percent() < 20) {
    op->at = place;
    flag(70, FlagBit::fixed);
    flag(20, FlagBit::noreplace);
  }
  flag(35, FlagBit::shared);
  flag(10, FlagBit::noreserve);
  flag(8, FlagBit::populate);
  flag(4, FlagBit::locked);
  if (percent() < 50) {
    // A file, mostly one that is open.
    op->file = static_cast<u32>(prng_.below(kFilesMax));
    for (u32 tries = 0; tries < 6 && proc.files[op->file].object == nullptr; ++tries) {
      op->file = static_cast<u32>(prng_.below(kFilesMax));
    }
    const ObjectPtr& file = driver.world().files[op->file];
    if (file != nullptr) {
      const u64 pages = file->size_pages() + 2;
      op->off = prng_.below(pages) * kPageSize;
      if (prng_.one_in(2)) op->off = 0;
      // Around the last page that a mapping can have.
      if (prng_.one_in(16)) op->off = (kMappingPagesMax - prng_.below(pages + 4)) * kPageSize;
      op->len = std::min(op->len, pages * kPageSize);
    }
    if (proc.files[op->file].object == nullptr && !prng_.one_in(8)) op->file = kNoFile;
  }
  if (op->file == kNoFile && percent() < 3) op->flags |= bit(FlagBit::growsdown);
}

void Generator::fill_mremap(Op* op, const Space& space) {
  op->newlen = draw_length(lengths());
  if (prng_.one_in(3)) op->newlen = op->len;
  if (!prng_.one_in(3)) op->flags |= bit(FlagBit::may_move);
  if (prng_.one_in(4)) {
    op->flags |= bit(FlagBit::fixed);
    op->to = pick_page(space) * kPageSize;
    if (prng_.one_in(2)) op->to += prng_.between(100, 600) * kPageSize;
  }
}

// Bytes around the end of a file that is mapped shared; false if there is none.
bool Generator::store_at_end_of_file(Op* op, const Space& space) {
  for (const ModelArea& a : space.areas()) {
    if (a.object == nullptr || a.object->kind != ObjectKind::file) continue;
    const u64 last = a.object->size_bytes >> kPageShift;
    const bool inside = last >= a.pgoff && last - a.pgoff < a.range.pages();
    if (!allows(a.prot, Prot::write) || !inside || prng_.one_in(3)) continue;
    const u64 end = a.object->size_bytes & kPageMask;
    op->at = (a.range.first + (last - a.pgoff)) * kPageSize + end;
    op->at -= prng_.below(end + 1);
    op->len = prng_.between(1, kPageSize);
    op->len = std::min(op->len, kPageSize - (op->at & kPageMask));
    op->fill = Fill::random;
    op->seed = prng_.below(100'000);
    return true;
  }
  return false;
}

void Generator::fill_store(Op* op, const Driver& driver, const Proc& proc) {
  const Space& space = *proc.space;
  if (prng_.one_in(20) && store_at_end_of_file(op, space)) return;
  const u64 demand = driver.demand();
  const u64 target = driver.supply() * fullness_ / 100;
  const u64 how = percent();
  u64 pages = how < 70 ? prng_.between(1, 8) : 1;
  u64 page = op->at / kPageSize;
  if (demand * 10 < target * 7 && how < 70) {
    // Memory fills up by long runs, so that most of the case happens under pressure.
    std::vector<ModelArea> areas = space.areas();
    std::erase_if(areas, [](const ModelArea& a) {
      return !allows(a.prot, Prot::write) || a.range.pages() < 4;
    });
    if (!areas.empty()) {
      const ModelArea& a = areas[prng_.below(areas.size())];
      page = a.range.first + prng_.below(a.range.pages());
      pages = std::min<u64>(a.range.end - page, prng_.between(16, 96));
    }
  }
  if (demand + pages > target) {
    // Full: what is written already may be written again, the rest is only read.
    const auto old = space.own().lower_bound(page);
    pages = 1;
    if (old != space.own().end()) {
      page = old->first;
    } else if (demand > target) {
      op->kind = OpKind::load;
    }
  }
  op->at = page * kPageSize;
  op->len = pages * kPageSize;
  if (how >= 70) {
    op->at += prng_.below(kPageSize);
    op->len = prng_.between(1, how >= 95 ? 6000 : 300);
  }
  draw_content(op);
}

void Generator::fill_load(Op* op, const Space& space) {
  if (prng_.one_in(2)) {
    const auto written = space.own().lower_bound(op->at / kPageSize);
    if (written != space.own().end()) op->at = written->first * kPageSize;
  }
  op->len = std::min(op->len, 48 * kPageSize);
  if (percent() < 30) {
    op->at += prng_.below(kPageSize);
    op->len = prng_.between(1, prng_.one_in(8) ? 9000 : 300);
  }
}

void Generator::fill_file_op(Op* op, const Driver& driver, const Proc& proc) {
  op->file = static_cast<u32>(prng_.below(kFilesMax));
  const bool opens = op->kind == OpKind::open || op->kind == OpKind::unlink;
  for (u32 tries = 0; tries < 8 && !opens && proc.files[op->file].object == nullptr; ++tries) {
    op->file = static_cast<u32>(prng_.below(kFilesMax));
  }
  if (op->kind == OpKind::open) {
    op->flags = bit(FlagBit::read);
    if (!prng_.one_in(4)) op->flags |= bit(FlagBit::write);
    if (prng_.one_in(16)) op->flags = bit(FlagBit::write);
    if (op->file < kFirstProgram && prng_.one_in(4)) op->flags |= bit(FlagBit::create);
    if (prng_.one_in(16)) op->flags |= bit(FlagBit::exclusive);
    if (op->file < kFirstProgram && prng_.one_in(12)) op->flags |= bit(FlagBit::truncate);
    return;
  }
  const ObjectPtr& file = driver.world().files[op->file];
  const u64 size = file == nullptr ? 0 : file->size_bytes;
  const u64 capacity = file == nullptr ? 0 : file->capacity_pages * kPageSize;
  op->number = prng_.one_in(3) ? prng_.below(capacity + kPageSize) : prng_.below(size + 1);
  if (prng_.one_in(3)) op->number &= ~kPageMask;
  op->off = prng_.one_in(4) ? prng_.below(capacity + 2 * kPageSize) : prng_.below(size + 100);
  if (prng_.one_in(2)) op->off &= ~kPageMask;
  op->len = prng_.one_in(2) ? prng_.between(1, 4000) : prng_.between(1, 12 * kPageSize);
  if (prng_.one_in(4)) op->len = (op->len + kPageMask) & ~kPageMask;
  draw_content(op);
}

void Generator::fill_segment_op(Op* op, const Proc& proc) {
  op->segment = static_cast<u32>(prng_.below(kSegmentsMax));
  const u64 place = op->at;
  op->at = 0;
  switch (op->kind) {
    case OpKind::shmget:
      op->len = prng_.between(1, setup_.frames / 2) * kPageSize - prng_.below(kPageSize);
      if (prng_.one_in(30)) op->len = draw_wild_length(lengths());
      return;
    case OpKind::shmat:
      if (prng_.one_in(6)) op->at = place + prng_.below(300) * kPageSize;
      if (prng_.one_in(12)) op->at += prng_.below(kPageSize);
      if (prng_.one_in(6)) op->flags |= bit(FlagBit::round);
      if (prng_.one_in(6)) op->flags |= bit(FlagBit::readonly);
      return;
    case OpKind::shmdt:
      for (const ModelArea& a : proc.space->areas()) {
        if (a.object == nullptr || a.object->kind != ObjectKind::segment) continue;
        op->at = (a.range.first - std::min(a.pgoff, a.range.first)) * kPageSize;
        if (prng_.one_in(2)) return;
      }
      return;
    default: {
      constexpr u64 kCommands[] = {0, 11, 12};
      op->number = kCommands[prng_.below(3)];
      return;
    }
  }
}

void Generator::fill_machine_op(Op* op) {
  op->device = 1 + static_cast<u32>(prng_.below(3));
  switch (op->kind) {
    case OpKind::create:
      op->file = static_cast<u32>(prng_.below(kFirstProgram));
      op->number = prng_.between(1, std::max<u64>(8, setup_.file_pages / 8));
      op->newlen = prng_.one_in(4) ? 0 : prng_.below(op->number * kPageSize + 1);
      return;
    case OpKind::swapon: op->number = prng_.below(4); return;
    case OpKind::kswapd:
    case OpKind::kreclaimd:
    case OpKind::flush:
    case OpKind::age:
    case OpKind::complete: op->number = prng_.between(1, prng_.one_in(4) ? 30 : 4); return;
    case OpKind::advance: op->number = prng_.between(1, 400'000); return;
    case OpKind::fail: {
      --failures_left_;
      constexpr Failure kKinds[] = {Failure::read_io,    Failure::write_io,
                                    Failure::write_torn, Failure::write_no_space,
                                    Failure::write_lost, Failure::read_flip};
      op->failure = kKinds[prng_.below(prng_.one_in(3) ? 6 : 4)];
      constexpr u32 kDevices[] = {0, 0, 1, 1, 2, 3, kTierDevice};
      op->device = kDevices[prng_.below(std::size(kDevices))];
      op->number = prng_.between(1, 12);
      op->times = prng_.one_in(3) ? prng_.between(1, 30) : 1;
      return;
    }
    default: return;
  }
}

}  // namespace spillway::ksim
