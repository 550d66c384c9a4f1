#include "preload/libc_patch.h"

#include <sys/mman.h>

#include <cerrno>
#include <initializer_list>

#include "machine_host/syscalls.h"
#include "preload/affinity_calls.h"
#include "preload/engine.h"
#include "preload/libc_symbols.h"
#include "preload/memory_calls.h"

// What the patched `_Fork` calls in place of its clone system call. It arrives with the system
// call's arguments in their registers and expects, as after a system call, only rax, rcx and r11
// to change: everything else that a C function may change is saved.
asm(R"(
.text
.p2align 4
.hidden spw_fork_thunk
.globl spw_fork_thunk
.type spw_fork_thunk, @function
spw_fork_thunk:
  pushq %rbp
  movq %rsp, %rbp
  pushq %rdi
  pushq %rsi
  pushq %rdx
  pushq %r8
  pushq %r9
  pushq %r10
  andq $-16, %rsp
  subq $256, %rsp
  movups %xmm0, 0(%rsp)
  movups %xmm1, 16(%rsp)
  movups %xmm2, 32(%rsp)
  movups %xmm3, 48(%rsp)
  movups %xmm4, 64(%rsp)
  movups %xmm5, 80(%rsp)
  movups %xmm6, 96(%rsp)
  movups %xmm7, 112(%rsp)
  movups %xmm8, 128(%rsp)
  movups %xmm9, 144(%rsp)
  movups %xmm10, 160(%rsp)
  movups %xmm11, 176(%rsp)
  movups %xmm12, 192(%rsp)
  movups %xmm13, 208(%rsp)
  movups %xmm14, 224(%rsp)
  movups %xmm15, 240(%rsp)
  movq %r10, %rsi            # (flags, child_tid)
  callq spw_fork_from_libc
  movups 0(%rsp), %xmm0
  movups 16(%rsp), %xmm1
  movups 32(%rsp), %xmm2
  movups 48(%rsp), %xmm3
  movups 64(%rsp), %xmm4
  movups 80(%rsp), %xmm5
  movups 96(%rsp), %xmm6
  movups 112(%rsp), %xmm7
  movups 128(%rsp), %xmm8
  movups 144(%rsp), %xmm9
  movups 160(%rsp), %xmm10
  movups 176(%rsp), %xmm11
  movups 192(%rsp), %xmm12
  movups 208(%rsp), %xmm13
  movups 224(%rsp), %xmm14
  movups 240(%rsp), %xmm15
  leaq -48(%rbp), %rsp
  popq %r10
  popq %r9
  popq %r8
  popq %rdx
  popq %rsi
  popq %rdi
  popq %rbp
  ret
.size spw_fork_thunk, . - spw_fork_thunk
)");

namespace spillway {
namespace {

extern "C" void spw_fork_thunk();

LockedResult fork_locked(u64 flags, u64, u64, u64, u64) {
  bool wait = false;
  const i64 result = host().fork(flags, &wait);
  if (wait) return {host().handler().progress(), kMustWait};
  if (sys::failed(result)) return {0, static_cast<u64>(-result)};
  return {static_cast<u64>(result), 0};
}

}  // namespace

// In place of clone(flags, 0, 0, child_tid, 0). What the kernel would have written to child_tid
// is written here instead, after the child has its engine: the word lies in a thread's managed
// memory.
extern "C" __attribute__((visibility("hidden"))) i64 spw_fork_from_libc(u64 flags, i32* child_tid) {
  constexpr u64 kSetTid = 0x01000000;    // CLONE_CHILD_SETTID
  constexpr u64 kClearTid = 0x00200000;  // CLONE_CHILD_CLEARTID
  release_pair();                        // the child must not inherit a narrow CPU mask
  const i64 pid = call_engine(fork_locked, flags);
  if (pid != 0) return pid;
  if ((flags & kSetTid) != 0) *child_tid = sys::gettid();
  if ((flags & kClearTid) != 0) sys::call(SYS_set_tid_address, child_tid);
  return 0;
}

namespace {

// jmp *0(%rip), followed by the address: reaches everywhere and uses no register.
constexpr u64 kJumpBytes = 14;
void write_jump(u8* at, const void* target) {
  constexpr u8 kCode[] = {0xff, 0x25, 0, 0, 0, 0};
  for (u64 i = 0; i < sizeof(kCode); ++i) at[i] = kCode[i];
  const u64 address = reinterpret_cast<u64>(target);
  for (u64 i = 0; i < 8; ++i) at[sizeof(kCode) + i] = static_cast<u8>(address >> (8 * i));
}

// Makes code writable while it is changed.
class Writable {
 public:
  Writable(const void* code, u64 bytes)
      : start_(reinterpret_cast<u64>(code) & ~kPageMask),
        bytes_(((reinterpret_cast<u64>(code) + bytes + kPageMask) & ~kPageMask) - start_) {
    result_ = sys::mprotect(start_, bytes_, PROT_READ | PROT_WRITE | PROT_EXEC);
  }
  ~Writable() {
    if (result_ == 0) sys::mprotect(start_, bytes_, PROT_READ | PROT_EXEC);
  }
  Writable(const Writable&) = delete;
  Writable& operator=(const Writable&) = delete;
  i64 result() const { return result_; }

