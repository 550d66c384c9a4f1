// HostMmu: protections, traps and foreign mappings.
#include <sys/mman.h>

#include "machine_host/host_mmu.h"
#include "machine_host/stop.h"
#include "machine_host/syscalls.h"

namespace spillway {

// What the kernel's mapping must permit so that a present page binds as `prot` says. Executable
// pages are readable: the engine reads them to copy them out.
u8 HostMmu::kernel_prot_of(Prot prot) {
  if (allows(prot, Prot::exec)) {
    return allows(prot, Prot::write) ? PROT_READ | PROT_WRITE | PROT_EXEC : PROT_READ | PROT_EXEC;
  }
  return prot == Prot::read ? PROT_READ : kSoft;
}

namespace {

int bits_of(u8 kernel_prot, u8 soft) {
  return kernel_prot == soft ? PROT_READ | PROT_WRITE : kernel_prot;
}

}  // namespace

bool HostMmu::differs_in(u64 va, u64 pages, u8 kernel_prot) const {
  u64 first = page_index(va);
  u64 last = first + pages;
  if (kernel_prot == kSoft) {
    if (first < hard_low_) first = hard_low_;
    if (last > hard_high_) last = hard_high_;
  }
  for (u64 i = first; i < last; ++i) {
    if (prots_[i] != kernel_prot) return true;
  }
  return false;
}

Status HostMmu::set_prot(u64 va, u64 pages, u8 kernel_prot) {
  if (!differs_in(va, pages, kernel_prot)) return kOk;
  clear_poison(va, pages);
  const u64 first = page_index(va);
  if (sys::mprotect(va, pages << kPageShift, bits_of(kernel_prot, kSoft)) != 0) {
    // The kernel may have changed a part of the range: put every run back as it was. Undoing
    // merges mappings, so it does not meet the limit that stopped us.
    for (u64 i = 0; i < pages;) {
      const u8 old = prots_[first + i];
      u64 run = 1;
      while (i + run < pages && prots_[first + i + run] == old) ++run;
      const int bits = old == kTrap ? PROT_NONE : bits_of(old, kSoft);
      sys::mprotect(va + (i << kPageShift), run << kPageShift, bits);
      i += run;
    }
    return Error::no_memory;
  }
  set_bytes(va, pages, kernel_prot);
  return kOk;
}

void HostMmu::set_bytes(u64 va, u64 pages, u8 kernel_prot) {
  u64 from = page_index(va);
  u64 to = from + pages;
  if (kernel_prot == kSoft) {
    if (from < hard_low_) from = hard_low_;
    if (to > hard_high_) to = hard_high_;
  } else {
    if (from < hard_low_) hard_low_ = from;
    if (to > hard_high_) hard_high_ = to;
  }
  for (u64 i = from; i < to; ++i) prots_[i] = kernel_prot;
}

void HostMmu::mark_foreign(VirtAddr start, PageCount count) {
  any_foreign_ = true;
  set_bytes(start.v, count.v, kForeign);
}

u64 HostMmu::foreign_run(VirtAddr start, PageCount count, bool* foreign) const {
  *foreign = false;
  if (!any_foreign_) return count.v;
  const u64 first = page_index(start.v);
  *foreign = prots_[first] == kForeign;
  u64 run = 1;
  while (run < count.v && (prots_[first + run] == kForeign) == *foreign) ++run;
  return run;
}

void HostMmu::ensure_prot(u64 va, u64 pages, u8 kernel_prot) {
  if (set_prot(va, pages, kernel_prot).ok()) return;
  stop_internal("the system allows no more mappings (vm.max_map_count)", va, pages);
}

Status HostMmu::protect(SpaceId, VirtAddr start, PageCount count, Prot prot) {
  SPW_ASSERT(region_.start <= start.vpn() && start.vpn() + count.v <= region_.end);
  return set_prot(start.v, count.v, kernel_prot_of(prot));
}

// A poisoned page is an entry of the page table that must go before a page can come.
void HostMmu::clear_poison(u64 va, u64 pages) {
  for (u64 trap : traps_) {
    if (trap == 0 || trap < va || trap >= va + (pages << kPageShift)) continue;
    u8& prot = prots_[page_index(trap)];
    if (prot != kPoison) continue;
    sys::madvise(trap, kPageSize, MADV_DONTNEED);
    prot = kSoft;
  }
}

// Missing pages of any area fault into the handler, which knows the area: so taking a trap away
// is always safe, it can only make the same decision fall again.
void HostMmu::untrap(u64 va) {
  const u8 prot = prots_[page_index(va)];
  if (prot != kTrap && prot != kPoison) return;
  ensure_prot(va, 1, kSoft);
}

void HostMmu::trap(VirtAddr va, TrapKind kind) {
  const u64 page = va.v & ~kPageMask;
  const u64 index = page_index(page);
  if (prots_[index] == kTrap || prots_[index] == kPoison) return;
  u64& place = traps_[next_trap_++ % kTrapsMax];
  if (place != 0) untrap(place);
  place = page;
  if (kind == TrapKind::bus && (features_ & kUffdFeaturePoison) != 0 &&
      uffd_poison(uffd_, page, kPageSize) == 0) {
    prots_[index] = kPoison;
  } else {
    if (sys::mprotect(page, kPageSize, PROT_NONE) != 0) {
      stop_internal("a bad access could not be reported to the program", va.v);
    }
    prots_[index] = kTrap;
  }
  set_bytes(page, 1, prots_[index]);
}

void HostMmu::forget_traps(VirtAddr start, PageCount count) {
  for (u64& trap : traps_) {
    if (trap < start.v || trap >= start.v + count.bytes()) continue;
    untrap(trap);
    trap = 0;
  }
}

u64 HostMmu::debug_trap_count() const {
  u64 count = 0;
  for (u64 trap : traps_) {
    if (trap == 0) continue;
    const u8 prot = prots_[page_index(trap)];
    count += prot == kTrap || prot == kPoison ? 1 : 0;
  }
  return count;
}

void HostMmu::refresh(SpaceId, VirtAddr, u32) {
  SPW_PANIC("host: refresh of entries on a machine whose MMU keeps no rights or bits in them");
}

void HostMmu::restore(SpaceId, VirtAddr start, PageCount count) {
  SPW_ASSERT(region_.start <= start.vpn() && start.vpn() + count.v <= region_.end);
  // Inaccessible until it is registered: a page that the kernel supplied by itself would be
  // outside the budget and would collide with the page that the engine puts there later.
  const i64 at = sys::mmap(start.v, count.bytes(), PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED);
  i64 result = sys::failed(at) ? at : 0;
  if (result == 0) {
    sys::madvise(start.v, count.bytes(), MADV_NOHUGEPAGE);
    sys::madvise(start.v, count.bytes(), MADV_DONTFORK);
    result = uffd_register(uffd_, start.v, count.bytes(), register_mode());
  }
  if (result == 0) result = sys::mprotect(start.v, count.bytes(), PROT_READ | PROT_WRITE);
  if (result != 0) stop_internal("a range could not be managed again", start.v, count.v);
  set_bytes(start.v, count.v, kSoft);
}

}  // namespace spillway
