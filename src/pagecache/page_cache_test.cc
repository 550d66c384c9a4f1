// The page cache over a backing whose transfers end when the test says so: states, flags, counts,
// what a failed transfer leaves behind, and random operations with every invariant checked.
#include "pagecache/page_cache.h"

#include "base/prng.h"
#include "machine_sim/panic_text_test.h"
#include "pagecache/cache_bed_test.h"

namespace spillway {
namespace {

struct HeldBacking final : Backing {
  explicit HeldBacking(const PageAllocator& a) : allocator(a) {}
  struct Read {
    u32 index;
    std::vector<Pfn> pfns;
  };
  Status read_pages(Mapping&, u32 index, const Pfn* frames, u32 count) override {
    EXPECT_FALSE(allocator.may_enter_fs()) << "reclaim would enter it again";
    if (!refuse_read.ok()) return refuse_read;
    reads.push_back({index, std::vector<Pfn>(frames, frames + count)});
    return kOk;
  }
  WriteOutcome write_page(Mapping&, Pfn pfn) override {
    EXPECT_FALSE(allocator.may_enter_fs());
    if (write_outcome == WriteOutcome::started) writes.push_back(pfn);
    return write_outcome;
  }
  const PageAllocator& allocator;
  Status refuse_read = kOk;
  WriteOutcome write_outcome = WriteOutcome::started;
  std::vector<Read> reads;
  std::vector<Pfn> writes;
};

class PageCacheTest : public ::testing::Test {
 protected:
  PageCacheTest() : bed_(PageBed::config_of(512)) { adopt(map_, PageOwner::file, 1000); }
  ~PageCacheTest() override {
    EXPECT_TRUE(cache().truncate(map_, 0, nullptr, nullptr).ok());
    cache().forget(map_);
    EXPECT_EQ(cache().mappings(), 0U);
    EXPECT_TRUE(bed_.nothing_leaks());
    EXPECT_TRUE(bed_.allocator.may_enter_fs());
  }
  void adopt(Mapping& m, PageOwner owner, u64 pages) {
    cache().adopt(m);
    m.owner = owner;
    m.backing = &backing_;
    m.size_bytes = pages * kPageSize;
  }
  PageCache& cache() { return bed_.cache; }
  Page& page(Pfn pfn) { return bed_.frames[pfn]; }
  // Begins anew at each call.
  Status sync(Mapping& m, u32 first, u32 last) {
    SyncTicket ticket;
    return cache().sync(m, first, last, ticket);
  }
  Pfn add(u32 index) { return cache().add_new(map_, index, true, kAllocUser).value(); }
  // Ends the read that was started first.
  void end_read(Status status) {
    const HeldBacking::Read read = backing_.reads.front();
    backing_.reads.erase(backing_.reads.begin());
    for (const Pfn pfn : read.pfns) cache().read_done(pfn, status);
  }
  void end_write(Status status) {
    const Pfn pfn = backing_.writes.front();
    backing_.writes.erase(backing_.writes.begin());
    cache().write_done(pfn, status);
  }

