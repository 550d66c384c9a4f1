// Rows 21-24 of the acceptance table: fork, copy on write, its race, and exit.
// Method: frames, entries and references are counted before and after each step. The race is made
// deterministic by a walk sink that lets the second thread fault at the one moment that matters:
// when the first has taken its frame and has not looked at the entry again.
#include <functional>
#include <set>

#include "system/rows_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kPage = RowsBed::kPage;

KernelBedConfig large() {
  KernelBedConfig config;
  config.frames = 4096;  // nothing is evicted
  return config;
}

TEST(RowsCow, row_21_fork_copies_tables_and_no_page) {
  RowsBed bed(large());
  const Pid parent = bed.spawn();
  const u64 at = bed.map(parent, 1000);
  bed.fill(parent, at, 1000);
  const MemInfo before = bed.kernel().meminfo();
  const TaskView old = bed.task(parent);
  const u64 copies = bed.count(Counter::pgcow);
  const Pid child = bed.fork(parent);
  const MemInfo after = bed.kernel().meminfo();
  EXPECT_EQ(after.anon_pages, before.anon_pages);
  EXPECT_EQ(after.anon_pages, 1000U);
  const u64 tables = bed.task(child).page_tables;
  EXPECT_EQ(after.page_tables, before.page_tables + tables);
  EXPECT_EQ(after.mem_free,
            before.mem_free - tables - (after.slab - before.slab) - 2 /* its kernel stack */);
  EXPECT_EQ(after.committed_as, before.committed_as + 1001);  // the stack's page too
  EXPECT_EQ(bed.task(child).total_vm, old.total_vm);
  EXPECT_EQ(bed.task(child).rss, 1000U);
  EXPECT_EQ(bed.task(parent).rss, 1000U);
  for (u64 i = 0; i < 1000; ++i) {
    const PteView mine = bed.entry(parent, at + i * kPage);
    const PteView its = bed.entry(child, at + i * kPage);
    ASSERT_EQ(mine.kind, Pte::Kind::present);
    ASSERT_EQ(its.kind, Pte::Kind::present);
    ASSERT_EQ(mine.pfn, its.pfn);
    ASSERT_FALSE(mine.writable || its.writable);
    ASSERT_FALSE(its.accessed);
    ASSERT_EQ(bed.kernel().frame(mine.pfn).count, 2U);
    ASSERT_EQ(bed.kernel().frame(mine.pfn).mapcount, 2U);
  }
  EXPECT_EQ(bed.count(Counter::pgcow), copies);
  EXPECT_EQ(bed.quiet(), "");
}

TEST(RowsCow, row_21_what_fork_leaves_out) {
  RowsBed bed(large());
  const Pid parent = bed.spawn();
  const u64 left_out = bed.map(parent, 3, kProtRead);  // apart from the next by its protection
  const u64 locked = bed.map(parent, 5);
  constexpr i32 kDontfork = 10;
  ASSERT_TRUE(bed.kernel().madvise(parent, left_out, 3 * kPage, kDontfork).ok());
  ASSERT_TRUE(bed.wait_for([&] { return bed.kernel().mlock(parent, locked, 5 * kPage); }).ok());
  const Pid child = bed.fork(parent);
  EXPECT_EQ(bed.task(child).total_vm, bed.task(parent).total_vm - 3);
  EXPECT_EQ(bed.task(child).locked_vm, 0U);
  EXPECT_EQ(bed.task(parent).locked_vm, 5U);
  EXPECT_EQ(bed.load(child, left_out), -1);
  EXPECT_EQ(bed.frame(parent, locked).queue, PageQueue::locked);  // the parent's lock still holds
  EXPECT_EQ(bed.quiet(), "");
}

