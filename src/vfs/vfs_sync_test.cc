// fsync and sync of a file store on a device while others go on dirtying pages, attributes and
// directories after each step: both must end, with all on the device that was dirty when they
// began.
#include "vfs/file_bed_test.h"

namespace spillway {
namespace {

constexpr u32 kPages = 12;

class VfsSyncTest : public ::testing::Test {
 protected:
  VfsSyncTest() : bed_(FileBed::config_of(1024, 2048), Metadata::on_device) {
    for (int i = 0; i < 3; ++i) {
      files_[i] = &bed_.create(("f" + std::to_string(i)).c_str(), 0, kPages);
    }
    EXPECT_TRUE(bed_.wait_for([&] { return bed_.vfs.sync(); }).ok());
    for (Inode* file : files_) write(*file, 'a');
  }
  ~VfsSyncTest() override {
    bed_.disk().failures().disarm_all();
    EXPECT_TRUE(bed_.wait_for([&] { return bed_.vfs.sync(); }).ok());
    EXPECT_TRUE(bed_.validate());
    EXPECT_TRUE(bed_.wait_for([&] { return bed_.vfs.unmount(); }).ok());
  }
  // As far as it goes without waiting.
  void write(Inode& file, char with) {
    const std::string data(kPages * kPageSize, with);
    u64 done = 0;
    (void)bed_.vfs.write(file, 0, reinterpret_cast<const u8*>(data.data()), data.size(), &done);
    AttributeChange change;
    change.uid = true;
    change.to.uid = static_cast<u32>(with);
    EXPECT_TRUE(bed_.vfs.set_attributes(file, change).ok());
  }
  // What other processes do after each step: write and change files, and make new ones.
  void disturb() {
    for (Inode* file : files_) write(*file, 'b');
    const std::string name = "n" + std::to_string(made_++);
    const Result<Inode*> made =
        bed_.vfs.create(bed_.root(), Name::of(name.c_str()), {.capacity_pages = 1});
    if (!made.ok()) return;
    u64 done = 0;
    const u8 byte = 'n';
    (void)bed_.vfs.write(*made.value(), 0, &byte, 1, &done);
    bed_.vfs.put(*made.value());
  }
  template <class Call>
  Status drive(u32 rounds, Call call) {
    for (u32 i = 0; i < rounds; ++i) {
      const Status status = call();
      if (status.ok() || status.error() != Error::wait) return status;
      EXPECT_TRUE(bed_.sim.complete_one());
      disturb();
    }
    return Error::wait;
  }
  void expect_stored(Inode& file) {
    for (u32 i = 0; i < kPages; ++i) EXPECT_GE(bed_.stored(file, i)[77], 'a') << "page " << i;
  }

  FileBed bed_;
  Inode* files_[3];
  u32 made_ = 0;
};

// A write for each page; then the block of the inode, which others keep changing.
constexpr u32 kRoundsOfFile = 4 * kPages;
// The same for each file, and all blocks of metadata.
constexpr u32 kRoundsOfAll = 3 * kRoundsOfFile + 100;

TEST_F(VfsSyncTest, fsync_ends_although_the_file_is_written_again_after_each_step) {
  for (int times = 0; times < 3; ++times) {
    SyncProgress progress;
    Inode& file = *files_[times];
    EXPECT_TRUE(drive(kRoundsOfFile, [&] { return bed_.vfs.fsync(file, progress); }).ok());
    EXPECT_GT(file.mapping.nr_dirty, 0U) << "written again";
    expect_stored(file);
  }
}

TEST_F(VfsSyncTest, sync_ends_although_all_is_changed_again_and_files_are_made_after_each_step) {
  SyncTicket ticket;
  EXPECT_TRUE(drive(kRoundsOfAll, [&] { return bed_.vfs.sync(ticket); }).ok());
  for (Inode* file : files_) {
    EXPECT_GT(file->mapping.nr_dirty, 0U);
    expect_stored(*file);
  }
  EXPECT_GT(made_, kPages);
}

TEST_F(VfsSyncTest, begun_anew_at_each_call_it_can_be_held) {
  // This is why there are tickets; and what shows that the disturbance is one.
  EXPECT_EQ(drive(kRoundsOfFile, [&] { return bed_.vfs.fsync(*files_[0]); }).error(), Error::wait);
  EXPECT_EQ(drive(kRoundsOfAll, [&] { return bed_.vfs.sync(); }).error(), Error::wait);
}

TEST_F(VfsSyncTest, a_failure_is_told_to_all_syncs_of_a_round) {
  SyncTicket before;
  EXPECT_EQ(bed_.vfs.sync(before).error(), Error::wait);
  SyncTicket tickets[2];
  for (SyncTicket& ticket : tickets) EXPECT_EQ(bed_.vfs.sync(ticket).error(), Error::wait);
  EXPECT_TRUE(bed_.wait_for([&] { return bed_.vfs.sync(before); }).ok());
  write(*files_[1], 'c');
  bed_.disk().failures().fail_block(Failure::write_torn, FileStore::first_block(*files_[1]));
  for (SyncTicket& ticket : tickets) {
    EXPECT_EQ(bed_.wait_for([&] { return bed_.vfs.sync(ticket); }).error(), Error::io);
  }
  EXPECT_EQ(files_[1]->mapping.nr_dirty, 1U);
  bed_.disk().failures().disarm_all();
  SyncTicket after;
  EXPECT_TRUE(bed_.wait_for([&] { return bed_.vfs.sync(after); }).ok());
  EXPECT_EQ(bed_.stored(*files_[1], 0)[0], 'c');
}

TEST_F(VfsSyncTest, one_that_nobody_repeats_is_ended_by_the_next_one) {
  SyncTicket dead;
  EXPECT_EQ(bed_.vfs.sync(dead).error(), Error::wait);
  for (Inode* file : files_) write(*file, 'd');
  SyncTicket ticket;
  EXPECT_TRUE(bed_.wait_for([&] { return bed_.vfs.sync(ticket); }).ok());
  for (Inode* file : files_) EXPECT_EQ(file->mapping.nr_dirty, 0U);
}

// An inode that its pages' write-back makes dirty is stored by the same sync: without that its
// pages could not be found.
TEST_F(VfsSyncTest, attributes_that_change_until_the_pages_are_written_are_stored_with_them) {
  SyncTicket ticket;
  EXPECT_EQ(bed_.vfs.sync(ticket).error(), Error::wait);
  AttributeChange change;
  change.uid = true;
  change.to.uid = 7;
  EXPECT_TRUE(bed_.vfs.set_attributes(*files_[2], change).ok());
  EXPECT_TRUE(bed_.wait_for([&] { return bed_.vfs.sync(ticket); }).ok());
  EXPECT_FALSE(files_[2]->is(InodeState::dirty));
}

}  // namespace
}  // namespace spillway
