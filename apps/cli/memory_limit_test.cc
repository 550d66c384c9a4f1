// Goal: the default budget is taken from the limit that really binds. Method: a folder made to
// look like /proc and /sys of the systems that exist.
#include "cli/memory_limit.h"

#include "cli/test_support.h"

namespace spillway {
namespace {

constexpr u64 kMiB = u64{1} << 20;
constexpr const char* kMeminfo = "MemTotal:       16777216 kB\nMemFree:  1 kB\n";  // 16 GiB
constexpr const char* kV2 =
    "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr const char* kV1 =
    "31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    "32 23 0:28 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n";

class CgroupLimit : public testing::Test {
 protected:
  CgroupLimit() { write("proc/meminfo", kMeminfo); }
  void write(const std::string& name, const std::string& text) { folder_.write(name, text); }
  std::optional<MemoryLimit> limit() const { return tightest_cgroup_limit(folder_.path()); }

  TemporaryFolder folder_;
};

TEST_F(CgroupLimit, none_without_groups) {
  EXPECT_FALSE(limit());
  EXPECT_EQ(usable_ram(folder_.path()).bytes, u64{16} << 30);
}

TEST_F(CgroupLimit, v2_takes_the_tightest_ancestor) {
  write("proc/self/mountinfo", kV2);
  write("proc/self/cgroup", "0::/a/b/c\n");
  write("sys/fs/cgroup/a/memory.max", "1073741824\n");
  write("sys/fs/cgroup/a/b/memory.max", "536870912\n");
  write("sys/fs/cgroup/a/b/c/memory.max", "max\n");
  ASSERT_TRUE(limit());
  EXPECT_EQ(limit()->bytes, 512 * kMiB);
  EXPECT_EQ(limit()->source, "/sys/fs/cgroup/a/b/memory.max");
}

TEST_F(CgroupLimit, v2_memory_high_counts) {
  write("proc/self/mountinfo", kV2);
  write("proc/self/cgroup", "0::/a\n");
  write("sys/fs/cgroup/a/memory.max", "1073741824\n");
  write("sys/fs/cgroup/a/memory.high", "268435456\n");
  ASSERT_TRUE(limit());
  EXPECT_EQ(limit()->bytes, 256 * kMiB);
}

TEST_F(CgroupLimit, v2_container_sees_its_own_group_as_root) {
  write("proc/self/mountinfo", kV2);
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", "134217728\n");
  ASSERT_TRUE(limit());
  EXPECT_EQ(limit()->bytes, 128 * kMiB);
}

TEST_F(CgroupLimit, v1_takes_the_tightest_ancestor) {
  write("proc/self/mountinfo", kV1);
  write("proc/self/cgroup", "4:memory:/x/y\n1:cpu:/\n0::/\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "209715200\n");
  write("sys/fs/cgroup/memory/x/memory.use_hierarchy", "1\n");
  write("sys/fs/cgroup/memory/x/y/memory.limit_in_bytes", "419430400\n");
  ASSERT_TRUE(limit());
  EXPECT_EQ(limit()->bytes, 200 * kMiB);
}

TEST_F(CgroupLimit, v1_parent_without_hierarchy_does_not_bind) {
  write("proc/self/mountinfo", kV1);
  write("proc/self/cgroup", "4:memory:/x/y\n");
  write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "209715200\n");
  write("sys/fs/cgroup/memory/x/memory.use_hierarchy", "0\n");
  write("sys/fs/cgroup/memory/x/y/memory.limit_in_bytes", "419430400\n");
  ASSERT_TRUE(limit());
  EXPECT_EQ(limit()->bytes, 400 * kMiB);
}

TEST_F(CgroupLimit, v1_container_with_a_name_of_the_host) {
  // Docker with version 1: the mount's root is the container's group on the host.
  write("proc/self/mountinfo",
        "32 23 0:28 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  write("proc/self/cgroup", "4:memory:/docker/abc\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "104857600\n");
  ASSERT_TRUE(limit());
  EXPECT_EQ(limit()->bytes, 100 * kMiB);
}

TEST_F(CgroupLimit, group_outside_the_mount_means_the_mount_itself) {
  write("proc/self/mountinfo",
        "32 23 0:28 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  write("proc/self/cgroup", "4:memory:/elsewhere\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "104857600\n");
  ASSERT_TRUE(limit());
  EXPECT_EQ(limit()->bytes, 100 * kMiB);
}

TEST_F(CgroupLimit, hybrid_systems_and_escaped_paths) {
  write("proc/self/mountinfo",
        "30 23 0:26 / /sys/fs/my\\040groups rw - cgroup2 cgroup2 rw\n" + std::string(kV1));
  write("proc/self/cgroup", "4:memory:/x\n0::/y\n");
  write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "419430400\n");
  write("sys/fs/my groups/y/memory.max", "209715200\n");
  ASSERT_TRUE(limit());
  EXPECT_EQ(limit()->bytes, 200 * kMiB);
}

TEST_F(CgroupLimit, limits_above_the_ram_do_not_bind) {
  write("proc/self/mountinfo", kV2);
  write("proc/self/cgroup", "0::/a\n");
  write("sys/fs/cgroup/a/memory.max", "17179869185\n");
  EXPECT_FALSE(limit());
}

TEST_F(CgroupLimit, nonsense_is_ignored) {
  write("proc/self/mountinfo", "nonsense\n\n- -\n" + std::string(kV2));
  write("proc/self/cgroup", "nonsense\n::\n0:\n0::/../../a\n");
  write("sys/fs/cgroup/memory.max", "12x\n");
  EXPECT_FALSE(limit());
}

}  // namespace
}  // namespace spillway
