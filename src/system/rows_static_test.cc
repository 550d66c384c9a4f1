// Rows 1 to 3 of the acceptance table: static memory.
// Method: a kernel boots with reserved runs in several places, one of them an init region. The
// reserved frames carry a pattern, and nothing that the machine goes through may touch them.
#include <cstring>

#include "system/kernel_impl.h"
#include "system/rows_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kPage = RowsBed::kPage;
constexpr u64 kFrames = 512;
constexpr u64 kStatic = 16 + 8 + 5;  // code, data, boot memory
constexpr u64 kInit = 12;

Config with_static(Config mm) {
  mm.reserved[0] = {ReservedKind::code, 0, 16};
  mm.reserved[1] = {ReservedKind::data, 16, 8};
  mm.reserved[2] = {ReservedKind::init, 300, kInit};
  mm.reserved[3] = {ReservedKind::bootmem, 507, 5};  // the arena's end
  mm.reserved_runs = 4;
  return mm;
}

bool is_static(u64 frame) { return frame < 24 || frame >= 507; }

class RowsStatic : public testing::TestWithParam<Policy> {};
INSTANTIATE_TEST_SUITE_P(All, RowsStatic, testing::ValuesIn(kRowPolicies), policy_name);

KernelBedConfig config_of(Policy policy) {
  KernelBedConfig config;
  config.frames = kFrames;
  config.policy = policy;
  config.kernel.mm = with_static(config.kernel.mm);
  return config;
}

u64 sum_of_states(Kernel& kernel) {
  u64 sum = 0;
  for (u32 i = 0; i < kFrames; ++i) {
    if (kernel.frame(Pfn(i)).state != PageState::offline) ++sum;
  }
  return sum;
}

TEST_P(RowsStatic, row_01_free_of_a_reserved_frame_is_counted_and_nothing_else) {
  RowsBed bed(config_of(GetParam()));
  const MemInfo before = bed.kernel().meminfo();
  EXPECT_EQ(before.reserved, kStatic);
  EXPECT_EQ(before.reserved_code, 16U);
  EXPECT_EQ(before.reserved_data, 8U);
  EXPECT_EQ(before.reserved_init, 0U) << "booting has ended";
  EXPECT_EQ(before.reserved_bootmem, 5U);
  EXPECT_EQ(before.mem_total + before.reserved, kFrames);
  EXPECT_EQ(bed.quiet(), "");  // free + allocated + reserved = total
  const std::string all = bed.remains();
  bed.allocator().free(Pfn(3), 0);
  bed.allocator().free(Pfn(16), 2);
  EXPECT_EQ(bed.count(Counter::pgfree_reserved), 2U);
  EXPECT_EQ(bed.remains(), all);
  EXPECT_EQ(sum_of_states(bed.kernel()), kFrames);
  EXPECT_EQ(bed.kernel().frame(Pfn(3)).state, PageState::reserved);
  EXPECT_EQ(bed.quiet(), "");
}

TEST_P(RowsStatic, row_02_no_reserved_frame_is_handed_out_aged_or_scanned) {
  RowsBed bed(config_of(GetParam()));
  for (u32 i = 0; i < kFrames; ++i) {
    if (is_static(i)) std::memset(bed.sim().machine().frames.bytes(Pfn(i)), 0xa7, kPage);
  }
  const auto untouched = [&] {
    for (u32 i = 0; i < kFrames; ++i) {
      if (!is_static(i)) continue;
      const FrameView f = bed.kernel().frame(Pfn(i));
      if (f.state != PageState::reserved || f.owner != PageOwner::boot) return false;
      if (f.queue != PageQueue::none || f.age != 0 || f.referenced || f.count != 0) return false;
      if (!all_bytes_are(bed.sim().machine().frames.bytes(Pfn(i)), 0xa7, kPage)) return false;
    }
    return true;
  };
  // Twice the memory, with ageing and daemons, then until nothing is left at all.
  const Pid pid = bed.spawn();
  const u64 at = bed.map(pid, 2 * kFrames);
  bed.fill(pid, at, 2 * kFrames);
  for (u32 i = 0; i < 50; ++i) {
    bed.kernel().age();
    (void)bed.kernel().visit(pid);
    (void)bed.kernel().step(Daemon::kswapd);
  }
  EXPECT_GT(bed.count(Counter::pgscan), 0U);
  EXPECT_TRUE(bed.holds(pid, at, 2 * kFrames));
  EXPECT_TRUE(untouched());
  EXPECT_EQ(bed.quiet(), "");
  std::vector<Pfn> taken;
  for (Pfn pfn = bed.allocator().rmqueue(0); pfn.valid(); pfn = bed.allocator().rmqueue(0)) {
    EXPECT_FALSE(is_static(pfn.v)) << pfn.v;
    taken.push_back(pfn);
  }
  EXPECT_FALSE(taken.empty());
  EXPECT_TRUE(untouched());
  for (Pfn pfn : taken) bed.allocator().free(pfn, 0);
  EXPECT_EQ(bed.quiet(), "");
}

