// The model of all processes: who is alive, their areas, their memory, files and segments. It knows
// nothing of frames, tables or swap.
#pragma once

#include <functional>
#include <optional>

#include "area_map.h"
#include "ksim_case.h"
#include "machine/pte.h"
#include "memory.h"
#include "space/area.h"
#include "system/kernel.h"

namespace spillway::ksim {

using harness::PageRange;
using harness::pages_of;

struct ModelArea {
  PageRange range;
  Prot prot = Prot::none;
  Prot may = Prot::all;
  bool shared = false;     // writes go to the object
  bool may_share = false;  // asked for as shared
  bool locked = false;
  bool noreserve = false;
  bool growsdown = false;
  bool stack = false;
  bool dontcopy = false;
  bool executable = false;
  u32 hint = 0;
  ObjectPtr object;
  u64 pgoff = 0;

  u64 index_of(u64 page) const { return pgoff + (page - range.first); }
  bool accounted() const { return !shared && !noreserve && allows(prot, Prot::write); }
  ModelArea from(u64 page) const;
  // Whether two neighbours look the same, as one area would.
  bool joins(const ModelArea& after) const;
};

struct Limits {
  u64 stack = 0;  // pages
  u64 as = 0;     // pages
  u64 data_bytes = 0;
  u64 memlock = 0;  // pages
};

// An address space.
class Space : public harness::AreaMap<ModelArea> {
 public:
  bool any_locked(PageRange range) const {
    return any(range, [](const ModelArea& a) { return a.locked; });
  }
  u64 locked_vm() const {
    return pages_where(harness::kAllPages, [](const ModelArea& a) { return a.locked; });
  }
  u64 accounted_pages(PageRange range) const {
    return pages_where(range, [](const ModelArea& a) { return a.accounted(); });
  }
  u64 committed() const { return accounted_pages(harness::kAllPages); }

  // Replaces whatever is in the area's range.
  void map(const ModelArea& area);
  void unmap(PageRange range);
  void change(PageRange range, const std::function<void(ModelArea&)>& fn) { change_in(range, fn); }
  // MADV_DONTNEED.
  void discard(PageRange range) { harness::erase_range(&own_, range); }
  void move(PageRange from, PageRange to);
  void grow_down(u64 first, u64 to) { begin_at(first, to); }
  // Pages of a file from `index` on are gone.
  void truncate(const Object& object, u64 index);
  // Private pages of files in the range may be copies from now on.
  void maybe_copied(PageRange range);

  // Pages that have frames or slots of their own now, although nobody has written to them.
  void touch(PageRange range);
  // One access inside a page of an area.
  void store(u64 page, u32 offset, const u8* data, u64 count);
  bool load(u64 page, u32 offset, const u8* data, u64 count);
  // Pages that this space alone has.
  const std::map<u64, OwnPage>& own() const { return own_; }

  u64 image_data_bytes = 0;  // of the program's data, for RLIMIT_DATA
  u64 brk_start = 0;         // bytes
  u64 brk = 0;
  bool lock_future = false;
  Limits limits;

 private:
  PageBytes followed(const ModelArea& area, u64 page) const;

  std::map<u64, OwnPage> own_;
};
using SpacePtr = std::shared_ptr<Space>;

struct Descriptor {
  i32 fd = -1;
  bool read = false;
  bool write = false;
  ObjectPtr object;
};

// A process, or a thread of one.
struct Proc {
  Pid pid;
  u32 leader = 0;  // slot of the process
  SpacePtr space;
  u32 cpu = 0;
  u64 sp = 0;
  bool catches = false;
  i32 oom_adj = 0;
  Descriptor files[kFilesMax];
};

struct World {
  std::optional<Proc> procs[kSlotsMax];
  ObjectPtr files[kFilesMax];  // those that have a name
  ObjectPtr segments[kSegmentsMax];

  Proc* at(u32 slot) {
    return slot < kSlotsMax && procs[slot].has_value() ? &*procs[slot] : nullptr;
  }
  const Proc* at(u32 slot) const { return const_cast<World*>(this)->at(slot); }
  bool is_leader(u32 slot) const { return at(slot) != nullptr && at(slot)->leader == slot; }
  u32 threads_of(u32 leader) const;
  // Every space once.
  std::vector<SpacePtr> spaces() const;
  // Every object that somebody can reach, once.
  std::vector<ObjectPtr> objects() const;
  // Areas that map the object, and those of them that forbid writing it.
  u64 areas_of(const Object& object, bool executable_only) const;
  u64 committed() const;
  void truncate(Object& object, u64 bytes);
  void close(Descriptor& d);
};

}  // namespace spillway::ksim
