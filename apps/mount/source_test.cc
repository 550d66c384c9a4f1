// What is refused before anything is opened.
#include "mount/source.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "cli/exit_codes.h"

namespace spillway {
namespace {

namespace files = std::filesystem;

constexpr const char* kMountinfo =
    "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
    "36 22 7:3 / /mnt/a rw,relatime - ext4 /dev/loop3 rw\n"
    "37 22 0:40 / /mnt/b rw - fuse.ext4 /tmp/with\\040blank.img rw\n";

TEST(MountSource, knows_what_is_mounted) {
  EXPECT_TRUE(is_mounted_source(kMountinfo, "/dev/vda"));
  EXPECT_TRUE(is_mounted_source(kMountinfo, "/dev/loop3"));
  EXPECT_TRUE(is_mounted_source(kMountinfo, "/tmp/with blank.img"));
  EXPECT_FALSE(is_mounted_source(kMountinfo, "/dev/loop"));
  EXPECT_FALSE(is_mounted_source(kMountinfo, "/mnt/a"));
  EXPECT_FALSE(is_mounted_source("", "/dev/vda"));
  EXPECT_FALSE(is_mounted_source("no dash here\n - \n", "/dev/vda"));
}

struct MountSourceFiles : ::testing::Test {
  MountSourceFiles() {
    char name[] = "/tmp/spw-source-XXXXXX";
    base = files::canonical(::mkdtemp(name));
    files::create_directories(base / "tree" / "inner");
    files::create_directories(base / "tree2");
    std::ofstream(base / "image") << "x";
    files::create_symlink(base / "image", base / "link");
  }
  ~MountSourceFiles() override { files::remove_all(base); }
  std::string refusal(const char* source, const char* mountpoint) {
    std::string from = base / source;
    std::string to = base / mountpoint;
    try {
      const SourceKind kind = check_source(from);
      check_mountpoint(to, from, kind);
      return "";
    } catch (const CliError& error) {
      return error.what();
    }
  }
  files::path base;
};

TEST_F(MountSourceFiles, links_are_resolved) {
  std::string path = base / "link";
  EXPECT_EQ(check_source(path), SourceKind::image);
  EXPECT_EQ(path, base / "image");
}

TEST_F(MountSourceFiles, a_mountpoint_inside_of_what_is_served_is_refused) {
  EXPECT_NE(refusal("tree", "tree/inner").find("wait for itself"), std::string::npos);
  EXPECT_NE(refusal("tree", "tree").find("wait for itself"), std::string::npos);
  EXPECT_EQ(refusal("tree", "tree2"), "") << "its name only begins alike";
  EXPECT_EQ(refusal("image", "tree"), "");
}

TEST_F(MountSourceFiles, what_is_no_source_or_place_is_refused) {
  EXPECT_NE(refusal("none", "tree").find("No such file"), std::string::npos);
  EXPECT_NE(refusal("image", "image").find("is no directory"), std::string::npos);
  ASSERT_EQ(::mkfifo((base / "fifo").c_str(), 0600), 0);
  EXPECT_NE(refusal("fifo", "tree").find("is neither"), std::string::npos);
}

}  // namespace
}  // namespace spillway
