#include "system/user_memory.h"

#include <cstring>

namespace spillway {
namespace {

// Faults in a row on one page: the read, and more for a page that is pushed out before its use.
constexpr u32 kFaultsMax = 8;

// The page's bytes; null for the zero page.
Result<const u8*> page_of_user(SystemImpl& sys, AddressSpace& space, Vpn vpn) {
  if (vpn >= space.range().end) return Error::fault;
  for (u32 attempt = 0; attempt < kFaultsMax; ++attempt) {
    const Area* area = space.find(vpn);
    const Pte entry = space.table().get(vpn);
    const bool readable = area != nullptr && allows(area->prot, Prot::read);
    if (readable && entry.is(Pte::Kind::zero)) return static_cast<const u8*>(nullptr);
    if (readable && entry.is(Pte::Kind::present)) {
      return static_cast<const u8*>(sys.machine.frames.bytes(entry.pfn()));
    }
    switch (sys.fault.handle(space, addr_of(vpn), Access::read, attempt, FaultTask{})) {
      case FaultOutcome::done: break;
      case FaultOutcome::wait: return Error::wait;
      case FaultOutcome::maperr:
      case FaultOutcome::accerr:
      case FaultOutcome::bus: return Error::fault;
      case FaultOutcome::oom: return Error::no_memory;
      case FaultOutcome::corrupt: return Error::corrupt;
    }
  }
  return Error::no_memory;
}

u64 left_in_page(u64 address) { return kPageSize - (address & kPageMask); }

}  // namespace

Status copy_from_user(SystemImpl& sys, AddressSpace& space, VirtAddr from, void* out, u64 bytes) {
  u8* to = static_cast<u8*>(out);
  if (from.v + bytes < from.v) return Error::fault;
  for (u64 at = from.v, end = from.v + bytes; at < end;) {
    const u64 n = end - at < left_in_page(at) ? end - at : left_in_page(at);
    SPW_TRY_ASSIGN(page, page_of_user(sys, space, VirtAddr(at).vpn()));
    if (page == nullptr) {
      std::memset(to, 0, n);
    } else {
      std::memcpy(to, page + (at & kPageMask), n);
    }
    to += n;
    at += n;
  }
  return kOk;
}

Result<u64> strnlen_user(SystemImpl& sys, AddressSpace& space, VirtAddr from, u64 max) {
  for (u64 length = 0; length < max;) {
    const u64 at = from.v + length;
    if (at < from.v) return Error::fault;
    const u64 n = max - length < left_in_page(at) ? max - length : left_in_page(at);
    SPW_TRY_ASSIGN(page, page_of_user(sys, space, VirtAddr(at).vpn()));
    if (page == nullptr) return length + 1;
    const u8* begin = page + (at & kPageMask);
    if (const void* zero = std::memchr(begin, 0, n)) {
      return length + static_cast<u64>(static_cast<const u8*>(zero) - begin) + 1;
    }
    length += n;
  }
  return Error::too_big;
}

}  // namespace spillway
