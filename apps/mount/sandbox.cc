#include "mount/sandbox.h"

#include <fmt/format.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <initializer_list>

#include "cli/exit_codes.h"

namespace spillway {
namespace {

class Filter {
 public:
  Filter() : context_(::seccomp_init(SCMP_ACT_ERRNO(EPERM))) {
    if (context_ == nullptr) fail(ENOMEM);
  }
  ~Filter() { ::seccomp_release(context_); }
  Filter(const Filter&) = delete;
  Filter& operator=(const Filter&) = delete;

  void allow(std::initializer_list<int> calls) {
    for (const int call : calls) check(::seccomp_rule_add(context_, SCMP_ACT_ALLOW, call, 0));
  }
  void allow_if(int call, const scmp_arg_cmp& condition) {
    check(::seccomp_rule_add_array(context_, SCMP_ACT_ALLOW, call, 1, &condition));
  }
  void answer(int call, int error) {
    check(::seccomp_rule_add(context_, SCMP_ACT_ERRNO(static_cast<u32>(error)), call, 0));
  }
  void load() { check(::seccomp_load(context_)); }

 private:
  static void check(int result) {
    if (result != 0) fail(-result);
  }
  [[noreturn]] static void fail(int error) {
    throw CliError("mount", fmt::format("the sandbox cannot be set up ({})", std::strerror(error)),
                   "run it where seccomp filters are allowed");
  }

  scmp_filter_ctx context_;
};

}  // namespace

void hide_memory() {
  const rlimit none{0, 0};
  (void)::setrlimit(RLIMIT_CORE, &none);
  (void)::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

void enter_sandbox(SourceKind kind, bool may_unmount) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    throw CliError("mount", "the process cannot give up new privileges", "use Linux 3.5 or later");
  }
  Filter filter;
  // Requests of the kernel, transfers of the device, answers.
  filter.allow({SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev),
                SCMP_SYS(pread64), SCMP_SYS(pwrite64), SCMP_SYS(preadv), SCMP_SYS(pwritev),
                SCMP_SYS(preadv2), SCMP_SYS(pwritev2), SCMP_SYS(fsync), SCMP_SYS(fdatasync),
                SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(close), SCMP_SYS(lseek),
                SCMP_SYS(fstat)});
  // Memory, threads, time and signals.
  filter.allow({SCMP_SYS(munmap),
                SCMP_SYS(mremap),
                SCMP_SYS(madvise),
                SCMP_SYS(brk),
                SCMP_SYS(futex),
                SCMP_SYS(set_robust_list),
                SCMP_SYS(rseq),
                SCMP_SYS(gettid),
                SCMP_SYS(getpid),
                SCMP_SYS(tgkill),
                SCMP_SYS(exit),
                SCMP_SYS(exit_group),
                SCMP_SYS(sched_yield),
                SCMP_SYS(sched_getaffinity),
                SCMP_SYS(clock_gettime),
                SCMP_SYS(clock_nanosleep),
                SCMP_SYS(nanosleep),
                SCMP_SYS(gettimeofday),
                SCMP_SYS(rt_sigaction),
                SCMP_SYS(rt_sigprocmask),
                SCMP_SYS(rt_sigreturn),
                SCMP_SYS(sigaltstack),
                SCMP_SYS(restart_syscall),
                SCMP_SYS(getrandom),
                SCMP_SYS(geteuid),
                SCMP_SYS(getuid),
                SCMP_SYS(getegid),
                SCMP_SYS(getgid),
                SCMP_SYS(getrusage),
                SCMP_SYS(prctl)});
  // Memory that is data only.
  filter.allow_if(SCMP_SYS(mmap), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
  filter.allow_if(SCMP_SYS(mprotect), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
  // Threads, not processes. The flags of clone3 cannot be looked at; libc falls back to clone.
  filter.allow_if(SCMP_SYS(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
  filter.answer(SCMP_SYS(clone3), ENOSYS);
  if (may_unmount) filter.allow({SCMP_SYS(umount2)});
  if (kind == SourceKind::directory) {
    // The tree is held by descriptors and every name is one component (fs_host).
    filter.allow({SCMP_SYS(openat), SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(fstatfs),
                  SCMP_SYS(readlinkat), SCMP_SYS(linkat), SCMP_SYS(unlinkat), SCMP_SYS(renameat),
                  SCMP_SYS(renameat2), SCMP_SYS(symlinkat), SCMP_SYS(mkdirat), SCMP_SYS(mknodat),
                  SCMP_SYS(fchownat), SCMP_SYS(fchmodat), SCMP_SYS(utimensat), SCMP_SYS(getdents64),
                  SCMP_SYS(ftruncate), SCMP_SYS(fallocate), SCMP_SYS(syncfs)});
  } else {
    // fstat(3) of an open file only.
    filter.allow({SCMP_SYS(newfstatat)});
  }
  filter.load();
}

}  // namespace spillway
