// Rows 45-47, 49 and 50 of the acceptance table: contents of mapped files.
// Method: one file seen through mappings, through read(2) and as its blocks on the device, which
// must say the same; what is read ahead and what is written is counted.
#include "system/rows_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kPage = RowsBed::kPage;

struct FileRow {
  explicit FileRow(u64 pages, const KernelBedConfig& config = {})
      : bed(config), pid(bed.spawn()), fd(bed.make_file(pid, "data", pages)) {}
  u64 map(Pid who, u64 pages, u32 how, u32 prot = kProtRw) {
    const i32 its = who == pid ? fd : bed.open(who, "data", kOpenReadWrite);
    return bed.mmap(who, 0, pages, prot, how, its).value();
  }
  void sync(Pid who, u64 at, u64 pages) {
    EXPECT_TRUE(
        bed.wait_for([&] { return bed.kernel().msync(who, at, pages * kPage, kMsSync); }).ok());
  }
  // A byte of the file as the device has it; the first file begins at block 0.
  u8 on_device(u64 offset) {
    const u8* page = bed.sim().block(0).stored(offset / kPage);
    return page == nullptr ? u8{0} : page[offset % kPage];
  }
  u8 by_read(u64 offset) { return bed.read_bytes(pid, fd, offset, 1).at(0); }
  RowsBed bed;
  Pid pid;
  i32 fd;
};

TEST(RowsFile, row_45_a_shared_mapping_written_synced_and_read) {
  FileRow row(8);
  const u64 at = row.map(row.pid, 8, kMapShared);
  const Pid other = row.bed.spawn("other");
  const u64 its = row.map(other, 8, kMapShared);
  EXPECT_EQ(row.bed.store(row.pid, at + 3 * kPage + 5, 99).signo, Signal::none);
  // Two mappers, one frame; read(2) sees it before it is written.
  EXPECT_EQ(row.bed.load(other, its + 3 * kPage + 5), 99);
  EXPECT_EQ(row.bed.entry(row.pid, at + 3 * kPage).pfn, row.bed.entry(other, its + 3 * kPage).pfn);
  EXPECT_EQ(row.bed.frame(row.pid, at + 3 * kPage).mapcount, 2U);
  EXPECT_EQ(row.bed.frame(row.pid, at + 3 * kPage).count, 3U);  // the cache's reference
  EXPECT_EQ(row.by_read(3 * kPage + 5), 99);
  EXPECT_NE(row.on_device(3 * kPage + 5), 99);
  // The other's dirty bits count too, whoever syncs.
  EXPECT_EQ(row.bed.store(other, its + 4 * kPage, 98).signo, Signal::none);
  const u64 written = row.bed.count(Counter::pgpgout);
  row.sync(row.pid, at, 8);
  EXPECT_EQ(row.bed.count(Counter::pgpgout), written + 2);
  EXPECT_EQ(row.bed.kernel().meminfo().dirty, 0U);
  EXPECT_EQ(row.bed.file("data").dirty, 0U);
  EXPECT_EQ(row.on_device(3 * kPage + 5), 99);
  EXPECT_EQ(row.on_device(3 * kPage + 6), KernelBed::mark(row.pid, 3, 0));
  EXPECT_EQ(row.on_device(4 * kPage), 98);
  row.sync(row.pid, at, 8);
  EXPECT_EQ(row.bed.count(Counter::pgpgout), written + 2);  // nothing is dirty
  // A write after the sync makes it dirty again.
  EXPECT_EQ(row.bed.store(row.pid, at + 3 * kPage + 5, 97).signo, Signal::none);
  row.sync(row.pid, at, 8);
  EXPECT_EQ(row.on_device(3 * kPage + 5), 97);
  EXPECT_EQ(row.bed.quiet(), "");
}

