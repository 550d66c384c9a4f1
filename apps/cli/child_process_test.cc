// Goal: towards the outside the launcher behaves as the program would. Method: real shells as
// programs; where signals are sent to the launcher, the launcher is a forked child of the test.
#include "cli/child_process.h"

#include <fcntl.h>
#include <sys/wait.h>

#include <csignal>

#include "cli/child_environment.h"
#include "cli/test_support.h"

namespace spillway {
namespace {

ChildSpec shell(const std::string& script) {
  ChildSpec spec;
  spec.path = "/bin/sh";
  spec.arguments = {"sh", "-c", script};
  spec.environment = {"PATH=/usr/bin:/bin"};
  spec.tick_ns = 5'000'000;
  return spec;
}

int exit_of(const std::string& script) {
  return exit_code_of(run_child(shell(script)).wait_status);
}

TEST(ChildProcess, exit_codes_pass_through) {
  EXPECT_EQ(exit_of("exit 0"), 0);
  EXPECT_EQ(exit_of("exit 7"), 7);
  EXPECT_EQ(exit_of("exit 255"), 255);
  EXPECT_EQ(exit_of("kill -TERM $$"), 128 + SIGTERM);
  EXPECT_EQ(exit_of("kill -KILL $$"), 128 + SIGKILL);
}

TEST(ChildProcess, tells_time_and_memory) {
  ChildSpec spec = shell("sleep 0.05");
  int ticks = 0;
  spec.tick = [&](pid_t child) {
    EXPECT_GT(child, 0);
    ++ticks;
  };
  const ChildResult result = run_child(spec);
  EXPECT_GE(result.elapsed_ns, 40'000'000u);
  EXPECT_GE(ticks, 2);
  EXPECT_GT(result.usage.ru_maxrss, 0);
}

TEST(ChildProcess, cannot_be_started) {
  const TemporaryFolder folder;
  ChildSpec spec = shell("");
  spec.path = folder.file("none");
  EXPECT_EQ(thrown_by([&] { run_child(spec); }).exit_code, 127);
  spec.path = folder.write("text", "no program\n", 0755);
  EXPECT_EQ(thrown_by([&] { run_child(spec); }).exit_code, 126);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "no child is left behind";
}

TEST(ChildProcess, program_gets_an_unblocked_mask_back) {
  // A blocked SIGTERM would leave the shell alive to say 3.
  EXPECT_EQ(exit_of("kill -TERM $$; exit 3"), 128 + SIGTERM);
  sigset_t now;
  ::sigprocmask(SIG_SETMASK, nullptr, &now);
  EXPECT_EQ(::sigismember(&now, SIGTERM), 0) << "the launcher's own mask is restored";
}

// Runs `script` under a launcher that is a process of its own; calls `then` with its pid once
// the script has created the file `ready`; returns the launcher's wait status.
template <class Then>
int under_launcher(const TemporaryFolder& folder, const std::string& script, Then&& then) {
  const pid_t launcher = ::fork();
  if (launcher == 0) {
    // Of a group of its own, so that signals to the group stay away from the test.
    ::setpgid(0, 0);
    ::_exit(exit_code_of(run_child(shell(script)).wait_status));
  }
  while (::access(folder.file("ready").c_str(), F_OK) != 0) ::usleep(1000);
  then(launcher);
  int status = 0;
  EXPECT_EQ(::waitpid(launcher, &status, 0), launcher);
  return status;
}

std::string ready(const TemporaryFolder& folder) { return ": > " + folder.file("ready") + "; "; }
constexpr const char* kWaitForSignal = "while :; do sleep 0.01; done";

TEST(ChildProcess, signals_are_passed_on) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2}) {
    const TemporaryFolder folder;
    const std::string script =
        "trap 'exit 42' " + std::to_string(signal) + "; " + ready(folder) + kWaitForSignal;
    const int status =
        under_launcher(folder, script, [&](pid_t launcher) { ::kill(launcher, signal); });
    EXPECT_EQ(exit_code_of(status), 42) << "signal " << signal;
  }
}

