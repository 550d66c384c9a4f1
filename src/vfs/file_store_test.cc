// Files one rule at a time: the directory, extents, contents through the cache and on the device,
// the end of file, reading ahead, and what a failing device does.
#include "vfs/file_store.h"

#include "base/prng.h"
#include "vfs/file_bed_test.h"

namespace spillway {
namespace {

std::string text(u64 bytes, char c) { return std::string(bytes, c); }
const std::string kZeroPage(kPageSize, '\0');

class FileStoreTest : public ::testing::Test {
 protected:
  FileStoreTest() : bed_(FileBed::config_of(512, 256)) {}
  ~FileStoreTest() override {
    bed_.disk().failures().disarm_all();
    EXPECT_TRUE(bed_.validate());
    for (const std::string& name : names_) (void)bed_.unlink(name.c_str());
    bed_.complete_all();
    EXPECT_EQ(bed_.files.in_flight(), 0U);
    EXPECT_EQ(bed_.cache.mappings(), 1U) << "the root directory's";
    EXPECT_EQ(bed_.files.stats().inodes_free, FileStore::kFilesMax - 1);
    EXPECT_TRUE(bed_.validate());
    EXPECT_TRUE(bed_.wait_for([&] { return bed_.vfs.unmount(); }).ok());
    EXPECT_TRUE(bed_.nothing_leaks_here());
  }
  Pfn cached(const Inode& inode, u32 index) { return bed_.cache.find(inode.mapping, index).pfn(); }
  u8* bytes(const Inode& inode, u32 index) { return bed_.sim.frames().bytes(cached(inode, index)); }
  Inode& create(const char* name, u64 size, u64 capacity) {
    names_.push_back(name);
    return bed_.create(name, size, capacity);
  }
  // A file of `pages` pages on the device, each full of its own letter, nothing cached.
  Inode& cold_file(const char* name, u64 pages) {
    Inode& inode = create(name, 0, pages);
    for (u64 i = 0; i < pages; ++i) {
      EXPECT_TRUE(bed_.write(inode, i * kPageSize, text(kPageSize, letter(i))).ok());
    }
    EXPECT_TRUE(bed_.sync(inode).ok());
    bed_.drop(inode);
    EXPECT_EQ(inode.mapping.nr_pages, 0U);
    return inode;
  }
  static char letter(u64 i) { return static_cast<char>('a' + i % 26); }
  u64 pages_in() const { return bed_.count(Counter::pgpgin); }
  u64 pages_out() const { return bed_.count(Counter::pgpgout); }

