// What memory must contain, byte for byte: pages of files and segments, which are seen by all who
// map them, and pages that belong to one process.
//
// Some bytes may be one of several things, because the kernel may choose; the model keeps all that
// is possible until a read shows which:
//   - bytes behind the end of a file, in its last page: what a program stored there, or zero
//   - a private page of a file that a call was told to bring in beforehand (mlock, MAP_POPULATE): a
//     copy from then on, or still the file's
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/units.h"

namespace spillway::ksim {

using Bytes = std::array<u8, kPageSize>;
// Pages are shared between what is equal, as after fork, and copied when written.
using BytesPtr = std::shared_ptr<Bytes>;

// One page as a store or load sees it: null is zeros. From `loose` on, bytes may be zero as well.
struct PageBytes {
  BytesPtr bytes;
  u32 loose = kPageSize;

  bool matches(u32 offset, const u8* data, u64 count) const;
  void write(u32 offset, const u8* data, u64 count);
  void zero_from(u32 offset);
  bool is_zero() const;
};

enum class ObjectKind : u8 { file, segment, anonymous };

// A file, a segment, or what is behind a shared anonymous mapping.
struct Object {
  ObjectKind kind = ObjectKind::anonymous;
  u32 number = 0;  // of the file or segment in the case
  u64 size_bytes = 0;
  std::map<u64, BytesPtr> pages;  // null or absent: zeros
  u64 committed = 0;              // pages
  u32 mapping_id = 0;             // of a segment in the kernel's views, once seen
  mutable u64 inode_number = 0;   // of a file, once seen; its mapping changes as its inode comes
  // Files.
  u64 capacity_pages = 0;
  u32 writers = 0;  // descriptors that may write
  // Segments.
  u32 shm_id = 0;
  bool dest = false;
  bool locked = false;

  u64 size_pages() const { return pages_for(size_bytes).v; }
  // The page at `index`; bytes behind the end of a file are loose.
  PageBytes page(u64 index) const;
  void store(u64 index, u32 offset, const u8* data, u64 count);
  // What lies between the old end and the new one is zero, what lies behind the new one is gone.
  void set_size(u64 bytes);
};
using ObjectPtr = std::shared_ptr<Object>;

// A page that belongs to one process: one of `any_of`, or, with maybe_follows, what the object
// behind the area has.
struct OwnPage {
  std::vector<PageBytes> any_of;
  bool maybe_follows = false;

  void store(const PageBytes& followed, u32 offset, const u8* data, u64 count);
  // False: the bytes are none of those. True: what they rule out is forgotten; `*follows` is set
  // when the page must be the object's after all.
  bool load(const PageBytes& followed, u32 offset, const u8* data, u64 count, bool* follows);
};

}  // namespace spillway::ksim
