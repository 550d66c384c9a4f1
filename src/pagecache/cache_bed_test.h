// CacheBed: a page cache over a backing that keeps its transfers until the test ends them, and a
// policy that only checks that each page is announced and taken back exactly once.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <vector>

#include "page/page_bed_test.h"
#include "pagecache/page_cache.h"

namespace spillway {

class CountingReclaimer : public FakeReclaimer {
 public:
  using FakeReclaimer::FakeReclaimer;
  void page_added_unmapped(Pfn pfn) override { EXPECT_TRUE(known.insert(pfn).second); }
  void page_refaulted(Pfn pfn, u32 shadow) override {
    EXPECT_TRUE(known.count(pfn) != 0);
    refaults.push_back(shadow);
  }
  void page_removed(Pfn pfn) override { EXPECT_EQ(known.erase(pfn), 1U); }
  void page_touched(Pfn pfn) override {
    EXPECT_TRUE(known.count(pfn) != 0);
    ++touched;
  }
  void page_written(Pfn pfn, Status status) override {
    EXPECT_TRUE(known.count(pfn) != 0);
    ++(status.ok() ? written : write_failures);
  }
  std::set<Pfn> known;
  std::vector<u32> refaults;
  u64 touched = 0;
  u64 written = 0;
  u64 write_failures = 0;
};

struct CacheBed : PageBed {
  explicit CacheBed(const SimConfig& config) : PageBed(config) {
    allocator.set_reclaimer(policy);
    slabs.init(allocator, frames, sim.machine().frames);
    cache.init(slabs, allocator, frames, observer, sim.clock());
    cache.set_reclaimer(policy);
    grow_all();
  }
  // Every frame is free, but for one empty slab that an object cache keeps.
  ::testing::AssertionResult nothing_leaks() {
    const u64 kept = cache.nodes().slabs();
    if (cache.nodes().objects_active() != 0) {
      return ::testing::AssertionFailure() << cache.nodes().objects_active() << " tree nodes";
    }
    if (!policy.known.empty()) {
      return ::testing::AssertionFailure() << policy.known.size() << " pages of the policy";
    }
    if (cache.pages() + cache.dirty() + cache.writeback() + cache.shmem_pages() != 0) {
      return ::testing::AssertionFailure() << "totals of the cache";
    }
    if (allocator.free_pages().v + kept != allocator.online().v) {
      return ::testing::AssertionFailure()
             << allocator.free_pages().v << " free of " << allocator.online().v;
    }
    return ::testing::AssertionSuccess();
  }

  CountingReclaimer policy{allocator};
  SlabChain slabs;
  PageCache cache;
};

}  // namespace spillway
