// SpaceModel: what an address space must look like, in the simplest way that can be told: areas
// in a map, and the bytes of every page that was written. It knows nothing of frames or swap.
//
// Pages are numbered from the start of the space. Bytes that MADV_FREE gave up may still be the
// old ones or zero; the model keeps both until an access shows which.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "area_map.h"
#include "machine/pte.h"

namespace spillway::sim {

using harness::PageRange;
using harness::pages_of;

// What kind of area; neighbours of one kind are one area, except foreign ones.
struct AreaKind {
  Prot prot = Prot::none;
  bool locked = false;
  bool noreserve = false;
  bool foreign = false;
  bool operator==(const AreaKind&) const = default;
};

struct ModelArea {
  PageRange range;
  AreaKind kind;

  ModelArea from(u64 page) const { return {{page, range.end}, kind}; }
  bool joins(const ModelArea& after) const { return kind == after.kind && !kind.foreign; }
};

class SpaceModel : public harness::AreaMap<ModelArea> {
 public:
  SpaceModel(u64 pages, u64 brk_pages) : pages_(pages), brk_pages_(brk_pages) {}

  u64 pages() const { return pages_; }
  u64 brk_pages() const { return brk_pages_; }
  u64 brk() const { return brk_; }  // bytes from the start
  void set_brk(u64 bytes) { brk_ = bytes; }

  bool any_foreign(PageRange range) const {
    return any(range, [](const ModelArea& a) { return a.kind.foreign; });
  }
  bool any_locked(PageRange range) const {
    return any(range, [](const ModelArea& a) { return a.kind.locked; });
  }
  u64 locked_vm() const {
    return pages_where(harness::kAllPages, [](const ModelArea& a) { return a.kind.locked; });
  }
  // Whether a gap of `pages` pages exists outside what is kept for brk.
  bool has_gap(u64 pages) const;

  // Replaces whatever is in the range.
  void map(PageRange range, AreaKind kind);
  void unmap(PageRange range);
  void protect(PageRange range, Prot prot);
  void set_locked(PageRange range, bool locked);
  // MADV_DONTNEED: reads as zero from now on. MADV_FREE: may read as zero from now on.
  void discard(PageRange range);
  void free_lazily(PageRange range);
  // mremap: pages of `from` go to `to`, which takes the kind of `from`.
  void move(PageRange from, PageRange to);

  // A store within one page.
  void store(u64 page, u64 offset, const u8* data, u64 bytes);
  // Whether `data` is what a load within one page may see; settles what was open.
  bool load(u64 page, u64 offset, const u8* data, u64 bytes);
  // The bytes of a page that was written, null for zeros. For messages.
  const u8* bytes(u64 page) const;

  u64 written_pages() const { return contents_.size(); }
  // Written pages that do not consist of one repeated 32-bit value: those that need room when
  // swapped.
  u64 solid_pages() const;
  // A written page at or after `page`, or ~0.
  u64 next_written(u64 page) const;

 private:
  using Bytes = std::unique_ptr<u8[]>;
  struct Content {
    // What the page may hold, never empty; one of them once an access has shown which.
    std::vector<Bytes> candidates;
    bool lazy = false;  // may become zero at any time until the next store
  };

  u64 pages_;
  u64 brk_pages_;
  u64 brk_ = 0;
  std::map<u64, Content> contents_;
};

}  // namespace spillway::sim
