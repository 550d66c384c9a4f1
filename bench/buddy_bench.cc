// Throughput of the page allocator with one and two threads.
//
//   buddy_bench [--quick] [--way NAME] [--threads 1|2] [--rounds N]
//
// lists     single frames through the per-CPU lists: what a fault does
// no-lists  the same allocator with its lists switched off: each call takes the zone lock
// bare      the buddy lists alone under a lock: no watermark, no counters, no checks of the frame
// mixed     orders 0 to 3, of which the larger ones always go to the buddy lists
//
// Each thread holds 256 blocks. "exchange": an operation is one free and one alloc in place of a
// random one. "burst": a thread gives 128 of them back and takes as many again, as faults and exits
// do; then frames move between the CPU's list and the buddy lists, blocks merge and split. An
// operation is one free and one alloc there too.
//
// Nanoseconds of CPU time that an operation takes its thread, medians of the rounds beside the
// fastest and the slowest; rounds are interleaved. CPU time, since other programs disturb it least.
// With two threads, each on a CPU of its own and with the same work, the time of one thread again
// means that they do not disturb each other; what is above that is waiting for each other's lock
// and for lines that move between the CPUs. Where other programs take a CPU now and then, the two
// meet less often, and the second column is a lower bound.
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

constexpr u64 kFrames = 65536;       // 256 MiB of addresses; what is not touched costs nothing
constexpr u64 kBoot = u64{1} << 24;  // little, so that it runs under valgrind too
constexpr u32 kHeld = 256;

void must(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "buddy_bench: %s\n", what);
  std::exit(1);
}

double cpu_seconds() {
  timespec ts;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  return static_cast<double>(ts.tv_sec) + static_cast<double>(ts.tv_nsec) * 1e-9;
}

enum class Path { lists, no_lists, bare };
struct Way {
  const char* name;
  Path path;
  u32 burst;   // blocks given back before the first is taken again
  u32 orders;  // 1: single frames
};
constexpr Way kWays[] = {
    {"exchange, lists", Path::lists, 1, 1},      {"exchange, no-lists", Path::no_lists, 1, 1},
    {"exchange, bare", Path::bare, 1, 1},        {"burst, lists", Path::lists, 128, 1},
    {"burst, no-lists", Path::no_lists, 128, 1}, {"burst, bare", Path::bare, 128, 1},
    {"mixed, lists", Path::lists, 1, 4},         {"mixed, no-lists", Path::no_lists, 1, 4},
};
constexpr u32 kWayCount = sizeof kWays / sizeof kWays[0];

