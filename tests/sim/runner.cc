#include "runner.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>

#include "driver.h"
#include "generator.h"

namespace spillway::sim {
namespace {

// What the child leaves for its parent, in memory that both share, so that it survives any end
// of the child.
struct Journal {
  static constexpr u64 kTextMax = 1 << 22;
  bool finished;
  u64 digest;
  u32 counter_count;
  u64 counters[64];
  u64 fired[kFailureCount];
  char failure[4096];
  char history[8192];
  u64 text_bytes;
  char text[kTextMax];  // setup and operations, each noted before it runs
};
static_assert(kCounterCount <= 64);

// The panic hook has no argument for its owner.
Journal* g_journal = nullptr;
const Driver* g_driver = nullptr;

void write_down(const std::string& line) {
  Journal& j = *g_journal;
  if (j.text_bytes + line.size() + 2 > Journal::kTextMax) return;
  std::memcpy(j.text + j.text_bytes, line.c_str(), line.size());
  j.text_bytes += line.size();
  j.text[j.text_bytes++] = '\n';
}

void write_history() {
  if (g_driver == nullptr) return;
  const EventRing& ring = g_driver->events();
  constexpr u32 kEventsShown = 40;
  const u32 size = ring.size();
  u64 at = 0;
  for (u32 i = size > kEventsShown ? size - kEventsShown : 0; i < size; ++i) {
    const Event& e = ring.at(i);
    const int n = std::snprintf(
        g_journal->history + at, sizeof g_journal->history - at, "  %llu %s 0x%llx 0x%llx\n",
        static_cast<unsigned long long>(e.sequence), name_of(e.kind),
        static_cast<unsigned long long>(e.a), static_cast<unsigned long long>(e.b));
    at += static_cast<u64>(n);
  }
}

void write_state(const Driver& driver) {
  Journal& j = *g_journal;
  const u64 at = std::strlen(j.history);
  std::snprintf(j.history + at, sizeof j.history - at, "  %s\n", driver.describe_state().c_str());
}

void on_panic(const PanicInfo& p) {
  const char* file = std::strstr(p.file, "src/");
  char values[64] = "";
  if (p.has_values) {
    std::snprintf(values, sizeof values, " (%llu, %llu)", static_cast<unsigned long long>(p.left),
                  static_cast<unsigned long long>(p.right));
  }
  std::snprintf(g_journal->failure, sizeof g_journal->failure, "panic: %s:%d: %s%s",
                file == nullptr ? p.file : file, p.line, p.expression, values);
  write_history();
  _exit(1);
}

// One operation; what throws is a difference from the model.
template <class NextOp>
void run_child(const Setup& setup, NextOp next_op) {
  set_panic_hook(on_panic);
  write_down(print(setup));
  Driver driver(setup);
  g_driver = &driver;
  try {
    if (driver.boot()) {
      while (const std::optional<Op> op = next_op(driver)) {
        write_down(print(*op));
        driver.run(*op);
      }
      driver.finish();
    }
  } catch (const CaseFailed& f) {
    std::snprintf(g_journal->failure, sizeof g_journal->failure, "%s", f.text.c_str());
    write_history();
    write_state(driver);
    _exit(1);
  }
  g_journal->digest = driver.digest();
  g_journal->counter_count = kCounterCount;
  std::memcpy(g_journal->counters, driver.counters().value, sizeof driver.counters().value);
  for (u32 i = 0; i < kFailureCount; ++i) {
    g_journal->fired[i] = driver.machine().failures().fired(static_cast<Failure>(i));
  }
  g_journal->finished = true;
  _exit(0);
}

void run_seed_child(u64 seed, u32 steps) {
  Generator generator(seed);
  u32 step = 0;
  run_child(generator.setup(), [&](const Driver& driver) -> std::optional<Op> {
    if (step++ == steps) return std::nullopt;
    return generator.next(driver);
  });
}

Journal* new_journal() {
  void* memory = mmap(nullptr, sizeof(Journal), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("spw_sim: mmap");
    std::exit(2);
  }
  return static_cast<Journal*>(memory);
}

template <class Body>
pid_t start_child(Journal* journal, u32 seconds_max, Body body) {
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid < 0) {
    std::perror("spw_sim: fork");
    std::exit(2);
  }
  if (pid != 0) return pid;
  g_journal = journal;
  alarm(seconds_max);
  body();
  _exit(3);
}

RunResult collect(Journal* journal, int status) {
  RunResult r;
  r.ok = journal->finished;
  r.failure = journal->failure;
  r.history = journal->history;
  r.digest = journal->digest;
  r.counter_count = journal->counter_count;
  std::memcpy(r.counters, journal->counters, sizeof r.counters);
  std::memcpy(r.fired, journal->fired, sizeof r.fired);
  if (!r.ok && r.failure.empty()) {
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
      r.failure = "hang: the case does not end within its time";
    } else if (WIFSIGNALED(status)) {
      r.failure = std::string("crash: ") + strsignal(WTERMSIG(status));
    } else {
      r.failure = "crash: exit status " + std::to_string(WEXITSTATUS(status)) +
                  " (see the sanitizer's report)";
    }
  }
  std::string problem;
  const std::string text(journal->text, journal->text_bytes);
  if (const auto c = parse_case(text, &problem)) {
    r.ran = *c;
  } else {
    r.ok = false;
    r.failure = "journal: " + problem;
  }
  munmap(journal, sizeof(Journal));
  return r;
}

