// What system calls do to pages that are there: present, resident but unmapped, in the pool, on
// disk or on their way. Contents are compared after each, and failures must change nothing.
#include <gtest/gtest.h>

#include <vector>

#include "space/space_bed_test.h"

namespace spillway {
namespace {

constexpr Vpn at(u64 page) { return Vpn(kSpaceRange.start.v + page); }
constexpr VpnRange pages(u64 first, u64 count) { return {at(first), at(first + count)}; }

class PagesTest : public ::testing::Test {
 protected:
  // Maps pages [first, first + count); page i holds contents i + 1, in turn present, unmapped,
  // swapped and untouched.
  void fill(u64 first, u64 count, Prot prot = Prot::read_write) {
    ASSERT_TRUE(bed_.map_at(at(first), count, prot).ok());
    for (u64 i = 0; i < count; ++i) {
      if (i % 4 == 3) continue;
      bed_.touch(at(first + i), first + i + 1);
      if (i % 4 == 1) bed_.unmap_page(at(first + i));
      if (i % 4 == 2) bed_.evict(at(first + i));
    }
  }
  // The contents that fill(first) made are at `where` now.
  void expect_filled(u64 first, u64 count, u64 where) {
    for (u64 i = 0; i < count; ++i) {
      if (i % 4 == 3) {
        ASSERT_TRUE(bed_.space->table().get(at(where + i)).none()) << i;
      } else {
        ASSERT_TRUE(bed_.holds(at(where + i), first + i + 1)) << i;
      }
    }
    ASSERT_TRUE(bed_.sound());
  }
  u64 user_frames() const {
    u64 n = 0;
    for (u32 i = 0; i < bed_.frames.count().v; ++i) {
      n += bed_.frames[Pfn(i)].owner == PageOwner::user ? 1 : 0;
    }
    return n;
  }
  Result<Vpn> remap(u64 first, u64 old_count, u64 new_count, bool may_move = true) {
    return bed_.space->remap(pages(first, old_count), PageCount(new_count), may_move, false,
                             Vpn(0));
  }
  Result<Vpn> remap_to(u64 first, u64 old_count, u64 new_count, u64 to) {
    return bed_.space->remap(pages(first, old_count), PageCount(new_count), true, true, at(to));
  }

