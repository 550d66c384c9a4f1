// What the preloaded library understands of its environment, and what it says of the rest.
#include "preload/settings.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "preload/libc_symbols.h"

namespace spillway {
namespace {

class SettingsTest : public testing::Test {
 protected:
  bool read(const std::vector<std::string>& entries) {
    text_ = entries;
    pointers_.clear();
    for (std::string& entry : text_) pointers_.push_back(entry.data());
    pointers_.push_back(nullptr);
    settings_ = Settings{};
    why_ = Message{};
    return read_settings(pointers_.data(), settings_, why_);
  }
  bool budget(const std::vector<std::string>& entries) {
    return read(entries) && compute_own_budget(settings_, budget_, why_);
  }
  bool says(const char* part) { return std::string(why_.c_str()).find(part) != std::string::npos; }

  std::vector<std::string> text_;
  std::vector<char*> pointers_;
  Settings settings_;
  OwnBudget budget_ = {};
  Message why_;
};

TEST_F(SettingsTest, one_variable_per_option) {
  ASSERT_TRUE(read({"HOME=/root", "SPILLWAY_RAM=96M", "SPILLWAY_SWAP_RAM=32M",
                    "SPILLWAY_SWAP_DIR=/swap", "SPILLWAY_SWAP_MAX=1G", "SPILLWAY_LEDGER_FD=901",
                    "SPILLWAY_UFFD_FD=902", "SPILLWAY_STATS=1", "SPILLWAY_RESERVE=2T"}));
  EXPECT_STREQ(settings_.ram, "96M");
  EXPECT_STREQ(settings_.swap_ram, "32M");
  EXPECT_STREQ(settings_.swap_dir, "/swap");
  EXPECT_STREQ(settings_.swap_max, "1G");
  EXPECT_EQ(settings_.ledger_fd, 901);
  EXPECT_EQ(settings_.uffd_fd, 902);
  EXPECT_TRUE(settings_.stats);
  u64 bytes = 0;
  EXPECT_TRUE(reserve_bytes(settings_, bytes, why_));
  EXPECT_EQ(bytes, u64{2} << 40);
}

TEST_F(SettingsTest, all_in_one_variable_and_single_ones_go_first) {
  ASSERT_TRUE(read({"SPILLWAY_OPTIONS=ram=256M,swap-dir=/x,,swap-max=5G", "SPILLWAY_RAM=64M"}));
  EXPECT_STREQ(settings_.ram, "64M");
  EXPECT_STREQ(settings_.swap_dir, "/x");
  EXPECT_STREQ(settings_.swap_max, "5G");
  EXPECT_FALSE(read({"SPILLWAY_OPTIONS=rom=256M"}));
  EXPECT_TRUE(says("rom=256M") && says("swap-ram")) << why_.c_str();
  EXPECT_FALSE(read({"SPILLWAY_OPTIONS=" + std::string(2000, 'x')}));
}

TEST_F(SettingsTest, empty_and_broken_values_are_as_if_unset) {
  ASSERT_TRUE(read({"SPILLWAY_RAM=", "SPILLWAY_LEDGER_FD=", "SPILLWAY_UFFD_FD=9x",
                    "SPILLWAY_STATS=0", "SPILLWAYS=1"}));
  EXPECT_EQ(settings_.ram, nullptr);
  EXPECT_EQ(settings_.ledger_fd, -1);
  EXPECT_EQ(settings_.uffd_fd, -1);
  EXPECT_FALSE(settings_.stats);
}

TEST_F(SettingsTest, a_budget_of_ones_own) {
  ASSERT_TRUE(budget({"SPILLWAY_RAM=96M", "SPILLWAY_SWAP_RAM=32M"}));
  EXPECT_EQ(budget_.frames_total, (u64{128} << 20) / kPageSize);
  EXPECT_EQ(budget_.pool_frames_max, (u64{32} << 20) / kPageSize);
  EXPECT_EQ(budget_.swap_max_bytes, 0U);
  ASSERT_TRUE(budget({"SPILLWAY_RAM=96M", "SPILLWAY_SWAP_DIR=/tmp"}));
  EXPECT_EQ(budget_.pool_frames_max, budget_.frames_total / 2);
  EXPECT_GT(budget_.swap_max_bytes, 0U);
  EXPECT_LE(budget_.swap_max_bytes, u64{8 * 96} << 20);
  // Nothing said: most of the machine, or of the control group.
  ASSERT_TRUE(budget({}));
  EXPECT_GT(budget_.frames_total, 0U);
}

TEST_F(SettingsTest, refusals_name_the_thing_and_the_remedy) {
  EXPECT_FALSE(budget({"SPILLWAY_RAM=12Q"}));
  EXPECT_TRUE(says("SPILLWAY_RAM '12Q'") && says("512M")) << why_.c_str();
  EXPECT_FALSE(budget({"SPILLWAY_RAM=1M"}));
  EXPECT_TRUE(says("8 MiB")) << why_.c_str();
  EXPECT_FALSE(budget({"SPILLWAY_RAM=64M", "SPILLWAY_SWAP_DIR=/does/not/exist"}));
  EXPECT_TRUE(says("/does/not/exist: no such file")) << why_.c_str();
  EXPECT_FALSE(budget({"SPILLWAY_RAM=64M", "SPILLWAY_SWAP_MAX=lots"}));
}

TEST(LibcSymbols, finds_what_libc_exports_and_nothing_else) {
  using GetPid = pid_t (*)();
  const GetPid get = reinterpret_cast<GetPid>(libc_function("getpid"));
  ASSERT_NE(get, nullptr);
  EXPECT_EQ(get(), getpid());
  EXPECT_NE(libc_function("_Fork"), nullptr);
  EXPECT_NE(libc_function("mmap64"), nullptr);
  EXPECT_EQ(libc_function("no_such_function_in_libc"), nullptr);
}

TEST(Message, sizes_and_numbers_read_well) {
  Message m;
  m.size(u64{96} << 20).text(" ").size(1000).text(" ").size(u64{3} << 40).text(" ");
  m.number(0).text(" ").hex(0xabc0);
  EXPECT_STREQ(m.c_str(), "96 MiB 1000 bytes 3 TiB 0 0xabc0");
}

}  // namespace
}  // namespace spillway
