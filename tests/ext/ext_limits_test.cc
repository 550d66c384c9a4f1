// Goal: attributes and sizes are what the image can hold, in memory already: they do not change
// when the inode leaves memory and comes back, and e2fsck finds nothing in them.
#include "ext_bed.h"

namespace spillway {
namespace {

constexpr const char* kOptions[] = {
    "-t ext2 -b 1024 -I 128",
    "-t ext2 -b 4096",
    "-t ext4 -b 1024",
    "-t ext4 -b 4096 -I 256",
};

class ExtLimits : public testing::TestWithParam<u32> {
 protected:
  Image image() const { return make_image(kOptions[GetParam()], 8192); }
};
INSTANTIATE_TEST_SUITE_P(Kinds, ExtLimits, testing::Range(0U, 4U));

TEST_P(ExtLimits, a_file_does_not_grow_beyond_what_its_map_reaches) {
  ExtBed bed(image());
  ASSERT_TRUE(bed.open_status.ok());
  ASSERT_EQ(bed.touch("/f"), "ok");
  Inode* inode = bed.walk("/f");
  const u64 limit = std::min(bed.ext.size_max(*inode), Vfs::kSizeMax);
  EXPECT_LT(u64{1} << 33, limit);
  EXPECT_EQ(bed.set_size("/f", limit + 1), "EFBIG");
  u8 byte = 'x';
  u64 done = 0;
  EXPECT_EQ(bed.vfs.write(*inode, limit, &byte, 1, &done).error(), Error::file_too_big);
  EXPECT_EQ(inode->mapping.size_bytes, 0U);
  EXPECT_EQ(bed.set_size("/f", limit), "ok");
  EXPECT_EQ(bed.touch("/last"), "ok");
  EXPECT_EQ(bed.write("/last", limit - 3, "end"), "ok");
  bed.vfs.put(*inode);
  EXPECT_TRUE(bed.unmount().ok());
  const CommandEnd end = e2fsck(bed.stored(), "-n");
  EXPECT_EQ(end.code, 0) << end.output;
}

TEST_P(ExtLimits, times_are_the_same_after_the_inode_was_away) {
  ExtBed bed(image());
  ASSERT_TRUE(bed.open_status.ok());
  const FileTime times[] = {{1'000'000'000, 123'456'789},
                            {-5, 7},            // 1969
                            {i64{1} << 40, 1},  // beyond every format
                            {-(i64{1} << 40), 1},
                            {3'000'000'000, 5}};
  for (u32 i = 0; i < std::size(times); ++i) {
    const std::string path = "/f" + std::to_string(i);
    ASSERT_EQ(bed.touch(path), "ok");
    Inode* inode = bed.walk(path);
    AttributeChange change;
    change.atime = change.mtime = true;
    change.to.atime = change.to.mtime = times[i];
    ASSERT_TRUE(bed.vfs.set_attributes(*inode, change).ok());
    const InodeAttributes before = inode->attr;
    bed.vfs.put(*inode);
    ASSERT_EQ(bed.sync(), "ok");
    while (bed.vfs.dentries().prune(100) != 0 || bed.vfs.dentries().count_objects() != 0) {
    }
    for (u32 n = 0; n < 4; ++n) (void)bed.vfs.inodes().prune(100);
    ASSERT_EQ(bed.vfs.inodes().stats().unused, 0U);
    inode = bed.walk(path);
    EXPECT_EQ(inode->attr.atime, before.atime) << i;
    EXPECT_EQ(inode->attr.mtime, before.mtime) << i;
    EXPECT_EQ(inode->attr.ctime, before.ctime) << i;
    bed.vfs.put(*inode);
  }
  EXPECT_TRUE(bed.unmount().ok());
}

// A file `name` in the root, of `blocks` blocks, of which the last is the image's last one.
Image with_last_block(const Image& image, const char* name, u32 blocks) {
  const TempPath file;
  write_file_bytes(file.path(), image);
  ext2_filsys fs = nullptr;
  EXPECT_EQ(
      ext2fs_open(file.path().c_str(), EXT2_FLAG_RW | EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &fs),
      0);
  EXPECT_EQ(ext2fs_read_bitmaps(fs), 0);
  ext2_ino_t number = 0;
  EXPECT_EQ(ext2fs_new_inode(fs, EXT2_ROOT_INO, 0100644, nullptr, &number), 0);
  ext2_inode inode{};
  inode.i_mode = 0100644;
  inode.i_links_count = 1;
  const bool extents = ext2fs_has_feature_extents(fs->super) != 0;
  if (extents) inode.i_flags = EXT4_EXTENTS_FL;
  EXPECT_EQ(ext2fs_write_new_inode(fs, number, &inode), 0);
  ext2fs_inode_alloc_stats2(fs, number, 1, 0);
  const blk64_t end = ext2fs_blocks_count(fs->super);
  for (u32 i = 0; i < blocks; ++i) {
    blk64_t block = end - blocks + i;
    ext2fs_block_alloc_stats2(fs, block, 1);
    EXPECT_EQ(ext2fs_bmap2(fs, number, &inode, nullptr, BMAP_SET, i, nullptr, &block), 0);
  }
  EXPECT_EQ(ext2fs_iblk_add_blocks(fs, &inode, blocks), 0);
  EXPECT_EQ(ext2fs_inode_size_set(fs, &inode, blocks * fs->blocksize), 0);
  EXPECT_EQ(ext2fs_write_inode(fs, number, &inode), 0);
  EXPECT_EQ(ext2fs_link(fs, EXT2_ROOT_INO, name, number, EXT2_FT_REG_FILE), 0);
  EXPECT_EQ(ext2fs_close_free(&fs), 0);
  Image out = read_file_bytes(file.path());
  const CommandEnd check = e2fsck(out, "-n");
  EXPECT_EQ(check.code, 0) << check.output;
  return out;
}

// The library refuses to free an extent that ends with the image's last block, too late.
TEST_P(ExtLimits, the_last_block_of_the_image_can_be_freed) {
  for (const bool whole : {true, false}) {
    ExtBed bed(with_last_block(image(), "f", 10));
    ASSERT_TRUE(bed.open_status.ok());
    const u64 free_before = bed.ext.stats().blocks_free;
    const u64 size = bed.ext.info().block_size;
    EXPECT_EQ(bed.set_size("/f", size * 10 - 5), "ok");
    EXPECT_EQ(bed.ext.stats().blocks_free, free_before);
    if (whole) {
      EXPECT_EQ(bed.unlink("/f"), "ok");
      EXPECT_EQ(bed.ext.stats().blocks_free, free_before + 10);
    } else {
      EXPECT_EQ(bed.set_size("/f", size * 4 + 1), "ok");
      EXPECT_EQ(bed.ext.stats().blocks_free, free_before + 5);
      EXPECT_EQ(bed.read("/f") == std::string(size * 4 + 1, '\0'), true);
    }
    EXPECT_TRUE(bed.unmount().ok());
    const CommandEnd end = e2fsck(bed.stored(), "-n");
    EXPECT_EQ(end.code, 0) << end.output;
  }
}

// Blocks behind the end of file that could not be given free at once are not forgotten.
TEST_P(ExtLimits, sync_ends_a_truncation_that_could_not_end) {
  ExtBed bed(image());
  ASSERT_TRUE(bed.open_status.ok());
  ASSERT_EQ(bed.put_file("/f", std::string(400'000, 'x')), "ok");
  ASSERT_EQ(bed.sync(), "ok");
  const u64 free_before = bed.ext.stats().blocks_free;
  // As set_size() leaves it when FileSystem::truncate fails.
  Inode* inode = bed.walk("/f");
  ASSERT_TRUE(bed.cache.truncate(inode->mapping, 1, nullptr, nullptr).ok());
  inode->mapping.size_bytes = 4096;
  inode->set(InodeState::truncating);
  mark_inode_dirty(*inode);
  bed.vfs.put(*inode);
  EXPECT_EQ(bed.sync(), "ok");
  EXPECT_LT(free_before, bed.ext.stats().blocks_free);
  EXPECT_TRUE(bed.unmount().ok());
  const CommandEnd end = e2fsck(bed.stored(), "-n");
  EXPECT_EQ(end.code, 0) << end.output;
}

// The library frees block by block; where it ends halfway, e2fsck must look before anybody writes.
TEST_P(ExtLimits, a_truncation_that_ends_halfway_is_not_called_clean) {
  u32 halfway = 0;
  for (u32 nth = 1; nth < 5; ++nth) {
    ExtBed bed(image());
    ASSERT_TRUE(bed.open_status.ok());
    ASSERT_EQ(bed.touch("/f"), "ok");
    for (u64 at = 0; at < 2000; at += 4) {
      ASSERT_EQ(bed.write("/f", at * 4096, "x"), "ok");
    }
    ASSERT_EQ(bed.sync(), "ok");
    (void)bed.buffers.drop_clean();
    bed.sim.block(0).failures().arm(Failure::read_io, nth);
    const std::string said = bed.set_size("/f", 4096);
    bed.sim.block(0).failures().disarm(Failure::read_io);
    const bool good = bed.unmount().ok();
    const bool clean = e2fsck(bed.stored(), "-n").code == 0;
    EXPECT_EQ(good && !clean, false) << nth << ": " << said;
    if (good) continue;
    ++halfway;
    EXPECT_EQ(ExtBed(bed.stored()).open_status.error(), Error::read_only) << nth;
    Image repaired;
    EXPECT_LE(e2fsck(bed.stored(), "-y", &repaired).code, 1) << nth;
    EXPECT_TRUE(ExtBed(repaired).open_status.ok()) << nth;
  }
  EXPECT_LT(0U, halfway);
}

}  // namespace
}  // namespace spillway
