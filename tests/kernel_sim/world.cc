#include "world.h"

#include <algorithm>

namespace spillway::ksim {

bool ModelArea::joins(const ModelArea& after) const {
  return prot == after.prot && may == after.may && shared == after.shared &&
         may_share == after.may_share && locked == after.locked && noreserve == after.noreserve &&
         growsdown == after.growsdown && stack == after.stack && dontcopy == after.dontcopy &&
         executable == after.executable && hint == after.hint && object == after.object &&
         (object == nullptr || pgoff + range.pages() == after.pgoff);
}

ModelArea ModelArea::from(u64 page) const {
  ModelArea rest = *this;
  rest.range.first = page;
  if (object != nullptr) rest.pgoff = index_of(page);
  return rest;
}

void Space::map(const ModelArea& area) {
  unmap(area.range);
  put(area);
}

void Space::unmap(PageRange range) {
  cut_out(range);
  discard(range);
}

void Space::move(PageRange from, PageRange to) {
  ModelArea area = find(from.first)->from(from.first);
  area.range = to;
  std::map<u64, OwnPage> moved = harness::take_moved(&own_, from, to);
  unmap(from);
  map(area);
  own_.merge(moved);
}

void Space::truncate(const Object& object, u64 index) {
  for (const ModelArea& a : areas()) {
    if (a.object.get() != &object || a.pgoff + a.range.pages() <= index) continue;
    const u64 skip = index > a.pgoff ? index - a.pgoff : 0;
    discard({a.range.first + skip, a.range.end});
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
