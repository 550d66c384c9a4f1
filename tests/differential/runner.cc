#include "runner.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>

#include "base/assert.h"
#include "generator.h"
#include "host_side.h"
#include "sim_side.h"

namespace spillway::diff {
namespace {

// What the child leaves for its parent, in memory that both share, so that it survives any end
// of the child.
struct Journal {
  bool finished;
  bool cannot_run;
  u64 step;
  char kind[256];
  char text[16384];
  Reached reached;
};

// The panic hook has no argument for its owner.
Journal* g_journal = nullptr;

void write_down(const std::string& kind, const std::string& text) {
  std::snprintf(g_journal->kind, sizeof g_journal->kind, "%s", kind.c_str());
  std::snprintf(g_journal->text, sizeof g_journal->text, "%s", text.c_str());
}

void on_panic(const PanicInfo& p) {
  const char* file = std::strstr(p.file, "src/");
  // What follows a colon are details, which change while the case is made shorter.
  const int words = static_cast<int>(std::strcspn(p.expression, ":"));
  char kind[256];
  std::snprintf(kind, sizeof kind, "panic: %s:%d: %.*s", file == nullptr ? p.file : file, p.line,
                words, p.expression);
  char text[512];
  std::snprintf(text, sizeof text, "  %s\n  values %llu, %llu\n", p.expression,
                static_cast<unsigned long long>(p.left), static_cast<unsigned long long>(p.right));
  write_down(kind, text);
  _exit(1);
}

void run_driver(const DiffCase& c, Side& left, Side& right) {
  Driver driver(left, right);
  std::optional<Difference> difference;
  for (const Op& op : c.ops) {
    difference = driver.run(op);
    if (difference.has_value()) break;
    ++g_journal->step;
  }
  if (!difference.has_value()) difference = driver.finish();
  g_journal->reached = driver.reached();
  if (difference.has_value()) {
    write_down(difference->kind, difference->text);
  } else {
    g_journal->finished = true;
  }
}

[[noreturn]] void run_child(const DiffCase& c, const RunOptions& options) {
  set_panic_hook(on_panic);
  try {
    HostSide left(c.setup, options.actor_path);
    std::unique_ptr<Side> right;
    if (options.against == Against::kernel) {
      right = std::make_unique<HostSide>(c.setup, options.actor_path);
    } else {
      right = make_sim_side(c.setup, left.pages_at_start());
    }
    run_driver(c, left, *right);
  } catch (const SideBroken& b) {
    g_journal->cannot_run = true;
    write_down("cannot compare", b.text + "\n");
  } catch (const SideFailed& f) {
    write_down(f.kind, "");
  }
  _exit(g_journal->finished ? 0 : 1);
}

Journal* new_journal() {
  void* memory =
      mmap(nullptr, sizeof(Journal), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("spw_diff: mmap");
    std::exit(2);
  }
  return static_cast<Journal*>(memory);
}

pid_t start_child(Journal* journal, const DiffCase& c, const RunOptions& options) {
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid < 0) {
    std::perror("spw_diff: fork");
    std::exit(2);
  }
  if (pid != 0) return pid;
  // A group of its own: whatever is left of it can be ended together.
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  g_journal = journal;
  alarm(options.seconds_max);
  run_child(c, options);
}

RunResult collect(Journal* journal, pid_t pid, int status) {
  RunResult r;
  r.ok = journal->finished && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  r.cannot_run = journal->cannot_run;
  r.kind = journal->kind;
  r.text = journal->text;
  r.step = journal->step;
  r.reached = journal->reached;
  munmap(journal, sizeof(Journal));
  if (r.ok) return r;
  // A child that was cut short has left its processes under test behind.
  kill(-pid, SIGKILL);
  if (!r.kind.empty()) return r;
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
    r.kind = "hang: the case does not end within its time";
  } else if (WIFSIGNALED(status)) {
    r.kind = std::string("crash: ") + strsignal(WTERMSIG(status));
  } else {
    r.kind = "crash: exit status " + std::to_string(WEXITSTATUS(status)) +
             " (see the sanitizer's report)";
  }
  return r;
}

}  // namespace

RunResult run_case(const DiffCase& c, const RunOptions& options) {
  Journal* journal = new_journal();
  const pid_t pid = start_child(journal, c, options);
  int status = 0;
  waitpid(pid, &status, 0);
  return collect(journal, pid, status);
}

void run_seeds(u64 first, u64 last, u32 steps, u32 jobs, const RunOptions& options,
               const std::function<bool(u64, const RunResult&)>& done) {
  struct Running {
    u64 seed;
    Journal* journal;
  };
  std::map<pid_t, Running> running;
  bool go_on = true;
  for (u64 seed = first; (go_on && seed <= last) || !running.empty();) {
    if (go_on && seed <= last && running.size() < jobs) {
      Journal* journal = new_journal();
      const pid_t pid = start_child(journal, Generator(seed).draw(steps), options);
      running.emplace(pid, Running{seed++, journal});
      continue;
    }
    int status = 0;
    const pid_t pid = waitpid(-1, &status, 0);
    const auto it = running.find(pid);
    if (it == running.end()) continue;
    const RunResult result = collect(it->second.journal, pid, status);
    const u64 ended = it->second.seed;
    running.erase(it);
    if (go_on && !done(ended, result)) go_on = false;
  }
}

}  // namespace spillway::diff
