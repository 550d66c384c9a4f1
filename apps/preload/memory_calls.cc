#include "preload/memory_calls.h"

#include <sys/mman.h>

#include <cerrno>

#include "machine_host/syscalls.h"
#include "preload/engine.h"

extern "C" void* __curbrk;

namespace spillway {
namespace {

constexpr u64 arg(const void* p) { return reinterpret_cast<u64>(p); }

int returned(i64 result) {
  if (!sys::failed(result)) return static_cast<int>(result);
  errno = static_cast<int>(-result);
  return -1;
}

void* returned_address(i64 result) {
  if (!sys::failed(result)) return reinterpret_cast<void*>(result);
  errno = static_cast<int>(-result);
  return MAP_FAILED;
}

u64 round_up(u64 bytes) { return (bytes + kPageMask) & ~kPageMask; }
Prot prot_of(u64 bits) { return static_cast<Prot>(bits & 7); }

// Functions with the suffix _locked run under the engine lock on the entry stack.

// For calls that begin an area: an address that was reported as bad before is good from now on.
LockedResult area_result(const Result<u64>& result, u64 start, u64 length) {
  if (result.ok()) host().mmu().forget_traps(VirtAddr(start & ~kPageMask), pages_for(length));
  return locked_result(result);
}

LockedResult mmap_locked(u64 addr, u64 length, u64 prot, u64 flags, u64) {
  MmapRequest request;
  request.addr = VirtAddr(addr);
  request.length = length;
  request.prot = prot_of(prot);
  request.fixed = (flags & MAP_FIXED) != 0;
  request.noreplace = (flags & MAP_FIXED_NOREPLACE) != 0;
  request.noreserve = (flags & MAP_NORESERVE) != 0;
  request.locked = (flags & MAP_LOCKED) != 0;
  request.populate = (flags & MAP_POPULATE) != 0;
  const Result<u64> result = core().mmap(space(), request);
  return area_result(result, result.ok() ? result.value() : 0, length);
}

// A file or shared mapping over managed addresses: the engine gives the range up first.
LockedResult mmap_foreign_locked(u64 addr, u64 length, u64 prot_flags, u64 fd, u64 offset) {
  const u64 flags = prot_flags >> 32;
  MmapRequest request;
  request.addr = VirtAddr(addr);
  request.length = length;
  request.prot = prot_of(prot_flags);
  request.fixed = (flags & MAP_FIXED) != 0;
  request.noreplace = (flags & MAP_FIXED_NOREPLACE) != 0;
  request.foreign = true;
  const Result<u64> result = core().mmap(space(), request);
  if (!result.ok()) return locked_result(result);
  const u64 kernel_flags = (flags & ~u64{MAP_FIXED_NOREPLACE}) | MAP_FIXED;
  const i64 mapped = sys::mmap(addr, length, static_cast<int>(prot_flags & 0xffffffff),
                               static_cast<int>(kernel_flags), static_cast<int>(fd), offset);
  if (sys::failed(mapped)) {
    // The kernel refused: the range becomes an unmapped part of the managed region again.
    (void)core().munmap(space(), VirtAddr(addr), length);
    return {0, static_cast<u64>(-mapped)};
  }
  host().mmu().mark_foreign(VirtAddr(addr), pages_for(length));
  return {static_cast<u64>(mapped), 0};
}

LockedResult munmap_locked(u64 addr, u64 length, u64, u64, u64) {
  return locked_result(core().munmap(space(), VirtAddr(addr), length));
}
LockedResult mprotect_locked(u64 addr, u64 length, u64 prot, u64, u64) {
  return locked_result(core().mprotect(space(), VirtAddr(addr), length, prot_of(prot)));
}
LockedResult madvise_locked(u64 addr, u64 length, u64 advice, u64, u64) {
  return locked_result(
      core().madvise(space(), VirtAddr(addr), length, static_cast<Advice>(advice)));
}
LockedResult mremap_locked(u64 old_addr, u64 old_length, u64 new_length, u64 flags, u64 new_addr) {
  MremapRequest request;
  request.old_addr = VirtAddr(old_addr);
  request.old_length = old_length;
  request.new_length = new_length;
  request.new_addr = VirtAddr(new_addr);
  request.may_move = (flags & MREMAP_MAYMOVE) != 0;
  request.fixed = (flags & MREMAP_FIXED) != 0;
  const Result<u64> result = core().mremap(space(), request);
  return area_result(result, result.ok() ? result.value() : 0, new_length);
}
LockedResult brk_locked(u64 addr, u64, u64, u64, u64) {
  // What lies between the old break and the new one is not known here: the whole heap, then.
  const u64 start = addr_of(host().region().start).v;
  return area_result(core().brk(space(), VirtAddr(addr)), start, addr > start ? addr - start : 0);
}
LockedResult mlock_locked(u64 addr, u64 length, u64, u64, u64) {
  return locked_result(core().mlock(space(), VirtAddr(addr), length));
}
LockedResult munlock_locked(u64 addr, u64 length, u64, u64, u64) {
  return locked_result(core().munlock(space(), VirtAddr(addr), length));
}

// Up to 64 pages at a time, so that the answer fits a register: the program's buffer must not
// be touched under the lock.
constexpr u64 kMincorePages = 64;
LockedResult mincore_locked(u64 addr, u64 pages, u64, u64, u64) {
  u8 vec[kMincorePages];
  const Result<u64> result = core().mincore(space(), VirtAddr(addr), PageCount(pages), vec);
  if (!result.ok()) return locked_result(result);
  u64 bits = 0;
  for (u64 i = 0; i < pages; ++i) bits |= u64{vec[i] & 1U} << i;
  return {bits, 0};
}

// Length in bytes of the part at `addr` that is all foreign, or all managed.
LockedResult run_locked(u64 addr, u64 pages, u64, u64, u64) {
  bool foreign = false;
  const u64 run = host().mmu().foreign_run(VirtAddr(addr), PageCount(pages), &foreign);
  return {run << 1 | (foreign ? 1 : 0), 0};
}

// Applies `managed` to the managed parts of a range inside the region and `kernel_call` to the
// foreign ones, in order, until one fails.
template <class KernelCall>
i64 for_parts(u64 addr, u64 length, LockedFunction managed, u64 argument, KernelCall kernel_call) {
  u64 left = round_up(length);
  while (left > 0) {
    const u64 got = static_cast<u64>(call_engine(run_locked, addr, left >> kPageShift));
    const u64 bytes = (got >> 1) << kPageShift;
    const i64 result =
        (got & 1) != 0 ? kernel_call(addr, bytes) : call_engine(managed, addr, bytes, argument);
    if (sys::failed(result)) return result;
    addr += bytes;
    left -= bytes;
  }
  return 0;
}

enum class Range : u8 { kernel, managed, invalid };

// Where a call on [addr, addr+length) belongs. A range that begins outside the region and ends
// in it, or the other way round, belongs to nobody.
Range range_of(u64 addr, u64 length) {
  if (!engine_ready()) return Range::kernel;
  const u64 bytes = round_up(length);
  if (bytes < length || addr + bytes < addr) return Range::kernel;  // the kernel says EINVAL
  if (is_managed(addr, bytes)) return bytes == 0 ? Range::kernel : Range::managed;
  return bytes != 0 && touches_managed(addr, bytes) ? Range::invalid : Range::kernel;
}

bool is_anonymous_private(int flags) {
  constexpr int kKernelOnly = MAP_GROWSDOWN | MAP_HUGETLB | MAP_32BIT;
  constexpr int kType = 0x0f;
  return (flags & MAP_ANONYMOUS) != 0 && (flags & kType) == MAP_PRIVATE &&
         (flags & kKernelOnly) == 0;
}

i64 do_mmap(u64 addr, u64 length, int prot, int flags, int fd, u64 offset) {
  const bool fixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0;
  const Range range = fixed ? range_of(addr, length) : Range::kernel;
  if (range == Range::invalid) return -EINVAL;
  const u64 prot_bits = static_cast<u32>(prot);
  const u64 flag_bits = static_cast<u32>(flags);
  if (is_anonymous_private(flags) && engine_ready()) {
    // A fixed place outside the region is the program's own business with the kernel.
    if (fixed && range != Range::managed) return sys::mmap(addr, length, prot, flags, fd, offset);
    if (length == 0 || (fixed && (addr & kPageMask) != 0)) return -EINVAL;
    const u64 hint = fixed || is_managed(addr, length) ? addr : 0;
    return call_engine(mmap_locked, hint, length, prot_bits, flag_bits);
  }
  if (range == Range::managed) {
    if ((addr & kPageMask) != 0) return -EINVAL;
    return call_engine(mmap_foreign_locked, addr, length, prot_bits | flag_bits << 32,
                       static_cast<u64>(static_cast<i64>(fd)), offset);
  }
  return sys::mmap(addr, length, prot, flags, fd, offset);
}

i64 do_munmap(u64 addr, u64 length) {
  switch (range_of(addr, length)) {
    case Range::kernel: return sys::munmap(addr, length);
    case Range::invalid: return -EINVAL;
    case Range::managed: break;
  }
  if ((addr & kPageMask) != 0) return -EINVAL;
  return call_engine(munmap_locked, addr, length);
}

i64 do_mprotect(u64 addr, u64 length, int prot) {
  switch (range_of(addr, length)) {
    case Range::kernel: return sys::mprotect(addr, length, prot);
    case Range::invalid: return -ENOMEM;
    case Range::managed: break;
  }
  constexpr int kKnown = PROT_READ | PROT_WRITE | PROT_EXEC;
  if ((addr & kPageMask) != 0 || (prot & ~kKnown) != 0) return -EINVAL;
  return for_parts(addr, length, mprotect_locked, static_cast<u64>(prot),
                   [prot](u64 at, u64 bytes) { return sys::mprotect(at, bytes, prot); });
}

i64 do_madvise(u64 addr, u64 length, int advice) {
  constexpr int kDontneedLocked = 24;
  switch (range_of(addr, length)) {
    case Range::kernel: return sys::madvise(addr, length, advice);
    case Range::invalid: return -ENOMEM;
    case Range::managed: break;
  }
  if ((addr & kPageMask) != 0) return -EINVAL;
  const auto kernel = [advice](u64 at, u64 bytes) { return sys::madvise(at, bytes, advice); };
  switch (advice) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_COLD:
    case MADV_PAGEOUT:
      return for_parts(addr, length, madvise_locked, static_cast<u64>(advice), kernel);
    case kDontneedLocked:
      return for_parts(addr, length, madvise_locked, static_cast<u64>(MADV_DONTNEED), kernel);
    // Hints that the engine answers for itself: huge and merged pages cannot be moved, and what
    // is dumped or inherited is decided for the region as a whole.
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_MERGEABLE:
    case MADV_UNMERGEABLE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
    case MADV_DOFORK:
    case MADV_KEEPONFORK: return 0;
    // Promises that the engine cannot keep: programs know a refusal from older kernels.
    default: return -EINVAL;
  }
}

i64 do_mremap(u64 old_addr, u64 old_length, u64 new_length, int flags, u64 new_addr) {
  const bool fixed = (flags & MREMAP_FIXED) != 0;
  const Range old_range = range_of(old_addr, old_length);
  const Range new_range = fixed ? range_of(new_addr, new_length) : old_range;
  if (old_range == Range::kernel && new_range == Range::kernel) {
    return sys::call(SYS_mremap, old_addr, old_length, new_length, flags, new_addr);
  }
  constexpr int kKnown = MREMAP_MAYMOVE | MREMAP_FIXED;
  // Across the border of the region nothing can move, and a file mapped inside it stays there.
  if (old_range != Range::managed || new_range != Range::managed || (flags & ~kKnown) != 0 ||
      (old_addr & kPageMask) != 0 || new_length == 0) {
    return -EINVAL;
  }
  const u64 pages = round_up(old_length) >> kPageShift;
  const u64 run = static_cast<u64>(call_engine(run_locked, old_addr, pages));
  if ((run & 1) != 0 || run >> 1 != pages) {
    if (round_up(new_length) > round_up(old_length) || fixed) return -ENOMEM;
    if (round_up(new_length) == round_up(old_length)) return static_cast<i64>(old_addr);
    const i64 cut = call_engine(munmap_locked, old_addr + round_up(new_length),
                                round_up(old_length) - round_up(new_length));
    return sys::failed(cut) ? cut : static_cast<i64>(old_addr);
  }
  return call_engine(mremap_locked, old_addr, old_length, new_length, static_cast<u64>(flags),
                     new_addr);
}

i64 do_mlock(u64 addr, u64 length, LockedFunction managed, i64 number, u64 flags) {
  // Unlike the others, these calls round the address down themselves.
  const u64 start = addr & ~kPageMask;
  switch (range_of(start, length + (addr & kPageMask))) {
    case Range::kernel:
    case Range::invalid: return sys::call(number, addr, length, flags);
    case Range::managed: break;
  }
  return for_parts(
      start, length + (addr & kPageMask), managed, 0,
      [number, flags](u64 at, u64 bytes) { return sys::call(number, at, bytes, flags); });
}

i64 do_mincore(u64 addr, u64 length, u8* vec) {
  switch (range_of(addr, length)) {
    case Range::kernel: return sys::mincore(addr, length, vec);
    case Range::invalid: return -ENOMEM;
    case Range::managed: break;
  }
  if ((addr & kPageMask) != 0) return -EINVAL;
  const u64 pages = round_up(length) >> kPageShift;
  for (u64 done = 0; done < pages;) {
    const u64 part = pages - done < kMincorePages ? pages - done : kMincorePages;
    const u64 at = addr + (done << kPageShift);
    // Not through call_engine: 64 ones are an answer here, not an errno.
    const LockedResult bits = locked_call(mincore_locked, at, part);
    if (bits.status == kMustWait) continue;
    if (bits.status != 0) return -static_cast<i64>(bits.status);
    for (u64 i = 0; i < part; ++i) vec[done + i] = static_cast<u8>(bits.value >> i & 1);
    done += part;
  }
  return 0;
}

}  // namespace

