// Comparison of the areas of all processes on two sides, after what may differ has been made
// equal. README.md has the reasons.
#pragma once

#include <string>

#include "side.h"

namespace spillway::diff {

// Neighbours that one area could hold become one: when to merge is a manager's own choice.
std::vector<AreaLine> merged(const std::vector<AreaLine>& lines);

// Whether `lines` cover the address; the line that does.
const AreaLine* find(const std::vector<AreaLine>& lines, u64 address);

// Addresses as in operations, one line for each area.
std::string print(const Side& side, const std::vector<AreaLine>& lines);

// The objects of two sides that belong together. Numbers mean nothing beyond one moment: a side
// may use that of a vanished segment again.
class ObjectPairs {
 public:
  // False if one of them has another partner already.
  bool match(u64 left, u64 right);

 private:
  struct Pair {
    u64 left;
    u64 right;
  };
  std::vector<Pair> pairs_;
};

// What differs first, in words that hold no address; empty if nothing does.
std::string area_difference(const Side& left, const std::vector<AreaLine>& left_lines,
                            const Side& right, const std::vector<AreaLine>& right_lines,
                            ObjectPairs* pairs);

}  // namespace spillway::diff
