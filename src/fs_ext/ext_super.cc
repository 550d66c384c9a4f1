#include "fs_ext/ext_super.h"

#include <ext2fs/ext2fs.h>

#include <cstring>

namespace spillway {
namespace {

struct Feature {
  u32 bit;
  const char* name;
};

// What we read and write correctly.
constexpr u32 kIncompatKnown = EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_RECOVER |
                               EXT2_FEATURE_INCOMPAT_META_BG | EXT3_FEATURE_INCOMPAT_EXTENTS |
                               EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_FLEX_BG |
                               EXT4_FEATURE_INCOMPAT_CSUM_SEED | EXT4_FEATURE_INCOMPAT_LARGEDIR;
// What we can read: the writer would have to keep more than we do.
constexpr Feature kIncompatReadable[] = {
    {EXT4_FEATURE_INCOMPAT_MMP, "mmp"},
    {EXT4_FEATURE_INCOMPAT_EA_INODE, "ea_inode"},
};
constexpr Feature kIncompatRefused[] = {
    {EXT2_FEATURE_INCOMPAT_COMPRESSION, "compression"},
    {EXT3_FEATURE_INCOMPAT_JOURNAL_DEV, "journal_dev"},
    {EXT4_FEATURE_INCOMPAT_DIRDATA, "dirdata"},
    {EXT4_FEATURE_INCOMPAT_INLINE_DATA, "inline_data"},
    {EXT4_FEATURE_INCOMPAT_ENCRYPT, "encrypt"},
    {EXT4_FEATURE_INCOMPAT_CASEFOLD, "casefold"},
};
constexpr u32 kRoCompatKnown =
    EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE |
    EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_GDT_CSUM |
    EXT4_FEATURE_RO_COMPAT_DIR_NLINK | EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE |
    EXT4_FEATURE_RO_COMPAT_METADATA_CSUM;
constexpr Feature kRoCompatReadable[] = {
    {EXT4_FEATURE_RO_COMPAT_HAS_SNAPSHOT, "has_snapshot"},
    {EXT4_FEATURE_RO_COMPAT_QUOTA, "quota"},
    {EXT4_FEATURE_RO_COMPAT_BIGALLOC, "bigalloc"},
    {EXT4_FEATURE_RO_COMPAT_REPLICA, "replica"},
    {EXT4_FEATURE_RO_COMPAT_READONLY, "read-only"},
    {EXT4_FEATURE_RO_COMPAT_PROJECT, "project"},
    {EXT4_FEATURE_RO_COMPAT_SHARED_BLOCKS, "shared_blocks"},
    {EXT4_FEATURE_RO_COMPAT_VERITY, "verity"},
    {EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT, "orphan_present"},
};
// The compatible features that change what a writer must do; all others may be ignored.
constexpr u32 kCompatImagic = 0x0002;

constexpr u32 kBlockSizeMin = 1024;
constexpr u32 kLogBlockSizeMax = 2;  // 4096: a page

Status refuse(ExtProbe* probe, Error error, const char* why) {
  probe->why = why;
  return error;
}

Status check_features(const ext2_super_block& s, ExtProbe* probe) {
  u32 incompat = s.s_feature_incompat & ~kIncompatKnown;
  for (const Feature& f : kIncompatRefused) {
    if ((incompat & f.bit) != 0) return refuse(probe, Error::not_supported, f.name);
  }
  for (const Feature& f : kIncompatReadable) {
    if ((incompat & f.bit) == 0) continue;
    incompat &= ~f.bit;
    probe->read_only = true;
    probe->why = f.name;
  }
  if (incompat != 0) return refuse(probe, Error::not_supported, "an unknown incompatible feature");
  u32 ro_compat = s.s_feature_ro_compat & ~kRoCompatKnown;
  for (const Feature& f : kRoCompatReadable) {
    if ((ro_compat & f.bit) == 0) continue;
    ro_compat &= ~f.bit;
    probe->read_only = true;
    probe->why = f.name;
  }
  if (ro_compat != 0 || (s.s_feature_compat & kCompatImagic) != 0) {
    probe->read_only = true;
    probe->why = "a feature that is unknown to us";
  }
  // The library does arithmetic of clusters even where the feature is off.
  const bool bigalloc = (s.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_BIGALLOC) != 0;
  if (!bigalloc && s.s_log_cluster_size != s.s_log_block_size) {
    return refuse(probe, Error::corrupt, "cluster size");
  }
  if (bigalloc) return refuse(probe, Error::not_supported, "bigalloc");
  probe->recovery = (s.s_feature_incompat & EXT3_FEATURE_INCOMPAT_RECOVER) != 0;
  const u32 of_ext4 =
      EXT3_FEATURE_INCOMPAT_EXTENTS | EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_FLEX_BG;
  if ((s.s_feature_incompat & of_ext4) != 0 ||
      (s.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_METADATA_CSUM) != 0) {
    probe->type = "ext4";
  } else if ((s.s_feature_compat & EXT3_FEATURE_COMPAT_HAS_JOURNAL) != 0) {
    probe->type = "ext3";
  }
  return kOk;
}

// Sizes of the things that make up a group, and how many groups there are.
Status check_geometry(const ext2_super_block& s, u64 device_bytes, ExtProbe* probe) {
  const u32 block = probe->block_size;
  const bool wide = (s.s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT) != 0;
  const u64 blocks = s.s_blocks_count | (wide ? u64{s.s_blocks_count_hi} << 32 : 0);
  if (blocks == 0 || blocks > device_bytes / block) {
    return refuse(probe, Error::corrupt, "more blocks than the device has");
  }
  if (s.s_first_data_block != (block == kBlockSizeMin ? 1U : 0U)) {
    return refuse(probe, Error::corrupt, "first data block");
  }
  u32 inode_size = EXT2_GOOD_OLD_INODE_SIZE;
  if (s.s_rev_level > EXT2_DYNAMIC_REV) return refuse(probe, Error::not_supported, "revision");
  if (s.s_rev_level == EXT2_DYNAMIC_REV) {
    inode_size = s.s_inode_size;
    if (s.s_first_ino < EXT2_GOOD_OLD_FIRST_INO || s.s_first_ino > s.s_inodes_count) {
      return refuse(probe, Error::corrupt, "first inode");
    }
  }
  if (inode_size < EXT2_GOOD_OLD_INODE_SIZE || inode_size > block ||
      (inode_size & (inode_size - 1)) != 0) {
    return refuse(probe, Error::corrupt, "inode size");
  }
  if (wide ? s.s_desc_size < EXT2_MIN_DESC_SIZE_64BIT || s.s_desc_size > 1024 ||
                 s.s_desc_size > block || (s.s_desc_size & (s.s_desc_size - 1)) != 0
           : s.s_desc_size != 0 && s.s_desc_size != EXT2_MIN_DESC_SIZE) {
    return refuse(probe, Error::corrupt, "descriptor size");
  }
  const u32 per_bitmap = block * 8;
  if (s.s_blocks_per_group < 256 || s.s_blocks_per_group > per_bitmap ||
      s.s_blocks_per_group % 8 != 0 || s.s_clusters_per_group != s.s_blocks_per_group) {
    return refuse(probe, Error::corrupt, "blocks per group");
  }
  const u32 inodes_per_block = block / inode_size;
  if (s.s_inodes_per_group < inodes_per_block || s.s_inodes_per_group > per_bitmap ||
      s.s_inodes_per_group % 8 != 0 || s.s_inodes_per_group % inodes_per_block != 0 ||
      s.s_inodes_per_group / inodes_per_block >= s.s_blocks_per_group) {
    return refuse(probe, Error::corrupt, "inodes per group");
  }
  const u64 data_blocks = blocks - s.s_first_data_block;
  if (blocks <= s.s_first_data_block) return refuse(probe, Error::corrupt, "blocks");
  const u64 groups = (data_blocks + s.s_blocks_per_group - 1) / s.s_blocks_per_group;
  if (groups > ~u32{0} || groups * s.s_inodes_per_group != s.s_inodes_count) {
    return refuse(probe, Error::corrupt, "inodes");
  }
  const u64 descriptors =
      (groups * (wide ? s.s_desc_size : u32{EXT2_MIN_DESC_SIZE}) + block - 1) / block;
  if (descriptors + s.s_reserved_gdt_blocks >= data_blocks || s.s_reserved_gdt_blocks > block / 4 ||
      s.s_first_meta_bg > descriptors) {
    return refuse(probe, Error::corrupt, "group descriptors");
  }
  if (s.s_log_groups_per_flex > 31) return refuse(probe, Error::corrupt, "flex groups");
  probe->blocks = blocks;
  probe->inodes = s.s_inodes_count;
  probe->groups = static_cast<u32>(groups);
  return kOk;
}

}  // namespace

Status probe_ext(const u8* bytes, u64 device_bytes, ExtProbe* probe) {
  *probe = ExtProbe{};
  ext2_super_block s;
  static_assert(sizeof s == ExtProbe::kBytes);
  std::memcpy(&s, bytes, sizeof s);
  if (s.s_magic != EXT2_SUPER_MAGIC) return refuse(probe, Error::invalid, "no ext2/3/4 superblock");
  if (s.s_log_block_size > 6) return refuse(probe, Error::corrupt, "block size");
  if (s.s_log_block_size > kLogBlockSizeMax) {
    return refuse(probe, Error::not_supported, "blocks larger than 4 KiB");
  }
  probe->block_size = kBlockSizeMin << s.s_log_block_size;
  if (s.s_rev_level == EXT2_GOOD_OLD_REV &&
      (s.s_feature_compat | s.s_feature_incompat | s.s_feature_ro_compat) != 0) {
    return refuse(probe, Error::corrupt, "features of a revision without features");
  }
  SPW_TRY(check_features(s, probe));
  SPW_TRY(check_geometry(s, device_bytes, probe));
  probe->clean = (s.s_state & EXT2_VALID_FS) != 0 && (s.s_state & EXT2_ERROR_FS) == 0 &&
                 !probe->recovery && s.s_last_orphan == 0;
  if (!probe->clean && probe->why[0] == 0) {
    probe->why = probe->recovery ? "its journal needs recovery: run e2fsck first"
                                 : "it was not unmounted cleanly: run e2fsck first";
  }
  return kOk;
}

}  // namespace spillway