 private:
  u64 start_;
  u64 bytes_;
  i64 result_;
};

struct Redirection {
  const char* name;
  const void* target;
};
const Redirection kRedirections[] = {
    {"mmap", reinterpret_cast<const void*>(call_mmap)},
    {"mmap64", reinterpret_cast<const void*>(call_mmap)},
    {"munmap", reinterpret_cast<const void*>(call_munmap)},
    {"mprotect", reinterpret_cast<const void*>(call_mprotect)},
    {"madvise", reinterpret_cast<const void*>(call_madvise)},
    {"mremap", reinterpret_cast<const void*>(call_mremap)},
    {"brk", reinterpret_cast<const void*>(call_brk)},
    {"mlock", reinterpret_cast<const void*>(call_mlock)},
    {"mlock2", reinterpret_cast<const void*>(call_mlock2)},
    {"munlock", reinterpret_cast<const void*>(call_munlock)},
    {"mlockall", reinterpret_cast<const void*>(call_mlockall)},
    {"munlockall", reinterpret_cast<const void*>(call_munlockall)},
    {"mincore", reinterpret_cast<const void*>(call_mincore)},
    {"pkey_mprotect", reinterpret_cast<const void*>(call_pkey_mprotect)},
    {"execve", reinterpret_cast<const void*>(call_execve)},
};

// A page within reach of a 32-bit call from `near`, on either side.
u8* map_island(u64 near) {
  constexpr u64 kStep = u64{1} << 20;
  constexpr u64 kReach = u64{1} << 30;
  for (u64 away = kStep; away < kReach; away += kStep) {
    for (const u64 hint : {(near - away) & ~kPageMask, (near + away) & ~kPageMask}) {
      const i64 at = sys::mmap(hint, kPageSize, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE);
      if (at == static_cast<i64>(hint)) return reinterpret_cast<u8*>(at);
      if (!sys::failed(at)) sys::munmap(static_cast<u64>(at), kPageSize);
    }
  }
  return nullptr;
}

u8* g_clone_site = nullptr;
u8* g_island = nullptr;
constexpr u8 kClone[] = {0xb8, 0x38, 0, 0, 0, 0x0f, 0x05};

// `_Fork` makes its child by "mov $56, %eax; syscall": seven bytes that become a call.
bool patch_fork(Message& why) {
  u8* const site = g_clone_site;
  u8* const island = g_island;
  write_jump(island, reinterpret_cast<const void*>(spw_fork_thunk));
  sys::mprotect(reinterpret_cast<u64>(island), kPageSize, PROT_READ | PROT_EXEC);
  Writable code(site, sizeof(kClone));
  if (code.result() != 0) {
    why.text("the C library's code cannot be changed: ").error(code.result());
    return false;
  }
  const i64 distance = reinterpret_cast<i64>(island) - (reinterpret_cast<i64>(site) + 5);
  site[0] = 0xe8;  // call island
  for (u64 i = 0; i < 4; ++i) site[1 + i] = static_cast<u8>(distance >> (8 * i));
  site[5] = 0x66;  // two-byte nop
  site[6] = 0x90;
  return true;
}

}  // namespace

bool examine_libc(Message& why) {
  const u8* fork_code = static_cast<u8*>(libc_function("_Fork"));
  constexpr u64 kSearchBytes = 256;  // the whole function
  for (u64 i = 0; fork_code != nullptr && g_clone_site == nullptr && i < kSearchBytes; ++i) {
    bool match = true;
    for (u64 k = 0; k < sizeof(kClone); ++k) match = match && fork_code[i + k] == kClone[k];
    if (match) g_clone_site = const_cast<u8*>(fork_code) + i;
  }
  if (g_clone_site != nullptr) g_island = map_island(reinterpret_cast<u64>(g_clone_site));
  if (g_island != nullptr) return true;
  why.text("this C library's fork is not one that Spillway knows how to follow; ");
  why.text("glibc 2.34 or newer on x86-64 is needed");
  return false;
}

bool redirect_libc(Message& why) {
  constexpr u64 kCount = sizeof(kRedirections) / sizeof(kRedirections[0]);
  u8* code[kCount];
  for (u64 i = 0; i < kCount; ++i) {
    code[i] = static_cast<u8*>(libc_function(kRedirections[i].name));
    if (code[i] == nullptr) {
      why.text("this C library has no ").text(kRedirections[i].name);
      return false;
    }
  }
  if (!patch_fork(why)) return false;
  for (u64 i = 0; i < kCount; ++i) {
    Writable writable(code[i], kJumpBytes);
    if (writable.result() != 0) {
      why.text("the C library's code cannot be changed: ").error(writable.result());
      why.text("; a security module may forbid it");
      return false;
    }
    write_jump(code[i], kRedirections[i].target);
  }
  take_over_brk();
  return true;
}

}  // namespace spillway
