// See semantics_support.h.
#include "semantics_support.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>

namespace programs {
namespace {

constexpr std::uint64_t kPressureSalt = 0x70726573;
constexpr std::size_t kAltStackBytes = 64 * 1024;

unsigned char* g_pressure = nullptr;
std::size_t g_pressure_pages = 0;
const char* g_own_path = nullptr;

// The access under test of this thread. The handler leaves by siglongjmp when it is armed.
struct Attempt {
  sigjmp_buf escape;
  volatile bool armed = false;
  void* volatile fault_address = nullptr;
};
thread_local Attempt t_attempt;

void on_fault(int signal_number, siginfo_t* info, void*) {
  if (!t_attempt.armed) {
    // Not one of ours: fall back to the default action, which the return re-raises.
    signal(signal_number, SIG_DFL);
    return;
  }
  t_attempt.armed = false;
  t_attempt.fault_address = info->si_addr;
  siglongjmp(t_attempt.escape, 1);
}

enum class Kind { read, write };

bool access_faults(volatile unsigned char* address, Kind kind) {
  if (sigsetjmp(t_attempt.escape, 1) != 0) {
    return t_attempt.fault_address == const_cast<unsigned char*>(address);
  }
  t_attempt.armed = true;
  if (kind == Kind::read) {
    static_cast<void>(*address);
  } else {
    *address = 0xA5;
  }
  t_attempt.armed = false;
  return false;
}

}  // namespace

void tell_failure(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "semantics: %s:%d: not so: %s\n", file, line, condition);
}

void set_pressure(std::size_t bytes) { g_pressure_pages = bytes / kPageBytes; }

void press() {
  if (g_pressure_pages == 0) {
    return;
  }
  if (g_pressure == nullptr) {
    g_pressure = map_pages(g_pressure_pages);
    stamp(g_pressure, g_pressure_pages, kPressureSalt);
    return;
  }
  if (!stamped(g_pressure, g_pressure_pages, kPressureSalt)) {
    std::fprintf(stderr, "semantics: the pressure buffer itself went wrong\n");
    std::_Exit(1);
  }
}

unsigned char* map_pages(std::size_t pages, int protection) {
  void* memory = mmap(nullptr, pages * kPageBytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("semantics: mmap");
    std::_Exit(3);
  }
  return static_cast<unsigned char*>(memory);
}

void unmap_pages(void* start, std::size_t pages) {
  if (munmap(start, pages * kPageBytes) != 0) {
    std::perror("semantics: munmap");
    std::_Exit(3);
  }
}

void stamp(unsigned char* start, std::size_t pages, std::uint64_t salt) {
  for (std::size_t i = 0; i < pages; ++i) {
    fill_page(start + i * kPageBytes, mix(salt) + i);
  }
}

bool stamped(const unsigned char* start, std::size_t pages, std::uint64_t salt) {
  bool right = true;
  for (std::size_t i = 0; i < pages; ++i) {
    right = page_is(start + i * kPageBytes, mix(salt) + i) && right;
  }
  return right;
}

bool all_zero(const unsigned char* start, std::size_t bytes) {
  unsigned char any = 0;
  for (std::size_t i = 0; i < bytes; ++i) {
    any = static_cast<unsigned char>(any | start[i]);
  }
  return any == 0;
}

void install_fault_handler() {
  stack_t stack{};
  stack.ss_sp = map_pages(kAltStackBytes / kPageBytes);
  stack.ss_size = kAltStackBytes;
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  if (sigaltstack(&stack, nullptr) != 0 || sigaction(SIGSEGV, &action, nullptr) != 0) {
    std::perror("semantics: sigaltstack or sigaction");
    std::_Exit(3);
  }
}

bool read_faults(const volatile unsigned char* address) {
  return access_faults(const_cast<volatile unsigned char*>(address), Kind::read);
}

bool write_faults(volatile unsigned char* address) { return access_faults(address, Kind::write); }

int exit_code_of(int pid) {
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid) {
    return -1;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

const char* own_path() { return g_own_path; }

void set_own_path(const char* path) { g_own_path = path; }

}  // namespace programs
