// Side: one implementation of the system calls under test, as the driver sees it. There are two:
// the kernel beneath (host_side.h) and the simulated machine (sim_side.h).
#pragma once

#include <string>
#include <vector>

#include "diff_case.h"

namespace spillway::diff {

// A side cannot do what the test needs of it: not a difference, but no comparison either.
struct SideBroken {
  std::string text;
};

// A side is wrong all by itself, without comparison.
struct SideFailed {
  std::string kind;
};

// What came of one operation.
struct Answer {
  int error = 0;  // errno
  u64 value = 0;  // what the call returned; addresses are absolute
  int signo = 0;  // of the signal that ended the access
  int code = 0;
  u64 fault_address = 0;
  std::vector<u8> bytes;  // that an access, a transfer or mincore brought
};

// A line of maps.
struct AreaLine {
  u64 start = 0;
  u64 end = 0;
  u32 prot = 0;
  bool shared = false;
  // What is mapped: 0 private memory, otherwise a file or shared memory by a number that means
  // something on this side only.
  u64 object = 0;
  u64 page_offset = 0;  // in the object; 0 for private memory
  bool locked = false;
  bool growsdown = false;
  bool noreserve = false;
  bool operator==(const AreaLine&) const = default;
};

class Side {
 public:
  virtual ~Side() = default;

  // Does `op` as its process. mmap and mremap return the address that the call gave, whatever is
  // to become of it. mincore's bytes are one for each page.
  virtual Answer perform(const Op& op) = 0;
  // All areas of a process that reach into the window or the heap, cut to these, by address: those
  // of the window, then those of the heap, whichever of the two this side has lower.
  virtual std::vector<AreaLine> areas(u32 process) = 0;
  // The number that areas() shows for file `file` (0 = a).
  virtual u64 object_of_file(u32 file) = 0;
  virtual std::vector<u8> file_bytes(u32 file) = 0;
  virtual u64 file_size(u32 file) = 0;
  // Looks for damage that nobody has seen yet; empty if there is none.
  virtual std::string audit() { return {}; }
  // All processes end; what they leave behind that should be gone, empty if nothing.
  virtual std::string end() { return {}; }
  virtual const char* name() const = 0;
  // Whether a refused call has changed nothing. In Linux it may have changed a part of its range.
  virtual bool refuses_whole() const = 0;
  // Whether pages may leave memory although nobody advised it.
  virtual bool short_of_memory() const { return false; }
  // Pages written to swap so far.
  virtual u64 swapped_out() const { return 0; }

  u64 heap_start() const { return heap_start_; }
  u64 address_of(Place place) const {
    switch (place.base) {
      case Base::window: return kWindowStart + place.offset;
      case Base::heap: return heap_start_ + place.offset;
      case Base::absolute: break;
    }
    return place.offset;
  }
  // The same for addresses that are handed out: absolute where they are in neither range.
  Place place_of(u64 address) const {
    if (address - kWindowStart <= kWindowBytes) return {Base::window, address - kWindowStart};
    if (address - heap_start_ <= kHeapBytes) return {Base::heap, address - heap_start_};
    return {Base::absolute, address};
  }

 protected:
  // Adds `line` to those of areas() if it is one of them; it is cut to size then.
  bool add_line(AreaLine line, std::vector<AreaLine>* lines) const;

  // The break at the start, on a page boundary.
  u64 heap_start_ = 0;
};

}  // namespace spillway::diff