  CacheBed bed_;
  HeldBacking backing_{bed_.allocator};
  Mapping map_;
};

TEST_F(PageCacheTest, a_new_page_is_announced_and_counted) {
  const Pfn pfn = add(7);
  EXPECT_EQ(cache().find(map_, 7), CacheEntry::page(pfn));
  EXPECT_EQ(cache().lookup(map_, 7).value(), pfn);
  EXPECT_EQ(cache().lookup(map_, 8).error(), Error::no_entry);
  EXPECT_EQ(page(pfn).state, PageState::unmapped);
  EXPECT_EQ(page(pfn).owner, PageOwner::file);
  EXPECT_EQ(page(pfn).count(), 1U);
  EXPECT_EQ(mapping_of(page(pfn)), &map_);
  EXPECT_TRUE(page(pfn).has(PageFlag::uptodate));
  EXPECT_EQ(map_.nr_pages, 1U);
  EXPECT_EQ(cache().pages(), 1U);
  EXPECT_EQ(bed_.policy.known.size(), 1U);
  EXPECT_TRUE(cache().validate(map_));
  cache().free_page(pfn, 99);
  EXPECT_EQ(cache().find(map_, 7), CacheEntry::shadow(99));
  EXPECT_EQ(map_.nr_pages, 0U);
  EXPECT_TRUE(cache().validate(map_));
  EXPECT_TRUE(bed_.policy.refaults.empty());
  add(7);
  EXPECT_EQ(bed_.policy.refaults, std::vector<u32>{99});
}

TEST_F(PageCacheTest, a_read_takes_the_run_of_absent_pages_around_the_wanted_one) {
  add(3);
  add(9);
  ASSERT_TRUE(cache().start_read(map_, 0, 16, 6, kAllocUser).ok());
  ASSERT_EQ(backing_.reads.size(), 1U);
  EXPECT_EQ(backing_.reads[0].index, 4U);
  EXPECT_EQ(backing_.reads[0].pfns.size(), 5U);
  EXPECT_EQ(cache().lookup(map_, 6).error(), Error::wait);
  EXPECT_EQ(bed_.policy.known.size(), 2U) << "pages that are read are not the policy's yet";
  EXPECT_TRUE(cache().start_read(map_, 6, 1, 6, kAllocUser).ok());
  EXPECT_TRUE(cache().start_read(map_, 4, 4, PageCache::kNobodyWants, kAllocUser).ok());
  EXPECT_EQ(backing_.reads.size(), 1U) << "on its way already";
  EXPECT_TRUE(cache().validate(map_));
  EXPECT_EQ(cache().truncate(map_, 0, nullptr, nullptr).error(), Error::wait);
  EXPECT_EQ(map_.nr_pages, 5U) << "those that are being read";
  end_read(kOk);
  EXPECT_EQ(bed_.policy.known.size(), 5U);
  EXPECT_TRUE(cache().lookup(map_, 6).ok());
  EXPECT_FALSE(page(cache().lookup(map_, 6).value()).has(PageFlag::referenced));
  EXPECT_TRUE(cache().validate(map_));
}

TEST_F(PageCacheTest, a_read_stops_at_the_end_of_file) {
  map_.size_bytes = 9 * kPageSize + 1;
  EXPECT_EQ(cache().start_read(map_, 10, 1, 10, kAllocUser).error(), Error::invalid);
  ASSERT_TRUE(cache().start_read(map_, 8, 8, 8, kAllocUser).ok());
  EXPECT_EQ(backing_.reads[0].pfns.size(), 2U);
  end_read(kOk);
}

TEST_F(PageCacheTest, a_read_that_does_not_start_changes_nothing) {
  cache().free_page(add(5), 77);
  const u64 free_before = bed_.allocator.free_pages().v;
  backing_.refuse_read = Error::wait;
  EXPECT_EQ(cache().start_read(map_, 0, 16, 4, kAllocUser).error(), Error::wait);
  EXPECT_EQ(bed_.allocator.free_pages().v, free_before);
  EXPECT_EQ(map_.nr_pages, 0U);
  EXPECT_EQ(cache().find(map_, 5), CacheEntry::shadow(77));
  EXPECT_TRUE(cache().validate(map_));
}

TEST_F(PageCacheTest, a_failed_read_is_told_to_who_asked_once) {
  ASSERT_TRUE(cache().start_read(map_, 0, 4, 2, kAllocUser).ok());
  end_read(Error::io);
  EXPECT_EQ(map_.nr_pages, 1U) << "pages read ahead are gone, the wanted one tells the error";
  EXPECT_EQ(bed_.policy.known.size(), 1U);
  EXPECT_TRUE(cache().validate(map_));
  EXPECT_EQ(cache().lookup(map_, 1).error(), Error::no_entry);
  EXPECT_EQ(cache().lookup(map_, 2).error(), Error::io);
  EXPECT_EQ(cache().lookup(map_, 2).error(), Error::no_entry);
  // The next one reads anew.
  ASSERT_TRUE(cache().start_read(map_, 2, 1, 2, kAllocUser).ok());
  end_read(kOk);
  EXPECT_TRUE(cache().lookup(map_, 2).ok());
}

TEST_F(PageCacheTest, an_error_that_nobody_fetches_can_be_reclaimed) {
  ASSERT_TRUE(cache().start_read(map_, 2, 1, 2, kAllocUser).ok());
  end_read(Error::io);
  const Pfn pfn = cache().find(map_, 2).pfn();
  EXPECT_EQ(page(pfn).state, PageState::unmapped);
  cache().free_page(pfn, 5);
  EXPECT_EQ(cache().lookup(map_, 2).error(), Error::no_entry);
}

TEST_F(PageCacheTest, dirtiness_is_counted_and_found) {
  const Pfn pfn = add(40);
  cache().set_dirty(pfn);
  cache().set_dirty(pfn);
  EXPECT_EQ(map_.nr_dirty, 1U);
  EXPECT_EQ(cache().dirty(), 1U);
  EXPECT_TRUE(cache().validate(map_));
  EXPECT_EQ(cache().write_page(pfn), WriteOutcome::started);
  EXPECT_EQ(cache().dirty(), 0U);
  EXPECT_EQ(cache().writeback(), 1U);
  // Written to while it is under write-back: it is dirty again at once.
  cache().set_dirty(pfn);
  EXPECT_TRUE(cache().validate(map_));
  EXPECT_EQ(cache().truncate(map_, 0, nullptr, nullptr).error(), Error::wait);
  end_write(kOk);
  EXPECT_TRUE(page(pfn).has(PageFlag::dirty));
  EXPECT_EQ(bed_.policy.written, 1U);
  cache().clear_dirty(pfn);
  EXPECT_EQ(map_.nr_dirty, 0U);
  EXPECT_TRUE(cache().validate(map_));
}

TEST_F(PageCacheTest, sync_writes_and_waits_and_tells_a_failure_once) {
  for (u32 i = 0; i < 5; ++i) cache().set_dirty(add(i * 100));
  EXPECT_EQ(sync(map_, 0, 200).error(), Error::wait);
  EXPECT_EQ(backing_.writes.size(), 3U);
  end_write(kOk);
  end_write(Error::no_space);
  EXPECT_EQ(sync(map_, 0, 200).error(), Error::wait);
  end_write(kOk);
  EXPECT_EQ(sync(map_, 0, 200).error(), Error::no_space);
  EXPECT_EQ(map_.nr_dirty, 3U) << "the page that failed is dirty still";
  EXPECT_EQ(sync(map_, 0, 200).error(), Error::wait);
  EXPECT_EQ(backing_.writes.size(), 1U);
  end_write(kOk);
  EXPECT_TRUE(sync(map_, 0, 200).ok());
  EXPECT_EQ(map_.nr_dirty, 2U) << "outside of the range";
  backing_.write_outcome = WriteOutcome::refused;
  EXPECT_EQ(sync(map_, 0, ~u32{0}).error(), Error::again);
  backing_.write_outcome = WriteOutcome::wait;
  EXPECT_EQ(sync(map_, 0, ~u32{0}).error(), Error::wait);
  EXPECT_TRUE(cache().validate(map_));
}

void free_slot(void* context, SlotId slot) {
  static_cast<std::vector<u32>*>(context)->push_back(slot.v);
}

TEST_F(PageCacheTest, shared_memory_goes_to_slots_and_back) {
  Mapping shm;
  adopt(shm, PageOwner::shmem, 100);
  const Pfn pfn = cache().add_new(shm, 3, true, kAllocUser).value();
  cache().set_dirty(pfn);
  EXPECT_EQ(cache().shmem_pages(), 1U);
  EXPECT_TRUE(sync(shm, 0, 99).ok());
  cache().replace_by_slot(pfn, SlotId(12));
  EXPECT_EQ(page(pfn).state, PageState::isolated);
  EXPECT_EQ(shm.nr_swapped, 1U);
  EXPECT_EQ(cache().find(shm, 3).slot(), SlotId(12));
  EXPECT_EQ(cache().lookup(shm, 3).error(), Error::no_entry);
  EXPECT_TRUE(cache().validate(shm));
  // Back in one step, which cannot fail, or in two.
  ASSERT_TRUE(cache().add_frame(shm, 3, pfn, AllocFlags{}).ok());
  EXPECT_EQ(shm.nr_swapped, 0U);
  cache().replace_by_slot(pfn, SlotId(13));
  EXPECT_EQ(cache().take_slot(shm, 3), SlotId(13));
  EXPECT_TRUE(shm.empty());
  ASSERT_TRUE(cache().add_frame(shm, 3, pfn, kAllocUser).ok());
  EXPECT_TRUE(cache().validate(shm));
  cache().replace_by_slot(pfn, SlotId(14));
  bed_.allocator.free(pfn, 0);
  add(2);
  cache().free_page(cache().add_new(shm, 9, true, kAllocUser).value(), 6);
  std::vector<u32> freed;
  ASSERT_TRUE(cache().truncate(shm, 0, free_slot, &freed).ok());
  EXPECT_EQ(freed, std::vector<u32>{14});
  cache().forget(shm);
}

TEST_F(PageCacheTest, validate_sees_what_is_broken) {
  const Pfn pfn = add(1);
  const Pfn other = add(2);
  cache().set_dirty(other);
  ASSERT_TRUE(cache().validate(map_));
  const auto broken = [&](auto& field, auto value, const char* what) {
    const auto old = field;
    field = value;
    EXPECT_FALSE(cache().validate(map_)) << what;
    field = old;
    ASSERT_TRUE(cache().validate(map_)) << what;
  };
  broken(map_.nr_pages, 1U, "a page too few");
  broken(map_.nr_dirty, 2U, "a dirty page too many");
  broken(map_.nr_writeback, 1U, "a write-back that is not there");
  broken(map_.nr_swapped, 1U, "a slot that is not there");
  broken(page(pfn).index, 9U, "another index");
  broken(page(pfn).owner, PageOwner::user, "another owner");
  broken(page(pfn).state, PageState::isolated, "not resident");
  broken(page(pfn).flags, u16{0}, "not read and no error");
  broken(page(other).flags, static_cast<u16>(PageFlag::uptodate), "a tag without the flag");
  broken(page(pfn).mapcount, 1U, "mapped and does not say so");
  broken(page(pfn).slot, SlotId(4), "in two caches (I18)");
}

TEST_F(PageCacheTest, a_page_that_is_dirty_or_busy_is_not_freed) {
  const Pfn pfn = add(1);
  cache().set_dirty(pfn);
  print_panics();
  EXPECT_DEATH(cache().free_page(pfn), "dirty");
  EXPECT_EQ(cache().write_page(pfn), WriteOutcome::started);
  EXPECT_TRUE(cache().busy(map_, 0));
  EXPECT_FALSE(cache().busy(map_, 2));
  EXPECT_DEATH(cache().free_page(pfn), "writeback");
  end_write(kOk);
  page(pfn).pins = 1;
  EXPECT_TRUE(cache().busy(map_, 1));
  EXPECT_DEATH(cache().free_page(pfn), "pins");
  page(pfn).pins = 0;
}

TEST_F(PageCacheTest, no_memory_changes_nothing) {
  add(1);
  std::vector<Pfn> taken;
  for (Result<Pfn> f = bed_.allocator.alloc(0, {}); f.ok(); f = bed_.allocator.alloc(0, {})) {
    taken.push_back(f.value());
  }
  const u64 free_before = bed_.allocator.free_pages().v;
  EXPECT_EQ(cache().add_new(map_, 2, true, kAllocUser).error(), Error::no_memory);
  EXPECT_EQ(cache().start_read(map_, 2, 1, 2, kAllocUser).error(), Error::no_memory);
  bed_.policy.outcome = ReclaimOutcome::wait;
  EXPECT_EQ(cache().start_read(map_, 2, 1, 2, kAllocUser).error(), Error::wait);
  EXPECT_EQ(bed_.allocator.free_pages().v, free_before);
  // One frame is enough for the wanted page; those beside it are left out.
  bed_.allocator.free(taken.back(), 0);
  taken.pop_back();
  ASSERT_TRUE(cache().start_read(map_, 2, 16, 4, kAllocUser).ok());
  EXPECT_EQ(backing_.reads[0].index, 4U);
  EXPECT_EQ(backing_.reads[0].pfns.size(), 1U);
  EXPECT_TRUE(cache().validate(map_));
  end_read(kOk);
  for (const Pfn pfn : taken) bed_.allocator.free(pfn, 0);
}

// The frame can be had, the tree's node cannot: then with one frame more.
TEST_F(PageCacheTest, half_of_what_a_page_needs_is_given_back) {
  for (u64 leave = 0; leave <= 2; ++leave) {
    for (const bool read : {false, true}) {
      (void)bed_.slabs.shrink_all();
      std::vector<Pfn> taken;
      while (bed_.allocator.free_pages().v > bed_.allocator.marks().min.v + leave) {
        taken.push_back(bed_.allocator.alloc(0, AllocFlags{}).value());
      }
      const PageCount before = bed_.allocator.free_pages();
      const Status status =
          read ? cache().start_read(map_, 900, 1, 900, AllocFlags{}) : Status([&]() -> Status {
            SPW_TRY(cache().add_new(map_, 900, true, AllocFlags{}));
            return kOk;
          }());
      EXPECT_EQ(status.ok(), leave == 2) << read;
      if (!status.ok()) {
        EXPECT_EQ(bed_.allocator.free_pages(), before) << read << " with " << leave;
        EXPECT_TRUE(map_.tree.empty());
      } else if (read) {
        end_read(kOk);
      }
      EXPECT_TRUE(cache().truncate(map_, 0, nullptr, nullptr).ok());
      for (const Pfn pfn : taken) bed_.allocator.free(pfn, 0);
      EXPECT_TRUE(bed_.nothing_leaks());
    }
  }
}

TEST_F(PageCacheTest, random_operations_keep_every_invariant) {
  Prng prng(20260301);
  for (u32 step = 0; step < 6000; ++step) {
    SCOPED_TRACE(testing::Message() << "step " << step);
    const u32 index = static_cast<u32>(prng.below(100));
    const Pfn pfn = cache().find(map_, index).pfn();
    const bool still = pfn.valid() && page(pfn).state == PageState::unmapped &&
                       !page(pfn).has(PageFlag::writeback);
    switch (prng.below(8)) {
      case 0:
        if (!pfn.valid()) add(index);
        break;
      case 1: {
        const u32 count = static_cast<u32>(prng.between(1, 16));
        const u32 wanted = index + static_cast<u32>(prng.below(count));
        ASSERT_TRUE(cache().start_read(map_, index, count, wanted, kAllocUser).ok());
        break;
      }
      case 2:
        if (!backing_.reads.empty()) end_read(prng.one_in(4) ? Status(Error::io) : kOk);
        break;
      case 3:
        if (!backing_.writes.empty()) end_write(prng.one_in(4) ? Status(Error::io) : kOk);
        break;
      case 4:
        if (pfn.valid() && page(pfn).has(PageFlag::uptodate)) cache().set_dirty(pfn);
        break;
      case 5:
        if (still && page(pfn).has(PageFlag::dirty)) (void)cache().write_page(pfn);
        break;
      case 6:
        if (still && !page(pfn).has(PageFlag::dirty)) cache().free_page(pfn, index + 1);
        break;
      case 7:
        if (prng.one_in(10)) {
          (void)cache().truncate(map_, index, nullptr, nullptr);
        } else {
          (void)cache().lookup(map_, index);
        }
    }
    ASSERT_TRUE(cache().validate(map_));
    ASSERT_EQ(cache().pages(), map_.nr_pages);
    u64 reading = 0;
    for (const HeldBacking::Read& read : backing_.reads) reading += read.pfns.size();
    ASSERT_EQ(bed_.policy.known.size() + reading, map_.nr_pages);
    ASSERT_EQ(backing_.writes.size(), map_.nr_writeback);
  }
  while (!backing_.reads.empty()) end_read(kOk);
  while (!backing_.writes.empty()) end_write(kOk);
}

}  // namespace
}  // namespace spillway
