// The base images of hostile_world.h: small, with a directory tree that has something of
// everything, and the same byte for byte wherever and whenever they are made (by e2fsprogs 1.47).
// Numbers, hash seed and times are given; the tree is made inside of the image, in an order that is
// written down, because a tree of the host would bring its owners and times along.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/types.h"

namespace spillway {

inline constexpr const char* kHostileBases[] = {
    "-t ext4 -b 1024 -N 64 -O ^metadata_csum,^has_journal,^resize_inode",
    "-t ext2 -b 1024 -N 64 -O ^resize_inode",
    "-t ext4 -b 4096 -N 64 -O ^metadata_csum,^has_journal,^resize_inode,^64bit",
    "-t ext4 -b 1024 -N 64 -O metadata_csum,64bit,^has_journal,^resize_inode",
};
inline constexpr u64 kHostileKib = 384;
// debugfs takes the permissions of new files from the host's and everything else from here; the
// link count of a/f is put right by e2fsck, which also makes `many` a hashed directory.
inline constexpr const char* kHostileScript = R"(
set -e
cd "$1"
umask 022
export LC_ALL=C PATH="$PATH:/sbin:/usr/sbin" MKE2FS_CONFIG="$1/conf" E2FSCK_CONFIG=/dev/null
export E2FSPROGS_FAKE_TIME=1700000000 E2FSCK_TIME=1700000000
cat >conf <<'CONF'
[defaults]
  base_features = sparse_super,large_file,filetype,dir_index,ext_attr
  default_mntopts = acl,user_xattr
  enable_periodic_fsck = 0
  inode_size = 256
[fs_types]
  ext2 = {
  }
  ext4 = {
    features = extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
  }
  small = {
  }
  floppy = {
  }
CONF
printf hello >f
head -c 30000 /dev/zero | tr '\0' x >large
head -c 20000 /dev/zero >zeros
truncate -s 100000 sparse
printf end >>sparse
: >empty
mke2fs -q -F -U 6bd1a7a2-0f0e-4a56-9cf3-0123456789ab \
  -E hash_seed=11111111-2222-3333-4444-555555555555 $2 image "$3k"
{
  printf 'mkdir /a\nmkdir /a/b\nmkdir /a/b/c\n'
  printf 'write f /a/f\nln /a/f /a/b/hard\nwrite large /a/b/large\nwrite zeros /a/b/zeros\n'
  printf 'symlink /long %0200d\n' 0 | tr 0 p
  printf 'mkdir /many\n'
  printf 'write empty /many/some-name-that-is-long-%s\n' $(seq 30 | sort)
  printf 'symlink /short a/f\nwrite sparse /sparse\n'
} >commands
debugfs -w -f commands image
e2fsck -fyD image || [ $? -eq 1 ]
)";

inline std::string hostile_base(u32 number) {
  char dir[] = "/tmp/spw_ext_base_XXXXXX";
  if (::mkdtemp(dir) == nullptr) std::abort();
  const std::string d = dir;
  FILE* script = std::fopen((d + "/make").c_str(), "wb");
  if (script == nullptr || std::fputs(kHostileScript, script) < 0 || std::fclose(script) != 0) {
    std::abort();
  }
  const std::string command = "sh " + d + "/make " + d + " '" + kHostileBases[number] + "' " +
                              std::to_string(kHostileKib) + " >" + d + "/log 2>&1 </dev/null";
  const int code = std::system(command.c_str());
  std::string image(kHostileKib * 1024, '\0');
  FILE* file = std::fopen((d + "/image").c_str(), "rb");
  if (code != 0 || file == nullptr ||
      std::fread(image.data(), 1, image.size(), file) != image.size()) {
    std::fprintf(stderr, "no base image: see %s/log\n", dir);
    std::abort();
  }
  std::fclose(file);
  (void)std::system(("rm -rf " + d).c_str());
  return image;
}

}  // namespace spillway
