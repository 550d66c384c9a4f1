// PageTransfers over a device that keeps its requests until the test ends them, in the order that
// the test likes, and that fails every request with a bad page in it: what reaches the page cache,
// what the owner is told, and what is counted.
#include "vfs/page_transfers.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <vector>

#include "pagecache/cache_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kDevicePages = 4096;
constexpr u64 kFileStart = 1000;  // the file's first page on the device

struct HeldDevice final : BlockDevice {
  explicit HeldDevice(Machine& m) : machine(m) { size_ = PageCount(kDevicePages); }
  void submit(IoRequest& request) override {
    submitted.push_back({request.op, request.block, request.count});
    held.push_back(&request);
    if (ends_at_once) end(held.size() - 1);
  }
  u32 in_flight() const override { return static_cast<u32>(held.size()); }
  Result<u64> claim_segment() override { return Error::not_supported; }
  void release_segment(u64) override {}
  bool sole_owner(u64) const override { return false; }

  // Ends the i-th of the requests that are held. A page's contents are one byte, repeated.
  void end(u64 i) {
    IoRequest& request = *held[i];
    held.erase(held.begin() + static_cast<i64>(i));
    Status status = kOk;
    for (u32 p = 0; p < request.count; ++p) {
      u8* bytes = machine.frames.bytes(request.frames[p]);
      if (bad.count(request.block + p) != 0) {
        status = Error::io;
      } else if (request.op == IoOp::read) {
        std::memset(bytes, byte_of(request.block + p), kPageSize);
      } else {
        stored[request.block + p] = bytes[0];
      }
    }
    request.sink->io_done(request, status);
  }
  void end_all() {
    while (!held.empty()) end(0);
  }
  u8 byte_of(u64 block) const {
    const auto at = stored.find(block);
    return at != stored.end() ? at->second : static_cast<u8>(block % 251);
  }

  struct Submitted {
    IoOp op;
    u64 block;
    u32 count;
    bool operator==(const Submitted&) const = default;
  };
  Machine& machine;
  bool ends_at_once = false;
  std::set<u64> bad;
  std::map<u64, u8> stored;
  std::vector<IoRequest*> held;
  std::vector<Submitted> submitted;
};

struct File final : Backing, PageTransfers::Owner {
  Status read_pages(Mapping& m, u32 index, const Pfn* frames, u32 count) override {
    if (!transfers.room_for(1)) return Error::wait;
    transfers.read(m, index, kFileStart + index, frames, count);
    return kOk;
  }
  WriteOutcome write_page(Mapping& m, Pfn pfn) override {
    if (!transfers.room_for(1)) return WriteOutcome::wait;
    const u32 index = (*table)[pfn].index;
    transfers.write(m, index, kFileStart + index, pfn, index * 3);
    return WriteOutcome::started;
  }
  void page_written(Mapping& m, u32 index, u32 note, Status status) override {
    EXPECT_EQ(&m, &mapping);
    EXPECT_EQ(note, index * 3);
    EXPECT_TRUE((*table)[cache->find(m, index).pfn()].has(PageFlag::writeback))
        << "the page cache is told afterwards";
    written.push_back({index, status.ok()});
    if (next != kNoPfn) {
      const Pfn pfn = next;
      next = kNoPfn;
      EXPECT_EQ(cache->write_page(pfn), WriteOutcome::started) << "the ended one's place is free";
    }
  }
  void transfer_ended(Mapping& m) override {
    EXPECT_EQ(&m, &mapping);
    ++ended;
  }

  PageCache* cache = nullptr;
  FrameTable* table = nullptr;
  PageTransfers transfers;
  Mapping mapping;
  std::vector<std::pair<u32, bool>> written;
  u32 ended = 0;
  Pfn next = kNoPfn;  // its write starts when the next write has ended
};

