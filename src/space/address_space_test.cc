// Areas: the tree against a model of single pages, places chosen for mmap, the edges of brk, and
// that a refused call leaves everything as it was.
#include "space/address_space.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "space/space_bed_test.h"

namespace spillway {
namespace {

constexpr Vpn at(u64 page) { return Vpn(kSpaceRange.start.v + page); }
constexpr VpnRange pages(u64 first, u64 count) { return {at(first), at(first + count)}; }

TEST(AddressSpace, mmap_takes_the_lowest_gap_that_fits) {
  SpaceBed bed;
  EXPECT_EQ(bed.map(10), at(256)) << "behind what is kept for brk";
  EXPECT_EQ(bed.map(10, Prot::read), at(266));
  EXPECT_EQ(bed.map(10), at(276));
  ASSERT_TRUE(bed.space->unmap(pages(266, 4)).ok());
  EXPECT_EQ(bed.map(5), at(286));
  EXPECT_EQ(bed.map(4), at(266));
}

TEST(AddressSpace, a_hint_is_taken_when_its_place_is_free) {
  SpaceBed bed;
  MapParams params;
  params.prot = Prot::read_write;
  params.range = pages(1000, 10);
  EXPECT_EQ(bed.space->map(params).value(), at(1000));
  EXPECT_EQ(bed.space->map(params).value(), at(256));
  params.range = pages(995, 10);
  EXPECT_EQ(bed.space->map(params).value(), at(266)) << "its end is taken";
  params.range = pages(100, 10);
  EXPECT_EQ(bed.space->map(params).value(), at(276)) << "kept for brk";
}

TEST(AddressSpace, row_51_areas_split_and_merge) {
  SpaceBed bed;
  ASSERT_EQ(bed.map(100), at(256));
  ASSERT_TRUE(bed.space->protect(pages(296, 10), Prot::read).ok());
  EXPECT_EQ(bed.areas_text(), "256+40:3 296+10:1 306+50:3 ");
  ASSERT_TRUE(bed.space->unmap(pages(270, 10)).ok());
  EXPECT_EQ(bed.areas_text(), "256+14:3 280+16:3 296+10:1 306+50:3 ");
  ASSERT_TRUE(bed.map_at(at(270), 10).ok());
  EXPECT_EQ(bed.areas_text(), "256+40:3 296+10:1 306+50:3 ") << "merged on both sides";
  ASSERT_TRUE(bed.space->protect(pages(256, 100), Prot::read_write).ok());
  EXPECT_EQ(bed.areas_text(), "256+100:3 ");
  EXPECT_TRUE(bed.sound());
}

TEST(AddressSpace, kinds_that_differ_stay_apart) {
  SpaceBed bed;
  MapParams params;
  params.prot = Prot::read_write;
  params.range = pages(0, 5);
  (void)bed.space->map(params).value();
  params.noreserve = true;
  (void)bed.space->map(params).value();
  params.noreserve = false;
  params.foreign = true;
  (void)bed.space->map(params).value();
  (void)bed.space->map(params).value();
  EXPECT_EQ(bed.space->area_count(), 4U) << "foreign areas are never merged";
}

struct Model {
  struct PageInfo {
    bool mapped = false;
    Prot prot = Prot::none;
    bool locked = false;
    bool noreserve = false;
    bool operator==(const PageInfo&) const = default;
  };
  std::vector<PageInfo> page = std::vector<PageInfo>(kPages);
  static constexpr u64 kPages = 400;  // brk's 256 and some more

