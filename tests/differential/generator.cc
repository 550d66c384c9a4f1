#include "generator.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>

namespace spillway::diff {
namespace {

struct Weight {
  OpKind kind;
  u32 weight;
};
// How often each kind appears before a seed changes the mix.
constexpr Weight kWeights[] = {
    {OpKind::mmap, 160},     {OpKind::munmap, 50},    {OpKind::mprotect, 70}, {OpKind::mremap, 80},
    {OpKind::madvise, 60},   {OpKind::mlock, 20},     {OpKind::munlock, 15},  {OpKind::mlockall, 4},
    {OpKind::munlockall, 6}, {OpKind::msync, 20},     {OpKind::mincore, 20},  {OpKind::brk, 40},
    {OpKind::load, 90},      {OpKind::store, 170},    {OpKind::fetch, 20},    {OpKind::pread, 15},
    {OpKind::pwrite, 25},    {OpKind::ftruncate, 25}, {OpKind::fork, 20},     {OpKind::exit, 12},
    {OpKind::check, 25},
};
static_assert(std::size(kWeights) == kOpKindCount);

// Pages that may be locked; 2048 is what every Linux since 5.16 allows.
constexpr u32 kFixed = MAP_FIXED | MAP_FIXED_NOREPLACE;
constexpr u32 kMappingsFirst = 4;  // nothing else makes sense before
constexpr u64 kLimits[] = {0, 4, 12, 40, 40, 40, 2048};

}  // namespace

Generator::Generator(u64 seed) : prng_(mix64(seed ^ 0xd1ff)) {
  setup_.seed = seed;
  draw_setup();
  draw_mix();
}

void Generator::draw_setup() {
  // Half of the machines are so small that pages come and go while the case runs; some of these
  // cases use far more pages than others do.
  setup_.frames = prng_.one_in(3) ? 4096 : prng_.between(192, 512);
  crowded_ = prng_.one_in(4);
  if (crowded_) setup_.frames = prng_.between(150, 220);
  constexpr u64 kPolicies[] = {2, 2, 1, 1, 0};  // mostly the two that are like a Linux
  setup_.policy = kPolicies[prng_.below(std::size(kPolicies))];
  setup_.memlock = kLimits[prng_.below(std::size(kLimits))];
  lock_all_ = prng_.one_in(6);
  // Locked pages must fit.
  if (crowded_) setup_.memlock = std::min<u64>(setup_.memlock, 12);
  if (setup_.memlock > 40) setup_.frames = 4096;
  if (prng_.one_in(3)) setup_.stack = prng_.between(2, 40);
  if (prng_.one_in(4) && !crowded_) setup_.as = prng_.between(10, 120);
  setup_.size_a = prng_.between(1, 12 * kPageSize);
  setup_.size_b = prng_.between(1, 16) * kPageSize;
  setup_.size_c = prng_.one_in(2) ? 0 : prng_.between(1, 40 * kPageSize);
}

void Generator::draw_mix() {
  constexpr u32 kFactors[] = {0, 1, 1, 1, 1, 3};
  for (const Weight& w : kWeights) {
    u32 weight = w.weight * kFactors[prng_.below(std::size(kFactors))];
    if (w.kind == OpKind::mmap || w.kind == OpKind::store) weight = std::max(weight, w.weight);
    if (w.kind == OpKind::mlockall && !lock_all_) weight = 0;
    weights_[static_cast<u32>(w.kind)] = weight;
    weight_sum_ += weight;
  }
  pages_max_ = crowded_ ? 64 : u64{2} << prng_.below(5);
  bad_ = prng_.below(3) * 3;
  files_ = prng_.below(4) * 25;
  shared_ = prng_.below(4) * 25;
  odd_flags_ = prng_.below(4) * 8;
  plain_rights_ = 40 + prng_.below(4) * 18;
  growsdown_ = prng_.one_in(3) ? 30 : 2;
  // Two places in the window, near or far from each other, and the heap.
  quarters_[0] = {Base::window, prng_.below(300), prng_.between(8, 40)};
  quarters_[1] = {Base::window, quarters_[0].first + prng_.between(20, 600), prng_.between(8, 40)};
  quarters_[2] = {Base::heap, 0, prng_.between(8, 40)};
  if (crowded_) {
    quarters_[0].pages = quarters_[1].pages = 160;
    plain_rights_ = std::max<u64>(plain_rights_, 80);
  }
  for (Range& r : recent_) r = fresh_range();
}

OpKind Generator::draw_kind() {
  u64 at = prng_.below(weight_sum_);
  u32 i = 0;
  while (at >= weights_[i]) at -= weights_[i++];
  return static_cast<OpKind>(i);
}

u32 Generator::draw_prot() {
  if (chance(plain_rights_)) return PROT_READ | PROT_WRITE;
  constexpr u32 kOthers[] = {PROT_NONE,
                             PROT_NONE,
                             PROT_READ,
                             PROT_READ,
                             PROT_READ,
                             PROT_WRITE,
                             PROT_EXEC,
                             PROT_READ | PROT_EXEC,
                             PROT_READ | PROT_EXEC,
                             PROT_WRITE | PROT_EXEC,
                             PROT_READ | PROT_WRITE | PROT_EXEC,
                             PROT_READ | PROT_WRITE | PROT_EXEC};
  return kOthers[prng_.below(std::size(kOthers))];
}

Generator::Range Generator::fresh_range() {
  const Quarter& q = quarters_[chance(15) ? 2 : prng_.below(2)];
  const u64 pages = prng_.between(1, pages_max_);
  return {{q.base, (q.first + prng_.below(q.pages)) * kPageSize}, pages};
}

u64 Generator::guess_index(Place at) {
  return at.offset / kPageSize + (at.base == Base::heap ? kWindowPages : 0);
}

Place Generator::guess_place(u64 index) {
  if (index < kWindowPages) return {Base::window, index * kPageSize};
  return {Base::heap, (index - kWindowPages) * kPageSize};
}

void Generator::guess_range(Place at, u64 bytes, bool mapped) {
  if (at.base == Base::absolute) return;
  const u64 first = guess_index(at);
  Pages& pages = mapped_[process_];
  const u64 end = at.base == Base::window ? kWindowPages : pages.size();
  for (u64 i = first; i < std::min(first + (bytes + kPageMask) / kPageSize, end); ++i) {
    pages[i] = mapped;
  }
}

// A stretch that is mapped, as far as we can tell, or a part of it. False: there is none.
bool Generator::mapped_range(Range* r) {
  const Pages& mapped = mapped_[process_];
  const u64 start = prng_.below(mapped.size());
  for (u64 n = 0; n < mapped.size(); ++n) {
    const u64 first = (start + n) % mapped.size();
    if (!mapped[first]) continue;
    u64 pages = 1;
    const u64 pages_wanted = prng_.between(1, pages_max_);
    while (pages < pages_wanted && first + pages < mapped.size() && mapped[first + pages]) {
      ++pages;
    }
    *r = {guess_place(first), pages};
    return true;
  }
  return false;
}

Generator::Range Generator::draw_range() {
  Range r;
  if (chance(75) && mapped_range(&r)) return r;
  return chance(20) ? fresh_range() : near_range(recent_[prng_.below(recent_.size())]);
}

// A range that was used lately, a part of it, or one beside or across its edge.
Generator::Range Generator::near_range(Range r) {
  const u64 how = prng_.below(100);
  const u64 page = r.at.offset / kPageSize;
  u64 first = page;
  u64 last = page + r.pages;  // one beyond
  if (how < 35) return r;
  if (how < 60) {
    first = page + prng_.below(r.pages);
    last = first + prng_.between(1, page + r.pages - first);
  } else if (how < 70) {
    last = first + prng_.between(1, r.pages);
  } else if (how < 80) {
    first = last;
    last = first + prng_.between(1, pages_max_);
  } else if (how < 90) {
    first = page - std::min(page, prng_.between(1, 4));
    last = first + prng_.between(1, r.pages + 4);
  } else {
    last += prng_.between(1, 6);
  }
  return {{r.at.base, first * kPageSize}, last - first};
}

void Generator::fill_file_map(Op* op) {
  constexpr OpenFile kOpens[] = {OpenFile::a_rw, OpenFile::a_rw, OpenFile::a_ro, OpenFile::b_rw,
                                 OpenFile::b_rw, OpenFile::c_rw, OpenFile::a_wo};
  op->file = static_cast<i32>(kOpens[prng_.below(std::size(kOpens))]);
  op->offset = prng_.one_in(2) ? 0 : prng_.below(prng_.one_in(4) ? 20 : 6) * kPageSize;
  if (chance(bad_)) op->offset += prng_.between(1, kPageMask);
  if (chance(bad_)) op->file = prng_.one_in(2) ? kNoFile : static_cast<i32>(kOpenFiles + 2);
}

void Generator::fill_mmap(Op* op) {
  const Range r = chance(70) ? fresh_range() : draw_range();
  remember(r);
  op->at = r.at;
  op->len = r.pages * kPageSize;
  op->prot = draw_prot();
  op->flags = chance(shared_) ? MAP_SHARED : MAP_PRIVATE;
  if (chance(files_)) {
    fill_file_map(op);
  } else {
    op->flags |= MAP_ANONYMOUS;
    if (chance(growsdown_) && op->flags == (MAP_PRIVATE | MAP_ANONYMOUS)) {
      op->flags |= MAP_GROWSDOWN;
    }
  }
  const u64 how = prng_.below(100);
  if (how < 55) op->flags |= MAP_FIXED;
  if (how >= 55 && how < 70) op->flags |= MAP_FIXED_NOREPLACE;
  if (how >= 70) {
    // A hint, or none; what finds no room there is moved home by mremap.
    if (how >= 92) op->at = {};
    if (chance(70)) op->to = r.at;
  }
  if (chance(odd_flags_)) op->flags |= MAP_NORESERVE;
  if (chance(odd_flags_)) op->flags |= MAP_POPULATE;
  if (chance(odd_flags_)) op->flags |= MAP_LOCKED;
  if (chance(odd_flags_ / 2)) op->flags |= MAP_DENYWRITE;
  if (!chance(bad_ * 2)) return;
  switch (prng_.below(6)) {
    case 0: op->flags &= ~u32{MAP_SHARED | MAP_PRIVATE}; break;
    case 1: op->flags |= MAP_GROWSDOWN; break;
    case 2: op->prot |= 0x10; break;
    case 3: op->flags |= 0x200; break;  // a bit that no mapping has
    case 4: op->flags |= MAP_FIXED_NOREPLACE; break;
    default: op->len -= prng_.below(kPageSize); break;
  }
}

void Generator::fill_mremap(Op* op) {
  if (chance(50)) {
    // One area, most likely: several are refused.
    const Range one = recent_[prng_.below(recent_.size())];
    const u64 first = prng_.one_in(2) ? 0 : prng_.below(one.pages);
    op->at = {one.at.base, one.at.offset + first * kPageSize};
    op->len = (one.pages - first) * kPageSize;
  }
  const Range to = chance(50) ? fresh_range() : draw_range();
  const u64 pages = op->len / kPageSize;
  const u64 how = prng_.below(100);
  op->newlen = op->len;
  if (how < 30) op->newlen = prng_.between(1, pages) * kPageSize;
  if (how >= 30 && how < 75) op->newlen = (pages + prng_.between(1, pages_max_)) * kPageSize;
  if (chance(80)) op->flags |= MREMAP_MAYMOVE;
  if (chance(45)) op->flags |= MREMAP_FIXED;
  if ((op->flags & MREMAP_FIXED) != 0 && !chance(bad_)) op->flags |= MREMAP_MAYMOVE;
  op->to = to.at;
  remember({to.at, op->newlen / kPageSize});
  if (!chance(bad_ * 2)) return;
  switch (prng_.below(4)) {
    case 0: op->newlen = 0; break;
    case 1: op->to.offset += prng_.between(1, kPageMask); break;
    case 2: op->flags |= 0x40; break;
    default: op->newlen -= prng_.below(kPageSize); break;
  }
}

void Generator::fill_madvise(Op* op) {
  constexpr i32 kAdvices[] = {MADV_NORMAL,   MADV_RANDOM,   MADV_SEQUENTIAL, MADV_WILLNEED,
                              MADV_WILLNEED, MADV_DONTNEED, MADV_DONTNEED,   MADV_DONTNEED,
                              MADV_FREE,     MADV_COLD,     MADV_PAGEOUT,    MADV_PAGEOUT,
                              MADV_DONTFORK, MADV_DOFORK};
  op->advice = kAdvices[prng_.below(std::size(kAdvices))];
  constexpr i32 kUnknown = 99;
  if (chance(bad_)) op->advice = kUnknown;
}

void Generator::fill_access(Op* op) {
  Range r;
  if (chance(70) && mapped_range(&r)) {
    op->at = r.at;
    op->len = r.pages * kPageSize;
  }
  op->seed = prng_.below(100'000);
  if (chance(25)) {
    // A few bytes, often across a page boundary.
    op->at.offset += prng_.one_in(2) ? kPageSize - prng_.below(20) : prng_.below(kPageSize);
    op->len = prng_.between(1, 40);
  } else if (chance(30)) {
    op->len = kPageSize;
  }
  // Below an area that may grow.
  if (chance(growsdown_ / 2)) {
    op->at.offset -= std::min(op->at.offset, prng_.between(1, 12) * kPageSize);
  }
  op->len = std::min(op->len, kAccessMax);
}

void Generator::fill_file_call(Op* op) {
  constexpr OpenFile kOpens[] = {OpenFile::a_rw, OpenFile::a_rw, OpenFile::b_rw, OpenFile::b_rw,
                                 OpenFile::c_rw, OpenFile::c_rw, OpenFile::a_ro, OpenFile::a_wo};
  op->file = static_cast<i32>(kOpens[prng_.below(std::size(kOpens))]);
  if (chance(bad_)) op->file = static_cast<i32>(kOpenFiles + 2);
  op->offset = prng_.below(20) * kPageSize;
  if (chance(60)) op->offset += prng_.below(kPageSize);
  op->len = prng_.between(1, chance(50) ? 100 : 4 * kPageSize);
  if (chance(bad_)) op->offset = ~u64{0} - prng_.below(10);
  if (chance(bad_)) op->len = 0;
}

// One argument that no program should pass.
void Generator::spoil(Op* op) {
  switch (prng_.below(7)) {
    case 0: op->at.offset += prng_.between(1, kPageMask); break;
    case 1: op->len = 0; break;
    case 2: op->len -= prng_.below(kPageSize); break;
    case 3:
      // Far more than there are addresses; mincore would want as many bytes of ours.
      op->len = op->kind == OpKind::mincore ? 0 : ~u64{0} - prng_.below(3) * kPageSize;
      break;
    case 4: op->at = {Base::absolute, 0x7ffffffff000}; break;  // the last page of user space
    case 5: op->at = {Base::absolute, ~u64{0} << 40}; break;   // the kernel's
    default: op->at = {Base::absolute, ~kPageMask}; break;
  }
}

void Generator::guess(const Op& op) {
  switch (op.kind) {
    case OpKind::fork:
      if (!alive_[op.number]) mapped_[op.number] = mapped_[process_];
      alive_[op.number] = true;
      break;
    case OpKind::exit: alive_[op.process] = op.process == 0; break;
    case OpKind::mmap:
      guess_range(op.at, op.len, op.to != Place{} || (op.flags & kFixed) != 0);
      break;
    case OpKind::munmap: guess_range(op.at, op.len, false); break;
    case OpKind::mremap:
      if ((op.flags & MREMAP_FIXED) == 0) break;
      guess_range(op.at, op.len, false);
      guess_range(op.to, op.newlen, true);
      break;
    case OpKind::brk: {
      const Place heap{Base::heap, 0};
      guess_range(heap, kHeapBytes, false);
      if (op.at.base == Base::heap) guess_range(heap, op.at.offset, true);
      break;
    }
    default: break;
  }
}

Op Generator::next() {
  Op op;
  op.kind = draw_kind();
  if (drawn_++ < kMappingsFirst) op.kind = OpKind::mmap;
  do {
    op.process = static_cast<u32>(prng_.below(kProcessesMax));
  } while (!alive_[op.process]);
  process_ = op.process;
  const Range r = draw_range();
  op.at = r.at;
  op.len = r.pages * kPageSize;
  switch (op.kind) {
    case OpKind::mmap: fill_mmap(&op); break;
    case OpKind::mprotect:
      op.prot = draw_prot();
      if (chance(bad_)) op.prot |= 0x10;
      break;
    case OpKind::mremap: fill_mremap(&op); break;
    case OpKind::madvise: fill_madvise(&op); break;
    case OpKind::mlockall:
      op.flags = static_cast<u32>(prng_.between(1, 3));
      if (chance(bad_ * 3)) op.flags = prng_.one_in(2) ? 0 : 8;
      break;
    case OpKind::msync:
      op.flags =
          static_cast<u32>(chance(80) ? (prng_.one_in(2) ? MS_SYNC : MS_ASYNC) : prng_.below(8));
      if (chance(bad_)) op.flags |= 0x10;
      break;
    case OpKind::brk:
      op.at = {Base::heap, prng_.below(40) * kPageSize};
      if (chance(30)) op.at.offset += prng_.below(kPageSize);
      if (chance(10)) op.at = {Base::absolute, 0};
      guess(op);
      return op;
    case OpKind::load:
    case OpKind::store:
    case OpKind::fetch: fill_access(&op); return op;
    case OpKind::pread:
    case OpKind::pwrite:
    case OpKind::ftruncate: fill_file_call(&op); return op;
    case OpKind::fork: op.number = static_cast<u32>(prng_.between(1, kProcessesMax - 1)); break;
    default: break;
  }
  if (chance(bad_)) spoil(&op);
  // mremap with an old size of 0, after rounding, duplicates a shared mapping: left out.
  const bool no_size = ((op.len + kPageMask) & ~kPageMask) == 0;
  if (op.kind == OpKind::mremap && no_size) op.len = kPageSize;
  guess(op);
  return op;
}

DiffCase Generator::draw(u32 steps) {
  DiffCase c;
  c.setup = setup_;
  while (c.ops.size() < steps) c.ops.push_back(next());
  return c;
}

}  // namespace spillway::diff