class PageTransfersTest : public ::testing::Test {
 protected:
  PageTransfersTest() : bed_(PageBed::config_of(512)), device_(bed_.sim.machine()) {
    file_.cache = &cache();
    file_.table = &bed_.frames;
    file_.mapping.owner = PageOwner::file;
    file_.mapping.backing = &file_;
    file_.mapping.size_bytes = 1000 * kPageSize;
    cache().adopt(file_.mapping);
    transfers().init(bed_.sim.machine(), cache(), bed_.observer, device_, file_);
  }
  ~PageTransfersTest() override {
    EXPECT_EQ(transfers().in_flight(), 0U);
    EXPECT_TRUE(transfers().validate());
    EXPECT_TRUE(cache().validate(file_.mapping));
    EXPECT_TRUE(cache().truncate(file_.mapping, 0, nullptr, nullptr).ok());
    cache().forget(file_.mapping);
    EXPECT_TRUE(bed_.nothing_leaks());
  }
  PageCache& cache() { return bed_.cache; }
  PageTransfers& transfers() { return file_.transfers; }
  u64 count(Counter c) { return bed_.count(c); }
  u8* bytes(u32 index) {
    return bed_.sim.machine().frames.bytes(cache().find(file_.mapping, index).pfn());
  }
  // Every one is wanted, so that each keeps its place should its read fail.
  void start_read(u32 index, u32 pages) {
    ASSERT_TRUE(cache().start_read(file_.mapping, index, pages, index, kAllocUser).ok());
  }
  Pfn make_dirty(u32 index, u8 with) {
    const Pfn pfn = cache().add_new(file_.mapping, index, true, kAllocUser).value();
    std::memset(bed_.sim.machine().frames.bytes(pfn), with, kPageSize);
    cache().set_dirty(pfn);
    return pfn;
  }
  void expect_read(u32 index, u32 pages) {
    for (u32 i = index; i < index + pages; ++i) {
      ASSERT_TRUE(cache().lookup(file_.mapping, i).ok()) << i;
      const u8 want = device_.byte_of(kFileStart + i);
      EXPECT_TRUE(std::all_of(bytes(i), bytes(i) + kPageSize, [&](u8 b) { return b == want; }))
          << i;
    }
  }

  CacheBed bed_;
  HeldDevice device_;
  File file_;
};

using Submitted = HeldDevice::Submitted;

TEST_F(PageTransfersTest, pages_of_one_read_come_in_one_request) {
  start_read(5, 16);
  EXPECT_EQ(transfers().in_flight(), 1U);
  EXPECT_EQ(device_.submitted, (std::vector<Submitted>{{IoOp::read, kFileStart + 5, 16}}));
  EXPECT_EQ(file_.ended, 0U);
  device_.end_all();
  expect_read(5, 16);
  EXPECT_EQ(file_.ended, 1U);
  EXPECT_EQ(count(Counter::pgpgin), 16U);
  EXPECT_EQ(transfers().pages_read(), 16U);
  EXPECT_EQ(count(Counter::io_error), 0U);
}

TEST_F(PageTransfersTest, a_bad_page_fails_alone) {
  device_.bad = {kFileStart + 2};
  start_read(0, 4);
  device_.end(0);
  ASSERT_EQ(device_.held.size(), 1U) << "the first page by itself";
  EXPECT_EQ(cache().lookup(file_.mapping, 0).error(), Error::wait) << "nothing was told yet";
  device_.end_all();
  EXPECT_EQ(device_.submitted, (std::vector<Submitted>{{IoOp::read, kFileStart, 4},
                                                       {IoOp::read, kFileStart, 1},
                                                       {IoOp::read, kFileStart + 1, 1},
                                                       {IoOp::read, kFileStart + 2, 1},
                                                       {IoOp::read, kFileStart + 3, 1}}));
  expect_read(0, 2);
  expect_read(3, 1);
  EXPECT_EQ(cache().lookup(file_.mapping, 2).error(), Error::no_entry) << "it was read ahead";
  EXPECT_EQ(file_.ended, 1U);
  EXPECT_EQ(count(Counter::pgpgin), 3U);
  EXPECT_EQ(count(Counter::io_error), 2U) << "the whole and the one page";
}

TEST_F(PageTransfersTest, of_a_batch_of_bad_pages_each_is_tried_once) {
  for (u64 i = 0; i < 16; ++i) device_.bad.insert(kFileStart + i);
  start_read(0, 16);
  device_.end_all();
  EXPECT_EQ(device_.submitted.size(), 17U);
  EXPECT_EQ(cache().lookup(file_.mapping, 0).error(), Error::io);
  EXPECT_EQ(file_.mapping.nr_pages, 0U);
  EXPECT_EQ(file_.ended, 1U);
  EXPECT_EQ(count(Counter::pgpgin), 0U);
  EXPECT_EQ(count(Counter::io_error), 17U);
}

