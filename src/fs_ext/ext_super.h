// What is checked of an image before libext2fs sees it: a superblock that lies must not steer the
// library. Pure functions over bytes.
#pragma once

#include "base/result.h"

namespace spillway {

enum class ExtMode : u8 { read_only, read_write };

// What a superblock says, as far as it can be believed.
struct ExtProbe {
  static constexpr u32 kBytes = 1024;   // of a superblock
  static constexpr u64 kOffset = 1024;  // where it lies on the device

  const char* type = "ext2";  // ext2, ext3, ext4: by its features
  u32 block_size = 0;         // 1024, 2048 or 4096
  u64 blocks = 0;
  u64 inodes = 0;
  u32 groups = 0;
  bool clean = false;      // unmounted properly, no known errors
  bool recovery = false;   // the journal holds what is not in its place yet
  bool read_only = false;  // has a feature that we can read but not write
  // Why it was refused, or why it can be read only (its feature's name); for the user. Static.
  const char* why = "";
};

// Reads a superblock (kBytes bytes from kOffset) of an image of `device_bytes`. On failure
// `probe.why` says why: invalid: not ext2, 3 or 4; not_supported: a feature or block size that we
// do not have; corrupt: numbers that contradict each other or the size of the device.
Status probe_ext(const u8* bytes, u64 device_bytes, ExtProbe* probe);

}  // namespace spillway