template <class Body>
RunResult run_isolated(u32 seconds_max, Body body) {
  Journal* journal = new_journal();
  const pid_t pid = start_child(journal, seconds_max, body);
  int status = 0;
  waitpid(pid, &status, 0);
  return collect(journal, status);
}

}  // namespace

RunResult run_seed(u64 seed, u32 steps, u32 seconds_max) {
  return run_isolated(seconds_max, [&] { run_seed_child(seed, steps); });
}

RunResult run_case(const SimCase& c, u32 seconds_max) {
  return run_isolated(seconds_max, [&] {
    u64 next = 0;
    run_child(c.setup, [&](const Driver&) -> std::optional<Op> {
      if (next == c.ops.size()) return std::nullopt;
      return c.ops[next++];
    });
  });
}

bool same_failure(const std::string& a, const std::string& b) {
  const auto essence = [](const std::string& text) {
    // "kind: place: details": kind and place without numbers.
    std::string out;
    u32 colons = 0;
    for (const char c : text) {
      if (c == ':' && ++colons == 3) break;
      if (std::isdigit(static_cast<unsigned char>(c)) == 0) out += c;
    }
    return out.substr(0, 80);
  };
  return essence(a) == essence(b);
}

void run_seeds(u64 first, u64 last, u32 steps, u32 seconds_max, u32 jobs,
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
      const u64 s = seed++;
      const pid_t pid = start_child(journal, seconds_max, [&] { run_seed_child(s, steps); });
      running.emplace(pid, Running{s, journal});
      continue;
    }
    int status = 0;
    const pid_t pid = waitpid(-1, &status, 0);
    const auto it = running.find(pid);
    if (it == running.end()) continue;
    const RunResult result = collect(it->second.journal, status);
    const u64 ended = it->second.seed;
    running.erase(it);
    if (go_on && !done(ended, result)) go_on = false;
  }
}

std::string report(const RunResult& result, const SimCase& shortest) {
  std::string text = "spw_sim: FAILED: " + result.failure + "\n";
  if (!result.history.empty())
    text += "last events (sequence, kind, a, b) and state:\n" + result.history;
  text += "shortest case found (" + std::to_string(shortest.ops.size()) + " of " +
          std::to_string(result.ran.ops.size()) +
          " operations); save it and run `spw_sim --replay FILE`:\n";
  return text + "---8<---\n" + print(shortest) + "--->8---\n";
}

}  // namespace spillway::sim
