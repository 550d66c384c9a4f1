// Streams: recognises runs of faults with a constant stride and says how far to go ahead. Works
// on faults only: a page mapped ahead causes none, so the next fault of a stream comes where
// its last window ended.
//
// A stride of one page is believed at the second fault, any other at the third. The window doubles
// with each fault of the stream. Cost: O(kStreams) per fault. Thread safety: the engine lock.
#pragma once

#include "base/units.h"

namespace spillway {

struct Window {
  u32 pages = 1;   // how many pages to serve, the faulting one included
  i64 stride = 1;  // from one to the next, in pages
};

class Streams {
 public:
  static constexpr u32 kStreams = 16;     // concurrent streams of a System: threads x arrays
  static constexpr i64 kStrideMax = 512;  // a page-table page: farther jumps are not a scan

  void init(u32 window_min, u32 window_max) {
    window_min_ = window_min;
    window_max_ = window_max;
  }
  // A fault at `vpn`. Asking again for the fault asked last of a stream gives the same answer,
  // so a retry does not count twice.
  Window on_fault(SpaceId space, Vpn vpn);

 private:
  struct Stream {
    SpaceId space;
    bool confirmed = false;
    u32 window = 1;
    i64 stride = 0;
    i64 last = 0;  // where its last fault was
    i64 next = 0;  // where its window ends
    u64 used = 0;  // for least-recently-used replacement
  };
  bool continues(const Stream& s, i64 at) const;

  Stream streams_[kStreams];
  u64 now_ = 0;
  u32 window_min_ = 4;
  u32 window_max_ = 32;
};

}  // namespace spillway
