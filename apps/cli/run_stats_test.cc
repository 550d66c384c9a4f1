// Goal: what is printed and written is laid out, complete, and never half there.
#include "cli/run_stats.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/preload_library.h"
#include "cli/report_file.h"
#include "cli/swap_dir.h"
#include "cli/test_support.h"
#include "cli/tree_sampler.h"

namespace spillway {
namespace {

constexpr u64 kMiB = u64{1} << 20;

RunStats sample() {
  RunStats stats;
  stats.program = "/usr/bin/python3";
  stats.elapsed_seconds = 12.345;
  stats.ram_bytes = 96 * kMiB;
  stats.swap_ram_bytes = 32 * kMiB;
  stats.swap_ram_given = true;
  stats.swap_max_bytes = 768 * kMiB;
  stats.peak_rss_bytes = 131 * kMiB;
  stats.peak_tree_bytes = 140 * kMiB;
  stats.engines = 3;
  Counters& c = stats.counters;
  c[Counter::pgfault] = 1234567;
  c[Counter::pgmajfault] = 100000;
  c[Counter::pgsoftfault] = 200000;
  c[Counter::pgfresh] = 90000;
  c[Counter::pswpout] = 80000;
  c[Counter::pswpin] = 70000;
  c[Counter::swap_bytes_in] = 300 * kMiB;
  c[Counter::swap_bytes_out] = 100 * kMiB;
  c[Counter::disk_write_bytes] = 50 * kMiB;
  c[Counter::disk_read_bytes] = 25 * kMiB;
  c[Counter::wait_ns] = 2'500'000'000;
  return stats;
}

TEST(StatsTable, layout) {
  EXPECT_EQ(stats_table(sample()),
            R"(spillway: /usr/bin/python3
  exit status           0
  elapsed               12.35 s
  waited for pages      2.50 s, all threads together (20 % of elapsed)
  budget                96 MiB RAM, 32 MiB compressed, at most 768 MiB on disk
  peak RSS              131 MiB largest process, 140 MiB all together
  programs served       3

  page faults               1,234,567
    major (from swap)         100,000
    soft (still in RAM)       200,000
    fresh pages                90,000   351.6 MiB
  swapped out                  80,000   312.5 MiB
  swapped in                   70,000   273.4 MiB
  compression                3.00 : 1   300 MiB to 100 MiB
  disk                         50 MiB   written, 25 MiB read
)");
}

TEST(StatsTable, nothing_happened) {
  RunStats stats;
  stats.exit_code = 137;
  const std::string table = stats_table(stats);
  EXPECT_TRUE(contains(table, "137 (signal 9)"));
  EXPECT_TRUE(contains(table, "compression                    none\n")) << table;
  EXPECT_TRUE(contains(table, "no disk"));
  EXPECT_FALSE(contains(table, "nan"));
}

TEST(Progress, one_line) {
  const Progress progress{75.4, 96 * kMiB, 250 * kMiB, 12345.6, 2};
  EXPECT_EQ(progress_line(progress),
            "spillway:    75 s    96 MiB in RAM   250 MiB swapped    12,346 faults/s    2 "
            "processes");
}

TEST(Report, has_every_promised_key) {
  RunStats stats = sample();
  stats.exit_code = 121;
  stats.stop_reason = StopReason::exhausted;
  const nlohmann::json report = nlohmann::json::parse(report_json(stats));
  EXPECT_EQ(report["schema"], "spillway.run/1");
  EXPECT_EQ(report["exit_code"], 121);
  EXPECT_EQ(report["stop_reason"], "exhausted");
  EXPECT_EQ(report["faults"], 1234567);
  EXPECT_EQ(report["soft_faults"], 200000);
  EXPECT_EQ(report["compression_ratio"], 3.0);
  EXPECT_EQ(report["wait_seconds"], 2.5);
  EXPECT_EQ(report["peak_rss_bytes"], 131 * kMiB);
  for (const char* key : {"peak_tree_bytes", "pswpin", "pswpout", "elapsed_seconds", "ram_bytes",
                          "swap_ram_bytes", "swap_max_bytes", "engines", "program"}) {
    EXPECT_TRUE(report.contains(key)) << key;
  }
  for (u32 i = 0; i < kCounterCount; ++i) {
    EXPECT_TRUE(report.contains(name_of(static_cast<Counter>(i))));
  }
}

TEST(Report, bytes_that_are_no_text) {
  RunStats stats;
  stats.program = "/tmp/\xff\xfe\n\"";
  EXPECT_NO_THROW(nlohmann::json::parse(report_json(stats)));
}

TEST(StopReason, the_program_goes_before_its_children) {
  auto ledger = std::make_unique<Ledger>();
  LedgerProcess& child = ledger->process[3];
  child.pid = 50;
  child.stop_reason = static_cast<u32>(StopReason::exhausted);
  std::snprintf(child.command, sizeof child.command, "cc1plus");
  RunStats stats = sample();
  find_stop_reason(*ledger, 40, stats);
  EXPECT_EQ(stats.stopped_pid, 50);
  EXPECT_EQ(stop_sentence(stats),
            "cc1plus (process 50): was stopped because its budget (96 MiB RAM, 32 MiB compressed, "
            "at most 768 MiB on disk) is used up; raise --ram, --swap-ram or --swap-max");
  LedgerProcess& program = ledger->process[9];
  program.pid = 40;
  program.stop_reason = static_cast<u32>(StopReason::corrupt);
  std::memset(program.command, 'x', sizeof program.command);  // without an end
  find_stop_reason(*ledger, 40, stats);
  EXPECT_EQ(stats.stop_reason, StopReason::corrupt);
  EXPECT_EQ(stats.stopped_command, std::string(32, 'x'));
  EXPECT_TRUE(contains(stop_sentence(stats), "damaged"));
}

TEST(StopReason, none) { EXPECT_EQ(stop_sentence(RunStats{}), ""); }

TEST(ReportFile, written_whole_and_nothing_beside_it) {
  const TemporaryFolder folder;
  const ReportFile file("--report", folder.file("r.json"));
  EXPECT_EQ(folder.entries(), 0) << "the proof leaves nothing";
  file.write("{}\n");
  EXPECT_EQ(folder.entries(), 1);
  std::ifstream in(folder.file("r.json"));
  std::string text;
  std::getline(in, text);
  EXPECT_EQ(text, "{}");
}

TEST(ReportFile, unwritable_is_found_before_the_run) {
  const TemporaryFolder folder;
  EXPECT_EQ(thrown_by([&] { ReportFile("--report", folder.file("no/r.json")); }).exit_code, 125);
  EXPECT_EQ(thrown_by([&] { ReportFile("--report", folder.path()); }).exit_code, 125);
  EXPECT_EQ(thrown_by([&] { ReportFile("--report", ""); }).exit_code, 125);
}

TEST(ReportFile, devices_are_written_not_replaced) {
  const ReportFile file("--report", "/dev/null");
  file.write("x");
  struct stat status;
  ASSERT_EQ(::stat("/dev/null", &status), 0);
  EXPECT_TRUE(S_ISCHR(status.st_mode));
}

TEST(ReportFile, standard_output_is_appended_to) {
  // Through links of /proc, which realpath cannot follow to a pipe: a private stand-in for
  // /dev/stdout, so that a mistake damages nothing but the test's folder.
  const TemporaryFolder folder;
  const std::string link = folder.file("stdout");
  std::filesystem::create_symlink("/proc/self/fd/1", link);
  const int saved = ::dup(STDOUT_FILENO);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ::dup2(ends[1], STDOUT_FILENO);
  ReportFile("--report", link).write("pipe");
  const std::string path = folder.write("out", "");
  const int out = ::open(path.c_str(), O_WRONLY);
  ::dup2(out, STDOUT_FILENO);
  const bool wrote = ::write(STDOUT_FILENO, "program ", 8) == 8;
  ReportFile("--report", link).write("report");
  ::dup2(saved, STDOUT_FILENO);
  EXPECT_TRUE(wrote);
  char text[4] = {};
  EXPECT_EQ(::read(ends[0], text, 4), 4);
  EXPECT_EQ(std::string(text, 4), "pipe");
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  EXPECT_EQ(line, "program report");
  EXPECT_EQ(folder.entries(), 2);
  for (const int fd : {saved, out, ends[0], ends[1]}) ::close(fd);
}

TEST(ReportFile, links_are_followed) {
  const TemporaryFolder folder;
  std::filesystem::create_symlink("nowhere", folder.file("dangling"));
  EXPECT_EQ(thrown_by([&] { ReportFile("--report", folder.file("dangling")); }).exit_code, 125);
  folder.write("target.json", "old");
  std::filesystem::create_symlink("target.json", folder.file("link.json"));
  ReportFile("--report", folder.file("link.json")).write("new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder.file("link.json")));
  EXPECT_EQ(std::filesystem::file_size(folder.file("target.json")), 3u);
}

TEST(SwapDir, checked_and_left_as_it_was) {
  const TemporaryFolder folder;
  const SwapDir dir = check_swap_dir({folder.path(), "--swap-dir"}, nullptr);
  EXPECT_EQ(dir.source, "--swap-dir");
  EXPECT_GT(dir.bytes_free, 0u);
  EXPECT_EQ(folder.entries(), 0);
  EXPECT_EQ(check_swap_dir({}, folder.path().c_str()).source, "TMPDIR");
  EXPECT_EQ(check_swap_dir({}, nullptr).path, "/var/tmp");
}

TEST(SwapDir, refusals) {
  const TemporaryFolder folder;
  const auto refused = [](const std::string& path) {
    return thrown_by([&] { check_swap_dir({path, "--swap-dir"}, nullptr); });
  };
  EXPECT_TRUE(contains(refused(folder.file("none")).line, "does not exist"));
  EXPECT_TRUE(contains(refused(folder.write("file", "")).line, "is not a folder"));
  ::chmod(folder.path().c_str(), 0777);
  EXPECT_TRUE(contains(refused(folder.path()).line, "other users may write"));
  ::chmod(folder.path().c_str(), 01777);
  EXPECT_EQ(refused(folder.path()).exit_code, 0);
  if (::geteuid() != 0) {
    ::chmod(folder.path().c_str(), 0500);
    EXPECT_TRUE(contains(refused(folder.path()).line, "no file can be created"));
  }
}

TEST(PreloadLibrary, beside_the_command_or_where_it_is_installed) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder.file("bin"));
  const std::string bin = folder.file("bin");
  EXPECT_EQ(thrown_by([&] { find_preload_library(bin); }).exit_code, 125);
  const std::string installed = folder.write(std::string("lib/spillway/") + kPreloadLibrary, "");
  EXPECT_EQ(find_preload_library(bin), std::filesystem::canonical(installed).string());
  const std::string beside = folder.write(std::string("bin/") + kPreloadLibrary, "");
  EXPECT_EQ(find_preload_library(bin), std::filesystem::canonical(beside).string());
  ::chmod(beside.c_str(), 0666);
  EXPECT_TRUE(contains(thrown_by([&] { find_preload_library(bin); }).line, "everybody may write"));
}

TEST(PreloadLibrary, path_that_ld_preload_cannot_hold) {
  const TemporaryFolder folder;
  folder.write(std::string("a b/") + kPreloadLibrary, "");
  EXPECT_TRUE(contains(thrown_by([&] { find_preload_library(folder.file("a b")); }).line, "blank"));
}

TEST(TreeSampler, adds_up_the_processes_of_the_ledger) {
  const TemporaryFolder proc;
  proc.write("10/statm", "1000 100 50 1 0 1 0\n");
  proc.write("20/statm", "1000 200 50 1 0 1 0\n");
  proc.write("20/smaps_rollup", "55 rollup\nRss:  800 kB\nPss:   400 kB\n");
  auto ledger = std::make_unique<Ledger>();
  ledger->process[0].pid = 10;
  ledger->process[0].state = static_cast<u32>(EngineState::live);
  ledger->process[0].snapshot.slots_used = 5;
  ledger->process[1].pid = 20;
  ledger->process[1].state = static_cast<u32>(EngineState::live);
  ledger->process[2].pid = 30;  // died without leaving
  ledger->process[2].state = static_cast<u32>(EngineState::live);
  TreeSampler sampler(*ledger, proc.path());
  TreeSample now = sampler.sample(10);
  EXPECT_EQ(now.rss_bytes, 300 * kPageSize);
  EXPECT_EQ(now.swapped_bytes, 5 * kPageSize);
  EXPECT_EQ(now.processes, 2u);
  // Once pages are shared by fork they are counted once; without a rollup, as before.
  ledger->forked = 1;
  now = sampler.sample(10);
  EXPECT_EQ(now.rss_bytes, 200 * kPageSize);
  EXPECT_EQ(sampler.peak_bytes(), 300 * kPageSize);
  // A program whose engine has not started yet counts as well.
  ledger->process[0].state = static_cast<u32>(EngineState::unused);
  EXPECT_EQ(sampler.sample(10).processes, 2u);
}

}  // namespace
}  // namespace spillway
