#include "machine_sim/sim_machine.h"

#include <gtest/gtest.h>

#include "machine_sim/panic_text_test.h"
#include "machine_sim/table_builder.h"

namespace spillway {
namespace {

constexpr SpaceId kSpace{1};
constexpr u32 kFrames = 48;

SimConfig config() {
  SimConfig c;
  c.frames = PageCount(kFrames);
  return c;
}

// Serves every fault with the next frame, after as many waits as the test asks for.
class NextFrameSink final : public FaultSink {
 public:
  explicit NextFrameSink(SimMachine& sim) : sim_(sim), tables_(prepare()) {}
  FaultOutcome on_fault(SpaceId space, VirtAddr va, Access access, u32 attempt) override {
    attempts.push_back(attempt);
    pages.push_back(va.vpn().v);
    accesses.push_back(access);
    if (refuse) return FaultOutcome::accerr;
    if (wait_once && attempt == 0) return FaultOutcome::wait;
    if (waits != 0) {
      --waits;
      return FaultOutcome::wait;
    }
    if (idle) return FaultOutcome::done;
    if (evict) take_back(space);
    serve(space, va);
    return served_by_io ? FaultOutcome::wait : FaultOutcome::done;
  }
  void serve(SpaceId space, VirtAddr va) {
    const VirtAddr page = addr_of(va.vpn());
    sim_.mmu().map(space, page, Pfn(next_), 1, Prot::all);
    tables_.set(va.vpn(), Pte::present(Pfn(next_), Prot::all));
    newest_ = va.vpn();
    if (!evict) ++next_;
  }
  u8* home(u32 frame) { return sim_.frames().bytes(Pfn(frame)); }

  std::vector<u32> attempts;
  std::vector<u64> pages;
  std::vector<Access> accesses;
  u32 waits = 0;
  bool refuse = false;
  bool idle = false;
  bool wait_once = false;     // every page needs an I/O
  bool served_by_io = false;  // the page is there when the I/O has ended
  bool evict = false;         // there is one frame only, the page before goes

