// The arena machine: what the conformance suite asks of devices, frames, clock and boot memory of
// any machine, on real files; then what is its own: image sizes, errors of the host, and frames
// that hold no memory while they are offline.
#include "machine_arena/arena_machine.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "machine/conformance.h"

namespace spillway {
namespace {

class TempFile {
 public:
  explicit TempFile(u64 bytes) {
    const int fd = ::mkstemp(path_);
    EXPECT_GE(fd, 0);
    EXPECT_EQ(::ftruncate(fd, static_cast<off_t>(bytes)), 0);
    ::close(fd);
  }
  ~TempFile() { ::unlink(path_); }
  const char* path() const { return path_; }
  u64 size() const {
    struct stat info {};
    EXPECT_EQ(::stat(path_, &info), 0);
    return static_cast<u64>(info.st_size);
  }
  std::string bytes(u64 at, u64 count) const {
    const int fd = ::open(path_, O_RDONLY | O_CLOEXEC);
    std::string out(count, '?');
    EXPECT_EQ(::pread(fd, out.data(), count, static_cast<off_t>(at)), static_cast<ssize_t>(count));
    ::close(fd);
    return out;
  }
  void store(u64 at, const std::string& data) {
    const int fd = ::open(path_, O_WRONLY | O_CLOEXEC);
    EXPECT_EQ(::pwrite(fd, data.data(), data.size(), static_cast<off_t>(at)),
              static_cast<ssize_t>(data.size()));
    ::close(fd);
  }

 private:
  char path_[32] = "/tmp/spw_arena_XXXXXX";
};

class ArenaEnvironment {
 public:
  ArenaEnvironment() {
    SPW_ASSERT(arena_.prepare({.frames = PageCount(64), .cpus = 2}).ok());
    SPW_ASSERT(arena_.add_device(first_.path(), DeviceAccess::read_write).ok());
    SPW_ASSERT(arena_.add_device(second_.path(), DeviceAccess::read_write).ok());
  }
  Machine& machine() { return arena_.machine(); }
  void wait_for_io() { arena_.run_completions(1); }

