#include "space_model.h"

#include <algorithm>
#include <cstring>

namespace spillway::sim {
namespace {

bool is_zero(const u8* p, u64 bytes) {
  return std::all_of(p, p + bytes, [](u8 b) { return b == 0; });
}

}  // namespace

const ModelArea* SpaceModel::find(u64 page) const {
  auto it = areas_.upper_bound(page);
  if (it == areas_.begin()) return nullptr;
  --it;
  return page < it->second.range.end ? &it->second : nullptr;
}

std::vector<ModelArea> SpaceModel::areas_in(PageRange range) const {
  std::vector<ModelArea> found;
  if (range.empty()) return found;
  auto it = areas_.upper_bound(range.first);
  if (it != areas_.begin() && std::prev(it)->second.range.end > range.first) --it;
  for (; it != areas_.end() && it->first < range.end; ++it) found.push_back(it->second);
  return found;
}

bool SpaceModel::covered(PageRange range) const {
  u64 at = range.first;
  for (const ModelArea& a : areas_in(range)) {
    if (a.range.first > at) return false;
    at = a.range.end;
  }
  return at >= range.end;
}

bool SpaceModel::any_foreign(PageRange range) const {
  const auto found = areas_in(range);
  return std::any_of(found.begin(), found.end(), [](const auto& a) { return a.kind.foreign; });
}

bool SpaceModel::any_locked(PageRange range) const {
  const auto found = areas_in(range);
  return std::any_of(found.begin(), found.end(), [](const auto& a) { return a.kind.locked; });
}

u64 SpaceModel::total_vm() const {
  u64 sum = 0;
  for (const auto& [first, a] : areas_) sum += a.range.pages();
  return sum;
}

u64 SpaceModel::locked_vm() const {
  u64 sum = 0;
  for (const auto& [first, a] : areas_) sum += a.kind.locked ? a.range.pages() : 0;
  return sum;
}

bool SpaceModel::has_gap(u64 wanted) const {
  u64 at = brk_pages_;
  for (const auto& [first, a] : areas_) {
    if (a.range.end <= at) continue;
    if (first > at && first - at >= wanted) return true;
    at = a.range.end;
  }
  return pages_ - at >= wanted;
}

void SpaceModel::split(u64 at) {
  auto it = areas_.lower_bound(at);
  if (it == areas_.begin()) return;
  --it;
  ModelArea& low = it->second;
  if (low.range.end <= at) return;
  ModelArea high = low;
  high.range.first = at;
  low.range.end = at;
  areas_.emplace(at, high);
}

void SpaceModel::merge_around(PageRange range) {
  auto it = areas_.lower_bound(range.first);
  if (it != areas_.begin()) --it;
  while (it != areas_.end() && it->first <= range.end) {
    const auto next = std::next(it);
    if (next != areas_.end() && it->second.range.end == next->first &&
        it->second.kind == next->second.kind && !it->second.kind.foreign) {
      it->second.range.end = next->second.range.end;
      areas_.erase(next);
    } else {
      it = next;
    }
  }
}

template <class Fn>
void SpaceModel::change(PageRange range, Fn fn) {
  if (range.empty()) return;
  split(range.first);
  split(range.end);
  for (auto it = areas_.lower_bound(range.first); it != areas_.end() && it->first < range.end;
       ++it) {
    fn(it->second.kind);
  }
  merge_around(range);
}

void SpaceModel::erase_contents(PageRange range) {
  contents_.erase(contents_.lower_bound(range.first), contents_.lower_bound(range.end));
}

void SpaceModel::map(PageRange range, AreaKind kind) {
  unmap(range);
  areas_.emplace(range.first, ModelArea{range, kind});
  merge_around(range);
}

void SpaceModel::unmap(PageRange range) {
  if (range.empty()) return;
  split(range.first);
  split(range.end);
  areas_.erase(areas_.lower_bound(range.first), areas_.lower_bound(range.end));
  erase_contents(range);
}

void SpaceModel::protect(PageRange range, Prot prot) {
  change(range, [prot](AreaKind& kind) { kind.prot = prot; });
}

void SpaceModel::set_locked(PageRange range, bool locked) {
  change(range, [locked](AreaKind& kind) { kind.locked = locked; });
}

void SpaceModel::discard(PageRange range) { erase_contents(range); }

void SpaceModel::free_lazily(PageRange range) {
  for (auto it = contents_.lower_bound(range.first); it != contents_.end() && it->first < range.end;
       ++it) {
    it->second.lazy = true;
  }
}

void SpaceModel::move(PageRange from, PageRange to) {
  const AreaKind kind = find(from.first)->kind;
  std::map<u64, Content> moved;
  for (auto it = contents_.lower_bound(from.first); it != contents_.end() && it->first < from.end;
       ++it) {
    const u64 page = it->first - from.first + to.first;
    if (page < to.end) moved.emplace(page, std::move(it->second));
  }
  unmap(from);
  map(to, kind);
  contents_.merge(moved);
}

void SpaceModel::store(u64 page, u64 offset, const u8* data, u64 bytes) {
  Content& c = contents_[page];
  if (c.candidates.empty() || c.lazy) c.candidates.push_back(std::make_unique<u8[]>(kPageSize));
  if (bytes == kPageSize) c.candidates.resize(1);
  // The store takes the page out of MADV_FREE's hands; what it had become shows later.
  c.lazy = false;
  for (const Bytes& b : c.candidates) std::memcpy(b.get() + offset, data, bytes);
}

bool SpaceModel::load(u64 page, u64 offset, const u8* data, u64 bytes) {
  const auto it = contents_.find(page);
  if (it == contents_.end()) return is_zero(data, bytes);
  Content& c = it->second;
  const auto differs = [&](const Bytes& b) {
    return std::memcmp(b.get() + offset, data, bytes) != 0;
  };
  if (std::all_of(c.candidates.begin(), c.candidates.end(), differs)) {
    if (!c.lazy || !is_zero(data, bytes)) return false;
    contents_.erase(it);
    return true;
  }
  std::erase_if(c.candidates, differs);
  return true;
}

const u8* SpaceModel::bytes(u64 page) const {
  const auto it = contents_.find(page);
  return it == contents_.end() ? nullptr : it->second.candidates[0].get();
}

u64 SpaceModel::solid_pages() const {
  u64 count = 0;
  for (const auto& [page, c] : contents_) {
    const u8* p = c.candidates[0].get();
    if (std::memcmp(p, p + sizeof(u32), kPageSize - sizeof(u32)) != 0) ++count;
  }
  return count;
}

u64 SpaceModel::next_written(u64 page) const {
  const auto it = contents_.lower_bound(page);
  return it == contents_.end() ? ~u64{0} : it->first;
}

}  // namespace spillway::sim
