#include "machine_sim/sim_mmu.h"

#include <algorithm>
#include <cstring>

namespace spillway {
namespace {

// Protections that a machine may leave to the fault handler, so that mappings need no splitting:
// a page is either there with all rights, or not there. Pages that go away may be named with
// any of them.
bool is_soft(Prot p) { return p == Prot::none || p == Prot::write || p == Prot::read_write; }

}  // namespace

SimMmu::SimMmu(const SimConfig& config, SimFrames& frames, FaultPlan& plan)
    : frames_(frames),
      plan_(plan),
      prng_(mix64(config.seed ^ 0x3333)),
      features_(config.features),
      busy_one_in_(config.busy_one_in),
      tlb_(u64{config.cpus} * kTlbEntries) {}

const SimMmu::Mapping* SimMmu::find(SpaceId space, Vpn vpn) const {
  if (vpn >= kVpnEnd) return nullptr;
  const auto it = mirror_.find(key(space, vpn));
  return it == mirror_.end() ? nullptr : &it->second;
}

SimMmu::Mapping& SimMmu::mapping(SpaceId space, Vpn vpn, Pfn frame) {
  const auto it = mirror_.find(key(space, vpn));
  if (it == mirror_.end()) SPW_PANIC("sim: nothing is mapped at the address");
  SPW_ASSERT_EQ(it->second.pfn, frame);
  return it->second;
}

void SimMmu::map(SpaceId space, VirtAddr va, Pfn first, u32 count, Prot prot) {
  SPW_ASSERT(va.page_aligned());
  SPW_ASSERT(space.valid());
  SPW_ASSERT(prot != Prot::none || features_.shared_frames);
  for (u32 i = 0; i < count; ++i) {
    const Vpn vpn = va.vpn() + i;
    const Pfn pfn = first + i;
    const auto [it, added] = mirror_.try_emplace(key(space, vpn));
    if (!added) SPW_PANIC("sim: map over an occupied address");
    Mapping& m = it->second;
    m.prot = prot;
    flush(space, vpn);
    if (!first.valid()) {
      if (!features_.zero_page) SPW_PANIC("sim: mapping the zero page of a machine without one");
      continue;
    }
    frames_.begin_mapping(pfn);
    m.pfn = pfn;
    ++frames_mapped_;
    if (!features_.frame_bytes_while_mapped) {
      m.bytes = std::make_unique<u8[]>(kPageSize);
      std::memcpy(m.bytes.get(), frames_.bytes(pfn), kPageSize);
      std::memset(frames_.bytes(pfn), SimFrames::kMappedPattern, kPageSize);
    }
  }
}

// Ends a mapping that the caller then erases from the mirror; the bytes come home or get lost.
void SimMmu::take_away(SpaceId space, Vpn vpn, const Mapping& m, bool keep_bytes) {
  flush(space, vpn);
  if (!m.pfn.valid()) return;
  u8* home = frames_.bytes(m.pfn);
  frames_.end_mapping(m.pfn);
  --frames_mapped_;
  if (m.bytes != nullptr && !all_bytes_are(home, SimFrames::kMappedPattern)) {
    SPW_PANIC("sim: home bytes of a mapped frame were written");
  }
  if (!keep_bytes) {
    // A shared frame may have other mappings, or belong to a cache after the last of them.
    if (!features_.shared_frames) std::memset(home, SimFrames::kDroppedPattern, kPageSize);
  } else if (m.bytes != nullptr) {
    std::memcpy(home, m.bytes.get(), kPageSize);
  }
}

u32 SimMmu::unmap(SpaceId space, VirtAddr va, const Pfn* frames, u32 count, Prot prot) {
  SPW_ASSERT(va.page_aligned());
  for (u32 i = 0; i < count; ++i) {
    const Vpn vpn = va.vpn() + i;
    const Mapping& m = mapping(space, vpn, frames[i]);
    SPW_ASSERT_EQ(static_cast<u32>(m.prot), static_cast<u32>(prot));
    if (m.pins != 0) return i;
    if (busy_one_in_ != 0 && prng_.one_in(busy_one_in_)) return i;
    take_away(space, vpn, m, true);
    mirror_.erase(key(space, vpn));
  }
  return count;
}

void SimMmu::drop(SpaceId space, VirtAddr va, const Pfn* frames, u32 count, Prot prot) {
  SPW_ASSERT(va.page_aligned());
  for (u32 i = 0; i < count; ++i) {
    const Vpn vpn = va.vpn() + i;
    const Mapping& m = mapping(space, vpn, frames[i]);
    if (m.prot != prot) SPW_ASSERT(is_soft(m.prot) && is_soft(prot));
    take_away(space, vpn, m, false);
    mirror_.erase(key(space, vpn));
  }
}

void SimMmu::move(SpaceId space, VirtAddr from, VirtAddr to, const Pfn* frames, u32 count,
                  Prot prot) {
  SPW_ASSERT(from.page_aligned());
  SPW_ASSERT(to.page_aligned());
  for (u32 i = 0; i < count; ++i) {
    const Vpn source = from.vpn() + i;
    const Vpn target = to.vpn() + i;
    Mapping m = std::move(mapping(space, source, frames[i]));
    SPW_ASSERT_EQ(static_cast<u32>(m.prot), static_cast<u32>(prot));
    mirror_.erase(key(space, source));
    const auto [it, added] = mirror_.try_emplace(key(space, target), std::move(m));
    if (!added) SPW_PANIC("sim: move onto an occupied address");
    flush(space, source);
    flush(space, target);
  }
}

Status SimMmu::protect(SpaceId space, VirtAddr start, PageCount count, Prot prot) {
  SPW_ASSERT(start.page_aligned());
  if (plan_.fires(Failure::protect)) return Error::no_memory;
  const VpnRange range{start.vpn(), start.vpn() + count.v};
  // A range may be far larger than what is mapped, or the other way round.
  auto visit = [&](u64 page, Mapping& m) {
    // Prot::none on a mapped page: it must be dropped, or its entry be marked protnone, before
    // anybody looks (mirror_difference).
    m.prot = prot;
    flush(space, Vpn(page));
  };
  if (count.v <= mirror_.size()) {
    for (u64 page = range.start.v; page < range.end.v; ++page) {
      const auto it = mirror_.find(key(space, Vpn(page)));
      if (it != mirror_.end()) visit(page, it->second);
    }
  } else {
    const u64 page_mask = (u64{1} << 48) - 1;
    for (auto& [k, m] : mirror_) {
      if (k >> 48 == space.v && range.contains(Vpn(k & page_mask))) visit(k & page_mask, m);
    }
  }
  flush_range(space, start.vpn(), count);
  return kOk;
}

void SimMmu::refresh(SpaceId space, VirtAddr va, u32 count) {
  SPW_ASSERT(va.page_aligned());
  SPW_ASSERT(features_.shared_frames || features_.accessed_bit || features_.dirty_bit);
  flush_range(space, va.vpn(), PageCount(count));
}

void SimMmu::restore(SpaceId space, VirtAddr start, PageCount count) {
  SPW_ASSERT(start.page_aligned());
  const VpnRange range{start.vpn(), start.vpn() + count.v};
  const u64 page_mask = (u64{1} << 48) - 1;
  for (const auto& [k, m] : mirror_) {
    if (k >> 48 == space.v && range.contains(Vpn(k & page_mask))) {
      SPW_PANIC("sim: a restored range has a mapped page");
    }
  }
  flush_range(space, start.vpn(), count);
}

void SimMmu::wake(SpaceId space, VirtAddr va, PageCount) {
  SPW_ASSERT(space.valid());
  SPW_ASSERT(va.page_aligned());
  ++wakes_;
}

void SimMmu::set_root(SpaceId space, Pfn root) {
  SPW_ASSERT(space.valid());
  for (TlbEntry& e : tlb_) {
    if (e.space == space) e = TlbEntry{};
  }
  if (root.valid()) {
    roots_[space.v] = root;
    return;
  }
  roots_.erase(space.v);
  for (const auto& [k, m] : mirror_) {
    if (k >> 48 == space.v) SPW_PANIC("sim: a space ends with a mapped page");
  }
}

void SimMmu::flush(SpaceId space, Vpn vpn) {
  for (u64 i = vpn.v % kTlbEntries; i < tlb_.size(); i += kTlbEntries) {
    if (tlb_[i].space == space && tlb_[i].vpn == vpn) tlb_[i] = TlbEntry{};
  }
}

void SimMmu::flush_range(SpaceId space, Vpn start, PageCount count) {
  const VpnRange range{start, start + count.v};
  for (TlbEntry& e : tlb_) {
    if (e.space == space && range.contains(e.vpn)) e = TlbEntry{};
  }
}

bool SimMmu::pin(SpaceId space, Vpn vpn) {
  const auto it = mirror_.find(key(space, vpn));
  if (it == mirror_.end()) return false;
  ++it->second.pins;
  return true;
}

void SimMmu::unpin(SpaceId space, Vpn vpn) {
  const auto it = mirror_.find(key(space, vpn));
  if (it != mirror_.end() && it->second.pins != 0) --it->second.pins;
}

void SimMmu::unpin_all() {
  for (auto& [k, m] : mirror_) m.pins = 0;
}

bool SimMmu::any_pinned() const {
  return std::any_of(mirror_.begin(), mirror_.end(),
                     [](const auto& m) { return m.second.pins != 0; });
}

bool SimMmu::pinned(SpaceId space, Vpn vpn) const {
  const Mapping* m = find(space, vpn);
  return m != nullptr && m->pins != 0;
}

bool SimMmu::is_mapped(SpaceId space, Vpn vpn) const { return find(space, vpn) != nullptr; }

}  // namespace spillway
