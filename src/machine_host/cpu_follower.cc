#include "machine_host/cpu_follower.h"

#include <fcntl.h>

#include "machine_host/process_id.h"
#include "machine_host/syscalls.h"

namespace spillway {
namespace {

extern "C" {
extern const i64 __rseq_offset __attribute__((weak));
extern const u32 __rseq_size __attribute__((weak));
}

// Faults of one thread between two looks at its stat file: a look costs about as much as it
// saves, and threads stay where they are for milliseconds, that is for hundreds of faults.
constexpr u32 kStatEvery = 32;
constexpr i32 kCpusMax = 1024;
// After a move the handler stays for a while: with threads faulting on several CPUs it would
// otherwise move at every fault, which costs more than it saves.
constexpr u64 kSettleNs = 300'000;

}  // namespace

void CpuFollower::learn_main_thread(u64 managed_start, u64 managed_end) {
  main_tid_ = sys::gettid();
  main_cpu_ = nullptr;
  if (&__rseq_size == nullptr || __rseq_size == 0) return;
  u64 thread_pointer;
  asm("movq %%fs:0, %0" : "=r"(thread_pointer));
  const u64 area = thread_pointer + static_cast<u64>(__rseq_offset);
  if (area >= managed_start && area < managed_end) return;
  constexpr u64 kCpuIdOffset = 4;
  main_cpu_ = reinterpret_cast<const u32*>(area + kCpuIdOffset);
}

void CpuFollower::fork_child(u64 managed_start, u64 managed_end) {
  // The descriptors in the cache belonged to the file table of the parent's handler.
  for (Entry& entry : cache_) entry = Entry{};
  here_ = -1;
  pair_.fork_child();
  learn_main_thread(managed_start, managed_end);
}

i32 CpuFollower::cpu_from_stat(Entry& entry) {
  constexpr u32 kProcessor = 39;
  char text[1024];
  const i64 got = sys::pread(entry.fd - 1, text, sizeof(text) - 1, 0);
  if (got <= 0) return -1;
  text[got] = '\0';
  return static_cast<i32>(stat_field(text, kProcessor));
}

i32 CpuFollower::cpu_of(i32 tid) {
  if (tid == main_tid_ && main_cpu_ != nullptr) {
    const u32 cpu = __atomic_load_n(main_cpu_, __ATOMIC_RELAXED);
    return cpu < static_cast<u32>(kCpusMax) ? static_cast<i32>(cpu) : -1;
  }
  for (Entry& entry : cache_) {
    if (entry.tid != tid) continue;
    if (entry.age++ % kStatEvery != 0) return entry.cpu;
    entry.cpu = cpu_from_stat(entry);
    if (entry.cpu < 0) entry.tid = 0;  // the thread has ended; its number may come again
    return entry.cpu;
  }
  Entry& entry = cache_[next_++ % kCacheSize];
  if (entry.fd > 0) sys::close(entry.fd - 1);
  entry = Entry{};
  char path[48] = "/proc/self/task/";
  u32 n = 16;
  char digits[12];
  u32 count = 0;
  for (u32 v = static_cast<u32>(tid); v != 0; v /= 10) {
    digits[count++] = static_cast<char>('0' + v % 10);
  }
  while (count > 0) path[n++] = digits[--count];
  for (const char* p = "/stat"; *p != '\0'; ++p) path[n++] = *p;
  path[n] = '\0';
  const i64 fd = sys::open(path, O_RDONLY | O_CLOEXEC);
  if (sys::failed(fd)) return -1;
  entry.fd = static_cast<int>(fd) + 1;
  entry.tid = tid;
  entry.age = 1;
  entry.cpu = cpu_from_stat(entry);
  return entry.cpu;
}

void CpuFollower::follow(i32 tid, u64 now_ns) {
  if (tid == 0) return;
  const i32 cpu = cpu_of(tid);
  const bool kept = pair_.consider(tid, cpu, now_ns);
  if (!kept && now_ns - moved_at_ns_ < kSettleNs) return;
  if (cpu < 0 || cpu == here_ || cpu >= kCpusMax) return;
  u64 mask[kCpusMax / 64] = {};
  mask[cpu / 64] = u64{1} << (cpu % 64);
  if (sys::failed(sys::call(SYS_sched_setaffinity, 0, sizeof(mask), mask))) return;
  here_ = cpu;
  moved_at_ns_ = now_ns;
  ++migrations_;
}

}  // namespace spillway
