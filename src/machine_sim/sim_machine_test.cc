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
  FaultOutcome on_fault(SpaceId space, VirtAddr va, Access, u32 attempt) override {
    attempts.push_back(attempt);
    if (refuse) return FaultOutcome::accerr;
    if (waits != 0) {
      --waits;
      return FaultOutcome::wait;
    }
    if (idle) return FaultOutcome::done;
    const VirtAddr page = addr_of(va.vpn());
    sim_.mmu().map(space, page, Pfn(next_), 1, Prot::read_write);
    tables_.set(va.vpn(), Pte::present(Pfn(next_), Prot::read_write));
    ++next_;
    return FaultOutcome::done;
  }

  std::vector<u32> attempts;
  u32 waits = 0;
  bool refuse = false;
  bool idle = false;

 private:
  TableBuilder prepare() {
    sim_.frames().acquire_quota(PageCount(kFrames));
    SPW_ASSERT(sim_.frames().bring_online(Pfn(0), PageCount(kFrames)).ok());
    return TableBuilder(sim_.machine(), kSpace, Pfn(kFrames));
  }
  SimMachine& sim_;
  TableBuilder tables_;
  u32 next_ = 0;
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