 private:
  void take_back(SpaceId space) {
    const Pfn frame(next_);
    if (!sim_.mmu().is_mapped(space, newest_)) return;
    sim_.mmu().unmap(space, addr_of(newest_), &frame, 1, Prot::all);
    tables_.set(newest_, Pte{});
  }
  TableBuilder prepare() {
    sim_.frames().acquire_quota(PageCount(kFrames));
    SPW_ASSERT(sim_.frames().bring_online(Pfn(0), PageCount(kFrames)).ok());
    return TableBuilder(sim_.machine(), kSpace, Pfn(kFrames));
  }
  SimMachine& sim_;
  TableBuilder tables_;
  u32 next_ = 0;
  Vpn newest_{0};
};

TEST(SimMachine, accesses_span_pages_and_resolve_their_faults) {
  SimMachine sim(config());
  NextFrameSink sink(sim);
  u8 out[3 * kPageSize];
  u8 in[3 * kPageSize];
  for (u64 i = 0; i < sizeof in; ++i) in[i] = static_cast<u8>(i * 7);
  const SimAccess w = sim.store(sink, kSpace, VirtAddr(0x10800), in, sizeof in);
  EXPECT_EQ(w.outcome, FaultOutcome::done);
  EXPECT_EQ(w.faults, 4U);
  const SimAccess r = sim.load(sink, kSpace, VirtAddr(0x10800), out, sizeof out);
  EXPECT_EQ(r.outcome, FaultOutcome::done);
  EXPECT_EQ(r.faults, 0U);
  EXPECT_EQ(std::vector<u8>(in, in + sizeof in), std::vector<u8>(out, out + sizeof out));
}

TEST(SimMachine, a_waiting_access_is_retried_with_its_attempt) {
  SimMachine sim(config());
  NextFrameSink sink(sim);
  sink.waits = 2;
  u8 byte = 1;
  EXPECT_EQ(sim.store(sink, kSpace, VirtAddr(0x1000), &byte, 1, 0).outcome, FaultOutcome::wait);
  EXPECT_EQ(sim.store(sink, kSpace, VirtAddr(0x1000), &byte, 1, 1).outcome, FaultOutcome::wait);
  EXPECT_EQ(sim.store(sink, kSpace, VirtAddr(0x1000), &byte, 1, 2).outcome, FaultOutcome::done);
  EXPECT_EQ(sink.attempts, (std::vector<u32>{0, 1, 2}));
  sink.refuse = true;
  const SimAccess refused = sim.load(sink, kSpace, VirtAddr(0x5123), &byte, 1);
  EXPECT_EQ(refused.outcome, FaultOutcome::accerr);
  EXPECT_EQ(refused.va, VirtAddr(0x5123));
}

TEST(SimMachine, each_page_of_an_access_has_attempts_of_its_own) {
  u8 data[3 * kPageSize] = {};
  // The caller may start over or go on where the access stopped.
  for (const bool resume : {false, true}) {
    SimMachine sim(config());
    NextFrameSink sink(sim);
    sink.wait_once = true;
    VirtAddr va(0x10800);
    const VirtAddr end = va + sizeof data;
    u32 attempt = 0;
    for (SimAccess a{FaultOutcome::wait, va, 0}; a.outcome == FaultOutcome::wait; ++attempt) {
      if (resume) va = a.va;
      a = sim.store(sink, kSpace, va, data, end.v - va.v, attempt);
    }
    EXPECT_EQ(attempt, 5U) << "four pages wait, then the access happens";
    EXPECT_EQ(sink.attempts, (std::vector<u32>{0, 1, 0, 2, 0, 3, 0, 4}));
    EXPECT_EQ(sink.pages, (std::vector<u64>{0x10, 0x10, 0x11, 0x11, 0x12, 0x12, 0x13, 0x13}));
  }
}

TEST(SimMachine, a_page_that_came_by_itself_leaves_no_attempts_to_the_next) {
  SimMachine sim(config());
  NextFrameSink sink(sim);
  sink.served_by_io = true;
  u8 data[2 * kPageSize] = {};
  for (u32 attempt = 0; attempt < 2; ++attempt) {
    EXPECT_EQ(sim.load(sink, kSpace, VirtAddr(0x10000), data, sizeof data, attempt).outcome,
              FaultOutcome::wait);
  }
  EXPECT_EQ(sink.pages, (std::vector<u64>{0x10, 0x11}));
  EXPECT_EQ(sink.attempts, (std::vector<u32>{0, 0}));
  EXPECT_EQ(sim.load(sink, kSpace, VirtAddr(0x10000), data, sizeof data, 2).faults, 0U);
}

TEST(SimMachine, an_access_may_be_larger_than_memory) {
  SimMachine sim(config());
  NextFrameSink sink(sim);
  sink.evict = true;
  std::vector<u8> data(100 * kPageSize);
  const SimAccess a = sim.store(sink, kSpace, VirtAddr(0x10000), data.data(), data.size());
  EXPECT_EQ(a.outcome, FaultOutcome::done);
  EXPECT_EQ(a.faults, 100U);
  EXPECT_EQ(sink.pages.back(), 0x10U + 99);
}

TEST(SimMachine, a_refused_page_leaves_those_before_it_accessed) {
  SimMachine sim(config());
  NextFrameSink sink(sim);
  const u8 data[kPageSize] = {1, 2, 3};
  EXPECT_EQ(sim.store(sink, kSpace, VirtAddr(0x10000), data, 1).outcome, FaultOutcome::done);
  sink.refuse = true;
  const SimAccess a = sim.store(sink, kSpace, VirtAddr(0x10ffe), data, 3);
  EXPECT_EQ(a.outcome, FaultOutcome::accerr);
  EXPECT_EQ(a.va, VirtAddr(0x11000));
  EXPECT_EQ(sink.home(0)[kPageSize - 1], 2);
}

TEST(SimMachine, fetches_ask_for_the_right_to_execute) {
  SimMachine sim(config());
  NextFrameSink sink(sim);
  u8 code[8];
  const SimAccess a = sim.fetch(sink, kSpace, VirtAddr(0x10ffc), code, sizeof code);
  EXPECT_EQ(a.outcome, FaultOutcome::done);
  EXPECT_EQ(a.faults, 2U);
  EXPECT_EQ(sink.accesses, (std::vector<Access>{Access::exec, Access::exec}));
  EXPECT_EQ(sim.fetch(sink, kSpace, VirtAddr(0x10ffc), code, sizeof code).faults, 0U);
}

TEST(SimMachineDeathTest, an_access_without_progress_is_a_panic) {
  print_panics();
  SimMachine sim(config());
  NextFrameSink sink(sim);
  sink.idle = true;
  u8 byte = 1;
  EXPECT_DEATH(sim.load(sink, kSpace, VirtAddr(0x1000), &byte, 1), "no progress");
}

TEST(SimMachine, boot_memory_is_bounded_and_aligned) {
  SimConfig c = config();
  c.boot_bytes_max = 10'000;
  SimMachine sim(c);
  void* p = sim.boot().alloc(6000, kPageSize);
  ASSERT_NE(p, nullptr);
  EXPECT_EQ(reinterpret_cast<u64>(p) % kPageSize, 0U);
  EXPECT_EQ(sim.boot().alloc(6000, 8), nullptr);
  EXPECT_NE(sim.boot().alloc(4000, 8), nullptr);
}

TEST(SimMachine, a_machine_without_disk_has_no_device) {
  SimMachine sim(config());
  EXPECT_EQ(sim.machine().swap_device, nullptr);
  EXPECT_FALSE(sim.complete_one());
  const u64 before = sim.clock().now_ns();
  sim.advance(5);
  EXPECT_EQ(sim.clock().now_ns(), before + 5);
  sim.cpus().set_current(1);
  EXPECT_EQ(sim.machine().cpus.current(), 1U);
  EXPECT_EQ(sim.machine().cpus.count(), 2U);
}

}  // namespace
}  // namespace spillway
