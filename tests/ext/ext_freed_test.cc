// Goal: what fsync has confirmed survives a kill although later calls were not stored yet: blocks
// and inode numbers that became free are not used again before the device knows that they are free.
// Method: write pages and some of the metadata in the order that write-back may choose, take the
// device as it is, repair it by e2fsck and look.
#include <map>
#include <set>

#include "ext_bed.h"

namespace spillway {
namespace {

constexpr const char* kOptions[] = {
    "-t ext2 -b 1024",
    "-t ext2 -b 4096",
    "-t ext4 -b 1024",
    "-t ext4 -b 4096 -O metadata_csum,64bit",
};

class ExtFreed : public testing::TestWithParam<u32> {
 protected:
  static constexpr u64 kKib = 8192;
  Image image() const { return make_image(kOptions[GetParam()], kKib); }
  // Pages of a file to the device, and nothing else.
  static void write_pages(ExtBed& bed, const std::string& path) {
    Inode* inode = bed.walk(path);
    ASSERT_NE(inode, nullptr) << path;
    SyncTicket ticket;
    (void)bed.wait_for([&] { return bed.cache.sync(inode->mapping, 0, ~u32{0}, ticket); });
    bed.vfs.put(*inode);
  }
  static Image repaired(ExtBed& bed) {
    Image image;
    const CommandEnd end = e2fsck(bed.stored(), "-y", &image);
    EXPECT_LE(end.code, 1) << end.output;
    return image;
  }
  // The daemons write a bit of everything.
  static void write_some(ExtBed& bed, Prng& prng) {
    (void)bed.cache.flush(static_cast<u32>(prng.below(40)), ~u64{0});
    bed.complete_all();
    (void)bed.vfs.inodes().write_back(static_cast<u32>(prng.below(4)), ~u64{0}, true);
    (void)bed.buffers.flush(static_cast<u32>(prng.below(6)), ~u64{0}, true);
    bed.complete_all();
  }
};
INSTANTIATE_TEST_SUITE_P(Kinds, ExtFreed, testing::Range(0U, 4U));

TEST_P(ExtFreed, blocks_of_a_replaced_file_wait_for_the_device) {
  ExtBed bed(image());
  ASSERT_TRUE(bed.open_status.ok());
  const std::string before(300'000, 'b');
  const std::string after(300'000, 'a');
  ASSERT_EQ(bed.put_file("/file", before), "ok");
  ASSERT_EQ(bed.fsync("/file"), "ok");
  ASSERT_EQ(bed.put_file("/new", after), "ok");
  ASSERT_EQ(bed.fsync("/new"), "ok");
  ASSERT_EQ(bed.rename("/new", "/file"), "ok");
  for (u32 i = 0; i < 20; ++i) {
    const std::string path = "/other" + std::to_string(i);
    if (bed.put_file(path, std::string(200'000, 'o')) != "ok") break;
    write_pages(bed, path);
  }
  ExtBed again(repaired(bed), ExtMode::read_only);
  ASSERT_TRUE(again.open_status.ok());
  const std::string found = again.read("/file");
  EXPECT_EQ(found == before || found == after, true) << found.substr(0, 20);
  EXPECT_TRUE(again.unmount().ok());
  EXPECT_TRUE(bed.unmount().ok());
}

TEST_P(ExtFreed, an_image_whose_free_blocks_all_wait_has_room) {
  ExtBed bed(image());
  ASSERT_TRUE(bed.open_status.ok());
  for (u32 round = 0; round < 12; ++round) {
    ASSERT_EQ(bed.put_file("/f", std::string(3'000'000, 'f')), "ok") << round;
    ASSERT_EQ(bed.mkdir("/d"), "ok") << round;
    ASSERT_EQ(bed.unlink("/f"), "ok");
    ASSERT_EQ(bed.rmdir("/d"), "ok");
  }
  EXPECT_TRUE(bed.unmount().ok());
  const CommandEnd end = e2fsck(bed.stored(), "-n");
  EXPECT_EQ(end.code, 0) << end.output;
}

TEST_P(ExtFreed, a_device_that_refused_to_hear_of_freed_blocks_is_told_later) {
  ExtBed bed(image());
  ASSERT_TRUE(bed.open_status.ok());
  ASSERT_EQ(bed.put_file("/file", std::string(1'000'000, 'b')), "ok");
  ASSERT_EQ(bed.touch("/other"), "ok");
  u32 rest = 0;
  while (bed.put_file("/rest" + std::to_string(rest), std::string(100'000, 'r')) == "ok") ++rest;
  ASSERT_EQ(bed.sync(), "ok");
  ASSERT_EQ(bed.set_size("/file", 0), "ok");
  bed.sim.block(0).failures().arm(Failure::write_io, 1, FaultPlan::kAlways);
  SyncTicket ticket;
  EXPECT_EQ(bed.ext.sync(ticket).error(), Error::io);
  const std::string other(400'000, 'o');
  EXPECT_NE(bed.write("/other", 0, other), "ok");
  bed.sim.block(0).failures().disarm(Failure::write_io);
  EXPECT_EQ(bed.write("/other", 0, other), "ok");
  EXPECT_TRUE(bed.unmount().ok());
  const CommandEnd end = e2fsck(bed.stored(), "-n");
  EXPECT_EQ(end.code, 0) << end.output;
}

// The file may still name what the library has given free.
TEST_P(ExtFreed, what_a_change_freed_that_ended_halfway_goes_to_nobody) {
  u32 halfway = 0;
  for (u32 nth = 1; nth < 5; ++nth) {
    ExtBed bed(image());
    ASSERT_TRUE(bed.open_status.ok());
    ASSERT_EQ(bed.touch("/f"), "ok");
    for (u64 at = 0; at < 1600; at += 4) ASSERT_EQ(bed.write("/f", at * 4096, "x"), "ok");
    ASSERT_EQ(bed.sync(), "ok");
    (void)bed.buffers.drop_clean();
    bed.sim.block(0).failures().arm(Failure::read_io, nth);
    const bool refused = bed.set_size("/f", 4096) != "ok";
    bed.sim.block(0).failures().disarm(Failure::read_io);
    if (refused) ++halfway;
    SyncTicket ticket;
    EXPECT_TRUE(bed.ext.sync(ticket).ok());
    for (u32 i = 0; i < 40; ++i) {
      const std::string path = "/other" + std::to_string(i);
      if (bed.put_file(path, std::string(200'000, 'o')) != "ok") break;
      write_pages(bed, path);
    }
    EXPECT_TRUE(bed.ext.sync(ticket).ok());
    const CommandEnd end = e2fsck(bed.stored(), "-n");
    EXPECT_EQ(end.output.find("ultiply-claimed"), std::string::npos) << nth << end.output;
  }
  EXPECT_LT(0U, halfway);
}

// Files that are replaced as editors do it, or removed; a kill after any piece of write-back finds
// one of the versions whole that a file has had since the last fsync.
TEST_P(ExtFreed, a_file_is_one_of_its_versions) {
  for (u64 seed = 1; seed <= 2; ++seed) {
    ExtBed bed(image(), ExtMode::read_write, 1024, seed);
    ASSERT_TRUE(bed.open_status.ok());
    Prng prng(seed * 31 + GetParam());
    std::map<std::string, std::set<std::string>> versions;  // "" stands for: not there
    std::map<std::string, std::string> now;
    for (u32 i = 0; i < 60; ++i) {
      const std::string path = "/f" + std::to_string(prng.below(8));
      if (versions[path].empty()) versions[path].insert("");
      if (prng.below(4) == 0 && now.count(path) != 0) {
        ASSERT_EQ(bed.unlink(path), "ok");
        now.erase(path);
        versions[path].insert("");
      } else {
        const std::string data(1 + prng.below(120'000), static_cast<char>('a' + i % 26));
        ASSERT_EQ(bed.put_file("/temporary", data), "ok");
        ASSERT_EQ(bed.fsync("/temporary"), "ok");
        // It has made all changes before it durable.
        for (auto& [name, all] : versions) {
          all.clear();
          all.insert(now.count(name) != 0 ? now[name] : "");
        }
        ASSERT_EQ(bed.rename("/temporary", path), "ok");
        now[path] = data;
        versions[path].insert(data);
      }
      // Others that want blocks and inodes.
      for (u32 n = 0; n < 6; ++n) {
        const std::string junk = "/junk" + std::to_string(prng.below(12));
        if (prng.below(3) == 0) {
          (void)bed.unlink(junk);
        } else if (bed.put_file(junk, std::string(1 + prng.below(90'000), '#')) == "ok") {
          write_pages(bed, junk);
        }
      }
      write_some(bed, prng);
      if (i % 5 != 4) continue;
      ExtBed again(repaired(bed), ExtMode::read_only);
      ASSERT_TRUE(again.open_status.ok());
      for (const auto& [name, all] : versions) {
        Inode* inode = again.walk(name);
        std::string found;
        if (inode != nullptr) {
          again.vfs.put(*inode);
          found = again.read(name);
        }
        EXPECT_EQ(all.count(found), 1U) << name << " seed " << seed << " step " << i << ": "
                                        << found.size() << " bytes " << found.substr(0, 8);
      }
      EXPECT_TRUE(again.unmount().ok());
    }
    EXPECT_TRUE(bed.unmount().ok());
    const CommandEnd end = e2fsck(bed.stored(), "-n");
    EXPECT_EQ(end.code, 0) << end.output;
  }
}

}  // namespace
}  // namespace spillway
