// Rows 66, 68 and 71 where they cost I/O: a file store whose inodes and directories lie on the
// device, with the reads and writes of the device counted.
#include "vfs/file_bed_test.h"

namespace spillway {
namespace {

class VfsDevice : public ::testing::Test {
 protected:
  VfsDevice() : bed_(FileBed::config_of(1024, 1024), Metadata::on_device) {
    for (int i = 0; i < 100; ++i) (void)bed_.create(("f" + std::to_string(i)).c_str(), 0, 1);
    make_cold();
  }
  ~VfsDevice() override {
    EXPECT_TRUE(bed_.validate());
    EXPECT_TRUE(bed_.wait_for([&] { return bed_.vfs.unmount(); }).ok());
  }
  // Memory was short of everything.
  void make_cold() {
    EXPECT_TRUE(bed_.wait_for([&] { return bed_.vfs.sync(); }).ok());
    for (int i = 0; i < 3; ++i) {
      (void)bed_.vfs.dentries().prune(1000);
      (void)bed_.vfs.inodes().prune(1000);
    }
    EXPECT_EQ(bed_.vfs.stats().inodes, 1U);
    (void)bed_.files.buffers()->drop_clean();
  }
  Dentry* open(const char* path) {
    const Result<Dentry*> found =
        bed_.wait_for([&] { return bed_.vfs.walk_dentry(bed_.vfs.root_dentry(), path, true); });
    EXPECT_TRUE(found.ok());
    return found.value();
  }
  u64 reads() { return bed_.files.buffers()->stats().reads; }
  u64 writes() { return bed_.files.buffers()->stats().writes; }

  FileBed bed_;
};

TEST_F(VfsDevice, row_66_the_second_open_needs_no_io) {
  const u64 cold = reads();
  Dentry* first = open("/f7");
  EXPECT_GT(reads(), cold);
  const u64 warm = reads();
  const VfsStats opened = bed_.vfs.stats();
  Inode* inode = first->inode;
  bed_.vfs.put(*first);
  EXPECT_EQ(bed_.vfs.stats().dentries_unused, opened.dentries_unused + 1);
  Dentry* again = open("/f7");
  EXPECT_EQ(bed_.vfs.stats().dentries_unused, opened.dentries_unused);
  EXPECT_EQ(again, first);
  EXPECT_EQ(again->inode, inode);
  EXPECT_EQ(bed_.vfs.stats().dentry_hits, opened.dentry_hits + 1);
  EXPECT_EQ(bed_.vfs.stats().dentry_misses, opened.dentry_misses);
  EXPECT_EQ(reads(), warm);
  bed_.vfs.put(*again);
}

TEST_F(VfsDevice, row_68_a_dirty_inode_is_written_before_it_goes) {
  Dentry* dentry = open("/f9");
  Inode& inode = *dentry->inode;
  AttributeChange change;
  change.mode = true;
  change.to.mode = 0751;
  EXPECT_TRUE(bed_.vfs.set_attributes(inode, change).ok());
  const u64 number = inode.number;
  bed_.vfs.put(*dentry);
  while (bed_.vfs.dentries().count_objects() != 0) (void)bed_.vfs.dentries().prune(100);
  EXPECT_EQ(bed_.vfs.inodes().count_objects(), 0U) << "dirty, so not to be had yet";
  const u64 written = writes();
  const u64 dirty = bed_.files.buffers()->dirty();
  EXPECT_EQ(bed_.vfs.inodes().prune(10), 1U) << "written, then free";
  EXPECT_EQ(bed_.vfs.inodes().find(bed_.files, number), nullptr);
  EXPECT_EQ(bed_.files.buffers()->dirty(), dirty + 1) << "its block of the inode table";
  make_cold();
  EXPECT_GT(writes(), written);
  Dentry* back = open("/f9");
  EXPECT_EQ(back->inode->attr.mode, kModeRegular | 0751);
  bed_.vfs.put(*back);
}

TEST_F(VfsDevice, row_71_what_was_let_go_of_is_read_again) {
  bed_.vfs.put(*open("/f3"));
  const u64 warm = reads();
  const VfsStats before = bed_.vfs.stats();
  bed_.vfs.put(*open("/f3"));
  EXPECT_EQ(reads(), warm);
  make_cold();
  bed_.vfs.put(*open("/f3"));
  EXPECT_GT(reads(), warm);
  // At least one: a walk that had to wait looks again.
  EXPECT_GT(bed_.vfs.stats().dentry_misses, before.dentry_misses);
  EXPECT_GT(bed_.vfs.stats().inode_misses, before.inode_misses);
}

TEST_F(VfsDevice, a_block_that_cannot_be_read_fails_its_lookup_and_changes_nothing) {
  for (u32 block = 0; block < FileStore::kMetadataBlocks; ++block) {
    bed_.disk().failures().fail_block(IoOp::read, block);
  }
  const VfsStats before = bed_.vfs.stats();
  const Result<Dentry*> failed =
      bed_.wait_for([&] { return bed_.vfs.walk_dentry(bed_.vfs.root_dentry(), "/f3", true); });
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error(), Error::io);
  EXPECT_EQ(bed_.vfs.stats().dentries, before.dentries);
  EXPECT_EQ(bed_.vfs.stats().inodes, before.inodes);
  bed_.disk().failures().disarm_all();
  bed_.vfs.put(*open("/f3"));
}

// Each write of the two files fails at another time than the other's: when the failure of the one
// is told, the other is still to be waited for.
TEST(VfsSync, of_files_that_cannot_be_written_ends_and_tells_of_it_once_per_call) {
  FileBed bed(FileBed::config_of(256, 512));
  Inode* files[2];
  for (int i = 0; i < 2; ++i) {
    files[i] = &bed.create(i == 0 ? "a" : "b", 0, 4);
    ASSERT_TRUE(bed.write(*files[i], 0, std::string(100, 'x')).ok());
    bed.disk().failures().fail_block(Failure::write_torn, FileStore::first_block(*files[i]));
  }
  constexpr int kRoundsMax = 50;  // one per write and some for the metadata are enough
  for (int call = 0; call < 3; ++call) {
    Status status = Error::wait;
    for (int round = 0; round < kRoundsMax; ++round) {
      status = bed.vfs.sync();
      if (status.ok() || status.error() != Error::wait) break;
      (void)bed.sim.complete_one();
    }
    ASSERT_FALSE(status.ok());
    EXPECT_STREQ(name_of(status.error()), name_of(Error::io)) << "call " << call;
    EXPECT_EQ(files[0]->mapping.nr_dirty + files[1]->mapping.nr_dirty, 2U) << "nothing is lost";
  }
  bed.disk().failures().disarm_all();
  EXPECT_TRUE(bed.wait_for([&] { return bed.vfs.sync(); }).ok());
  for (Inode* file : files) EXPECT_EQ(bed.stored(*file, 0).substr(0, 100), std::string(100, 'x'));
  EXPECT_TRUE(bed.validate());
}

}  // namespace
}  // namespace spillway
