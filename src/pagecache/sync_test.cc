// Syncs of a mapping while others dirty its pages, write them and sync it too. Each page has a
// version that grows when it is dirtied; the backing keeps the version that a write began with and
// stores it when the test ends the write. A sync that succeeds has stored at least the versions
// that there were at its first call, and it must end after a bounded number of writes.
#include <map>

#include "base/prng.h"
#include "pagecache/cache_bed_test.h"

namespace spillway {
namespace {

constexpr u32 kPages = 40;

struct VersionedBacking final : Backing {
  struct Write {
    Pfn pfn;
    u32 index;
    u32 version;
  };
  Status read_pages(Mapping&, u32, const Pfn*, u32) override { return Error::io; }
  WriteOutcome write_page(Mapping&, Pfn pfn) override {
    const u32 index = (*frames)[pfn].index;
    if (refused.count(index) != 0) return WriteOutcome::refused;
    if (writes.size() >= slots) return WriteOutcome::wait;
    writes.push_back({pfn, index, version[index]});
    return WriteOutcome::started;
  }
  FrameTable* frames = nullptr;
  u32 slots = ~u32{0};
  std::set<u32> refused;
  std::vector<Write> writes;
  std::map<u32, u32> version;
  std::map<u32, u32> stored;
};

// One caller of PageCache::sync.
struct Syncer {
  u32 first = 0;
  u32 last = ~u32{0};
  SyncTicket ticket;
  std::map<u32, u32> wanted;  // versions at the first call
  bool begun = false;
  u32 calls = 0;
};

Syncer over(u32 first, u32 last) {
  Syncer s;
  s.first = first;
  s.last = last;
  return s;
}

class SyncTest : public ::testing::Test {
 protected:
  SyncTest() : bed_(PageBed::config_of(512)) {
    cache().adopt(map_);
    backing_.frames = &bed_.frames;
    map_.backing = &backing_;
    map_.size_bytes = 1000 * kPageSize;
    for (u32 i = 0; i < kPages; ++i) (void)cache().add_new(map_, i, true, kAllocUser);
  }
  ~SyncTest() override {
    while (!backing_.writes.empty()) end_write(0);
    EXPECT_TRUE(cache().validate(map_));
    EXPECT_TRUE(cache().truncate(map_, 0, nullptr, nullptr).ok());
    cache().forget(map_);
    EXPECT_TRUE(bed_.nothing_leaks());
  }
  PageCache& cache() { return bed_.cache; }
  Pfn page(u32 index) { return cache().find(map_, index).pfn(); }
  void dirty(u32 index) {
    ++backing_.version[index];
    cache().set_dirty(page(index));
  }
  void dirty_all(u32 pages = kPages) {
    for (u32 i = 0; i < pages; ++i) dirty(i);
  }
  void end_write(u64 i, Status status = kOk) {
    if (i >= backing_.writes.size()) {
      ADD_FAILURE() << "waits for nothing";
      return;
    }
    const VersionedBacking::Write write = backing_.writes[i];
    backing_.writes.erase(backing_.writes.begin() + static_cast<i64>(i));
    if (status.ok()) backing_.stored[write.index] = write.version;
    cache().write_done(write.pfn, status);
  }
  // What any daemon may do: writes whatever is dirty.
  void write_everything() {
    for (u32 i = 0; i < kPages; ++i) {
      const Page& p = bed_.frames[page(i)];
      if (p.has(PageFlag::dirty) && !p.has(PageFlag::writeback)) (void)cache().write_page(page(i));
    }
  }
  Status call(Syncer& s) {
    if (!s.begun) {
      s.begun = true;
      s.calls = 0;
      s.wanted.clear();
      for (const auto& [index, version] : backing_.version) {
        if (index >= s.first && index <= s.last) s.wanted[index] = version;
      }
    }
    ++s.calls;
    const Status status = cache().sync(map_, s.first, s.last, s.ticket);
    if (!status.ok() && status.error() == Error::wait) return status;
    s.begun = false;
    EXPECT_EQ(s.ticket.of, 0U) << "fresh for the next one";
    if (status.ok()) expect_stored(s);
    return status;
  }
  void expect_stored(const Syncer& s) {
    for (const auto& [index, version] : s.wanted) {
      EXPECT_GE(backing_.stored[index], version) << "page " << index;
    }
  }
  // Calls until the end; `between` runs before each repetition. At most `rounds` of them.
  template <class Between>
  Status drive(Syncer& s, u32 rounds, Between between) {
    for (u32 i = 0; i < rounds; ++i) {
      const Status status = call(s);
      if (status.ok() || status.error() != Error::wait) return status;
      between();
    }
    ADD_FAILURE() << "the sync has not ended";
    return Error::wait;
  }

