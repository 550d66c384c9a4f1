#include "machine_host/engine_lock.h"

#include <sys/auxv.h>
#include <sys/mman.h>

#include "machine_host/syscalls.h"

// LockedResult spw_enter_locked(fn, a, b, c, d, e)
//
// The caller's stack may be managed memory, and a managed page may be swapped out at any moment
// at which we do not hold the lock. Touching it while we hold the lock would wait for the fault
// handler, which waits for the lock. So everything that the caller's stack must hold is pushed
// before the lock is taken, and between taking and releasing only registers and the entry stack
// are used. The entry stack needs no lock of its own: whoever uses it holds the engine lock.
asm(R"(
.text
.p2align 4
.hidden spw_enter_locked
.globl spw_enter_locked
.type spw_enter_locked, @function
spw_enter_locked:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rdi, %r12            # fn and its arguments wait in registers that calls preserve
  movq %rsi, %rbx
  movq %rdx, %rbp
  movq %rcx, %r13
  movq %r8, %r14
  movq %r9, %r15
  xorl %eax, %eax
  movl $1, %ecx
  lock cmpxchgl %ecx, spw_engine_lock_word(%rip)
  jz 2f
1:                           # contended: announce a sleeper, sleep unless it was free by now
  movl $2, %eax
  xchgl %eax, spw_engine_lock_word(%rip)
  testl %eax, %eax
  jz 2f
  leaq spw_engine_lock_word(%rip), %rdi
  movl $128, %esi            # FUTEX_WAIT | FUTEX_PRIVATE_FLAG
  movl $2, %edx
  xorl %r10d, %r10d
  movl $202, %eax            # SYS_futex
  syscall
  jmp 1b
2:                           # held: from here on the caller's stack is taboo
  movq %rbx, %rdi
  movq %rbp, %rsi
  movq %r13, %rdx
  movq %r14, %rcx
  movq %r15, %r8
  movq %rsp, %rbx
  movq spw_entry_stack_top(%rip), %rsp
  cmpb $0, spw_has_fsgsbase(%rip)
  je 4f
  rdfsbase %rax              # the thread block too: the caller's may be managed memory, and
  pushq %rax                 # library code below us may have a stack protector or set errno
  pushq %rax                 # twice, to keep the stack aligned
  movq spw_entry_thread_block(%rip), %rax
  wrfsbase %rax
  xorl %ebp, %ebp
  callq *%r12
  movq %rax, %r12            # the result, kept over the wake
  movq %rdx, %r13
  popq %rax
  wrfsbase %rax
  jmp 5f
4:                           # the same by system calls, on CPUs without these instructions
  subq $16, %rsp             # arch_prctl(ARCH_GET_FS, entry stack)
  movq %rdi, %rbp
  movq %rsi, %r13
  movq %rdx, %r14
  movq %rcx, %r15
  movl $0x1003, %edi
  movq %rsp, %rsi
  movl $158, %eax
  syscall
  movl $0x1002, %edi         # arch_prctl(ARCH_SET_FS, entry thread block)
  movq spw_entry_thread_block(%rip), %rsi
  movl $158, %eax
  syscall
  movq %rbp, %rdi
  movq %r13, %rsi
  movq %r14, %rdx
  movq %r15, %rcx
  xorl %ebp, %ebp
  callq *%r12
  movq %rax, %r12
  movq %rdx, %r13
  movl $0x1002, %edi
  movq (%rsp), %rsi
  movl $158, %eax
  syscall
5:
  movq %rbx, %rsp
  xorl %eax, %eax
  xchgl %eax, spw_engine_lock_word(%rip)
  cmpl $2, %eax
  jne 3f
  leaq spw_engine_lock_word(%rip), %rdi
  movl $129, %esi            # FUTEX_WAKE | FUTEX_PRIVATE_FLAG
  movl $1, %edx
  movl $202, %eax
  syscall
3:                           # released: the caller's stack may be touched again
  movq %r12, %rax
  movq %r13, %rdx
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size spw_enter_locked, . - spw_enter_locked
)");