TEST_F(PageTransfersTest, a_single_page_that_fails_is_not_tried_again) {
  device_.bad = {kFileStart + 9};
  start_read(9, 1);
  device_.end_all();
  EXPECT_EQ(device_.submitted.size(), 1U);
  EXPECT_EQ(cache().lookup(file_.mapping, 9).error(), Error::io);
  EXPECT_EQ(count(Counter::io_error), 1U);
}

TEST_F(PageTransfersTest, a_batch_that_fails_once_is_read_page_by_page) {
  device_.bad = {kFileStart + 1};
  start_read(0, 3);
  device_.end(0);
  device_.bad.clear();
  device_.end_all();
  expect_read(0, 3);
  EXPECT_EQ(count(Counter::io_error), 1U);
}

TEST_F(PageTransfersTest, requests_may_end_in_the_opposite_order) {
  device_.bad = {kFileStart + 101};
  for (u32 i = 0; i < 10; ++i) start_read(i * 50, 3);
  for (u32 i = 0; i < 10; ++i) {
    ASSERT_EQ(cache().write_page(make_dirty(i * 50 + 10, static_cast<u8>(i + 1))),
              WriteOutcome::started);
  }
  EXPECT_EQ(transfers().in_flight(), 20U);
  while (!device_.held.empty()) {
    device_.end(device_.held.size() - 1);
    ASSERT_TRUE(transfers().validate());
  }
  for (u32 i = 0; i < 10; ++i) {
    if (i != 2) expect_read(i * 50, 3);
    EXPECT_EQ(file_.written[i], (std::pair<u32, bool>((9 - i) * 50 + 10, true)));
    EXPECT_EQ(device_.stored.at(kFileStart + i * 50 + 10), i + 1);
  }
  expect_read(100, 1);
  expect_read(102, 1);
  EXPECT_EQ(file_.ended, 20U);
  EXPECT_EQ(count(Counter::pgpgin), 29U);
  EXPECT_EQ(count(Counter::pgpgout), 10U);
}

TEST_F(PageTransfersTest, a_failed_write_is_told_and_leaves_the_page_dirty) {
  const Pfn pfn = make_dirty(7, 9);
  device_.bad = {kFileStart + 7};
  ASSERT_EQ(cache().write_page(pfn), WriteOutcome::started);
  device_.end_all();
  EXPECT_EQ(file_.written, (std::vector<std::pair<u32, bool>>{{7, false}}));
  EXPECT_TRUE(bed_.frames[pfn].has(PageFlag::dirty));
  EXPECT_EQ(file_.ended, 1U);
  EXPECT_EQ(count(Counter::pgpgout), 0U);
  EXPECT_EQ(count(Counter::io_error), 1U);
  cache().clear_dirty(pfn);
}

TEST_F(PageTransfersTest, a_full_pool_makes_wait_and_a_retry_needs_no_room) {
  device_.bad = {kFileStart + 3};
  start_read(2, 2);
  for (u32 i = 1; i < PageTransfers::kMax; ++i) {
    EXPECT_TRUE(transfers().room_for(PageTransfers::kMax - i));
    EXPECT_FALSE(transfers().room_for(PageTransfers::kMax - i + 1));
    start_read(10 * i, 1);
  }
  EXPECT_FALSE(transfers().room_for(1));
  EXPECT_TRUE(transfers().room_for(0));
  const Status refused = cache().start_read(file_.mapping, 900, 4, 900, kAllocUser);
  EXPECT_EQ(refused.error(), Error::wait);
  const Pfn dirty = make_dirty(901, 5);
  EXPECT_EQ(cache().write_page(dirty), WriteOutcome::wait);
  EXPECT_TRUE(bed_.frames[dirty].has(PageFlag::dirty));
  // The first ends with an error and goes on page by page in its own request.
  device_.end(0);
  EXPECT_EQ(transfers().in_flight(), PageTransfers::kMax);
  device_.end(device_.held.size() - 1);
  device_.end(device_.held.size() - 1);
  EXPECT_EQ(transfers().in_flight(), PageTransfers::kMax - 1);
  EXPECT_EQ(cache().write_page(dirty), WriteOutcome::started);
  EXPECT_TRUE(transfers().validate());
  device_.end_all();
  expect_read(2, 1);
}

