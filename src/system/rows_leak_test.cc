// Row 73 of the acceptance table: everything ends, and nothing is left.
// Method: several processes use everything that there is, end in every order, and the machine must
// be as it was after boot: free blocks by order, slots, caches, promises and objects.
#include "base/prng.h"
#include "system/rows_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kPage = RowsBed::kPage;

// A life: private memory, a heap, a stack, files, shared memory, children and threads.
class Life {
 public:
  Life(RowsBed& bed, u64 seed) : bed_(bed), prng_(seed) {}

  Pid live(u32 id, const char* name) {
    const Pid pid = bed_.spawn(name);
    Kernel& kernel = bed_.kernel();
    const u64 heap = bed_.task(pid).start_brk.v;
    EXPECT_TRUE(kernel.brk(pid, heap + 40 * kPage).ok());
    bed_.fill(pid, heap, 40);
    kernel.set_stack_pointer(pid, VirtAddr(RowsBed::kStackTop - 20 * kPage));
    bed_.fill(pid, RowsBed::kStackTop - 20 * kPage, 20);
    const u64 own = bed_.map(pid, 120);
    bed_.fill(pid, own, 100);
    for (u64 i = 100; i < 120; ++i) EXPECT_EQ(bed_.load(pid, own + i * kPage), 0);
    const i32 fd = bed_.open(pid, "data", kOpenReadWrite);
    const u64 view = bed_.mmap(pid, 0, 30, kProtRw, kMapShared, fd).value();
    const u64 copy = bed_.mmap(pid, 0, 30, kProtRw, kMapPrivate, fd, 10).value();
    bed_.fill(pid, view, 10, prng_.below(9));
    bed_.fill(pid, copy, 15, prng_.below(9));
    const u64 shm = kernel.shmat(pid, id, 0, 0).value();
    bed_.fill(pid, shm, 20, prng_.below(9));
    const u64 joint = bed_.map(pid, 10, kProtRw, kMapShared | kMapAnonymous);
    bed_.fill(pid, joint, 10);
    EXPECT_TRUE(bed_.wait_for([&] { return kernel.mlock(pid, own, 3 * kPage); }).ok());
    EXPECT_TRUE(
        bed_.wait_for([&] { return kernel.mprotect(pid, own + 50 * kPage, 9 * kPage, 0); }).ok());
    EXPECT_TRUE(bed_.wait_for([&] {
                      return kernel.mremap(pid, own + 70 * kPage, 10 * kPage, 10 * kPage,
                                           kMremapMaymove | kMremapFixed, u64{2} << 30);
                    })
                    .ok());
    EXPECT_TRUE(kernel.clone_thread(pid).ok());
    const Pid child = bed_.fork(pid);
    bed_.fill(child, heap, 20, 1);
    bed_.push_out(pid, own + 20 * kPage, 20);
    all_.push_back(pid);
    all_.push_back(child);
    return pid;
  }
  // They end in an order that the seed says; each end must leave a sound machine.
  void end_all() {
    while (!all_.empty()) {
      const u64 at = prng_.below(all_.size());
      if (prng_.below(2) == 0) {
        bed_.kernel().exit(all_[at], 0);
      } else {
        bed_.kernel().kill(all_[at], Signal::kill);
      }
      all_.erase(all_.begin() + static_cast<std::ptrdiff_t>(at));
      ASSERT_EQ(bed_.audit(), "");
    }
    std::vector<TaskView> tasks(Kernel::kTasksMax);
    tasks.resize(bed_.kernel().tasks(tasks.data(), Kernel::kTasksMax));
    for (const TaskView& t : tasks) {
      if (t.state != TaskState::dead) continue;
      EXPECT_TRUE(bed_.kernel().reap(Pid{t.pid}).ok());
    }
  }

 private:
  RowsBed& bed_;
  Prng prng_;
  std::vector<Pid> all_;
};

class RowsLeak : public testing::TestWithParam<Policy> {};
INSTANTIATE_TEST_SUITE_P(All, RowsLeak, testing::ValuesIn(kRowPolicies), policy_name);

TEST_P(RowsLeak, row_73_everything_ends_and_nothing_is_left) {
  for (u64 seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    KernelBedConfig config;
    config.frames = 400;  // less than what is used
    config.policy = GetParam();
    RowsBed bed(config);
    const std::string initial = bed.remains();
    const Pid keeper = bed.spawn("keeper");
    ASSERT_TRUE(bed.kernel().close(keeper, bed.make_file(keeper, "data", 40)).ok());
    const u32 id =
        static_cast<u32>(bed.kernel().shmget(keeper, 11, 20 * kPage, kIpcCreate).value());
    Life life(bed, seed);
    for (const char* name : {"one", "two", "three"}) life.live(id, name);
    ASSERT_EQ(bed.quiet(), "");
    EXPECT_GT(bed.used_slots(), 0U);
    ASSERT_TRUE(bed.kernel().shmctl(keeper, id, kIpcRmid).ok());
    ASSERT_TRUE(bed.kernel().unlink(keeper, "data").ok());
    life.end_all();
    bed.kernel().exit(keeper, 0);
    ASSERT_TRUE(bed.kernel().reap(keeper).ok());
    ShmView segment;
    FileView file;
    TaskView task;
    bed.settle();
    EXPECT_EQ(bed.kernel().segments(&segment, 1), 0U);
    EXPECT_EQ(bed.kernel().files(&file, 1), 0U);
    EXPECT_EQ(bed.kernel().tasks(&task, 1), 0U);
    EXPECT_EQ(bed.remains(), initial);
    EXPECT_EQ(bed.quiet(), "");
  }
}

TEST(RowsLeakCaches, what_is_dropped_is_clean_and_unused) {
  RowsBed bed;
  const Pid pid = bed.spawn();
  const i32 fd = bed.make_file(pid, "data", 12);
  const u64 at = bed.mmap(pid, 0, 12, kProtRw, kMapShared, fd).value();
  EXPECT_EQ(bed.load(pid, at), KernelBed::mark(pid, 0, 0));        // stays: mapped
  bed.write_bytes(pid, fd, 5 * kPage, std::vector<u8>(kPage, 9));  // stays: dirty
  EXPECT_EQ(bed.kernel().drop_caches().value(), 10U);
  EXPECT_EQ(bed.file("data").cached, 2U);
  EXPECT_EQ(bed.quiet(), "");
  const u64 read = bed.count(Counter::pgpgin);
  EXPECT_EQ(bed.load(pid, at + 7 * kPage), KernelBed::mark(pid, 7, 0));
  EXPECT_GT(bed.count(Counter::pgpgin), read);
  EXPECT_EQ(bed.load(pid, at + 5 * kPage), 9);
  EXPECT_EQ(bed.quiet(), "");
}

}  // namespace
}  // namespace spillway