TEST(RowsStaticBoot, row_03_the_init_region_becomes_free_exactly_once) {
  SimConfig machine;
  machine.frames = PageCount(kFrames);
  SimMachine sim(machine);
  Counters counters{};
  EventRing ring;
  SystemImpl sys(sim.machine(), with_static({}), counters, ring);
  ASSERT_TRUE(sys.boot().ok());
  while (sys.allocator.grow(PageAllocator::kGrowBatch) > 0) {
  }
  // Booting: the init region is loaded, and reserved as the rest.
  EXPECT_EQ(sys.allocator.reserved().v, kStatic + kInit);
  EXPECT_EQ(sys.reserved_now(ReservedKind::init), kInit);
  EXPECT_TRUE(sys.audit().ok) << sys.audit().what;
  const u64 free_before = sys.allocator.free_pages().v;
  const u64 total_before = sys.allocator.managed().v;
  sys.finish_boot();
  EXPECT_EQ(sys.allocator.reserved().v, kStatic);
  EXPECT_EQ(sys.allocator.free_pages().v, free_before + kInit);
  EXPECT_EQ(sys.allocator.managed().v, total_before + kInit) << "total RAM rises";
  EXPECT_EQ(sys.allocator.online().v, kFrames);
  for (u32 i = 300; i < 300 + kInit; ++i) EXPECT_EQ(sys.frames[Pfn(i)].state, PageState::free);
  EXPECT_TRUE(sys.audit().ok) << sys.audit().what;
  sys.finish_boot();
  EXPECT_EQ(sys.allocator.free_pages().v, free_before + kInit) << "once";
  EXPECT_EQ(sys.allocator.reserved().v, kStatic);
  // The boot line tells of the time before.
  const BootLine line = sys.system.boot_line();
  EXPECT_EQ(line.total, kFrames);
  EXPECT_EQ(line.reserved, kStatic + kInit);
  EXPECT_EQ(line.available, kFrames - kStatic - kInit);
  EXPECT_EQ(line.code + line.data + line.init + line.bootmem, line.reserved);
  EXPECT_EQ(line.init_freed, kInit);
  // A reserved frame that somebody made free is seen.
  sys.frames[Pfn(5)].state = PageState::kernel;
  EXPECT_FALSE(sys.audit().ok);
}

TEST(RowsStaticBoot, runs_that_overlap_or_leave_the_arena_are_refused) {
  for (const ReservedRun bad :
       {ReservedRun{ReservedKind::init, 15, 2}, ReservedRun{ReservedKind::data, kFrames, 1},
        ReservedRun{ReservedKind::data, kFrames - 1, 2}}) {
    SimConfig machine;
    machine.frames = PageCount(kFrames);
    SimMachine sim(machine);
    Counters counters{};
    EventRing ring;
    Config config;
    config.reserved[0] = {ReservedKind::code, 0, 16};
    config.reserved[1] = bad;
    config.reserved_runs = 2;
    const Result<System*> system = System::boot(sim.machine(), config, counters, ring);
    ASSERT_FALSE(system.ok());
    EXPECT_EQ(system.error(), Error::invalid);
  }
}

}  // namespace
}  // namespace spillway
