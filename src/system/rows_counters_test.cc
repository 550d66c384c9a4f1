// Row 74 of the acceptance table: counters against the truth after random operations.
// Method: three processes do random things to private, file and shared memory under little RAM.
// After each operation every number that a user sees is computed again from single entries, frames
// and slots, and compared: meminfo, the processes' totals, the sums of smaps, swap and shared
// memory.
#include <map>
#include <set>

#include "base/prng.h"
#include "system/rows_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kPage = RowsBed::kPage;
constexpr u64 kFilePages = 32;
constexpr u64 kShmPages = 16;
constexpr u32 kAreasMax = 40;  // of a process

// What entries say, over all processes.
struct Truth {
  std::map<u32, u32> mappings;  // by frame
  std::map<u32, u32> slot_refs;
  u64 resident = 0;
};

class Chaos {
 public:
  explicit Chaos(u64 seed, Policy policy) : prng_(seed), bed_(config(policy)) {
    keeper_ = bed_.spawn("keeper");
    fd_ = bed_.make_file(keeper_, "data", kFilePages);
    shm_ =
        static_cast<u32>(bed_.kernel().shmget(keeper_, 5, kShmPages * kPage, kIpcCreate).value());
    for (u32 i = 0; i < 3; ++i) all_.push_back(newborn());
  }
  static KernelBedConfig config(Policy policy) {
    KernelBedConfig config;
    config.frames = 112;
    config.disks = {128, 256};
    config.policy = policy;
    return config;
  }
  RowsBed& bed() { return bed_; }

  // One operation; whether it succeeds does not matter, only that the books are right.
  void step() {
    const Pid pid = all_[prng_.below(all_.size())];
    Kernel& kernel = bed_.kernel();
    const u64 at = somewhere(pid);
    const u64 bytes = (1 + prng_.below(5)) * kPage;
    switch (prng_.below(24)) {
      case 0: (void)bed_.mmap(pid, 0, 1 + prng_.below(24), kProtRw, kPrivateAnon); break;
      case 1: map_file(pid); break;
      case 2: (void)bed_.wait_for([&] { return kernel.shmat(pid, shm_, 0, 0); }); break;
      case 3: (void)bed_.wait_for([&] { return kernel.munmap(pid, at, bytes); }); break;
      case 4: {
        const u32 prot = static_cast<u32>(prng_.below(4));
        (void)bed_.wait_for([&] { return kernel.mprotect(pid, at, bytes, prot); });
        break;
      }
      case 5:
        (void)bed_.wait_for(
            [&] { return kernel.mremap(pid, at, bytes, 2 * bytes, kMremapMaymove, 0); });
        break;
      case 6: {
        constexpr i32 kAdvice[] = {0, 1, 2, 3, 4, 20, 21};
        const i32 advice = kAdvice[prng_.below(7)];
        (void)bed_.wait_for([&] { return kernel.madvise(pid, at, bytes, advice); });
        break;
      }
      case 7:
        (void)bed_.wait_for([&] { return kernel.mlock(pid, at, 2 * kPage); });
        (void)kernel.munlock(pid, at, prng_.below(2) * kPage);
        break;
      case 8: (void)kernel.munlockall(pid); break;
      case 9: (void)bed_.wait_for([&] { return kernel.msync(pid, at, bytes, kMsSync); }); break;
      case 10: {
        const u64 start = bed_.task(pid).start_brk.v;
        const u64 to = start + prng_.below(20 * kPage);
        (void)bed_.wait_for([&] { return kernel.brk(pid, to); });
        break;
      }
      case 11: fork_or_end(pid); break;
      case 12: (void)kernel.step(static_cast<Daemon>(prng_.below(4))); break;
      case 13: {
        const u64 size = prng_.below(kFilePages * kPage);
        (void)bed_.wait_for([&] { return kernel.ftruncate(keeper_, fd_, size); });
        break;
      }
      case 14: {
        const u64 page = prng_.below(kFilePages);
        (void)bed_.read_bytes(keeper_, fd_, page * kPage, kPage);
        break;
      }
      case 15: {
        const u64 page = prng_.below(kFilePages);
        bed_.write_bytes(keeper_, fd_, page * kPage + 7, std::vector<u8>(100, 3));
        break;
      }
      case 16: {
        const u64 sp = RowsBed::kStackTop - prng_.below(20) * kPage;
        kernel.set_stack_pointer(pid, VirtAddr(sp));
        (void)bed_.store(pid, sp - 8, 1);
        break;
      }
      case 17: bed_.settle(); break;
      default:
        for (u64 i = 0; i < 16; ++i) {
          if (prng_.below(2) == 0) {
            (void)bed_.load(pid, at + i * kPage);
          } else {
            (void)bed_.store(pid, at + i * kPage, static_cast<u8>(prng_.below(256)));
          }
        }
    }
    // A process that was killed for want of memory is replaced, and one that has grown so large
    // that it would be about little but its own pages.
    for (Pid& p : all_) {
      if (bed_.kernel().alive(p)) {
        if (bed_.kernel().areas(p, nullptr, 0) < kAreasMax) continue;
        bed_.kernel().exit(p, 0);
      }
      (void)bed_.kernel().reap(p);
      p = newborn();
    }
  }

