// Row 63 of the acceptance table: kernel stacks, pages straight from the page allocator.
// Method: tasks are made and ended in thousands; each has two frames, aligned to their size, while
// it is there, and all are back at the end. Then memory is fragmented until no pair of frames
// exists.
#include "base/prng.h"
#include "system/kernel_impl.h"
#include "system/rows_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kPage = RowsBed::kPage;

// The two frames of a task's stack, checked.
void check_stack(RowsBed& bed, Pid pid) {
  const Pfn stack = bed.task(pid).kernel_stack;
  ASSERT_EQ(stack.v % 2, 0U);
  for (u32 i = 0; i < 2; ++i) {
    const FrameView f = bed.kernel().frame(stack + i);
    ASSERT_EQ(f.state, PageState::kernel);
    ASSERT_EQ(f.owner, PageOwner::stack);
  }
  // The task of a stack pointer, by masking: at the bottom, in the middle, and just under the top.
  const u8* bottom = bed.sim().machine().frames.bytes(stack);
  ASSERT_EQ(reinterpret_cast<u64>(bottom) % Kernel::kStackBytes, 0U);
  for (const u64 at : {u64{0}, kPage - 1, kPage, 2 * kPage - 1}) {
    ASSERT_EQ(bed.kernel().task_of_stack(bottom + at), pid) << at;
  }
  ASSERT_NE(bed.kernel().task_of_stack(bottom + 2 * kPage), pid);
}

TEST(RowsKernelStack, row_63_ten_thousand_tasks_two_frames_each_and_all_back) {
  RowsBed bed;
  const std::string initial = bed.remains();
  const Pid root = bed.spawn("root");
  const u64 base = bed.kernel().meminfo().kernel_stack;
  EXPECT_EQ(base, 2U);
  Prng prng(63);
  std::vector<Pid> alive;
  u64 made = 0;
  for (u32 step = 0; made < 10'000; ++step) {
    if (alive.size() < 60 && !prng.one_in(3)) {
      const Result<Pid> pid = bed.wait_for([&]() -> Result<Pid> {
        switch (prng.below(3)) {
          case 0: return bed.kernel().spawn("task");
          case 1: return bed.kernel().fork(root);
          default: return bed.kernel().clone_thread(root);
        }
      });
      ASSERT_TRUE(pid.ok());
      ++made;
      alive.push_back(pid.value());
      check_stack(bed, pid.value());
    } else if (!alive.empty()) {
      const u64 i = prng.below(alive.size());
      bed.kernel().exit(alive[i], 0);
      // Until it is reaped a dead task keeps its stack.
      if (step % 16 == 0) check_stack(bed, alive[i]);
      ASSERT_TRUE(bed.kernel().reap(alive[i]).ok());
      alive.erase(alive.begin() + static_cast<std::ptrdiff_t>(i));
    }
    if (step % 500 == 0) {
      ASSERT_EQ(bed.kernel().meminfo().kernel_stack, 2 * (1 + alive.size()));
      ASSERT_EQ(bed.audit(), "") << step;
    }
  }
  for (Pid pid : alive) {
    bed.kernel().exit(pid, 0);
    ASSERT_TRUE(bed.kernel().reap(pid).ok());
  }
  EXPECT_EQ(bed.quiet(), "");
  bed.kernel().exit(root, 0);
  ASSERT_TRUE(bed.kernel().reap(root).ok());
  EXPECT_EQ(bed.kernel().meminfo().kernel_stack, 0U);
  EXPECT_EQ(bed.remains(), initial);
}

class RowsNoPair : public testing::TestWithParam<Policy> {};
INSTANTIATE_TEST_SUITE_P(All, RowsNoPair, testing::ValuesIn(kRowPolicies), policy_name);

