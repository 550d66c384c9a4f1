// VmallocSpace: rows 61 and 62 of the acceptance table, laziness, and random use against a model.
// Method: real accesses through the simulated MMU, which panics at stale translations; on a machine
// with everything and on one that moves a page's bytes when it maps it, as the host does.
#include "vmalloc/vmalloc.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>

#include "base/prng.h"
#include "page/page_bed_test.h"

namespace spillway {
namespace {

constexpr AllocFlags kNoWait{};
constexpr SpaceId kKernel{7};
constexpr Vpn kBase{0x80000};
constexpr u64 kRangePages = 4096;

enum class Kind { all_features, like_the_host };

class Vmalloc : public testing::TestWithParam<Kind> {
 protected:
  explicit Vmalloc(u64 frames = 1024) : bed(config_of(frames)) {
    bed.grow_all();
    slabs.init(bed.allocator, bed.frames, bed.sim.machine().frames);
    EXPECT_TRUE(space
                    .init(bed.sim.machine(), bed.allocator, bed.frames, slabs, bed.observer,
                          kKernel, {kBase, kBase + kRangePages})
                    .ok());
  }
  static SimConfig config_of(u64 frames) {
    SimConfig config = PageBed::config_of(frames);
    if (GetParam() == Kind::like_the_host) config.features = Features{};
    return config;
  }
  bool store(VirtAddr at, u8 value) {
    return !bed.sim.mmu().store(0, kKernel, at, &value, 1).has_value();
  }
  // The byte there, or -1 if the access faults.
  int load(VirtAddr at) {
    u8 value = 0;
    return bed.sim.mmu().load(0, kKernel, at, &value, 1).has_value() ? -1 : value;
  }
  // Takes frames until `leave` can be had without reclaim.
  std::vector<Pfn> take_all_but(u64 leave) {
    std::vector<Pfn> taken;
    while (bed.allocator.free_pages().v > bed.allocator.marks().min.v + leave) {
      taken.push_back(bed.allocator.alloc(0, kNoWait).value());
    }
    return taken;
  }
  void give_back(const std::vector<Pfn>& taken) {
    for (Pfn pfn : taken) bed.allocator.free(pfn, 0);
  }
  void expect_sound() {
    EXPECT_TRUE(space.validate());
    EXPECT_TRUE(slabs.validate());
    EXPECT_TRUE(bed.sum_holds());
    EXPECT_TRUE(bed.allocator.validate());
    EXPECT_EQ(bed.sim.mmu().mirror_difference(), "");
  }
  // Everything that was ever taken is back, but for what object caches keep.
  void expect_empty() {
    (void)space.purge();
    (void)slabs.shrink_all();
    EXPECT_EQ(space.usage().pages + space.usage().lazy_pages + space.usage().tables, 0U);
    EXPECT_EQ(bed.allocator.free_pages().v, bed.frames.count().v);
    bed.allocator.drain_pcp();
    EXPECT_EQ(bed.allocator.blocks(kOrderMax), bed.frames.count().v >> kOrderMax);
    EXPECT_EQ(bed.sim.mmu().mapped_pages(), 0U);
    expect_sound();
  }