  // Compares everything; "" if it is right.
  std::string check();

 private:
  Pid newborn() {
    const Pid pid = bed_.spawn();
    (void)bed_.mmap(pid, 0, 24, kProtRw, kPrivateAnon);
    map_file(pid);
    (void)bed_.kernel().shmat(pid, shm_, 0, 0);
    return pid;
  }
  void map_file(Pid pid) {
    const Result<u64> fd = bed_.kernel().open(pid, "data", kOpenReadWrite);
    if (!fd.ok()) return;
    const u64 pages = 1 + prng_.below(kFilePages);
    (void)bed_.mmap(pid, 0, pages, kProtRw, prng_.below(2) == 0 ? kMapShared : kMapPrivate,
                    static_cast<i32>(fd.value()), prng_.below(8));
    (void)bed_.kernel().close(pid, static_cast<i32>(fd.value()));
  }
  void fork_or_end(Pid pid) {
    if (all_.size() < 4 && prng_.below(2) == 0) {
      const Result<Pid> child = bed_.wait_for([&] { return bed_.kernel().fork(pid); });
      if (!child.ok()) return;
      bed_.kernel().set_catches(child.value(), true);
      all_.push_back(child.value());
    } else if (all_.size() > 2) {
      std::erase(all_, pid);
      bed_.kernel().exit(pid, 0);
      (void)bed_.kernel().reap(pid);
    }
  }
  // A page of some area of the process.
  u64 somewhere(Pid pid) {
    const std::vector<AreaView> areas = bed_.areas(pid);
    const AreaView& a = areas[prng_.below(areas.size())];
    return addr_of(a.range.start + prng_.below(a.range.pages().v)).v;
  }
  std::string check_process(const TaskView& task, Truth& truth);
  std::string check_frames(const Truth& truth);

  Prng prng_;
  RowsBed bed_;
  Pid keeper_;
  i32 fd_ = -1;
  u32 shm_ = 0;
  std::vector<Pid> all_;
};

