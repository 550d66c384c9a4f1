#include "machine/conformance.h"

#include "machine_sim/sim_machine.h"
#include "machine_sim/table_builder.h"

namespace spillway {
namespace {

// The simulated machine with tables of its own; `Bits` says which features are on.
template <bool kAccessed, bool kDirty, bool kBytes, bool kShared>
class SimEnvironment {
 public:
  SimEnvironment()
      : sim_(config()), tables_(sim_.machine(), kSpace, with_tables_online(sim_.frames())) {}
  Machine& machine() { return sim_.machine(); }
  SpaceId space() { return kSpace; }
  VirtAddr user_base() { return VirtAddr(0x7f0000000000); }
  void set_pte(VirtAddr va, Pte pte) { tables_.set(va.vpn(), pte); }
  Pte pte(VirtAddr va) { return tables_.get(va.vpn()); }
  void set_sink(FaultSink* sink) { sink_ = sink; }
  bool user_write(VirtAddr va, const void* data, u64 bytes) {
    if (sink_ == nullptr) return !sim_.mmu().store(0, kSpace, va, data, bytes).has_value();
    return sim_.store(*sink_, kSpace, va, data, bytes).outcome == FaultOutcome::done;
  }
  bool user_read(VirtAddr va, void* out, u64 bytes) {
    if (sink_ == nullptr) return !sim_.mmu().load(0, kSpace, va, out, bytes).has_value();
    return sim_.load(*sink_, kSpace, va, out, bytes).outcome == FaultOutcome::done;
  }
  void wait_for_io() { sim_.complete_one(); }

 private:
  static constexpr SpaceId kSpace{1};
  static constexpr u32 kTables = 8;  // a root and three levels for each of two distant ranges
  static constexpr u32 kSuiteFrames = 64;

  static SimConfig config() {
    SimConfig c;
    c.frames = PageCount(kSuiteFrames + kTables);
    c.disk_pages = PageCount(64);
    c.block_pages = {64, 77};
    c.features = Features{.accessed_bit = kAccessed,
                          .dirty_bit = kDirty,
                          .frame_bytes_while_mapped = kBytes,
                          .zero_page = false,
                          .shared_frames = kShared};
    return c;
  }
  static Pfn with_tables_online(Frames& frames) {
    frames.acquire_quota(PageCount(kTables));
    SPW_ASSERT(frames.bring_online(Pfn(kSuiteFrames), PageCount(kTables)).ok());
    return Pfn(kSuiteFrames + kTables);
  }

  SimMachine sim_;
  TableBuilder tables_;
  FaultSink* sink_ = nullptr;
};

// Everything a machine can have, what the host has, and some in between.
using Machines = testing::Types<
    SimEnvironment<true, true, true, true>, SimEnvironment<false, false, false, false>,
    SimEnvironment<true, false, true, false>, SimEnvironment<true, true, false, false>,
    SimEnvironment<false, false, true, true>, SimEnvironment<true, true, true, false>>;

}  // namespace

SPW_MACHINE_CONFORMANCE(Sim, Machines);

}  // namespace spillway
