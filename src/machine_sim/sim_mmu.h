// SimMmu: a software MMU over the core's page tables, plus a mirror of what was mapped through
// the port. Accesses walk the tables, set accessed and dirty bits where the features say so, and
// go through small per-CPU TLBs; every answer is compared with a second source:
//
//   I1  a TLB entry never grants what a fresh walk would not grant, and is not dirty where the
//       entry is clean (a missing flush panics)
//   I2  a present entry and the mirror name the same frame, and the entry grants no more than the
//       mirror; without frame_bytes_while_mapped the rights are the same, because there the
//       mirror is what a real program would see
//   I3  map() finds the address free, the other calls find exactly the frames they name; the
//       zero page is mapped and dropped under the name kNoPfn
//
// Without frame_bytes_while_mapped, mapping moves the frame's bytes into a store per address and
// leaves a pattern at home; unmapping checks the pattern and brings the bytes back.
// Cost: O(pages named); an access is one walk. Not thread-safe.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/prng.h"
#include "machine/features.h"
#include "machine/mmu.h"
#include "machine_sim/fault_plan.h"
#include "machine_sim/sim_config.h"
#include "machine_sim/sim_frames.h"

namespace spillway {

// An access that the MMU cannot complete: what the core's FaultSink is to resolve.
struct SimFault {
  VirtAddr va;
  Access access;
};

class SimMmu final : public Mmu {
 public:
  SimMmu(const SimConfig& config, SimFrames& frames, FaultPlan& plan);
  SimMmu(const SimMmu&) = delete;
  SimMmu& operator=(const SimMmu&) = delete;

  void map(SpaceId space, VirtAddr va, Pfn first, u32 count, Prot prot) override;
  u32 unmap(SpaceId space, VirtAddr va, const Pfn* frames, u32 count, Prot prot) override;
  void drop(SpaceId space, VirtAddr va, const Pfn* frames, u32 count, Prot prot) override;
  void move(SpaceId space, VirtAddr from, VirtAddr to, const Pfn* frames, u32 count,
            Prot prot) override;
  Status protect(SpaceId space, VirtAddr start, PageCount count, Prot prot) override;
  void refresh(SpaceId space, VirtAddr va, u32 count) override;
  void restore(SpaceId space, VirtAddr start, PageCount count) override;
  void wake(SpaceId space, VirtAddr va, PageCount count) override;
  void set_root(SpaceId space, Pfn root) override;

  // A program's access of `bytes` bytes on `cpu`. Pages before the one that faults have been
  // accessed when a fault is returned. nullopt: the access is complete.
  std::optional<SimFault> load(u32 cpu, SpaceId space, VirtAddr va, void* out, u64 bytes);
  std::optional<SimFault> store(u32 cpu, SpaceId space, VirtAddr va, const void* data, u64 bytes);
  std::optional<SimFault> fetch(u32 cpu, SpaceId space, VirtAddr va, void* out, u64 bytes);

  // A device holds the page: unmap stops before it. Pins nest; a dropped page loses them, a
  // moved page keeps them. False: nothing is mapped there.
  bool pin(SpaceId space, Vpn vpn);
  void unpin(SpaceId space, Vpn vpn);
  void unpin_all();
  bool pinned(SpaceId space, Vpn vpn) const;
  bool any_pinned() const;

  // The core's entry for a page; none where a table is missing.
  Pte entry(SpaceId space, Vpn vpn) const;
  bool is_mapped(SpaceId space, Vpn vpn) const;
  // Pages with a frame, a shared one counted at each; those of the zero page are not counted.
  u64 mapped_pages() const { return frames_mapped_; }
  // Mappings that the frame has, in all spaces.
  u32 mappings(Pfn pfn) const { return frames_.mappings(pfn); }
  u64 wakes() const { return wakes_; }

  // Whether the tables and the mirror agree (I2), both ways: O(tables + mapped pages).
  bool mirror_agrees() const { return mirror_difference().empty(); }
  // The first disagreement in words; empty when there is none.
  std::string mirror_difference() const;

 private:
  struct Mapping {
    Pfn pfn;  // none: the zero page
    Prot prot = Prot::none;
    u32 pins = 0;
    std::unique_ptr<u8[]> bytes;  // the page itself, on machines that move it
  };
  struct TlbEntry {
    SpaceId space;  // invalid: unused
    Vpn vpn;
    Pte pte;
  };
  static constexpr u32 kTlbEntries = 16;  // few, so that hits and refills both happen in tests

  static u64 key(SpaceId space, Vpn vpn) {
    SPW_ASSERT_LT(vpn, kVpnEnd);
    return (u64{space.v} << 48) | vpn.v;
  }
  // Where the core keeps the entry; null where a table is missing.
  Pte* slot(SpaceId space, Vpn vpn) const;
  const Pte* table(Pfn pfn) const;
  Mapping& mapping(SpaceId space, Vpn vpn, Pfn frame);
  const Mapping* find(SpaceId space, Vpn vpn) const;
  void take_away(SpaceId space, Vpn vpn, const Mapping& m, bool keep_bytes);
  void flush(SpaceId space, Vpn vpn);
  void flush_range(SpaceId space, Vpn start, PageCount count);
  void check_tlb(u32 cpu, SpaceId space, Vpn vpn, Pte fresh) const;
  void fill_tlb(u32 cpu, SpaceId space, Vpn vpn, Pte pte);
  // The bytes of the page behind `va` if `access` is permitted; null = fault.
  u8* translate(u32 cpu, SpaceId space, VirtAddr va, Access access);
  std::optional<SimFault> access(u32 cpu, SpaceId space, VirtAddr va, Access access, void* out,
                                 const void* data, u64 bytes);
  std::string pte_difference(SpaceId space, Vpn vpn, Pte pte) const;
  std::string table_difference(SpaceId space, Pfn table, Vpn base, u32 level, u64* present) const;

  SimFrames& frames_;
  FaultPlan& plan_;
  Prng prng_;
  const Features features_;
  const u32 busy_one_in_;
  u64 wakes_ = 0;
  u64 frames_mapped_ = 0;
  std::map<u16, Pfn> roots_;
  std::unordered_map<u64, Mapping> mirror_;
  std::vector<TlbEntry> tlb_;  // cpus x kTlbEntries
  u8 zeros_[kPageSize] = {};
};

}  // namespace spillway
