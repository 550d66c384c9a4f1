// MemoryModel: what every byte must be, by what a scenario has written. It knows address spaces,
// files and shared memory, but no frames, no swap and no page tables: whatever those do, a read
// must give what the model says. Bytes of which nothing is known are learnt when they are read.
//
// Pages are shared by reference between spaces after fork and copied when written. Not
// thread-safe. Cost: O(log pages) for each page that is touched.
#pragma once

#include <array>
#include <bitset>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"

namespace spillway {

class MemoryModel {
 public:
  struct SpaceKey {
    u32 v = 0;
    auto operator<=>(const SpaceKey&) const = default;
  };
  // A file or a shared memory segment.
  struct ObjectKey {
    u32 v = 0;
    auto operator<=>(const ObjectKey&) const = default;
  };
  enum class Sharing : u8 { private_copy, shared };
  struct Mismatch {
    u64 offset;  // of the first byte that differs
    u8 expected;
    u8 actual;
  };

  SpaceKey add_space();
  // An object of zeros, or of the bytes given.
  ObjectKey add_object(u64 size_bytes);
  ObjectKey add_object(const std::vector<u8>& contents);

  void map_zeros(SpaceKey space, Vpn start, u64 pages);
  // Pages of which nothing is known.
  void map_unknown(SpaceKey space, Vpn start, u64 pages);
  void map_object(SpaceKey space, Vpn start, u64 pages, ObjectKey object, u64 index,
                  Sharing sharing);
  void unmap(SpaceKey space, Vpn start, u64 pages);
  void unmap_all(SpaceKey space);
  // mremap: the pages go along; what is gained continues the last page's object, or is zeros.
  void move(SpaceKey space, Vpn from, u64 pages_before, Vpn to, u64 pages_after);
  // MADV_DONTNEED: private pages are what they were when mapped.
  void discard(SpaceKey space, Vpn start, u64 pages);
  SpaceKey fork(SpaceKey parent);

  void write(SpaceKey space, VirtAddr at, const u8* data, u64 bytes);
  // Nothing is known of the range any more, for instance because a store ended half way.
  void forget(SpaceKey space, VirtAddr at, u64 bytes);
  // Compares what was read, and learns what was unknown.
  std::optional<Mismatch> check(SpaceKey space, VirtAddr at, const u8* data, u64 bytes);

  void write_object(ObjectKey object, u64 offset, const u8* data, u64 bytes);
  std::optional<Mismatch> check_object(ObjectKey object, u64 offset, const u8* data, u64 bytes);
  void resize_object(ObjectKey object, u64 size_bytes);

 private:
  struct Page {
    std::array<u8, kPageSize> bytes{};
    std::bitset<kPageSize> known;
  };
  using PagePtr = std::shared_ptr<Page>;
  struct Object {
    u64 size = 0;
    std::map<u64, PagePtr> pages;  // absent: zeros
  };
  struct Entry {
    Entry() = default;
    explicit Entry(PagePtr page) : own(std::move(page)) {}
    Entry(ObjectKey o, u64 i, Sharing s) : object(o), index(i), sharing(s) {}
    PagePtr own;  // the page of this space; null: that of the object
    ObjectKey object;
    u64 index = 0;
    Sharing sharing = Sharing::private_copy;
    bool has_object() const { return object.v != 0; }
  };
  using Space = std::map<u64, Entry>;

  static PagePtr zeros();
  Object& at(ObjectKey key) { return objects_[key.v - 1]; }
  Space& at(SpaceKey key) { return spaces_[key.v]; }
  // The page to read from, and the page to write to, which nobody else shares by reference.
  PagePtr& visible(Space& space, u64 vpn);
  Page& writable(Space& space, u64 vpn);
  PagePtr& object_page(ObjectKey key, u64 index);
  static std::optional<Mismatch> compare(PagePtr& page, u64 offset, const u8* data, u64 bytes);
  static Page& own(PagePtr& page);

  std::vector<Object> objects_;
  std::map<u32, Space> spaces_;
  u32 next_space_ = 1;
};

}  // namespace spillway
