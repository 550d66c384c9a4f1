#include "mount/background.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "cli/exit_codes.h"

namespace spillway {
namespace {

[[noreturn]] void wait_for_child(int pipe, pid_t child) {
  // The exit code in one byte, then the line to print.
  std::string report;
  char bytes[512];
  for (;;) {
    const ssize_t got = ::read(pipe, bytes, sizeof bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    report.append(bytes, static_cast<std::size_t>(got));
  }
  if (report.empty()) {
    int status = 0;
    (void)::waitpid(child, &status, 0);
    fmt::print(stderr,
               "spillway: mount: the serving process ended before it was ready; "
               "run it with --foreground to see why\n");
    ::_exit(kExitFailure);
  }
  if (report.size() > 1) fmt::print(stderr, "spillway: {}\n", report.substr(1));
  ::_exit(static_cast<unsigned char>(report[0]));
}

}  // namespace

Background::Background(bool foreground) {
  if (foreground) return;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    throw CliError("mount", std::strerror(errno), "use --foreground");
  }
  const pid_t child = ::fork();
  if (child < 0) throw CliError("mount", std::strerror(errno), "use --foreground");
  if (child > 0) {
    ::close(ends[1]);
    wait_for_child(ends[0], child);
  }
  ::close(ends[0]);
  pipe_ = ends[1];
  in_background_ = true;
  (void)::setsid();
}

Background::~Background() {
  if (pipe_ >= 0) ::close(pipe_);
}

void Background::detach(bool keep_stderr) {
  if (!in_background_) return;
  if (::chdir("/") != 0) return;  // then the folder stays in use
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd < (keep_stderr ? 2 : 3); ++fd) {
    if (null >= 0) (void)::dup2(null, fd);
  }
  if (null > 2) ::close(null);
}

void Background::ready() {
  if (!in_background_) return;
  const char good = 0;
  (void)!::write(pipe_, &good, 1);
  ::close(pipe_);
  pipe_ = -1;
}

Unmounter::Unmounter(const std::string& mountpoint) {
  if (::geteuid() == 0) return;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return;  // then the user unmounts
  const pid_t helper = ::fork();
  if (helper == 0) {
    (void)::setsid();
    // What asks the server to end does not mean us.
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) (void)::signal(signal, SIG_IGN);
    (void)::dup2(ends[0], 0);
    (void)::close_range(1, ~0U, 0);
    char byte = 0;
    while (::read(0, &byte, 1) < 0 && errno == EINTR) {
    }
    ::execlp("fusermount3", "fusermount3", "-u", "-q", "-z", "--", mountpoint.c_str(), nullptr);
    ::_exit(kExitFailure);
  }
  ::close(ends[0]);
  pipe_ = ends[1];
}

Unmounter::~Unmounter() {
  if (pipe_ >= 0) ::close(pipe_);
}

void Background::failed(const std::string& line, int code) {
  if (pipe_ < 0) return;
  const std::string report = static_cast<char>(code) + line;
  (void)!::write(pipe_, report.data(), report.size());
  ::close(pipe_);
  pipe_ = -1;
}

}  // namespace spillway