// All frames once for the allocator, once more for the bare lists.
class Floor {
 public:
  Floor() {
    must(arena_.prepare({.frames = PageCount(kFrames), .cpus = 2, .boot_bytes_max = kBoot}).ok(),
         "no address space");
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
  void use(Path path) { allocator_.use_pcp(path == Path::lists); }
  Pfn alloc(Path path, u32 order) {
    if (path == Path::bare) {
      Guard guard(lock_);
      return buddy_.alloc(order);
    }
    const Result<Pfn> got = allocator_.alloc(order, kAllocAtomic);
    return got.ok() ? got.value() : kNoPfn;
  }
  void free(Path path, Pfn pfn, u32 order) {
    if (path == Path::bare) {
      Guard guard(lock_);
      buddy_.free(pfn, order);
    } else {
      allocator_.free(pfn, order);
    }
  }
  // Everything is back and in order.
  bool sound() {
    allocator_.drain_pcp();
    allocator_.fold_counts();
    if (counters_[Counter::pgalloc] != counters_[Counter::pgfree]) return false;
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

struct Block {
  Pfn pfn;
  u32 order;
};

// CPU seconds of `ops` operations.
double work(Floor& floor, const Way& way, u64 ops, u32 id, std::atomic<u32>& ready, u32 threads) {
  cpu_set_t cpu;
  CPU_ZERO(&cpu);
  CPU_SET(id % 2, &cpu);
  (void)sched_setaffinity(0, sizeof cpu, &cpu);
  Block held[kHeld];
  Prng prng(10 + id);
  const auto order = [&] { return way.orders > 1 ? static_cast<u32>(prng.below(way.orders)) : 0U; };
  const auto take = [&](Block& block) {
    block.order = order();
    block.pfn = floor.alloc(way.path, block.order);
    must(block.pfn.valid(), "no frame");
  };
  for (Block& block : held) take(block);
  ready.fetch_add(1);
  while (ready.load() < threads) {
  }
  const double start = cpu_seconds();
  if (way.burst == 1) {
    for (u64 i = 0; i < ops; ++i) {
      Block& block = held[prng.next() % kHeld];
      floor.free(way.path, block.pfn, block.order);
      take(block);
    }
  } else {
    for (u64 i = 0; i < ops; i += way.burst) {
      const u64 at = prng.next() % kHeld;
      for (u32 k = 0; k < way.burst; ++k) {
        const Block& block = held[(at + k) % kHeld];
        floor.free(way.path, block.pfn, block.order);
      }
      for (u32 k = 0; k < way.burst; ++k) take(held[(at + k) % kHeld]);
    }
  }
  const double used = cpu_seconds() - start;
  for (Block& block : held) floor.free(way.path, block.pfn, block.order);
  return used;
}

// Nanoseconds of an operation.
double run(Floor& floor, const Way& way, u32 threads, u64 ops) {
  std::atomic<u32> ready{0};
  std::vector<std::thread> all;
  double used[2] = {};
  floor.use(way.path);
  for (u32 t = 0; t < threads; ++t) {
    all.emplace_back([&, t] { used[t] = work(floor, way, ops, t, ready, threads); });
  }
  for (std::thread& thread : all) thread.join();
  return (used[0] + used[1]) * 1e9 / static_cast<double>(ops * threads);
}

struct Options {
  bool quick = false;
  const char* way = nullptr;
  u32 threads = 0;  // both
  u32 rounds = 0;
};

Options options_of(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const char* next = i + 1 < argc ? argv[i + 1] : "";
    if (std::strcmp(argv[i], "--quick") == 0) {
      o.quick = true;
      continue;
    }
    if (std::strcmp(argv[i], "--way") == 0) {
      o.way = next;
    } else if (std::strcmp(argv[i], "--threads") == 0) {
      o.threads = static_cast<u32>(std::atoi(next));
    } else if (std::strcmp(argv[i], "--rounds") == 0) {
      o.rounds = static_cast<u32>(std::atoi(next));
    } else {
      must(false, "usage: buddy_bench [--quick] [--way NAME] [--threads 1|2] [--rounds N]");
    }
    ++i;
  }
  must(o.threads <= 2, "one or two threads");
  if (o.rounds == 0) o.rounds = o.quick ? 3 : 9;
  return o;
}

}  // namespace

int main(int argc, char** argv) {
  const Options o = options_of(argc, argv);
  const u64 ops = o.quick ? 128 * 2'000 : 128 * 15'000;
  static Floor floor;
  std::vector<double> rounds[kWayCount][2];
  for (u32 round = 0; round < o.rounds; ++round) {
    for (u32 w = 0; w < kWayCount; ++w) {
      if (o.way != nullptr && std::strcmp(o.way, kWays[w].name) != 0) continue;
      for (u32 t = 0; t < 2; ++t) {
        if (o.threads != 0 && o.threads != t + 1) continue;
        rounds[w][t].push_back(run(floor, kWays[w], t + 1, ops));
      }
    }
  }
  std::printf("Page allocator: ns for one free and one alloc, medians of %u rounds\n", o.rounds);
  std::printf("%-20s %9s %16s %9s %16s\n", "way", "1 thread", "min..max", "2 threads", "min..max");
  for (u32 w = 0; w < kWayCount; ++w) {
    if (rounds[w][0].empty() && rounds[w][1].empty()) continue;
    std::printf("%-20s", kWays[w].name);
    for (std::vector<double>& r : rounds[w]) {
      if (r.empty()) continue;
      std::sort(r.begin(), r.end());
      std::printf(" %9.1f %7.1f..%-7.1f", r[r.size() / 2], r.front(), r.back());
    }
    std::printf("\n");
  }
  must(floor.sound(), "frames were lost");
  return 0;
}
