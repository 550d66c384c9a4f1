// vmalloc on the host machine: areas are ordinary memory of this process, made of single frames of
// the arena that were moved to their place, and a guard page ends an access like any unmapped page.
// Method: real pointers into a range of the managed region. Who runs over an end is asked about as
// a system call finds out (EFAULT), so that the test survives it.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "base/prng.h"
#include "machine_host/host_machine_test.h"
#include "vmalloc/vmalloc.h"

namespace spillway {
namespace {

constexpr u64 kFrames = 1024;
constexpr AllocFlags kNoWait{};

class VmallocHost : public testing::Test {
 protected:
  VmallocHost() : machine(kFrames) {
    Machine& m = machine.host.machine();
    frames.init(static_cast<Page*>(m.boot.alloc(kFrames * sizeof(Page), 64)), PageCount(kFrames));
    allocator.init(m, frames, observer);
    while (allocator.grow(PageAllocator::kGrowBatch) > 0) {
    }
    slabs.init(allocator, frames, m.frames);
    const Vpn base = machine.host.region().start;
    EXPECT_TRUE(
        space.init(m, allocator, frames, slabs, observer, SpaceId(1), {base, base + 4096}).ok());
  }
  ~VmallocHost() override {
    (void)space.purge();
    (void)slabs.shrink_all();
    allocator.drain_pcp();
    EXPECT_EQ(allocator.free_pages().v, kFrames);
    EXPECT_EQ(allocator.blocks(kOrderMax), kFrames >> kOrderMax);
    EXPECT_TRUE(allocator.validate());
  }
  static u8* pointer(VirtAddr at) { return reinterpret_cast<u8*>(at.v); }
  static bool readable(u64 at) {
    u8 byte;
    return try_read(at, &byte, 1);
  }

  TestMachine machine;
  Counters counters{};
  EventRing events;
  Observer observer{&counters, &events};
  FrameTable frames;
  PageAllocator allocator;
  SlabChain slabs;
  VmallocSpace space;
};

TEST_F(VmallocHost, row_61_a_megabyte_of_memory_from_single_frames) {
  std::vector<Pfn> taken;
  while (allocator.free_pages().v > 0) {
    taken.push_back(allocator.alloc(0, kAllocReclaim).value());
  }
  for (Pfn pfn : taken) {
    if (pfn.v % 2 == 0) allocator.free(pfn, 0);
  }
  const u64 free_before = allocator.free_pages().v;
  const VirtAddr at = space.alloc(1U << 20, kNoWait).value();
  std::vector<u8> bytes(1U << 20);
  Prng prng(1);
  for (u8& byte : bytes) byte = static_cast<u8>(prng.next());
  std::memcpy(pointer(at), bytes.data(), bytes.size());
  EXPECT_EQ(std::memcmp(pointer(at), bytes.data(), bytes.size()), 0);
  EXPECT_TRUE(readable(at.v));
  EXPECT_TRUE(readable(at.v + (1U << 20) - 1));
  EXPECT_FALSE(readable(at.v + (1U << 20))) << "one byte past the end";
  EXPECT_FALSE(readable(at.v - 1)) << "one byte before the start";
  const u8 one = 1;
  EXPECT_FALSE(try_write(at.v + (1U << 20), &one, 1));
  EXPECT_TRUE(space.validate());
  EXPECT_TRUE(space.free(at).ok());
  EXPECT_FALSE(readable(at.v));
  (void)slabs.shrink_all();
  EXPECT_EQ(allocator.free_pages().v, free_before) << "256 frames, and the tables";
  for (Pfn pfn : taken) {
    if (pfn.v % 2 != 0) allocator.free(pfn, 0);
  }
}

TEST_F(VmallocHost, a_freed_area_keeps_its_frames_until_it_is_unmapped) {
  const VirtAddr at = space.alloc(3 * kPageSize, kNoWait).value();
  std::memset(pointer(at), 7, 3 * kPageSize);
  EXPECT_FALSE(readable(at.v + 3 * kPageSize));
  EXPECT_EQ(pointer(at)[3 * kPageSize - 1], 7);
  EXPECT_TRUE(space.free(at).ok());
  EXPECT_EQ(pointer(at)[0], 7) << "unmapped later, with its own frames until then";
  EXPECT_EQ(space.purge(), 3U);
  EXPECT_FALSE(readable(at.v));
}

TEST_F(VmallocHost, random_areas_keep_their_bytes_and_never_share_a_frame) {
  struct Area {
    VirtAddr at;
    u64 pages;
    u64 mark;
  };
  std::vector<Area> areas;
  Prng prng(61);
  const auto holds = [&](const Area& a) {
    for (u64 i = 0; i < a.pages; ++i) {
      u64 word;
      std::memcpy(&word, pointer(a.at + i * kPageSize + 8 * (i % 500)), 8);
      if (word != mix64(a.mark + i)) return false;
    }
    return true;
  };
  for (u32 step = 0; step < 3000; ++step) {
    if (areas.size() < 40 && !prng.one_in(3)) {
      const u64 pages = 1 + prng.below(20);
      const Result<VirtAddr> got = space.alloc(pages * kPageSize, kNoWait);
      if (!got.ok()) continue;
      areas.push_back({got.value(), pages, prng.next()});
      // A guard page that was touched may be the inside of a later area.
      if (prng.one_in(8)) {
        EXPECT_FALSE(readable(got.value().v + pages * kPageSize));
      }
      for (u64 i = 0; i < pages; ++i) {
        const u64 word = mix64(areas.back().mark + i);
        std::memcpy(pointer(got.value() + i * kPageSize + 8 * (i % 500)), &word, 8);
      }
    } else if (!areas.empty()) {
      const u64 i = prng.below(areas.size());
      ASSERT_TRUE(holds(areas[i])) << step;
      ASSERT_TRUE(space.free(areas[i].at).ok());
      areas[i] = areas.back();
      areas.pop_back();
    }
    if (step % 500 == 0) {
      ASSERT_TRUE(space.validate());
      ASSERT_TRUE(allocator.validate());
    }
  }
  EXPECT_GT(space.usage().purges, 5U);
  for (const Area& a : areas) {
    EXPECT_TRUE(holds(a));
    EXPECT_TRUE(space.free(a.at).ok());
  }
}

}  // namespace
}  // namespace spillway
