// SwapHeader: the first page of a plain swap area, in Linux's format (mkswap, version 1), so that
// areas made by either are known to both.
#pragma once

#include "base/result.h"
#include "base/units.h"

namespace spillway {

struct SwapHeader {
  static constexpr u32 kVersion = 1;
  static constexpr u32 kBadMax = 637;  // what fits between the fixed fields and the magic

  u8 boot[1024];  // left alone: disk labels and boot loaders
  u32 version;
  u32 last_page;  // the area's last page; page 0 is this one
  u32 bad_count;
  u8 uuid[16];
  u8 label[16];
  u32 spare[117];
  u32 bad[kBadMax];  // pages that must not be used
  u8 spare_end[2];
  char magic[10];

  // An empty area of `pages` pages. The bad pages must lie inside it (1..pages - 1).
  void make(u32 pages, const u32* bad_pages, u32 bad_pages_count);
  // Whether this describes an area that a device of `device_pages` pages can hold. invalid: no
  // magic, another version, longer than the device, a bad page outside, or no good page.
  Status check(PageCount device_pages) const;
};
static_assert(sizeof(SwapHeader) == kPageSize);

}  // namespace spillway
