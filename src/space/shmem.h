// Shmem: memory shared between processes, behind System V segments, shared anonymous mappings and
// /dev/zero (MECHANISMS 9). An object's pages live in its Mapping while resident and in swap slots
// while out; each index is in exactly one place (I25).
//
// An object lives as long as an area maps it or its segment is not removed. Thread safety: the
// engine lock.
#pragma once

#include "space/area.h"
#include "space/mm_context.h"

namespace spillway {

struct ShmObject {
  Mapping mapping;
  u32 id = 0;            // of the segment; for anonymous shared memory a number too
  u32 key = 0;           // IPC_PRIVATE = 0
  u32 areas = 0;         // areas that map it, in all spaces (shm_nattch)
  u32 creator = 0;       // the owner's word
  bool segment = false;  // a System V segment: lives on when nobody maps it
  bool dest = false;     // removed: goes with the last area
  bool used = false;
  char name[16] = {};  // "SYSV0000002a" or "/dev/zero"
  PageCount committed;
};

class Shmem final : public Backing, public AreaOps {
 public:
  static constexpr u32 kObjectsMax = 4096;  // SHMMNI of Linux 2.4, anonymous ones included

  Status init(MmContext& mm);

  // A new object. no_space: kObjectsMax exist; no_memory: not committed, or beyond
  // kMappingPagesMax. Anonymous objects end with their last area, so the caller maps them before
  // anything else or calls drop_unused().
  Result<ShmObject*> create(u64 bytes, bool segment, u32 key, bool noreserve);
  void drop_unused(ShmObject& object);
  // Null if there is none with that id / key that is a segment and not removed.
  ShmObject* find_segment(u32 id);
  ShmObject* find_key(u32 key);
  // IPC_RMID: gone at once if nobody maps it, else with the last area.
  void remove_segment(ShmObject& object);
  static ShmObject& object_of(const Mapping& mapping) {
    return *static_cast<ShmObject*>(mapping.host);
  }

  u64 segment_pages() const { return segment_pages_; }
  u32 segments() const { return segments_; }
  // Calls fn(ShmObject&) for each object.
  template <class Fn>
  void for_each(Fn fn) {
    for (u32 i = 0; i < kObjectsMax; ++i) {
      if (objects_[i].used) fn(objects_[i]);
    }
  }
  // The mapping whose table holds `slot`, and where (swapoff); null if none.
  Mapping* find_slot(SlotId slot, u32* index);

  // Shared memory is never read through its backing: fault_file.cc brings it from swap.
  Status read_pages(Mapping& mapping, u32 index, const Pfn* frames, u32 count) override;
  // The page moves to the swap cache, dirty, under a slot that the object's table holds.
  WriteOutcome write_page(Mapping& mapping, Pfn pfn) override;

  void area_opened(Area& area) override;
  void area_closed(Area& area) override;
  const char* area_name(const Area& area) const override;

 private:
  void end(ShmObject& object);

  MmContext* mm_ = nullptr;
  ShmObject* objects_ = nullptr;
  u32 next_id_ = 1;
  u32 segments_ = 0;
  u64 segment_pages_ = 0;
};

}  // namespace spillway