  SpaceBed bed_{2048, 1024};
};

TEST_F(PagesTest, munmap_gives_frames_and_slots_back) {
  fill(1000, 40);
  EXPECT_EQ(user_frames(), 20U);
  EXPECT_EQ(bed_.swap.slots().used(), 10U);
  ASSERT_TRUE(bed_.space->unmap(pages(1010, 20)).ok());
  EXPECT_EQ(user_frames(), 10U);
  EXPECT_EQ(bed_.swap.slots().used(), 5U);
  for (u64 i = 0; i < 40; i += 4) {
    if (i < 10 || i >= 30) {
      EXPECT_TRUE(bed_.holds(at(1000 + i), 1000 + i + 1));
    }
  }
  ASSERT_TRUE(bed_.space->unmap(pages(900, 1000)).ok());
  EXPECT_EQ(user_frames(), 0U);
  EXPECT_EQ(bed_.swap.slots().used(), 0U);
  EXPECT_EQ(bed_.space->table().tables(), 1U);
  EXPECT_TRUE(bed_.sound());
}

TEST_F(PagesTest, a_space_ends_whatever_it_holds) {
  for (Prot prot : {Prot::read_write, Prot::read, Prot::all}) {
    const SpaceId id = bed_.spaces.create(kSpaceRange, PageCount(0)).value();
    AddressSpace* first = bed_.space;
    bed_.space = &bed_.spaces.at(id);
    fill(50, 30);
    ASSERT_TRUE(bed_.space->protect(pages(50, 30), prot).ok());
    bed_.spaces.destroy(id);
    bed_.space = first;
    EXPECT_EQ(user_frames(), 0U);
    EXPECT_EQ(bed_.swap.slots().used(), 0U);
  }
  EXPECT_TRUE(bed_.sound());
}

TEST_F(PagesTest, mprotect_keeps_contents_and_changes_rights) {
  fill(1000, 40);
  for (Prot prot : {Prot::read, Prot::all, Prot::none, Prot::read_write}) {
    ASSERT_TRUE(bed_.space->protect(pages(1005, 20), prot).ok());
    expect_filled(1000, 40, 1000);
    for (u64 i = 5; i < 25; ++i) {
      const Pte pte = bed_.space->table().get(at(1000 + i));
      if (!pte.is(Pte::Kind::present)) continue;
      EXPECT_NE(prot, Prot::none) << "nothing may be present there";
      EXPECT_EQ(pte.writable(), allows(prot, Prot::write));
      EXPECT_EQ(pte.executable(), allows(prot, Prot::exec));
    }
  }
}

TEST_F(PagesTest, mprotect_none_of_a_held_page_is_refused) {
  fill(1000, 8);
  ASSERT_TRUE(bed_.sim.mmu().pin(bed_.space->id(), at(1004)));
  EXPECT_EQ(bed_.space->protect(pages(1000, 8), Prot::none).error(), Error::no_memory);
  EXPECT_EQ(bed_.areas_text(), "1000+8:3 ");
  expect_filled(1000, 8, 1000);
  bed_.sim.mmu().unpin(bed_.space->id(), at(1004));
  EXPECT_TRUE(bed_.space->protect(pages(1000, 8), Prot::none).ok());
}

TEST_F(PagesTest, discarded_pages_are_gone_and_their_area_stays) {
  fill(1000, 40);
  ASSERT_TRUE(bed_.space->discard(pages(1004, 32)).ok());
  EXPECT_EQ(bed_.areas_text(), "1000+40:3 ");
  EXPECT_EQ(user_frames(), 4U);
  EXPECT_EQ(bed_.swap.slots().used(), 2U);
  for (u64 i = 4; i < 36; ++i) EXPECT_TRUE(bed_.space->table().get(at(1000 + i)).none());
  EXPECT_TRUE(bed_.sound());
}

TEST_F(PagesTest, resident_tells_what_is_in_memory) {
  fill(1000, 8);
  u8 vec[8];
  ASSERT_TRUE(bed_.space->resident(pages(1000, 8), vec).ok());
  const u8 want[8] = {1, 1, 0, 0, 1, 1, 0, 0};
  EXPECT_EQ(std::memcmp(vec, want, 8), 0);
}

TEST_F(PagesTest, cold_unmaps_and_page_out_evicts) {
  fill(1000, 40);
  ASSERT_TRUE(bed_.space->cold(pages(1000, 40)).ok());
  EXPECT_EQ(bed_.sim.mmu().mapped_pages(), 0U);
  EXPECT_EQ(user_frames(), 20U);
  ASSERT_TRUE(bed_.space->page_out(pages(1000, 40)).ok());
  EXPECT_EQ(user_frames(), 0U);
  expect_filled(1000, 40, 1000);
}

TEST_F(PagesTest, row_51_mremap_moves_pages_of_every_kind_without_copying) {
  fill(1000, 40);
  const u64 frames_before = user_frames();
  const Vpn to = remap(1000, 40, 80).value();  // the area's end is free: grows in place
  EXPECT_EQ(to, at(1000));
  expect_filled(1000, 40, 1000);
  ASSERT_TRUE(bed_.map_at(at(1080), 1, Prot::read).ok());
  const Vpn moved = remap(1000, 80, 120).value();
  EXPECT_NE(moved, at(1000));
  expect_filled(1000, 40, moved.v - kSpaceRange.start.v);
  EXPECT_EQ(user_frames(), frames_before);
  EXPECT_EQ(bed_.space->find(at(1000)), nullptr);
  EXPECT_EQ(bed_.space->total_vm().v, 121U);
}

TEST_F(PagesTest, mremap_shapes) {
  fill(1000, 40);
  EXPECT_EQ(remap(1000, 40, 20).value(), at(1000)) << "shrinks in place";
  EXPECT_EQ(bed_.areas_text(), "1000+20:3 ");
  EXPECT_EQ(remap(1005, 5, 10, false).error(), Error::no_memory) << "hemmed in, may not move";
  EXPECT_EQ(remap(1005, 20, 30).error(), Error::fault) << "beyond its area";
  EXPECT_EQ(remap(999, 2, 3).error(), Error::fault) << "no area";
  const u64 to = remap(1004, 8, 16).value().v - kSpaceRange.start.v;  // out of the middle
  EXPECT_EQ(bed_.areas_text(), "256+16:3 1000+4:3 1012+8:3 ");
  EXPECT_EQ(to, 256U);
  EXPECT_TRUE(bed_.holds(at(256), 1005));
  EXPECT_EQ(remap_to(1000, 4, 2, 2000).value(), at(2000)) << "to a place, and smaller";
  EXPECT_EQ(bed_.areas_text(), "256+16:3 1012+8:3 2000+2:3 ");
  EXPECT_TRUE(bed_.holds(at(2000), 1001));
  EXPECT_EQ(remap_to(1012, 8, 8, 1016).error(), Error::invalid) << "overlap";
  EXPECT_EQ(remap_to(1012, 8, 8, kSpaceRange.pages().v - 4).error(), Error::no_memory);
  EXPECT_TRUE(bed_.sound());
}

TEST_F(PagesTest, mremap_onto_something_replaces_it) {
  fill(1000, 40);
  fill(3000, 80, Prot::read);
  ASSERT_TRUE(remap_to(1000, 40, 40, 3020).ok());
  expect_filled(1000, 40, 3020);
  EXPECT_EQ(bed_.areas_text(), "3000+20:1 3020+40:3 3060+20:1 ");
  expect_filled(3000, 20, 3000);
}

// The target begins elsewhere within its table than the source does, so each table of the source
// needs two at the target.
TEST_F(PagesTest, mremap_across_the_ends_of_tables) {
  fill(500, 600);
  ASSERT_TRUE(remap_to(500, 600, 600, 5000 + 77).ok());
  expect_filled(500, 600, 5077);
  ASSERT_TRUE(remap_to(5077, 600, 600, 510).ok());
  expect_filled(500, 600, 510);
}

// Every allocation and every call of the machine that mremap makes fails once.
TEST_F(PagesTest, a_refused_mremap_changes_nothing) {
  fill(1000, 40, Prot::read);
  fill(3000, 8);
  const std::string before = bed_.areas_text();
  for (u64 left = 0; left < 8; ++left) {
    std::vector<Pfn> taken;
    while (bed_.allocator.free_pages().v > bed_.allocator.marks().min.v + left) {
      taken.push_back(bed_.take());
    }
    const Result<Vpn> r = remap_to(1000, 40, 60, 20'000);
    for (Pfn pfn : taken) bed_.allocator.free(pfn, 0);
    if (r.ok()) {
      ASSERT_GT(left, 0U) << "nothing failed";
      expect_filled(1000, 40, 20'000);
      ASSERT_TRUE(remap_to(20'000, 40, 40, 1000).ok());
      break;
    }
    ASSERT_EQ(bed_.areas_text(), before);
    expect_filled(1000, 40, 1000);
  }
  ASSERT_TRUE(bed_.space->unmap(pages(20'000, 100)).ok());
  const std::string now = bed_.areas_text();
  bed_.sim.failures().arm(Failure::protect, 1);
  EXPECT_EQ(remap_to(1000, 40, 40, 3000).error(), Error::no_memory);
  EXPECT_EQ(bed_.areas_text(), now);
  expect_filled(1000, 40, 1000);
  expect_filled(3000, 8, 3000);
}

TEST_F(PagesTest, a_refused_mprotect_or_mmap_changes_nothing) {
  fill(1000, 40);
  bed_.sim.failures().arm(Failure::protect, 1);
  EXPECT_EQ(bed_.space->protect(pages(1004, 4), Prot::read).error(), Error::no_memory);
  bed_.sim.failures().arm(Failure::protect, 1);
  EXPECT_EQ(bed_.map_at(at(1004), 4, Prot::read).error(), Error::no_memory);
  EXPECT_EQ(bed_.areas_text(), "1000+40:3 ");
  expect_filled(1000, 40, 1000);
}

TEST_F(PagesTest, pages_on_their_way_follow_mremap_and_vanish_with_munmap) {
  struct Sink final : SwapInSink {
    SpaceBed* bed = nullptr;
    std::vector<u64> arrived;  // where the reverse map pointed, 0 = nowhere
    void page_read(Pfn pfn, SlotId, Status) override {
      arrived.push_back(bed->frames[pfn].rmap == 0 ? 0 : bed->frames[pfn].rmap_vpn().v);
      bed->swap.delete_from_cache(pfn);
      bed->frames[pfn].clear_rmap();
      bed->frames[pfn].owner = PageOwner::none;
      bed->frames.transition(pfn, PageState::reading, PageState::isolated);
      bed->allocator.free(pfn, 0);
    }
  } sink;
  sink.bed = &bed_;
  bed_.swap.set_swap_in_sink(sink);
  ASSERT_TRUE(bed_.map_at(at(1000), 64).ok());
  for (u64 i = 0; i < 64; ++i) {
    bed_.touch(at(1000 + i), i + 1, Bytes::random);
    bed_.evict(at(1000 + i));
  }
  bed_.spill();
  for (u64 i = 0; i < 2; ++i) {
    const SlotId slot = bed_.space->table().get(at(1000 + i)).slot();
    ASSERT_TRUE(bed_.swap.on_disk(slot));
    const Pfn pfn = bed_.take();
    bed_.frames.transition(pfn, PageState::isolated, PageState::reading);
    bed_.frames[pfn].owner = PageOwner::user;
    bed_.frames[pfn].set_rmap(bed_.space->id(), at(1000 + i));
    const ReadTarget target{slot, pfn};
    ASSERT_TRUE(bed_.swap.read(&target, 1).ok());
  }
  const u64 slots = bed_.swap.slots().used();
  ASSERT_TRUE(remap_to(1000, 64, 64, 9000).ok());
  ASSERT_TRUE(bed_.space->unmap(pages(9001, 1)).ok());
  EXPECT_EQ(bed_.swap.slots().used(), slots) << "kept until the read ends";
  while (bed_.sim.complete_one()) {
  }
  ASSERT_EQ(sink.arrived.size(), 2U);
  EXPECT_EQ(sink.arrived[0] + sink.arrived[1], at(9000).v);
  EXPECT_EQ(bed_.swap.slots().used(), slots - 1);
  EXPECT_TRUE(bed_.sound());
}

TEST_F(PagesTest, reverse_map_unmaps_runs_and_steps_over_held_pages) {
  ASSERT_TRUE(bed_.map_at(at(1000), 16).ok());
  std::vector<Pfn> pfns;
  for (u64 i = 0; i < 16; ++i) {
    bed_.touch(at(1000 + i), i + 1);
    pfns.push_back(bed_.space->table().get(at(1000 + i)).pfn());
  }
  ASSERT_TRUE(bed_.sim.mmu().pin(bed_.space->id(), at(1005)));
  bool unmapped[16];
  bed_.spaces.unmap_pages(pfns.data(), 16, unmapped);
  for (u64 i = 0; i < 16; ++i) EXPECT_EQ(unmapped[i], i != 5) << i;
  EXPECT_EQ(bed_.count(Counter::pgrotated), 1U);
  EXPECT_TRUE(bed_.space->table().get(at(1005)).is(Pte::Kind::present));
  for (u64 i = 0; i < 16; ++i) EXPECT_TRUE(bed_.holds(at(1000 + i), i + 1));
}

}  // namespace
}  // namespace spillway
