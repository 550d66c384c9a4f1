#include "memory.h"

#include <algorithm>
#include <cstring>

namespace spillway::ksim {

bool PageBytes::matches(u32 offset, const u8* data, u64 count) const {
  const u64 end = offset + count;
  const u64 firm_end = std::min<u64>(end, std::max(offset, loose));
  const u64 firm = firm_end - offset;
  if (bytes == nullptr) return std::all_of(data, data + count, [](u8 b) { return b == 0; });
  if (std::memcmp(bytes->data() + offset, data, firm) != 0) return false;
  for (u64 i = firm; i < count; ++i) {
    if (data[i] != 0 && data[i] != (*bytes)[offset + i]) return false;
  }
  return true;
}

void PageBytes::write(u32 offset, const u8* data, u64 count) {
  if (bytes == nullptr) {
    bytes = std::make_shared<Bytes>();
    bytes->fill(0);
  } else if (bytes.use_count() > 1) {
    bytes = std::make_shared<Bytes>(*bytes);
  }
  std::memcpy(bytes->data() + offset, data, count);
}

void PageBytes::zero_from(u32 offset) {
  if (bytes == nullptr) return;
  if (bytes.use_count() > 1) bytes = std::make_shared<Bytes>(*bytes);
  std::fill(bytes->begin() + offset, bytes->end(), u8{0});
}

bool PageBytes::is_zero() const {
  return bytes == nullptr || std::all_of(bytes->begin(), bytes->end(), [](u8 b) { return b == 0; });
}

PageBytes Object::page(u64 index) const {
  PageBytes p;
  const auto it = pages.find(index);
  if (it != pages.end()) p.bytes = it->second;
  if (kind == ObjectKind::file && index == size_bytes >> kPageShift) {
    p.loose = static_cast<u32>(size_bytes & kPageMask);
  }
  return p;
}

void Object::store(u64 index, u32 offset, const u8* data, u64 count) {
  PageBytes p{std::move(pages[index]), kPageSize};
  p.write(offset, data, count);
  pages[index] = std::move(p.bytes);
}

void Object::set_size(u64 bytes) {
  const u64 firm = std::min(bytes, size_bytes);
  const auto last = pages.find(firm >> kPageShift);
  if (last != pages.end()) {
    PageBytes p{std::move(last->second), kPageSize};
    p.zero_from(static_cast<u32>(firm & kPageMask));
    last->second = std::move(p.bytes);
  }
  size_bytes = bytes;
  pages.erase(pages.lower_bound(size_pages()), pages.end());
}

void OwnPage::store(const PageBytes& followed, u32 offset, const u8* data, u64 count) {
  if (any_of.empty() || maybe_follows) any_of.push_back(followed);
  maybe_follows = false;
  if (count == kPageSize) any_of.resize(1);
  for (PageBytes& p : any_of) p.write(offset, data, count);
  if (count == kPageSize) any_of[0].loose = kPageSize;
}

bool OwnPage::load(const PageBytes& followed, u32 offset, const u8* data, u64 count,
                   bool* follows) {
  const bool as_object = maybe_follows && followed.matches(offset, data, count);
  std::erase_if(any_of, [&](const PageBytes& p) { return !p.matches(offset, data, count); });
  *follows = any_of.empty() && as_object;
  maybe_follows = as_object;
  return !any_of.empty() || as_object;
}

}  // namespace spillway::ksim