TEST_F(PageTransfersTest, the_end_of_a_write_may_start_the_next_one_in_a_full_pool) {
  std::vector<Pfn> dirty;
  for (u32 i = 0; i <= PageTransfers::kMax; ++i) dirty.push_back(make_dirty(i, 1));
  for (u32 i = 0; i < PageTransfers::kMax; ++i) {
    ASSERT_EQ(cache().write_page(dirty[i]), WriteOutcome::started);
  }
  file_.next = dirty.back();
  device_.end_all();
  EXPECT_EQ(file_.written.size(), PageTransfers::kMax + 1);
  EXPECT_EQ(file_.mapping.nr_dirty, 0U);
}

TEST_F(PageTransfersTest, a_device_may_end_requests_at_once) {
  device_.ends_at_once = true;
  device_.bad = {kFileStart + 4};
  start_read(0, 16);
  expect_read(0, 4);
  expect_read(5, 11);
  EXPECT_EQ(transfers().in_flight(), 0U);
  EXPECT_EQ(file_.ended, 1U);
}

TEST_F(PageTransfersTest, bytes_behind_the_end_of_file_are_zero) {
  file_.mapping.size_bytes = 2 * kPageSize + 100;
  start_read(0, 3);
  device_.end_all();
  expect_read(0, 2);
  EXPECT_EQ(bytes(2)[99], device_.byte_of(kFileStart + 2));
  EXPECT_TRUE(std::all_of(bytes(2) + 100, bytes(2) + kPageSize, [](u8 b) { return b == 0; }));
  // A file that got shorter meanwhile.
  file_.mapping.size_bytes = 5 * kPageSize;
  start_read(4, 1);
  file_.mapping.size_bytes = 3 * kPageSize;
  device_.end_all();
  EXPECT_TRUE(std::all_of(bytes(4), bytes(4) + kPageSize, [](u8 b) { return b == 0; }));
}

TEST_F(PageTransfersTest, transfers_collide_where_one_of_two_writes) {
  EXPECT_FALSE(transfers().collides(IoOp::write, 0, kDevicePages));
  device_.bad = {kFileStart + 10, kFileStart + 13};
  start_read(10, 4);
  EXPECT_FALSE(transfers().collides(IoOp::read, kFileStart + 10, 4));
  EXPECT_TRUE(transfers().collides(IoOp::write, kFileStart + 13, 1));
  EXPECT_TRUE(transfers().collides(IoOp::write, kFileStart + 9, 2));
  EXPECT_FALSE(transfers().collides(IoOp::write, kFileStart + 9, 1));
  EXPECT_FALSE(transfers().collides(IoOp::write, kFileStart + 14, 1));
  // Page by page: those that are done are no longer in the way.
  device_.end(0);
  device_.end(0);
  EXPECT_FALSE(transfers().collides(IoOp::write, kFileStart + 10, 1));
  EXPECT_TRUE(transfers().collides(IoOp::write, kFileStart + 11, 1));
  EXPECT_TRUE(transfers().collides(IoOp::write, kFileStart + 13, 1));
  device_.end_all();
  ASSERT_EQ(cache().write_page(make_dirty(20, 1)), WriteOutcome::started);
  EXPECT_TRUE(transfers().collides(IoOp::read, kFileStart + 20, 1));
  EXPECT_FALSE(transfers().collides(IoOp::read, kFileStart + 21, 1));
  device_.end_all();
  EXPECT_FALSE(transfers().collides(IoOp::write, 0, kDevicePages));
}

TEST_F(PageTransfersTest, an_owner_counts_what_he_transfers_himself) {
  transfers().count(IoOp::read, kOk);
  transfers().count(IoOp::write, kOk);
  transfers().count(IoOp::write, Error::io);
  EXPECT_EQ(count(Counter::pgpgin), 1U);
  EXPECT_EQ(count(Counter::pgpgout), 1U);
}

TEST_F(PageTransfersTest, validate_notices_a_lost_request) {
  EXPECT_TRUE(transfers().validate());
  ++transfers().debug_in_flight();
  EXPECT_FALSE(transfers().validate());
  --transfers().debug_in_flight();
}

}  // namespace
}  // namespace spillway
