// Linux24Bed: the policy linux24 with everything below it real: processes (spaces A, B, C), a swap
// area on block device 0, files on block device 1, shared memory. 1024 frames with the marks
// 10/20/30 unless a test says otherwise, and 2^3 pages to a cluster.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fault/fault_handler.h"
#include "reclaim/linux24_policy.h"
#include "space/file_map.h"
#include "space/shmem.h"
#include "space/space_bed_test.h"
#include "vfs/file_store.h"
#include "vfs/test_file_test.h"

namespace spillway {

struct Linux24Bed : SwapBed, FaultSink {
  static SimConfig config_of(u64 frame_count, u64 swap_pages, u64 seed = 1) {
    SimConfig config = SwapBed::config_of(frame_count);
    config.block_pages = {swap_pages, 4096};
    config.seed = seed;
    return config;
  }
  explicit Linux24Bed(const SimConfig& config) : SwapBed(config) {
    allocator.set_reclaimer(policy);
    allocator.set_marks({PageCount(10), PageCount(20), PageCount(30)});
    slabs.init(allocator, frames, machine().frames);
    EXPECT_TRUE(areas.init(slabs, KmemCacheConfig::core("area", sizeof(Area))).ok());
    rmap.init(slabs, frames);
    cache.init(slabs, allocator, frames, observer, sim.clock());
    cache.set_reclaimer(policy);
    EXPECT_TRUE(swap.init(machine(), allocator, frames, observer, PageCount(0), 1 << 16).ok());
    EXPECT_TRUE(spaces.init(mm).ok());
    swap.set_reclaimer(policy);
    pageout.init(mm);
    policy.init(pageout, true, 3);
    fault.init(mm, spaces, {1, 1, 0, 3});
    swap.set_swap_in_sink(fault);
    EXPECT_TRUE(
        files.init(machine(), cache, allocator, frames, observer, machine().block_devices[1]).ok());
    EXPECT_TRUE(vfs.init(machine(), cache, allocator, frames, observer, {}).ok());
    EXPECT_TRUE(vfs.mount(files).ok());
    file_areas.init(vfs);
    file_maps.init(spaces);
    vfs.set_mapped_pages(file_maps);
    EXPECT_TRUE(shmem.init(mm).ok());
    finish([&] { return swap.areas().format(0, {}); });
    finish([&] { return swap.areas().swap_on(0, SwapAreas::kPriorityDefault, PageCount(0)); });
    for (AddressSpace** space : {&a, &b, &c}) {
      *space = &spaces.at(spaces.create(kSpaceRange, PageCount(0)).value());
    }
  }
  explicit Linux24Bed(u64 frame_count = 1024, u64 swap_pages = 4096)
      : Linux24Bed(config_of(frame_count, swap_pages)) {}

  FaultOutcome on_fault(SpaceId space, VirtAddr va, Access access, u32 attempt) override {
    return fault.handle(spaces.at(space), va, access, attempt);
  }
  // Calls until the answer is not wait; must end well.
  template <class Fn>
  void finish(Fn call) {
    for (u32 i = 0; i < 10000; ++i) {
      const auto result = call();
      if (result.ok()) return;
      ASSERT_EQ(result.error(), Error::wait);
      ASSERT_TRUE(sim.complete_one());
    }
    FAIL() << "a call that never ends";
  }
  void settle_io() {
    while (sim.complete_one()) {
    }
  }

  static Vpn at(u64 page) { return Vpn(kSpaceRange.start.v + page); }
  void map(AddressSpace& space, MapParams params, u64 first, u64 count) {
    params.range = {at(first), at(first + count)};
    params.fixed = true;
    ASSERT_TRUE(space.map(params).ok());
  }
  void map_anonymous(AddressSpace& space, u64 first, u64 count, bool locked = false) {
    map(space, {.range = {}, .prot = Prot::read_write, .locked = locked}, first, count);
  }
  Inode* make_file(const char* name, u64 pages) { return make_test_file(vfs, name, pages); }
  void map_file(AddressSpace& space, Inode* inode, u64 first, u64 count, bool shared = true) {
    map(space,
        {.range = {},
         .prot = Prot::read_write,
         .shared = shared,
         .mapping = &inode->mapping,
         .ops = &file_areas},
        first, count);
  }
  ShmObject* make_shm(u64 pages) {
    return shmem.create(pages * kPageSize, true, 42, false).value();
  }
  void map_shm(AddressSpace& space, ShmObject* object, u64 first, u64 count) {
    map(space,
        {.range = {},
         .prot = Prot::read_write,
         .shared = true,
         .mapping = &object->mapping,
         .ops = &shmem},
        first, count);
  }

