// Goal: every call of the port on images of each block size and feature set gives what a file
// system must give, and leaves an image that e2fsck finds clean and that reads back the same.
#include <algorithm>
#include <set>

#include "ext_bed.h"

namespace spillway {
namespace {

struct Kind {
  const char* name;
  const char* options;
};
constexpr Kind kKinds[] = {
    {"ext2_1k", "-t ext2 -b 1024"},
    {"ext2_4k", "-t ext2 -b 4096"},
    {"ext3_2k", "-t ext3 -b 2048"},
    {"ext4_1k", "-t ext4 -b 1024"},
    {"ext4_2k_csum", "-t ext4 -b 2048 -O metadata_csum,64bit"},
    {"ext4_4k_csum", "-t ext4 -b 4096 -O metadata_csum,64bit"},
    {"ext4_4k_plain", "-t ext4 -b 4096 -O ^metadata_csum,^64bit,^has_journal,uninit_bg"},
    {"ext4_4k_small_inodes", "-t ext4 -b 4096 -I 128 -O ^metadata_csum"},
};

class ExtTest : public testing::TestWithParam<Kind> {
 protected:
  Image image() const { return make_image(GetParam().options, 16384); }
};
INSTANTIATE_TEST_SUITE_P(Kinds, ExtTest, testing::ValuesIn(kKinds),
                         [](const auto& kind) { return std::string(kind.param.name); });

std::string pattern(u64 bytes, u64 seed) {
  std::string data(bytes, '\0');
  Prng prng(seed);
  for (char& c : data) c = static_cast<char>('a' + prng.below(26));
  return data;
}

void expect_clean(const Image& image) {
  const CommandEnd end = e2fsck(image, "-n");
  EXPECT_EQ(end.code, 0) << end.output;
}

TEST_P(ExtTest, opens_and_closes_without_a_trace) {
  ExtBed bed(image());
  ASSERT_TRUE(bed.open_status.ok()) << name_of(bed.open_status.error()) << bed.ext.why();
  Inode* found = bed.walk("/lost+found");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->attr.nlink, 2U);
  bed.vfs.put(*found);
  EXPECT_EQ(bed.readlink("/lost+found"), "EINVAL");
  EXPECT_EQ(ExtBed::said(bed.unmount()), "ok");
  expect_clean(bed.stored());
}

TEST_P(ExtTest, files_of_all_sizes_read_back) {
  ExtBed bed(image());
  ASSERT_TRUE(bed.open_status.ok());
  const u64 sizes[] = {0, 1, 100, 1023, 1024, 1025, 4095, 4096, 4097, 12289, 70000, 1 << 20};
  u64 seed = 1;
  for (const u64 size : sizes) {
    const std::string path = "/f" + std::to_string(size);
    ASSERT_EQ(bed.put_file(path, pattern(size, seed)), "ok") << path;
    EXPECT_EQ(bed.read(path), pattern(size, seed++));
  }
  ASSERT_EQ(bed.unmount().ok(), true);
  const Image after = bed.stored();
  expect_clean(after);
  ExtBed again(after, ExtMode::read_only);
  ASSERT_TRUE(again.open_status.ok());
  seed = 1;
  for (const u64 size : sizes) {
    EXPECT_EQ(again.read("/f" + std::to_string(size)) == pattern(size, seed), true) << size;
    ++seed;
  }
  EXPECT_TRUE(again.unmount().ok());
}

// Whatever is transferred, contents and metadata, is counted once.
TEST_P(ExtTest, vmstat_counts_every_page_once) {
  ExtBed bed(image());
  ASSERT_TRUE(bed.open_status.ok());
  const u64 pages = 60;
  const std::string data = pattern(pages * kPageSize - 77, 3);
  const u64 out_before = bed.count(Counter::pgpgout);
  ASSERT_EQ(bed.put_file("/f", data), "ok");
  ASSERT_EQ(bed.sync(), "ok");
  EXPECT_GE(bed.count(Counter::pgpgout) - out_before, pages);
  ASSERT_EQ(bed.set_size("/f", 20 * kPageSize + 5000), "ok");  // a tail is read and written
  ASSERT_TRUE(bed.unmount().ok());
  EXPECT_EQ(bed.count(Counter::pgpgin), bed.device.read);
  EXPECT_EQ(bed.count(Counter::pgpgout), bed.device.written);

  ExtBed again(bed.stored(), ExtMode::read_only);
  ASSERT_TRUE(again.open_status.ok());
  EXPECT_EQ(again.read("/f"), data.substr(0, 20 * kPageSize + 5000));
  EXPECT_GE(again.count(Counter::pgpgin), 22U);
  EXPECT_EQ(again.count(Counter::pgpgin), again.device.read);
  EXPECT_EQ(again.count(Counter::pgpgout), 0U);
  EXPECT_TRUE(again.unmount().ok());
}

TEST_P(ExtTest, names_come_and_go) {
  ExtBed bed(image());
  ASSERT_TRUE(bed.open_status.ok());
  const u64 free_before = bed.ext.stats().blocks_free;
  const u64 inodes_before = bed.ext.stats().inodes_free;
  EXPECT_EQ(bed.mkdir("/d"), "ok");
  EXPECT_EQ(bed.mkdir("/d/e"), "ok");
  EXPECT_EQ(bed.mkdir("/d"), "EEXIST");
  EXPECT_EQ(bed.put_file("/d/f", "hello"), "ok");
  EXPECT_EQ(bed.link("/d/f", "/d/e/g"), "ok");
  EXPECT_EQ(bed.read("/d/e/g"), "hello");
  EXPECT_EQ(bed.symlink("d/e/g", "/short"), "ok");
  EXPECT_EQ(bed.readlink("/short"), "d/e/g");
  const std::string long_target = pattern(700, 3);
  EXPECT_EQ(bed.symlink(long_target, "/long"), "ok");
  EXPECT_EQ(bed.readlink("/long"), long_target);
  EXPECT_EQ(bed.make("/fifo", kModeFifo | 0600), "ok");
  EXPECT_EQ(bed.make("/disk", kModeBlock | 0600, 8 << 8 | 1), "ok");
  EXPECT_EQ(bed.unlink("/d/f"), "ok");
  EXPECT_EQ(bed.read("/d/e/g"), "hello");
  EXPECT_EQ(bed.rmdir("/d"), "ENOTEMPTY");
  EXPECT_EQ(bed.rename("/d/e", "/moved"), "ok");
  EXPECT_EQ(bed.read("/moved/g"), "hello");
  EXPECT_EQ(bed.rename("/moved", "/moved/inside"), "EINVAL");
  EXPECT_EQ(bed.put_file("/other", "other"), "ok");
  EXPECT_EQ(bed.rename("/other", "/moved/g"), "ok");
  EXPECT_EQ(bed.read("/moved/g"), "other");
  EXPECT_EQ(bed.mkdir("/target"), "ok");
  EXPECT_EQ(bed.rename("/moved", "/target"), "ok");
  EXPECT_EQ(bed.read("/target/g"), "other");
  EXPECT_EQ(bed.sync(), "ok");
  for (const char* path : {"/target/g", "/short", "/long", "/fifo", "/disk"}) {
    EXPECT_EQ(bed.unlink(path), "ok") << path;
  }
  EXPECT_EQ(bed.rmdir("/target"), "ok");
  EXPECT_EQ(bed.rmdir("/d"), "ok");
  EXPECT_EQ(bed.ext.stats().blocks_free, free_before);
  EXPECT_EQ(bed.ext.stats().inodes_free, inodes_before);
  EXPECT_TRUE(bed.unmount().ok());
  expect_clean(bed.stored());
}

TEST_P(ExtTest, attributes_survive) {
  ExtBed bed(image());
  ASSERT_TRUE(bed.open_status.ok());
  ASSERT_EQ(bed.touch("/f"), "ok");
  Inode* inode = bed.walk("/f");
  AttributeChange change;
  change.mode = change.uid = change.gid = change.atime = change.mtime = change.ctime = true;
  change.to.mode = 04711;
  change.to.uid = 70001;
  change.to.gid = 80002;
  change.to.atime = {1'600'000'001, 111'111'111};
  change.to.mtime = {5'000'000'000, 222'222'222};
  change.to.ctime = {-5, 333'333'333};
  EXPECT_TRUE(bed.vfs.set_attributes(*inode, change).ok());
  bed.vfs.put(*inode);
  ASSERT_TRUE(bed.unmount().ok());
  expect_clean(bed.stored());
  ExtBed again(bed.stored());
  inode = again.walk("/f");
  ASSERT_NE(inode, nullptr);
  EXPECT_EQ(inode->attr.mode, kModeRegular | 04711);
  EXPECT_EQ(inode->attr.uid, 70001U);
  EXPECT_EQ(inode->attr.gid, 80002U);
  if (std::string(GetParam().options).find("128") == std::string::npos) {
    EXPECT_EQ(inode->attr.atime, change.to.atime);
    EXPECT_EQ(inode->attr.mtime, change.to.mtime);
    EXPECT_EQ(inode->attr.ctime, change.to.ctime);
  } else {
    EXPECT_EQ(inode->attr.atime, (FileTime{1'600'000'001, 0}));
  }
  again.vfs.put(*inode);
  EXPECT_TRUE(again.unmount().ok());
}

TEST_P(ExtTest, truncated_bytes_never_come_back) {
  ExtBed bed(image());
  ASSERT_TRUE(bed.open_status.ok());
  std::string model = pattern(20000, 5);
  ASSERT_EQ(bed.put_file("/f", model), "ok");
  Prng prng(9);
  for (u32 step = 0; step < 60; ++step) {
    const u64 size = prng.below(24000);
    ASSERT_EQ(bed.set_size("/f", size), "ok");
    model.resize(size, '\0');
    if (prng.below(2) == 0) {
      const u64 at = prng.below(24000);
      const std::string data = pattern(1 + prng.below(5000), step);
      if (model.size() < at + data.size()) model.resize(at + data.size(), '\0');
      model.replace(at, data.size(), data);
      ASSERT_EQ(bed.write("/f", at, data), "ok");
    }
    if (prng.below(3) == 0) {
      ASSERT_EQ(bed.sync(), "ok");
    }
    if (prng.below(3) == 0) {
      ASSERT_EQ(bed.fsync("/f"), "ok");
    }
    if (prng.below(3) == 0) {
      Inode* inode = bed.walk("/f");
      for (u64 i = 0; i < inode->mapping.size_pages(); ++i) {
        const Pfn pfn = bed.cache.find(inode->mapping, static_cast<u32>(i)).pfn();
        const Page* page = pfn.valid() ? &bed.frames[pfn] : nullptr;
        if (page != nullptr && page->state == PageState::unmapped && !page->has(PageFlag::dirty) &&
            !page->has(PageFlag::writeback)) {
          bed.cache.free_page(pfn);
        }
      }
      bed.vfs.put(*inode);
    }
    ASSERT_EQ(bed.read("/f") == model, true) << "step " << step;
  }
  EXPECT_TRUE(bed.unmount().ok());
  expect_clean(bed.stored());
  ExtBed again(bed.stored(), ExtMode::read_only);
  EXPECT_EQ(again.read("/f") == model, true);
  EXPECT_TRUE(again.unmount().ok());
}

// Fill the image with one pattern, delete it, and make files with holes: nothing of the old
// contents shows.
TEST_P(ExtTest, old_contents_are_never_seen) {
  ExtBed bed(image());
  ASSERT_TRUE(bed.open_status.ok());
  const std::string secret(1 << 20, 'S');
  for (u32 i = 0; i < 20; ++i) {
    const std::string path = "/s" + std::to_string(i);
    if (bed.put_file(path, secret) != "ok") break;
  }
  ASSERT_EQ(bed.sync(), "ok");
  for (u32 i = 0; i < 20; ++i) (void)bed.unlink("/s" + std::to_string(i));
  ASSERT_EQ(bed.touch("/new"), "ok");
  Prng prng(4);
  std::string model;
  for (u32 i = 0; i < 30; ++i) {
    const u64 at = prng.below(300'000);
    const std::string data = pattern(1 + prng.below(3000), i);
    if (model.size() < at + data.size()) model.resize(at + data.size(), '\0');
    model.replace(at, data.size(), data);
    ASSERT_EQ(bed.write("/new", at, data), "ok");
    if (i % 7 == 0) {
      ASSERT_EQ(bed.sync(), "ok");
    }
  }
  EXPECT_EQ(bed.read("/new") == model, true);
  // Blocks that were reserved but never written, as a crash leaves them.
  Inode* inode = bed.walk("/new");
  ASSERT_TRUE(bed.wait_for([&] { return bed.ext.reserve_blocks(*inode, 100, 20); }).ok());
  bed.vfs.put(*inode);
  SyncTicket ticket;
  EXPECT_TRUE(bed.wait_for([&] { return bed.ext.sync(ticket); }).ok());
  Image crashed;
  (void)e2fsck(bed.stored(), "-y", &crashed);
  ExtBed again(crashed, ExtMode::read_only);
  ASSERT_TRUE(again.open_status.ok());
  EXPECT_EQ(again.read("/new").find("SSSS"), std::string::npos);
  EXPECT_TRUE(again.unmount().ok());
  EXPECT_TRUE(bed.unmount().ok());
  expect_clean(bed.stored());
}

TEST_P(ExtTest, a_full_image_says_so_when_it_is_written) {
  ExtBed bed(image());
  ASSERT_TRUE(bed.open_status.ok());
  const std::string data = pattern(256 * 1024, 1);
  std::string said = "ok";
  u32 made = 0;
  for (; said == "ok" && made < 200; ++made) {
    said = bed.put_file("/f" + std::to_string(made), data);
  }
  EXPECT_TRUE(said == "ENOSPC" || said.rfind("short", 0) == 0) << said;
  EXPECT_EQ(bed.sync(), "ok") << "what was accepted has its blocks";
  EXPECT_EQ(bed.read("/f3") == data, true);
  for (u32 i = 0; i < made; i += 2) EXPECT_EQ(bed.unlink("/f" + std::to_string(i)), "ok");
  EXPECT_EQ(bed.put_file("/again", data), "ok");
  EXPECT_TRUE(bed.unmount().ok());
  expect_clean(bed.stored());
}

TEST_P(ExtTest, a_large_directory_lists_each_name_once) {
  ExtBed bed(image());
  ASSERT_TRUE(bed.open_status.ok());
  std::set<std::string> model;
  for (u32 i = 0; i < 600; ++i) {
    const std::string name = "name-of-some-length-" + std::to_string(i * 7919 % 1000003);
    ASSERT_EQ(bed.touch("/" + name), "ok");
    model.insert(name);
  }
  Inode& root = bed.vfs.root();
  ExtBed::Listing listing = bed.list(root);
  std::multiset<std::string> seen(listing.names.begin(), listing.names.end());
  for (const std::string& name : model) EXPECT_EQ(seen.count(name), 1U);
  EXPECT_EQ(seen.size(), model.size() + 3);
  // Entries go while somebody reads: those that stay are told exactly once.
  ExtBed::Listing slow;
  std::set<std::string> gone;
  for (u32 round = 0; round < 10000; ++round) {
    slow.left = 3;
    ASSERT_TRUE(
        bed.wait_for([&] { return bed.vfs.read_directory(root, slow.position, slow); }).ok());
    if (slow.left == 3) break;
    const std::string victim =
        *std::next(model.begin(), round * 37 % static_cast<u32>(model.size()));
    ASSERT_EQ(bed.unlink("/" + victim), "ok");
    model.erase(victim);
    gone.insert(victim);
  }
  seen = std::multiset<std::string>(slow.names.begin(), slow.names.end());
  for (const std::string& name : model) EXPECT_EQ(seen.count(name), 1U) << name;
  for (const std::string& name : gone) EXPECT_LE(seen.count(name), 1U) << name;
  EXPECT_TRUE(bed.unmount().ok());
  expect_clean(bed.stored());
}

// A directory that e2fsck has indexed goes on growing through the index.
TEST_P(ExtTest, a_hashed_directory_grows_and_is_found_by_hash) {
  Image start;
  {
    ExtBed bed(image());
    ASSERT_TRUE(bed.open_status.ok());
    ASSERT_EQ(bed.mkdir("/big"), "ok");
    for (u32 i = 0; i < 300; ++i) ASSERT_EQ(bed.touch("/big/entry-" + std::to_string(i)), "ok");
    ASSERT_TRUE(bed.unmount().ok());
    const CommandEnd end = e2fsck(bed.stored(), "-y -D", &start);
    ASSERT_LE(end.code, 1) << end.output;
  }
  ExtBed bed(start);
  ASSERT_TRUE(bed.open_status.ok());
  const u64 misses = bed.buffers.stats().misses;
  EXPECT_EQ(bed.put_file("/big/entry-new", "x"), "ok");
  EXPECT_LT(bed.buffers.stats().misses - misses, 12U) << "not all blocks are looked at";
  for (u32 i = 300; i < 900; ++i) {
    ASSERT_EQ(bed.touch("/big/entry-" + std::to_string(i)), "ok") << i;
  }
  for (u32 i = 0; i < 900; i += 3) {
    ASSERT_EQ(bed.unlink("/big/entry-" + std::to_string(i)), "ok") << i;
  }
  for (u32 i = 1; i < 900; i += 3) {
    Inode* inode = bed.walk("/big/entry-" + std::to_string(i));
    ASSERT_NE(inode, nullptr) << i;
    bed.vfs.put(*inode);
  }
  EXPECT_TRUE(bed.unmount().ok());
  expect_clean(bed.stored());
}

TEST_P(ExtTest, an_open_file_without_a_name_lives_until_it_is_put) {
  ExtBed bed(image());
  ASSERT_TRUE(bed.open_status.ok());
  const u64 free_before = bed.ext.stats().blocks_free;
  ASSERT_EQ(bed.put_file("/f", pattern(50000, 2)), "ok");
  Inode* inode = bed.walk("/f");
  ASSERT_EQ(bed.unlink("/f"), "ok");
  EXPECT_EQ(inode->attr.nlink, 0U);
  EXPECT_EQ(bed.sync(), "ok");
  // Killed now, the image can be repaired, and then it has neither the file nor its blocks.
  Image repaired;
  const CommandEnd end = e2fsck(bed.stored(), "-y", &repaired);
  EXPECT_LE(end.code, 1) << end.output;
  expect_clean(repaired);
  EXPECT_EQ(repaired.find(pattern(50000, 2).substr(0, 100)) == std::string::npos, false);
  bed.vfs.put(*inode);
  EXPECT_EQ(bed.ext.stats().blocks_free, free_before);
  EXPECT_TRUE(bed.unmount().ok());
  expect_clean(bed.stored());
}

// Killed at many moments: e2fsck repairs the image, and what fsync had confirmed is there.
TEST_P(ExtTest, after_a_kill_everything_that_fsync_confirmed_is_there) {
  ExtBed bed(image());
  ASSERT_TRUE(bed.open_status.ok());
  Prng prng(77);
  std::vector<std::pair<std::string, std::string>> confirmed;
  for (u32 i = 0; i < 24; ++i) {
    const std::string dir = "/d" + std::to_string(i / 8);
    if (i % 8 == 0) {
      ASSERT_EQ(bed.mkdir(dir), "ok");
    }
    const std::string path = dir + "/f" + std::to_string(i);
    const std::string data = pattern(prng.below(60000), i);
    ASSERT_EQ(bed.put_file(path, data), "ok");
    if (i % 2 == 0) {
      ASSERT_EQ(bed.fsync(path), "ok");
      confirmed.emplace_back(path, data);
    }
    if (i % 4 == 3) {
      Image repaired;
      const CommandEnd end = e2fsck(bed.stored(), "-y", &repaired);
      ASSERT_LE(end.code, 1) << end.output;
      expect_clean(repaired);
      ExtBed after(repaired, ExtMode::read_only);
      ASSERT_TRUE(after.open_status.ok());
      for (const auto& [name, contents] : confirmed) {
        EXPECT_EQ(after.read(name) == contents, true) << name << " after step " << i;
      }
      EXPECT_TRUE(after.unmount().ok());
    }
  }
  EXPECT_TRUE(bed.unmount().ok());
}

TEST(ExtOpen, an_image_in_use_is_not_clean_and_is_refused_for_writing) {
  ExtBed bed(make_image("-t ext4 -b 4096", 8192));
  ASSERT_TRUE(bed.open_status.ok());
  ExtBed second(bed.stored());
  EXPECT_EQ(second.open_status.error(), Error::read_only);
  EXPECT_NE(std::string(second.ext.why()).find("e2fsck"), std::string::npos);
  ExtBed reader(bed.stored(), ExtMode::read_only);
  EXPECT_TRUE(reader.open_status.ok());
  EXPECT_EQ(reader.touch("/x"), "EROFS");
  EXPECT_TRUE(reader.unmount().ok());
  EXPECT_TRUE(bed.unmount().ok());
}

TEST(ExtOpen, features_that_we_do_not_have_are_refused_by_name) {
  for (const char* feature : {"encrypt", "casefold", "inline_data"}) {
    const Image image = make_image(std::string("-t ext4 -b 4096 -O ") + feature, 8192);
    ExtProbe probe;
    const Status status = ExtFs::probe(
        reinterpret_cast<const u8*>(image.data()) + ExtProbe::kOffset, image.size(), &probe);
    ASSERT_FALSE(status.ok()) << feature;
    EXPECT_EQ(status.error(), Error::not_supported);
    EXPECT_STREQ(probe.why, feature);
  }
  const Image quota = make_image("-t ext4 -b 4096 -O quota", 8192);
  EXPECT_EQ(ExtBed(quota).open_status.error(), Error::read_only);
  ExtBed reader(quota, ExtMode::read_only);
  EXPECT_TRUE(reader.open_status.ok());
  EXPECT_TRUE(reader.unmount().ok());
}

TEST(ExtOpen, what_is_no_image_is_refused) {
  const Image zeros(1 << 20, '\0');
  EXPECT_EQ(ExtBed(zeros).open_status.error(), Error::invalid);
  Image image = make_image("-t ext4 -b 4096", 8192);
  image.resize(image.size() / 2);
  EXPECT_EQ(ExtBed(image).open_status.error(), Error::corrupt) << "larger than its device";
}

}  // namespace
}  // namespace spillway
