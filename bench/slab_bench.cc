// Object caches against general allocators: spillway's KmemCache and Kmalloc, and the malloc of
// glibc, jemalloc and mimalloc, on the same work in the same run.
//
//   slab_bench [--rounds N] [--quick] [--only NAME] [--json FILE]
//
// Each allocator works in a process of its own (mallocs other than glibc's by LD_PRELOAD); the
// processes take turns within each round, and the figures are medians over the rounds. All
// allocators are called through the same two function pointers. Every object is written to once,
// as its user would. What is timed is on the lines of kWork. Instructions are counted where the
// kernel lets us (perf_event_open), else left out.
#include <fcntl.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "base/prng.h"
#include "machine_arena/arena_machine.h"
#include "slab/kmalloc.h"

namespace {

using spillway::u32;
using spillway::u64;
using spillway::u8;

struct Allocator {
  void* (*alloc)(std::size_t size);
  void (*free)(void* object);
};

// Spillway: everything online beforehand, as the others keep what they once had.
thread_local u32 t_slot = 0;
spillway::KmemCache* g_cache;
spillway::Kmalloc* g_kmalloc;

void* cache_alloc(std::size_t) {
  const spillway::Result<void*> got = g_cache->alloc(spillway::kAllocAtomic, t_slot);
  return got.ok() ? got.value() : nullptr;
}
void cache_free(void* object) { g_cache->free(object, t_slot); }
void core_free(void* object) { g_cache->free(object); }
void* core_alloc(std::size_t) {
  const spillway::Result<void*> got = g_cache->alloc(spillway::kAllocAtomic);
  return got.ok() ? got.value() : nullptr;
}
void* kmalloc_alloc(std::size_t size) {
  const spillway::Result<void*> got = g_kmalloc->alloc(size, spillway::kAllocAtomic, t_slot);
  return got.ok() ? got.value() : nullptr;
}
void kmalloc_free(void* object) { g_kmalloc->free(object, t_slot); }

class Spillway {
 public:
  Spillway() {
    constexpr u64 kFrames = 65536;  // 256 MiB
    // Little boot memory, so that it runs under valgrind too.
    must(
        arena_
            .prepare(
                {.frames = spillway::PageCount(kFrames), .cpus = 2, .boot_bytes_max = u64{1} << 24})
            .ok());
    spillway::Machine& machine = arena_.machine();
    void* pages = machine.boot.alloc(kFrames * sizeof(spillway::Page), 64);
    must(pages != nullptr);
    frames_.init(static_cast<spillway::Page*>(pages), spillway::PageCount(kFrames));
    allocator_.init(machine, frames_, observer_);
    must(allocator_.grow(kFrames) == kFrames);
    chain_.init(allocator_, frames_, machine.frames, 2, spillway::SlabLocking::own);
  }
  void use_cache(u32 size) {
    must(cache_
             .init(chain_, {.name = "bench",
                            .size = size,
                            .hwcache_align = true,
                            .locking = spillway::SlabLocking::own})
             .ok());
    g_cache = &cache_;
  }
  void use_core_cache(u32 size) {
    must(cache_.init(chain_, spillway::KmemCacheConfig::core("bench", size)).ok());
    g_cache = &cache_;
  }
  void use_kmalloc() {
    must(kmalloc_.init(chain_, {.locking = spillway::SlabLocking::own}).ok());
    g_kmalloc = &kmalloc_;
  }

