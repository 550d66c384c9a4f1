// The process under test on the kernel's side: it does what its channel asks and nothing else, so
// that every change to its address space is one that the test made. It allocates nothing, and it
// is linked statically so that little more than the program itself is mapped.

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <ctime>

#include "wire.h"

namespace spillway::diff {
namespace {

sigjmp_buf g_after_fault;
siginfo_t g_fault;
volatile bool g_guarded = false;
alignas(kPageSize) u8 g_signal_stack[64 * 1024];

void on_fault(int, siginfo_t* info, void*) {
  if (!g_guarded) _exit(3);  // a fault of the actor itself: the runner sees a dead process
  g_fault = *info;
  siglongjmp(g_after_fault, 1);
}

// Where protection keys exist, PROT_EXEC alone makes a page that cannot be read. The simulated
// machine has no such keys, so the process gives itself all rights before each access.
void allow_all_keys() {
#if defined(__x86_64__)
  static const bool keys_enabled = [] {
    u32 a = 0, b = 0, c = 0, d = 0;
    asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (a < 7) return false;
    a = 7;
    c = 0;
    asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return (c & (1U << 4)) != 0;  // OSPKE
  }();
  if (keys_enabled) asm volatile("wrpkru" : : "a"(0), "c"(0), "d"(0));
#endif
}

// Runs `access`; false if it was ended by a signal, which is then in the channel.
template <class Access>
bool guarded(Channel& c, Access access) {
  allow_all_keys();
  if (sigsetjmp(g_after_fault, 0) != 0) {
    g_guarded = false;
    c.signo = g_fault.si_signo;
    c.code = g_fault.si_code;
    c.fault_address = reinterpret_cast<u64>(g_fault.si_addr);
    return false;
  }
  g_guarded = true;
  access();
  g_guarded = false;
  return true;
}

// Page by page, each by its first byte: so the address of a fault is the same on all machines.
void copy(Channel& c, bool out) {
  u8* const data = c.data;
  volatile u64 done = 0;
  guarded(c, [&] {
    while (done < c.args[1]) {
      u8* at = reinterpret_cast<u8*>(c.args[0] + done);
      const u64 to_edge = kPageSize - (reinterpret_cast<u64>(at) & kPageMask);
      const u64 left = c.args[1] - done;
      const u64 chunk = left < to_edge ? left : to_edge;
      if (out) {
        data[done] = *const_cast<volatile u8*>(at);
        std::memcpy(data + done, at, chunk);
      } else {
        *const_cast<volatile u8*>(at) = data[done];
        std::memcpy(at, data + done, chunk);
      }
      done = done + chunk;
    }
  });
  c.value = static_cast<i64>(done);
}

void call(Channel& c) {
  void (*code)() = nullptr;
  std::memcpy(&code, &c.args[0], sizeof code);
  c.value = guarded(c, [&] { code(); }) ? 0 : 1;
}

long futex(std::atomic<u32>& word, int operation, u32 value, const timespec* timeout) {
  return syscall(SYS_futex, &word, operation, value, timeout, nullptr, 0);
}

void set_turn(Channel& c, Turn turn) {
  c.turn.store(static_cast<u32>(turn), std::memory_order_release);
  futex(c.turn, FUTEX_WAKE, 1, nullptr);
}

void wait_for_request(Channel& c) {
  constexpr timespec kPatience{kOrphanSeconds, 0};
  for (;;) {
    const u32 turn = c.turn.load(std::memory_order_acquire);
    if (turn == static_cast<u32>(Turn::request)) return;
    if (futex(c.turn, FUTEX_WAIT, turn, &kPatience) != 0 && errno == ETIMEDOUT) _exit(4);
  }
}

// Returns the channel that the process serves from now on: the child of a fork has its own.
Channel* serve(Wire& wire, Channel* c) {
  c->signo = 0;
  c->code = 0;
  c->fault_address = 0;
  c->value = 0;
  switch (c->kind) {
    case RequestKind::system_call: {
      const u64* a = c->args;
      c->value = syscall(c->number, a[0], a[1], a[2], a[3], a[4], a[5]);
      // glibc makes -1 and errno of an error; the wire has the kernel's own form.
      if (c->value == -1) c->value = -errno;
      break;
    }
    case RequestKind::copy_out: copy(*c, true); break;
    case RequestKind::copy_in: copy(*c, false); break;
    case RequestKind::call: call(*c); break;
    case RequestKind::fork: {
      const pid_t pid = fork();
      if (pid == 0) return &wire.channels[c->args[0]];
      c->value = pid < 0 ? -errno : pid;
      break;
    }
    case RequestKind::exit: _exit(0);
  }
  return c;
}

// The stack must not grow while the test looks at locked or limited memory.
void touch_stack() {
  volatile u8 room[48 * 1024];
  for (u64 i = 0; i < sizeof room; i += kPageSize) room[i] = 0;
}

[[noreturn]] void run() {
  // The runner reads what it needs of us in /proc, and kills us if it has no more use for us.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  stack_t stack{};
  stack.ss_sp = g_signal_stack;
  stack.ss_size = sizeof g_signal_stack;
  sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
  struct sigaction no_zombies {};
  no_zombies.sa_handler = SIG_IGN;
  no_zombies.sa_flags = SA_NOCLDWAIT;
  sigaction(SIGCHLD, &no_zombies, nullptr);
  touch_stack();

  void* memory = mmap(reinterpret_cast<void*>(kChannelAddress), sizeof(Wire),
                      PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, kChannelFd, 0);
  if (memory != reinterpret_cast<void*>(kChannelAddress)) _exit(2);
  Wire& wire = *static_cast<Wire*>(memory);
  Channel* channel = &wire.channels[0];
  set_turn(*channel, Turn::reply);
  for (;;) {
    wait_for_request(*channel);
    channel = serve(wire, channel);
    set_turn(*channel, Turn::reply);
  }
}

}  // namespace
}  // namespace spillway::diff

int main() { spillway::diff::run(); }
