#include "generator.h"

#include <algorithm>
#include <iterator>

namespace spillway::sim {
namespace {

constexpr harness::Weight<OpKind> kWeights[] = {
    {OpKind::mmap, 80},       {OpKind::munmap, 40},   {OpKind::mprotect, 40}, {OpKind::mremap, 40},
    {OpKind::madvise, 80},    {OpKind::brk, 30},      {OpKind::mlock, 20},    {OpKind::munlock, 20},
    {OpKind::mincore, 10},    {OpKind::load, 250},    {OpKind::store, 350},   {OpKind::retry, 80},
    {OpKind::migrate, 10},    {OpKind::pin, 15},      {OpKind::unpin, 20},    {OpKind::exit, 3},
    {OpKind::background, 80}, {OpKind::complete, 80}, {OpKind::advance, 40},  {OpKind::settle, 5},
    {OpKind::budget, 8},      {OpKind::disk_max, 3},  {OpKind::fail, 30},     {OpKind::fork, 4},
    {OpKind::reap, 6},
};
static_assert(std::size(kWeights) == kOpKindCount);

}  // namespace

Generator::Generator(u64 seed) : Draws(seed ^ 0x5eed) {
  setup_.seed = seed;
  draw_machine();
  draw_system();
  draw_mix();
}

void Generator::draw_machine() {
  // Small machines most of the time: there the rare states are reached soonest.
  setup_.frames = 64ULL << prng_.below(prng_.one_in(8) ? 6 : 3);
  setup_.frames += prng_.below(setup_.frames);
  setup_.frames = std::min<u64>(setup_.frames, 2048);
  setup_.budget = setup_.frames;
  if (prng_.one_in(4)) setup_.budget = prng_.between(56, setup_.frames);
  if (prng_.one_in(50)) setup_.budget = prng_.between(1, 56);  // too little, or just enough
  setup_.cpus = prng_.between(1, 4);
  const u64 features = prng_.below(3);  // all, those of the host, or any
  setup_.accessed_bit = features == 0 || (features == 2 && prng_.one_in(2));
  setup_.dirty_bit = features == 0 || (features == 2 && prng_.one_in(2));
  setup_.bytes_while_mapped = features == 0 || (features == 2 && prng_.one_in(2));
  setup_.zero_page = features == 0 || (features == 2 && prng_.one_in(2));
  if (!prng_.one_in(4)) {
    setup_.disk_pages = kIoFramesMax * prng_.between(4, std::max<u64>(8, setup_.frames / 4));
  }
  if (prng_.one_in(4)) setup_.latency_max_ns = setup_.latency_min_ns;
  if (prng_.one_in(4)) setup_.busy_one_in = prng_.between(2, 60);
  if (prng_.one_in(4)) setup_.quota_short_one_in = prng_.between(1, 5);
}

void Generator::draw_system() {
  setup_.pool_max = prng_.one_in(6) ? 0 : prng_.between(4, std::max<u64>(16, setup_.frames / 2));
  if (prng_.one_in(2)) setup_.fresh_around = prng_.below(17);
  if (prng_.one_in(2)) {
    setup_.readahead_min = prng_.between(1, 8);
    setup_.readahead_max = prng_.between(setup_.readahead_min, 32);
  }
  setup_.mlock_max = prng_.below(setup_.frames / 8 + 1);
  if (prng_.one_in(8)) setup_.commit_max = prng_.between(1, setup_.frames * 2);
  setup_.tasks = prng_.between(1, 4);
  setup_.spaces = prng_.between(1, std::min<u64>(setup_.tasks, 3));
  setup_.space_pages = setup_.frames * (u64{2} << prng_.below(4));
  if (prng_.one_in(8)) setup_.space_pages = 1 << 20;  // sparse: many tables
  setup_.brk_pages = prng_.one_in(3) ? 0 : prng_.between(1, setup_.frames / 2);
  setup_.audit_every = setup_.frames <= 256 ? 1 : setup_.frames / 256;
}

void Generator::draw_mix() {
  draw_weights(kWeights);
  // Without these nothing happens at all.
  at_least({OpKind::mmap, OpKind::load, OpKind::store}, 80);
  failures_left_ = prng_.one_in(3) ? prng_.between(1, 8) : 0;
  if (setup_.disk_pages == 0) {
    for (const OpKind kind : {OpKind::fork, OpKind::reap, OpKind::disk_max, OpKind::complete}) {
      weight_of(kind) = 0;
    }
  }
  draw_fills(1);
  // One seed in six writes more than can be held, most write nearly as much.
  fullness_ = prng_.one_in(4) ? prng_.between(10, 90) : prng_.between(90, 99);
  if (prng_.one_in(6)) fullness_ = prng_.between(110, 300);
  if (prng_.one_in(2)) return;
  // Half of the seeds keep most of what they write.
  less_often({OpKind::munmap, OpKind::exit, OpKind::mremap, OpKind::mmap}, 6);
}

harness::LengthShape Generator::lengths() const {
  return {.frames = setup_.frames, .middle_part = 4, .short_percent = 85, .wild_fit = false};
}

// An area for the bulk of a space's pages: memory that is never full shows little of a memory
// manager.
Op Generator::bulk_mapping(u32 task) {
  Op op;
  op.kind = OpKind::mmap;
  op.task = task;
  const u64 room = setup_.frames + setup_.disk_pages / 2;
  op.len = std::min(prng_.between(room / 4 + 1, room + 1), setup_.space_pages / 2) * kPageSize;
  op.prot = Prot::read_write;
  return op;
}

Op Generator::next(const Driver& driver) {
  // Every space begins with one.
  if (++ops_drawn_ <= setup_.spaces) return bulk_mapping(ops_drawn_ - 1);
  for (;;) {
    Op op;
    op.kind = draw_kind();
    op.task = static_cast<u32>(prng_.below(setup_.tasks));
    if (op.kind == OpKind::retry && !driver.waiting(op.task)) continue;
    if (op.kind == OpKind::fail && failures_left_ == 0) continue;
    if (by_task(op.kind)) {
      fill_in(&op, driver);
    } else {
      fill_machine_op(&op);
    }
    return op;
  }
}

u64 Generator::pick_page(const SpaceModel& m) {
  const std::vector<ModelArea> areas = m.areas();
  const u64 how = percent();
  if (areas.empty() || how < 4) return prng_.below(m.pages() + 8);
  // Half of all accesses stay near the last place, which moves now and then.
  if (how < 50) return std::min(hot_page_ + prng_.below(12), m.pages() - 1);
  const ModelArea& a = areas[prng_.below(areas.size())];
  u64 page = a.range.first + prng_.below(a.range.pages());
  if (how < 60) page = a.range.first;
  if (how >= 60 && how < 70) page = a.range.end - 1;
  if (how >= 70 && how < 73) page = a.range.end;
  if (prng_.one_in(4)) hot_page_ = page;
  return page;
}

PageRange Generator::pick_range(const SpaceModel& m, u64 pages_max) {
  return range_at(m, pick_page(m), pages_max);
}

void Generator::fill_mmap(Op* op, const SpaceModel& m) {
  op->len = draw_length(lengths());
  op->prot = draw_prot(75);
  op->at = prng_.one_in(3) ? 0 : pick_page(m) * kPageSize;
  if (percent() < 30) {
    op->flags |= kFlagFixed;
    if (op->len > 32 * kPageSize && percent() < 70) op->len = prng_.between(1, 32) * kPageSize;
  }
  if (percent() < 5) op->flags |= kFlagFixed | kFlagNoreplace;
  if (percent() < 10) op->flags |= kFlagNoreserve;
  if (percent() < 3) op->flags |= kFlagLocked;
  if (percent() < 8) op->flags |= kFlagPopulate;
  if (percent() < 4) op->flags |= kFlagForeign;
}

void Generator::fill_mremap(Op* op, const SpaceModel& m) {
  const ModelArea* a = m.find(pick_page(m));
  const PageRange whole = a == nullptr ? pick_range(m, 16) : a->range;
  const u64 part = prng_.one_in(2) ? whole.pages() : prng_.between(1, whole.pages());
  op->at = (prng_.one_in(2) ? whole.first : whole.end - part) * kPageSize;
  op->len = part * kPageSize;
  constexpr u64 kSize[] = {50, 100, 100, 150, 200};
  op->newlen = std::max<u64>(1, part * kSize[prng_.below(std::size(kSize))] / 100) * kPageSize;
  if (percent() < 80) op->flags |= kFlagMayMove;
  if (percent() < 40) op->flags |= kFlagFixed;
  op->to = pick_page(m) * kPageSize;
  if (percent() < 2) op->newlen = draw_wild_length(lengths());
}

void Generator::fill_store(Op* op, const Driver& driver, const SpaceModel& m) {
  u64 page = pick_page(m);
  const u64 how = percent();
  u64 pages = 1;
  if (how < 35) pages = prng_.between(1, 8);
  if (how < 15) pages = prng_.between(8, 64);
  const u64 demand = driver.demand();
  const u64 target = driver.supply() * fullness_ / 100;
  if (demand * 10 < target * 7 && how < 70) {
    // Memory fills up by long runs, and again when much was given up, so that most of the case
    // happens under pressure.
    std::vector<ModelArea> areas = m.areas();
    std::erase_if(areas, [](const ModelArea& a) {
      return a.kind.foreign || !allows(a.kind.prot, Prot::write);
    });
    if (areas.empty()) {
      *op = bulk_mapping(op->task);
      return;
    }
    const ModelArea& a = areas[prng_.below(areas.size())];
    page = a.range.first + prng_.below(a.range.pages());
    pages = std::min<u64>(a.range.end - page, prng_.between(16, 128));
  }
  if (demand + pages > target) {
    // Full: what is written already may be written again, the rest is only read.
    const u64 old = m.next_written(page);
    if (old == ~u64{0}) {
      op->kind = OpKind::load;
      op->at = page * kPageSize;
      op->len = kPageSize;
      return;
    }
    op->at = old * kPageSize;
    pages = 1;
  } else {
    op->at = page * kPageSize;
  }
  op->len = pages * kPageSize;
  if (how >= 70) {
    op->at += prng_.below(kPageSize);
    op->len = prng_.between(1, 300);
  }
  draw_content(op);
}

void Generator::fill_in(Op* op, const Driver& driver) {
  const SpaceModel& m = driver.model_of(op->task);
  const PageRange range = pick_range(m, 32);
  op->at = range.first * kPageSize;
  op->len = range.pages() * kPageSize;
  switch (op->kind) {
    case OpKind::mmap: fill_mmap(op, m); break;
    case OpKind::mremap: fill_mremap(op, m); break;
    case OpKind::store: fill_store(op, driver, m); return;
    case OpKind::mprotect: op->prot = draw_prot(75); break;
    case OpKind::madvise: {
      constexpr Advice kAdvices[] = {Advice::normal,   Advice::random,         Advice::sequential,
                                     Advice::willneed, Advice::willneed,       Advice::dontneed,
                                     Advice::free,     Advice::cold,           Advice::pageout,
                                     Advice::pageout,  static_cast<Advice>(99)};
      op->advice = kAdvices[prng_.below(std::size(kAdvices))];
      break;
    }
    case OpKind::load:
      if (prng_.one_in(2)) {
        const u64 page = m.next_written(prng_.below(m.pages()));
        op->at = (page == ~u64{0} ? range.first : page) * kPageSize;
      }
      op->len = std::min<u64>(op->len, 64 * kPageSize);
      if (percent() < 30) {
        op->at += prng_.below(kPageSize);
        op->len = prng_.between(1, 300);
      }
      return;
    case OpKind::brk:
      op->at = prng_.below((m.brk_pages() + 2) * kPageSize);
      if (prng_.one_in(3)) op->at &= ~kPageMask;
      return;
    case OpKind::migrate: op->cpu = static_cast<u32>(prng_.below(setup_.cpus)); break;
    case OpKind::mlock: op->len = prng_.between(1, 8) * kPageSize; break;
    default: break;
  }
  if (percent() < 2 && op->kind != OpKind::pin && op->kind != OpKind::unpin) {
    op->at += prng_.between(1, kPageMask);
  }
  if (percent() < 1) op->len = draw_wild_length(lengths());
}

void Generator::fill_machine_op(Op* op) {
  switch (op->kind) {
    case OpKind::background:
    case OpKind::complete: op->number = prng_.between(1, prng_.one_in(4) ? 50 : 4); break;
    case OpKind::advance: op->number = prng_.between(1, 400'000); break;
    case OpKind::budget: op->number = prng_.between(setup_.budget / 2, setup_.budget); break;
    case OpKind::disk_max: op->number = prng_.below(setup_.disk_pages / kIoFramesMax + 1); break;
    case OpKind::fail:
      --failures_left_;
      op->failure = static_cast<Failure>(prng_.below(kFailureCount));
      op->number = prng_.between(1, 12);
      op->times = prng_.one_in(3) ? prng_.between(1, 12) : 1;
      break;
    default: break;
  }
}

}  // namespace spillway::sim
