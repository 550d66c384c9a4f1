// Goal: what an image says of itself wrongly harms nothing else. Each test damages a base image of
// the fuzzer in one place, works on it, and looks at what must not have changed.
#include "ext_bed.h"
#include "hostile_base.h"

namespace spillway {
namespace {

// Numbers of inodes of the base images.
constexpr u32 kA = 12;       // /a
constexpr u32 kLarge = 16;   // /a/b/large, 30000 bytes
constexpr u32 kMany = 19;    // /many
constexpr u32 kSparse = 51;  // /sparse: one block, 1 KiB from 99328
constexpr u32 kFree = 60;    // of nobody

class DamagedImage {
 public:
  explicit DamagedImage(u32 base) : bytes(hostile_base(base)) {}
  u32 get(u64 at) const {
    u32 word = 0;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    return word;
  }
  void put(u64 at, u32 word) { std::memcpy(bytes.data() + at, &word, sizeof word); }
  u32 block_size() const { return 1024U << get(1024 + 24); }
  u64 descriptor() const { return block_size() == 1024 ? 2048 : block_size(); }
  u64 bitmap() const { return u64{get(descriptor())} * block_size(); }
  u32 inode_table() const { return get(descriptor() + 8); }
  u32 inode_size() const { return get(1024 + 88) & 0xffff; }
  // Its i_block, as place in the image.
  u64 map_of(u32 inode) const {
    return u64{inode_table()} * block_size() + u64{inode - 1} * inode_size() + 40;
  }
  bool has_extents(u32 inode) const { return (get(map_of(inode) - 8) & 0x80000) != 0; }
  // Of the first extent, or of a file without extents.
  u64 start_at(u32 inode) const { return map_of(inode) + (has_extents(inode) ? 20 : 0); }
  u32 start(u32 inode) const { return get(start_at(inode)); }
  // The inode gets a map of blocks instead, an empty one.
  void drop_map(u32 inode) {
    put(map_of(inode) - 8, get(map_of(inode) - 8) & ~0x80000U);
    for (u32 i = 0; i < 15; ++i) put(map_of(inode) + i * 4, 0);
  }
  // The block of the inode table that holds it.
  std::string block_of(const Image& image, u32 inode) const {
    return image.substr(map_of(inode) / block_size() * block_size(), block_size());
  }