void* call_mmap(void* addr, std::size_t length, int prot, int flags, int fd, off_t offset) {
  if ((static_cast<u64>(offset) & kPageMask) != 0) return returned_address(-EINVAL);
  return returned_address(do_mmap(arg(addr), length, prot, flags, fd, static_cast<u64>(offset)));
}
int call_munmap(void* addr, std::size_t length) { return returned(do_munmap(arg(addr), length)); }
int call_mprotect(void* addr, std::size_t length, int prot) {
  return returned(do_mprotect(arg(addr), length, prot));
}
int call_madvise(void* addr, std::size_t length, int advice) {
  return returned(do_madvise(arg(addr), length, advice));
}
void* call_mremap(void* old_addr, std::size_t old_length, std::size_t new_length, int flags,
                  void* new_addr) {
  return returned_address(do_mremap(arg(old_addr), old_length, new_length, flags, arg(new_addr)));
}
int call_mlock(const void* addr, std::size_t length) {
  return returned(do_mlock(arg(addr), length, mlock_locked, SYS_mlock, 0));
}
int call_mlock2(const void* addr, std::size_t length, unsigned flags) {
  // Locking on fault is locking of what gets there: for the engine the same.
  return returned(do_mlock(arg(addr), length, mlock_locked, SYS_mlock2, flags));
}
int call_munlock(const void* addr, std::size_t length) {
  return returned(do_mlock(arg(addr), length, munlock_locked, SYS_munlock, 0));
}
int call_mincore(void* addr, std::size_t length, unsigned char* vec) {
  return returned(do_mincore(arg(addr), length, vec));
}

int call_mlockall(int flags) {
  // Under a budget that is smaller than the program, "all" cannot be kept in RAM; saying so is
  // what the kernel does when RLIMIT_MEMLOCK is too small.
  if (!engine_ready()) return returned(sys::call(SYS_mlockall, flags));
  return returned(-ENOMEM);
}
int call_munlockall() {
  if (!engine_ready()) return returned(sys::call(SYS_munlockall));
  return 0;  // nothing can have been locked by mlockall; single locks are munlock's business
}

int call_pkey_mprotect(void* addr, std::size_t length, int prot, int pkey) {
  if (pkey == -1) return call_mprotect(addr, length, prot);
  if (range_of(arg(addr), length) == Range::kernel) {
    return returned(sys::call(SYS_pkey_mprotect, addr, length, prot, pkey));
  }
  return returned(-EINVAL);
}

int call_brk(void* addr) {
  const i64 now = call_engine(brk_locked, arg(addr));
  if (sys::failed(now)) return returned(-ENOMEM);
  __curbrk = reinterpret_cast<void*>(now);
  return now < static_cast<i64>(arg(addr)) ? returned(-ENOMEM) : 0;
}

void take_over_brk() { call_brk(nullptr); }

}  // namespace spillway
