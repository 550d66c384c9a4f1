// StressBed: a whole System of several processes on a small, full machine, and a model of every
// byte that the processes may see. Private memory, shared memory, files mapped shared and private,
// forks; plain swap areas and tiers of limited size.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "machine_sim/sim_machine.h"
#include "system/system_impl.h"

namespace spillway {

// The policies that are compared. Tests over "all policies" use this list.
inline constexpr Policy kStressPolicies[] = {Policy::three_queue, Policy::two_list,
                                             Policy::linux24};
inline const char* policy_name(Policy policy) {
  switch (policy) {
    case Policy::three_queue: return "three_queue";
    case Policy::linux24: return "linux24";
    case Policy::two_list: return "two_list";
  }
  return "";
}

// What the seed decides about the machine.
struct StressSetup {
  SimConfig machine;
  Config system;
  std::vector<u64> areas;  // pages of each swap area
  u64 file_blocks = 0;     // of the device behind them
  u64 demand_max = 0;      // pages of private and shared memory that programs may have in all
  bool may_run_out = false;

  explicit StressSetup(Policy policy, u64 seed) {
    Prng prng(mix64(seed));
    machine.seed = seed;
    const u64 frames = prng.one_in(4) ? prng.between(96, 400) : prng.between(64, 160);
    machine.frames = PageCount(frames);
    machine.cpus = 1 + static_cast<u32>(prng.below(3));
    machine.features.zero_page = !prng.one_in(4);
    machine.features.accessed_bit = !prng.one_in(5) || policy == Policy::linux24;
    machine.disk_latency_min_ns = 1000;
    machine.disk_latency_max_ns = prng.one_in(4) ? 1000 : 1'000'000;
    if (prng.one_in(4)) machine.busy_one_in = 20;
    const u64 kind = prng.below(8);  // 0: no swap; 1, 2: tiers only; 3: both; else plain areas
    u64 capacity = 0;
    if (kind >= 3) {
      const u64 count = 1 + prng.below(2);
      for (u64 i = 0; i < count; ++i) areas.push_back(prng.between(frames / 2, 2 * frames));
      for (u64 pages : areas) capacity += pages - 2;
    }
    if (kind >= 1 && kind <= 3) {
      if (!prng.one_in(3)) system.pool_max = PageCount(prng.between(16, frames / 3 + 16));
      machine.disk_pages = PageCount(prng.between(4, 40) * 16);
      // Ages need slots of plain areas: linux24 never sends an anonymous page to the tiers.
      if (policy != Policy::linux24) capacity += machine.disk_pages.v / 2;
    }
    for (u64 pages : areas) machine.block_pages.push_back(pages);
    file_blocks = 512;
    machine.block_pages.push_back(file_blocks);
    system.policy = policy;
    system.file_device = static_cast<u32>(areas.size());
    system.page_cluster = static_cast<u32>(prng.below(5));
    system.mlock_max = PageCount(frames / 10);
    if (prng.one_in(2)) system.readahead_min = system.readahead_max = 1;
    if (prng.one_in(2)) system.fresh_around_max = 1;
    system.background_reclaim = prng.one_in(2);
    // Pages that do not fit anywhere end in "out of memory", which must be survived as well.
    may_run_out = kind <= 2 || prng.one_in(4);
    demand_max = may_run_out ? (frames + capacity) * 5 / 4 : capacity * 9 / 10;
  }
};

// A file, or a piece of shared memory.
struct StressObject {
  std::vector<u8> bytes;
  Inode* inode = nullptr;
  ShmObject* shm = nullptr;
  u64 regions = 0;  // that map it
  u64 pages() const { return bytes.size() >> kPageShift; }
};

struct StressRegion {
  Vpn start;
  u64 pages = 0;
  std::shared_ptr<StressObject> object;  // null: private anonymous memory
  bool shared = false;
  u64 first = 0;  // page of the object at `start`
  Prot prot = Prot::read_write;
  bool locked = false;
  std::vector<u8> own;      // what the process has for itself
  std::vector<bool> owned;  // the page is its own: anonymous, or written in a private mapping

