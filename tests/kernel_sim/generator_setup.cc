// The machine, the kernel and the mix of operations of a seed.

#include <algorithm>
#include <iterator>

#include "generator.h"

namespace spillway::ksim {
namespace {

constexpr harness::Weight<OpKind> kWeights[] = {
    {OpKind::spawn, 25},     {OpKind::fork, 25},      {OpKind::clone, 8},
    {OpKind::exec, 12},      {OpKind::exit, 12},      {OpKind::kill, 4},
    {OpKind::catches, 3},    {OpKind::migrate, 10},   {OpKind::limit, 5},
    {OpKind::oom_adj, 4},    {OpKind::sp, 4},         {OpKind::push, 25},
    {OpKind::mmap, 80},      {OpKind::munmap, 35},    {OpKind::mprotect, 40},
    {OpKind::mremap, 35},    {OpKind::madvise, 80},   {OpKind::mlock, 15},
    {OpKind::munlock, 15},   {OpKind::mlockall, 3},   {OpKind::munlockall, 4},
    {OpKind::msync, 30},     {OpKind::mincore, 10},   {OpKind::brk, 25},
    {OpKind::load, 250},     {OpKind::store, 330},    {OpKind::fetch, 25},
    {OpKind::open, 50},      {OpKind::close, 12},     {OpKind::pread, 50},
    {OpKind::pwrite, 60},    {OpKind::ftruncate, 20}, {OpKind::fsync, 20},
    {OpKind::unlink, 6},     {OpKind::shmget, 15},    {OpKind::shmat, 25},
    {OpKind::shmdt, 10},     {OpKind::shmctl, 8},     {OpKind::retry, 100},
    {OpKind::pin, 6},        {OpKind::create, 20},    {OpKind::swapon, 12},
    {OpKind::swapoff, 8},    {OpKind::swap_wait, 30}, {OpKind::kswapd, 60},
    {OpKind::kreclaimd, 20}, {OpKind::flush, 30},     {OpKind::age, 20},
    {OpKind::complete, 90},  {OpKind::advance, 30},   {OpKind::settle, 5},
    {OpKind::unpin, 6},      {OpKind::fail, 25},
};
static_assert(std::size(kWeights) == kOpKindCount);

}  // namespace

Generator::Generator(u64 seed) : Draws(seed ^ 0x4e41) {
  setup_.seed = seed;
  draw_machine();
  draw_kernel();
  draw_mix();
}

void Generator::draw_machine() {
  // Small machines most of the time: there the rare states are reached soonest.
  setup_.frames = prng_.one_in(5) ? prng_.between(250, 600) : prng_.between(90, 260);
  if (prng_.one_in(30)) setup_.frames = prng_.between(48, 90);
  setup_.cpus = prng_.between(1, 4);
  setup_.accessed_bit = prng_.one_in(6) ? 0 : 1;
  setup_.zero_page = prng_.one_in(4) ? 0 : 1;
  if (prng_.one_in(4)) setup_.latency_max_ns = setup_.latency_min_ns;
  if (prng_.one_in(8)) setup_.busy_one_in = prng_.between(2, 60);
  setup_.file_pages = prng_.one_in(6) ? prng_.between(16, 100) : prng_.between(300, 1500);
  const auto area = [&] { return prng_.between(8, setup_.frames * 2); };
  if (!prng_.one_in(6)) {
    setup_.swap1 = area();
    if (prng_.one_in(2)) setup_.swap2 = area();
    if (setup_.swap2 != 0 && prng_.one_in(2)) setup_.swap3 = area();
  }
  if (prng_.one_in(4)) {
    setup_.pool_max = prng_.between(8, setup_.frames / 3);
    if (prng_.one_in(2)) setup_.disk_pages = kIoFramesMax * prng_.between(4, 24);
  }
}

void Generator::draw_kernel() {
  setup_.policy = prng_.below(3);
  setup_.cluster = prng_.one_in(4) ? 0 : 1;
  setup_.page_cluster = prng_.below(6);
  if (prng_.one_in(3)) {
    setup_.fresh_around = prng_.below(17);
    setup_.readahead_min = prng_.between(1, 8);
    setup_.readahead_max = prng_.between(setup_.readahead_min, 32);
  }
  if (prng_.one_in(2)) setup_.watermark = prng_.between(3, setup_.frames / 16 + 3);
  if (prng_.one_in(2)) setup_.mlock_max = prng_.below(setup_.frames / 4 + 1);
  if (prng_.one_in(4)) setup_.overcommit = prng_.between(1, 2);
  if (setup_.overcommit == 2) setup_.overcommit_ratio = prng_.between(50, 200);
  setup_.modern = prng_.one_in(3) ? 1 : 0;
  setup_.strict_stack = prng_.one_in(3) ? 0 : 1;
  if (prng_.one_in(3)) setup_.guard_gap = prng_.between(1, 256);
  if (prng_.one_in(20)) setup_.map_count_max = prng_.between(8, 40);
  setup_.slots = prng_.between(2, 8);
  setup_.audit_every = setup_.frames <= 200 ? 1 : prng_.between(1, 3);
}

void Generator::draw_mix() {
  draw_weights(kWeights);
  // Without these nothing happens at all.
  at_least({OpKind::mmap, OpKind::load, OpKind::store}, 80);
  at_least({OpKind::spawn}, 15);
  at_least({OpKind::complete}, 40);
  failures_left_ = prng_.one_in(3) ? prng_.between(1, 10) : 0;
  draw_fills(2);
  // Most seeds write nearly as much as can be held, one in six more.
  fullness_ = prng_.one_in(4) ? prng_.between(10, 80) : prng_.between(80, 98);
  if (prng_.one_in(6)) fullness_ = prng_.between(105, 250);
  if (!prng_.one_in(2)) return;
  // Half of the seeds keep most of what they write.
  less_often({OpKind::munmap, OpKind::exit, OpKind::kill, OpKind::mremap}, 5);
}

harness::LengthShape Generator::lengths() const {
  return {.frames = setup_.frames, .middle_part = 3, .short_percent = 92, .wild_fit = true};
}

bool Generator::draw_opening(Op* op) {
  *op = Op{};
  switch (ops_drawn_) {
    case 0: op->kind = OpKind::spawn; return true;
    case 1:
      op->kind = OpKind::catches;
      op->number = prng_.one_in(4) ? 0 : 1;
      return true;
    case 2:
    case 3:
    case 4:
      op->kind = OpKind::swapon;
      op->device = ops_drawn_ - 1;
      op->number = prng_.below(4);
      return true;
    case 5:
      // Memory that is never full shows little of a memory manager.
      op->kind = OpKind::mmap;
      op->len = prng_.between(setup_.frames / 2, setup_.frames * 2) * kPageSize;
      op->prot = Prot::read_write;
      if (prng_.one_in(4)) op->flags = bit(FlagBit::shared);
      return true;
    case 6:
      op->kind = OpKind::create;
      op->file = 0;
      op->number = prng_.between(4, setup_.file_pages / 2);
      op->newlen = op->number * kPageSize - prng_.below(2 * kPageSize);
      return true;
    case 7:
      op->kind = OpKind::open;
      op->file = 0;
      op->flags = bit(FlagBit::read) | bit(FlagBit::write);
      return true;
    default: return false;
  }
}

}  // namespace spillway::ksim
