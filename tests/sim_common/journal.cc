#include "journal.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cctype>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace spillway::harness {
namespace {

// The panic hook has no argument for its owner.
Journal* g_journal = nullptr;
const EventRing* g_events = nullptr;

void write_history() {
  if (g_events == nullptr) return;
  const EventRing& ring = *g_events;
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

}  // namespace

Journal* new_journal() {
  void* memory = mmap(nullptr, sizeof(Journal), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("mmap");
    std::exit(2);
  }
  return static_cast<Journal*>(memory);
}

void delete_journal(Journal* journal) { munmap(journal, sizeof(Journal)); }

void show_events_of(const EventRing* ring) { g_events = ring; }

void write_down(const std::string& line) {
  Journal& j = *g_journal;
  if (j.text_bytes + line.size() + 2 > Journal::kTextMax) return;
  std::memcpy(j.text + j.text_bytes, line.c_str(), line.size());
  j.text_bytes += line.size();
  j.text[j.text_bytes++] = '\n';
}

void give_up(const std::string& failure, const std::string& state) {
  Journal& j = *g_journal;
  std::snprintf(j.failure, sizeof j.failure, "%s", failure.c_str());
  write_history();
  const u64 at = std::strlen(j.history);
  std::snprintf(j.history + at, sizeof j.history - at, "  %s\n", state.c_str());
  _exit(1);
}

void finish(u64 digest, const Counters& counters, const u64* fired) {
  Journal& j = *g_journal;
  j.digest = digest;
  std::memcpy(j.counters, counters.value, sizeof j.counters);
  std::memcpy(j.fired, fired, sizeof j.fired);
  j.finished = true;
  _exit(0);
}

pid_t start_child(Journal* journal, u32 seconds_max, const std::function<void()>& body) {
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid < 0) {
    std::perror("fork");
    std::exit(2);
  }
  if (pid != 0) return pid;
  g_journal = journal;
  set_panic_hook(on_panic);
  alarm(seconds_max);
  body();
  _exit(3);
}

std::string failure_of(const Journal& journal, int status) {
  const std::string failure = journal.failure;
  if (journal.finished || !failure.empty()) return failure;
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
    return "hang: the case does not end within its time";
  }
  if (WIFSIGNALED(status)) return std::string("crash: ") + strsignal(WTERMSIG(status));
  return "crash: exit status " + std::to_string(WEXITSTATUS(status)) +
         " (see the sanitizer's report)";
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

}  // namespace spillway::harness
