// Row 48 of the acceptance table: a file is truncated while it is mapped.
// Method: every kind of page that can lie beyond the new end is made first: cached, dirty in an
// entry only, private copies that are resident, swapped and locked. None may survive, none may be
// seen again when the file grows, and what lies before the end stays.
#include "system/rows_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kPage = RowsBed::kPage;
constexpr u64 kPages = 8;
constexpr u64 kCut = 3 * kPage + 100;  // page 3 is the last one, in part

struct TruncateRow {
  TruncateRow() : pid(bed.spawn()), other(bed.spawn("other")), fd(bed.make_file(pid, "data", 8)) {
    shared = bed.mmap(pid, 0, kPages, kProtRw, kMapShared, fd).value();
    own = bed.mmap(pid, 0, kPages, kProtRw, kMapPrivate, fd).value();
    its_fd = bed.open(other, "data", kOpenReadWrite);
    view = bed.mmap(other, 0, kPages, kProtRw, kMapShared, its_fd).value();
  }
  Result<u64> truncate(u64 size) {
    return bed.wait_for([&] { return bed.kernel().ftruncate(pid, fd, size); });
  }
  void bus(Pid who, u64 addr) {
    for (const Access how : {Access::read, Access::write}) {
      u8 value = 9;
      const SignalInfo signal = bed.access(who, addr, &value, 1, how);
      EXPECT_EQ(signal.signo, Signal::bus) << addr;
      EXPECT_EQ(signal.code, kBusAdrerr);
    }
  }
  int old(u64 page) const { return KernelBed::mark(pid, page, 0); }
  RowsBed bed;
  Pid pid, other;
  i32 fd, its_fd = -1;
  u64 shared = 0, own = 0, view = 0;
};

TEST(RowsTruncate, row_48_pages_beyond_the_end_are_gone_from_everywhere) {
  TruncateRow row;
  RowsBed& bed = row.bed;
  for (u64 i = 0; i < kPages; ++i) {
    ASSERT_EQ(bed.load(row.other, row.view + i * kPage), row.old(i));
    ASSERT_EQ(bed.load(row.pid, row.shared + i * kPage), row.old(i));
  }
  EXPECT_EQ(bed.store(row.other, row.view + 6 * kPage, 66).signo, Signal::none);  // dirty entry
  for (const u64 page : {1, 3, 5, 6, 7}) {                                        // private copies
    EXPECT_EQ(bed.store(row.pid, row.own + page * kPage + 200, 99).signo, Signal::none);
  }
  bed.push_out(row.pid, row.own + 6 * kPage, 1);
  ASSERT_EQ(bed.entry(row.pid, row.own + 6 * kPage).kind, Pte::Kind::swapped);
  EXPECT_TRUE(
      bed.wait_for([&] { return bed.kernel().mlock(row.pid, row.own + 7 * kPage, kPage); }).ok());
  EXPECT_EQ(bed.kernel().meminfo().anon_pages, 4U);
  EXPECT_EQ(bed.used_slots(), 1U);
  ASSERT_EQ(bed.quiet(), "");
  const u64 areas = bed.areas(row.pid).size();

  ASSERT_TRUE(row.truncate(kCut).ok());
  EXPECT_EQ(bed.quiet(), "");
  EXPECT_EQ(bed.kernel().file_size(row.pid, row.fd).value(), kCut);
  EXPECT_EQ(bed.file("data").cached, 4U);
  EXPECT_EQ(bed.kernel().meminfo().anon_pages, 2U);  // copies of pages 1 and 3
  EXPECT_EQ(bed.used_slots(), 0U);
  EXPECT_EQ(bed.areas(row.pid).size(), areas);  // the areas stay, and show nothing there
  for (u64 i = 4; i < kPages; ++i) {
    EXPECT_EQ(bed.entry(row.pid, row.own + i * kPage).kind, Pte::Kind::none);
    EXPECT_EQ(bed.entry(row.other, row.view + i * kPage).kind, Pte::Kind::none);
    row.bus(row.pid, row.shared + i * kPage);
    row.bus(row.pid, row.own + i * kPage);
    row.bus(row.other, row.view + i * kPage);
  }
  // Before the end all is as it was; behind it in the last page there are zeros, but for the
  // private copy, which is the file's no more.
  EXPECT_EQ(bed.load(row.other, row.view + kCut - 1), row.old(3));
  EXPECT_EQ(bed.load(row.other, row.view + kCut), 0);
  EXPECT_EQ(bed.load(row.pid, row.own + 3 * kPage + 200), 99);
  EXPECT_EQ(bed.load(row.pid, row.own + kPage + 200), 99);
  EXPECT_EQ(bed.quiet(), "");

  // Growing again shows zeros, whoever looks.
  ASSERT_TRUE(row.truncate(kPages * kPage).ok());
  for (u64 i = 4; i < kPages; ++i) {
    EXPECT_EQ(bed.load(row.pid, row.shared + i * kPage), 0);
    EXPECT_EQ(bed.load(row.pid, row.own + i * kPage + 200), 0);
    EXPECT_EQ(bed.load(row.other, row.view + i * kPage), 0);
  }
  EXPECT_EQ(bed.read_bytes(row.pid, row.fd, kCut, 5 * kPage),
            std::vector<u8>(kPages * kPage - kCut, 0));
  EXPECT_EQ(bed.quiet(), "");
}

