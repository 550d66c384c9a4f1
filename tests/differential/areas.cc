#include "areas.h"

#include <algorithm>

namespace spillway::diff {
namespace {

bool can_merge(const AreaLine& a, const AreaLine& b) {
  if (a.end != b.start || a.prot != b.prot || a.shared != b.shared || a.object != b.object ||
      a.locked != b.locked || a.growsdown != b.growsdown || a.noreserve != b.noreserve) {
    return false;
  }
  return a.object == 0 || a.page_offset + (a.end - a.start) / kPageSize == b.page_offset;
}

}  // namespace

bool Side::add_line(AreaLine line, std::vector<AreaLine>* lines) const {
  const bool window = line.start < kWindowStart + kWindowBytes && line.end > kWindowStart;
  const bool heap = line.start < heap_start_ + kHeapBytes && line.end > heap_start_;
  if (!window && !heap) return false;
  const u64 low = window ? kWindowStart : heap_start_;
  const u64 high = low + (window ? kWindowBytes : kHeapBytes);
  if (line.start < low) {
    if (line.object != 0) line.page_offset += (low - line.start) / kPageSize;
    line.start = low;
  }
  line.end = std::min(line.end, high);
  const auto first_of_heap = std::find_if(lines->begin(), lines->end(), [&](const AreaLine& a) {
    return place_of(a.start).base == Base::heap;
  });
  lines->insert(window ? first_of_heap : lines->end(), line);
  return true;
}

std::vector<AreaLine> merged(const std::vector<AreaLine>& lines) {
  std::vector<AreaLine> out;
  for (const AreaLine& line : lines) {
    if (!out.empty() && can_merge(out.back(), line)) {
      out.back().end = line.end;
    } else {
      out.push_back(line);
    }
  }
  return out;
}

const AreaLine* find(const std::vector<AreaLine>& lines, u64 address) {
  const auto it = std::find_if(lines.begin(), lines.end(), [&](const AreaLine& a) {
    return a.start <= address && address < a.end;
  });
  return it == lines.end() ? nullptr : &*it;
}

std::string print(const Side& side, const std::vector<AreaLine>& lines) {
  std::string text;
  for (const AreaLine& a : lines) {
    text += "    " + print(side.place_of(a.start)) + "-" + print(side.place_of(a.end)) + " ";
    text += (a.prot & 1) != 0 ? 'r' : '-';
    text += (a.prot & 2) != 0 ? 'w' : '-';
    text += (a.prot & 4) != 0 ? 'x' : '-';
    text += a.shared ? 's' : 'p';
    if (a.object != 0) {
      text += " object " + std::to_string(a.object) + " page " + std::to_string(a.page_offset);
    }
    if (a.locked) text += " locked";
    if (a.growsdown) text += " growsdown";
    if (a.noreserve) text += " noreserve";
    text += "\n";
  }
  return text;
}

bool ObjectPairs::match(u64 left, u64 right) {
  if ((left == 0) != (right == 0)) return false;
  for (const Pair& p : pairs_) {
    if (p.left == left || p.right == right) return p.left == left && p.right == right;
  }
  pairs_.push_back({left, right});
  return true;
}

std::string area_difference(const Side& left, const std::vector<AreaLine>& left_lines,
                            const Side& right, const std::vector<AreaLine>& right_lines,
                            ObjectPairs* pairs) {
  const u64 both = std::min(left_lines.size(), right_lines.size());
  for (u64 i = 0; i < both; ++i) {
    const AreaLine& a = left_lines[i];
    const AreaLine& b = right_lines[i];
    if (left.place_of(a.start) != right.place_of(b.start)) return "start";
    if (left.place_of(a.end) != right.place_of(b.end)) return "end";
    if (a.prot != b.prot) return "rights";
    if (a.shared != b.shared) return "shared or private";
    if (!pairs->match(a.object, b.object)) return "file";
    if (a.page_offset != b.page_offset) return "offset";
    if (a.locked != b.locked) return "locked";
    if (a.growsdown != b.growsdown) return "growsdown";
    if (a.noreserve != b.noreserve) return "noreserve";
  }
  return left_lines.size() == right_lines.size() ? "" : "number";
}

}  // namespace spillway::diff