  CacheBed bed_;
  VersionedBacking backing_;
  Mapping map_;
};

TEST_F(SyncTest, what_is_dirtied_again_after_each_step_does_not_hold_it) {
  dirty_all();
  Syncer s;
  const auto step = [&] {
    end_write(0);
    dirty_all();
  };
  EXPECT_TRUE(drive(s, kPages + 1, step).ok());
  EXPECT_EQ(map_.nr_dirty, kPages);
  EXPECT_TRUE(backing_.writes.empty()) << "what was dirtied later was not even written";
  EXPECT_TRUE(cache().validate(map_));
}

TEST_F(SyncTest, what_is_written_again_after_each_step_does_not_hold_it) {
  dirty_all();
  write_everything();
  dirty_all();  // being written and dirty at once
  Syncer s;
  const auto step = [&] {
    end_write(0);
    dirty_all();
    write_everything();
  };
  EXPECT_TRUE(drive(s, 3 * kPages, step).ok());
}

TEST_F(SyncTest, a_file_that_grows_in_front_of_it_does_not_hold_it) {
  dirty_all(4);
  u32 end = kPages;
  Syncer s;
  const auto step = [&] {
    end_write(0);
    (void)cache().add_new(map_, end, true, kAllocUser);
    dirty(end++);
  };
  EXPECT_TRUE(drive(s, 5, step).ok());
  EXPECT_GT(map_.nr_dirty, 0U);
}

TEST_F(SyncTest, other_syncs_that_follow_each_other_do_not_hold_it) {
  dirty_all();
  Syncer mine;
  Syncer others[3];
  u32 ended[3] = {};
  const auto step = [&] {
    end_write(0);
    for (u32 i = 0; i < 3; ++i) {
      dirty_all();
      ended[i] += call(others[i]).ok() ? 1 : 0;
      write_everything();
    }
  };
  // Begun before it: it takes part in the second round.
  EXPECT_EQ(call(others[0]).error(), Error::wait);
  for (u32 times = 0; times < 5; ++times) EXPECT_TRUE(drive(mine, 6 * kPages, step).ok());
  for (const u32 n : ended) EXPECT_GT(n, 2U);
}

TEST_F(SyncTest, syncs_that_come_during_its_round_do_not_hold_it) {
  dirty_all();
  Syncer s;
  const auto step = [&] {
    end_write(0);
    dirty_all();
    SyncTicket fresh;  // of a process that ends at once
    EXPECT_EQ(cache().sync(map_, 0, ~u32{0}, fresh).error(), Error::wait);
  };
  EXPECT_TRUE(drive(s, 2 * kPages, step).ok());
}

TEST_F(SyncTest, one_that_nobody_calls_again_does_not_hold_others) {
  dirty_all();
  Syncer dead;
  EXPECT_EQ(call(dead).error(), Error::wait);
  dirty_all();
  Syncer s;
  EXPECT_TRUE(drive(s, 3 * kPages, [&] { end_write(0); }).ok());
  EXPECT_EQ(map_.nr_dirty, 0U);
  // Its ticket is old and harmless: if it comes back after all, it ends.
  EXPECT_TRUE(call(dead).ok());
}

TEST_F(SyncTest, it_writes_its_range_and_takes_part_in_the_next_round_with_another_range) {
  dirty_all();
  Syncer low = over(0, 9);
  Syncer high = over(30, kPages - 1);
  EXPECT_EQ(call(low).error(), Error::wait);
  EXPECT_EQ(backing_.writes.size(), 10U);
  EXPECT_EQ(call(high).error(), Error::wait);
  EXPECT_EQ(backing_.writes.size(), 10U) << "after the round that goes on";
  while (!backing_.writes.empty()) end_write(backing_.writes.size() - 1);
  EXPECT_TRUE(call(low).ok());
  EXPECT_EQ(call(high).error(), Error::wait);
  EXPECT_EQ(backing_.writes.size(), 10U);
  // It came before this round began as well, and adds its range.
  Syncer late = over(10, 12);
  EXPECT_EQ(call(late).error(), Error::wait);
  while (!backing_.writes.empty()) end_write(0);
  EXPECT_TRUE(call(high).ok());
  EXPECT_EQ(map_.nr_dirty, 20U) << "10 to 29";
  EXPECT_EQ(call(late).error(), Error::wait);
  EXPECT_EQ(backing_.writes.size(), 3U);
}

TEST_F(SyncTest, a_failure_is_told_to_every_sync_of_its_round_and_not_to_later_ones) {
  dirty_all(3);
  Syncer first;
  Syncer second;
  Syncer third;
  EXPECT_EQ(call(first).error(), Error::wait);
  EXPECT_EQ(call(second).error(), Error::wait);
  EXPECT_EQ(call(third).error(), Error::wait);
  while (!backing_.writes.empty()) end_write(0);
  dirty_all(3);
  EXPECT_EQ(call(second).error(), Error::wait);
  EXPECT_EQ(call(third).error(), Error::wait);
  EXPECT_TRUE(call(first).ok()) << "what failed now was not dirty when it began";
  end_write(1, Error::io);
  while (!backing_.writes.empty()) end_write(0);
  EXPECT_EQ(call(second).error(), Error::io);
  EXPECT_EQ(call(third).error(), Error::io);
  EXPECT_EQ(map_.nr_dirty, 1U) << "nothing is lost";
  EXPECT_TRUE(drive(second, 3, [&] { end_write(0); }).ok()) << "and the next one tries again";
}

TEST_F(SyncTest, a_failure_that_nobody_waited_for_is_told_to_all_who_left_the_page_out) {
  dirty_all(1);
  write_everything();
  end_write(0, Error::no_space);
  dirty(1);
  Syncer first;
  Syncer second;
  EXPECT_EQ(call(first).error(), Error::wait);
  EXPECT_EQ(backing_.writes.size(), 1U) << "not the one that failed";
  end_write(0);
  dirty(1);
  EXPECT_EQ(call(second).error(), Error::wait) << "a round of its own";
  EXPECT_EQ(call(first).error(), Error::no_space);
  end_write(0);
  EXPECT_EQ(call(second).error(), Error::no_space) << "it did not write page 0 either";
  EXPECT_TRUE(drive(first, 3, [&] { end_write(0); }).ok());
}

TEST_F(SyncTest, a_page_that_is_refused_is_told_and_does_not_hold_it) {
  dirty_all(5);
  backing_.refused = {2};
  Syncer s;
  EXPECT_EQ(drive(s, 6, [&] { end_write(0); }).error(), Error::again);
  EXPECT_EQ(map_.nr_dirty, 1U);
  backing_.refused.clear();
  EXPECT_TRUE(drive(s, 3, [&] { end_write(0); }).ok());
}

TEST_F(SyncTest, pages_that_are_truncated_meanwhile_do_not_hold_it) {
  backing_.slots = 2;
  dirty_all();
  Syncer s = over(10, ~u32{0});
  EXPECT_EQ(call(s).error(), Error::wait);
  (void)cache().truncate(map_, 3, nullptr, nullptr);
  end_write(0);
  end_write(0);
  s.wanted.clear();
  EXPECT_TRUE(call(s).ok());
}

TEST_F(SyncTest, a_ticket_that_is_fresh_each_time_stores_everything_and_tells_failures) {
  dirty_all(6);
  for (u32 i = 0;; ++i) {
    ASSERT_LT(i, 20U);
    SyncTicket fresh;
    const Status status = cache().sync(map_, 0, ~u32{0}, fresh);
    if (status.ok()) break;
    if (status.error() != Error::wait) {
      EXPECT_EQ(status.error(), Error::io);
      EXPECT_EQ(i, 6U);
      continue;
    }
    end_write(0, i == 3 ? Status(Error::io) : kOk);
  }
  EXPECT_EQ(map_.nr_dirty, 0U);
}

TEST_F(SyncTest, random_syncs_store_what_was_dirty_and_end) {
  u64 succeeded = 0;
  u64 failed = 0;
  for (u64 seed = 1; seed <= 60; ++seed) {
    Prng prng(seed);
    std::vector<Syncer> syncers(4);
    const auto restart = [&](Syncer& s) {
      s.first = static_cast<u32>(prng.below(kPages));
      s.last = s.first + static_cast<u32>(prng.below(kPages));
    };
    for (Syncer& s : syncers) restart(s);
    const bool errors = prng.below(2) == 0;
    backing_.slots = prng.below(2) == 0 ? 5 : 1000;
    for (u32 step = 0; step < 400; ++step) {
      for (u64 n = prng.below(12); n > 0; --n) dirty(static_cast<u32>(prng.below(kPages)));
      if (prng.below(4) == 0 && backing_.slots > 5) write_everything();
      backing_.refused.clear();
      if (errors && prng.below(8) == 0) backing_.refused = {static_cast<u32>(prng.below(kPages))};
      for (u64 n = prng.below(3) + 1; n > 0 && !backing_.writes.empty(); --n) {
        const bool bad = errors && prng.below(30) == 0;
        end_write(prng.below(backing_.writes.size()), bad ? Status(Error::io) : kOk);
      }
      Syncer& s = syncers[prng.below(syncers.size())];
      if (!s.begun && prng.below(3) == 0) continue;
      const Status status = call(s);
      ASSERT_TRUE(cache().validate(map_)) << "seed " << seed << " step " << step;
      // Two rounds, each with a write under way for a page and another one to come, and each page's
      // turn among all that end; the others are called as often.
      ASSERT_LT(s.calls, 200U) << "seed " << seed << " step " << step;
      if (status.ok() || status.error() != Error::wait) {
        ++(status.ok() ? succeeded : failed);
        restart(s);
      }
    }
    while (!backing_.writes.empty()) end_write(0);
    for (Syncer& s : syncers) s.ticket = SyncTicket{};
  }
  EXPECT_GT(succeeded, 500U);
  EXPECT_GT(failed, 20U);
}

TEST_F(SyncTest, validate_notices_marks_on_pages_that_are_not_dirty) {
  EXPECT_TRUE(cache().validate(map_));
  for (const u32 tag : {Mapping::kTagToWrite, Mapping::kTagAwaited}) {
    map_.tree.set_tag(3, tag);
    EXPECT_FALSE(cache().validate(map_));
    map_.tree.clear_tag(3, tag);
  }
}

TEST(SyncRounds, a_failure_concerns_its_round_and_those_before) {
  SyncRounds rounds;
  for (u32 i = 0; i < 3; ++i) rounds.begin();
  rounds.failed(Error::again);
  rounds.failed(Error::io);
  rounds.failed(Error::again);
  SyncTicket ticket;
  ticket.round = 3;
  EXPECT_EQ(rounds.outcome(ticket).error(), Error::io) << "the worst of them";
  ticket.round = 4;
  EXPECT_TRUE(rounds.outcome(ticket).ok());
  ticket.round = ~u32{0};
  EXPECT_EQ(rounds.outcome(ticket).error(), Error::io) << "four rounds ago";
}

}  // namespace
}  // namespace spillway