TEST(RowsTruncate, row_48_to_nothing_and_back) {
  TruncateRow row;
  for (u64 i = 0; i < kPages; ++i) ASSERT_GE(row.bed.load(row.pid, row.shared + i * kPage), 0);
  ASSERT_TRUE(row.truncate(0).ok());
  EXPECT_EQ(row.bed.file("data").cached, 0U);
  row.bus(row.pid, row.shared);
  row.bus(row.other, row.view);
  EXPECT_EQ(row.bed.quiet(), "");
  ASSERT_TRUE(row.truncate(1).ok());
  EXPECT_EQ(row.bed.load(row.pid, row.shared), 0);
  EXPECT_EQ(row.bed.store(row.pid, row.shared, 7).signo, Signal::none);
  EXPECT_EQ(row.bed.read_bytes(row.other, row.its_fd, 0, 10), std::vector<u8>{7});
  row.bus(row.pid, row.shared + kPage);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsTruncate, row_48_an_area_that_shows_a_later_part_of_the_file) {
  TruncateRow row;
  const u64 part = row.bed.mmap(row.pid, 0, 3, kProtRw, kMapShared, row.fd, 4).value();
  const u64 across = row.bed.mmap(row.pid, 0, 4, kProtRw, kMapShared, row.fd, 2).value();
  for (u64 i = 0; i < 3; ++i) ASSERT_EQ(row.bed.load(row.pid, part + i * kPage), row.old(4 + i));
  for (u64 i = 0; i < 4; ++i) ASSERT_EQ(row.bed.load(row.pid, across + i * kPage), row.old(2 + i));
  ASSERT_TRUE(row.truncate(4 * kPage).ok());
  EXPECT_EQ(row.bed.quiet(), "");
  row.bus(row.pid, part);
  EXPECT_EQ(row.bed.load(row.pid, across + kPage), row.old(3));
  row.bus(row.pid, across + 2 * kPage);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsTruncate, row_48_pages_in_transfer_are_waited_for) {
  TruncateRow row;
  for (u64 i = 0; i < kPages; ++i) {
    ASSERT_EQ(row.bed.store(row.pid, row.shared + i * kPage, 1).signo, Signal::none);
  }
  ASSERT_EQ(row.bed.kernel().fsync(row.pid, row.fd).error(), Error::wait);  // writes in flight
  ASSERT_GT(row.bed.sim().pending(), 0U);
  EXPECT_EQ(row.bed.kernel().ftruncate(row.pid, row.fd, kCut).error(), Error::wait);
  EXPECT_EQ(row.bed.kernel().file_size(row.pid, row.fd).value(), kPages * kPage);
  ASSERT_TRUE(row.truncate(kCut).ok());
  EXPECT_EQ(row.bed.quiet(), "");
  row.bus(row.pid, row.shared + 4 * kPage);
  ASSERT_TRUE(row.truncate(kPages * kPage).ok());
  EXPECT_EQ(row.bed.load(row.pid, row.shared + 4 * kPage), 0);
  // The same with reads in flight.
  row.bed.make_cold(row.pid, row.fd, 4);
  u8 byte = 0;
  u64 done = 0;
  ASSERT_EQ(row.bed.kernel().pread(row.pid, row.fd, &byte, 1, 2 * kPage, &done).error(),
            Error::wait);
  EXPECT_EQ(row.bed.kernel().ftruncate(row.pid, row.fd, 0).error(), Error::wait);
  ASSERT_TRUE(row.truncate(0).ok());
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsTruncate, row_48_refusals) {
  TruncateRow row;
  Kernel& kernel = row.bed.kernel();
  const std::string before = row.bed.state(row.pid);
  const i32 readonly = row.bed.open(row.pid, "data", kOpenRead);
  EXPECT_EQ(kernel.ftruncate(row.pid, readonly, 0).error(), Error::invalid);
  EXPECT_EQ(kernel.ftruncate(row.pid, 17, 0).error(), Error::bad_fd);
  EXPECT_EQ(kernel.ftruncate(row.pid, -1, 0).error(), Error::bad_fd);
  EXPECT_EQ(kernel.ftruncate(row.pid, row.fd, u64{1} << 40).error(), Error::file_too_big);
  EXPECT_EQ(row.bed.state(row.pid), before);
  EXPECT_EQ(kernel.file_size(row.pid, row.fd).value(), kPages * kPage);
  EXPECT_EQ(row.bed.quiet(), "");
}

}  // namespace
}  // namespace spillway
