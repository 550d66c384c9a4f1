// The reading half of SimMmu: page-table walks, accesses of programs, and the comparison of the
// tables with the mirror. sim_mmu.cc has the calls of the port.

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "machine_sim/sim_mmu.h"

namespace spillway {
namespace {

// An entry of an inner level leads to a table or nowhere.
void check_inner(Pte pte) {
  if (!pte.none() && !pte.is(Pte::Kind::table)) SPW_PANIC("sim: a leaf entry in an inner table");
}

bool grants(Pte pte, Access access) {
  if (pte.protnone()) return false;
  switch (access) {
    case Access::read: return true;
    case Access::write: return pte.writable();
    case Access::exec: return pte.executable();
  }
  return false;
}

}  // namespace

const Pte* SimMmu::table(Pfn pfn) const {
  if (frames_.state(pfn) != SimFrames::State::home) {
    SPW_PANIC("sim: a page table lies in a frame that is offline or mapped");
  }
  return reinterpret_cast<const Pte*>(frames_.bytes(pfn));
}

Pte* SimMmu::slot(SpaceId space, Vpn vpn) const {
  const auto root = roots_.find(space.v);
  if (root == roots_.end() || vpn >= kVpnEnd) return nullptr;
  Pfn pfn = root->second;
  for (u32 level = kTableLevels - 1; level > 0; --level) {
    const Pte pte = table(pfn)[table_index(vpn, level)];
    check_inner(pte);
    if (pte.none()) return nullptr;
    pfn = pte.pfn();
  }
  return const_cast<Pte*>(table(pfn)) + table_index(vpn, 0);
}

Pte SimMmu::entry(SpaceId space, Vpn vpn) const {
  const Pte* pte = slot(space, vpn);
  return pte == nullptr ? Pte{} : *pte;
}

// A cached translation must not grant more than the tables do now, and must not be dirty where
// they are clean: then an invalidation of the real machine's TLB would be missing, and a program
// would write where it may not, or without leaving a dirty bit.
void SimMmu::check_tlb(u32 cpu, SpaceId space, Vpn vpn, Pte fresh) const {
  const TlbEntry& e = tlb_[u64{cpu} * kTlbEntries + vpn.v % kTlbEntries];
  if (e.space != space || e.vpn != vpn) return;
  if (!fresh.is(Pte::Kind::present) || fresh.pfn() != e.pte.pfn() ||
      (e.pte.writable() && !fresh.writable()) || (e.pte.executable() && !fresh.executable()) ||
      (e.pte.dirty() && !fresh.dirty()) || (!e.pte.protnone() && fresh.protnone())) {
    SPW_PANIC("sim: stale translation, an entry changed without a call of the Mmu");
  }
}

void SimMmu::fill_tlb(u32 cpu, SpaceId space, Vpn vpn, Pte pte) {
  tlb_[u64{cpu} * kTlbEntries + vpn.v % kTlbEntries] = TlbEntry{space, vpn, pte};
}

u8* SimMmu::translate(u32 cpu, SpaceId space, VirtAddr va, Access access) {
  const Vpn vpn = va.vpn();
  Pte* where = slot(space, vpn);
  const Pte pte = where == nullptr ? Pte{} : *where;
  check_tlb(cpu, space, vpn, pte);
  const std::string difference = pte_difference(space, vpn, pte);
  if (!difference.empty()) SPW_PANIC(difference.c_str());
  if (pte.is(Pte::Kind::zero)) {
    if (!features_.zero_page) SPW_PANIC("sim: a zero-page entry on a machine without one");
    return access == Access::read ? zeros_ : nullptr;
  }
  if (!pte.is(Pte::Kind::present) || !grants(pte, access)) return nullptr;
  if (features_.accessed_bit) *where = where->with_accessed(true);
  if (features_.dirty_bit && access == Access::write) *where = where->with_dirty(true);
  fill_tlb(cpu, space, vpn, *where);
  const Mapping* m = find(space, vpn);
  return m->bytes != nullptr ? m->bytes.get() : frames_.bytes(pte.pfn());
}

std::optional<SimFault> SimMmu::access(u32 cpu, SpaceId space, VirtAddr va, Access access,
                                       void* out, const void* data, u64 bytes) {
  SPW_ASSERT_LT(u64{cpu} * kTlbEntries, tlb_.size());
  for (u64 done = 0; done < bytes;) {
    const VirtAddr at = va + done;
    const u64 offset = at.v & kPageMask;
    const u64 chunk = std::min(bytes - done, kPageSize - offset);
    u8* page = translate(cpu, space, at, access);
    if (page == nullptr) return SimFault{at, access};
    if (data != nullptr) {
      std::memcpy(page + offset, static_cast<const u8*>(data) + done, chunk);
    } else {
      std::memcpy(static_cast<u8*>(out) + done, page + offset, chunk);
    }
    done += chunk;
  }
  return std::nullopt;
}

std::optional<SimFault> SimMmu::load(u32 cpu, SpaceId space, VirtAddr va, void* out, u64 bytes) {
  return access(cpu, space, va, Access::read, out, nullptr, bytes);
}

std::optional<SimFault> SimMmu::store(u32 cpu, SpaceId space, VirtAddr va, const void* data,
                                      u64 bytes) {
  return access(cpu, space, va, Access::write, nullptr, data, bytes);
}

std::optional<SimFault> SimMmu::fetch(u32 cpu, SpaceId space, VirtAddr va, void* out, u64 bytes) {
  return access(cpu, space, va, Access::exec, out, nullptr, bytes);
}

// What is wrong between one entry and the mirror, in words; empty when nothing is.
std::string SimMmu::pte_difference(SpaceId space, Vpn vpn, Pte pte) const {
  const Mapping* m = find(space, vpn);
  const char* what = nullptr;
  if (pte.is(Pte::Kind::zero)) {
    if (m != nullptr && !m->pfn.valid()) return {};
    what = "a zero-page entry without its mapping";
  } else if (!pte.is(Pte::Kind::present)) {
    if (m == nullptr) return {};
    what = "a page is mapped that the tables do not show as present";
  } else if (m == nullptr) {
    what = "a present entry was never mapped";
  } else if (m->pfn != pte.pfn()) {
    what = "a present entry and the mapping name different frames";
  } else if (m->prot == Prot::none && !pte.protnone()) {
    what = "a page is mapped where nothing is permitted";
  } else if (!features_.frame_bytes_while_mapped &&
             (pte.writable() != allows(m->prot, Prot::write) ||
              pte.executable() != allows(m->prot, Prot::exec))) {
    what = "a present entry and the mapping grant different rights";
  } else if ((pte.writable() && !allows(m->prot, Prot::write)) ||
             (pte.executable() && !allows(m->prot, Prot::exec))) {
    what = "a present entry grants more than the mapping";
  } else {
    return {};
  }
  char text[200];
  std::snprintf(text, sizeof text, "%s: space %u, page 0x%llx, entry 0x%llx, frame %lld", what,
                unsigned{space.v}, static_cast<unsigned long long>(vpn.v),
                static_cast<unsigned long long>(pte.bits()),
                m == nullptr ? -1LL : static_cast<long long>(m->pfn.v));
  return text;
}

std::string SimMmu::table_difference(SpaceId space, Pfn pfn, Vpn base, u32 level,
                                     u64* present) const {
  const Pte* entries = table(pfn);
  for (u32 i = 0; i < kTableEntries; ++i) {
    const Pte pte = entries[i];
    if (pte.none()) continue;
    const Vpn vpn = base + (u64{i} << (kTableBits * level));
    if (level != 0) {
      check_inner(pte);
      std::string text = table_difference(space, pte.pfn(), vpn, level - 1, present);
      if (!text.empty()) return text;
    } else {
      *present += pte.is(Pte::Kind::present) || pte.is(Pte::Kind::zero) ? 1 : 0;
      std::string text = pte_difference(space, vpn, pte);
      if (!text.empty()) return text;
    }
  }
  return {};
}

std::string SimMmu::mirror_difference() const {
  u64 present = 0;
  for (const auto& [space, root] : roots_) {
    std::string text = table_difference(SpaceId(space), root, Vpn(0), kTableLevels - 1, &present);
    if (!text.empty()) return text;
  }
  // Every present entry is mapped; when the numbers are equal too, nothing else is.
  if (present == mirror_.size()) return {};
  const u64 page_mask = (u64{1} << 48) - 1;
  u64 lowest = ~u64{0};
  for (const auto& [k, m] : mirror_) {
    const Pte pte = entry(SpaceId(static_cast<u16>(k >> 48)), Vpn(k & page_mask));
    if (!pte.is(Pte::Kind::present) && !pte.is(Pte::Kind::zero)) lowest = std::min(lowest, k);
  }
  return pte_difference(SpaceId(static_cast<u16>(lowest >> 48)), Vpn(lowest & page_mask), Pte{});
}

}  // namespace spillway