#define SAME(left, right)                                                               \
  do {                                                                                  \
    const u64 left_value = (left), right_value = (right);                               \
    if (left_value != right_value) {                                                    \
      return std::string(#left " is ") + std::to_string(left_value) + ", " #right " " + \
             std::to_string(right_value);                                               \
    }                                                                                   \
  } while (false)

// The areas' sums and the process's totals, from each entry.
std::string Chaos::check_process(const TaskView& task, Truth& truth) {
  u64 total = 0, locked = 0, rss = 0, swap = 0, stack = 0;
  for (const AreaView& a : bed_.areas(Pid{task.pid})) {
    u64 present = 0, entries = 0, pss = 0, anonymous = 0, shared = 0, own = 0;
    for (Vpn vpn = a.range.start; vpn < a.range.end; vpn = vpn + 1) {
      const PteView e = bed_.kernel().entry(Pid{task.pid}, vpn);
      if (e.kind == Pte::Kind::swapped) {
        ++entries;
        ++truth.slot_refs[e.slot.v];
      }
      if (e.kind != Pte::Kind::present && e.kind != Pte::Kind::unmapped) continue;
      const FrameView f = bed_.kernel().frame(e.pfn);
      ++present;
      ++truth.mappings[e.pfn.v];
      pss += 256 / f.mapcount;
      if (f.mapping == 0) ++anonymous;
      ++(f.mapcount > 1 ? shared : own);
    }
    SAME(a.rss, present);
    SAME(a.swap, entries);
    SAME(a.pss_x256, pss);
    SAME(a.anonymous, anonymous);
    SAME(a.shared_clean + a.shared_dirty, shared);
    SAME(a.private_clean + a.private_dirty, own);
    total += a.range.pages().v;
    if (a.locked) locked += a.range.pages().v;
    if (std::string(a.name) == "[stack]") stack += a.range.pages().v;
    rss += present;
    swap += entries;
  }
  SAME(task.total_vm, total);
  SAME(task.locked_vm, locked);
  SAME(task.rss, rss);
  SAME(task.swap_entries, swap);
  SAME(task.stack_vm, stack);
  truth.resident += rss;
  return "";
}

// meminfo from all frames, and each frame's references from the entries.
std::string Chaos::check_frames(const Truth& truth) {
  const MemInfo m = bed_.kernel().meminfo();
  u64 free = 0, reserved = 0, anon = 0, mapped = 0, cached = 0, shmem = 0, dirty = 0, writing = 0;
  u64 stacks = 0, tables = 0, slab = 0, meta = 0, swap_cached = 0, locked = 0, aged = 0,
      pss_pages = 0;
  for (u32 i = 0; i < bed_.sim().config().frames.v; ++i) {
    const FrameView f = bed_.kernel().frame(Pfn(i));
    if (f.state == PageState::free || f.state == PageState::pcp) ++free;
    if (f.state == PageState::reserved) ++reserved;
    if (f.owner == PageOwner::table) ++tables;
    if (f.owner == PageOwner::slab) ++slab;
    if (f.owner == PageOwner::stack) ++stacks;
    if (f.owner == PageOwner::swap_meta) ++meta;
    const auto found = truth.mappings.find(i);
    SAME(u64{f.mapcount}, found == truth.mappings.end() ? 0U : found->second);
    if (f.slot.valid()) ++swap_cached;
    if (f.mapping != 0) {
      ++cached;
      if (f.owner == PageOwner::shmem) ++shmem;
      if (f.dirty && f.owner != PageOwner::shmem) ++dirty;
      if (f.writeback) ++writing;
    }
    if (f.mapcount > 0) {
      ++pss_pages;
      ++(f.mapping == 0 ? anon : mapped);
    }
    if (f.queue == PageQueue::locked) {
      ++locked;
    } else if (f.queue != PageQueue::none) {
      ++aged;
    }
  }
  SAME(m.mem_total, bed_.sim().config().frames.v);
  SAME(m.mem_free, free);
  SAME(m.reserved, reserved);
  SAME(m.anon_pages, anon);
  SAME(m.mapped, mapped);
  SAME(m.cached, cached);
  SAME(m.shmem, shmem);
  SAME(m.dirty, dirty);
  SAME(m.writeback, writing);
  SAME(m.page_tables, tables);
  SAME(m.slab, slab);
  SAME(m.kernel_stack, stacks);
  SAME(m.swap_meta, meta);
  SAME(m.swap_cached, swap_cached);
  SAME(m.unevictable, locked);
  SAME(m.active + m.inactive, aged);
  SAME(truth.mappings.size(), pss_pages);
  return "";
}

std::string Chaos::check() {
  Truth truth;
  std::vector<TaskView> tasks(Kernel::kTasksMax);
  tasks.resize(bed_.kernel().tasks(tasks.data(), Kernel::kTasksMax));
  u64 tables = 0;
  for (const TaskView& t : tasks) {
    if (t.state == TaskState::dead) continue;
    const std::string wrong = check_process(t, truth);
    if (!wrong.empty()) return "pid " + std::to_string(t.pid) + ": " + wrong;
    tables += t.page_tables;
  }
  const std::string wrong = check_frames(truth);
  if (!wrong.empty()) return wrong;
  const MemInfo m = bed_.kernel().meminfo();
  SAME(m.page_tables, tables);
  SAME(m.kernel_stack, 2 * tasks.size());
  // Slots: each reference is an entry, the swap cache's, or a segment's table.
  SwapView area;
  SAME(bed_.kernel().swaps(&area, 1), 1U);
  SAME(m.swap_total, area.size);
  SAME(m.swap_total - m.swap_free, area.used);
  u64 used = 0, refs = 0, in_cache = 0, from_entries = 0;
  for (const auto& [slot, count] : truth.slot_refs) from_entries += count;
  for (u32 offset = 1; offset <= area.size; ++offset) {
    const SlotView s = bed_.kernel().slot(SlotId(area.device + 1, offset));
    if (!s.used) continue;
    ++used;
    refs += s.count;
    if (s.cached.valid()) ++in_cache;
  }
  SAME(area.used, used);
  SAME(m.swap_cached, in_cache);
  ShmView segment;
  SAME(bed_.kernel().segments(&segment, 1), 1U);
  SAME(refs, from_entries + in_cache + segment.swapped);
  SAME(m.shmem, segment.resident);
  FileView file = bed_.file("data");
  SAME(m.cached, file.cached + segment.resident);
  SAME(m.writeback, file.writeback);
  return "";
}

#undef SAME

// Ten runs of 10^4 operations for each policy.
class RowsCounters : public testing::TestWithParam<std::tuple<Policy, u64>> {};
std::string run_name(const testing::TestParamInfo<std::tuple<Policy, u64>>& param) {
  const testing::TestParamInfo<Policy> policy(std::get<0>(param.param), param.index);
  return policy_name(policy) + "_seed_" + std::to_string(std::get<1>(param.param));
}
INSTANTIATE_TEST_SUITE_P(All, RowsCounters,
                         testing::Combine(testing::ValuesIn(kRowPolicies),
                                          testing::Range(u64{1}, u64{11})),
                         run_name);

TEST_P(RowsCounters, row_74_counters_are_the_truth_after_each_of_many_random_operations) {
#ifdef __OPTIMIZE__
  constexpr u32 kSteps = 10'000;
#else
  constexpr u32 kSteps = 1'500;  // builds that are for other things must not wait for minutes
#endif
  Chaos chaos(std::get<1>(GetParam()), std::get<0>(GetParam()));
  for (u32 i = 0; i < kSteps; ++i) {
    chaos.step();
    const std::string wrong = chaos.check();
    ASSERT_EQ(wrong, "") << "step " << i;
    if (i % 64 == 0) {
      ASSERT_EQ(chaos.bed().audit(), "") << "step " << i;
    }
  }
  ASSERT_EQ(chaos.bed().quiet(), "");
  // The run was about something.
  EXPECT_GT(chaos.bed().count(Counter::pswpin), 0U);
  EXPECT_GT(chaos.bed().count(Counter::pgpgout), 0U);
  EXPECT_GT(chaos.bed().count(Counter::pgcow), 0U);
}

}  // namespace
}  // namespace spillway
