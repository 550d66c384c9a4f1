// Throughput of the page allocator with one and two threads.
//
//   buddy_bench [--quick]
//
// cpu-lists   single frames through the per-CPU lists: what a fault does
// buddy       single frames straight from and to the buddy lists under the zone lock: the same
//             without the lists in front
// mixed       orders 0 to 3, of which the larger ones always go to the buddy lists
//
// Each thread holds 256 blocks and exchanges one at random: an operation is one free and one alloc.
// Rounds are interleaved; the figures are medians, beside the slowest and the fastest round.
// "1" and "2" are threads, both with the same work each; the ratio is the throughput of two over
// that of one, 2.0 at best.
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "base/lock.h"
#include "base/prng.h"
#include "machine_arena/arena_machine.h"
#include "page/page_allocator.h"

namespace {

using namespace spillway;

constexpr u64 kFrames = 65536;  // 256 MiB of addresses; what is not touched costs nothing
constexpr u32 kHeld = 256;

void must(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "buddy_bench: %s\n", what);
  std::exit(1);
}

double now() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<double>(ts.tv_sec) + static_cast<double>(ts.tv_nsec) * 1e-9;
}

enum class Way { cpu_lists, buddy, mixed };
constexpr Way kWays[] = {Way::cpu_lists, Way::buddy, Way::mixed};
const char* name_of(Way way) {
  switch (way) {
    case Way::cpu_lists: return "cpu-lists";
    case Way::buddy: return "buddy";
    case Way::mixed: return "mixed";
  }
  return "?";
}

// All frames once for the allocator, once more for the bare lists.
class Floor {
 public:
  Floor() {
    must(arena_.prepare({.frames = PageCount(kFrames), .cpus = 2}).ok(), "no address space");
    Machine& machine = arena_.machine();
    void* pages = machine.boot.alloc(2 * kFrames * sizeof(Page), 64);
    must(pages != nullptr, "no boot memory");
    frames_.init(static_cast<Page*>(pages), PageCount(kFrames));
    allocator_.init(machine, frames_, observer_);
    must(allocator_.grow(kFrames) == kFrames, "not all frames are online");
    bare_.init(static_cast<Page*>(pages) + kFrames, PageCount(kFrames));
    buddy_.init(bare_);
    for (u32 i = 0; i < kFrames; ++i) {
      bare_[Pfn(i)].state = PageState::isolated;
      buddy_.free(Pfn(i), 0);
    }
  }
  Pfn alloc(Way way, u32 order) {
    if (way == Way::buddy) {
      Guard guard(lock_);
      return buddy_.alloc(0);
    }
    const Result<Pfn> got = allocator_.alloc(order, kAllocAtomic);
    return got.ok() ? got.value() : kNoPfn;
  }
  void free(Way way, Pfn pfn, u32 order) {
    if (way == Way::buddy) {
      Guard guard(lock_);
      buddy_.free(pfn, 0);
    } else {
      allocator_.free(pfn, order);
    }
  }
  // Everything is back and in order.
  bool sound() {
    allocator_.drain_pcp();
    return allocator_.validate() && allocator_.free_pages().v == kFrames && buddy_.validate() &&
           buddy_.free_pages().v == kFrames && allocator_.blocks(kOrderMax) == kFrames / 512;
  }

 private:
  ArenaMachine arena_;
  Counters counters_{};
  EventRing events_;
  Observer observer_{&counters_, &events_};
  FrameTable frames_;
  PageAllocator allocator_;
  FrameTable bare_;
  Buddy buddy_;
  SpinLock<Rank::zone> lock_;
};

void work(Floor& floor, Way way, u64 ops, u64 seed, std::atomic<u32>& ready, u32 threads) {
  cpu_set_t cpu;
  CPU_ZERO(&cpu);
  CPU_SET(seed % 2, &cpu);
  (void)sched_setaffinity(0, sizeof cpu, &cpu);
  struct Block {
    Pfn pfn;
    u32 order;
  };
  std::vector<Block> held(kHeld);
  Prng prng(seed);
  const auto order = [&] { return way == Way::mixed ? static_cast<u32>(prng.below(4)) : 0U; };
  for (Block& block : held) {
    block.order = order();
    block.pfn = floor.alloc(way, block.order);
  }
  ready.fetch_add(1);
  while (ready.load() < threads) {
  }
  for (u64 i = 0; i < ops; ++i) {
    Block& block = held[prng.next() % kHeld];
    floor.free(way, block.pfn, block.order);
    block.order = order();
    block.pfn = floor.alloc(way, block.order);
    must(block.pfn.valid(), "no frame");
  }
  for (Block& block : held) floor.free(way, block.pfn, block.order);
}

// Millions of operations in a second, all threads together.
double run(Floor& floor, Way way, u32 threads, u64 ops) {
  std::atomic<u32> ready{0};
  std::vector<std::thread> all;
  const double start = now();
  for (u32 t = 0; t < threads; ++t) {
    all.emplace_back([&, t] { work(floor, way, ops, 10 + t, ready, threads); });
  }
  for (std::thread& thread : all) thread.join();
  const double seconds = now() - start;
  return static_cast<double>(ops * threads) / seconds / 1e6;
}

struct Figures {
  std::vector<double> rounds;
  double median() {
    std::sort(rounds.begin(), rounds.end());
    return rounds[rounds.size() / 2];
  }
};

}  // namespace

int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::strcmp(argv[1], "--quick") == 0;
  must(argc == 1 || (argc == 2 && quick), "usage: buddy_bench [--quick]");
  const u64 ops = quick ? 200'000 : 2'000'000;
  const u32 rounds = quick ? 3 : 7;
  static Floor floor;
  Figures figures[3][2];
  for (u32 round = 0; round < rounds; ++round) {
    for (u32 w = 0; w < 3; ++w) {
      for (u32 t = 0; t < 2; ++t) {
        figures[w][t].rounds.push_back(run(floor, kWays[w], t + 1, ops));
      }
    }
  }
  std::printf("Page allocator, millions of free-and-alloc pairs per second, %u rounds\n", rounds);
  std::printf("%-10s %8s %15s %8s %15s %6s\n", "way", "1", "min..max", "2", "min..max", "ratio");
  for (u32 w = 0; w < 3; ++w) {
    const double one = figures[w][0].median();
    const double two = figures[w][1].median();
    const auto& a = figures[w][0].rounds;
    const auto& b = figures[w][1].rounds;
    std::printf("%-10s %8.2f %7.2f..%-6.2f %8.2f %7.2f..%-6.2f %6.2f\n", name_of(kWays[w]), one,
                a.front(), a.back(), two, b.front(), b.back(), two / one);
  }
  must(floor.sound(), "frames were lost");
  return 0;
}