  Image bytes;
};

// Every block of the tree is the same one: 2^24 (1 KiB) or 2^30 ways lead through it, and the
// library goes all of them to find the end of a directory.
TEST(DamagedImageTest, a_tree_that_goes_in_circles_is_left_soon) {
  for (const u32 base : {1U, 2U}) {
    DamagedImage image(base);
    const u32 circle = image.start(kLarge);
    const u32 first = image.start(kA);
    image.drop_map(kA);
    image.put(image.map_of(kA), first);
    for (u32 i = 1; i < 15; ++i) image.put(image.map_of(kA) + i * 4, circle);
    for (u64 at = 0; at < image.block_size(); at += 4) {
      image.put(u64{circle} * image.block_size() + at, circle);
    }
    ExtBed bed(image.bytes);
    ASSERT_TRUE(bed.open_status.ok());
    std::string said = "ok";
    for (char c = 'A'; c <= 'Z' && said == "ok"; ++c) {
      said = bed.link("/a/f", "/a/" + std::string(250, c));
    }
    EXPECT_EQ(said, "EUCLEAN") << "when its block was full";
    const BufferCacheStats stats = bed.buffers.stats();
    const u64 blocks = image.bytes.size() / image.block_size();
    EXPECT_LT(stats.hits + stats.misses, 2 * (ExtIo::kStepsMin + blocks * ExtIo::kStepsPerBlock));
    EXPECT_EQ(bed.read("/a/f"), "hello");
    EXPECT_EQ(bed.unlink("/a/b/large"), "ok");
    EXPECT_TRUE(bed.unmount().ok());
  }
}

TEST(DamagedImageTest, metadata_that_is_said_to_be_free_is_not_written_on) {
  for (const u32 base : {0U, 1U, 2U}) {
    DamagedImage image(base);
    const u32 bit = image.inode_table() - (image.block_size() == 1024 ? 1 : 0);
    image.bytes[image.bitmap() + bit / 8] &= static_cast<char>(~(1 << bit % 8));
    EXPECT_EQ(ExtBed::said(ExtBed(image.bytes).open_status), "EUCLEAN");
    EXPECT_TRUE(ExtBed(image.bytes, ExtMode::read_only).open_status.ok());
  }
  DamagedImage super(2);  // block 0, which the library takes for "none"
  super.bytes[super.bitmap()] &= static_cast<char>(~1);
  EXPECT_EQ(ExtBed::said(ExtBed(super.bytes).open_status), "EUCLEAN");
}

TEST(DamagedImageTest, a_file_that_claims_the_inode_table_does_not_free_it) {
  for (const u32 base : {0U, 1U, 2U}) {
    DamagedImage image(base);
    image.put(image.start_at(kLarge), image.inode_table());
    ExtBed bed(image.bytes);
    ASSERT_TRUE(bed.open_status.ok());
    EXPECT_EQ(bed.unlink("/a/b/large"), "ok");
    EXPECT_EQ(bed.sync(), "ok");
    // Files that would get the blocks now.
    for (u32 i = 0; i < 8; ++i) {
      EXPECT_EQ(bed.put_file("/a/new" + std::to_string(i), std::string(16384, 'w')), "ok") << i;
    }
    EXPECT_EQ(bed.sync(), "ok");
    EXPECT_EQ(bed.read("/a/f"), "hello");
    EXPECT_TRUE(bed.unmount().ok());
    ExtBed again(bed.stored(), ExtMode::read_only);
    ASSERT_TRUE(again.open_status.ok());
    EXPECT_EQ(again.read("/a/f"), "hello");
    EXPECT_EQ(again.read("/many/some-name-that-is-long-7"), "");
  }
}

TEST(DamagedImageTest, an_indirect_block_in_the_inode_table_is_not_written) {
  DamagedImage image(1);
  const u32 table = image.inode_table() + (kFree - 1) * image.inode_size() / image.block_size();
  image.put(image.map_of(kSparse) + 12 * 4, table);
  ExtBed bed(image.bytes);
  ASSERT_TRUE(bed.open_status.ok());
  EXPECT_EQ(bed.write("/sparse", 20480, std::string(4096, 'w')), "EUCLEAN");
  EXPECT_EQ(bed.read("/a/f"), "hello");
  (void)bed.unmount();
  EXPECT_TRUE(image.block_of(bed.stored(), kFree) == image.block_of(image.bytes, kFree));
}

// The simulated device ends the program when two transfers of a page meet.
TEST(DamagedImageTest, a_block_that_is_contents_and_directory_is_transferred_as_one_at_a_time) {
  DamagedImage image(2);
  image.put(image.start_at(kLarge), image.start(kMany));
  for (const bool buffer_first : {false, true}) {
    ExtBed bed(image.bytes);
    ASSERT_TRUE(bed.open_status.ok());
    Inode* large = bed.walk("/a/b/large");
    ASSERT_NE(large, nullptr);
    EXPECT_EQ(bed.touch("/many/more"), "ok");
    if (buffer_first) {
      EXPECT_NE(bed.buffers.flush(100, ~u64{0}, true), 0U);
    }
    u8 byte = 0;
    u64 done = 0;
    FileReadahead ra;
    EXPECT_EQ(bed.vfs.read(*large, ra, 0, &byte, 1, &done).error(), Error::wait);
    if (!buffer_first) (void)bed.buffers.flush(100, ~u64{0}, true);
    bed.complete_all();
    bed.vfs.put(*large);
    EXPECT_EQ(bed.write("/a/b/large", 0, std::string(4096, 'w')), "ok");
    EXPECT_EQ(bed.sync(), "ok");
    EXPECT_EQ(bed.read("/a/f"), "hello");
    EXPECT_TRUE(bed.unmount().ok());
  }
}

// The tree of /a/b/large lies in the block that /sparse has, and is overwritten with its contents
// after large's page was written and before its extent could say so.
TEST(DamagedImageTest, contents_that_cannot_be_settled_are_told_by_sync) {
  DamagedImage image(0);
  const u32 block_size = image.block_size();
  const u32 node = image.start(kSparse);
  const u32 first = image.start(kLarge);
  const u64 leaf = u64{node} * block_size;
  image.put(leaf, 0x0001f30a);  // one entry
  image.put(leaf + 4, 84);      // of 84, depth 0
  image.put(leaf + 12, 0);
  image.put(leaf + 16, 32768 + 12);  // 12 blocks, unwritten
  image.put(leaf + 20, first);
  const u64 root = image.map_of(kLarge);
  image.put(root, 0x0001f30a);
  image.put(root + 4, 0x00010004);  // depth 1
  image.put(root + 12, 0);
  image.put(root + 16, node);
  image.put(root + 20, 0);
  ExtBed bed(image.bytes);
  ASSERT_TRUE(bed.open_status.ok());
  EXPECT_EQ(bed.read("/a/b/large").substr(0, 4), std::string(4, 0));
  EXPECT_EQ(bed.write("/a/b/large", 0, std::string(4096, 'w')), "ok");
  EXPECT_EQ(bed.write("/sparse", 97 * 1024, std::string(512, 'w')), "ok");
  EXPECT_EQ(bed.sync(), "EUCLEAN");
  EXPECT_EQ(bed.sync(), "ok") << "told once";
  EXPECT_TRUE(bed.unmount().ok());
}

// A commit may fail for want of memory, and leaves blocks kept aside.
TEST(ExtIoTest, what_is_kept_is_never_older_than_what_was_written_since) {
  ExtBed bed(hostile_base(2));
  ASSERT_TRUE(bed.open_status.ok());
  ExtIo io;
  io.init(bed.buffers, bed, kHostileKib * 1024);
  const u64 block = 90;
  const std::string old(kPageSize, 'o');
  const std::string newer(kPageSize, 'n');
  io.open_change();
  ASSERT_EQ(io.write(block * kPageSize, kPageSize, reinterpret_cast<const u8*>(old.data())), 0);
  EXPECT_TRUE(io.close_change());
  ASSERT_TRUE(io.keeps(block)) << "nobody has committed it";
  ASSERT_EQ(io.write(block * kPageSize, kPageSize, reinterpret_cast<const u8*>(newer.data())), 0);
  EXPECT_TRUE(io.move_kept(block).ok());
  std::string read(kPageSize, '?');
  ASSERT_EQ(io.read(block * kPageSize, kPageSize, reinterpret_cast<u8*>(read.data())), 0);
  EXPECT_TRUE(read == newer);
  EXPECT_TRUE(bed.unmount().ok());
}

// What is checked of an image before it is written must hold for all that mke2fs makes.
TEST(DamagedImageTest, healthy_images_of_every_layout_are_written) {
  const char* const layouts[] = {
      "-t ext4 -b 1024",
      "-t ext4 -b 4096 -g 1024",
      "-t ext4 -b 4096 -g 1024 -O ^flex_bg",
      "-t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode",
      "-t ext4 -b 4096 -g 1024 -O sparse_super2",
      "-t ext4 -b 4096 -g 1024 -O uninit_bg,^metadata_csum,^64bit",
      "-t ext4 -b 2048 -g 1024 -O ^sparse_super,^resize_inode",
      "-t ext3 -b 1024 -g 1024",
      "-t ext2 -b 4096",
  };
  for (const char* const layout : layouts) {
    SCOPED_TRACE(layout);
    ExtBed bed(make_image(layout, 32768));
    ASSERT_EQ(ExtBed::said(bed.open_status), "ok") << bed.ext.why();
    for (u32 i = 0; i < 40; ++i) {
      const std::string name = "/d" + std::to_string(i);
      ASSERT_EQ(bed.mkdir(name), "ok");  // spread over the groups
      ASSERT_EQ(bed.put_file(name + "/f", std::string(50'000, 'w')), "ok");
    }
    EXPECT_EQ(bed.sync(), "ok");
    for (u32 i = 0; i < 40; i += 2) {
      EXPECT_EQ(bed.unlink("/d" + std::to_string(i) + "/f"), "ok");
    }
    ASSERT_TRUE(bed.unmount().ok());
    const CommandEnd checked = e2fsck(bed.stored(), "-n");
    EXPECT_EQ(checked.code, 0) << checked.output;
  }
}

}  // namespace
}  // namespace spillway
