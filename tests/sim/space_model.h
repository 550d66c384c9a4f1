// SpaceModel: what an address space must look like, in the simplest way that can be told: areas
// in a map, and the bytes of every page that was written. It knows nothing of frames or swap.
//
// Pages are numbered from the start of the space. Bytes that MADV_FREE gave up may still be the
// old ones or zero; the model keeps both until an access shows which.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "base/units.h"
#include "machine/pte.h"

namespace spillway::sim {

struct PageRange {
  u64 first = 0;
  u64 end = 0;
  bool empty() const { return end <= first; }
  u64 pages() const { return empty() ? 0 : end - first; }
  bool overlaps(PageRange o) const { return first < o.end && o.first < end; }
  PageRange clip(PageRange o) const {
    return {first > o.first ? first : o.first, end < o.end ? end : o.end};
  }
};

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
};

class SpaceModel {
 public:
  SpaceModel(u64 pages, u64 brk_pages) : pages_(pages), brk_pages_(brk_pages) {}

  u64 pages() const { return pages_; }
  u64 brk_pages() const { return brk_pages_; }
  u64 brk() const { return brk_; }  // bytes from the start
  void set_brk(u64 bytes) { brk_ = bytes; }

  // The area around a page; null if there is none.
  const ModelArea* find(u64 page) const;
  std::vector<ModelArea> areas_in(PageRange range) const;
  std::vector<ModelArea> areas() const { return areas_in({0, pages_}); }
  u64 area_count() const { return areas_.size(); }
  bool is_free(PageRange range) const { return areas_in(range).empty(); }
  // No hole in the range.
  bool covered(PageRange range) const;
  bool any_foreign(PageRange range) const;
  bool any_locked(PageRange range) const;
  u64 total_vm() const;
  u64 locked_vm() const;
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
  void erase_contents(PageRange range);
  // Cuts areas so that none reaches over the edges of the range.
  void split(u64 at);
  void merge_around(PageRange range);
  template <class Fn>
  void change(PageRange range, Fn fn);

  u64 pages_;
  u64 brk_pages_;
  u64 brk_ = 0;
  std::map<u64, ModelArea> areas_;  // by first page
  std::map<u64, Content> contents_;
};

}  // namespace spillway::sim