TEST(RowsCow, row_22_the_first_writer_copies_and_the_last_does_not) {
  RowsBed bed(large());
  const Pid parent = bed.spawn();
  const u64 at = bed.map(parent, 10);
  bed.fill(parent, at, 10);
  const Pid child = bed.fork(parent);
  const u64 page = at + 4 * kPage;
  const Pfn original = bed.entry(parent, page).pfn;
  u64 free_before = bed.free_frames();
  EXPECT_EQ(bed.store(child, page, 99).signo, Signal::none);
  EXPECT_EQ(bed.kernel().meminfo().anon_pages, 11U);
  EXPECT_EQ(bed.count(Counter::pgcow), 1U);
  EXPECT_LE(bed.free_frames(), free_before);  // one frame, and at most a reverse map's slab back
  EXPECT_NE(bed.entry(child, page).pfn, original);
  EXPECT_TRUE(bed.entry(child, page).writable);
  EXPECT_EQ(bed.frame(child, page).count, 1U);
  EXPECT_EQ(bed.frame(parent, page).count, 1U);
  EXPECT_EQ(bed.load(parent, page), KernelBed::mark(parent, 4, 0));
  free_before = bed.free_frames();
  const u64 reused = bed.count(Counter::pgreuse);
  EXPECT_EQ(bed.store(parent, page, 77).signo, Signal::none);
  EXPECT_EQ(bed.free_frames(), free_before);
  EXPECT_EQ(bed.entry(parent, page).pfn, original);
  EXPECT_EQ(bed.count(Counter::pgcow), 1U);
  EXPECT_EQ(bed.count(Counter::pgreuse), reused + 1);
  EXPECT_EQ(bed.load(child, page), 99);
  EXPECT_EQ(bed.load(child, page + 1), KernelBed::mark(parent, 4, 0));
  EXPECT_EQ(bed.load(parent, page), 77);
  EXPECT_EQ(bed.quiet(), "");
}

TEST(RowsCow, row_22_after_three_forks_the_last_of_four_writes_in_place) {
  RowsBed bed(large());
  std::vector<Pid> all = {bed.spawn()};
  const u64 at = bed.map(all[0], 1);
  bed.fill(all[0], at, 1);
  for (u32 i = 0; i < 3; ++i) all.push_back(bed.fork(all[0]));
  const Pfn original = bed.entry(all[0], at).pfn;
  EXPECT_EQ(bed.kernel().frame(original).count, 4U);
  for (u32 i = 0; i < 4; ++i) {
    EXPECT_EQ(bed.store(all[i], at, static_cast<u8>(i)).signo, Signal::none);
    EXPECT_EQ(bed.kernel().meminfo().anon_pages, i < 3 ? i + 2U : 4U);
    EXPECT_EQ(bed.entry(all[i], at).pfn == original, i == 3);
  }
  EXPECT_EQ(bed.count(Counter::pgcow), 3U);
  EXPECT_EQ(bed.quiet(), "");
}

// Lets `other` run once, when the task at work has just got a frame.
class Racer final : public WalkSink {
 public:
  explicit Racer(std::function<void()> other) : other_(std::move(other)) {}
  void enter(const char* function, const char*, u64, u64, u64) override {
    functions_.push_back(function);
  }
  void leave() override { functions_.pop_back(); }
  void step(const char* text, u64 frame, u64, u64) override {
    if (ran_ || functions_.empty() || std::string(functions_.back()) != "alloc_page") return;
    if (std::string(text) != "frame {a}") return;
    ran_ = true;
    frame_ = Pfn(static_cast<u32>(frame));
    other_();
  }
  bool ran() const { return ran_; }
  Pfn frame() const { return frame_; }  // that the first task took

 private:
  std::function<void()> other_;
  std::vector<std::string> functions_;
  bool ran_ = false;
  Pfn frame_;
};