 private:
  static void must(bool good) {
    if (good) return;
    std::fprintf(stderr, "slab_bench: no memory\n");
    std::exit(2);
  }
  spillway::ArenaMachine arena_;
  spillway::Counters counters_{};
  spillway::EventRing events_;
  spillway::Observer observer_{&counters_, &events_};
  spillway::FrameTable frames_;
  spillway::PageAllocator allocator_;
  spillway::SlabChain chain_;
  spillway::KmemCache cache_;
  spillway::Kmalloc kmalloc_;
};

// CPU time where one thread works: it is what other programs on the machine disturb least.
u64 now_ns(bool cpu) {
  timespec t{};
  clock_gettime(cpu ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<u64>(t.tv_sec) * 1'000'000'000 + static_cast<u64>(t.tv_nsec);
}

// The work. Each function makes `ops` allocations and as many frees.
inline void* take(const Allocator& a, std::size_t size) {
  void* object = a.alloc(size);
  if (object == nullptr) std::abort();
  *static_cast<volatile u64*>(object) = size;
  return object;
}

void pair(const Allocator& a, std::size_t size, u64 ops) {
  for (u64 i = 0; i < ops; ++i) a.free(take(a, size));
}

void stack(const Allocator& a, std::size_t size, u64 ops) {
  void* held[100];
  for (u64 i = 0; i < ops; i += 100) {
    for (void*& object : held) object = take(a, size);
    for (u32 k = 100; k-- > 0;) a.free(held[k]);
  }
}

constexpr u32 kBulk = 10'000;

void bulk(const Allocator& a, std::size_t size, u64 ops, const std::vector<u32>& order) {
  static void* held[kBulk];
  for (u64 i = 0; i < ops; i += kBulk) {
    for (void*& object : held) object = take(a, size);
    for (const u32 k : order) a.free(held[k]);
  }
}

// A thousand live objects of sizes up to 2 KiB, most of them small; a random one is replaced.
void mixed(const Allocator& a, std::size_t size, u64 ops) {
  constexpr u32 kLive = 1000;
  constexpr u32 kSteps = 8192;
  static void* held[kLive];
  static u32 slots[kSteps];
  static u32 sizes[kSteps];
  if (sizes[0] == 0) {
    spillway::Prng prng(5);
    for (u32 i = 0; i < kSteps; ++i) {
      slots[i] = static_cast<u32>(prng.below(kLive));
      sizes[i] = static_cast<u32>(size != 0 ? size : prng.between(8, 16U << prng.below(8)));
    }
  }
  for (void*& object : held) object = take(a, 64);
  for (u64 i = 0; i < ops; ++i) {
    const u32 at = i % kSteps;
    a.free(held[slots[at]]);
    held[slots[at]] = take(a, sizes[at]);
  }
  for (void* object : held) a.free(object);
}

// One thread allocates, the other frees; batches of 64 go through a ring.
struct Ring {
  static constexpr u32 kBatch = 64;
  static constexpr u32 kBatches = 64;
  alignas(64) std::atomic<u64> written{0};
  alignas(64) std::atomic<u64> read{0};
  void* object[kBatches][kBatch];
};

struct Consumer {
  Allocator a;
  Ring* ring;
  u64 batches;
};

void wait_while(const std::atomic<u64>& word, u64 value) {
  for (u32 spin = 0; word.load(std::memory_order_acquire) == value; ++spin) {
    if (spin % 256 == 255) sched_yield();
    __builtin_ia32_pause();
  }
}

void* consume(void* argument) {
  const Consumer& c = *static_cast<Consumer*>(argument);
  t_slot = 1;
  for (u64 b = 0; b < c.batches; ++b) {
    wait_while(c.ring->written, b);
    for (void* object : c.ring->object[b % Ring::kBatches]) c.a.free(object);
    c.ring->read.store(b + 1, std::memory_order_release);
  }
  return nullptr;
}

void hand_over(const Allocator& a, std::size_t size, u64 ops) {
  static Ring ring;
  ring.written = 0;
  ring.read = 0;
  Consumer consumer{a, &ring, ops / Ring::kBatch};
  pthread_t thread;
  if (pthread_create(&thread, nullptr, consume, &consumer) != 0) std::abort();
  for (u64 b = 0; b < consumer.batches; ++b) {
    if (b >= Ring::kBatches) wait_while(ring.read, b - Ring::kBatches);
    for (void*& object : ring.object[b % Ring::kBatches]) object = take(a, size);
    ring.written.store(b + 1, std::memory_order_release);
  }
  pthread_join(thread, nullptr);
}

struct Work {
  const char* name;
  enum Kind : u8 { pairs, stacks, bulk_lifo, bulk_random, mixes, threads } kind;
  u32 size;
  u64 ops;
  const char* what;
};
constexpr Work kWork[] = {
    {"pair 64", Work::pairs, 64, 4'000'000, "allocate one, free it"},
    {"pair 256", Work::pairs, 256, 4'000'000, "the same"},
    {"stack 64", Work::stacks, 64, 4'000'000, "allocate 100, free them last first"},
    {"live 64", Work::mixes, 64, 2'000'000, "1000 live, replace a random one"},
    {"mixed", Work::mixes, 0, 2'000'000, "the same with sizes from 8 to 2048 (kmalloc)"},
    {"bulk 64 lifo", Work::bulk_lifo, 64, 2'000'000, "allocate 10000, free them last first"},
    {"bulk 64 random", Work::bulk_random, 64, 2'000'000, "allocate 10000, free in random order"},
    {"bulk 256 random", Work::bulk_random, 256, 2'000'000, "the same"},
    {"2 threads 64", Work::threads, 64, 2'000'000, "one thread allocates, the other frees"},
};

std::vector<u32> free_order(bool random) {
  std::vector<u32> order(kBulk);
  for (u32 i = 0; i < kBulk; ++i) order[i] = kBulk - 1 - i;
  spillway::Prng prng(11);
  for (u32 i = kBulk; random && i-- > 1;) std::swap(order[i], order[prng.below(i + 1)]);
  return order;
}

void run(const Allocator& a, const Work& w, u64 ops) {
  switch (w.kind) {
    case Work::pairs: return pair(a, w.size, ops);
    case Work::stacks: return stack(a, w.size, ops);
    case Work::bulk_lifo:
    case Work::bulk_random: {
      static const std::vector<u32> order = free_order(w.kind == Work::bulk_random);
      return bulk(a, w.size, ops, order);
    }
    case Work::mixes: return mixed(a, w.size, ops);
    case Work::threads: return hand_over(a, w.size, ops);
  }
}

// User instructions of the process and its threads; -1 where they cannot be counted.
int open_counter() {
  perf_event_attr attr{};
  attr.size = sizeof attr;
  attr.type = PERF_TYPE_HARDWARE;
  attr.config = PERF_COUNT_HW_INSTRUCTIONS;
  attr.exclude_kernel = 1;
  attr.exclude_hv = 1;
  attr.inherit = 1;
  return static_cast<int>(syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
}

u64 read_counter(int fd) {
  u64 value = 0;
  return fd >= 0 && read(fd, &value, sizeof value) == sizeof value ? value : 0;
}

// In the process of one allocator: prints ns per operation and instructions per operation.
int worker(const std::string& name, u32 number, u64 divide) {
  const Work& w = kWork[number];
  Allocator a{&std::malloc, &std::free};
  static Spillway* ours = nullptr;
  if (name.starts_with("spillway")) {
    ours = new Spillway;
    // What has one size is a cache's work; mixed sizes are kmalloc's in any case.
    if (name == "spillway-core") {
      ours->use_core_cache(w.size);
      a = {core_alloc, core_free};
    } else if (name == "spillway" && w.size != 0) {
      ours->use_cache(w.size);
      a = {cache_alloc, cache_free};
    } else {
      ours->use_kmalloc();
      a = {kmalloc_alloc, kmalloc_free};
    }
  }
  const u64 ops = w.ops / divide;
  run(a, w, ops / 5);  // warm
  const int counter = open_counter();
  const u64 instructions = read_counter(counter);
  // The median of parts: the process may be put off its CPU in some of them.
  constexpr u32 kParts = 5;
  u64 ns[kParts];
  for (u64& part : ns) {
    const u64 start = now_ns(w.kind != Work::threads);
    run(a, w, ops / kParts);
    part = now_ns(w.kind != Work::threads) - start;
  }
  std::sort(std::begin(ns), std::end(ns));
  std::printf("%.3f %.2f\n",
              static_cast<double>(ns[kParts / 2]) / static_cast<double>(ops / kParts),
              static_cast<double>(read_counter(counter) - instructions) / static_cast<double>(ops));
  return 0;
}

struct Contender {
  const char* name;
  const char* preload;  // null: none
};
constexpr Contender kContenders[] = {
    {"spillway", nullptr},
    {"spillway-kmalloc", nullptr},
    {"spillway-core", nullptr},  // zeroed, every free checked, no magazine: the core's own caches
    {"glibc", nullptr},
    {"jemalloc", "libjemalloc.so.2"},
    {"mimalloc", "libmimalloc.so.2"},
};
constexpr u32 kCount = std::size(kContenders);

struct Figures {
  std::vector<double> ns, instructions;
};

double median(std::vector<double> v) {
  if (v.empty()) return 0;
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

bool measure(const Contender& c, u32 work, u64 divide, Figures& out) {
  int ends[2];
  if (pipe(ends) != 0) return false;
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 1);
    if (c.preload != nullptr) setenv("LD_PRELOAD", c.preload, 1);
    const std::string number = std::to_string(work);
    const std::string by = std::to_string(divide);
    execl("/proc/self/exe", "slab_bench", "--worker", c.name, number.c_str(), by.c_str(),
          static_cast<char*>(nullptr));
    _exit(127);
  }
  close(ends[1]);
  char text[128] = {};
  std::size_t got = 0;
  for (ssize_t n; (n = read(ends[0], text + got, sizeof text - 1 - got)) > 0;) {
    got += static_cast<std::size_t>(n);
  }
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  double ns = 0;
  double instructions = 0;
  if (status != 0 || std::sscanf(text, "%lf %lf", &ns, &instructions) != 2) return false;
  out.ns.push_back(ns);
  if (instructions > 0) out.instructions.push_back(instructions);
  return true;
}

// A library that cannot be preloaded is only a message of the loader: glibc would be measured.
bool there(const Contender& c) {
  if (c.preload == nullptr) return true;
  const std::string command = std::string("ldconfig -p | grep -q '") + c.preload + "'";
  return std::system(command.c_str()) == 0;
}

// The core's own caches have one size, and one lock of their callers.
bool does(const Contender& c, const Work& w) {
  return std::strcmp(c.name, "spillway-core") != 0 || (w.size != 0 && w.kind != Work::threads);
}

void print_table(const std::vector<const Work*>& works, std::map<std::string, Figures>& all,
                 bool instructions) {
  std::printf("%-18s", instructions ? "instructions" : "ns");
  for (const Contender& c : kContenders) std::printf("%18s", c.name);
  std::printf("\n");
  for (const Work* w : works) {
    const auto of = [&](const Contender& c) {
      Figures& f = all[std::string(w->name) + "/" + c.name];
      return median(instructions ? f.instructions : f.ns);
    };
    const double ours = of(kContenders[0]);
    std::printf("%-18s", w->name);
    for (const Contender& c : kContenders) {
      const double value = of(c);
      if (value == 0) {
        std::printf("%18s", "-");
      } else {
        std::printf("%9.2f (%5.2f)", value, ours > 0 ? value / ours : 0.0);
        std::printf("  ");
      }
    }
    std::printf("\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  u32 rounds = 7;
  u64 divide = 1;
  std::string only;
  if (argc == 5 && std::strcmp(argv[1], "--worker") == 0) {
    return worker(argv[2], static_cast<u32>(std::atoi(argv[3])),
                  static_cast<u64>(std::atoi(argv[4])));
  }
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--rounds" && i + 1 < argc) {
      rounds = static_cast<u32>(std::max(1, std::atoi(argv[++i])));
    } else if (argument == "--quick") {
      rounds = 3;
      divide = 4;
    } else if (argument == "--only" && i + 1 < argc) {
      only = argv[++i];
    } else {
      std::fprintf(stderr, "usage: slab_bench [--rounds N] [--quick] [--only WORK]\n");
      return 2;
    }
  }
  bool present[kCount];
  for (u32 c = 0; c < kCount; ++c) {
    present[c] = there(kContenders[c]);
    if (!present[c]) std::printf("%s is not installed: left out\n", kContenders[c].name);
  }
  std::map<std::string, Figures> all;
  std::vector<const Work*> works;
  for (u32 w = 0; w < std::size(kWork); ++w) {
    if (only.empty() || std::string(kWork[w].name).find(only) == 0) works.push_back(&kWork[w]);
  }
  for (u32 round = 0; round < rounds; ++round) {
    for (const Work* w : works) {
      for (u32 turn = 0; turn < kCount; ++turn) {
        const u32 c = (turn + round) % kCount;
        if (!present[c] || !does(kContenders[c], *w)) continue;
        if (!measure(kContenders[c], static_cast<u32>(w - kWork), divide,
                     all[std::string(w->name) + "/" + kContenders[c].name])) {
          std::fprintf(stderr, "slab_bench: %s failed at '%s'\n", kContenders[c].name, w->name);
          return 1;
        }
      }
    }
  }
  std::printf(
      "One allocation and one free together, medians of %u rounds; in brackets the time "
      "over that of spillway. CPU time, with two threads elapsed time.\n\n",
      rounds);
  print_table(works, all, false);
  bool counted = false;
  for (const auto& [key, figures] : all) counted = counted || !figures.instructions.empty();
  std::printf("\n");
  if (counted) {
    print_table(works, all, true);
  } else {
    std::printf("Instructions cannot be counted here.\n");
  }
  std::printf("\n");
  for (const Work* w : works) std::printf("%-18s%s\n", w->name, w->what);
  return 0;
}