// The other process stores to all pages again after each end of an I/O.
TEST(RowsFile, row_45_msync_and_fsync_end_while_others_dirty_the_pages_again) {
  constexpr u64 kPages = 8;
  FileRow row(kPages);
  const u64 at = row.map(row.pid, kPages, kMapShared);
  const Pid other = row.bed.spawn("other");
  const u64 its = row.map(other, kPages, kMapShared);
  u8 value = 100;
  const auto store_all = [&] {
    ++value;
    for (u64 i = 0; i < kPages; ++i) {
      EXPECT_EQ(row.bed.store(other, its + i * kPage, value).signo, Signal::none);
    }
  };
  const auto drive = [&](auto call) {
    for (u64 round = 0; round < 3 * kPages; ++round) {
      const Result<u64> result = call();
      if (result.ok() || result.error() != Error::wait) return result;
      EXPECT_TRUE(row.bed.sim().complete_one());
      store_all();
    }
    return Result<u64>(Error::wait);
  };
  for (u32 times = 0; times < 6; ++times) {
    store_all();
    const u8 wanted = value;
    SyncProgress progress;
    const Result<u64> ended = drive([&] {
      return times % 2 == 0
                 ? row.bed.kernel().fsync(row.pid, row.fd, &progress)
                 : row.bed.kernel().msync(row.pid, at, kPages * kPage, kMsSync, &progress);
    });
    EXPECT_TRUE(ended.ok()) << name_of(ended.error());
    for (u64 i = 0; i < kPages; ++i) EXPECT_GE(row.on_device(i * kPage), wanted) << "page " << i;
    EXPECT_NE(row.on_device(0), value) << "stored again meanwhile";
  }
  // Two areas, each of which has its turn; what is missing between them is told at the end.
  ASSERT_TRUE(row.bed.kernel().munmap(row.pid, at + 3 * kPage, kPage).ok());
  store_all();
  const u8 wanted = value;
  SyncProgress progress;
  const Result<u64> ended = drive(
      [&] { return row.bed.kernel().msync(row.pid, at, kPages * kPage, kMsSync, &progress); });
  EXPECT_EQ(ended.error(), Error::no_memory);
  EXPECT_EQ(progress.done, 0U) << "fresh for the next one";
  for (u64 i = 0; i < kPages; ++i) {
    if (i != 3) {
      EXPECT_GE(row.on_device(i * kPage), wanted) << "page " << i;
    }
  }
  row.sync(other, its, kPages);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsFile, row_45_asynchronous_msync_starts_nothing_and_loses_nothing) {
  FileRow row(2);
  const u64 at = row.map(row.pid, 2, kMapShared);
  EXPECT_EQ(row.bed.store(row.pid, at, 99).signo, Signal::none);
  EXPECT_TRUE(row.bed.kernel().msync(row.pid, at, 2 * kPage, kMsAsync).ok());
  EXPECT_EQ(row.bed.sim().pending(), 0U);
  EXPECT_EQ(row.bed.kernel().munmap(row.pid, at, 2 * kPage).value(), 0U);
  EXPECT_EQ(row.bed.file("data").dirty, 1U);  // the entry's dirty bit went to the page
  EXPECT_TRUE(row.bed.wait_for([&] { return row.bed.kernel().fsync(row.pid, row.fd); }).ok());
  EXPECT_EQ(row.on_device(0), 99);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsFile, row_45_errors_of_msync) {
  FileRow row(2);
  const u64 at = row.map(row.pid, 2, kMapShared);
  Kernel& kernel = row.bed.kernel();
  EXPECT_EQ(kernel.msync(row.pid, at + 1, kPage, kMsSync).error(), Error::invalid);
  EXPECT_EQ(kernel.msync(row.pid, at, kPage, kMsSync | kMsAsync).error(), Error::invalid);
  EXPECT_EQ(kernel.msync(row.pid, at, kPage, 8).error(), Error::invalid);
  EXPECT_EQ(kernel.msync(row.pid, at, 0, kMsSync).value(), 0U);
  EXPECT_EQ(row.bed.store(row.pid, at, 99).signo, Signal::none);
  // A hole is told of after the rest has been written.
  EXPECT_EQ(row.bed.wait_for([&] { return kernel.msync(row.pid, at, 3 * kPage, kMsSync); }).error(),
            Error::no_memory);
  EXPECT_EQ(row.on_device(0), 99);
  ASSERT_TRUE(row.bed.wait_for([&] { return kernel.mlock(row.pid, at, kPage); }).ok());
  EXPECT_EQ(kernel.msync(row.pid, at, kPage, kMsInvalidate).error(), Error::busy);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsFile, row_46_a_private_mapping_leaves_the_file_alone) {
  FileRow row(4);
  const u64 at = row.map(row.pid, 4, kMapPrivate);
  const Pid other = row.bed.spawn("other");
  const u64 its = row.map(other, 4, kMapPrivate);
  const u8 old = KernelBed::mark(row.pid, 2, 0);
  EXPECT_EQ(row.bed.load(other, its + 2 * kPage), old);
  EXPECT_EQ(row.bed.load(row.pid, at + kPage), KernelBed::mark(row.pid, 1, 0));
  const u64 anon = row.bed.kernel().meminfo().anon_pages;
  EXPECT_EQ(row.bed.store(row.pid, at + 2 * kPage, 99).signo, Signal::none);  // never mapped here
  EXPECT_EQ(row.bed.store(row.pid, at + kPage, 98).signo, Signal::none);      // mapped read-only
  EXPECT_EQ(row.bed.kernel().meminfo().anon_pages, anon + 2);
  EXPECT_EQ(row.bed.load(row.pid, at + 2 * kPage), 99);
  EXPECT_EQ(row.bed.load(row.pid, at + 2 * kPage + 1), old);
  EXPECT_EQ(row.bed.load(other, its + 2 * kPage), old);
  EXPECT_EQ(row.by_read(2 * kPage), old);
  row.sync(row.pid, at, 4);
  EXPECT_EQ(row.bed.file("data").dirty, 0U);
  EXPECT_EQ(row.on_device(2 * kPage), old);
  // What the file gets later shows where there is no copy yet, and nowhere else.
  row.bed.write_bytes(row.pid, row.fd, 0, std::vector<u8>(4 * kPage, 55));
  EXPECT_EQ(row.bed.load(other, its + 2 * kPage), 55);
  EXPECT_EQ(row.bed.load(row.pid, at), 55);
  EXPECT_EQ(row.bed.load(row.pid, at + 2 * kPage), 99);
  EXPECT_EQ(row.bed.quiet(), "");
  // The copy is anonymous from birth: it goes to swap, and never to the file.
  row.bed.push_out(row.pid, at + 2 * kPage, 1);
  EXPECT_EQ(row.bed.entry(row.pid, at + 2 * kPage).kind, Pte::Kind::swapped);
  EXPECT_EQ(row.bed.used_slots(), 1U);
  EXPECT_EQ(row.bed.load(row.pid, at + 2 * kPage), 99);
  EXPECT_EQ(row.by_read(2 * kPage), 55);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsFile, row_47_the_tail_of_the_last_page_and_beyond) {
  FileRow row(3);
  constexpr u64 kSize = 2 * kPage + 100;
  ASSERT_TRUE(
      row.bed.wait_for([&] { return row.bed.kernel().ftruncate(row.pid, row.fd, kSize); }).ok());
  const u64 at = row.map(row.pid, 5, kMapShared);
  EXPECT_EQ(row.bed.load(row.pid, at + kSize - 1), KernelBed::mark(row.pid, 2, 0));
  std::vector<u8> tail(kPage - 100, 1);
  row.bed.access(row.pid, at + kSize, tail.data(), tail.size(), Access::read);
  EXPECT_EQ(tail, std::vector<u8>(kPage - 100, 0));
  // Writes there are seen by nobody else and do not reach the file.
  EXPECT_EQ(row.bed.store(row.pid, at + kSize, 77).signo, Signal::none);
  EXPECT_EQ(row.bed.store(row.pid, at + kSize - 1, 78).signo, Signal::none);
  EXPECT_TRUE(row.bed.read_bytes(row.pid, row.fd, kSize, 10).empty());
  row.sync(row.pid, at, 3);
  EXPECT_EQ(row.on_device(kSize), 0);
  EXPECT_EQ(row.on_device(kSize - 1), 78);
  EXPECT_EQ(row.bed.kernel().file_size(row.pid, row.fd).value(), kSize);
  // Nor do they come to light when the file grows.
  EXPECT_EQ(row.bed.store(row.pid, at + kSize + 1, 79).signo, Signal::none);
  row.bed.write_bytes(row.pid, row.fd, kSize + 10, {5});
  EXPECT_EQ(row.by_read(kSize), 0);
  EXPECT_EQ(row.by_read(kSize + 1), 0);
  EXPECT_EQ(row.by_read(kSize + 10), 5);
  EXPECT_EQ(row.bed.load(row.pid, at + kSize + 1), 0);
  // Whole pages beyond the end: SIGBUS, for every access, and nothing changes.
  const std::string before = row.bed.state(row.pid);
  for (const Access how : {Access::read, Access::write}) {
    u8 value = 1;
    const SignalInfo signal = row.bed.access(row.pid, at + 3 * kPage + 7, &value, 1, how);
    EXPECT_EQ(signal.signo, Signal::bus);
    EXPECT_EQ(signal.code, kBusAdrerr);
    EXPECT_EQ(signal.addr.v, at + 3 * kPage + 7);
  }
  const u64 own = row.map(row.pid, 5, kMapPrivate);
  EXPECT_EQ(row.bed.store(row.pid, own + 4 * kPage, 1).signo, Signal::bus);
  ASSERT_TRUE(row.bed.kernel().munmap(row.pid, own, 5 * kPage).ok());
  EXPECT_EQ(row.bed.state(row.pid), before);
  EXPECT_EQ(row.bed.quiet(), "");
}

