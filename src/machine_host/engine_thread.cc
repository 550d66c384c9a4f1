#include "machine_host/engine_thread.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "machine_host/syscalls.h"

// spw_clone_thread(flags, stack_top, tid_word, thread_block, entry, self): starts a thread that
// calls entry(self) on the new stack and then exits. Returns the thread's id or -errno.
// Assembly, because the child returns from the system call on another stack.
asm(R"(
.text
.p2align 4
.hidden spw_clone_thread
.globl spw_clone_thread
.type spw_clone_thread, @function
spw_clone_thread:
  movq %rcx, %rax            # thread block
  movq %rdx, %r10            # child_tid: cleared and woken when the thread ends
  movq %r8, -8(%rsi)         # entry and self wait on the new stack
  movq %r9, -16(%rsi)
  subq $16, %rsi
  movq %rax, %r8             # tls
  movl $56, %eax             # SYS_clone
  syscall
  testq %rax, %rax
  jz 1f
  ret
1:
  xorl %ebp, %ebp            # the end of the chain of frames
  popq %rdi
  popq %rax
  callq *%rax
  xorl %edi, %edi
  movl $60, %eax             # SYS_exit: this thread only
  syscall
  hlt
.size spw_clone_thread, . - spw_clone_thread
)");

namespace spillway {

extern "C" i64 spw_clone_thread(u64 flags, u64 stack_top, std::atomic<i32>* tid, u64 thread_block,
                                void (*entry)(EngineThread*), EngineThread* self);

namespace {

// Deep enough for LZ4 with its state elsewhere and every call chain of the core several times
// over; only touched pages cost memory.
constexpr u64 kStackBytes = u64{256} << 10;
// libc's own per-thread variables lie below the thread pointer; none should be used, but what is
// used by mistake must not hit the stack.
constexpr u64 kThreadBlockBelow = u64{16} << 10;
constexpr u64 kThreadBlockAbove = u64{4} << 10;
constexpr u64 kMappingBytes = kPageSize + kStackBytes + kThreadBlockBelow + kThreadBlockAbove;

constexpr u64 kCloseRange = 436;  // SYS_close_range is newer than some headers

void close_all_but(const int* keep, u32 count) {
  u64 first = 0;
  for (u32 done = 0; done < count; ++done) {
    // The next descriptor to keep, at or above `first`.
    i64 next = -1;
    for (u32 i = 0; i < count; ++i) {
      if (keep[i] >= 0 && static_cast<u64>(keep[i]) >= first && (next < 0 || keep[i] < next)) {
        next = keep[i];
      }
    }
    if (next < 0) break;
    if (static_cast<u64>(next) > first) {
      sys::call(static_cast<i64>(kCloseRange), first, static_cast<u64>(next) - 1, 0);
    }
    first = static_cast<u64>(next) + 1;
  }
  sys::call(static_cast<i64>(kCloseRange), first, ~u32{0}, 0);
}

}  // namespace

void EngineThread::entry(EngineThread* self) {
  close_all_but(self->keep_, self->keep_count_);
  sys::call(SYS_prctl, PR_SET_NAME, self->name_);
  self->main_(self->argument_);
}

Status EngineThread::start(Main main, void* argument, const char* name, const int* keep_fds,
                           u32 keep_count) {
  SPW_ASSERT_EQ(stack_, u64{0});
  SPW_ASSERT_LE(keep_count, kKeepMax);
  const i64 at = sys::mmap(0, kMappingBytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  if (sys::failed(at)) return Error::no_memory;
  const u64 base = static_cast<u64>(at);
  if (sys::failed(sys::mprotect(base, kPageSize, PROT_NONE))) {
    sys::munmap(base, kMappingBytes);
    return Error::no_memory;
  }
  main_ = main;
  argument_ = argument;
  u32 n = 0;
  for (; name[n] != '\0' && n + 1 < sizeof(name_); ++n) name_[n] = name[n];
  name_[n] = '\0';
  for (u32 i = 0; i < keep_count; ++i) keep_[i] = keep_fds[i];
  keep_count_ = keep_count;

  const u64 stack_top = base + kPageSize + kStackBytes;
  const u64 thread_block = stack_top + kThreadBlockBelow;
  // The x86-64 ABI expects the thread block's address in its own first word.
  *reinterpret_cast<u64*>(thread_block) = thread_block;
  tid_.store(-1, std::memory_order_relaxed);
  const u64 flags = CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                    CLONE_SETTLS | CLONE_CHILD_CLEARTID;
  const u64 signals = sys::block_signals();
  const i64 tid = spw_clone_thread(flags, stack_top, &tid_, thread_block, &entry, this);
  sys::restore_signals(signals);
  if (sys::failed(tid)) {
    sys::munmap(base, kMappingBytes);
    tid_.store(0, std::memory_order_relaxed);
    return Error::no_memory;
  }
  stack_ = base;
  // The thread may have ended already, and then the kernel has stored 0.
  i32 expected = -1;
  tid_.compare_exchange_strong(expected, static_cast<i32>(tid), std::memory_order_acq_rel);
  return kOk;
}

void EngineThread::join() {
  if (stack_ == 0) return;
  for (i32 tid = this->tid(); tid != 0; tid = this->tid()) {
    // The kernel's wake at thread exit is not a private one.
    sys::futex_wait(&tid_, static_cast<u32>(tid), 0, sys::Sharing::processes);
  }
  forget();
}

void EngineThread::forget() {
  if (stack_ == 0) return;
  sys::munmap(stack_, kMappingBytes);
  stack_ = 0;
  tid_.store(0, std::memory_order_relaxed);
}

}  // namespace spillway
