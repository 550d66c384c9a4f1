// The blocks of an image that are neither contents nor trees of files: superblocks, descriptors,
// bitmaps and inode tables, as sorted runs.
#pragma once

#include <algorithm>
#include <vector>

#include "base/result.h"

namespace spillway {

class ExtZones {
 public:
  void clear() { zones_.clear(); }
  void add(u64 first, u64 count) {
    if (count != 0) zones_.push_back({first, first + count});
  }
  // After the last add(). corrupt: two of them overlap.
  Status finish() {
    std::sort(zones_.begin(), zones_.end(),
              [](const Zone& a, const Zone& b) { return a.first < b.first; });
    std::vector<Zone> merged;
    for (const Zone& zone : zones_) {
      if (!merged.empty() && zone.first < merged.back().end) return Error::corrupt;
      if (!merged.empty() && zone.first == merged.back().end) {
        merged.back().end = zone.end;
      } else {
        merged.push_back(zone);
      }
    }
    zones_.swap(merged);
    return kOk;
  }
  // Whether one of these blocks lies in a zone. O(log zones).
  bool touch(u64 first, u64 count) const {
    // The first zone that ends behind the start must begin behind the end.
    const auto zone = std::upper_bound(zones_.begin(), zones_.end(), first,
                                       [](u64 block, const Zone& z) { return block < z.end; });
    return zone != zones_.end() && zone->first < first + count;
  }
  // Calls visit(first, end) until it returns false; whether none did.
  template <class Visit>
  bool all_of(Visit visit) const {
    return std::all_of(zones_.begin(), zones_.end(),
                       [&](const Zone& z) { return visit(z.first, z.end); });
  }

 private:
  struct Zone {
    u64 first;
    u64 end;
  };
  std::vector<Zone> zones_;
};

}  // namespace spillway
