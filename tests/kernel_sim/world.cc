#include "world.h"

#include <algorithm>

namespace spillway::ksim {

PageRange pages_of(u64 at, u64 len) {
  const u64 end = at + len;
  if (end < at || end + kPageMask < end) return {};
  return {at / kPageSize, pages_for(end).v};
}

bool ModelArea::joins(const ModelArea& after) const {
  return range.end == after.range.first && prot == after.prot && may == after.may &&
         shared == after.shared && may_share == after.may_share && locked == after.locked &&
         noreserve == after.noreserve && growsdown == after.growsdown && stack == after.stack &&
         dontcopy == after.dontcopy && executable == after.executable && hint == after.hint &&
         object == after.object && (object == nullptr || pgoff + range.pages() == after.pgoff);
}

const ModelArea* Space::find(u64 page) const {
  auto it = areas_.upper_bound(page);
  if (it == areas_.begin()) return nullptr;
  --it;
  return page < it->second.range.end ? &it->second : nullptr;
}

const ModelArea* Space::find_above(u64 page) const {
  if (const ModelArea* area = find(page)) return area;
  const auto it = areas_.upper_bound(page);
  return it == areas_.end() ? nullptr : &it->second;
}

const ModelArea* Space::below(const ModelArea& area) const {
  const auto it = areas_.lower_bound(area.range.first);
  return it == areas_.begin() ? nullptr : &std::prev(it)->second;
}

std::vector<ModelArea> Space::areas_in(PageRange range) const {
  std::vector<ModelArea> found;
  if (range.empty()) return found;
  auto it = areas_.upper_bound(range.first);
  if (it != areas_.begin() && std::prev(it)->second.range.end > range.first) --it;
  for (; it != areas_.end() && it->first < range.end; ++it) found.push_back(it->second);
  return found;
}

bool Space::covered(PageRange range) const {
  u64 at = range.first;
  for (const ModelArea& a : areas_in(range)) {
    if (a.range.first > at) return false;
    at = a.range.end;
  }
  return at >= range.end;
}

bool Space::any_locked(PageRange range) const {
  const auto found = areas_in(range);
  return std::any_of(found.begin(), found.end(), [](const auto& a) { return a.locked; });
}

u64 Space::total_vm() const { return mapped_pages({0, ~u64{0}}); }

u64 Space::locked_vm() const {
  u64 sum = 0;
  for (const auto& [first, a] : areas_) sum += a.locked ? a.range.pages() : 0;
  return sum;
}

u64 Space::mapped_pages(PageRange range) const {
  u64 sum = 0;
  for (const ModelArea& a : areas_in(range)) sum += a.range.clip(range).pages();
  return sum;
}

u64 Space::accounted_pages(PageRange range) const {
  u64 sum = 0;
  for (const ModelArea& a : areas_in(range)) {
    if (a.accounted()) sum += a.range.clip(range).pages();
  }
  return sum;
}

void Space::split(u64 at) {
  auto it = areas_.lower_bound(at);
  if (it == areas_.begin()) return;
  --it;
  ModelArea& low = it->second;
  if (low.range.end <= at) return;
  ModelArea high = low;
  high.range.first = at;
  if (high.object != nullptr) high.pgoff = low.index_of(at);
  low.range.end = at;
  areas_.emplace(at, high);
}

void Space::merge() {
  for (auto it = areas_.begin(); it != areas_.end();) {
    const auto next = std::next(it);
    if (next != areas_.end() && it->second.joins(next->second)) {
      it->second.range.end = next->second.range.end;
      areas_.erase(next);
    } else {
      it = next;
    }
  }
}

void Space::forget(PageRange range) {
  if (range.empty()) return;
  own_.erase(own_.lower_bound(range.first), own_.lower_bound(range.end));
}

void Space::map(const ModelArea& area) {
  unmap(area.range);
  areas_.emplace(area.range.first, area);
  merge();
}

void Space::unmap(PageRange range) {
  if (range.empty()) return;
  split(range.first);
  split(range.end);
  areas_.erase(areas_.lower_bound(range.first), areas_.lower_bound(range.end));
  forget(range);
}

void Space::change(PageRange range, const std::function<void(ModelArea&)>& fn) {
  if (range.empty()) return;
  split(range.first);
  split(range.end);
  for (auto it = areas_.lower_bound(range.first); it != areas_.end() && it->first < range.end;
       ++it) {
    fn(it->second);
  }
  merge();
}

void Space::move(PageRange from, PageRange to) {
  ModelArea area = *find(from.first);
  if (area.object != nullptr) area.pgoff = area.index_of(from.first);
  area.range = to;
  std::map<u64, OwnPage> moved;
  for (auto it = own_.lower_bound(from.first); it != own_.end() && it->first < from.end; ++it) {
    const u64 page = it->first - from.first + to.first;
    if (page < to.end) moved.emplace(page, std::move(it->second));
  }
  unmap(from);
  map(area);
  own_.merge(moved);
}

void Space::grow_down(u64 first, u64 to) {
  const auto it = areas_.find(first);
  ModelArea area = it->second;
  areas_.erase(it);
  area.range.first = to;
  areas_.emplace(to, area);
}

void Space::truncate(const Object& object, u64 index) {
  for (const auto& [first, a] : areas_) {
    if (a.object.get() != &object || a.pgoff + a.range.pages() <= index) continue;
    const u64 skip = index > a.pgoff ? index - a.pgoff : 0;
    forget({a.range.first + skip, a.range.end});
  }
}

PageBytes Space::followed(const ModelArea& area, u64 page) const {
  return area.object == nullptr ? PageBytes{} : area.object->page(area.index_of(page));
}

void Space::maybe_copied(PageRange range) {
  for (const ModelArea& a : areas_in(range)) {
    if (a.shared || a.object == nullptr || !allows(a.prot, Prot::write)) continue;
    const PageRange part = a.range.clip(range);
    for (u64 page = part.first; page < part.end; ++page) {
      if (a.index_of(page) >= a.object->size_pages()) break;
      const auto [it, fresh] = own_.try_emplace(page);
      if (fresh) it->second.maybe_follows = true;
      if (it->second.maybe_follows) it->second.any_of.push_back(followed(a, page));
    }
  }
}

void Space::touch(PageRange range) {
  for (const ModelArea& a : areas_in(range)) {
    const PageRange part = a.range.clip(range);
    for (u64 page = part.first; page < part.end; ++page) {
      if (a.object == nullptr) {
        own_.try_emplace(page, OwnPage{{PageBytes{}}, false});
      } else if (a.object->kind != ObjectKind::file && a.index_of(page) < a.object->size_pages()) {
        a.object->pages.try_emplace(a.index_of(page));
      }
    }
  }
}

void Space::store(u64 page, u32 offset, const u8* data, u64 count) {
  const ModelArea& area = *find(page);
  if (area.shared) {
    area.object->store(area.index_of(page), offset, data, count);
  } else {
    own_[page].store(followed(area, page), offset, data, count);
  }
}

bool Space::load(u64 page, u32 offset, const u8* data, u64 count) {
  const ModelArea& area = *find(page);
  const auto it = own_.find(page);
  if (it == own_.end()) return followed(area, page).matches(offset, data, count);
  bool follows = false;
  if (!it->second.load(followed(area, page), offset, data, count, &follows)) return false;
  if (follows) own_.erase(it);
  return true;
}

u32 World::threads_of(u32 leader) const {
  u32 count = 0;
  for (u32 i = 0; i < kSlotsMax; ++i) count += at(i) != nullptr && at(i)->leader == leader;
  return count;
}

std::vector<SpacePtr> World::spaces() const {
  std::vector<SpacePtr> all;
  for (const auto& p : procs) {
    if (p.has_value() && std::find(all.begin(), all.end(), p->space) == all.end()) {
      all.push_back(p->space);
    }
  }
  return all;
}

std::vector<ObjectPtr> World::objects() const {
  std::vector<ObjectPtr> all;
  const auto add = [&](const ObjectPtr& o) {
    if (o != nullptr && std::find(all.begin(), all.end(), o) == all.end()) all.push_back(o);
  };
  for (const ObjectPtr& o : files) add(o);
  for (const ObjectPtr& o : segments) add(o);
  for (const auto& p : procs) {
    if (!p.has_value()) continue;
    for (const Descriptor& d : p->files) add(d.object);
  }
  for (const SpacePtr& s : spaces()) {
    for (const ModelArea& a : s->areas()) add(a.object);
  }
  return all;
}

u64 World::areas_of(const Object& object, bool executable_only) const {
  u64 count = 0;
  for (const SpacePtr& s : spaces()) {
    for (const ModelArea& a : s->areas()) {
      if (a.object.get() == &object && (a.executable || !executable_only)) ++count;
    }
  }
  return count;
}

u64 World::committed() const {
  u64 sum = 0;
  for (const SpacePtr& s : spaces()) sum += s->committed();
  for (const ObjectPtr& o : objects()) sum += o->committed;
  return sum;
}

void World::truncate(Object& object, u64 bytes) {
  object.set_size(bytes);
  for (const SpacePtr& s : spaces()) s->truncate(object, object.size_pages());
}

void World::close(Descriptor& d) {
  if (d.object != nullptr && d.write) --d.object->writers;
  d = Descriptor{};
}

}  // namespace spillway::ksim