TEST(RowsCow, row_23_of_two_threads_that_write_at_once_one_copies) {
  RowsBed bed(large());
  const Pid first = bed.spawn();
  const u64 at = bed.map(first, 1);
  bed.fill(first, at, 1);
  const Pid second = bed.kernel().clone_thread(first).value();
  const Pid child = bed.fork(first);
  const u64 anon = bed.kernel().meminfo().anon_pages;
  Racer racer([&] {
    bed.sim().cpus().set_current(1);
    bed.kernel().run_on(1, second);
    EXPECT_EQ(bed.kernel().on_fault(bed.kernel().space_of(second), VirtAddr(at), Access::write, 0),
              FaultOutcome::done);
    bed.sim().cpus().set_current(0);
  });
  bed.kernel().set_walk(&racer);
  EXPECT_EQ(bed.store(first, at, 11).signo, Signal::none);
  bed.kernel().set_walk(nullptr);
  ASSERT_TRUE(racer.ran());
  EXPECT_EQ(bed.store(second, at + 1, 22).signo, Signal::none);
  EXPECT_EQ(bed.kernel().meminfo().anon_pages, anon + 1);
  EXPECT_EQ(bed.count(Counter::pgcow), 1U);
  EXPECT_NE(bed.entry(first, at).pfn, racer.frame());  // the slower one's frame went back
  const PageState state = bed.kernel().frame(racer.frame()).state;
  EXPECT_TRUE(state == PageState::free || state == PageState::pcp);
  const u8 old = KernelBed::mark(first, 0, 0);
  EXPECT_EQ(bed.load(first, at), 11);
  EXPECT_EQ(bed.load(second, at + 1), 22);
  EXPECT_EQ(bed.load(second, at + 2), old);
  EXPECT_EQ(bed.load(child, at), old);
  EXPECT_EQ(bed.load(child, at + 1), old);
  EXPECT_EQ(bed.quiet(), "");
}

TEST(RowsCow, row_23_the_page_is_swapped_out_while_its_copy_is_made) {
  RowsBed bed(large());
  const Pid first = bed.spawn();
  const u64 at = bed.map(first, 1);
  bed.fill(first, at, 1);
  const Pid child = bed.fork(first);
  Racer racer([&] { bed.push_out(child, at, 1); });
  bed.kernel().set_walk(&racer);
  EXPECT_EQ(bed.store(first, at, 11).signo, Signal::none);
  bed.kernel().set_walk(nullptr);
  ASSERT_TRUE(racer.ran());
  EXPECT_EQ(bed.load(first, at), 11);
  EXPECT_EQ(bed.load(first, at + 1), KernelBed::mark(first, 0, 0));
  EXPECT_EQ(bed.load(child, at), KernelBed::mark(first, 0, 0));
  EXPECT_EQ(bed.quiet(), "");
}

TEST(RowsCow, row_23_the_same_race_on_a_private_file_page) {
  RowsBed bed(large());
  const Pid first = bed.spawn();
  const i32 fd = bed.make_file(first, "data", 1);
  const u64 at = bed.mmap(first, 0, 1, kProtRw, kMapPrivate, fd).value();
  const Pid second = bed.kernel().clone_thread(first).value();
  Racer racer([&] {
    EXPECT_EQ(bed.kernel().on_fault(bed.kernel().space_of(second), VirtAddr(at), Access::write, 0),
              FaultOutcome::done);
  });
  bed.kernel().set_walk(&racer);
  EXPECT_EQ(bed.store(first, at, 11).signo, Signal::none);
  bed.kernel().set_walk(nullptr);
  ASSERT_TRUE(racer.ran());
  EXPECT_EQ(bed.kernel().meminfo().anon_pages, 1U);
  EXPECT_EQ(bed.load(second, at), 11);
  EXPECT_EQ(bed.load(second, at + 1), KernelBed::mark(first, 0, 0));
  EXPECT_EQ(bed.quiet(), "");
}

// What only this process holds, by its entries.
struct Holdings {
  std::set<u32> frames;
  std::set<u32> slots;
};
Holdings only_of(RowsBed& bed, Pid pid) {
  Holdings held;
  for (const AreaView& a : bed.areas(pid)) {
    for (Vpn vpn = a.range.start; vpn < a.range.end; vpn = vpn + 1) {
      const PteView e = bed.kernel().entry(pid, vpn);
      if (e.pfn.valid()) {
        const FrameView f = bed.kernel().frame(e.pfn);
        if (f.mapcount == 1 && f.mapping == 0) held.frames.insert(e.pfn.v);
      }
      if (e.kind == Pte::Kind::swapped && bed.kernel().slot(e.slot).count == 1) {
        held.slots.insert(e.slot.v);
      }
    }
  }
  return held;
}

