#include "sim_case.h"

namespace spillway::sim {
namespace {

constexpr harness::SetupField<Setup> kSetupFields[] = {
#define X(id, value, text) {#id, &Setup::id},
    SPW_SIM_SETUP(X)
#undef X
};

}  // namespace

SimConfig Setup::machine() const {
  SimConfig c;
  c.seed = seed;
  c.frames = PageCount(frames);
  c.budget = PageCount(budget);
  c.cpus = static_cast<u32>(cpus);
  c.features = Features{.accessed_bit = accessed_bit != 0,
                        .dirty_bit = dirty_bit != 0,
                        .frame_bytes_while_mapped = bytes_while_mapped != 0,
                        .zero_page = zero_page != 0};
  c.disk_pages = PageCount(disk_pages);
  c.disk_latency_min_ns = latency_min_ns;
  c.disk_latency_max_ns = latency_max_ns;
  c.busy_one_in = static_cast<u32>(busy_one_in);
  c.quota_short_one_in = static_cast<u32>(quota_short_one_in);
  return c;
}

Config Setup::system() const {
  Config c;
  c.pool_max = PageCount(pool_max);
  c.slots_max = slots_max;
  c.commit_max = PageCount(commit_max);
  c.readahead_min = static_cast<u32>(readahead_min);
  c.readahead_max = static_cast<u32>(readahead_max);
  c.fresh_around_max = static_cast<u32>(fresh_around);
  c.mlock_max = PageCount(mlock_max);
  return c;
}

std::string print(const Setup& setup) { return harness::print_setup<Setup>(setup, kSetupFields); }

std::optional<SimCase> parse_case(const std::string& text, std::string* problem) {
  constexpr harness::CaseLanguage<Setup, Op> kLanguage{kSetupFields, kOps, &Setup::tasks,
                                                       "there is no such task"};
  return kLanguage.parse(text, problem);
}

}  // namespace spillway::sim
