// Vfs over MemFs: names, links, renames, open files that lost their name, limits, errors. Each test
// ends with an unmount that leaves no frame behind.
#include "vfs/vfs_bed_test.h"

namespace spillway {
namespace {

class VfsTest : public ::testing::Test {
 protected:
  void SetUp() override { bed_ = std::make_unique<VfsBed>(); }
  void TearDown() override {
    EXPECT_TRUE(bed_->vfs.validate());
    EXPECT_TRUE(bed_->mem.validate());
    EXPECT_EQ(bed_->unmount(), "ok");
    EXPECT_EQ(bed_->vfs.stats().inodes, 0U);
    EXPECT_EQ(bed_->vfs.stats().dentries, 0U);
    EXPECT_EQ(bed_->cache.pages(), 0U);
  }
  std::unique_ptr<VfsBed> bed_;
};

TEST_F(VfsTest, makes_finds_and_removes_names) {
  EXPECT_EQ(bed_->mkdir("/a"), "ok");
  EXPECT_EQ(bed_->touch("/a/f"), "ok");
  EXPECT_EQ(bed_->touch("/a/f"), name_of(Error::exists));
  EXPECT_EQ(bed_->mkdir("/a/f"), name_of(Error::exists));
  EXPECT_EQ(bed_->look("/a/f"), "ok");
  EXPECT_EQ(bed_->look("a//./../a/f"), "ok");
  EXPECT_EQ(bed_->look("/a/g"), name_of(Error::no_entry));
  EXPECT_EQ(bed_->look("/a/f/g"), name_of(Error::not_directory));
  EXPECT_EQ(bed_->look("/a/f/"), name_of(Error::not_directory));
  EXPECT_EQ(bed_->look("/.."), "ok");
  EXPECT_EQ(bed_->look(""), name_of(Error::no_entry));
  EXPECT_EQ(bed_->rmdir("/a"), name_of(Error::not_empty));
  EXPECT_EQ(bed_->rmdir("/a/f"), name_of(Error::not_directory));
  EXPECT_EQ(bed_->unlink("/a"), name_of(Error::is_directory));
  EXPECT_EQ(bed_->rmdir("/a/."), name_of(Error::invalid));
  EXPECT_EQ(bed_->rmdir("/a/.."), name_of(Error::not_empty));
  EXPECT_EQ(bed_->mkdir("/a/."), name_of(Error::exists));
  EXPECT_EQ(bed_->unlink("/a/f"), "ok");
  EXPECT_EQ(bed_->look("/a/f"), name_of(Error::no_entry));
  EXPECT_EQ(bed_->rmdir("/a"), "ok");
  EXPECT_EQ(bed_->look("/a"), name_of(Error::no_entry));
  EXPECT_EQ(bed_->root().attr.nlink, 2U);
}

TEST_F(VfsTest, names_have_up_to_255_bytes) {
  const std::string longest(255, 'x');
  EXPECT_EQ(bed_->touch("/" + longest), "ok");
  EXPECT_EQ(bed_->look("/" + longest), "ok");
  EXPECT_EQ(bed_->touch("/" + longest + "x"), name_of(Error::name_too_long));
  EXPECT_EQ(bed_->look("/" + longest + "x"), name_of(Error::name_too_long));
  EXPECT_EQ(bed_->rename("/" + longest, "/short"), "ok");
  EXPECT_EQ(bed_->look("/short"), "ok");
  EXPECT_EQ(bed_->look("/" + longest), name_of(Error::no_entry));
  EXPECT_EQ(bed_->rename("/short", "/" + longest), "ok");
  EXPECT_EQ(bed_->look("/" + longest), "ok");
  std::string path = "/";
  while (path.size() < Vfs::kPathMax) path += "./";
  EXPECT_EQ(bed_->look(path), name_of(Error::name_too_long));
}

TEST_F(VfsTest, a_name_that_is_not_there_is_asked_for_once) {
  EXPECT_EQ(bed_->look("/f"), name_of(Error::no_entry));
  const VfsStats before = bed_->vfs.stats();
  EXPECT_EQ(before.dentries_negative, 1U);
  EXPECT_EQ(bed_->look("/f"), name_of(Error::no_entry));
  EXPECT_EQ(bed_->vfs.stats().dentry_misses, before.dentry_misses);
  EXPECT_EQ(bed_->touch("/f"), "ok");
  EXPECT_EQ(bed_->look("/f"), "ok");
  EXPECT_EQ(bed_->vfs.stats().dentries_negative, 0U);
}

TEST_F(VfsTest, an_open_file_lives_without_a_name) {
  EXPECT_EQ(bed_->touch("/f"), "ok");
  Inode* f = bed_->walk("/f");
  EXPECT_EQ(bed_->write_file(*f, 0, "kept"), "4");
  EXPECT_EQ(bed_->unlink("/f"), "ok");
  EXPECT_EQ(f->attr.nlink, 0U);
  EXPECT_EQ(bed_->touch("/f"), "ok");  // the name is free for another file
  EXPECT_EQ(bed_->read_file(*f, 0, 10), "kept");
  const u64 number = f->number;
  const u64 used = bed_->mem.stats().inodes_free;
  bed_->vfs.put(*f);
  EXPECT_EQ(bed_->mem.stats().inodes_free, used + 1);
  EXPECT_EQ(bed_->vfs.get(number).error(), Error::no_entry);
}

TEST_F(VfsTest, a_file_goes_with_its_last_name) {
  EXPECT_EQ(bed_->touch("/f"), "ok");
  EXPECT_EQ(bed_->link("/f", "/g"), "ok");
  EXPECT_EQ(bed_->link("/f", "/g"), name_of(Error::exists));
  EXPECT_EQ(bed_->mkdir("/d"), "ok");
  EXPECT_EQ(bed_->link("/d", "/e"), name_of(Error::perm));
  Inode* f = bed_->walk("/f");
  EXPECT_EQ(f->attr.nlink, 2U);
  EXPECT_EQ(bed_->write_file(*f, 0, "one"), "3");
  EXPECT_EQ(bed_->rename("/f", "/g"), "ok");  // two names of one file: nothing happens
  EXPECT_EQ(bed_->look("/f"), "ok");
  EXPECT_EQ(bed_->unlink("/f"), "ok");
  bed_->vfs.put(*f);
  Inode* g = bed_->walk("/g");
  EXPECT_EQ(g, f);
  EXPECT_EQ(bed_->read_file(*g, 0, 9), "one");
  EXPECT_EQ(g->attr.nlink, 1U);
  bed_->vfs.put(*g);
}

TEST_F(VfsTest, rename_replaces_what_may_be_replaced) {
  for (const char* d : {"/a", "/a/b", "/e", "/full"}) EXPECT_EQ(bed_->mkdir(d), "ok");
  for (const char* f : {"/f", "/g", "/full/x"}) EXPECT_EQ(bed_->touch(f), "ok");
  EXPECT_EQ(bed_->rename("/f", "/g", true), name_of(Error::exists));
  EXPECT_EQ(bed_->rename("/f", "/a"), name_of(Error::is_directory));
  EXPECT_EQ(bed_->rename("/a", "/f"), name_of(Error::not_directory));
  EXPECT_EQ(bed_->rename("/a", "/full"), name_of(Error::not_empty));
  EXPECT_EQ(bed_->rename("/a", "/a/b/c"), name_of(Error::invalid));
  EXPECT_EQ(bed_->rename("/a", "/a/c"), name_of(Error::invalid));
  EXPECT_EQ(bed_->rename("/a/b", "/a"), name_of(Error::not_empty));
  EXPECT_EQ(bed_->rename("/a/.", "/z"), name_of(Error::busy));
  EXPECT_EQ(bed_->rename("/nothing", "/z"), name_of(Error::no_entry));
  EXPECT_EQ(bed_->rename("/f", "/g"), "ok");
  EXPECT_EQ(bed_->look("/f"), name_of(Error::no_entry));
  EXPECT_EQ(bed_->rename("/a", "/e"), "ok");
  EXPECT_EQ(bed_->look("/e/b"), "ok");
  EXPECT_EQ(bed_->rename("/e/b", "/full/b"), "ok");
  EXPECT_EQ(bed_->look("/full/b/../x"), "ok");
  EXPECT_EQ(bed_->root().attr.nlink, 4U);
}

TEST_F(VfsTest, symbolic_links_are_followed_forty_times) {
  EXPECT_EQ(bed_->mkdir("/d"), "ok");
  EXPECT_EQ(bed_->touch("/d/f"), "ok");
  EXPECT_EQ(bed_->symlink("d", "/l"), "ok");
  EXPECT_EQ(bed_->symlink("../l/f", "/d/m"), "ok");
  EXPECT_EQ(bed_->symlink("/l/m", "/n"), "ok");
  EXPECT_EQ(bed_->look("/n"), "ok");
  EXPECT_EQ(bed_->look("/l/f"), "ok");
  EXPECT_EQ(bed_->look("/n/"), name_of(Error::not_directory));
  Inode* link = bed_->walk("/n", false);
  ASSERT_TRUE(link->is_symlink());
  char text[8];
  EXPECT_EQ(bed_->vfs.readlink(*link, text, sizeof text).value(), 4U);
  EXPECT_EQ(std::string(text, 4), "/l/m");
  bed_->vfs.put(*link);
  EXPECT_EQ(bed_->symlink("loop", "/loop"), "ok");
  EXPECT_EQ(bed_->look("/loop"), name_of(Error::loop));
  EXPECT_EQ(bed_->symlink("nowhere", "/dangling"), "ok");
  EXPECT_EQ(bed_->look("/dangling"), name_of(Error::no_entry));
  EXPECT_EQ(bed_->touch("/c0"), "ok");
  for (int i = 1; i <= 41; ++i) {
    EXPECT_EQ(bed_->symlink("c" + std::to_string(i - 1), "/c" + std::to_string(i)), "ok");
  }
  EXPECT_EQ(bed_->look("/c40"), "ok");
  EXPECT_EQ(bed_->look("/c41"), name_of(Error::loop));
}

TEST_F(VfsTest, lists_directories_in_parts) {
  EXPECT_EQ(bed_->mkdir("/d"), "ok");
  std::set<std::string> want = {".", ".."};
  for (int i = 0; i < 20; ++i) {
    const std::string name = "f" + std::to_string(i);
    EXPECT_EQ(bed_->touch("/d/" + name), "ok");
    want.insert(name);
  }
  Inode* d = bed_->walk("/d");
  const Listing listing = bed_->list(*d);
  EXPECT_EQ(std::set<std::string>(listing.names.begin(), listing.names.end()), want);
  EXPECT_EQ(listing.names.size(), want.size());
  bed_->vfs.put(*d);
}

TEST_F(VfsTest, a_directory_that_is_gone_takes_no_names) {
  EXPECT_EQ(bed_->mkdir("/d"), "ok");
  EXPECT_EQ(bed_->look("/d/negative"), name_of(Error::no_entry));
  Inode* d = bed_->walk("/d");
  EXPECT_EQ(bed_->rmdir("/d"), "ok");
  EXPECT_EQ(bed_->vfs.create(*d, Name::of("f"), {}).error(), Error::no_entry);
  EXPECT_EQ(bed_->vfs.lookup(*d, Name::of("f")).error(), Error::no_entry);
  const u64 number = d->number;
  bed_->vfs.put(*d);
  // The dentries below did not keep it alive.
  EXPECT_EQ(bed_->vfs.get(number).error(), Error::no_entry);
}

TEST_F(VfsTest, files_grow_shrink_and_have_holes) {
  EXPECT_EQ(bed_->touch("/f"), "ok");
  Inode* f = bed_->walk("/f");
  EXPECT_EQ(bed_->write_file(*f, 10000, "end"), "3");
  EXPECT_EQ(bed_->read_file(*f, 9998, 100), std::string("\0\0end", 5));
  EXPECT_EQ(bed_->read_file(*f, 0, 5000), std::string(5000, '\0'));
  EXPECT_EQ(f->attr.sectors, 8U);
  EXPECT_TRUE(bed_->vfs.set_size(*f, 10001).ok());
  EXPECT_TRUE(bed_->vfs.set_size(*f, 20000).ok());
  EXPECT_EQ(bed_->read_file(*f, 10000, 4), std::string("e\0\0\0", 4));
  EXPECT_TRUE(bed_->vfs.set_size(*f, 0).ok());
  EXPECT_EQ(f->attr.sectors, 0U);
  EXPECT_EQ(bed_->cache.pages(), 0U);
  EXPECT_EQ(bed_->vfs.set_size(*f, ~u64{0}).error(), Error::file_too_big);
  EXPECT_EQ(bed_->vfs.set_size(bed_->root(), 1).error(), Error::is_directory);
  bed_->vfs.put(*f);
}

// As Linux: ftruncate(2) to the present size, and O_TRUNC of an empty file.
TEST_F(VfsTest, setting_the_same_size_sets_the_times) {
  EXPECT_EQ(bed_->touch("/f"), "ok");
  Inode* f = bed_->walk("/f");
  f->attr.mtime = f->attr.ctime = {-1, 0};
  EXPECT_TRUE(bed_->vfs.set_size(*f, 0).ok());
  EXPECT_EQ(f->attr.mtime, bed_->vfs.now());
  EXPECT_EQ(f->attr.ctime, bed_->vfs.now());
  bed_->vfs.put(*f);
}

// Not made by calls of ours, but a host's directory or an image may have one: page 2^32 is not
// page 0.
TEST_F(VfsTest, a_file_with_more_pages_than_numbers_is_read_as_far_as_they_go) {
  EXPECT_EQ(bed_->touch("/f"), "ok");
  Inode* f = bed_->walk("/f");
  EXPECT_EQ(bed_->write_file(*f, 0, "low"), "3");
  f->mapping.size_bytes = u64{20} << 40;
  u8 out[8] = {};
  for (const u64 offset : {Vfs::kSizeMax, u64{1} << 44, (u64{1} << 44) + 1, (u64{20} << 40) - 1}) {
    FileReadahead ra;
    u64 done = 0;
    EXPECT_EQ(bed_->wait_for([&] { return bed_->vfs.read(*f, ra, offset, out, 8, &done); }).error(),
              Error::file_too_big)
        << offset;
  }
  EXPECT_EQ(bed_->read_file(*f, Vfs::kSizeMax - 5, 8), std::string(5, '\0')) << "a short read";
  EXPECT_EQ(bed_->read_file(*f, 0, 3), "low");
  EXPECT_TRUE(bed_->vfs.set_size(*f, 3).ok());
  EXPECT_EQ(bed_->read_file(*f, 0, 8), "low");
  bed_->vfs.put(*f);
}

TEST_F(VfsTest, a_full_file_system_says_so_and_shows_nothing) {
  bed_ = std::make_unique<VfsBed>(4096, MemFsLimits{.blocks = 2, .inodes = 3});
  EXPECT_EQ(bed_->touch("/f"), "ok");
  EXPECT_EQ(bed_->touch("/g"), "ok");
  EXPECT_EQ(bed_->touch("/h"), name_of(Error::no_space));
  Inode* f = bed_->walk("/f");
  EXPECT_EQ(bed_->write_file(*f, 0, std::string(3 * kPageSize, 'x')), "8192");
  EXPECT_EQ(f->mapping.size_bytes, 8192U);
  EXPECT_EQ(bed_->write_file(*f, 8192, "y"), name_of(Error::no_space));
  EXPECT_EQ(bed_->cache.pages(), 2U);
  EXPECT_TRUE(bed_->vfs.set_size(*f, 1).ok());
  EXPECT_EQ(bed_->write_file(*f, 8192, "y"), "1");
  bed_->vfs.put(*f);
}

TEST_F(VfsTest, a_directory_known_by_number_alone_gets_its_name_later) {
  EXPECT_EQ(bed_->mkdir("/a"), "ok");
  EXPECT_EQ(bed_->mkdir("/a/b"), "ok");
  EXPECT_EQ(bed_->touch("/a/b/f"), "ok");
  Inode* b = bed_->walk("/a/b");
  const u64 number = b->number;
  bed_->vfs.put(*b);
  while (bed_->vfs.dentries().count_objects() != 0) (void)bed_->vfs.dentries().prune(100);
  while (bed_->vfs.inodes().count_objects() != 0) (void)bed_->vfs.inodes().prune(100);
  EXPECT_EQ(bed_->vfs.stats().inodes, 1U);
  b = bed_->vfs.get(number).value();
  Inode* f = bed_->vfs.lookup(*b, Name::of("f")).value();
  ASSERT_NE(b->aliases, nullptr);
  Dentry* alias = b->aliases;
  EXPECT_TRUE(alias->is(DentryFlag::disconnected));
  Inode* up = bed_->vfs.lookup(*b, Name::of("..")).value();
  EXPECT_EQ(bed_->rename("/a", "/z"), "ok");
  EXPECT_EQ(bed_->vfs.rename(bed_->root(), Name::of("z"), *b, Name::of("x"), false).error(),
            Error::invalid);
  EXPECT_EQ(bed_->look("/z/b/f"), "ok");
  EXPECT_EQ(b->aliases, alias);
  EXPECT_FALSE(alias->is(DentryFlag::disconnected));
  for (Inode* i : {b, f, up}) bed_->vfs.put(*i);
}

TEST_F(VfsTest, unmount_is_refused_while_a_file_is_open) {
  EXPECT_EQ(bed_->touch("/f"), "ok");
  Inode* f = bed_->walk("/f");
  EXPECT_EQ(bed_->unmount(), name_of(Error::busy));
  bed_->vfs.put(*f);
}

// --- The ageing of both caches

class VfsAgeing : public VfsTest {
 protected:
  void make_files(int count) {
    for (int i = 0; i < count; ++i) EXPECT_EQ(bed_->touch("/" + std::to_string(i)), "ok");
  }
  DentryCache& dentries() { return bed_->vfs.dentries(); }
  InodeCache& inodes() { return bed_->vfs.inodes(); }
};

TEST_F(VfsAgeing, row_67_unused_dentries_get_a_second_chance) {
  make_files(1000);
  EXPECT_EQ(bed_->vfs.stats().dentries_unused, 1000U);
  for (int i = 450; i < 550; ++i) EXPECT_EQ(bed_->look("/" + std::to_string(i)), "ok");
  EXPECT_EQ(dentries().prune(0), 0U);
  EXPECT_EQ(dentries().prune(950), 900U);
  EXPECT_EQ(bed_->vfs.stats().dentries_unused, 100U);
  for (int i = 0; i < 1000; ++i) {
    const std::string name = std::to_string(i);
    Dentry* d = dentries().lookup(bed_->vfs.root_dentry(), VfsBed::name(name));
    EXPECT_EQ(d != nullptr, i >= 450 && i < 550) << i;
    if (d != nullptr) dentries().put(*d);
  }
}

TEST_F(VfsAgeing, row_67_half_of_the_touched_ones_lost_their_mark) {
  make_files(1000);
  std::vector<Dentry*> touched;
  for (int i = 0; i < 100; ++i) {
    const std::string name = std::to_string(i);
    Dentry* d = dentries().lookup(bed_->vfs.root_dentry(), VfsBed::name(name));
    ASSERT_NE(d, nullptr);
    touched.push_back(d);
    dentries().put(*d);
  }
  EXPECT_EQ(dentries().prune(950), 900U);
  int marked = 0;
  for (const Dentry* d : touched) marked += d->is(DentryFlag::referenced) ? 1 : 0;
  EXPECT_EQ(marked, 50);
  EXPECT_TRUE(bed_->vfs.validate());
}

TEST_F(VfsAgeing, row_67_parents_outlive_their_children) {
  std::string path;
  for (int depth = 0; depth < 200; ++depth) {
    path += "/d";
    EXPECT_EQ(bed_->mkdir(path), "ok");
  }
  // Only the lowest is unused: each of the others has a child.
  EXPECT_EQ(bed_->vfs.stats().dentries_unused, 1U);
  for (u64 left = 200; left > 0; --left) {
    EXPECT_EQ(bed_->vfs.stats().dentries, left + 1);
    // Those above were looked up on the way, and are spared once.
    while (dentries().prune(1) == 0) EXPECT_EQ(bed_->vfs.stats().dentries, left + 1);
    EXPECT_TRUE(bed_->vfs.validate());
  }
  EXPECT_EQ(bed_->vfs.stats().dentries, 1U);
}

TEST_F(VfsAgeing, scans_do_nothing_where_no_file_system_may_be_entered) {
  make_files(10);
  EXPECT_EQ(dentries().scan_objects({.nr_to_scan = 10, .may_enter_fs = false}), 0U);
  {
    const PageAllocator::NoFs no_fs(bed_->allocator);
    EXPECT_EQ(dentries().scan_objects({.nr_to_scan = 10}), 0U);
    EXPECT_EQ(inodes().scan_objects({.nr_to_scan = 10}), 0U);
  }
  EXPECT_EQ(dentries().scan_objects({.nr_to_scan = 10}), 10U);
  EXPECT_EQ(inodes().scan_objects({.nr_to_scan = 10, .may_enter_fs = false}), 0U);
  EXPECT_EQ(inodes().scan_objects({.nr_to_scan = 10}), 10U);
}

TEST_F(VfsAgeing, row_68_an_inode_with_cached_pages_stays) {
  make_files(2);
  Inode* f = bed_->walk("/0");
  EXPECT_EQ(bed_->write_file(*f, 0, "page"), "4");
  bed_->vfs.put(*f);
  (void)dentries().prune(10);
  (void)dentries().prune(10);
  EXPECT_EQ(bed_->vfs.stats().dentries, 1U);
  EXPECT_EQ(inodes().prune(10), 1U);
  EXPECT_EQ(bed_->vfs.stats().inodes, 2U);
  EXPECT_EQ(bed_->vfs.stats().inodes_unused, 1U);
  f = bed_->walk("/0");
  EXPECT_EQ(bed_->read_file(*f, 0, 10), "page");
  bed_->vfs.put(*f);
}

TEST_F(VfsAgeing, row_68_dirty_inodes_are_written_then_go) {
  make_files(5);
  for (int i = 0; i < 5; ++i) {
    Inode* f = bed_->walk("/" + std::to_string(i));
    EXPECT_TRUE(bed_->vfs.set_attributes(*f, {.mode = true, .to = {.mode = 0700}}).ok());
    bed_->vfs.put(*f);
  }
  while (dentries().count_objects() != 0) (void)dentries().prune(10);
  const u64 written = bed_->vfs.stats().inodes_written;
  EXPECT_EQ(bed_->vfs.stats().inodes_dirty, 6U);  // the root too
  EXPECT_EQ(inodes().count_objects(), 0U);
  (void)inodes().prune(10);
  EXPECT_EQ(bed_->vfs.stats().inodes_written, written + 6);
  (void)inodes().prune(10);
  EXPECT_EQ(bed_->vfs.stats().inodes, 1U);
  Inode* f = bed_->walk("/3");
  EXPECT_EQ(f->attr.mode, kModeRegular | 0700);
  bed_->vfs.put(*f);
}

TEST_F(VfsAgeing, dirty_inodes_are_written_after_thirty_seconds) {
  make_files(3);
  (void)inodes().write_back(100, bed_->sim.machine().clock.now_ns(), true);
  Inode* f = bed_->walk("/1");
  EXPECT_TRUE(bed_->vfs.set_attributes(*f, {.mode = true}).ok());
  const u64 since = f->dirtied_ns;
  EXPECT_FALSE(inodes().write_back_due(since + InodeCache::kWriteAfterNs - 1));
  EXPECT_EQ(inodes().write_back(100, since + InodeCache::kWriteAfterNs - 1, false), 0U);
  EXPECT_TRUE(inodes().write_back_due(since + InodeCache::kWriteAfterNs));
  EXPECT_EQ(inodes().write_back(100, since + InodeCache::kWriteAfterNs, false), 1U);
  EXPECT_EQ(bed_->vfs.stats().inodes_dirty, 0U);
  bed_->vfs.put(*f);
}

TEST_F(VfsAgeing, row_71_released_objects_are_found_until_memory_is_short) {
  make_files(500);
  Inode* x = bed_->walk("/77");
  const u64 number = x->number;
  bed_->vfs.put(*x);
  const VfsStats before = bed_->vfs.stats();
  EXPECT_EQ(bed_->walk("/77"), x);
  bed_->vfs.put(*x);
  EXPECT_EQ(bed_->vfs.stats().dentry_hits, before.dentry_hits + 1);
  EXPECT_EQ(bed_->vfs.stats().dentry_misses, before.dentry_misses);
  EXPECT_EQ(bed_->vfs.stats().inode_misses, before.inode_misses);
  const u64 slabs = dentries().objects().slabs();
  const u64 free_before = bed_->allocator.free_pages().v;
  EXPECT_GT(slabs, 2U);
  while (dentries().count_objects() != 0) {
    (void)dentries().scan_objects({.nr_to_scan = dentries().count_objects()});
  }
  dentries().shrink_slabs();
  EXPECT_EQ(dentries().objects().slabs(), 1U);  // the root's
  EXPECT_GE(bed_->allocator.free_pages().v, free_before + slabs - 1);
  while (inodes().stats().inodes != 1) (void)inodes().scan_objects({.nr_to_scan = 1000});
  x = bed_->walk("/77");
  EXPECT_EQ(x->number, number);
  EXPECT_EQ(bed_->vfs.stats().dentry_misses, before.dentry_misses + 1);
  EXPECT_EQ(bed_->vfs.stats().inode_misses, before.inode_misses + 1);
  bed_->vfs.put(*x);
}

TEST_F(VfsAgeing, row_71_of_two_released_the_one_touched_stays) {
  make_files(2);
  EXPECT_EQ(bed_->look("/0"), "ok");
  EXPECT_EQ(dentries().prune(1), 1U);
  const VfsStats before = bed_->vfs.stats();
  EXPECT_EQ(bed_->look("/0"), "ok");
  EXPECT_EQ(bed_->vfs.stats().dentry_misses, before.dentry_misses);
  EXPECT_EQ(bed_->look("/1"), "ok");
  EXPECT_EQ(bed_->vfs.stats().dentry_misses, before.dentry_misses + 1);
}

// --- The validators see damage

TEST_F(VfsTest, validate_sees_a_wrong_count) {
  EXPECT_EQ(bed_->touch("/f"), "ok");
  Inode* f = bed_->walk("/f");
  f->count = 0;
  EXPECT_FALSE(bed_->vfs.inodes().validate());
  EXPECT_FALSE(bed_->vfs.dentries().validate());
  f->count = 2;
  EXPECT_TRUE(bed_->vfs.validate());
  Dentry* d = f->aliases;
  d->hash ^= 1;
  EXPECT_FALSE(bed_->vfs.dentries().validate());
  d->hash ^= 1;
  f->aliases = nullptr;
  EXPECT_FALSE(bed_->vfs.dentries().validate());
  f->aliases = d;
  f->number += 1;
  EXPECT_FALSE(bed_->vfs.inodes().validate());
  f->number -= 1;
  bed_->vfs.put(*f);
}

}  // namespace
}  // namespace spillway