TEST_P(RowsNoPair, row_63_without_a_pair_of_frames_creation_fails_cleanly) {
  KernelBedConfig config;
  config.frames = 512;
  config.policy = GetParam();
  RowsBed bed(config);
  const Pid parent = bed.spawn("parent");
  const u64 at = bed.map(parent, 4);
  bed.fill(parent, at, 4);
  // All free frames are taken, and of each pair one is given back.
  std::vector<Pfn> taken;
  for (Pfn pfn = bed.allocator().rmqueue(0); pfn.valid(); pfn = bed.allocator().rmqueue(0)) {
    taken.push_back(pfn);
  }
  std::vector<bool> is_taken(512);
  for (Pfn pfn : taken) is_taken[pfn.v] = true;
  std::vector<Pfn> held;
  for (Pfn pfn : taken) {
    if (pfn.v % 2 == 0 && is_taken[pfn.v ^ 1]) {
      bed.allocator().free(pfn, 0);
    } else {
      held.push_back(pfn);
    }
  }
  const auto refused = [&](auto call) {
    const std::string before = bed.state(parent);
    const u32 tasks = bed.kernel().tasks(nullptr, 0);
    const Result<Pid> result = bed.wait_for(call);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error(), Error::no_memory);
    EXPECT_EQ(bed.kernel().tasks(nullptr, 0), tasks);
    EXPECT_EQ(bed.kernel().meminfo().kernel_stack, 2U);
    EXPECT_EQ(bed.kernel().meminfo().committed_as > 0, true);
    EXPECT_TRUE(bed.holds(parent, at, 4));
  };
  EXPECT_GT(bed.free_frames(), 150U) << "many single frames, and no pair";
  // The parent's pages are locked: reclaim must not bring a pair together.
  ASSERT_TRUE(bed.wait_for([&] { return bed.kernel().mlock(parent, at, 4 * kPage); }).ok());
  refused([&] { return bed.kernel().fork(parent); });
  refused([&] { return bed.kernel().clone_thread(parent); });
  refused([&] { return bed.kernel().spawn("new"); });
  // One neighbour more.
  bed.allocator().free(held.back(), 0);
  held.pop_back();
  Pid child{};
  for (const bool try_again : {true, false}) {
    const Result<Pid> result = bed.wait_for([&] { return bed.kernel().clone_thread(parent); });
    if (result.ok()) child = result.value();
    if (result.ok() || !try_again) break;
    // The highest frame taken may have had no free neighbour.
    while (!held.empty()) {
      const Pfn pfn = held.back();
      held.pop_back();
      bed.allocator().free(pfn, 0);
    }
  }
  ASSERT_TRUE(child.valid());
  check_stack(bed, child);
  for (Pfn pfn : held) bed.allocator().free(pfn, 0);
  EXPECT_EQ(bed.quiet(), "");
}

TEST(RowsKernelStack, row_63_at_most_a_quarter_as_many_tasks_as_frames) {
  KernelBedConfig config;
  config.frames = 256;
  RowsBed bed(config);
  EXPECT_EQ(bed.kernel().max_threads(), 64U);
  const Pid root = bed.spawn();
  for (u32 i = 1; i < 64; ++i) ASSERT_TRUE(bed.kernel().clone_thread(root).ok()) << i;
  const MemInfo before = bed.kernel().meminfo();
  EXPECT_EQ(before.kernel_stack, 128U);
  EXPECT_EQ(bed.kernel().clone_thread(root).error(), Error::again);
  EXPECT_EQ(bed.kernel().fork(root).error(), Error::again);
  EXPECT_EQ(bed.kernel().spawn("one more").error(), Error::again);
  EXPECT_EQ(bed.kernel().meminfo().mem_free, before.mem_free);
  EXPECT_EQ(bed.quiet(), "");
}

TEST(RowsKernelStack, the_audit_sees_a_stack_that_is_not_its_tasks) {
  RowsBed bed;
  const Pid pid = bed.spawn();
  ASSERT_EQ(bed.audit(), "");
  u8* bottom = bed.sim().machine().frames.bytes(bed.task(pid).kernel_stack);
  const u8 was = bottom[0];
  bottom[0] ^= 1;
  EXPECT_NE(bed.audit(), "") << "the record was overwritten";
  EXPECT_FALSE(bed.kernel().task_of_stack(bottom).valid());
  bottom[0] = was;
  ASSERT_EQ(bed.audit(), "");
  u8 outside = 0;
  EXPECT_FALSE(bed.kernel().task_of_stack(&outside).valid());
}

}  // namespace
}  // namespace spillway
