// Transfers of the swap file, by io_uring and by threads: the same cases on both. The test plays
// the core under the engine lock and lets go of it while it waits; the machine's own handler
// thread reports the ends.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

#include "machine_host/host_machine_test.h"

namespace spillway {
namespace {

constexpr u32 kFrames = 512;
constexpr u64 kDiskSegments = 64;
constexpr u64 kDiskBytes = kDiskSegments * (u64{kIoFramesMax} << kPageShift);

// A machine, its frames online and its disk claimed; this thread holds the engine lock.
class IoRig : protected IoSink {
 protected:
  explicit IoRig(IoWay way)
      : test_(std::make_unique<TestMachine>(kFrames, kDiskBytes, "/tmp", u64{1} << 30, way)) {
    g_engine_lock.lock();
    Frames& frames = test_->host.frames();
    EXPECT_EQ(frames.acquire_quota(PageCount(kFrames)).v, kFrames);
    EXPECT_TRUE(frames.bring_online(Pfn(0), PageCount(kFrames)).ok());
    for (u64 i = 0; i < kDiskSegments; ++i) segments_.push_back(disk().claim_segment().value());
  }
  ~IoRig() { g_engine_lock.unlock(); }

  HostBlockDevice& disk() { return *test_->host.device(); }
  u8* frame(u32 pfn) { return test_->host.frames().bytes(Pfn(pfn)); }
  void fill(u32 pfn, u64 seed) {
    u64 words[kPageSize / sizeof(u64)];
    for (u64& word : words) word = seed = seed * 6364136223846793005 + 1442695040888963407;
    std::memcpy(frame(pfn), words, sizeof(words));
  }
  bool holds(u32 pfn, u64 seed) {
    u8 was[kPageSize];
    std::memcpy(was, frame(pfn), kPageSize);
    fill(pfn, seed);
    return std::memcmp(was, frame(pfn), kPageSize) == 0;
  }

  // On the handler's thread, where nothing may be allocated.
  void io_done(IoRequest& request, Status status) override {
    ++done_;
    if (!status.ok() && status_.ok()) status_ = status;
    if (again_ > 0) {
      --again_;
      disk().submit(request);
    }
  }
  IoRequest request(IoOp op, u64 block, u32 first, u32 count, u32 stride = 1) {
    IoRequest r;
    r.op = op;
    r.block = block;
    r.count = count;
    for (u32 i = 0; i < count; ++i) r.frames[i] = Pfn(first + i * stride);
    r.sink = this;
    return r;
  }
  void wait_for(u32 done) {
    while (done_ < done) {
      const u32 seen = test_->host.handler().progress();
      g_engine_lock.unlock();
      test_->host.handler().wait_for_progress(seen);
      g_engine_lock.lock();
    }
    ASSERT_EQ(disk().in_flight(), 0U);
  }
  Status transfer(IoRequest r) {
    status_ = kOk;
    disk().submit(r);
    wait_for(done_ + 1);
    return status_;
  }

