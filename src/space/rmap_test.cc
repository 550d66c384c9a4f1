// The reverse map against a plain set of places: every number of places around the node size, in
// random order of additions, moves and removals; all nodes come back.
#include "space/rmap.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/prng.h"
#include "page/page_bed_test.h"

namespace spillway {
namespace {

using Places = std::set<std::pair<u16, u64>>;

Places places_of(const Rmap& rmap, Pfn pfn) {
  Places out;
  rmap.for_each(pfn, [&](RmapPlace p) {
    EXPECT_TRUE(out.emplace(p.space.v, p.vpn.v).second);
    return true;
  });
  return out;
}

TEST(Rmap, random_additions_moves_and_removals_equal_a_set) {
  PageBed bed(256);
  bed.grow_all();
  SlabChain slabs;
  slabs.init(bed.allocator, bed.frames, bed.sim.machine().frames);
  Rmap rmap;
  rmap.init(slabs, bed.frames);
  const Pfn pfn = bed.allocator.alloc(0, kAllocReclaim).value();
  Prng prng(7);
  Places model;
  for (u32 step = 0; step < 20'000; ++step) {
    const u32 target = static_cast<u32>(prng.below(40));
    const RmapPlace place{SpaceId(static_cast<u16>(1 + prng.below(3))), Vpn(prng.below(64))};
    const std::pair<u16, u64> key{place.space.v, place.vpn.v};
    if (model.size() < target && !model.contains(key)) {
      if (rmap.needs_node(pfn)) {
        ASSERT_TRUE(rmap.reserve(1).ok());
      }
      rmap.add(pfn, place);
      model.insert(key);
    } else if (!model.empty()) {
      auto it = model.begin();
      std::advance(it, static_cast<long>(prng.below(model.size())));
      const RmapPlace old{SpaceId(it->first), Vpn(it->second)};
      model.erase(it);
      if (prng.below(3) == 0 && !model.contains(key)) {
        rmap.move(pfn, old, place);
        model.insert(key);
      } else {
        rmap.remove(pfn, old);
      }
    }
    ASSERT_EQ(bed.frames[pfn].mapcount, model.size());
    ASSERT_EQ(places_of(rmap, pfn), model);
  }
  while (!model.empty()) {
    rmap.remove(pfn, {SpaceId(model.begin()->first), Vpn(model.begin()->second)});
    model.erase(model.begin());
  }
  EXPECT_EQ(bed.frames[pfn].rmap, 0U);
  rmap.trim();
  EXPECT_LE(rmap.nodes().objects_active(), 4U);
}

}  // namespace
}  // namespace spillway