namespace spillway {

// Variables have names of their own, so that the assembly can reach them.
extern "C" {
extern u64 g_spw_entry_stack_top asm("spw_entry_stack_top");
extern u64 g_spw_entry_thread_block asm("spw_entry_thread_block");
extern u8 g_spw_has_fsgsbase asm("spw_has_fsgsbase");
LockedResult spw_enter_locked(LockedFunction fn, u64 a, u64 b, u64 c, u64 d, u64 e);
// Defined by libc since 2.35; weak, so that older ones link.
extern const i64 __rseq_offset __attribute__((weak));
extern const u32 __rseq_size __attribute__((weak));
}

EngineLock g_engine_lock;
u64 g_spw_entry_stack_top = 0;
u64 g_spw_entry_thread_block = 0;
u8 g_spw_has_fsgsbase = 0;

namespace {

// The same reasons as for an engine thread's stack: the whole core may run here.
constexpr u64 kEntryStackBytes = u64{256} << 10;
// As for an engine thread: libc's variables lie below the thread pointer.
constexpr u64 kThreadBlockBelow = u64{16} << 10;
constexpr u64 kThreadBlockAbove = u64{4} << 10;
constexpr u64 kEntryBytes = kPageSize + kEntryStackBytes + kThreadBlockBelow + kThreadBlockAbove;

VpnRange g_managed;

// The kernel writes the current CPU into a thread's rseq area whenever the thread returns to
// user mode after it was preempted. When that area is managed and swapped out, the write waits
// for the fault handler; under the engine lock that would be a deadlock. So the area is
// unregistered for that time. Threads of libc have it inside their (managed) stack mapping, the
// main thread has it in memory that is not managed.
constexpr i64 kSysRseq = 334;
constexpr u32 kRseqBytes = 32;  // what libc registers, whatever __rseq_size says
constexpr u32 kRseqSignature = 0x53053053;
constexpr int kRseqUnregister = 1;

u64 managed_rseq_area() {
  if (&__rseq_size == nullptr || __rseq_size == 0) return 0;
  u64 thread_pointer;
  asm("movq %%fs:0, %0" : "=r"(thread_pointer));
  const u64 area = thread_pointer + static_cast<u64>(__rseq_offset);
  return g_managed.contains(VirtAddr(area).vpn()) ? area : 0;
}

}  // namespace

void EngineLock::lock() {
  u32 expected = 0;
  // acquire pairs with the release in unlock() and with the xchg of spw_enter_locked.
  if (word_.compare_exchange_strong(expected, 1, std::memory_order_acquire)) return;
  while (word_.exchange(2, std::memory_order_acquire) != 0) {
    sys::futex_wait(&word_, 2, 0, sys::Sharing::this_process);
  }
}

void EngineLock::unlock() {
  if (word_.exchange(0, std::memory_order_release) == 2) {
    sys::futex_wake(&word_, 1, sys::Sharing::this_process);
  }
}

bool prepare_entry_stack() {
  if (g_spw_entry_stack_top != 0) return true;
  const i64 at = sys::mmap(0, kEntryBytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  if (sys::failed(at)) return false;
  if (sys::failed(sys::mprotect(static_cast<u64>(at), kPageSize, PROT_NONE))) return false;
  g_spw_entry_stack_top = static_cast<u64>(at) + kPageSize + kEntryStackBytes;
  g_spw_entry_thread_block = g_spw_entry_stack_top + kThreadBlockBelow;
  *reinterpret_cast<u64*>(g_spw_entry_thread_block) = g_spw_entry_thread_block;
  // The kernel says whether programs may use rdfsbase and wrfsbase.
  constexpr unsigned long kHwcap2Fsgsbase = 1UL << 1;
  g_spw_has_fsgsbase = (getauxval(AT_HWCAP2) & kHwcap2Fsgsbase) != 0 ? 1 : 0;
  return true;
}

void set_managed_range(VpnRange range) { g_managed = range; }
VpnRange managed_range() { return g_managed; }

LockedResult locked_call(LockedFunction fn, u64 a, u64 b, u64 c, u64 d, u64 e) {
  const u64 signals = sys::block_signals();
  u64 area = managed_rseq_area();
  if (area != 0 && sys::call(kSysRseq, area, kRseqBytes, kRseqUnregister, kRseqSignature) != 0) {
    // Not registered: a vfork child, or the program turned rseq off.
    area = 0;
  }
  const LockedResult result = spw_enter_locked(fn, a, b, c, d, e);
  if (area != 0) sys::call(kSysRseq, area, kRseqBytes, 0, kRseqSignature);
  sys::restore_signals(signals);
  return result;
}

}  // namespace spillway
