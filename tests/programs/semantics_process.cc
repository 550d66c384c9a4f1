// Checks of fork, exec, vfork, posix_spawn, threads, stacks and signals.
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "semantics_support.h"

extern char** environ;

namespace programs {
namespace {

constexpr std::size_t kPages = 64;

bool fork_isolates() {
  unsigned char* p = map_pages(kPages);
  stamp(p, kPages, 301);
  press();
  const pid_t child = fork();
  if (child == 0) {
    const bool saw = stamped(p, kPages, 301);
    stamp(p, kPages / 2, 302);
    _exit(saw && stamped(p, kPages / 2, 302) ? 0 : 1);
  }
  EXPECT_OR_FAIL(exit_code_of(child) == 0);
  EXPECT_OR_FAIL(stamped(p, kPages, 301));
  unmap_pages(p, kPages);
  return true;
}

// The parent rewrites and evicts after the fork; the child, held back until then, must still see
// the old contents.
bool fork_keeps_snapshot() {
  unsigned char* p = map_pages(kPages);
  stamp(p, kPages, 311);
  int gate[2];
  EXPECT_OR_FAIL(pipe(gate) == 0);
  const pid_t child = fork();
  if (child == 0) {
    close(gate[1]);
    char byte = 0;
    const bool opened = read(gate[0], &byte, 1) == 0;
    _exit(opened && stamped(p, kPages, 311) ? 0 : 1);
  }
  close(gate[0]);
  stamp(p, kPages, 312);
  press();
  close(gate[1]);
  EXPECT_OR_FAIL(exit_code_of(child) == 0);
  EXPECT_OR_FAIL(stamped(p, kPages, 312));
  unmap_pages(p, kPages);
  return true;
}

bool fork_nested() {
  unsigned char* p = map_pages(kPages);
  stamp(p, kPages, 321);
  press();
  const pid_t child = fork();
  if (child == 0) {
    stamp(p, kPages / 2, 322);
    const pid_t grandchild = fork();
    if (grandchild == 0) {
      const bool saw = stamped(p, kPages / 2, 322) &&
                       page_is(p + (kPages - 1) * kPageBytes, mix(321) + kPages - 1);
      stamp(p, kPages, 323);
      _exit(saw && stamped(p, kPages, 323) ? 5 : 1);
    }
    _exit(exit_code_of(grandchild) == 5 && stamped(p, kPages / 2, 322) ? 6 : 1);
  }
  EXPECT_OR_FAIL(exit_code_of(child) == 6);
  EXPECT_OR_FAIL(stamped(p, kPages, 321));
  unmap_pages(p, kPages);
  return true;
}

bool shared_mapping() {
  constexpr std::size_t kBytes = 4 * kPageBytes;
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EXPECT_OR_FAIL(memory != MAP_FAILED);
  auto* p = static_cast<unsigned char*>(memory);
  stamp(p, 4, 331);
  const pid_t child = fork();
  if (child == 0) {
    const bool saw = stamped(p, 4, 331);
    stamp(p, 4, 332);
    _exit(saw ? 0 : 1);
  }
  EXPECT_OR_FAIL(exit_code_of(child) == 0);
  press();
  EXPECT_OR_FAIL(stamped(p, 4, 332));
  unmap_pages(p, 4);
  return true;
}

bool fork_then_exec() {
  press();
  const pid_t child = fork();
  if (child == 0) {
    execl(own_path(), own_path(), "--exit-with", "11", static_cast<char*>(nullptr));
    _exit(99);
  }
  EXPECT_OR_FAIL(exit_code_of(child) == 11);
  return true;
}

bool vfork_then_exec() {
  unsigned char* p = map_pages(kPages);
  stamp(p, kPages, 341);
  press();
  const pid_t child = vfork();
  if (child == 0) {
    execl(own_path(), own_path(), "--exit-with", "12", static_cast<char*>(nullptr));
    _exit(99);
  }
  EXPECT_OR_FAIL(exit_code_of(child) == 12);
  EXPECT_OR_FAIL(stamped(p, kPages, 341));
  unmap_pages(p, kPages);
  return true;
}

bool spawned() {
  press();
  char path[4096];
  std::snprintf(path, sizeof path, "%s", own_path());
  char flag[] = "--exit-with";
  char code[] = "13";
  char* arguments[] = {path, flag, code, nullptr};
  pid_t child = -1;
  EXPECT_OR_FAIL(posix_spawn(&child, path, nullptr, nullptr, arguments, environ) == 0);
  EXPECT_OR_FAIL(exit_code_of(child) == 13);
  return true;
}

bool shell_command() {
  press();
  const int status = std::system("exit 14");
  EXPECT_OR_FAIL(WIFEXITED(status) && WEXITSTATUS(status) == 14);
  return true;
}

bool shell_pipe() {
  press();
  FILE* pipe = popen("echo forty-two; exit 15", "r");
  EXPECT_OR_FAIL(pipe != nullptr);
  char line[64] = {};
  EXPECT_OR_FAIL(std::fgets(line, sizeof line, pipe) != nullptr);
  EXPECT_OR_FAIL(std::strcmp(line, "forty-two\n") == 0);
  const int status = pclose(pipe);
  EXPECT_OR_FAIL(WIFEXITED(status) && WEXITSTATUS(status) == 15);
  return true;
}

// Uses `levels` times 2 KB of stack and verifies every frame on the way back.
[[gnu::noinline]] std::uint64_t descend(std::uint64_t key, int levels) {
  volatile std::uint64_t frame[256];
  for (std::size_t i = 0; i < 256; ++i) {
    frame[i] = mix(key + i);
  }
  const std::uint64_t wrong =
      levels > 0 ? descend(key + 1000, levels - 1) : (usleep(20'000), std::uint64_t{0});
  std::uint64_t mine = 0;
  for (std::size_t i = 0; i < 256; ++i) {
    mine |= frame[i] ^ mix(key + i);
  }
  return wrong + (mine != 0 ? 1 : 0);
}

void* deep_thread(void* key) {
  const auto start = reinterpret_cast<std::uintptr_t>(key);
  return reinterpret_cast<void*>(descend(start * 1'000'000, 1000));
}

bool thread_stacks() {
  pthread_t threads[4];
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_OR_FAIL(
        pthread_create(&threads[i], nullptr, deep_thread, reinterpret_cast<void*>(i + 1)) == 0);
  }
  press();
  press();
  for (const pthread_t thread : threads) {
    void* wrong = nullptr;
    EXPECT_OR_FAIL(pthread_join(thread, &wrong) == 0);
    EXPECT_OR_FAIL(wrong == nullptr);
  }
  return true;
}

struct ForkingThread {
  unsigned char* pages;
  bool passed;
};

void* fork_from_thread(void* argument) {
  auto* self = static_cast<ForkingThread*>(argument);
  const pid_t child = fork();
  if (child == 0) {
    _exit(stamped(self->pages, kPages, 351) ? 0 : 1);
  }
  self->passed = exit_code_of(child) == 0;
  return nullptr;
}

bool fork_in_threads() {
  ForkingThread workers[3];
  pthread_t threads[3];
  unsigned char* p = map_pages(kPages);
  stamp(p, kPages, 351);
  press();
  for (std::size_t i = 0; i < 3; ++i) {
    workers[i] = {p, false};
    EXPECT_OR_FAIL(pthread_create(&threads[i], nullptr, fork_from_thread, &workers[i]) == 0);
  }
  press();
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_OR_FAIL(pthread_join(threads[i], nullptr) == 0);
    EXPECT_OR_FAIL(workers[i].passed);
  }
  unmap_pages(p, kPages);
  return true;
}

std::atomic<int> g_signals{0};
unsigned char* g_signal_pages = nullptr;

void on_signal(int) {
  // Evicted code paths and an evicted stack: the handler reads cold pages as well.
  if (stamped(g_signal_pages, 4, 361)) {
    g_signals.fetch_add(1);
  }
}

bool signal_on_cold_stack() {
  g_signal_pages = map_pages(4);
  stamp(g_signal_pages, 4, 361);
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  EXPECT_OR_FAIL(sigaction(SIGUSR1, &action, &before) == 0);
  for (int i = 1; i <= 3; ++i) {
    press();
    EXPECT_OR_FAIL(raise(SIGUSR1) == 0);
    EXPECT_OR_FAIL(g_signals.load() == i);
  }
  EXPECT_OR_FAIL(sigaction(SIGUSR1, &before, nullptr) == 0);
  unmap_pages(g_signal_pages, 4);
  return true;
}

bool child_dies_of_segv() {
  unsigned char* p = map_pages(1, PROT_NONE);
  const pid_t child = fork();
  if (child == 0) {
    // The default action again: an unhandled fault must end the child as natively.
    signal(SIGSEGV, SIG_DFL);
    *static_cast<volatile unsigned char*>(p) = 1;
    _exit(0);
  }
  EXPECT_OR_FAIL(exit_code_of(child) == 128 + SIGSEGV);
  unmap_pages(p, 1);
  return true;
}

constexpr Check kChecks[] = {
    {"fork: the child sees evicted pages, its writes stay its own", fork_isolates},
    {"fork: the child keeps the old contents while the parent rewrites", fork_keeps_snapshot},
    {"fork in a forked child", fork_nested},
    {"shared anonymous memory is shared across fork", shared_mapping},
    {"fork, then exec", fork_then_exec},
    {"vfork, then exec", vfork_then_exec},
    {"posix_spawn", spawned},
    {"system()", shell_command},
    {"popen()", shell_pipe},
    {"thread stacks of 2 MB under pressure", thread_stacks},
    {"fork from three threads at once", fork_in_threads},
    {"signal handler on an evicted alternate stack", signal_on_cold_stack},
    {"an unhandled SIGSEGV ends the process", child_dies_of_segv},
};

}  // namespace

std::span<const Check> process_checks() { return kChecks; }

}  // namespace programs