  std::string text() const {
    std::string out;
    for (u64 i = 0; i < kPages;) {
      u64 n = 1;
      if (page[i].mapped) {
        while (i + n < kPages && page[i + n] == page[i]) ++n;
        out += std::to_string(i) + "+" + std::to_string(n) + ":" +
               std::to_string(static_cast<u32>(page[i].prot)) + (page[i].locked ? "L" : "") +
               (page[i].noreserve ? "N" : "") + " ";
      }
      i += n;
    }
    return out;
  }
  bool any(u64 first, u64 count) const {
    for (u64 i = first; i < first + count; ++i) {
      if (page[i].mapped) return true;
    }
    return false;
  }
  bool all(u64 first, u64 count) const {
    for (u64 i = first; i < first + count; ++i) {
      if (!page[i].mapped) return false;
    }
    return true;
  }
};

// 2,000 random calls for each seed, each compared with the model; the last seeds fail calls of
// the machine and allocations now and then, after which nothing may have changed.
TEST(AddressSpace, random_calls_agree_with_a_model_of_single_pages) {
  for (u64 seed = 1; seed <= 12; ++seed) {
    const bool failing = seed > 6;
    SpaceBed bed(PageBed::config_of(1024));
    Model model;
    Prng prng(seed);
    std::vector<Pfn> hoard;
    u32 refused = 0;
    for (u32 step = 0; step < 2000; ++step) {
      const u64 first = prng.below(Model::kPages - 1);
      const u64 count = prng.between(1, std::min<u64>(40, Model::kPages - first));
      constexpr Prot kProts[] = {Prot::read_write, Prot::read, Prot::none, Prot::all};
      const Prot prot = kProts[prng.below(4)];
      if (failing && prng.one_in(3)) {
        bed.sim.failures().arm(Failure::protect, prng.between(1, 2));
        while (bed.allocator.alloc(0, AllocFlags{}).ok()) {
        }
      }
      const std::string before = bed.areas_text();
      Status status = kOk;
      Model next = model;
      switch (prng.below(6)) {
        case 0:
        case 1: {
          MapParams params;
          params.range = pages(first, count);
          params.prot = prot;
          params.fixed = true;
          params.noreplace = prng.one_in(3);
          params.noreserve = prng.one_in(4);
          const Result<Vpn> r = bed.space->map(params);
          if (!r.ok()) status = r.error();
          if (params.noreplace && model.any(first, count)) {
            ASSERT_EQ(status.error(), Error::exists);
          }
          for (u64 i = first; i < first + count; ++i) {
            next.page[i] = {true, prot, false, params.noreserve};
          }
          break;
        }
        case 2:
          status = bed.space->unmap(pages(first, count));
          for (u64 i = first; i < first + count; ++i) next.page[i] = {};
          break;
        case 3:
          status = bed.space->protect(pages(first, count), prot);
          if (!model.all(first, count)) {
            ASSERT_EQ(status.error(), Error::no_memory);
          }
          for (u64 i = first; i < first + count; ++i) next.page[i].prot = prot;
          break;
        default: {
          const bool locked = prng.one_in(2);
          status = bed.space->set_locked(pages(first, count), locked, PageCount(200));
          for (u64 i = first; i < first + count; ++i) next.page[i].locked = locked;
        }
      }
      if (status.ok()) {
        model = next;
        ASSERT_EQ(bed.areas_text(), model.text()) << "seed " << seed << " step " << step;
      } else {
        ++refused;
        ASSERT_EQ(bed.areas_text(), before) << name_of(status.error()) << " step " << step;
      }
      ASSERT_TRUE(bed.space->validate()) << "seed " << seed << " step " << step;
      bed.sim.failures().disarm_all();
    }
    EXPECT_GT(refused, 100U);
  }
}

TEST(AddressSpace, random_gaps_are_found_like_by_hand) {
  SpaceBed bed;
  Prng prng(44);
  std::vector<bool> taken(1200);
  for (u64 i = 0; i < 256; ++i) taken[i] = true;
  for (u32 step = 0; step < 3000; ++step) {
    const u64 count = prng.between(1, 30);
    if (prng.one_in(2)) {
      const u64 first = prng.between(256, 1100);
      ASSERT_TRUE(bed.space->unmap(pages(first, count)).ok());
      for (u64 i = first; i < first + count; ++i) taken[i] = false;
      continue;
    }
    u64 want = 256;
    for (u64 i = 256, run = 0; i < taken.size(); ++i) {
      run = taken[i] ? 0 : run + 1;
      if (run == count) {
        want = i + 1 - count;
        break;
      }
    }
    // Different protections, so that areas do not all merge.
    const Vpn got = bed.map(count, step % 2 == 0 ? Prot::read_write : Prot::none);
    ASSERT_EQ(got, at(want)) << step;
    for (u64 i = want; i < want + count; ++i) taken[i] = true;
    if (bed.space->total_vm().v > 700) {
      ASSERT_TRUE(bed.space->unmap(pages(256, 900)).ok());
      std::fill(taken.begin() + 256, taken.end(), false);
    }
  }
}

TEST(AddressSpace, errors_of_each_call) {
  SpaceBed bed;
  const u64 all = kSpaceRange.pages().v;
  MapParams params;
  params.prot = Prot::read_write;
  EXPECT_EQ(bed.space->map(params).error(), Error::invalid) << "no pages";
  params.range = {Vpn(0), Vpn(all + 1)};
  EXPECT_EQ(bed.space->map(params).error(), Error::no_memory) << "larger than the space";
  params.range = {Vpn(0), Vpn(all - 255)};
  EXPECT_EQ(bed.space->map(params).error(), Error::no_memory) << "larger than any gap";
  params.fixed = true;
  params.range = {kSpaceRange.end - 1, kSpaceRange.end + 1};
  EXPECT_EQ(bed.space->map(params).error(), Error::no_memory) << "outside";
  bed.commit.set(CommitMode::heuristic, PageCount(50));
  params.fixed = false;
  params.range = {Vpn(0), Vpn(51)};
  EXPECT_EQ(bed.space->map(params).error(), Error::no_memory) << "obvious overcommit";
  params.noreserve = true;
  EXPECT_TRUE(bed.space->map(params).ok());
  params.noreserve = false;
  params.prot = Prot::none;
  EXPECT_TRUE(bed.space->map(params).ok()) << "address space only";
  EXPECT_EQ(bed.space->unmap({at(5), at(5)}).error(), Error::invalid);
  EXPECT_TRUE(bed.space->unmap(pages(5000, 10)).ok()) << "nothing there is no error";
  ASSERT_TRUE(bed.map_at(at(3000), 10).ok());
  EXPECT_EQ(bed.space->protect(pages(2999, 5), Prot::read).error(), Error::no_memory);
  EXPECT_EQ(bed.space->protect(pages(3005, 10), Prot::read).error(), Error::no_memory);
  EXPECT_EQ(bed.space->set_locked(pages(3005, 10), true, PageCount(100)).error(), Error::no_memory);
  EXPECT_EQ(bed.space->set_locked(pages(3000, 10), true, PageCount(9)).error(), Error::no_memory);
  ASSERT_TRUE(bed.space->set_locked(pages(3000, 10), true, PageCount(10)).ok());
  EXPECT_EQ(bed.space->discard(pages(3000, 1)).error(), Error::invalid) << "locked";
  EXPECT_EQ(bed.space->cold(pages(2990, 20)).error(), Error::no_memory);
  EXPECT_EQ(bed.space->page_out(pages(2990, 20)).error(), Error::no_memory);
  EXPECT_EQ(bed.space->discard(pages(2990, 20)).error(), Error::no_memory);
  u8 vec[20];
  EXPECT_EQ(bed.space->resident(pages(2990, 20), vec).error(), Error::no_memory);
  params.foreign = true;
  params.fixed = true;
  params.range = pages(4000, 4);
  ASSERT_TRUE(bed.space->map(params).ok());
  EXPECT_EQ(bed.space->protect(pages(4000, 4), Prot::read).error(), Error::not_supported);
  EXPECT_TRUE(bed.space->touches_foreign(pages(3999, 2)));
  EXPECT_FALSE(bed.space->touches_foreign(pages(3990, 10)));
}

TEST(AddressSpace, row_17_and_18_brk_moves_by_bytes_and_stops_at_its_limits) {
  SpaceBed bed;
  AddressSpace& s = *bed.space;
  const VirtAddr base = addr_of(at(0));
  EXPECT_EQ(s.brk(VirtAddr(0)).value(), base);
  EXPECT_EQ(s.brk(base + 1).value(), base + 1);
  EXPECT_EQ(s.total_vm().v, 1U);
  EXPECT_EQ(s.brk(base + kPageSize).value(), base + kPageSize);
  EXPECT_EQ(s.total_vm().v, 1U);
  EXPECT_EQ(s.brk(base + 100 * kPageSize).value(), base + 100 * kPageSize);
  EXPECT_EQ(s.area_count(), 1U) << "one area however often it grew";
  EXPECT_EQ(s.brk(VirtAddr(base.v - 1)).value(), base + 100 * kPageSize);
  EXPECT_EQ(s.brk(base + 257 * kPageSize).value(), base + 100 * kPageSize);
  EXPECT_EQ(s.brk(base + 256 * kPageSize).value(), base + 256 * kPageSize);
  EXPECT_EQ(s.brk(base).value(), base);
  EXPECT_EQ(s.total_vm().v, 0U);
  // Into another area.
  ASSERT_TRUE(bed.map_at(at(10), 1).ok());
  EXPECT_EQ(s.brk(base + 10 * kPageSize).value(), base + 10 * kPageSize);
  EXPECT_EQ(s.brk(base + 10 * kPageSize + 1).value(), base + 10 * kPageSize);
  // No room for its records or its commit.
  bed.commit.set(CommitMode::heuristic, PageCount(5));
  (void)s.brk(base);
  EXPECT_EQ(s.brk(base + 6 * kPageSize).value(), base);
  EXPECT_TRUE(s.validate());
}

TEST(AddressSpace, validate_sees_damage) {
  SpaceBed bed;
  (void)bed.map(10);
  (void)bed.map(10, Prot::read);
  ASSERT_TRUE(bed.space->validate());
  Area* a = bed.space->find(at(266));
  ASSERT_NE(a, nullptr);
  a->end = a->end + 1;
  EXPECT_FALSE(bed.space->validate()) << "a length that total_vm does not know";
  a->end = a->end - 1;
  a->start = a->start - 1;
  EXPECT_FALSE(bed.space->validate()) << "overlap";
  a->start = a->start + 1;
  a->locked = true;
  EXPECT_FALSE(bed.space->validate()) << "locked_vm";
  a->locked = false;
  a->gap += 1;
  EXPECT_FALSE(bed.space->validate()) << "a gap that is not there";
  a->gap -= 1;
  EXPECT_TRUE(bed.space->validate());
}

TEST(SpaceTable, spaces_come_and_go_and_leave_nothing) {
  SpaceBed bed;
  const u64 free_before = bed.allocator.free_pages().v;
  std::vector<SpaceId> ids;
  for (;;) {
    const Result<SpaceId> id = bed.spaces.create(kSpaceRange, PageCount(0));
    if (!id.ok()) break;
    ids.push_back(id.value());
  }
  EXPECT_EQ(ids.size(), SpaceTable::kSpacesMax - 2U);
  for (SpaceId id : ids) bed.spaces.destroy(id);
  EXPECT_EQ(bed.allocator.free_pages().v, free_before);
  EXPECT_EQ(bed.spaces.find(ids[0]), nullptr);
  EXPECT_EQ(bed.spaces.find(SpaceId(0)), nullptr);
  EXPECT_EQ(bed.spaces.create({Vpn(5), Vpn(5)}, PageCount(0)).error(), Error::invalid);
  EXPECT_EQ(bed.spaces.create({Vpn(5), kVpnEnd + 1}, PageCount(0)).error(), Error::invalid);
  EXPECT_EQ(bed.spaces.create({Vpn(5), Vpn(6)}, PageCount(2)).error(), Error::invalid);
}

}  // namespace
}  // namespace spillway