  VpnRange range() const { return {start, start + pages}; }
  bool is_private() const { return !shared; }
  bool beyond_end(u64 page) const {
    return object != nullptr && !owned[page] && first + page >= object->pages();
  }
  const u8* page(u64 n) const {
    if (shared || !owned[n]) return object->bytes.data() + ((first + n) << kPageShift);
    return own.data() + (n << kPageShift);
  }
  u8* page_for_write(u64 n) {
    if (shared) return const_cast<u8*>(page(n));
    if (!owned[n]) {
      std::memcpy(own.data() + (n << kPageShift), page(n), kPageSize);
      owned[n] = true;
    }
    return own.data() + (n << kPageShift);
  }
};

struct StressSpace {
  SpaceId id;
  std::vector<StressRegion> regions;
  StressRegion* find(Vpn vpn) {
    for (StressRegion& r : regions) {
      if (r.range().contains(vpn)) return &r;
    }
    return nullptr;
  }
};

// A task that accesses memory; it may be waiting for a page.
struct StressTask {
  bool busy = false;
  SpaceId space;
  Vpn vpn;
  u64 offset = 0;
  std::vector<u8> data;  // of a write; of a read, only its size counts
  bool write = false;
  u32 attempt = 0;
};

// What the System reported since the last operation, printed when something is wrong.
class StressWalk final : public WalkSink {
 public:
  void enter(const char* function, const char* text, u64 a, u64 b, u64 c) override {
    lines_.push_back({depth_++, function, text, {a, b, c}});
  }
  void leave() override { --depth_; }
  void step(const char* text, u64 a, u64 b, u64 c) override {
    lines_.push_back({depth_, "", text, {a, b, c}});
  }
  void clear() { lines_.clear(); }
  std::string text() const;

 private:
  struct Line {
    u32 depth;
    const char* function;
    const char* text;
    u64 values[3];
  };
  u32 depth_ = 0;
  std::vector<Line> lines_;
};

class StressBed {
 public:
  static constexpr VpnRange kRange{Vpn(u64{1} << 20), Vpn((u64{1} << 20) + 512)};
  static constexpr u32 kSpacesMax = 4;
  static constexpr u32 kTasks = 4;
  static constexpr u64 kFiles = 2;

  StressBed(Policy policy, u64 seed)
      : setup(policy, seed), prng(seed), sim(setup.machine), policy_(policy), seed_(seed) {
    void* memory = sim.boot().alloc(sizeof(SystemImpl), alignof(SystemImpl));
    impl = ::new (memory) SystemImpl(sim.machine(), setup.system, counters, ring);
    impl->observer.walk = &walk_;
    current_ = this;
    set_panic_hook([](const PanicInfo& p) { current_->panicked(p); });
  }
  ~StressBed() { set_panic_hook(nullptr); }
  StressBed(const StressBed&) = delete;
  StressBed& operator=(const StressBed&) = delete;
  void boot();
  void run(u32 steps);
  // Reads everything, ends everything, and looks for what is left.
  void finish();

  u64 count(Counter c) const { return counters[c]; }

  StressSetup setup;
  Prng prng;
  SimMachine sim;
  Counters counters{};
  EventRing ring;
  SystemImpl* impl = nullptr;
  std::deque<StressSpace> spaces;
  std::vector<std::shared_ptr<StressObject>> files;
  std::vector<std::shared_ptr<StressObject>> segments;
  std::array<StressTask, kTasks> tasks;
  u64 ooms = 0;
  u64 buses = 0;

 private:
  System& system() { return impl->system; }
  bool failed() const { return ::testing::Test::HasFatalFailure(); }
  void log(const char* format, ...) __attribute__((format(printf, 2, 3)));
  std::string story() const;
  void panicked(const PanicInfo& info);
  void check();
  u64 demand() const;
  template <class Call>
  auto finish_call(Call call) -> decltype(call());
  bool one_io() { return sim.complete_one(); }

  void step();
  void start_access(StressTask& task);
  void op_sweep();
  void drive(StressTask& task);
  void ended(StressTask& task, const SimAccess& access, const u8* got);
  std::string could_go() const;
  void release_something();
  void settle_tasks();

  StressSpace* any_space();
  StressSpace* find_space(SpaceId id);
  Vpn free_place(StressSpace& space, u64 pages);
  void op_space();
  void op_map();
  void op_unmap();
  void unmap(StressSpace& space, VpnRange range);
  void op_fork();
  void op_exit();
  void destroy(StressSpace& space);
  void op_file();
  void op_truncate();
  void op_advice();
  void op_protect();
  void op_lock();
  void op_failures();
  void op_background();
  void fill(std::vector<u8>& bytes);
  void read_all();

  Policy policy_;
  u64 seed_;
  u64 steps_ = 0;
  bool failing_ = false;      // some device may fail now
  bool ever_failed_ = false;  // reads may report an old failure
  std::deque<std::string> log_;
  StressWalk walk_;
  static inline StressBed* current_ = nullptr;
};

}  // namespace spillway