  PageBed bed;
  SlabChain slabs;
  VmallocSpace space;
};
INSTANTIATE_TEST_SUITE_P(All, Vmalloc, testing::Values(Kind::all_features, Kind::like_the_host),
                         [](const testing::TestParamInfo<Kind>& which) {
                           return which.param == Kind::all_features ? "all_features"
                                                                    : "like_the_host";
                         });

TEST_P(Vmalloc, row_61_a_megabyte_from_single_frames_with_guards_at_both_ends) {
  // Memory is free in single frames only.
  std::vector<Pfn> taken;
  while (bed.allocator.free_pages().v > 0) {
    taken.push_back(bed.allocator.alloc(0, kAllocReclaim).value());
  }
  std::vector<Pfn> odd;
  for (Pfn pfn : taken) {
    if (pfn.v % 2 == 0) {
      bed.allocator.free(pfn, 0);
    } else {
      odd.push_back(pfn);
    }
  }
  ASSERT_FALSE(bed.allocator.alloc(1, kNoWait).ok()) << "no two frames lie together";
  const u64 free_before = bed.allocator.free_pages().v;
  const VirtAddr at = space.alloc(1U << 20, kNoWait).value();
  EXPECT_EQ(space.usage().pages, 256U);
  for (u64 i = 0; i < (1U << 20); i += 512) ASSERT_TRUE(store(at + i, static_cast<u8>(i / 512)));
  for (u64 i = 0; i < (1U << 20); i += 512) ASSERT_EQ(load(at + i), static_cast<u8>(i / 512)) << i;
  // Accesses that span pages see one memory.
  u64 word = 0x1122'3344'5566'7788;
  ASSERT_FALSE(
      bed.sim.mmu().store(0, kKernel, VirtAddr(at.v + kPageSize - 3), &word, 8).has_value());
  EXPECT_EQ(load(at + kPageSize + 4), 0x11);
  const u64 end = at.v + (1U << 20);
  EXPECT_NE(load(VirtAddr(end - 1)), -1);
  EXPECT_EQ(load(VirtAddr(end)), -1) << "one byte past the end";
  EXPECT_FALSE(store(VirtAddr(end), 1));
  EXPECT_EQ(load(VirtAddr(at.v - 1)), -1) << "one byte before the start";
  expect_sound();
  for (u64 i = 0; i + 1 < 256; ++i) {
    ASSERT_NE(space.frame_at(at + i * kPageSize).v + 1, space.frame_at(at + (i + 1) * kPageSize).v);
  }
  EXPECT_TRUE(space.free(at).ok());
  EXPECT_EQ(load(at), -1) << "so large a batch does not wait";
  (void)slabs.shrink_all();
  EXPECT_EQ(bed.allocator.free_pages().v, free_before) << "256 frames, and the tables";
  give_back(odd);
  expect_empty();
}

TEST_P(Vmalloc, row_62_a_failure_half_way_leaves_no_frame_behind) {
  (void)space.alloc(1, kNoWait);  // the record's slab stays
  const VirtAddr kept = space.alloc(3 * kPageSize, kNoWait).value();
  ASSERT_TRUE(store(kept, 42));
  u64 failures = 0;
  for (u64 leave = 0;; ++leave) {
    const std::vector<Pfn> taken = take_all_but(leave);
    const u64 free_before = bed.allocator.free_pages().v;
    const VmallocUsage before = space.usage();
    // Reaches into a second leaf table, so that tables fail as well as pages.
    const Result<VirtAddr> got = space.alloc(600 * kPageSize, kNoWait);
    if (got.ok()) {
      EXPECT_TRUE(space.free(got.value()).ok());
      give_back(taken);
      break;
    }
    ++failures;
    ASSERT_EQ(got.error(), Error::no_memory);
    ASSERT_EQ(bed.allocator.free_pages().v, free_before) << leave;
    ASSERT_EQ(space.usage().pages, before.pages);
    ASSERT_EQ(space.usage().tables, before.tables);
    ASSERT_EQ(load(kept), 42);
    if (leave % 50 == 0) expect_sound();
    give_back(taken);
  }
  EXPECT_EQ(failures, 601U) << "each page and the second table";
  EXPECT_TRUE(space.free(kept).ok());
  EXPECT_TRUE(space.free(addr_of(kBase + 1)).ok());
  expect_empty();
}

TEST_P(Vmalloc, who_does_not_wait_causes_no_reclaim) {
  ASSERT_TRUE(space.free(space.alloc(1, kNoWait).value()).ok());
  (void)space.purge();
  ASSERT_EQ(space.usage().tables, 0U);
  const std::vector<Pfn> taken = take_all_but(0);
  EXPECT_EQ(space.alloc(1, kNoWait).error(), Error::no_memory) << "for want of a first table";
  EXPECT_EQ(bed.reclaimer.calls, 0U);
  give_back(taken);
  expect_empty();
}

TEST_P(Vmalloc, sizes_that_cannot_be_are_refused) {
  EXPECT_EQ(space.alloc(0).error(), Error::invalid);
  EXPECT_EQ(space.alloc(1024 * kPageSize + 1).error(), Error::no_memory) << "above RAM";
  EXPECT_EQ(space.alloc(~u64{0}).error(), Error::no_memory);
  VmallocSpace none;
  EXPECT_EQ(none.alloc(1).error(), Error::invalid);
  EXPECT_EQ(space.free(VirtAddr(0)).error(), Error::invalid) << "nothing was ever allocated";
  expect_empty();
}

TEST_P(Vmalloc, a_free_of_anything_else_is_reported_and_changes_nothing) {
  const VirtAddr at = space.alloc(3 * kPageSize, kNoWait).value();
  const VirtAddr next = space.alloc(kPageSize, kNoWait).value();
  ASSERT_TRUE(store(at, 1));
  for (const u64 bad : {at.v + 1, at.v + kPageSize, at.v - kPageSize, at.v + 3 * kPageSize, u64{0},
                        next.v + kPageSize, ~u64{0} & ~kPageMask}) {
    const u64 refused = space.usage().bad_frees;
    EXPECT_EQ(space.free(VirtAddr(bad)).error(), Error::invalid) << bad;
    EXPECT_EQ(space.usage().bad_frees, refused + 1);
    EXPECT_EQ(bed.events.at(bed.events.size() - 1).kind, EventKind::vmalloc_bad_free);
    EXPECT_EQ(bed.events.at(bed.events.size() - 1).a, bad);
  }
  EXPECT_EQ(space.usage().pages, 4U);
  EXPECT_EQ(load(at), 1);
  EXPECT_TRUE(space.free(at).ok());
  EXPECT_EQ(space.free(at).error(), Error::invalid) << "twice, still mapped";
  (void)space.purge();
  EXPECT_EQ(space.free(at).error(), Error::invalid) << "twice, gone";
  EXPECT_TRUE(space.free(next).ok());
  expect_empty();
}

TEST_P(Vmalloc, freed_areas_are_unmapped_in_one_batch) {
  const u64 all = bed.allocator.free_pages().v;
  std::vector<VirtAddr> at;
  for (u64 i = 0; i < VmallocSpace::kLazyPagesMax; ++i) {
    at.push_back(space.alloc(kPageSize, kNoWait).value());
    ASSERT_TRUE(store(at.back(), static_cast<u8>(i)));
  }
  const u64 less = bed.allocator.free_pages().v;
  for (u64 i = 0; i + 1 < at.size(); ++i) ASSERT_TRUE(space.free(at[i]).ok());
  EXPECT_EQ(space.usage().purges, 0U);
  EXPECT_EQ(space.usage().lazy_pages, VmallocSpace::kLazyPagesMax - 1);
  EXPECT_EQ(bed.allocator.free_pages().v, less) << "what is mapped is not free";
  EXPECT_EQ(load(at[0]), 0) << "a stale pointer still meets the area's own frame";
  const VirtAddr fresh = space.alloc(kPageSize, kNoWait).value();
  EXPECT_GT(fresh.v, at.back().v) << "their addresses are not reused yet";
  ASSERT_TRUE(space.free(fresh).ok());
  EXPECT_EQ(space.usage().purges, 1U);
  EXPECT_EQ(space.usage().lazy_pages, 0U);
  EXPECT_EQ(load(at[0]), -1);
  expect_sound();
  ASSERT_TRUE(space.free(at.back()).ok());
  EXPECT_EQ(space.scan_objects({0, true}), 0U);
  EXPECT_EQ(space.count_objects(), 1U);
  EXPECT_EQ(space.scan_objects({1, false}), 1U);
  (void)slabs.shrink_all();
  EXPECT_EQ(bed.allocator.free_pages().v, all);
  expect_empty();
}

TEST_P(Vmalloc, an_allocation_that_lacks_room_or_frames_purges_first) {
  const VirtAddr a = space.alloc(60 * kPageSize, kNoWait).value();
  ASSERT_TRUE(space.free(a).ok());
  ASSERT_EQ(space.usage().lazy_pages, 60U);
  // Frames: with the lazy ones there is just enough.
  const std::vector<Pfn> taken = take_all_but(10);
  EXPECT_TRUE(space.alloc(40 * kPageSize, kNoWait).ok());
  EXPECT_EQ(space.usage().purges, 1U);
  give_back(taken);
  // Room: a space of eight pages holds one area of six.
  SlabChain other;
  other.init(bed.allocator, bed.frames, bed.sim.machine().frames);
  VmallocSpace small;
  ASSERT_TRUE(small
                  .init(bed.sim.machine(), bed.allocator, bed.frames, other, bed.observer,
                        SpaceId(9), {Vpn(16), Vpn(24)})
                  .ok());
  const VirtAddr six = small.alloc(6 * kPageSize, kNoWait).value();
  EXPECT_EQ(six, addr_of(Vpn(17)));
  EXPECT_EQ(small.alloc(1, kNoWait).error(), Error::no_memory);
  ASSERT_TRUE(small.free(six).ok());
  EXPECT_EQ(small.alloc(5 * kPageSize, kNoWait).value(), six);
  ASSERT_TRUE(small.free(six).ok());
  (void)small.purge();
  (void)other.shrink_all();
  expect_sound();
}

// Reclaim that an allocation causes asks the space itself for its lazy pages, in the middle of it.
class AsksTheSpace final : public FakeReclaimer {
 public:
  AsksTheSpace(PageAllocator& allocator, VmallocSpace& space)
      : FakeReclaimer(allocator), space_(space) {}
  ReclaimOutcome reclaim(PageCount want) override {
    freed += space_.scan_objects({100, true});
    return FakeReclaimer::reclaim(want);
  }
  u64 freed = 0;

