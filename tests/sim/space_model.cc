#include "space_model.h"

#include <algorithm>
#include <cstring>

namespace spillway::sim {
namespace {

bool is_zero(const u8* p, u64 bytes) {
  return std::all_of(p, p + bytes, [](u8 b) { return b == 0; });
}

}  // namespace

bool SpaceModel::has_gap(u64 wanted) const {
  u64 at = brk_pages_;
  for (const ModelArea& a : areas()) {
    if (a.range.end <= at) continue;
    if (a.range.first > at && a.range.first - at >= wanted) return true;
    at = a.range.end;
  }
  return pages_ - at >= wanted;
}

void SpaceModel::map(PageRange range, AreaKind kind) {
  unmap(range);
  put({range, kind});
}

void SpaceModel::unmap(PageRange range) {
  cut_out(range);
  discard(range);
}

void SpaceModel::protect(PageRange range, Prot prot) {
  change_in(range, [prot](ModelArea& a) { a.kind.prot = prot; });
}

void SpaceModel::set_locked(PageRange range, bool locked) {
  change_in(range, [locked](ModelArea& a) { a.kind.locked = locked; });
}

void SpaceModel::discard(PageRange range) { harness::erase_range(&contents_, range); }

void SpaceModel::free_lazily(PageRange range) {
  for (auto it = contents_.lower_bound(range.first); it != contents_.end() && it->first < range.end;
       ++it) {
    it->second.lazy = true;
  }
}

void SpaceModel::move(PageRange from, PageRange to) {
  const AreaKind kind = find(from.first)->kind;
  std::map<u64, Content> moved = harness::take_moved(&contents_, from, to);
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
