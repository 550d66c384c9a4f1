// AreaMap: the areas of a modelled address space, in a map by first page. Neighbours that would
// look like one area are one.
//
// An Area has `range`, `from(page)` (the part of it that begins at a page inside it) and
// `joins(after)` (whether it and the area that begins where it ends are one).
#pragma once

#include <algorithm>
#include <map>
#include <vector>

#include "base/units.h"

namespace spillway::harness {

// Pages, by number.
struct PageRange {
  u64 first = 0;
  u64 end = 0;
  bool empty() const { return end <= first; }
  u64 pages() const { return empty() ? 0 : end - first; }
  bool contains(u64 page) const { return first <= page && page < end; }
  bool overlaps(PageRange o) const { return first < o.end && o.first < end; }
  PageRange clip(PageRange o) const {
    return {first > o.first ? first : o.first, end < o.end ? end : o.end};
  }
};
inline constexpr PageRange kAllPages{0, ~u64{0}};
// The pages that [at, at+len) touches, in bytes; empty when the address overflows.
inline PageRange pages_of(u64 at, u64 len) {
  const u64 end = at + len;
  if (end < at || end + kPageMask < end) return {};
  return {at / kPageSize, pages_for(end).v};
}

// What it maps from page numbers (contents of pages) in the range is gone.
template <class Value>
void erase_range(std::map<u64, Value>* map, PageRange range) {
  if (range.empty()) return;
  map->erase(map->lower_bound(range.first), map->lower_bound(range.end));
}
// Takes what it maps from `from` out of the map and returns it under page numbers of `to`; what
// finds no room there is gone.
template <class Value>
std::map<u64, Value> take_moved(std::map<u64, Value>* map, PageRange from, PageRange to) {
  std::map<u64, Value> moved;
  for (auto it = map->lower_bound(from.first); it != map->end() && it->first < from.end; ++it) {
    const u64 page = it->first - from.first + to.first;
    if (page < to.end) moved.emplace(page, std::move(it->second));
  }
  erase_range(map, from);
  return moved;
}

template <class Area>
class AreaMap {
 public:
  // The area around a page; null if there is none.
  const Area* find(u64 page) const {
    const Area* area = at_or_below(page);
    return area != nullptr && page < area->range.end ? area : nullptr;
  }
  // The first area that ends above the page.
  const Area* find_above(u64 page) const {
    if (const Area* area = find(page)) return area;
    const auto it = areas_.upper_bound(page);
    return it == areas_.end() ? nullptr : &it->second;
  }
  const Area* below(const Area& area) const {
    const auto it = areas_.lower_bound(area.range.first);
    return it == areas_.begin() ? nullptr : &std::prev(it)->second;
  }
  // Whole areas, also those that reach over the edges of the range.
  std::vector<Area> areas_in(PageRange range) const;
  std::vector<Area> areas() const { return areas_in(kAllPages); }
  u64 area_count() const { return areas_.size(); }
  bool is_free(PageRange range) const { return areas_in(range).empty(); }
  // No hole in the range.
  bool covered(PageRange range) const;
  template <class Pred>
  bool any(PageRange range, Pred pred) const {
    const auto found = areas_in(range);
    return std::any_of(found.begin(), found.end(), pred);
  }
  // Pages of the range in areas of which `pred` is true.
  template <class Pred>
  u64 pages_where(PageRange range, Pred pred) const {
    u64 sum = 0;
    for (const Area& a : areas_in(range)) sum += pred(a) ? a.range.clip(range).pages() : 0;
    return sum;
  }
  u64 mapped_pages(PageRange range) const {
    return pages_where(range, [](const Area&) { return true; });
  }
  u64 total_vm() const { return mapped_pages(kAllPages); }

 protected:
  // Replaces whatever is in the area's range.
  void put(const Area& area) {
    cut_out(area.range);
    areas_.emplace(area.range.first, area);
    merge();
  }
  void cut_out(PageRange range) {
    if (range.empty()) return;
    split(range);
    erase_range(&areas_, range);
  }
  // Calls fn(area) for each area in the range, cut at its edges.
  template <class Fn>
  void change_in(PageRange range, Fn fn) {
    if (range.empty()) return;
    split(range);
    for (auto it = areas_.lower_bound(range.first); it != areas_.end() && it->first < range.end;
         ++it) {
      fn(it->second);
    }
    merge();
  }
  // The area that begins at `first` begins at `to` from now on, without a look at its neighbours.
  void begin_at(u64 first, u64 to) {
    auto node = areas_.extract(first);
    node.key() = to;
    node.mapped().range.first = to;
    areas_.insert(std::move(node));
  }

 private:
  const Area* at_or_below(u64 page) const {
    const auto it = areas_.upper_bound(page);
    return it == areas_.begin() ? nullptr : &std::prev(it)->second;
  }
  // Cuts areas so that none reaches over the edges of the range.
  void split(PageRange range) {
    for (const u64 at : {range.first, range.end}) {
      const Area* around = find(at);
      if (around == nullptr || around->range.first == at) continue;
      Area& low = areas_.find(around->range.first)->second;
      areas_.emplace(at, low.from(at));
      low.range.end = at;
    }
  }
  void merge();

  std::map<u64, Area> areas_;  // by first page
};

template <class Area>
std::vector<Area> AreaMap<Area>::areas_in(PageRange range) const {
  std::vector<Area> found;
  if (range.empty()) return found;
  auto it = areas_.upper_bound(range.first);
  if (it != areas_.begin() && std::prev(it)->second.range.end > range.first) --it;
  for (; it != areas_.end() && it->first < range.end; ++it) found.push_back(it->second);
  return found;
}

template <class Area>
bool AreaMap<Area>::covered(PageRange range) const {
  u64 at = range.first;
  for (const Area& a : areas_in(range)) {
    if (a.range.first > at) return false;
    at = a.range.end;
  }
  return at >= range.end;
}

template <class Area>
void AreaMap<Area>::merge() {
  for (auto it = areas_.begin(); it != areas_.end();) {
    const auto next = std::next(it);
    if (next != areas_.end() && it->second.range.end == next->first &&
        it->second.joins(next->second)) {
      it->second.range.end = next->second.range.end;
      areas_.erase(next);
    } else {
      it = next;
    }
  }
}

}  // namespace spillway::harness
