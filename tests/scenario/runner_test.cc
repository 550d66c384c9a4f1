// Goal: a run ends at the first thing that does not hold and says where, what was expected and what
// was found; what holds goes on. Method: small scenarios as text, on the simulated machine.
#include "workload/runner.h"

#include <gtest/gtest.h>

#include "scenario/sim_hardware.h"

namespace spillway {
namespace {

class Steps final : public RunListener {
 public:
  void begin(const Scenario&, const Stage&, const Picture&) override {}
  bool step(const StepRecord& record, const Picture&, const Picture&) override {
    records.push_back(record);
    return records.size() < stop_after;
  }
  std::vector<StepRecord> records;
  std::size_t stop_after = 1000;
};

constexpr const char* kHead =
    "title \"t\"\n"
    "machine frames=128 policy=three_queue cpus=2 cluster=2\n"
    "swap 64\n"
    "file \"data\" 5000 pattern=3 capacity=8p\n"
    "process A\n";
constexpr u32 kHeadLines = 5;

struct Played {
  RunResult result;
  std::vector<StepRecord> steps;
  std::string text;
};

Played play(const std::string& body, std::size_t stop_after = 1000) {
  Played played;
  std::vector<Problem> problems;
  const Scenario scenario = parse_scenario(kHead + body, &problems);
  for (const Problem& problem : problems) ADD_FAILURE() << describe(problem, "f") << "\n" << body;
  SimHardware hardware;
  Steps steps;
  steps.stop_after = stop_after;
  played.result = Runner(scenario, hardware, steps).run();
  played.steps = std::move(steps.records);
  played.text = describe(played.result, "f");
  return played;
}

// The text for a run that failed in line `line` behind the head.
std::string failed(u32 line, u32 column, const std::string& what, const std::string& expected,
                   const std::string& actual) {
  return "f:" + std::to_string(kHeadLines + line) + ":" + std::to_string(column) +
         ": does not hold: " + what + "\n  expected: " + expected + "\n  actual:   " + actual;
}

TEST(Runner, a_wrong_expectation_names_line_expected_and_actual) {
  EXPECT_EQ(play("mmap A buf 4p rw\nwrite A buf 1\n  expect rss A = 2\n").text,
            failed(3, 3, "expect rss A = 2", "2", "1"));
  EXPECT_EQ(play("mmap A buf 4p rw\nexpect area A buf prot = r\n").text,
            failed(2, 1, "expect area A buf prot = r", "r", "rw"));
  EXPECT_EQ(play("expect free < 1\n").text.substr(0, 60),
            failed(1, 1, "expect free < 1", "< 1", "").substr(0, 60));
  EXPECT_EQ(play("expect alive A != yes\n").text,
            failed(1, 1, "expect alive A != yes", "!= yes", "yes"));
}

TEST(Runner, unexpected_errors_and_signals_are_told) {
  EXPECT_EQ(play("munmap A 0x1001 1p\n").text,
            failed(1, 1, "munmap A 0x1001 1p", "success", "EINVAL"));
  EXPECT_EQ(play("mmap A b 1p rw fails=ENOMEM\n").text,
            failed(1, 1, "mmap A b 1p rw fails=ENOMEM", "ENOMEM", "success"));
  EXPECT_EQ(play("read A 0x5000\n").text,
            failed(1, 1, "read A 0x5000", "signal none", "SEGV_MAPERR at 0x5000"));
  EXPECT_EQ(play("mmap A b 1p r\nwrite A b 1 signal=SEGV_MAPERR\n").text.substr(0, 12),
            "f:7:1: does ");
  EXPECT_EQ(play("catches A on\nread A 0x5000 signal=SEGV_MAPERR\nexpect alive A = yes\n").text,
            "");
  EXPECT_EQ(play("mmap A b 1p rw\nwrite A b 1 signal=SEGV_ACCERR\n").text,
            failed(2, 1, "write A b 1 signal=SEGV_ACCERR", "signal SEGV_ACCERR", "no signal"));
}

TEST(Runner, the_dead_do_nothing) {
  EXPECT_EQ(play("read A 0x5000 signal=SEGV_MAPERR\nread A stack-1\n").text,
            failed(2, 1, "read A stack-1", "A lives", "A is dead, exit code 139"));
}

TEST(Runner, bytes_are_checked_without_being_asked) {
  const char* kGood =
      "mmap A buf 8p rw\nfill A buf 8p pattern=1\nfork A B\nwrite B buf+4090 \"across a page\"\n"
      "read A buf+4090 bytes=20\nread B buf+4090 expect=\"across a page\"\n"
      "madvise A buf 8p pageout\ndaemons\nverify A buf 8p\nverify B buf 8p\n"
      "mremap A buf 8p 12p maymove to=0x50000000\nverify A buf 12p\nread A buf+9p expect=0\n"
      "madvise A buf 1p dontneed\nread A buf+5 expect=0\n"
      "mmap A f 2p rw shared file=\"data\"\nmmap B g 2p rw private file=\"data\"\n"
      "verify A f 5000\nverify B g 5000\nwrite A f+10 \"seen\"\nread B g+10 expect=\"seen\"\n"
      "write B g+4 1\nwrite A f+20 \"unseen\"\nverify B g 4096\npread B \"data\" 20 "
      "expect=\"unseen\"\n"
      "brk A heap+3p\nfill A heap 3p pattern=2\nbrk A heap+1p\nverify A heap 1p\n"
      "brk A heap+2p\nread A heap+1p expect=0\n";
  EXPECT_EQ(play(kGood).text, "");
  EXPECT_EQ(play("mmap A b 1p rw\nwrite A b \"ab\"\nread A b expect=\"ac\"\n").text,
            failed(3, 1, "read A b expect=\"ac\"", "byte 1 is 0x63", "0x62"));
}

TEST(Runner, a_byte_that_came_back_wrong_ends_the_run) {
  // A stored bit changes, and the disk says that all is well. Nothing in a file tells, as in life;
  // the model does.
  const Played file = play("mmap A f 2p r file=\"data\"\nfail files read_flip\nverify A f 5000\n");
  EXPECT_EQ(file.result.end, RunEnd::expectation) << file.text;
  EXPECT_EQ(file.result.at.line, kHeadLines + 3);
  EXPECT_NE(file.text.find("expected: the byte at 0x4000"), std::string::npos) << file.text;
  // A page of swap has a checksum, so the process is told instead of being given the page.
  const Played swap = play(
      "mmap A buf 4p rw\nfill A buf 4p pattern=1\nfail swap0 write_lost times=100\n"
      "madvise A buf 4p pageout\ndaemons\nverify A buf 4p\n");
  EXPECT_EQ(swap.result.at.line, kHeadLines + 6);
  EXPECT_NE(swap.text.find("actual:   BUS_ADRERR (the page came back damaged)"), std::string::npos)
      << swap.text;
}

// Unmapping a page softly once forgot that its entry was dirty, and the write was lost.
TEST(Runner, a_page_written_after_its_swap_in_is_written_again) {
  EXPECT_EQ(play("mmap A buf 4p rw\nfill A buf 4p pattern=1\nmadvise A buf 4p pageout\ndaemons\n"
                 "write A buf \"new\"\nmadvise A buf 4p pageout\ndaemons\n"
                 "expect entry A buf = swapped\nread A buf expect=\"new\"\nverify A buf 4p\n"
                 "fork A B\nwrite A buf+1p \"a\"\nmadvise A buf 4p pageout\n"
                 "madvise B buf 4p pageout\ndaemons\nread A buf+1p expect=\"a\"\nverify B buf 4p\n")
                .text,
            "");
}

// Softly unmapped pages of files and segments once could not be evicted, or were freed although
// entries still named them.
TEST(Runner, softly_unmapped_pages_of_caches_are_evicted) {
  EXPECT_EQ(play("mmap A f 2p rw shared file=\"data\"\nverify A f 5000\nwrite A f \"new\"\n"
                 "madvise A f 2p pageout\ndaemons\nmadvise A f 2p pageout\n"
                 "expect file_info \"data\" cached = 0\nread A f expect=\"new\"\n"
                 "shmget A seg 6p\nshmat A seg s\nfill A s 6p\nmadvise A s 6p pageout\ndaemons\n"
                 "expect segment seg swapped = 6\nverify A s 6p\n")
                .text,
            "");
}

TEST(Runner, notes_loops_and_deltas) {
  EXPECT_EQ(play("mmap A buf 9p rw\nnote n rss A\nrepeat 3 {\n  touch A buf 3p write\n}\n"
                 "expect rss A = @n+3\nexpect counter pgfault = 3\n"
                 "touch A buf+3p 2p write\nexpect counter pgfault = 2\nexpect total pgfault >= 5\n"
                 "note f pfn A buf\nmunmap A buf 9p\nexpect frame @f count = 0\n")
                .text,
            "");
}

TEST(Runner, steps_hold_their_operations_and_what_follows) {
  const Played played = play(
      "text \"one\"\ntext \"two\"\ntext \"\"\ntext \"three\"\n"
      "step \"named\" {\n  mmap A buf 4p rw\n  repeat 2 {\n    touch A buf 1p read\n  }\n}\n"
      "expect rss A = 0\nnote n free\nwrite A buf 1\n");
  EXPECT_EQ(played.text, "");
  ASSERT_EQ(played.steps.size(), 3U);
  EXPECT_EQ(played.steps[0].title, "process A");
  EXPECT_EQ(played.steps[1].title, "named");
  EXPECT_EQ(played.steps[1].narrative, "one two\nthree");
  EXPECT_GE(played.steps[1].operations.size(), 4U);
  EXPECT_TRUE(played.steps[1].operations.back().text.starts_with("note"));
  EXPECT_EQ(played.steps[2].title, "write A buf 1");
  EXPECT_FALSE(played.steps[2].changes.empty());
  EXPECT_FALSE(played.steps[2].operations[0].walk.empty());
  EXPECT_EQ(play("write A stack-1 1\nwrite A stack-1 2\n", 1).steps.size(), 1U);
}

TEST(Runner, what_cannot_be_done_is_a_mistake_of_the_scenario) {
  // No area of this name in this process: only running tells.
  const Played played = play("fork A B\nmmap B buf 1p rw\nread A buf\n");
  EXPECT_EQ(played.result.end, RunEnd::scenario);
  EXPECT_EQ(played.text, "f:8:1: 'buf' is no place of A");
}

TEST(Runner, files_shared_memory_and_processors) {
  EXPECT_EQ(play("cpu A 1\nshmget A seg 3p key=5\nshmat A seg s\nfork A B\nwrite B s+1p \"x\"\n"
                 "read A s+1p expect=\"x\"\nexpect segment seg attached = 2\n"
                 "shmget A seg2 3p key=5 exclusive fails=EEXIST\n"
                 "pwrite A \"data\" 2p \"tail\"\nexpect file_info \"data\" size = 8196\n"
                 "ftruncate A \"data\" 100\nmmap A f 1p r file=\"data\"\nread A f+100 expect=0\n"
                 "thread A T\nwrite T s 9\nread A s expect=9\n"
                 "mmap A l 2p rw locked\nexpect locked_vm A = 2\nmincore A l 2p expect=\"11\"\n"
                 "exit B code=7\nexpect exit_code B = 7\nreap B\n")
                .text,
            "");
}

TEST(Runner, files_by_path_are_files_like_any_other) {
  EXPECT_EQ(play("make \"/d\" directory\nmake \"/d/f%\" file size=3p first=1 count=2\n"
                 "mmap A f 3p rw shared file=\"/d/f1\"\nwrite A f+1p \"mapped\"\n"
                 "pread A \"/d/f1\" 1p expect=\"mapped\"\npread A \"/d/f2\" 1p expect=0\n"
                 "pwrite A \"/d/f1\" 2p \"written\"\nread A f+2p expect=\"written\"\n"
                 "expect file_info \"/d/f1\" size = 12288\n"
                 "expect file_info \"/d/f1\" cached = 3\nexpect disk_info files buffers > 0\n"
                 // What the stage has made is in the same file system.
                 "lookup \"/data\"\nrename \"/data\" \"/d/data\"\n"
                 "pread A \"data\" 0 fails=ENOENT\npread A \"/d/data\" 0 bytes=5000\n")
                .text,
            "");
}

TEST(Runner, a_renamed_file_keeps_its_contents_and_a_new_one_has_none_of_them) {
  EXPECT_EQ(play("make \"/d\" directory\nmake \"/d/a\" file size=2p\n"
                 "pwrite A \"/d/a\" 0 \"first\"\nrename \"/d\" \"/e\"\n"
                 "pread A \"/e/a\" 0 expect=\"first\"\nlookup \"/d/a\" fails=ENOENT\n"
                 "make \"/b\" file size=1p\nrename \"/b\" \"/e/a\"\n"
                 "expect file_info \"/e/a\" size = 4096\npread A \"/e/a\" 0 expect=0\n"
                 "remove \"/e/a\"\nmake \"/e/a\" file size=1p\nverify A stack-1p 1p\n"
                 "pread A \"/e/a\" 0 bytes=4096 expect=0\n"
                 "remove \"/e\" directory fails=ENOTEMPTY\nremove \"/e/a\"\n"
                 "remove \"/e\" directory\nrename \"/e\" \"/f\" fails=ENOENT\n")
                .text,
            "");
  EXPECT_EQ(
      play("make \"/a\" file\nexpect file_info \"/b\" size = 0\n").text,
      failed(2, 1, "expect file_info \"/b\" size = 0", "a file", "there is none of this name"));
}

TEST(Runner, equal_runs_are_equal) {
  const char* body =
      "mmap A buf 30p rw\nfill A buf 30p\nmadvise A buf 30p pageout\ndaemons\nverify A buf 30p\n";
  const Played one = play(body);
  const Played two = play(body);
  ASSERT_EQ(one.steps.size(), two.steps.size());
  for (std::size_t i = 0; i < one.steps.size(); ++i) {
    EXPECT_EQ(one.steps[i].changes.size(), two.steps[i].changes.size()) << i;
    ASSERT_EQ(one.steps[i].operations.size(), two.steps[i].operations.size());
    for (std::size_t k = 0; k < one.steps[i].operations.size(); ++k) {
      EXPECT_EQ(one.steps[i].operations[k].walk, two.steps[i].operations[k].walk);
    }
  }
}

}  // namespace
}  // namespace spillway