TEST(ChildProcess, both_stop_and_both_go_on) {
  const TemporaryFolder folder;
  const std::string script = ready(folder) + "kill -STOP $$; exit 9";
  const pid_t launcher = ::fork();
  if (launcher == 0) ::_exit(exit_code_of(run_child(shell(script)).wait_status));
  int status = 0;
  ASSERT_EQ(::waitpid(launcher, &status, WUNTRACED), launcher);
  EXPECT_TRUE(WIFSTOPPED(status)) << "a shell would see a stopped job";
  ::kill(launcher, SIGCONT);
  ASSERT_EQ(::waitpid(launcher, &status, 0), launcher);
  EXPECT_EQ(exit_code_of(status), 9);
}

TEST(ChildProcess, dies_with_a_killed_launcher) {
  const TemporaryFolder folder;
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const int status = under_launcher(folder, ready(folder) + "exec sleep 1000",
                                    [&](pid_t launcher) { ::kill(launcher, SIGKILL); });
  EXPECT_EQ(exit_code_of(status), 128 + SIGKILL);
  // The program held the other end: end of file tells that it is gone.
  ::close(ends[1]);
  char byte;
  EXPECT_EQ(::read(ends[0], &byte, 1), 0);
  ::close(ends[0]);
}

TEST(ChildProcess, what_to_pass_on) {
  constexpr pid_t kChild = 100;
  EXPECT_TRUE(must_forward(SI_USER, 7, kChild));
  EXPECT_TRUE(must_forward(SI_QUEUE, 7, kChild));
  EXPECT_TRUE(must_forward(SI_TKILL, 7, kChild));
  EXPECT_FALSE(must_forward(SI_USER, kChild, kChild)) << "the program has sent it itself";
  EXPECT_FALSE(must_forward(SI_KERNEL, 0, kChild)) << "the terminal reaches the whole group";
}

TEST(ChildEnvironment, canonical_values_and_library_in_front) {
  Budget budget;
  budget.ram_bytes = 100;
  budget.swap_ram_given = true;
  budget.swap_max_bytes = 7;
  const std::vector<std::string> out =
      child_environment({"HOME=/h", "LD_PRELOAD=/a.so /b.so", "SPILLWAY_RAM=1G", "SPILLWAY_STATS=1",
                         "SPILLWAY_REPORT=x", "SPILLWAY_LEDGER_FD=5", "SPILLWAYS=kept"},
                        "/lib/s.so", budget, "/swap", {901, 902});
  EXPECT_EQ(out, (std::vector<std::string>{
                     "HOME=/h", "SPILLWAYS=kept", "LD_PRELOAD=/lib/s.so:/a.so /b.so",
                     "SPILLWAY_RAM=100", "SPILLWAY_SWAP_RAM=0", "SPILLWAY_SWAP_MAX=7",
                     "SPILLWAY_SWAP_DIR=/swap", "SPILLWAY_LEDGER_FD=901", "SPILLWAY_UFFD_FD=902"}));
}

TEST(ChildEnvironment, nothing_that_was_not_asked_for) {
  const std::vector<std::string> out = child_environment({}, "/s.so", Budget{}, "", {900, -1});
  EXPECT_EQ(out, (std::vector<std::string>{"LD_PRELOAD=/s.so", "SPILLWAY_RAM=0",
                                           "SPILLWAY_SWAP_MAX=0", "SPILLWAY_LEDGER_FD=900"}));
}

TEST(ChildEnvironment, descriptors_move_out_of_the_way) {
  const int fd = make_inheritable(::open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_GE(fd, kInheritedFdMin);
  EXPECT_EQ(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  ::close(fd);
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const rlimit small{64, before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &small);
  const int low = make_inheritable(::open("/dev/null", O_RDWR | O_CLOEXEC));
  ::setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_GE(low, 0) << "a low limit of open files is no obstacle";
  ::close(low);
}

}  // namespace
}  // namespace spillway
