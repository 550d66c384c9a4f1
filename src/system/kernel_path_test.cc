// Calls by path: directories, links and renames of processes. Method: the same course with inodes
// and directories in memory and on the device, through an audit and after all caches were dropped.
#include "system/kernel_bed_test.h"

namespace spillway {
namespace {

class KernelPath : public ::testing::TestWithParam<bool> {
 protected:
  KernelPath() : bed_(config()), pid_(bed_.spawn()) {}
  static KernelBedConfig config() {
    KernelBedConfig config;
    config.kernel.mm.file_metadata_on_device = GetParam();
    return config;
  }
  template <class Call>
  int error_of(Call call) {
    const Result<u64> r = bed_.wait_for(call);
    return r.ok() ? 0 : errno_of(r.error());
  }
  int mkdir(const char* path) {
    return error_of([&] { return k().mkdir(pid_, path); });
  }
  int rename(const char* from, const char* to) {
    return error_of([&] { return k().rename(pid_, from, to); });
  }
  Kernel& k() { return bed_.kernel(); }

  KernelBed bed_;
  Pid pid_;
};

INSTANTIATE_TEST_SUITE_P(Metadata, KernelPath, ::testing::Bool(),
                         [](const auto& p) { return p.param ? "on_device" : "in_memory"; });

TEST_P(KernelPath, names_survive_that_all_caches_are_dropped) {
  EXPECT_EQ(mkdir("/a"), 0);
  EXPECT_EQ(mkdir("/a/b/"), 0);
  EXPECT_EQ(mkdir("/a/b"), errno_of(Error::exists));
  EXPECT_EQ(mkdir("/x/y"), errno_of(Error::no_entry));
  const Result<u64> fd =
      bed_.wait_for([&] { return k().open(pid_, "/a/b/f", kOpenReadWrite | kOpenCreate); });
  ASSERT_TRUE(fd.ok());
  u64 done = 0;
  EXPECT_TRUE(bed_.wait_for([&] {
                    return k().pwrite(pid_, static_cast<i32>(fd.value()), "bytes", 5, 0, &done);
                  })
                  .ok());
  const MemInfo cached = k().meminfo();
  EXPECT_EQ(cached.buffers != 0, GetParam()) << "directories on the device are cached by block";
  EXPECT_EQ(cached.cached, 1U) << "the page of the file";
  EXPECT_EQ(error_of([&] { return k().link(pid_, "/a/b/f", "/g"); }), 0);
  EXPECT_EQ(error_of([&] { return k().symlink(pid_, "a/b", "/l"); }), 0);
  EXPECT_EQ(rename("/a", "/a/b/c"), errno_of(Error::invalid));
  EXPECT_EQ(rename("/a/b/f", "/l/h"), 0);
  EXPECT_EQ(error_of([&] { return k().rmdir(pid_, "/a/b"); }), errno_of(Error::not_empty));
  EXPECT_EQ(error_of([&] { return k().unlink(pid_, "/a/b"); }), errno_of(Error::is_directory));
  EXPECT_EQ(error_of([&] { return k().fsync(pid_, static_cast<i32>(fd.value())); }), 0);
  EXPECT_TRUE(k().close(pid_, static_cast<i32>(fd.value())).ok());
  for (int i = 0; i < 3; ++i) {
    bed_.settle();
    (void)k().drop_caches();
    k().drop_slabs();
  }
  EXPECT_EQ(k().vfs_stats().dentries_unused, 0U);
  StatView stat{};
  EXPECT_EQ(error_of([&] { return k().stat(pid_, "/l/h", &stat); }), 0);
  EXPECT_EQ(stat.nlink, 2U);
  EXPECT_EQ(stat.size_bytes, 5U);
  EXPECT_EQ(error_of([&] { return k().stat(pid_, "/a/b/f", &stat); }), errno_of(Error::no_entry));
  const Result<u64> back = bed_.wait_for([&] { return k().open(pid_, "/g", kOpenRead); });
  ASSERT_TRUE(back.ok());
  char text[8] = {};
  done = 0;
  EXPECT_TRUE(bed_.wait_for([&] {
                    return k().pread(pid_, static_cast<i32>(back.value()), text, 8, 0, &done);
                  })
                  .ok());
  EXPECT_STREQ(text, "bytes");
  const AuditReport report = k().audit();
  EXPECT_TRUE(report.ok) << report.what;
}

// Without a process: the same names, and prune takes what nobody uses.
TEST_P(KernelPath, names_need_no_process) {
  const auto make = [&](const char* path, bool directory, u64 size) {
    return bed_.wait_for([&] { return k().name_make(path, directory, size); });
  };
  const Result<u64> directory = make("/d", true, 0);
  const Result<u64> file = make("/d/f", false, 5000);
  ASSERT_TRUE(directory.ok() && file.ok());
  EXPECT_NE(directory.value(), file.value());
  EXPECT_EQ(errno_of(make("/d/f", false, 0).error()), errno_of(Error::exists));
  EXPECT_EQ(errno_of(make("/none/f", false, 0).error()), errno_of(Error::no_entry));
  StatView stat{};
  EXPECT_EQ(error_of([&] { return k().stat(pid_, "/d/f", &stat); }), 0);
  EXPECT_EQ(stat.size_bytes, 5000U);
  EXPECT_EQ(stat.number, file.value());
  EXPECT_EQ(error_of([&] { return k().name_chmod("/d/f", 0600); }), 0);
  EXPECT_EQ(k().vfs_stats().inodes_dirty > 0, true);
  EXPECT_EQ(error_of([&] { return k().name_rename("/d/f", "/d/g"); }), 0);
  EXPECT_EQ(error_of([&] { return k().name_rename("/d/f", "/d/g"); }), errno_of(Error::no_entry));
  for (int i = 0; i < 3; ++i) {
    bed_.settle();
    EXPECT_TRUE(k().name_prune(false, 1000).ok());
    EXPECT_TRUE(k().name_prune(true, 1000).ok());
  }
  EXPECT_EQ(k().vfs_stats().dentries_unused, 0U);
  EXPECT_EQ(k().vfs_stats().inodes_unused, 0U);
  const Result<u64> found = bed_.wait_for([&] { return k().name_lookup("/d/g"); });
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found.value(), file.value());
  EXPECT_EQ(error_of([&] { return k().stat(pid_, "/d/g", &stat); }), 0);
  EXPECT_EQ(stat.mode & 07777, 0600U);
  EXPECT_EQ(error_of([&] { return k().name_remove("/d", true); }), errno_of(Error::not_empty));
  EXPECT_EQ(error_of([&] { return k().name_remove("/d/g", false); }), 0);
  EXPECT_EQ(error_of([&] { return k().name_remove("/d", true); }), 0);
  DiskView disks[4];
  EXPECT_EQ(k().disks(disks, 4), GetParam() ? 1U : 0U);
  const AuditReport report = k().audit();
  EXPECT_TRUE(report.ok) << report.what;
}

TEST_P(KernelPath, an_open_file_without_a_name_keeps_its_contents_until_the_last_close) {
  const Result<u64> fd =
      bed_.wait_for([&] { return k().open(pid_, "f", kOpenReadWrite | kOpenCreate); });
  ASSERT_TRUE(fd.ok());
  const i32 file = static_cast<i32>(fd.value());
  EXPECT_EQ(error_of([&] { return k().unlink(pid_, "f"); }), 0);
  u64 done = 0;
  EXPECT_TRUE(bed_.wait_for([&] { return k().pwrite(pid_, file, "x", 1, 0, &done); }).ok());
  FileView view{};
  EXPECT_EQ(k().files(&view, 1), 1U);
  EXPECT_FALSE(view.linked);
  EXPECT_TRUE(k().close(pid_, file).ok());
  bed_.settle();
  EXPECT_EQ(k().files(&view, 1), 0U);
  const AuditReport report = k().audit();
  EXPECT_TRUE(report.ok) << report.what;
}

}  // namespace
}  // namespace spillway