TEST(RowsCow, row_24_exit_returns_all_but_what_others_hold) {
  RowsBed bed(large());
  const Pid other = bed.spawn("other");
  const i32 fd = bed.make_file(other, "data", 8);
  const Pid pid = bed.spawn("ends");
  EXPECT_EQ(bed.store(pid, RowsBed::kStackTop - 1, 1).signo, Signal::none);
  const u64 own = bed.map(pid, 50);  // 0-29 resident, 30-49 swapped
  bed.fill(pid, own, 50);
  const u64 joint = bed.map(pid, 20, kProtRw);  // shared with the child; 10-19 swapped
  bed.fill(pid, joint, 20);
  const u32 id = static_cast<u32>(bed.kernel().shmget(pid, kIpcPrivate, 10 * kPage, 0).value());
  const u64 shm = bed.kernel().shmat(pid, id, 0, 0).value();
  bed.fill(pid, shm, 10);
  const i32 its_fd = bed.open(pid, "data", kOpenReadWrite);
  const u64 file = bed.mmap(pid, 0, 8, kProtRw, kMapPrivate, its_fd).value();
  bed.fill(pid, file, 3, 1);  // private copies
  EXPECT_GE(bed.load(pid, file + 5 * kPage), 0);
  const u64 view = bed.mmap(pid, 0, 8, kProtRw, kMapShared, its_fd).value();
  EXPECT_EQ(bed.store(pid, view + 7 * kPage, 42).signo, Signal::none);  // dirty in the entry only
  const u64 shm_of_other = bed.kernel().shmat(other, id, 0, 0).value();
  const Pid child = bed.fork(pid);
  ASSERT_TRUE(bed.kernel().munmap(child, own, 50 * kPage).ok());
  ASSERT_TRUE(bed.kernel().munmap(child, file, 8 * kPage).ok());
  bed.push_out(pid, own + 30 * kPage, 20);
  bed.push_out(pid, joint + 10 * kPage, 10);
  bed.settle();
  ASSERT_EQ(bed.quiet(), "");

  const Holdings held = only_of(bed, pid);
  EXPECT_EQ(held.slots.size(), 20U);
  EXPECT_EQ(held.frames.size(), 30U + 3U);  // the resident ones, and the copies of file pages
  EXPECT_EQ(bed.used_slots(), 30U);
  const TaskView task = bed.task(pid);
  const MemInfo before = bed.kernel().meminfo();
  bed.kernel().exit(pid, 0);
  const MemInfo after = bed.kernel().meminfo();
  EXPECT_EQ(after.mem_free,
            before.mem_free + held.frames.size() + task.page_tables + (before.slab - after.slab));
  EXPECT_EQ(after.anon_pages, before.anon_pages - held.frames.size());
  EXPECT_EQ(after.page_tables, before.page_tables - task.page_tables);
  EXPECT_EQ(after.cached, before.cached);
  EXPECT_EQ(after.swap_free, before.swap_free + 20);
  for (const u32 slot : held.slots) EXPECT_FALSE(bed.kernel().slot(SlotId(slot)).used);
  EXPECT_EQ(bed.quiet(), "");
  // What others hold is as it was.
  EXPECT_TRUE(bed.holds(child, joint, 20, 0, pid));
  EXPECT_TRUE(bed.holds(other, shm_of_other, 10, 0, pid));
  EXPECT_EQ(bed.read_bytes(other, fd, 7 * kPage, 1), std::vector<u8>{42});
  EXPECT_EQ(bed.read_bytes(other, fd, 0, 1), std::vector<u8>{KernelBed::mark(other, 0, 0)});
  EXPECT_EQ(bed.quiet(), "");
  // And with the last of them everything is back.
  bed.kernel().exit(child, 0);
  ASSERT_TRUE(bed.kernel().shmctl(other, id, kIpcRmid).ok());
  bed.kernel().exit(other, 0);
  const MemInfo end = bed.kernel().meminfo();
  EXPECT_EQ(end.anon_pages + end.shmem + end.page_tables + end.swap_cached, 0U);
  EXPECT_EQ(end.committed_as, 0U);
  EXPECT_EQ(bed.used_slots(), 0U);
  EXPECT_EQ(end.mem_free, end.mem_total - end.cached - end.slab - end.swap_meta - end.kernel_stack);
  EXPECT_EQ(end.kernel_stack, 6U) << "of three tasks that nobody has reaped";
  EXPECT_EQ(bed.quiet(), "");
}

}  // namespace
}  // namespace spillway
