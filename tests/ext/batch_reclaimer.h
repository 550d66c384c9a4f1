// BatchReclaimer: a policy for tests that run short of frames.
#pragma once

#include <set>

#include "pagecache/cache_bed_test.h"

namespace spillway {

// Drops clean pages and writes dirty ones in the order of their frames, in turns, a batch at a
// time.
class BatchReclaimer final : public CountingReclaimer {
 public:
  static constexpr u64 kBatch = 16;
  BatchReclaimer(PageAllocator& allocator, FrameTable& frames)
      : CountingReclaimer(allocator), allocator_(allocator), frames_(frames) {}
  ReclaimOutcome reclaim(PageCount want) override {
    allocator_.enter_reclaim();
    u64 freed = 0;
    u64 writing = 0;
    for (u64 looked = 2 * known.size(); looked != 0 && freed < want.v + kBatch; --looked) {
      auto at = known.upper_bound(cursor_);
      if (at == known.end()) at = known.begin();
      cursor_ = *at;
      if (young_.erase(cursor_) != 0) continue;
      Page& page = frames_[cursor_];
      if (page.has(PageFlag::writeback)) {
        ++writing;
      } else if (page.has(PageFlag::dirty)) {
        writing += writing < kBatch && cache->write_page(cursor_) == WriteOutcome::started ? 1 : 0;
      } else if (page.pins == 0 && page.state == PageState::unmapped) {
        Mapping& mapping = *mapping_of(page);
        if (!mapping.backing->release_page(mapping, cursor_)) continue;
        cache->free_page(cursor_);
        ++freed;
      }
    }
    allocator_.leave_reclaim();
    if (freed != 0) return ReclaimOutcome::progress;
    return writing != 0 ? ReclaimOutcome::wait : ReclaimOutcome::exhausted;
  }
  void page_added_unmapped(Pfn pfn) override {
    CountingReclaimer::page_added_unmapped(pfn);
    young_.insert(pfn);
  }
  void page_removed(Pfn pfn) override {
    CountingReclaimer::page_removed(pfn);
    young_.erase(pfn);
  }
  PageCache* cache = nullptr;

 private:
  PageAllocator& allocator_;
  FrameTable& frames_;
  Pfn cursor_{0};
  std::set<Pfn> young_;  // came since they were last looked at: spared once
};

}  // namespace spillway