struct Advised {
  u64 touched;
  i32 hint;
  u64 first, pages;  // that must have been read
};

TEST(RowsFile, row_49_one_page_with_the_random_hint_and_one_cluster_without) {
  constexpr u64 kPages = 61;
  constexpr i32 kNormal = 0, kRandom = 1;
  for (const Advised& a : {Advised{21, kNormal, 16, 8}, Advised{21, kRandom, 21, 1},
                           Advised{0, kNormal, 0, 8}, Advised{60, kNormal, 56, 5}}) {
    FileRow row(kPages);
    row.bed.make_cold(row.pid, row.fd, kPages);
    ASSERT_EQ(row.bed.file("data").cached, 0U);
    const u64 at = row.map(row.pid, kPages, kMapShared);
    ASSERT_TRUE(row.bed.kernel().madvise(row.pid, at, kPages * kPage, a.hint).ok());
    const u64 read = row.bed.count(Counter::pgpgin);
    const TaskView before = row.bed.task(row.pid);
    EXPECT_EQ(row.bed.load(row.pid, at + a.touched * kPage),
              KernelBed::mark(row.pid, a.touched, 0));
    row.bed.settle();
    EXPECT_EQ(row.bed.count(Counter::pgpgin), read + a.pages);
    EXPECT_EQ(row.bed.file("data").cached, a.pages);
    std::vector<u8> in_core(kPages);
    ASSERT_TRUE(row.bed.kernel().mincore(row.pid, at, kPages * kPage, in_core.data()).ok());
    for (u64 i = 0; i < kPages; ++i) {
      EXPECT_EQ(in_core[i] != 0, a.first <= i && i < a.first + a.pages) << i;
    }
    EXPECT_EQ(row.bed.task(row.pid).rss, before.rss + 1);
    EXPECT_EQ(row.bed.task(row.pid).maj_flt, before.maj_flt + 1);
    // Its neighbours are a minor fault away, its cluster's successor is not.
    if (a.hint == kNormal && a.touched == 21) {
      EXPECT_GE(row.bed.load(row.pid, at + 22 * kPage), 0);
      EXPECT_EQ(row.bed.task(row.pid).maj_flt, before.maj_flt + 1);
      EXPECT_EQ(row.bed.task(row.pid).min_flt, before.min_flt + 1);
      EXPECT_GE(row.bed.load(row.pid, at + 24 * kPage), 0);
      EXPECT_EQ(row.bed.task(row.pid).maj_flt, before.maj_flt + 2);
    }
    EXPECT_EQ(row.bed.quiet(), "");
  }
}

