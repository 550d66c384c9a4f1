// Row 61 on a whole kernel: an area is memory of the kernel's own space, its guard pages end in the
// fault handler, its frames are never chosen by reclaim, and views and audit know all of it.
// (src/vmalloc/vmalloc_test.cc has the rows on the allocator alone.)
#include "system/rows_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kPage = RowsBed::kPage;

class RowsVmalloc : public testing::TestWithParam<Policy> {};
INSTANTIATE_TEST_SUITE_P(All, RowsVmalloc, testing::ValuesIn(kRowPolicies), policy_name);

TEST_P(RowsVmalloc, row_61_areas_of_a_kernel_under_pressure) {
  KernelBedConfig config;
  config.frames = 512;
  config.policy = GetParam();
  RowsBed bed(config);
  const std::string initial = bed.remains();
  System& system = bed.kernel().system();
  const SpaceId space = System::kernel_space();
  const VirtAddr at = system.vmalloc(100 * kPage).value();
  const auto store = [&](u64 addr, u8 value) {
    return bed.sim().store(bed.kernel(), space, VirtAddr(addr), &value, 1).outcome;
  };
  const auto load = [&](u64 addr, FaultOutcome expected = FaultOutcome::done) {
    u8 value = 0;
    EXPECT_EQ(bed.sim().load(bed.kernel(), space, VirtAddr(addr), &value, 1).outcome, expected);
    return value;
  };
  for (u64 i = 0; i < 100; ++i) {
    ASSERT_EQ(store(at.v + i * kPage + i, static_cast<u8>(i + 1)), FaultOutcome::done);
  }
  EXPECT_EQ(store(at.v + 100 * kPage, 1), FaultOutcome::maperr) << "one byte past the end";
  EXPECT_EQ(store(at.v - 1, 1), FaultOutcome::maperr) << "one byte before the start";
  MemInfo m = bed.kernel().meminfo();
  EXPECT_EQ(m.vmalloc_used, 100U);
  VmallocView view[2];
  ASSERT_EQ(bed.kernel().vmalloc_areas(view, 2), 1U);
  EXPECT_EQ(view[0].start, at);
  EXPECT_EQ(view[0].pages, 100U);
  EXPECT_EQ(bed.quiet(), "");
  // Twice what is left goes through memory; the area stays where it is.
  const Pid pid = bed.spawn();
  const u64 user = bed.map(pid, 800);
  bed.fill(pid, user, 800);
  for (u64 i = 0; i < 100; ++i) ASSERT_EQ(load(at.v + i * kPage + i), static_cast<u8>(i + 1));
  EXPECT_EQ(bed.kernel().meminfo().vmalloc_used, 100U);
  EXPECT_EQ(bed.quiet(), "");
  // A process has no such memory.
  EXPECT_EQ(bed.load(pid, at.v), -1);
  EXPECT_EQ(system.vfree(at + kPage).error(), Error::invalid);
  ASSERT_TRUE(system.vfree(at).ok());
  EXPECT_EQ(system.vfree(at).error(), Error::invalid);
  (void)load(at.v, FaultOutcome::maperr);
  // Freed areas that wait to be unmapped go when reclaim asks.
  const VirtAddr small = system.vmalloc(20 * kPage).value();
  ASSERT_TRUE(system.vfree(small).ok());
  EXPECT_EQ(bed.kernel().meminfo().vmalloc_used, 20U);
  EXPECT_EQ(bed.quiet(), "");
  bed.fill(pid, user, 800, 1);
  EXPECT_EQ(bed.kernel().meminfo().vmalloc_used, 0U);
  EXPECT_TRUE(bed.holds(pid, user, 800, 1));
  bed.kernel().exit(pid, 0);
  ASSERT_TRUE(bed.kernel().reap(pid).ok());
  EXPECT_EQ(bed.quiet(), "");
  EXPECT_EQ(bed.remains(), initial);
}

TEST(RowsVmallocLimits, a_machine_without_room_for_it_refuses) {
  RowsBed bed;
  System& system = bed.kernel().system();
  EXPECT_EQ(system.vmalloc(0).error(), Error::invalid);
  EXPECT_EQ(system.vmalloc(1025 * kPage).error(), Error::no_memory) << "above RAM";
  SimConfig machine;
  machine.features = Features{};
  SimMachine sim(machine);
  Counters counters{};
  EventRing ring;
  System* host_like = System::boot(sim.machine(), Config{}, counters, ring).value();
  EXPECT_EQ(host_like->vmalloc(1).error(), Error::invalid) << "no range was set aside";
}

}  // namespace
}  // namespace spillway
