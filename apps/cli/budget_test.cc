// Goal: every number of a run is what the manual says, and every refusal names the setting, the
// limit and the remedy.
#include "cli/budget.h"

#include "cli/test_support.h"

namespace spillway {
namespace {

constexpr u64 kMiB = u64{1} << 20;

HostFacts host(u64 usable_mib = 1000, u64 disk_mib = 100'000) {
  return HostFacts{
      {usable_mib * kMiB, "the RAM of this machine"}, 16384 * kMiB, disk_mib * kMiB, "/var/tmp"};
}
Setting ram(const char* text) { return {text, "--ram"}; }
Setting swap_ram(const char* text) { return {text, "--swap-ram"}; }
Setting swap_max(const char* text) { return {text, "--swap-max"}; }

TEST(Budget, compressed_pages_live_inside_the_ram) {
  const Budget budget = compute_budget({ram("96M"), {}, {}, {}}, host());
  EXPECT_EQ(budget.ram_bytes, 96 * kMiB);
  EXPECT_EQ(budget.frames_total, 96 * kMiB / kPageSize);
  EXPECT_EQ(budget.pool_frames_max, budget.frames_total / 2);
  EXPECT_FALSE(budget.swap_ram_given);
}

TEST(Budget, swap_ram_is_additional) {
  const Budget budget = compute_budget({ram("96M"), swap_ram("32M"), {}, {}}, host());
  EXPECT_EQ(budget.frames_total, 128 * kMiB / kPageSize);
  EXPECT_EQ(budget.pool_frames_max, 32 * kMiB / kPageSize);
}

TEST(Budget, default_is_a_share_of_what_is_usable) {
  EXPECT_EQ(compute_budget({}, host(1000)).ram_bytes, 800 * kMiB);
  EXPECT_EQ(compute_budget({ram("auto"), {}, {}, {}}, host(1000)).ram_bytes, 800 * kMiB);
  // With --swap-ram both together are the share.
  EXPECT_EQ(compute_budget({{}, swap_ram("100M"), {}, {}}, host(1000)).ram_bytes, 700 * kMiB);
}

TEST(Budget, percentages) {
  EXPECT_EQ(compute_budget({ram("50%"), {}, {}, {}}, host(1000)).ram_bytes, 500 * kMiB);
  EXPECT_EQ(compute_budget({ram("96M"), {}, swap_max("10%"), {}}, host()).swap_max_bytes,
            10'000 * kMiB);
}

TEST(Budget, swap_max_defaults_to_the_smaller_share) {
  EXPECT_EQ(compute_budget({ram("96M"), {}, {}, {}}, host(1000, 100'000)).swap_max_bytes,
            768 * kMiB);
  EXPECT_EQ(compute_budget({ram("96M"), {}, {}, {}}, host(1000, 1000)).swap_max_bytes, 500 * kMiB);
  EXPECT_EQ(compute_budget({ram("96M"), {}, swap_max("0"), {}}, host()).swap_max_bytes, 0u);
}

TEST(Budget, disk_is_wanted_unless_swap_max_is_zero) {
  EXPECT_TRUE(wants_disk({}));
  EXPECT_TRUE(wants_disk({{}, {}, swap_max("auto"), {}}));
  EXPECT_TRUE(wants_disk({{}, {}, swap_max("10G"), {}}));
  EXPECT_FALSE(wants_disk({{}, {}, swap_max("0"), {}}));
  EXPECT_FALSE(wants_disk({{}, {}, swap_max("0.0G"), {}}));
}

TEST(Budget, unknown_suffix_names_setting_and_units) {
  const Thrown thrown = thrown_by([] { compute_budget({ram("512Q"), {}, {}, {}}, host()); });
  EXPECT_EQ(thrown.exit_code, 125);
  EXPECT_TRUE(contains(thrown.line, "--ram '512Q': is not a size; write 512M")) << thrown.line;
}

TEST(Budget, environment_is_named_as_such) {
  const Thrown thrown = thrown_by([] {
    compute_budget({{"x", "SPILLWAY_RAM"}, {}, {}, {}}, host());
  });
  EXPECT_TRUE(contains(thrown.line, "SPILLWAY_RAM 'x'")) << thrown.line;
}

TEST(Budget, too_small_and_too_large) {
  const Thrown small = thrown_by([] { compute_budget({ram("1M"), {}, {}, {}}, host()); });
  EXPECT_EQ(small.line, "--ram 1M: is less than the least of 8 MiB; give --ram at least 8M");
  EXPECT_EQ(compute_budget({ram("8M"), {}, {}, {}}, host()).ram_bytes, 8 * kMiB);
  EXPECT_EQ(thrown_by([] { compute_budget({ram("17T"), {}, {}, {}}, host()); }).exit_code, 125);
  EXPECT_EQ(thrown_by([] {
              compute_budget({ram("1G"), swap_ram("99999999T"), {}, {}}, host());
            }).exit_code,
            125);
  EXPECT_EQ(thrown_by([] {
              compute_budget({ram("99999999999999999999"), {}, {}, {}}, host());
            }).exit_code,
            125);
  EXPECT_EQ(thrown_by([] {
              compute_budget({{}, swap_ram("799M"), {}, {}}, host());
            }).exit_code,
            125);
}

TEST(Budget, warns_of_what_the_kernel_would_not_give) {
  EXPECT_TRUE(compute_budget({ram("96M"), {}, {}, {}}, host()).warnings.empty());
  EXPECT_EQ(compute_budget({ram("2G"), {}, {}, {}}, host(1000)).warnings.size(), 1u);
  EXPECT_EQ(compute_budget({ram("96M"), {}, swap_max("1T"), {}}, host()).warnings.size(), 1u);
  EXPECT_EQ(compute_budget({ram("96M"), swap_ram("0"), swap_max("0"), {}}, host()).warnings.size(),
            1u);
}

TEST(Budget, reserve) {
  EXPECT_EQ(compute_budget({ram("96M"), {}, {}, {}}, host()).reserve_bytes, 0u);
  EXPECT_EQ(compute_budget({ram("96M"), {}, {}, {"16G", "--reserve"}}, host()).reserve_bytes,
            16384 * kMiB);
  EXPECT_EQ(thrown_by([] {
              compute_budget({ram("96M"), {}, {}, {"1M", "--reserve"}}, host());
            }).exit_code,
            125);
}

TEST(Budget, every_number_is_explained) {
  const Budget budget =
      compute_budget({ram("96M"), swap_ram("32M"), {}, {"16G", "--reserve"}}, host());
  EXPECT_EQ(budget.notes.size(), 5u);
}

TEST(Sizes, shown_in_the_largest_unit_that_fits) {
  EXPECT_EQ(show_size(0), "0 B");
  EXPECT_EQ(show_size(1023), "1023 B");
  EXPECT_EQ(show_size(1024), "1 KiB");
  EXPECT_EQ(show_size(1536), "1.5 KiB");
  EXPECT_EQ(show_size(kMiB - 1), "1 MiB");
  EXPECT_EQ(show_size(512 * kMiB), "512 MiB");
  EXPECT_EQ(show_size(~u64{0}), "16 EiB");
  EXPECT_EQ(show_count(0), "0");
  EXPECT_EQ(show_count(999), "999");
  EXPECT_EQ(show_count(1000), "1,000");
  EXPECT_EQ(show_count(1234567), "1,234,567");
}

}  // namespace
}  // namespace spillway
