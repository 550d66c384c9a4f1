// CPU lists: what they hand out, how they meet the buddy lists, that they count exactly, and that
// threads lose no frame in them. Method: the allocator on the simulated machine, whose CPU the test
// chooses; for threads, a CPU number for each of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <thread>
#include <vector>

#include "base/prng.h"
#include "page/page_bed_test.h"

namespace spillway {
namespace {

constexpr AllocFlags kNoWait{};
constexpr u32 kBatch = PageAllocator::kPcpBatch;
constexpr u32 kHigh = PageAllocator::kPcpHigh;

u32 in_lists(const PageBed& bed) {
  u32 count = 0;
  for (u32 i = 0; i < bed.frames.count().v; ++i) {
    if (bed.frames[Pfn(i)].state == PageState::pcp) ++count;
  }
  return count;
}

TEST(PageAllocator, cpu_lists_refill_and_drain_in_batches) {
  PageBed bed(1024);
  bed.grow_all();
  const Pfn first = bed.allocator.alloc(0, kNoWait).value();
  for (u32 i = 1; i < PageAllocator::kPcpBatch; ++i) {
    EXPECT_EQ(bed.allocator.alloc(0, kNoWait).value(), first + i) << "handed out rising";
  }
  // LIFO on one CPU, and its list stays bounded.
  bed.allocator.free(first, 0);
  EXPECT_EQ(bed.allocator.alloc(0, kNoWait).value(), first);
  std::vector<Pfn> taken;
  for (u32 i = 0; i < 200; ++i) taken.push_back(bed.allocator.alloc(0, kNoWait).value());
  for (Pfn pfn : taken) bed.allocator.free(pfn, 0);
  u32 in_pcp = 0;
  for (u32 i = 0; i < 1024; ++i) in_pcp += bed.frames[Pfn(i)].state == PageState::pcp ? 1 : 0;
  EXPECT_LE(in_pcp, PageAllocator::kPcpHigh);
  EXPECT_GT(in_pcp, 0U);
  EXPECT_TRUE(bed.allocator.validate());
}

TEST(PageAllocator, frames_in_another_cpus_list_are_found) {
  PageBed bed(64);
  bed.grow_all();
  std::vector<Pfn> taken;
  for (u32 i = 0; i < 64; ++i) taken.push_back(bed.allocator.alloc(0, kAllocReclaim).value());
  for (u32 i = 0; i < 20; ++i) bed.allocator.free(taken[i], 0);
  bed.sim.cpus().set_current(1);
  for (u32 i = 0; i < 20; ++i) EXPECT_TRUE(bed.allocator.alloc(0, kAllocReclaim).ok()) << i;
  EXPECT_EQ(bed.allocator.free_pages().v, 0U);
}

// What overflows is what has lain in the list longest: the hot frames stay.
TEST(PageAllocator, a_full_cpu_list_gives_its_coldest_frames_back) {
  PageBed bed(1024);
  bed.grow_all();
  std::vector<Pfn> taken;
  for (u32 i = 0; i < 4 * kBatch; ++i) taken.push_back(bed.allocator.alloc(0, kNoWait).value());
  ASSERT_EQ(in_lists(bed), 0U);
  for (u32 i = 0; i <= kHigh; ++i) bed.allocator.free(taken[i], 0);
  EXPECT_EQ(in_lists(bed), kHigh - kBatch + 1);
  for (u32 i = 0; i <= kHigh; ++i) {
    EXPECT_EQ(bed.frames[taken[i]].state, i < kBatch ? PageState::free : PageState::pcp) << i;
  }
  EXPECT_TRUE(bed.allocator.validate());
  for (u32 i = kHigh; i >= kBatch; --i) {
    EXPECT_EQ(bed.allocator.alloc(0, kNoWait).value(), taken[i]) << "the last one first";
  }
  EXPECT_TRUE(bed.sum_holds());
}

// The watermark counts frames in lists, whosever they are.
TEST(PageAllocator, frames_in_other_lists_count_for_the_watermark) {
  PageBed bed(256);
  bed.grow_all();
  PageAllocator& a = bed.allocator;
  a.set_marks({PageCount(20), PageCount(40), PageCount(60)});
  std::vector<Pfn> taken;
  while (a.free_pages().v > 0) taken.push_back(a.alloc(0, kAllocReclaim).value());
  for (u32 i = 0; i < 21; ++i) a.free(taken[i], 0);
  ASSERT_EQ(in_lists(bed), 21U);
  bed.sim.cpus().set_current(1);
  EXPECT_TRUE(a.alloc(0, kNoWait).ok());
  EXPECT_EQ(a.free_pages().v, 20U);
  EXPECT_EQ(a.alloc(0, kNoWait).error(), Error::no_memory);
}

TEST(PageAllocator, counts_of_cpu_lists_are_exact_after_fold) {
  PageBed bed(1024);
  bed.grow_all();
  PageAllocator& a = bed.allocator;
  std::vector<Pfn> taken;
  u64 allocated = 0;
  u64 freed = 0;
  for (u32 i = 0; i < 300; ++i) {
    bed.sim.cpus().set_current(i % 2);
    taken.push_back(a.alloc(0, kNoWait).value());
    ++allocated;
    if (i % 3 == 0) {
      a.free(taken.back(), 0);
      taken.pop_back();
      ++freed;
    }
    if (i % 50 == 0) {
      a.free(a.alloc(3, kNoWait).value(), 3);
      allocated += 8;
      freed += 8;
    }
  }
  EXPECT_LT(bed.count(Counter::pgalloc), allocated) << "the CPU counts for itself first";
  a.fold_counts();
  EXPECT_EQ(bed.count(Counter::pgalloc), allocated);
  EXPECT_EQ(bed.count(Counter::pgfree), freed);
  a.fold_counts();
  EXPECT_EQ(bed.count(Counter::pgfree), freed) << "folded once";
}

TEST(PageAllocator, without_lists_every_frame_goes_to_the_buddy_lists) {
  PageBed bed(1024);
  bed.grow_all();
  bed.allocator.free(bed.allocator.alloc(0, kNoWait).value(), 0);
  ASSERT_GT(in_lists(bed), 0U);
  bed.allocator.use_pcp(false);
  EXPECT_EQ(bed.allocator.blocks(kOrderMax), 2U);
  const Pfn pfn = bed.allocator.alloc(0, kNoWait).value();
  EXPECT_EQ(in_lists(bed), 0U);
  bed.allocator.free(pfn, 0);
  EXPECT_EQ(bed.allocator.blocks(kOrderMax), 2U);
  bed.allocator.fold_counts();
  EXPECT_EQ(bed.count(Counter::pgalloc), 2U);
  EXPECT_EQ(bed.count(Counter::pgfree), 2U);
  bed.allocator.use_pcp(true);
  (void)bed.allocator.alloc(0, kNoWait);
  EXPECT_EQ(in_lists(bed), kBatch - 1);
}

// Two wrongs that every sum takes for a right.
TEST(PageAllocator, validate_sees_a_list_that_holds_the_wrong_frame) {
  PageBed bed(512);
  bed.grow_all();
  const Pfn mine = bed.allocator.alloc(0, kNoWait).value();
  const Pfn listed = mine + 1;
  ASSERT_EQ(bed.frames[listed].state, PageState::pcp);
  ASSERT_TRUE(bed.allocator.validate());
  bed.frames[listed].state = PageState::isolated;
  bed.frames[mine].state = PageState::pcp;
  EXPECT_TRUE(bed.sum_holds());
  EXPECT_FALSE(bed.allocator.validate());
}

// Threads.

class ThreadCpus final : public Cpus {
 public:
  explicit ThreadCpus(u32 count) { count_ = count; }
  u32 current() override { return t_cpu; }
  static thread_local u32 t_cpu;
};
thread_local u32 ThreadCpus::t_cpu = 0;

// An allocator whose callers say by ThreadCpus::t_cpu on which CPU they are.
struct ThreadBed {
  ThreadBed(u64 frame_count, u32 cpu_count) : bed(frame_count), cpus(cpu_count) {
    a.init(machine, bed.frames, bed.observer);
  }
  PageBed bed;
  ThreadCpus cpus;
  Machine& sim = bed.sim.machine();
  Machine machine{sim.features, sim.frames, sim.mmu, sim.clock, cpus, sim.boot, nullptr};
  PageAllocator a;
};

// Row 10, short: the stress test of the host machine runs it for longer.
TEST(PageAllocator, row_10_threads_lose_no_frame) {
  constexpr u32 kThreads = 4;
  ThreadBed thread_bed(2048, kThreads);
  PageAllocator& a = thread_bed.a;
  ASSERT_EQ(a.grow(2048), 2048U);
  std::atomic<u32> bad{0};
  const auto work = [&](u32 id) {
    ThreadCpus::t_cpu = id;
    Prng prng(id);
    std::vector<Pfn> mine;
    for (u32 step = 0; step < 20'000; ++step) {
      if (mine.size() < 400 && !prng.one_in(2)) {
        const Result<Pfn> pfn = a.alloc(0, kNoWait);
        if (!pfn.ok()) {
          ++bad;
          return;
        }
        // Nobody else has it: its bytes are ours.
        *thread_bed.machine.frames.bytes(pfn.value()) = static_cast<u8>(id + 1);
        mine.push_back(pfn.value());
      } else if (!mine.empty()) {
        const Pfn pfn = mine[prng.below(mine.size())];
        if (*thread_bed.machine.frames.bytes(pfn) != static_cast<u8>(id + 1)) ++bad;
        mine.erase(std::find(mine.begin(), mine.end(), pfn));
        // A thread may free on another CPU than it allocated on.
        if (prng.one_in(8)) ThreadCpus::t_cpu = static_cast<u32>(prng.below(kThreads));
        a.free(pfn, 0);
      }
      if (step % 1000 == 0) a.drain_pcp();
    }
    for (Pfn pfn : mine) a.free(pfn, 0);
  };
  std::vector<std::thread> threads;
  for (u32 id = 0; id < kThreads; ++id) threads.emplace_back(work, id);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(bad.load(), 0U);
  a.drain_pcp();
  EXPECT_EQ(a.free_pages().v, 2048U);
  EXPECT_EQ(a.blocks(kOrderMax), 4U);
  EXPECT_TRUE(a.validate());
}

// Row 10 under pressure: together the threads want more than there is, in blocks of several orders,
// so that requests are refused, CPU lists are drained under other threads' hands and blocks split
// and merge. At every sample all stop, and I1 is recounted from what they hold.
TEST(PageAllocator, row_10_under_pressure_every_sample_adds_up) {
  constexpr u32 kThreads = 4;
  constexpr u32 kSamples = 40;
  constexpr u32 kStepsPerSample = 2'500;
  constexpr u64 kFrames = 1024;
  ThreadBed thread_bed(kFrames, kThreads);
  PageAllocator& a = thread_bed.a;
  ASSERT_TRUE(a.reserve(Pfn(0), PageCount(16)).ok());
  ASSERT_EQ(a.grow(kFrames), kFrames - 16);
  struct Block {
    Pfn pfn;
    u32 order;
  };
  std::vector<Block> held[kThreads];
  std::atomic<u64> refused{0};
  std::atomic<u32> bad{0};
  u32 samples = 0;
  // Runs on one thread while the others wait.
  const auto sample = [&]() noexcept {
    u64 taken = 0;
    for (const std::vector<Block>& of_one : held) {
      for (const Block& block : of_one) taken += u64{1} << block.order;
    }
    if (a.free_pages().v + taken + a.reserved().v != a.online().v || !a.validate()) ++bad;
    ++samples;
  };
  std::barrier sync(kThreads, sample);
  const auto work = [&](u32 id) {
    ThreadCpus::t_cpu = id;
    Prng prng(100 + id);
    std::vector<Block>& mine = held[id];
    const auto mark = [&](Pfn pfn) { return static_cast<u8>(pfn.v * 7 + id + 1); };
    for (u32 step = 0; step < kSamples * kStepsPerSample; ++step) {
      if (step % kStepsPerSample == 0) sync.arrive_and_wait();
      if (!prng.one_in(3) && mine.size() < 400) {
        const u32 order = prng.one_in(4) ? static_cast<u32>(prng.below(4)) : 0;
        const Result<Pfn> pfn = a.alloc(order, kAllocAtomic);
        if (!pfn.ok()) {
          ++refused;
          continue;
        }
        for (u32 i = 0; i < 1U << order; ++i) {
          *thread_bed.machine.frames.bytes(pfn.value() + i) = mark(pfn.value() + i);
        }
        mine.push_back({pfn.value(), order});
      } else if (!mine.empty()) {
        const u64 i = prng.below(mine.size());
        const Block block = mine[i];
        for (u32 k = 0; k < 1U << block.order; ++k) {
          if (*thread_bed.machine.frames.bytes(block.pfn + k) != mark(block.pfn + k)) ++bad;
        }
        mine[i] = mine.back();
        mine.pop_back();
        a.free(block.pfn, block.order);
      }
      if (step % 5'000 == id * 1'000) a.drain_pcp();
    }
    sync.arrive_and_wait();
    for (const Block& block : mine) a.free(block.pfn, block.order);
  };
  std::vector<std::thread> threads;
  for (u32 id = 0; id < kThreads; ++id) threads.emplace_back(work, id);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(bad.load(), 0U);
  EXPECT_EQ(samples, kSamples + 1);
  EXPECT_GT(refused.load(), 1000U) << "there was pressure";
  a.drain_pcp();
  EXPECT_EQ(a.free_pages().v, kFrames - 16);
  EXPECT_EQ(a.blocks(kOrderMax), 1U);
  EXPECT_TRUE(a.validate());
}

// What may be done without the engine lock, while its holder grows and shrinks the zone and enters
// and leaves reclaim. Mostly for ThreadSanitizer; the reserve must be there in every run.
TEST(PageAllocator, atomic_callers_need_no_engine_lock) {
  constexpr u64 kFrames = 4096;
  ThreadBed thread_bed(kFrames, 3);
  PageAllocator& a = thread_bed.a;
  ASSERT_EQ(a.grow(1024), 1024U);
  std::atomic<u32> running{2};
  const auto work = [&](u32 id) {
    ThreadCpus::t_cpu = id;
    Prng prng(id);
    std::vector<std::pair<Pfn, u32>> mine;
    for (u32 step = 0; step < 20'000; ++step) {
      const u32 order = static_cast<u32>(prng.below(3));
      const Result<Pfn> pfn = a.alloc(order, kAllocAtomic);
      if (pfn.ok()) mine.emplace_back(pfn.value(), order);
      Pfn run;
      if (prng.one_in(16)) {
        const u32 got = a.alloc_run(5, &run);
        for (u32 i = 0; i < got; ++i) mine.emplace_back(run + i, 0);
      }
      while (mine.size() > 100 || (!pfn.ok() && !mine.empty())) {
        a.free(mine.back().first, mine.back().second);
        mine.pop_back();
      }
    }
    for (const auto& [pfn, order] : mine) a.free(pfn, order);
    --running;
  };
  std::thread first(work, 1);
  std::thread second(work, 2);
  ThreadCpus::t_cpu = 0;
  for (u32 round = 0; running.load() != 0; ++round) {
    (void)a.grow(500);
    a.enter_reclaim();
    const Result<Pfn> one = a.alloc(0, kAllocKernel);
    if (one.ok()) a.free(one.value(), 0);
    a.leave_reclaim();
    (void)a.shrink(round % 2 == 0 ? 700 : 400);
  }
  first.join();
  second.join();
  a.drain_pcp();
  EXPECT_EQ(a.free_pages(), a.online());
  EXPECT_TRUE(a.validate());
}

// Lists alone, with what moves between them and the buddy lists: each thread takes and gives back
// more than a list holds, also on other CPUs, in single frames and in runs; one of them drains all
// lists and folds all counts again and again. At every quiet point I1 is recounted from what the
// threads hold, and the counters must tell the same.
TEST(PageAllocator, bursts_of_threads_leave_lists_and_counters_exact) {
  constexpr u32 kThreads = 4;
  constexpr u32 kSamples = 30;
  constexpr u32 kBurstsPerSample = 60;
  constexpr u64 kFrames = 4096;
  ThreadBed thread_bed(kFrames, kThreads - 1);  // one list has two owners
  PageAllocator& a = thread_bed.a;
  ASSERT_TRUE(a.reserve(Pfn(0), PageCount(8)).ok());
  ASSERT_EQ(a.grow(kFrames), kFrames - 8);
  std::vector<Pfn> held[kThreads];
  std::atomic<u32> bad{0};
  u32 samples = 0;
  const auto sample = [&]() noexcept {
    u64 taken = 0;
    for (const std::vector<Pfn>& of_one : held) taken += of_one.size();
    if (a.free_pages().v + taken + a.reserved().v != a.online().v || !a.validate()) ++bad;
    a.fold_counts();
    if (thread_bed.bed.counters[Counter::pgalloc] - thread_bed.bed.counters[Counter::pgfree] !=
        taken)
      ++bad;
    ++samples;
  };
  std::barrier sync(kThreads, sample);
  const auto work = [&](u32 id) {
    Prng prng(7 + id);
    std::vector<Pfn>& mine = held[id];
    for (u32 burst = 0; burst < kSamples * kBurstsPerSample; ++burst) {
      if (burst % kBurstsPerSample == 0) sync.arrive_and_wait();
      ThreadCpus::t_cpu =
          prng.one_in(4) ? static_cast<u32>(prng.below(kThreads - 1)) : id % (kThreads - 1);
      u64 want = prng.below(2 * kHigh);
      Pfn first;
      if (prng.one_in(8)) {
        const u32 run = a.alloc_run(static_cast<u32>(want % 32) + 1, &first);
        for (u32 i = 0; i < run; ++i) mine.push_back(first + i);
      }
      for (; want > 0 && mine.size() < 600; --want) {
        const Result<Pfn> pfn = a.alloc(0, kAllocAtomic);
        if (!pfn.ok()) break;
        mine.push_back(pfn.value());
        *thread_bed.machine.frames.bytes(pfn.value()) = static_cast<u8>(id + 1);
      }
      for (u64 back = prng.below(2 * kHigh); back > 0 && !mine.empty(); --back) {
        std::swap(mine[prng.below(mine.size())], mine.back());
        a.free(mine.back(), 0);
        mine.pop_back();
      }
      if (id == 0 && burst % 8 == 0) a.drain_pcp();
      if (id == 0) a.fold_counts();
    }
    sync.arrive_and_wait();
    for (const Pfn pfn : mine) a.free(pfn, 0);
  };
  std::vector<std::thread> threads;
  for (u32 id = 0; id < kThreads; ++id) threads.emplace_back(work, id);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(bad.load(), 0U);
  EXPECT_EQ(samples, kSamples + 1);
  a.drain_pcp();
  a.fold_counts();
  EXPECT_EQ(thread_bed.bed.counters[Counter::pgalloc], thread_bed.bed.counters[Counter::pgfree]);
  EXPECT_GT(thread_bed.bed.counters[Counter::pgalloc], 100'000U);
  EXPECT_EQ(a.free_pages().v, kFrames - 8);
  EXPECT_EQ(a.blocks(kOrderMax), kFrames / 512 - 1);
  EXPECT_TRUE(a.validate());
}

}  // namespace
}  // namespace spillway