 private:
  TempFile first_{64 * kPageSize};
  TempFile second_{77 * kPageSize};
  ArenaMachine arena_;
};

// What the suite asks of swap devices, MMUs and programs is nothing that this machine has.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(MachineConformance);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(FaultConformance);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(EntryBitsConformance);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(SharedConformance);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DiskConformance);
INSTANTIATE_TYPED_TEST_SUITE_P(Arena, PlainDiskConformance, ArenaEnvironment);

struct Log final : IoSink {
  std::vector<u64> cookies;
  std::vector<Status> status;
  void io_done(IoRequest& request, Status s) override {
    cookies.push_back(request.cookie);
    status.push_back(s);
  }
};

class ArenaMachineTest : public testing::Test {
 protected:
  ArenaMachineTest() {
    EXPECT_TRUE(arena_.prepare({.frames = PageCount(64), .cpus = 1}).ok());
    EXPECT_EQ(arena_.frames().acquire_quota(PageCount(64)).v, 64U);
    EXPECT_TRUE(arena_.frames().bring_online(Pfn(0), PageCount(64)).ok());
  }
  IoRequest request(IoOp op, u64 block, u32 frame, u32 count) {
    IoRequest r;
    r.op = op;
    r.block = block;
    r.count = count;
    for (u32 i = 0; i < count; ++i) r.frames[i] = Pfn(frame + i);
    r.sink = &log_;
    r.cookie = block;
    return r;
  }
  Status transfer(u32 device, IoOp op, u64 block, u32 frame, u32 count = 1) {
    IoRequest r = request(op, block, frame, count);
    arena_.device(device).submit(r);
    EXPECT_EQ(arena_.run_completions(), 1U);
    return log_.status.back();
  }
  u8* frame(u32 n) { return arena_.frames().bytes(Pfn(n)); }
  ArenaMachine arena_;
  Log log_;
};

TEST_F(ArenaMachineTest, boot_memory_is_zeroed_aligned_and_bounded) {
  for (u64 align = 1; align <= kPageSize; align *= 2) {
    auto* p = static_cast<u8*>(arena_.boot().alloc(5000, align));
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(reinterpret_cast<u64>(p) % align, 0U);
    for (u32 i = 0; i < 5000; ++i) ASSERT_EQ(p[i], 0);
    std::memset(p, 0xA5, 5000);
  }
  EXPECT_EQ(arena_.boot().alloc(u64{1} << 62, 8), nullptr);
  EXPECT_EQ(arena_.boot().alloc(~u64{0}, 8), nullptr);
  const u64 before = arena_.machine().clock.now_ns();
  EXPECT_LE(before, arena_.machine().clock.now_ns());
  EXPECT_LT(arena_.machine().cpus.current(), arena_.machine().cpus.count());
}

TEST_F(ArenaMachineTest, frames_hold_no_memory_while_they_are_offline) {
  EXPECT_EQ(arena_.frames().acquire_quota(PageCount(1)).v, 0U) << "the budget is the arena";
  std::memset(frame(3), 1, 4 * kPageSize);
  unsigned char resident[4] = {};
  ASSERT_EQ(::mincore(frame(3), 4 * kPageSize, resident), 0);
  for (const unsigned char r : resident) EXPECT_EQ(r & 1, 1);
  arena_.frames().take_offline(Pfn(3), PageCount(4));
  ASSERT_EQ(::mincore(frame(3), 4 * kPageSize, resident), 0);
  for (const unsigned char r : resident) EXPECT_EQ(r & 1, 0);
  ASSERT_TRUE(arena_.frames().bring_online(Pfn(3), PageCount(4)).ok());
  for (u64 i = 0; i < 4 * kPageSize; ++i) ASSERT_EQ(frame(3)[i], 0);
}

TEST_F(ArenaMachineTest, nothing_ends_before_completions_run) {
  TempFile file(8 * kPageSize);
  ASSERT_EQ(arena_.add_device(file.path(), DeviceAccess::read_write).value(), 0U);
  IoRequest r[3] = {request(IoOp::write, 2, 0, 2), request(IoOp::write, 4, 2, 1),
                    request(IoOp::write, 7, 3, 1)};
  for (u32 i = 0; i < 4; ++i) std::memset(frame(i), 'a' + static_cast<int>(i), kPageSize);
  for (IoRequest& one : r) arena_.device(0).submit(one);
  EXPECT_EQ(log_.status.size(), 0U);
  EXPECT_EQ(arena_.device(0).in_flight(), 3U);
  EXPECT_EQ(arena_.run_completions(1), 1U);
  EXPECT_EQ(arena_.run_completions(), 2U);
  EXPECT_EQ(arena_.run_completions(), 0U);
  EXPECT_EQ(log_.cookies, (std::vector<u64>{2, 4, 7}));
  EXPECT_TRUE(arena_.sync_device(0).ok());
  EXPECT_EQ(file.bytes(2 * kPageSize, 1), "a");
  EXPECT_EQ(file.bytes(4 * kPageSize - 1, 2), "bc");
  EXPECT_EQ(file.bytes(8 * kPageSize - 1, 1), "d");
}

// What one call may transfer is of one kind, and no more than it has room for: requests on
// neighbouring pages all end as what they are.
TEST_F(ArenaMachineTest, neighbours_of_two_kinds_and_long_runs_keep_their_own_bytes) {
  TempFile file(128 * kPageSize);
  ASSERT_TRUE(arena_.add_device(file.path(), DeviceAccess::read_write).ok());
  file.store(3 * kPageSize, std::string(kPageSize, 'f'));
  std::memset(frame(0), 'w', kPageSize);
  std::memset(frame(1), 'r', kPageSize);
  IoRequest mixed[4] = {request(IoOp::write, 2, 0, 1), request(IoOp::read, 3, 1, 1),
                        request(IoOp::write, 4, 0, 1), request(IoOp::read, 5, 2, 1)};
  for (IoRequest& one : mixed) arena_.device(0).submit(one);
  EXPECT_EQ(arena_.run_completions(), 4U);
  EXPECT_EQ(file.bytes(2 * kPageSize, 1), "w");
  EXPECT_EQ(file.bytes(3 * kPageSize, 1), "f");
  EXPECT_EQ(file.bytes(4 * kPageSize, 1), "w");
  EXPECT_EQ(frame(1)[kPageSize - 1], 'f');
  EXPECT_EQ(frame(2)[0], 0);
  // Twice as long a run as one call takes, of frames that do not lie side by side.
  constexpr u32 kRun = 2 * ArenaDevice::kMergePages;
  for (u32 i = 0; i < 64; ++i) std::memset(frame(i), static_cast<int>('0' + i), kPageSize);
  std::vector<IoRequest> run;
  for (u32 i = 0; i < kRun; ++i) run.push_back(request(IoOp::write, i, 63 - i % 64, 1));
  for (IoRequest& one : run) arena_.device(0).submit(one);
  EXPECT_EQ(arena_.run_completions(), kRun);
  for (u32 i = 0; i < kRun; ++i) {
    const std::string want(2, static_cast<char>('0' + 63 - i % 64));
    EXPECT_EQ(file.bytes(i * kPageSize, 1) + file.bytes((i + 1) * kPageSize - 1, 1), want) << i;
  }
  for (const Status& status : log_.status) EXPECT_TRUE(status.ok());
}

// An image of an odd size: the page that the end lies in works, the image does not grow.
TEST_F(ArenaMachineTest, an_image_of_odd_size_keeps_its_size) {
  TempFile file(2 * kPageSize + 1000);
  file.store(2 * kPageSize, std::string(1000, 'x'));
  ASSERT_TRUE(arena_.add_device(file.path(), DeviceAccess::read_write).ok());
  EXPECT_EQ(arena_.device(0).size().v, 3U);
  std::memset(frame(0), 7, 3 * kPageSize);
  ASSERT_TRUE(transfer(0, IoOp::read, 0, 0, 3).ok());
  EXPECT_EQ(frame(2)[999], 'x');
  for (u64 i = 1000; i < kPageSize; ++i) ASSERT_EQ(frame(2)[i], 0);
  std::memset(frame(2), 'y', kPageSize);
  ASSERT_TRUE(transfer(0, IoOp::write, 2, 2).ok());
  EXPECT_EQ(file.size(), 2 * kPageSize + 1000);
  EXPECT_EQ(file.bytes(2 * kPageSize + 999, 1), "y");
  EXPECT_FALSE(transfer(0, IoOp::write, 3, 2).ok());
}

// The middle of three neighbours cannot be read: the other two arrive.
TEST_F(ArenaMachineTest, a_bad_page_does_not_fail_its_neighbours) {
  TempFile file(4 * kPageSize);
  file.store(0, std::string(2 * kPageSize, 'z'));
  ASSERT_TRUE(arena_.add_device(file.path(), DeviceAccess::read_write).ok());
  ASSERT_EQ(::truncate(file.path(), 2 * kPageSize), 0);  // behind our back
  IoRequest r[3] = {request(IoOp::read, 0, 0, 1), request(IoOp::read, 1, 1, 1),
                    request(IoOp::read, 2, 2, 1)};
  for (IoRequest& one : r) arena_.device(0).submit(one);
  EXPECT_EQ(arena_.run_completions(), 3U);
  EXPECT_TRUE(log_.status[0].ok());
  EXPECT_TRUE(log_.status[1].ok());
  EXPECT_EQ(log_.status[2].error(), Error::io);
  EXPECT_EQ(frame(1)[kPageSize - 1], 'z');
}

TEST_F(ArenaMachineTest, errors_of_the_host_are_told_by_name) {
  TempFile file(4 * kPageSize);
  EXPECT_EQ(arena_.add_device("/nonexistent/x", DeviceAccess::read_only).error(), Error::no_entry);
  EXPECT_EQ(arena_.add_device("/tmp", DeviceAccess::read_only).error(), Error::is_directory);
  EXPECT_EQ(arena_.add_device("/dev/null", DeviceAccess::read_only).error(), Error::invalid);
  TempFile empty(0);
  EXPECT_EQ(arena_.add_device(empty.path(), DeviceAccess::read_only).error(), Error::invalid);
  ASSERT_EQ(arena_.add_device(file.path(), DeviceAccess::read_only).value(), 0U);
  EXPECT_EQ(arena_.add_device(file.path(), DeviceAccess::read_write).error(), Error::busy);
  EXPECT_EQ(arena_.add_device(file.path(), DeviceAccess::read_only).value(), 1U);
  EXPECT_EQ(transfer(0, IoOp::write, 0, 0).error(), Error::read_only);
  EXPECT_EQ(transfer(0, IoOp::read, 4, 0).error(), Error::invalid);
  EXPECT_TRUE(transfer(0, IoOp::read, 3, 0).ok());
  arena_.close_device(0);
  arena_.close_device(1);
  EXPECT_EQ(arena_.add_device(file.path(), DeviceAccess::read_write).value(), 2U);
}

// A limit of the file size stands for a full disk: the write ends early and is an error.
TEST_F(ArenaMachineTest, a_short_write_is_an_error) {
  TempFile file(4 * kPageSize);
  ASSERT_TRUE(arena_.add_device(file.path(), DeviceAccess::read_write).ok());
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{2 * kPageSize + 100, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status status = transfer(0, IoOp::write, 1, 0, 2);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, old);
  EXPECT_EQ(status.error(), Error::io);
}

TEST_F(ArenaMachineTest, until_done_ends_io_between_calls_and_gives_up_without) {
  TempFile file(4 * kPageSize);
  ASSERT_TRUE(arena_.add_device(file.path(), DeviceAccess::read_write).ok());
  IoRequest r = request(IoOp::read, 1, 0, 1);
  bool submitted = false;
  const Status status = arena_.until_done([&]() -> Status {
    if (!log_.status.empty()) return log_.status.back();
    if (!submitted) arena_.device(0).submit(r);
    submitted = true;
    return Error::wait;
  });
  EXPECT_TRUE(status.ok());
  u32 idle = 0;
  u32 calls = 0;
  const Status never = arena_.until_done(
      [&]() -> Status {
        ++calls;
        return Error::wait;
      },
      [&] { ++idle; });
  EXPECT_EQ(never.error(), Error::wait);
  EXPECT_EQ(calls, ArenaMachine::kIdleRoundsMax);
  EXPECT_EQ(idle, ArenaMachine::kIdleRoundsMax - 1);
}

TEST_F(ArenaMachineTest, there_is_no_mmu) {
  EXPECT_DEATH(arena_.machine().mmu.map(SpaceId(1), VirtAddr(0), Pfn(0), 1, Prot::read), "");
  EXPECT_DEATH(arena_.machine().mmu.set_root(SpaceId(1), Pfn(0)), "");
}

}  // namespace
}  // namespace spillway