 private:
  VmallocSpace& space_;
};

TEST_P(Vmalloc, reclaim_inside_of_an_allocation_does_not_pull_the_tables_away) {
  AsksTheSpace reclaimer(bed.allocator, space);
  bed.allocator.set_reclaimer(reclaimer);
  for (const ReclaimOutcome outcome : {ReclaimOutcome::exhausted, ReclaimOutcome::wait}) {
    const VirtAddr a = space.alloc(20 * kPageSize, kNoWait).value();
    ASSERT_TRUE(space.free(a).ok());
    const std::vector<Pfn> taken = take_all_but(15);
    const u64 free_before = bed.allocator.free_pages().v;
    reclaimer.outcome = outcome;
    const Result<VirtAddr> got = space.alloc(40 * kPageSize);
    ASSERT_FALSE(got.ok());
    EXPECT_EQ(got.error(), outcome == ReclaimOutcome::wait ? Error::wait : Error::no_memory);
    if (outcome == ReclaimOutcome::wait) {
      EXPECT_EQ(bed.allocator.free_pages().v, free_before);
    }
    EXPECT_EQ(reclaimer.freed, 0U);
    expect_sound();
    give_back(taken);
  }
  expect_empty();
}

TEST_P(Vmalloc, random_use_against_a_model) {
  Prng prng(61);
  std::map<u64, std::pair<u64, u8>> model;  // address, pages and pattern
  const auto holds = [&](u64 at, u64 pages, u8 pattern) {
    for (u64 i = 0; i < pages; ++i) {
      if (load(VirtAddr(at + i * kPageSize + i)) != static_cast<u8>(pattern + i)) return false;
    }
    return load(VirtAddr(at - 1)) == -1 && load(VirtAddr(at + pages * kPageSize)) == -1;
  };
  for (u32 step = 0; step < 20'000; ++step) {
    switch (prng.below(8)) {
      case 0:
      case 1:
      case 2:
      case 3: {
        const u64 pages = 1 + prng.below(prng.one_in(8) ? 60 : 6);
        const Result<VirtAddr> got = space.alloc(pages * kPageSize - prng.below(4096), kNoWait);
        if (!got.ok()) break;
        const u8 pattern = static_cast<u8>(prng.next());
        for (u64 i = 0; i < pages; ++i) {
          ASSERT_TRUE(store(got.value() + i * kPageSize + i, static_cast<u8>(pattern + i)));
        }
        // Disjoint, with a page between.
        const auto above = model.lower_bound(got.value().v);
        if (above != model.end()) {
          ASSERT_GT(above->first, got.value().v + pages * kPageSize);
        }
        if (above != model.begin()) {
          const auto below = std::prev(above);
          ASSERT_LT(below->first + below->second.first * kPageSize, got.value().v);
        }
        model[got.value().v] = {pages, pattern};
        break;
      }
      case 4:
      case 5:
      case 6: {
        if (model.empty()) break;
        auto it = model.begin();
        std::advance(it, static_cast<std::ptrdiff_t>(prng.below(model.size())));
        ASSERT_TRUE(holds(it->first, it->second.first, it->second.second));
        ASSERT_TRUE(space.free(VirtAddr(it->first)).ok());
        model.erase(it);
        break;
      }
      default:
        if (prng.one_in(20)) (void)space.purge();
        ASSERT_FALSE(space.free(VirtAddr(prng.below(u64{1} << 36))).ok());
    }
    if (step % 1000 == 0) {
      expect_sound();
      for (const auto& [at, what] : model) ASSERT_TRUE(holds(at, what.first, what.second));
    }
  }
  EXPECT_GT(space.usage().purges, 10U);
  for (const auto& [at, what] : model) ASSERT_TRUE(space.free(VirtAddr(at)).ok());
  expect_empty();
}

TEST_P(Vmalloc, validate_sees_damage) {
  const VirtAddr at = space.alloc(2 * kPageSize, kNoWait).value();
  ASSERT_TRUE(space.validate());
  Page& page = bed.frames[space.frame_at(at)];
  page.owner = PageOwner::slab;
  EXPECT_FALSE(space.validate()) << "a page of somebody else";
  page.owner = PageOwner::vmalloc;
  const Pfn stray = bed.allocator.alloc_kernel(PageOwner::vmalloc, kNoWait).value();
  EXPECT_FALSE(space.validate()) << "a frame behind no page";
  bed.allocator.free_kernel(stray, PageOwner::vmalloc);
  EXPECT_TRUE(space.validate());
  VmallocView views[2];
  ASSERT_EQ(space.areas(views, 2), 1U);
  EXPECT_EQ(views[0].start, at);
  EXPECT_EQ(views[0].pages, 2U);
  EXPECT_FALSE(views[0].lazy);
  ASSERT_TRUE(space.free(at).ok());
  ASSERT_EQ(space.areas(views, 2), 1U);
  EXPECT_TRUE(views[0].lazy);
  expect_empty();
}

}  // namespace
}  // namespace spillway