  FileBed bed_;
  std::vector<std::string> names_;
};

TEST_F(FileStoreTest, the_directory_knows_names) {
  Inode& a = create("a", 10, 1);
  EXPECT_EQ(bed_.lookup("a").value(), &a);
  EXPECT_EQ(bed_.try_create("a", 0, 1).error(), Error::exists);
  EXPECT_EQ(bed_.lookup("b").error(), Error::no_entry);
  EXPECT_EQ(bed_.unlink("b").error(), Error::no_entry);
  EXPECT_EQ(bed_.try_create("b", 0, 256).error(), Error::no_space);
  // An unlinked file lives while somebody has it; its name is free.
  bed_.vfs.hold(a);
  ASSERT_TRUE(bed_.unlink("a").ok());
  EXPECT_EQ(bed_.lookup("a").error(), Error::no_entry);
  Inode& again = create("a", 0, 1);
  EXPECT_NE(&again, &a);
  ASSERT_TRUE(bed_.write(a, 0, "still").ok());
  EXPECT_EQ(bed_.read(a, 0, 5), "still");
  EXPECT_TRUE(bed_.validate());
  EXPECT_EQ(bed_.files.stats().inodes_free, FileStore::kFilesMax - 3);
  bed_.vfs.put(a);
  EXPECT_EQ(bed_.files.stats().inodes_free, FileStore::kFilesMax - 2);
}

TEST_F(FileStoreTest, directories_take_names_of_all_lengths_and_give_their_room_back) {
  std::vector<std::string> there;
  Prng prng(5);
  for (u32 step = 0; step < 1500; ++step) {
    if (there.empty() || prng.below(5) < 3) {
      std::string name = std::to_string(step);
      name.resize(std::max<u64>(name.size(), prng.between(1, 255)), 'x');
      const Result<Inode*> made = bed_.wait_for([&] {
        return bed_.vfs.create(bed_.root(), {name.data(), static_cast<u32>(name.size())},
                               {.mode = kModeDirectory | 0755});
      });
      if (!made.ok()) {
        ASSERT_EQ(made.error(), Error::no_space);
        continue;
      }
      bed_.vfs.put(*made.value());
      there.push_back(name);
    } else {
      const u64 at = prng.below(there.size());
      const Name name{there[at].data(), static_cast<u32>(there[at].size())};
      ASSERT_TRUE(bed_.wait_for([&] { return bed_.vfs.rmdir(bed_.root(), name); }).ok());
      there[at] = there.back();
      there.pop_back();
    }
    if (step % 50 == 0) {
      while (bed_.vfs.dentries().count_objects() != 0) (void)bed_.vfs.dentries().prune(1000);
    }
  }
  EXPECT_GT(there.size(), 100U);
  EXPECT_EQ(bed_.files.stats().inodes_free, FileStore::kFilesMax - 1 - there.size());
  for (const std::string& name : there) {
    const Name n{name.data(), static_cast<u32>(name.size())};
    EXPECT_TRUE(bed_.wait_for([&] { return bed_.vfs.rmdir(bed_.root(), n); }).ok());
  }
}

TEST_F(FileStoreTest, extents_are_first_fit_and_the_directory_has_a_limit) {
  Inode& a = create("a", 0, 10);
  Inode& b = create("b", 0, 20);
  Inode& c = create("c", 0, 5);
  EXPECT_EQ(FileStore::first_block(a), 0U);
  EXPECT_EQ(FileStore::first_block(b), 10U);
  EXPECT_EQ(FileStore::first_block(c), 30U);
  ASSERT_TRUE(bed_.unlink("b").ok());
  EXPECT_EQ(FileStore::first_block(create("d", 0, 21)), 35U);
  EXPECT_EQ(FileStore::first_block(create("e", 0, 12)), 10U);
  EXPECT_EQ(FileStore::first_block(create("f", 0, 8)), 22U);
  EXPECT_EQ(FileStore::first_block(create("rest", 0, 200)), 56U);
  EXPECT_EQ(bed_.try_create("g", 0, 1).error(), Error::no_space);
}

TEST_F(FileStoreTest, row_45_what_is_written_is_read_and_reaches_the_device_with_sync) {
  Inode& inode = create("f", 0, 8);
  ASSERT_EQ(bed_.write(inode, 100, text(6000, 'x')).value(), 6000U);
  EXPECT_EQ(inode.mapping.size_bytes, 6100U);
  EXPECT_EQ(inode.mapping.nr_dirty, 2U);
  const std::string expected = text(100, '\0') + text(6000, 'x');
  EXPECT_EQ(bed_.read(inode, 0, 10000), expected);
  EXPECT_EQ(pages_in(), 0U) << "nothing of the file was on the device";
  EXPECT_EQ(pages_out(), 0U);
  ASSERT_TRUE(bed_.sync(inode).ok());
  EXPECT_EQ(inode.mapping.nr_dirty, 0U);
  EXPECT_EQ(pages_out(), 2U);
  EXPECT_EQ(bed_.stored(inode, 0) + bed_.stored(inode, 1), expected + text(8192 - 6100, '\0'));
  bed_.drop(inode);
  EXPECT_EQ(bed_.read(inode, 0, 10000), expected);
  EXPECT_EQ(pages_in(), 2U);
  EXPECT_EQ(bed_.read(inode, 6100, 10), "");
  EXPECT_EQ(bed_.read(inode, 90000, 10), "");
}

TEST_F(FileStoreTest, a_partial_write_reads_its_page_and_a_whole_one_does_not) {
  Inode& inode = cold_file("f", 4);
  ASSERT_TRUE(bed_.write(inode, kPageSize, text(kPageSize, 'X')).ok());
  EXPECT_EQ(pages_in(), 0U);
  ASSERT_TRUE(bed_.write(inode, 2 * kPageSize + 5, "YY").ok());
  EXPECT_EQ(pages_in(), 1U);
  EXPECT_EQ(bed_.read(inode, 2 * kPageSize, 9), "cccccYYcc");
  // From its beginning to the end of file is the whole page too.
  ASSERT_TRUE(bed_.set_size(inode, 3 * kPageSize + 7).ok());
  ASSERT_TRUE(bed_.sync(inode).ok());
  bed_.drop(inode);
  const u64 before = pages_in();
  ASSERT_TRUE(bed_.write(inode, 3 * kPageSize, "1234567").ok());
  EXPECT_EQ(pages_in(), before);
  EXPECT_EQ(bed_.read(inode, 3 * kPageSize, 100), "1234567");
}

TEST_F(FileStoreTest, a_write_ends_at_the_capacity) {
  Inode& inode = create("f", 0, 2);
  EXPECT_EQ(bed_.write(inode, kPageSize, text(3 * kPageSize, 'x')).value(), kPageSize);
  EXPECT_EQ(bed_.write(inode, 2 * kPageSize, "x").error(), Error::no_space);
  EXPECT_EQ(bed_.write(inode, 2 * kPageSize, "").value(), 0U);
  EXPECT_EQ(bed_.vfs.set_size(inode, 2 * kPageSize + 1).error(), Error::file_too_big);
  EXPECT_EQ(inode.mapping.size_bytes, 2 * kPageSize);
}

TEST_F(FileStoreTest, row_47_bytes_behind_the_end_never_reach_the_file) {
  Inode& inode = create("f", 0, 4);
  ASSERT_TRUE(bed_.write(inode, 0, text(100, 'x')).ok());
  ASSERT_TRUE(bed_.sync(inode).ok());
  // A program that maps the page stores behind the end of file.
  bytes(inode, 0)[100] = 'T';
  bytes(inode, 0)[4095] = 'T';
  bed_.cache.set_dirty(cached(inode, 0));
  ASSERT_TRUE(bed_.sync(inode).ok());
  EXPECT_EQ(bed_.stored(inode, 0), text(100, 'x') + text(3996, '\0'));
  // It does so again, and the file grows: what was behind the end reads as zeros.
  bytes(inode, 0)[100] = 'T';
  bytes(inode, 0)[150] = 'T';
  ASSERT_TRUE(bed_.write(inode, 150, "y").ok());
  EXPECT_EQ(bed_.read(inode, 99, 100), "x" + text(50, '\0') + "y");
  bytes(inode, 0)[151] = 'T';
  ASSERT_TRUE(bed_.set_size(inode, 3 * kPageSize).ok());
  EXPECT_EQ(bed_.read(inode, 151, 2), text(2, '\0'));
  EXPECT_EQ(bed_.read(inode, kPageSize, 9000), kZeroPage + kZeroPage);
}

TEST_F(FileStoreTest, row_48_a_shorter_file_has_lost_its_pages_for_good) {
  Inode& inode = cold_file("f", 4);
  ASSERT_TRUE(bed_.set_size(inode, kPageSize + 10).ok());
  EXPECT_EQ(pages_in(), 1U) << "the last page came in to lose its tail";
  ASSERT_TRUE(bed_.validate());
  EXPECT_EQ(bed_.read(inode, kPageSize, 9000), text(10, 'b'));
  ASSERT_TRUE(bed_.set_size(inode, 4 * kPageSize).ok());
  ASSERT_TRUE(bed_.sync(inode).ok());
  bed_.drop(inode);
  EXPECT_EQ(bed_.read(inode, kPageSize, 9000), text(10, 'b') + text(8990, '\0'));
  EXPECT_EQ(bed_.stored(inode, 1), text(10, 'b') + text(4086, '\0'));
  // To a whole number of pages: nothing needs to come in.
  bed_.drop(inode);
  const u64 before = pages_in();
  ASSERT_TRUE(bed_.set_size(inode, kPageSize).ok());
  ASSERT_TRUE(bed_.set_size(inode, 0).ok());
  EXPECT_EQ(pages_in(), before);
  EXPECT_EQ(inode.mapping.nr_pages, 0U);
}

TEST_F(FileStoreTest, the_size_waits_for_pages_that_are_busy) {
  Inode& inode = cold_file("f", 4);
  ASSERT_TRUE(bed_.write(inode, 3 * kPageSize, text(kPageSize, 'X')).ok());
  ASSERT_EQ(bed_.vfs.fsync(inode).error(), Error::wait);
  EXPECT_EQ(bed_.vfs.set_size(inode, 0).error(), Error::wait);
  EXPECT_EQ(inode.mapping.size_bytes, 4 * kPageSize);
  bed_.complete_all();
  ASSERT_TRUE(bed_.cache.start_read(inode.mapping, 2, 1, 2, kAllocUser).ok());
  EXPECT_EQ(bed_.vfs.set_size(inode, 0).error(), Error::wait);
  EXPECT_EQ(bed_.vfs.set_size(inode, 3 * kPageSize).ok(), true) << "page 2 stays";
  EXPECT_EQ(bed_.cache.truncate(inode.mapping, 3, nullptr, nullptr).ok(), true);
  bed_.complete_all();
  EXPECT_EQ(bed_.read(inode, 2 * kPageSize, 8192), text(kPageSize, 'c'));
}

TEST_F(FileStoreTest, a_new_file_never_shows_what_its_blocks_held_before) {
  Inode& old = cold_file("secret", 8);
  const u64 block = FileStore::first_block(old);
  ASSERT_TRUE(bed_.unlink("secret").ok());
  Inode& inode = create("public", 8 * kPageSize, 8);
  ASSERT_EQ(FileStore::first_block(inode), block);
  ASSERT_TRUE(bed_.write(inode, 3 * kPageSize + 10, "x").ok());
  ASSERT_TRUE(bed_.sync(inode).ok());
  bed_.drop(inode);
  const std::string all = bed_.read(inode, 0, 8 * kPageSize);
  std::string expected = text(8 * kPageSize, '\0');
  expected[3 * kPageSize + 10] = 'x';
  EXPECT_EQ(all, expected);
  EXPECT_EQ(pages_in(), 1U);
}

TEST_F(FileStoreTest, an_unlinked_file_goes_when_its_transfers_have_ended) {
  Inode& inode = cold_file("f", 20);
  bed_.vfs.hold(inode);
  ASSERT_TRUE(bed_.unlink("f").ok());
  ASSERT_TRUE(bed_.write(inode, 0, text(kPageSize, 'X')).ok());
  ASSERT_EQ(bed_.vfs.fsync(inode).error(), Error::wait);
  ASSERT_TRUE(bed_.cache.start_read(inode.mapping, 4, 8, 4, kAllocUser).ok());
  bed_.vfs.put(inode);
  EXPECT_TRUE(inode.is(InodeState::deleted));
  EXPECT_TRUE(bed_.validate());
  EXPECT_NE(FileStore::first_block(create("g", 0, 20)), 0U) << "its blocks are still being written";
  bed_.complete_all();
  EXPECT_EQ(bed_.vfs.inodes().stats().deleted, 0U);
  EXPECT_EQ(FileStore::first_block(create("h", 0, 20)), 0U);
}

TEST_F(FileStoreTest, row_49_reading_ahead_doubles_and_a_jump_resets_it) {
  Inode& inode = cold_file("f", 120);
  FileReadahead ra;
  std::vector<u32> windows;
  for (u64 i = 0; i < 100; ++i) {
    EXPECT_EQ(bed_.read(inode, ra, i * kPageSize, kPageSize), text(kPageSize, letter(i)));
    if (windows.empty() || windows.back() != ra.window) windows.push_back(ra.window);
  }
  EXPECT_EQ(windows, (std::vector<u32>{3, 6, 12, 24, 31}));
  bed_.complete_all();
  EXPECT_EQ(pages_in(), 120U);
  bed_.drop(inode);
  // Far from each other: one page each.
  for (const u64 i : {70, 10, 90, 40}) {
    const u64 before = pages_in();
    EXPECT_EQ(bed_.read(inode, ra, i * kPageSize, 10), text(10, letter(i)));
    EXPECT_EQ(pages_in(), before + 1);
    EXPECT_EQ(ra.window, 0U);
  }
}

TEST_F(FileStoreTest, row_50_clean_pages_are_dropped_without_a_write) {
  Inode& inode = cold_file("f", 100);
  EXPECT_EQ(bed_.read(inode, 0, 100 * kPageSize).size(), 100 * kPageSize);
  const u64 written = pages_out();
  std::vector<Pfn> taken;
  while (bed_.cache.pages() != 0) {
    taken.push_back(bed_.allocator.alloc(0, kAllocUser).value());
  }
  EXPECT_EQ(pages_out(), written);
  for (const Pfn pfn : taken) bed_.allocator.free(pfn, 0);
  for (u64 i = 0; i < 100; ++i) {
    ASSERT_EQ(bed_.read(inode, i * kPageSize, kPageSize), text(kPageSize, letter(i)));
  }
  EXPECT_EQ(bed_.evicting.refaults.size(), 100U) << "the policy hears which pages are back";
}

TEST_F(FileStoreTest, a_bad_block_fails_its_own_page_only) {
  Inode& inode = cold_file("f", 16);
  bed_.disk().failures().fail_block(IoOp::read, FileStore::first_block(inode) + 5);
  EXPECT_EQ(bed_.read(inode, 0, 16 * kPageSize).size(), 5 * kPageSize) << "up to the error";
  bed_.drop(inode);
  EXPECT_EQ(bed_.read(inode, 5 * kPageSize, 10), "EIO");
  EXPECT_EQ(bed_.read(inode, 6 * kPageSize, 2), "gg");
  // A fault that reads a whole cluster for page 4 is not hurt by page 5.
  bed_.complete_all();
  bed_.drop(inode);
  ASSERT_TRUE(bed_.cache.start_read(inode.mapping, 0, 16, 4, kAllocUser).ok());
  bed_.complete_all();
  EXPECT_EQ(inode.mapping.nr_pages, 15U);
  EXPECT_TRUE(bed_.cache.lookup(inode.mapping, 4).ok());
  EXPECT_EQ(bed_.cache.lookup(inode.mapping, 5).error(), Error::no_entry);
  ASSERT_TRUE(bed_.cache.start_read(inode.mapping, 5, 1, 5, kAllocUser).ok());
  bed_.complete_all();
  EXPECT_EQ(bed_.cache.lookup(inode.mapping, 5).error(), Error::io);
  ASSERT_TRUE(bed_.cache.start_read(inode.mapping, 5, 1, 5, kAllocUser).ok());
  bed_.complete_all();
  // Whoever replaces the page does not need what cannot be read.
  ASSERT_TRUE(bed_.write(inode, 5 * kPageSize, text(kPageSize, 'N')).ok());
  EXPECT_EQ(bed_.write(inode, 5 * kPageSize, "n").value(), 1U);
  bed_.disk().failures().disarm_all();
}

TEST_F(FileStoreTest, a_failed_write_keeps_the_page_and_is_told_once) {
  Inode& inode = cold_file("f", 4);
  ASSERT_TRUE(bed_.write(inode, 0, text(3 * kPageSize, 'X')).ok());
  bed_.disk().failures().fail_block(Failure::write_torn, FileStore::first_block(inode) + 1);
  EXPECT_EQ(bed_.sync(inode).error(), Error::io);
  EXPECT_EQ(inode.mapping.nr_dirty, 1U);
  EXPECT_EQ(bed_.read(inode, kPageSize, 2), "XX");
  EXPECT_EQ(bed_.sync(inode).error(), Error::io) << "tried again, failed again";
  bed_.disk().failures().disarm_all();
  EXPECT_TRUE(bed_.sync(inode).ok());
  EXPECT_EQ(bed_.stored(inode, 1), text(kPageSize, 'X'));
  bed_.disk().failures().arm(Failure::write_no_space, 1);
  ASSERT_TRUE(bed_.write(inode, 0, "Y").ok());
  EXPECT_EQ(bed_.sync(inode).error(), Error::no_space);
  EXPECT_TRUE(bed_.sync(inode).ok());
}

TEST_F(FileStoreTest, more_transfers_than_requests_wait_their_turn) {
  Inode& inode = create("f", 0, 200);
  ASSERT_TRUE(bed_.write(inode, 0, text(200 * kPageSize, 'x')).ok());
  EXPECT_EQ(bed_.vfs.fsync(inode).error(), Error::wait);
  EXPECT_EQ(bed_.files.in_flight(), PageTransfers::kMax);
  EXPECT_TRUE(bed_.validate());
  EXPECT_TRUE(bed_.sync(inode).ok());
  bed_.drop(inode);
  u32 started = 0;
  Status status = kOk;
  for (; status.ok(); started += 2) {
    status = bed_.cache.start_read(inode.mapping, started, 1, started, kAllocUser);
  }
  EXPECT_EQ(status.error(), Error::wait);
  EXPECT_EQ(started / 2 - 1, PageTransfers::kMax);
  bed_.complete_all();
}

TEST_F(FileStoreTest, a_mapped_page_is_written_where_its_bytes_can_be_reached) {
  for (const bool reachable : {true, false}) {
    SimConfig config = FileBed::config_of(256, 16);
    config.features.frame_bytes_while_mapped = config.features.shared_frames = reachable;
    FileBed bed(config);
    Inode& inode = bed.create("f", 0, 2);
    ASSERT_TRUE(bed.write(inode, 0, "abc").ok());
    const Pfn pfn = bed.cache.find(inode.mapping, 0).pfn();
    bed.frames.transition(pfn, PageState::unmapped, PageState::mapped);
    bed.frames[pfn].mapcount = 1;
    EXPECT_TRUE(bed.validate());
    const Status status = bed.sync(inode);
    EXPECT_EQ(status.ok(), reachable);
    EXPECT_EQ(bed.frames[pfn].has(PageFlag::dirty), !reachable);
    if (!reachable) {
      EXPECT_EQ(status.error(), Error::again);
    }
  }
}

TEST_F(FileStoreTest, without_a_device_there_is_no_room) {
  FileStore none;
  ASSERT_TRUE(
      none.init(bed_.sim.machine(), bed_.cache, bed_.allocator, bed_.frames, bed_.observer, nullptr)
          .ok());
  EXPECT_FALSE(none.present());
  Vfs vfs;
  ASSERT_TRUE(vfs.init(bed_.sim.machine(), bed_.cache, bed_.allocator, bed_.frames, bed_.observer,
                       {.inode_hash_bits = 6, .dentry_hash_bits = 6})
                  .ok());
  ASSERT_TRUE(vfs.mount(none).ok());
  EXPECT_EQ(vfs.create(vfs.root(), Name::of("a"), {}).error(), Error::no_space);
  EXPECT_EQ(vfs.lookup(vfs.root(), Name::of("a")).error(), Error::no_entry);
  EXPECT_TRUE(none.validate());
  EXPECT_TRUE(vfs.unmount().ok());
}

TEST_F(FileStoreTest, validate_sees_what_is_broken) {
  Inode& a = cold_file("a", 4);
  Inode& b = cold_file("b", 4);
  ASSERT_TRUE(bed_.validate());
  const auto broken = [&](auto& field, auto value, const char* what) {
    const auto old = field;
    field = value;
    EXPECT_FALSE(bed_.validate()) << what;
    field = old;
    ASSERT_TRUE(bed_.validate()) << what;
  };
  FileStore::Extent& extent_a = bed_.files.debug_extent(static_cast<u32>(a.number - 1));
  FileStore::Extent& extent_b = bed_.files.debug_extent(static_cast<u32>(b.number - 1));
  broken(extent_b.first_block, extent_a.first_block + 3, "one block of two files");
  broken(extent_b.first_block, u64{253}, "beyond the device");
  broken(extent_a.capacity_pages, u64{3}, "a file that thinks it has more");
  broken(extent_a.used, false, "blocks of nobody");
  broken(a.mapping.size_bytes, 3 * kPageSize, "contents beyond the end of file");
  broken(a.number, u64{7}, "another number");
  broken(a.mapping.nr_pages, u64{1}, "pages that are not there");
}

}  // namespace
}  // namespace spillway