class RowsFileAgeing : public testing::TestWithParam<Policy> {};
INSTANTIATE_TEST_SUITE_P(All, RowsFileAgeing, testing::ValuesIn(kRowPolicies), policy_name);

TEST_P(RowsFileAgeing, row_50_clean_file_pages_are_dropped_without_a_write) {
  KernelBedConfig config;
  config.frames = 256;
  config.policy = GetParam();
  constexpr u64 kPages = 400;
  for (const bool mapped : {false, true}) {
    FileRow row(kPages, config);
    // Its kernel stack is a pair of frames, which is another story: it is there before.
    const Pid hog = row.bed.spawn("hog");
    const u64 at = row.map(row.pid, kPages, kMapShared, kProtRead);
    for (u64 i = 0; i < kPages; ++i) {
      const u8 wanted = KernelBed::mark(row.pid, i, 0);
      ASSERT_EQ(mapped ? row.bed.load(row.pid, at + i * kPage) : row.by_read(i * kPage), wanted);
    }
    row.bed.settle();
    // The file has not been used for a while.
    for (u32 i = 0; i < 5 * 64; ++i) row.bed.kernel().age();
    ASSERT_EQ(row.bed.quiet(), "");
    const MemInfo full = row.bed.kernel().meminfo();
    EXPECT_LT(full.mem_free, 64U);
    EXPECT_GT(full.cached, 150U);
    EXPECT_EQ(full.dirty, 0U);
    const u64 to_files = row.bed.count(Counter::pgpgout);
    const u64 to_swap = row.bed.count(Counter::pswpout);
    row.bed.fill(hog, row.bed.map(hog, 100), 100);
    EXPECT_EQ(row.bed.count(Counter::pgpgout), to_files);
    EXPECT_EQ(row.bed.count(Counter::pswpout), to_swap);
    EXPECT_EQ(row.bed.kernel().meminfo().anon_pages, 100U);
    EXPECT_LT(row.bed.kernel().meminfo().cached, full.cached);
    for (u64 i = 0; i < kPages; ++i) {
      const u8 wanted = KernelBed::mark(row.pid, i, 0);
      ASSERT_EQ(mapped ? row.bed.load(row.pid, at + i * kPage) : row.by_read(i * kPage), wanted);
    }
    EXPECT_EQ(row.bed.count(Counter::pgpgout), to_files);
    EXPECT_EQ(row.bed.quiet(), "");
  }
}

TEST_P(RowsFileAgeing, dirty_pages_of_a_shared_mapping_are_written_before_their_frames_go) {
  KernelBedConfig config;
  config.frames = 256;
  config.policy = GetParam();
  FileRow row(400, config);
  const u64 at = row.map(row.pid, 400, kMapShared);
  row.bed.fill(row.pid, at, 400, 1);
  EXPECT_EQ(row.bed.quiet(), "");
  EXPECT_TRUE(row.bed.holds(row.pid, at, 400, 1));
  for (u64 i = 0; i < 400; ++i) {
    ASSERT_EQ(row.by_read(i * kPage + 9), KernelBed::mark(row.pid, i, 1)) << i;
  }
  EXPECT_EQ(row.bed.quiet(), "");
}

}  // namespace
}  // namespace spillway
