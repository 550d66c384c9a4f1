// FileReadahead: the read-ahead state of one open file (MECHANISMS 8.4). The window doubles from
// kMin to kMax pages while reads go on in sequence; a read outside of what was read ahead resets
// it. Thread safety: the engine lock.
#pragma once

#include "base/types.h"

namespace spillway {

struct FileReadahead {
  static constexpr u32 kMin = 3;
  static constexpr u32 kMax = 31;

  u64 next = 0;       // where a sequential read would continue, in pages
  u32 window = 0;     // of the last reading ahead; 0 = not sequential
  u64 ahead_end = 0;  // pages below were read ahead

  // The page continues what was read before: the next one, the same one again, or one of those
  // that were read ahead.
  bool sequential(u32 index) const {
    return index == next || index + u64{1} == next || (next <= index && index < ahead_end);
  }
  u32 grown() const {
    if (window == 0) return kMin;
    return 2 * window < kMax ? 2 * window : kMax;
  }
};

}  // namespace spillway
