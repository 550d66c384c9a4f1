#include "workload/memory_model.h"

#include <algorithm>
#include <cstring>

namespace spillway {
namespace {

// Calls f(page number, offset in it, bytes, offset in the range) for each page of a range.
template <class F>
void each_page(u64 at, u64 bytes, F&& f) {
  for (u64 done = 0; done < bytes;) {
    const u64 offset = (at + done) & kPageMask;
    const u64 chunk = std::min(bytes - done, kPageSize - offset);
    f((at + done) >> kPageShift, offset, chunk, done);
    done += chunk;
  }
}

}  // namespace

MemoryModel::PagePtr MemoryModel::zeros() {
  static const PagePtr page = [] {
    PagePtr p = std::make_shared<Page>();
    p->known.set();
    return p;
  }();
  return page;
}

MemoryModel::Page& MemoryModel::own(PagePtr& page) {
  if (page.use_count() > 1) page = std::make_shared<Page>(*page);
  return *page;
}

MemoryModel::SpaceKey MemoryModel::add_space() {
  const SpaceKey key{next_space_++};
  spaces_[key.v];
  return key;
}

MemoryModel::ObjectKey MemoryModel::add_object(u64 size_bytes) {
  objects_.emplace_back();
  objects_.back().size = size_bytes;
  return ObjectKey{static_cast<u32>(objects_.size())};
}

MemoryModel::ObjectKey MemoryModel::add_object(const std::vector<u8>& contents) {
  const ObjectKey key = add_object(contents.size());
  write_object(key, 0, contents.data(), contents.size());
  return key;
}

void MemoryModel::map_zeros(SpaceKey space, Vpn start, u64 pages) {
  for (u64 i = 0; i < pages; ++i) at(space)[start.v + i] = Entry{zeros()};
}

void MemoryModel::map_unknown(SpaceKey space, Vpn start, u64 pages) {
  for (u64 i = 0; i < pages; ++i) at(space)[start.v + i] = Entry{std::make_shared<Page>()};
}

void MemoryModel::map_object(SpaceKey space, Vpn start, u64 pages, ObjectKey object, u64 index,
                             Sharing sharing) {
  for (u64 i = 0; i < pages; ++i) {
    at(space)[start.v + i] = Entry{object, index + i, sharing};
  }
}

void MemoryModel::unmap(SpaceKey space, Vpn start, u64 pages) {
  Space& entries = at(space);
  entries.erase(entries.lower_bound(start.v), entries.lower_bound(start.v + pages));
}

void MemoryModel::unmap_all(SpaceKey space) { at(space).clear(); }

void MemoryModel::move(SpaceKey space, Vpn from, u64 pages_before, Vpn to, u64 pages_after) {
  Space& entries = at(space);
  std::map<u64, Entry> moved;
  for (u64 i = 0; i < pages_before; ++i) {
    const auto found = entries.find(from.v + i);
    if (found != entries.end()) moved[i] = found->second;
  }
  unmap(space, from, pages_before);
  unmap(space, to, pages_after);
  for (const auto& [i, entry] : moved) {
    if (i < pages_after) entries[to.v + i] = entry;
  }
  const bool continues = !moved.empty() && moved.rbegin()->second.has_object();
  for (u64 i = pages_before; i < pages_after; ++i) {
    if (continues) {
      const auto& [last, entry] = *moved.rbegin();
      map_object(space, to + i, 1, entry.object, entry.index + (i - last), entry.sharing);
    } else {
      map_zeros(space, to + i, 1);
    }
  }
}

void MemoryModel::discard(SpaceKey space, Vpn start, u64 pages) {
  Space& entries = at(space);
  for (auto it = entries.lower_bound(start.v); it != entries.end() && it->first < start.v + pages;
       ++it) {
    it->second.own = it->second.has_object() ? nullptr : zeros();
  }
}

MemoryModel::SpaceKey MemoryModel::fork(SpaceKey parent) {
  const SpaceKey child = add_space();
  at(child) = at(parent);
  return child;
}

MemoryModel::PagePtr& MemoryModel::object_page(ObjectKey key, u64 index) {
  PagePtr& page = at(key).pages[index];
  if (page == nullptr) page = zeros();
  return page;
}

MemoryModel::PagePtr& MemoryModel::visible(Space& space, u64 vpn) {
  // A page that nobody mapped was given by an area that grew by itself, as a stack does.
  const auto [it, fresh] = space.try_emplace(vpn);
  Entry& entry = it->second;
  if (fresh) entry.own = zeros();
  if (entry.own != nullptr) return entry.own;
  return object_page(entry.object, entry.index);
}

MemoryModel::Page& MemoryModel::writable(Space& space, u64 vpn) {
  PagePtr& page = visible(space, vpn);
  Entry& entry = space[vpn];
  if (entry.own == nullptr && entry.sharing == Sharing::private_copy) {
    entry.own = std::make_shared<Page>(*page);
    return *entry.own;
  }
  return own(page);
}

void MemoryModel::write(SpaceKey space, VirtAddr where, const u8* data, u64 bytes) {
  each_page(where.v, bytes, [&](u64 vpn, u64 offset, u64 count, u64 done) {
    Page& page = writable(at(space), vpn);
    std::memcpy(page.bytes.data() + offset, data + done, count);
    for (u64 i = 0; i < count; ++i) page.known.set(offset + i);
  });
}

void MemoryModel::forget(SpaceKey space, VirtAddr where, u64 bytes) {
  each_page(where.v, bytes, [&](u64 vpn, u64 offset, u64 count, u64) {
    Space& entries = at(space);
    if (!entries.contains(vpn)) return;
    Page& page = writable(entries, vpn);
    for (u64 i = 0; i < count; ++i) page.known.reset(offset + i);
  });
}

std::optional<MemoryModel::Mismatch> MemoryModel::compare(PagePtr& page, u64 offset, const u8* data,
                                                          u64 bytes) {
  for (u64 i = 0; i < bytes; ++i) {
    if (page->known.test(offset + i)) {
      if (page->bytes[offset + i] != data[i]) {
        return Mismatch{i, page->bytes[offset + i], data[i]};
      }
    } else {
      // Learnt for all who see the page: they see the same bytes.
      page->bytes[offset + i] = data[i];
      page->known.set(offset + i);
    }
  }
  return std::nullopt;
}

std::optional<MemoryModel::Mismatch> MemoryModel::check(SpaceKey space, VirtAddr where,
                                                        const u8* data, u64 bytes) {
  std::optional<Mismatch> wrong;
  each_page(where.v, bytes, [&](u64 vpn, u64 offset, u64 count, u64 done) {
    if (wrong) return;
    wrong = compare(visible(at(space), vpn), offset, data + done, count);
    if (wrong) wrong->offset += done;
  });
  return wrong;
}

void MemoryModel::write_object(ObjectKey object, u64 offset, const u8* data, u64 bytes) {
  at(object).size = std::max(at(object).size, offset + bytes);
  each_page(offset, bytes, [&](u64 index, u64 in_page, u64 count, u64 done) {
    Page& page = own(object_page(object, index));
    std::memcpy(page.bytes.data() + in_page, data + done, count);
    for (u64 i = 0; i < count; ++i) page.known.set(in_page + i);
  });
}

std::optional<MemoryModel::Mismatch> MemoryModel::check_object(ObjectKey object, u64 offset,
                                                               const u8* data, u64 bytes) {
  std::optional<Mismatch> wrong;
  each_page(offset, bytes, [&](u64 index, u64 in_page, u64 count, u64 done) {
    if (wrong) return;
    wrong = compare(object_page(object, index), in_page, data + done, count);
    if (wrong) wrong->offset += done;
  });
  return wrong;
}

void MemoryModel::resize_object(ObjectKey key, u64 size_bytes) {
  Object& object = at(key);
  const u64 old_size = object.size;
  object.size = size_bytes;
  if (size_bytes >= old_size) {
    // A write beyond the old end of the last page may have been undone by now; it must not be
    // relied on, and zeros neither.
    const u64 tail = old_size & kPageMask;
    if (tail != 0 && object.pages.contains(old_size >> kPageShift)) {
      Page& page = own(object_page(key, old_size >> kPageShift));
      for (u64 i = tail; i < kPageSize; ++i) page.known.reset(i);
    }
    return;
  }
  object.pages.erase(object.pages.lower_bound(pages_for(size_bytes).v), object.pages.end());
  const u64 tail = size_bytes & kPageMask;
  if (tail == 0) return;
  Page& page = own(object_page(key, size_bytes >> kPageShift));
  std::fill(page.bytes.begin() + static_cast<std::ptrdiff_t>(tail), page.bytes.end(), u8{0});
  for (u64 i = tail; i < kPageSize; ++i) page.known.set(i);
}

}  // namespace spillway