  std::unique_ptr<TestMachine> test_;
  std::vector<u64> segments_;
  u32 done_ = 0;
  u32 again_ = 0;        // how often to submit a request once more from within io_done
  Status status_ = kOk;  // the first that was not ok
};

class IoTest : public testing::TestWithParam<IoWay>, protected IoRig {
 protected:
  IoTest() : IoRig(GetParam()) {}
  // The sandbox of the test may forbid io_uring; then both ways are the threads.
  void SetUp() override {
    if (GetParam() == IoWay::best && !disk().uses_ring()) GTEST_SKIP() << "no io_uring here";
    ASSERT_EQ(disk().uses_ring(), GetParam() == IoWay::best);
  }
};

TEST_P(IoTest, round_trip_of_scattered_frames) {
  for (u32 stride : {1U, 2U, 7U}) {
    for (u32 i = 0; i < kIoFramesMax; ++i) fill(i * stride, 100 * stride + i);
    ASSERT_TRUE(transfer(request(IoOp::write, 32, 0, kIoFramesMax, stride)).ok());
    ASSERT_TRUE(transfer(request(IoOp::read, 32, 200, kIoFramesMax)).ok());
    for (u32 i = 0; i < kIoFramesMax; ++i) EXPECT_TRUE(holds(200 + i, 100 * stride + i));
    ASSERT_TRUE(transfer(request(IoOp::read, 32 + 3, 300, 2, 5)).ok());
    EXPECT_TRUE(holds(300, 100 * stride + 3));
    EXPECT_TRUE(holds(305, 100 * stride + 4));
  }
}

TEST_P(IoTest, more_requests_than_the_queue_has_places) {
  constexpr u32 kRequests = 3 * IoRing::kSlots + 5;
  std::vector<IoRequest> requests(kRequests);
  for (const IoOp op : {IoOp::write, IoOp::read}) {
    for (u32 i = 0; i < kRequests; ++i) {
      const u32 pfn = op == IoOp::write ? i : kRequests + i;
      if (op == IoOp::write) fill(pfn, i);
      requests[i] = request(op, (i * 37) % kRequests, pfn, 1);
    }
    for (IoRequest& r : requests) disk().submit(r);
    EXPECT_EQ(disk().in_flight(), kRequests);
    wait_for(done_ + kRequests);
  }
  EXPECT_TRUE(status_.ok());
  for (u32 i = 0; i < kRequests; ++i) ASSERT_TRUE(holds(kRequests + i, i)) << i;
}

TEST_P(IoTest, a_request_may_be_submitted_again_when_it_ends) {
  again_ = 200;
  fill(0, 9);
  IoRequest r = request(IoOp::write, 5, 0, 1);
  disk().submit(r);
  wait_for(201);
  EXPECT_TRUE(status_.ok());
}

TEST_P(IoTest, out_of_range_is_invalid_and_harms_nobody) {
  const u64 size = disk().size().v;
  EXPECT_EQ(transfer(request(IoOp::read, size, 0, 1)).error(), Error::invalid);
  EXPECT_EQ(transfer(request(IoOp::write, size - 1, 0, 2)).error(), Error::invalid);
  EXPECT_EQ(transfer(request(IoOp::write, ~u64{0}, 0, 1)).error(), Error::invalid);
  EXPECT_TRUE(transfer(request(IoOp::write, size - 1, 0, 1)).ok());
}

TEST_P(IoTest, a_read_beyond_the_end_of_the_file_is_an_error) {
  ASSERT_EQ(ftruncate(engine_fd(FdRole::swap), 3 * kPageSize), 0);
  EXPECT_EQ(transfer(request(IoOp::read, 8, 0, 1)).error(), Error::io);
  EXPECT_EQ(transfer(request(IoOp::read, 2, 0, 2)).error(), Error::io);  // short
  EXPECT_TRUE(transfer(request(IoOp::read, 1, 0, 2)).ok());
}

TEST_P(IoTest, no_room_is_no_space) {
  // What a full disk looks like to a write, without a disk to fill. Engine threads have all
  // signals blocked, so that SIGXFSZ does not arrive.
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 64 << kPageShift;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status beyond = transfer(request(IoOp::write, 64, 0, 4));
  const Status across = transfer(request(IoOp::write, 62, 0, 4));  // short, then nothing
  const Status within = transfer(request(IoOp::write, 60, 0, 4));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(beyond.error(), Error::no_space);
  EXPECT_EQ(across.error(), Error::no_space);
  EXPECT_TRUE(within.ok());
}

TEST_P(IoTest, descriptors_are_out_of_the_way) {
  EXPECT_EQ(engine_fd(FdRole::ring) >= kEngineFdFirst, disk().uses_ring());
  EXPECT_GE(engine_fd(FdRole::swap), kEngineFdFirst);
}

TEST_P(IoTest, a_forked_child_has_transfers_of_its_own) {
  for (u32 i = 0; i < 8; ++i) fill(i, i);
  ASSERT_TRUE(transfer(request(IoOp::write, 0, 0, 8)).ok());
  const u64 segment = segments_[1];
  bool wait = false;
  const i64 child = test_->host.fork(SIGCHLD, &wait);
  ASSERT_GE(child, 0);
  if (child == 0) {
    // What the parent wrote, and what this process writes itself.
    bool ok = disk().uses_ring() == (GetParam() == IoWay::best);
    ok = ok && transfer(request(IoOp::read, 0, 100, 8)).ok();
    for (u32 i = 0; i < 8; ++i) ok = ok && holds(100 + i, i);
    disk().release_segment(segment);
    const Result<u64> mine = disk().claim_segment();
    ok = ok && !mine.ok();  // the parent holds all others, and still this one
    ok = ok && disk().sole_owner(segments_[0]) == false;
    _exit(ok ? 0 : 1);
  }
  // Both at once.
  for (u32 round = 0; round < 50; ++round) {
    ASSERT_TRUE(transfer(request(IoOp::write, 16 + round, round, 1)).ok());
  }
  g_engine_lock.unlock();
  int status = -1;
  ASSERT_EQ(waitpid(static_cast<pid_t>(child), &status, 0), child);
  g_engine_lock.lock();
  EXPECT_EQ(status, 0);
  ASSERT_TRUE(transfer(request(IoOp::read, 0, 200, 8)).ok());
  for (u32 i = 0; i < 8; ++i) EXPECT_TRUE(holds(200 + i, i));
}

// From now on `number` fails with EPERM in all threads, as under the filters of containers.
bool forbid(u32 number) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program = {4, code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}
constexpr u32 kSysIoUringSetup = 425;
constexpr u32 kSysIoUringEnter = 426;

// For processes that forbid themselves something: ends the process with 0 when all went well.
class Refused : IoRig {
 public:
  explicit Refused(IoWay way) : IoRig(way) {}
  [[noreturn]] void run(bool expect_ring, u32 forbidden) {
    bool ok = disk().uses_ring() == expect_ring;
    for (u32 round = 0; round < 3; ++round) {
      fill(0, round);
      ok = ok && transfer(request(IoOp::write, 7, 0, 1)).ok();
      ok = ok && transfer(request(IoOp::read, 7, 1, 1)).ok() && holds(1, round);
      ok = ok && transfer(request(IoOp::read, disk().size().v, 0, 1)).error() == Error::invalid;
      if (round == 0 && forbidden != 0) ok = ok && forbid(forbidden);
    }
    _exit(ok ? 0 : 1);
  }
};

TEST(IoRefused, where_there_is_no_ring_the_threads_do_it) {
  EXPECT_EXIT(
      {
        if (!forbid(kSysIoUringSetup)) _exit(2);
        Refused(IoWay::best).run(false, 0);
      },
      testing::ExitedWithCode(0), "");
}

TEST(IoRefused, a_ring_that_is_forbidden_later_loses_nothing) {
  EXPECT_EXIT(
      {
        Refused refused(IoWay::best);
        refused.run(true, kSysIoUringEnter);
      },
      testing::ExitedWithCode(0), "");
}

std::string name(const testing::TestParamInfo<IoWay>& info) {
  return info.param == IoWay::best ? "ring" : "threads";
}
INSTANTIATE_TEST_SUITE_P(Io, IoTest, testing::Values(IoWay::best, IoWay::threads), name);

}  // namespace
}  // namespace spillway
