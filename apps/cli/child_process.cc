#include "cli/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "cli/exit_codes.h"

namespace spillway {
namespace {

// Passed on when somebody sends them to the launcher.
constexpr int kForwarded[] = {SIGINT,  SIGTERM,  SIGHUP,  SIGQUIT, SIGUSR1,
                              SIGUSR2, SIGWINCH, SIGCONT, SIGTSTP, SIGALRM};

u64 now_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<u64>(t.tv_sec) * 1'000'000'000 + static_cast<u64>(t.tv_nsec);
}

// Blocks what the launcher reads from a descriptor; SIGPIPE too, so that a closed stderr does
// not end the launcher before it has waited for the program.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t read_by_us;
    ::sigemptyset(&read_by_us);
    for (const int signal : kForwarded) ::sigaddset(&read_by_us, signal);
    ::sigaddset(&read_by_us, SIGCHLD);
    sigset_t blocked = read_by_us;
    ::sigaddset(&blocked, SIGPIPE);
    // A background launcher may still tell of errors on the terminal of somebody else's job.
    ::sigaddset(&blocked, SIGTTOU);
    ::sigprocmask(SIG_BLOCK, &blocked, &before_);
    // An ignored SIGCHLD would make the kernel forget the exit status.
    ::signal(SIGCHLD, SIG_DFL);
    fd_ = ::signalfd(-1, &read_by_us, SFD_CLOEXEC | SFD_NONBLOCK);
  }
  ~BlockedSignals() {
    if (fd_ >= 0) ::close(fd_);
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

  int fd() const { return fd_; }
  const sigset_t& before() const { return before_; }

 private:
  sigset_t before_{};
  int fd_ = -1;
};

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  out.reserve(strings.size() + 1);
  for (const std::string& s : strings) out.push_back(const_cast<char*>(s.c_str()));
  out.push_back(nullptr);
  return out;
}

[[noreturn]] void throw_start_error(const ChildSpec& spec, int error) {
  switch (error) {
    case ENOENT:
      throw CliError(spec.path, "it, its loader or its interpreter is gone", "install it again",
                     kExitNotFound);
    case E2BIG:
      throw CliError(spec.path, "arguments and environment together are too long",
                     "pass less, or raise 'ulimit -s'", kExitNotExecutable);
    case ENOMEM:
    case EAGAIN:
      throw CliError(spec.path, fmt::format("cannot be started: {}", std::strerror(error)),
                     "free memory or processes (ulimit -u)");
    default:
      throw CliError(spec.path, fmt::format("cannot be executed: {}", std::strerror(error)),
                     "check its permissions and that its file system allows execution (noexec)",
                     kExitNotExecutable);
  }
}

// In the child; only what is safe after fork. Never returns.
[[noreturn]] void become_program(const ChildSpec& spec, char* const* arguments,
                                 char* const* environment, const sigset_t& mask, int error_fd,
                                 pid_t launcher) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The launcher may have died before the line above took effect.
  if (::getppid() != launcher) ::_exit(kExitFailure);
  ::sigprocmask(SIG_SETMASK, &mask, nullptr);
  ::execve(spec.path.c_str(), arguments, environment);
  const int error = errno;
  // Smaller than PIPE_BUF: written whole or not at all.
  [[maybe_unused]] const ssize_t written = ::write(error_fd, &error, sizeof error);
  ::_exit(kExitFailure);
}

pid_t start(const ChildSpec& spec, const BlockedSignals& signals) {
  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0) throw_start_error(spec, errno);
  const std::vector<char*> arguments = pointers(spec.arguments);
  const std::vector<char*> environment = pointers(spec.environment);
  const pid_t launcher = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) {
    become_program(spec, arguments.data(), environment.data(), signals.before(), pipe_fds[1],
                   launcher);
  }
  const int fork_error = errno;
  ::close(pipe_fds[1]);
  if (child < 0) {
    ::close(pipe_fds[0]);
    throw_start_error(spec, fork_error == 0 ? EAGAIN : fork_error);
  }
  // A successful exec closes the other end: nothing to read.
  int error = 0;
  ssize_t got;
  do {
    got = ::read(pipe_fds[0], &error, sizeof error);
  } while (got < 0 && errno == EINTR);
  ::close(pipe_fds[0]);
  if (got == static_cast<ssize_t>(sizeof error)) {
    ::waitpid(child, nullptr, 0);
    throw_start_error(spec, error);
  }
  return child;
}

// Passes on everything that has arrived.
void forward_signals(int fd, pid_t child) {
  signalfd_siginfo info;
  while (::read(fd, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGCHLD) continue;
    if (must_forward(info.ssi_code, static_cast<pid_t>(info.ssi_pid), child)) {
      ::kill(child, signal);
    }
  }
}

// True if the program has ended. When it has only stopped, the launcher stops with it, so that
// the shell sees a stopped job, and both go on together.
bool reap(pid_t child, ChildResult& result) {
  for (;;) {
    int status = 0;
    const pid_t got = ::wait4(child, &status, WNOHANG | WUNTRACED, &result.usage);
    if (got < 0 && errno == ECHILD) {
      // Somebody who traces the launcher took it; there is no status to pass on.
      throw CliError("run", "the end of the program was taken by somebody else",
                     "do not trace 'spillway run' itself");
    }
    if (got != child) return false;
    if (!WIFSTOPPED(status)) {
      result.wait_status = status;
      return true;
    }
    ::kill(::getpid(), SIGSTOP);
    ::kill(child, SIGCONT);
  }
}

}  // namespace

bool must_forward(int signal_code, pid_t sender, pid_t child) {
  const bool from_process =
      signal_code == SI_USER || signal_code == SI_QUEUE || signal_code == SI_TKILL;
  return from_process && sender != child;
}

ChildResult run_child(const ChildSpec& spec) {
  const BlockedSignals signals;
  if (signals.fd() < 0) throw_start_error(spec, errno);
  ChildResult result;
  const u64 started = now_ns();
  result.pid = start(spec, signals);
  u64 next_tick = started + spec.tick_ns;
  for (;;) {
    forward_signals(signals.fd(), result.pid);
    if (reap(result.pid, result)) break;
    const u64 now = now_ns();
    if (now >= next_tick) {
      if (spec.tick) spec.tick(result.pid);
      next_tick = now_ns() + spec.tick_ns;
      continue;
    }
    pollfd poll_fd{signals.fd(), POLLIN, 0};
    const timespec timeout{0, static_cast<long>(next_tick - now)};
    ::ppoll(&poll_fd, 1, &timeout, nullptr);
  }
  result.elapsed_ns = now_ns() - started;
  if (spec.tick) spec.tick(result.pid);
  return result;
}

}  // namespace spillway