  template <class Fn>
  FaultOutcome finish_access(Fn access) {
    for (u32 attempt = 0; attempt < 2000; ++attempt) {
      const FaultOutcome outcome = access(attempt).outcome;
      if (outcome != FaultOutcome::wait) return outcome;
      if (!sim.complete_one()) return outcome;
    }
    return FaultOutcome::wait;
  }
  FaultOutcome read(AddressSpace& space, u64 page, u8* out) {
    return finish_access([&](u32 attempt) {
      return sim.load(*this, space.id(), addr_of(at(page)), out, kPageSize, attempt);
    });
  }
  FaultOutcome touch(AddressSpace& space, u64 page) {
    u8 byte;
    return finish_access([&](u32 attempt) {
      return sim.load(*this, space.id(), addr_of(at(page)), &byte, 1, attempt);
    });
  }
  FaultOutcome write(AddressSpace& space, u64 page, u64 id) {
    u8 bytes[kPageSize];
    make_page(bytes, id, Bytes::text);
    return finish_access([&](u32 attempt) {
      return sim.store(*this, space.id(), addr_of(at(page)), bytes, kPageSize, attempt);
    });
  }
  void fill(AddressSpace& space, u64 first, u64 count) {
    for (u64 i = first; i < first + count; ++i)
      ASSERT_EQ(write(space, i, i + 1), FaultOutcome::done);
  }
  void expect_page(AddressSpace& space, u64 page, u64 id) {
    u8 bytes[kPageSize];
    ASSERT_EQ(read(space, page, bytes), FaultOutcome::done);
    ASSERT_TRUE(is_page(bytes, id, Bytes::text)) << page;
  }
  Pte entry(AddressSpace& space, u64 page) { return space.table().get(at(page)); }
  Page& page_of(AddressSpace& space, u64 page) { return frames[entry(space, page).pfn()]; }
  bool present(AddressSpace& space, u64 page) { return entry(space, page).is(Pte::Kind::present); }
  // Takes the accessed bit away, as if the page had been idle since the last visit.
  void clear_accessed(AddressSpace& space, u64 page) {
    Pte* pte = space.table().find(at(page));
    space.table().store(pte, pte->with_accessed(false));
    machine().mmu.refresh(space.id(), addr_of(at(page)), 1);
  }
  // Visits until the entry is gone; how many it took, 0 = more than 100.
  u32 visits_until_unmapped(AddressSpace& space, u64 page) {
    for (u32 visits = 1; visits <= 100; ++visits) {
      (void)policy.visit(space);
      if (!present(space, page)) return visits;
    }
    return 0;
  }
  u64 size_of(PageQueue queue) const { return policy.queue_size(queue); }
  u64 free_pages() const { return allocator.free_pages().v; }
  u64 available() const { return free_pages() + size_of(PageQueue::inactive_clean); }
  // Frames taken until so many are free.
  void drain_to(u64 free_wanted) {
    while (free_pages() > free_wanted) hoard.push_back(take());
  }
  void release_hoard() {
    for (const Pfn pfn : hoard) allocator.free(pfn, 0);
    hoard.clear();
  }
  std::string unsound() {
    if (!policy.validate()) return "queues";
    if (!swap.validate()) return "swap";
    if (!allocator.validate()) return "frames";
    if (!files.validate()) return "files";
    for (u32 i = 0; i < frames.count().v; ++i) {
      const Page& page = frames[Pfn(i)];
      const bool aged = page.state == PageState::mapped || page.state == PageState::unmapped;
      if (aged && (page.queue != PageQueue::none) != policy.must_be_queued(page)) {
        return "frame " + std::to_string(i) + " on the wrong queue";
      }
    }
    return sim.mmu().mirror_difference();
  }

  SlabChain slabs;
  KmemCache areas;
  Rmap rmap;
  PageCache cache;
  Commit commit;
  Swap swap;
  FileStore files;
  Vfs vfs;
  FileMaps file_maps;
  FileAreas file_areas;
  SpaceTable spaces;
  Shmem shmem;
  PageOut pageout;
  Linux24Policy policy;
  FaultHandler fault;
  MmContext mm{machine(), frames, allocator, swap, policy, observer, areas, rmap, cache, commit};
  AddressSpace* a = nullptr;
  AddressSpace* b = nullptr;
  AddressSpace* c = nullptr;
  std::vector<Pfn> hoard;
};

}  // namespace spillway
