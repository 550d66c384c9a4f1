#include "ksim_case.h"

namespace spillway::ksim {
namespace {

constexpr harness::SetupField<Setup> kSetupFields[] = {
#define X(id, value, text) {#id, &Setup::id},
    SPW_KSIM_SETUP(X)
#undef X
};

}  // namespace

SimConfig Setup::machine() const {
  SimConfig c;
  c.seed = seed;
  c.frames = PageCount(frames);
  c.cpus = static_cast<u32>(cpus);
  c.features.accessed_bit = accessed_bit != 0;
  c.features.zero_page = zero_page != 0;
  c.disk_pages = PageCount(disk_pages);
  c.block_pages.push_back(file_pages);
  const u64 swaps[] = {swap1, swap2, swap3};
  for (u32 i = 0; i + 1 < devices(); ++i) c.block_pages.push_back(swaps[i]);
  c.disk_latency_min_ns = latency_min_ns;
  c.disk_latency_max_ns = latency_max_ns;
  c.busy_one_in = static_cast<u32>(busy_one_in);
  return c;
}

KernelConfig Setup::kernel() const {
  KernelConfig c;
  c.mm.policy = static_cast<Policy>(policy);
  c.mm.swap_readahead = cluster != 0 ? SwapReadahead::cluster : SwapReadahead::streams;
  c.mm.page_cluster = static_cast<u32>(page_cluster);
  c.mm.watermark_min = PageCount(watermark);
  c.mm.watermark_low = PageCount(2 * watermark);
  c.mm.watermark_high = PageCount(3 * watermark);
  c.mm.pool_max = PageCount(pool_max);
  c.mm.slots_max = slots_max;
  c.mm.readahead_min = static_cast<u32>(readahead_min);
  c.mm.readahead_max = static_cast<u32>(readahead_max);
  c.mm.fresh_around_max = static_cast<u32>(fresh_around);
  c.mm.mlock_max = PageCount(mlock_max);
  c.layout = modern != 0 ? Layout::modern : Layout::classic;
  c.strict_stack = strict_stack != 0;
  c.stack_guard_gap = PageCount(guard_gap);
  c.overcommit = static_cast<Overcommit>(overcommit);
  c.overcommit_ratio = static_cast<u32>(overcommit_ratio);
  c.map_count_max = static_cast<u32>(map_count_max);
  c.file_device = 0;
  return c;
}

std::string print(const Setup& setup) { return harness::print_setup<Setup>(setup, kSetupFields); }

std::optional<KsimCase> parse_case(const std::string& text, std::string* problem) {
  constexpr harness::CaseLanguage<Setup, Op> kLanguage{kSetupFields, kOps, &Setup::slots,
                                                       "there is no such slot"};
  return kLanguage.parse(text, problem);
}

}  // namespace spillway::ksim
