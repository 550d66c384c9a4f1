// Row 51 of the acceptance table: munmap, mprotect and mremap in the middle of areas.
// Method: areas are compared with what they must have been split into, page offsets included; a
// moved range holds pages of every kind, and frames and slots must be the very same afterwards.
#include "system/rows_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kPage = RowsBed::kPage;

struct AreaRow {
  explicit AreaRow(const KernelBedConfig& config = {})
      : bed(config), pid(bed.spawn()), fd(bed.make_file(pid, "data", 16)) {}
  // The process's areas but for its stack, as "start+pages:prot@offset", start in pages from `at`.
  std::string areas(u64 at) {
    std::ostringstream out;
    for (const AreaView& a : bed.areas(pid)) {
      if (a.growsdown) continue;
      out << (a.range.start.v - at / kPage) << "+" << a.range.pages().v << ":"
          << u32{static_cast<u8>(a.prot)};
      if (a.mapping != 0) out << "@" << a.pgoff;
      out << " ";
    }
    return out.str();
  }
  Result<u64> mremap(u64 at, u64 old_pages, u64 new_pages, u32 flags, u64 to = 0) {
    return bed.wait_for([&] {
      return bed.kernel().mremap(pid, at, old_pages * kPage, new_pages * kPage, flags, to);
    });
  }
  RowsBed bed;
  Pid pid;
  i32 fd;
};

TEST(RowsAreas, row_51_munmap_in_the_middle_splits) {
  AreaRow row;
  const u64 at = row.bed.mmap(row.pid, 0, 10, kProtRw, kMapShared, row.fd, 3).value();
  row.bed.fill(row.pid, at, 10);
  EXPECT_EQ(row.areas(at), "0+10:3@3 ");
  const u64 total = row.bed.task(row.pid).total_vm;
  ASSERT_TRUE(row.bed.kernel().munmap(row.pid, at + 4 * kPage, 2 * kPage).ok());
  EXPECT_EQ(row.areas(at), "0+4:3@3 6+4:3@9 ");
  EXPECT_EQ(row.bed.task(row.pid).total_vm, total - 2);
  EXPECT_EQ(row.bed.task(row.pid).rss, 8U);
  EXPECT_EQ(row.bed.load(row.pid, at + 5 * kPage), -1);
  EXPECT_EQ(row.bed.kernel().last_signal(row.pid).code, kSegvMaperr);
  EXPECT_EQ(row.bed.load(row.pid, at + 6 * kPage), KernelBed::mark(row.pid, 6, 0));
  // Head and tail cut no area in two; a hole may be unmapped once more.
  ASSERT_TRUE(row.bed.kernel().munmap(row.pid, at, kPage).ok());
  ASSERT_TRUE(row.bed.kernel().munmap(row.pid, at + 9 * kPage, 5 * kPage).ok());
  ASSERT_TRUE(row.bed.kernel().munmap(row.pid, at + 4 * kPage, 2 * kPage).ok());
  EXPECT_EQ(row.areas(at), "1+3:3@4 6+3:3@9 ");
  EXPECT_EQ(row.bed.quiet(), "");
  ASSERT_TRUE(row.bed.kernel().munmap(row.pid, at, 10 * kPage).ok());
  EXPECT_EQ(row.areas(at), "");
  EXPECT_EQ(row.bed.file("data").opens, 1U);  // the descriptor's
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsAreas, row_51_munmap_refusals) {
  KernelBedConfig config;
  config.kernel.map_count_max = 3;
  AreaRow row(config);
  const u64 at = row.bed.map(row.pid, 6);
  ASSERT_TRUE(row.bed.mmap(row.pid, at + 10 * kPage, 1, kProtRw, kPrivateAnon | kMapFixed).ok());
  row.bed.fill(row.pid, at, 6);
  const std::string before = row.bed.state(row.pid);
  Kernel& kernel = row.bed.kernel();
  EXPECT_EQ(kernel.munmap(row.pid, at + 1, kPage).error(), Error::invalid);
  EXPECT_EQ(kernel.munmap(row.pid, at, 0).error(), Error::invalid);
  EXPECT_EQ(kernel.munmap(row.pid, RowsBed::kStackTop, kPage).error(), Error::invalid);
  EXPECT_EQ(kernel.munmap(row.pid, at, ~u64{0} - kPage).error(), Error::invalid);
  // Three areas there are, the stack with them: a fourth may not be.
  EXPECT_EQ(kernel.munmap(row.pid, at + 2 * kPage, kPage).error(), Error::no_memory);
  EXPECT_EQ(row.bed.state(row.pid), before);
  EXPECT_TRUE(kernel.munmap(row.pid, at + 100 * kPage, kPage).ok());  // nothing is there
  EXPECT_EQ(row.bed.state(row.pid), before);
  EXPECT_TRUE(kernel.munmap(row.pid, at + 4 * kPage, 2 * kPage).ok());
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsAreas, row_51_mprotect_in_the_middle_splits_and_joins_again) {
  AreaRow row;
  for (const bool file : {false, true}) {
    const u64 at = file ? row.bed.mmap(row.pid, 0, 10, kProtRw, kMapPrivate, row.fd, 2).value()
                        : row.bed.map(row.pid, 10);
    row.bed.fill(row.pid, at, 10);
    const u64 total = row.bed.task(row.pid).total_vm;
    ASSERT_TRUE(row.bed.kernel().mprotect(row.pid, at + 3 * kPage, 4 * kPage, kProtRead).ok());
    EXPECT_EQ(row.areas(at), file ? "0+3:3@2 3+4:1@5 7+3:3@9 " : "0+3:3 3+4:1 7+3:3 ");
    EXPECT_EQ(row.bed.store(row.pid, at + 4 * kPage, 1).code, kSegvAccerr);
    EXPECT_EQ(row.bed.store(row.pid, at + 2 * kPage, 1).signo, Signal::none);
    EXPECT_EQ(row.bed.task(row.pid).rss, 10U);
    EXPECT_EQ(row.bed.task(row.pid).total_vm, total);
    EXPECT_EQ(row.bed.quiet(), "");
    ASSERT_TRUE(row.bed.kernel().mprotect(row.pid, at + 3 * kPage, 4 * kPage, kProtRw).ok());
    EXPECT_EQ(row.areas(at), file ? "0+10:3@2 " : "0+10:3 ");
    EXPECT_EQ(row.bed.load(row.pid, at + 4 * kPage), KernelBed::mark(row.pid, 4, 0));
    EXPECT_EQ(row.bed.quiet(), "");
    ASSERT_TRUE(row.bed.kernel().munmap(row.pid, at, 10 * kPage).ok());
  }
}

// One page of each kind in an area of eight: what an entry can be.
struct Mixed {
  explicit Mixed(AreaRow& row, u32 flags, i32 fd) {
    RowsBed& bed = row.bed;
    at = bed.mmap(row.pid, 0, 8, kProtRw, flags, fd).value();
    bed.fill(row.pid, at, 6);
    EXPECT_GE(bed.load(row.pid, at + 6 * kPage), 0);  // the zero page, or one of the file
    bed.push_out(row.pid, at + 2 * kPage, 2);         // 3 comes back: in slot and frame
    EXPECT_GE(bed.load(row.pid, at + 3 * kPage), 0);
    bed.settle();
    for (u64 i = 0; i < 7; ++i) bytes.push_back(bed.load(row.pid, at + i * kPage));
    bytes.push_back(fd < 0 ? 0 : KernelBed::mark(row.pid, 7, 0));  // never touched
    bed.push_out(row.pid, at + 2 * kPage, 1);
    bed.settle();
    for (u64 i = 0; i < 8; ++i) entries.push_back(bed.entry(row.pid, at + i * kPage));
  }
  u64 at;
  std::vector<PteView> entries;
  std::vector<int> bytes;
};

TEST(RowsAreas, row_51_mremap_moves_pages_of_every_kind_without_a_copy) {
  struct Case {
    u32 flags;
    bool file;
  };
  for (const Case& c : {Case{kPrivateAnon, false}, Case{kMapPrivate, true}, Case{kMapShared, true},
                        Case{kMapShared | kMapAnonymous, false}}) {
    for (const bool forked : {false, true}) {
      AreaRow row;
      const Mixed mixed(row, c.flags, c.file ? row.fd : -1);
      const Pid child = forked ? row.bed.fork(row.pid) : Pid{};
      const u64 to = mixed.at + (u64{1} << 28) + 5 * kPage;
      const MemInfo before = row.bed.kernel().meminfo();
      const TaskView task = row.bed.task(row.pid);
      const u64 copies = row.bed.count(Counter::pgcow);
      const u64 out = row.bed.count(Counter::pswpout);
      const u64 in = row.bed.count(Counter::pswpin);
      ASSERT_EQ(row.mremap(mixed.at, 8, 8, kMremapMaymove | kMremapFixed, to).value(), to);
      EXPECT_EQ(row.bed.quiet(), "");
      const MemInfo after = row.bed.kernel().meminfo();
      EXPECT_EQ(after.anon_pages, before.anon_pages);
      EXPECT_EQ(after.cached, before.cached);
      EXPECT_EQ(after.swap_free, before.swap_free);
      EXPECT_EQ(after.committed_as, before.committed_as);
      EXPECT_EQ(row.bed.task(row.pid).total_vm, task.total_vm);
      EXPECT_EQ(row.bed.task(row.pid).rss, task.rss);
      EXPECT_EQ(row.bed.task(row.pid).swap_entries, task.swap_entries);
      EXPECT_EQ(row.bed.count(Counter::pswpin), in);
      for (u64 i = 0; i < 8; ++i) {
        const PteView e = row.bed.entry(row.pid, to + i * kPage);
        // The zero page may be left behind: the next read maps it again.
        const bool zero = mixed.entries[i].kind == Pte::Kind::zero;
        EXPECT_TRUE(e.kind == mixed.entries[i].kind || (zero && e.kind == Pte::Kind::none)) << i;
        EXPECT_EQ(e.pfn, mixed.entries[i].pfn) << i;
        EXPECT_EQ(e.slot, mixed.entries[i].slot) << i;
        EXPECT_EQ(row.bed.entry(row.pid, mixed.at + i * kPage).kind, Pte::Kind::none) << i;
      }
      for (u64 i = 0; i < 8; ++i) {
        EXPECT_EQ(row.bed.load(row.pid, to + i * kPage), mixed.bytes[i]) << i;
        const SignalInfo gone = row.bed.store(row.pid, mixed.at + i * kPage, 1);
        EXPECT_EQ(gone.code, kSegvMaperr);
        if (forked) {
          EXPECT_EQ(row.bed.load(child, mixed.at + i * kPage), mixed.bytes[i]) << i;
        }
      }
      EXPECT_EQ(row.bed.count(Counter::pgcow), copies);
      EXPECT_EQ(row.bed.count(Counter::pswpout), out);
      EXPECT_EQ(row.bed.quiet(), "");
    }
  }
}

TEST(RowsAreas, row_51_mremap_of_the_middle_of_an_area) {
  AreaRow row;
  const u64 at = row.bed.mmap(row.pid, 0, 10, kProtRw, kMapShared, row.fd, 1).value();
  row.bed.fill(row.pid, at, 10);
  const u64 to = at + 100 * kPage;
  // Moved and grown: the part of the file that follows is behind it.
  ASSERT_EQ(row.mremap(at + 4 * kPage, 2, 4, kMremapMaymove | kMremapFixed, to).value(), to);
  EXPECT_EQ(row.areas(at), "0+4:3@1 6+4:3@7 100+4:3@5 ");
  EXPECT_EQ(row.bed.load(row.pid, to), KernelBed::mark(row.pid, 4, 0));
  EXPECT_EQ(row.bed.load(row.pid, to + 3 * kPage), KernelBed::mark(row.pid, 7, 0));
  EXPECT_EQ(row.bed.entry(row.pid, to + 3 * kPage).pfn, row.bed.entry(row.pid, at + 7 * kPage).pfn);
  EXPECT_EQ(row.bed.quiet(), "");
  // A fixed place that is taken is emptied first.
  ASSERT_EQ(row.mremap(at, 1, 1, kMremapMaymove | kMremapFixed, to + kPage).value(), to + kPage);
  EXPECT_EQ(row.areas(at), "1+3:3@2 6+4:3@7 100+1:3@5 101+1:3@1 102+2:3@7 ");
  EXPECT_EQ(row.bed.load(row.pid, to + kPage), KernelBed::mark(row.pid, 0, 0));
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsAreas, row_51_mremap_grows_in_place_or_moves_or_shrinks) {
  AreaRow row;
  const u64 at = row.bed.map(row.pid, 4);
  row.bed.fill(row.pid, at, 4);
  ASSERT_EQ(row.mremap(at, 4, 8, 0).value(), at);
  EXPECT_EQ(row.areas(at), "0+8:3 ");
  EXPECT_EQ(row.bed.load(row.pid, at + 7 * kPage), 0);
  ASSERT_TRUE(row.bed.mmap(row.pid, at + 8 * kPage, 1, kProtRead, kPrivateAnon | kMapFixed).ok());
  const std::string before = row.bed.state(row.pid);
  EXPECT_EQ(row.mremap(at, 8, 9, 0).error(), Error::no_memory);
  EXPECT_EQ(row.bed.state(row.pid), before);
  const u64 moved = row.mremap(at, 8, 9, kMremapMaymove).value();
  EXPECT_NE(moved, at);
  EXPECT_TRUE(row.bed.holds(row.pid, moved, 4));
  EXPECT_EQ(row.bed.quiet(), "");
  ASSERT_EQ(row.mremap(moved, 9, 3, 0).value(), moved);
  EXPECT_EQ(row.bed.task(row.pid).rss, 3U);
  EXPECT_EQ(row.bed.load(row.pid, moved + 3 * kPage), -1);
  EXPECT_TRUE(row.bed.holds(row.pid, moved, 3));
  ASSERT_EQ(row.mremap(moved, 3, 3, 0).value(), moved);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsAreas, row_51_mremap_refusals_change_nothing) {
  AreaRow row;
  const u64 at = row.bed.map(row.pid, 6);
  row.bed.fill(row.pid, at, 6);
  ASSERT_TRUE(row.bed.kernel().munmap(row.pid, at + 3 * kPage, kPage).ok());
  Kernel& kernel = row.bed.kernel();
  const u64 far = at + 100 * kPage;
  const auto limit = [&](Limit which, u64 pages) {
    kernel.set_limit(row.pid, which, pages * kPage);
  };
  const std::string before = row.bed.state(row.pid);
  const u64 total = row.bed.task(row.pid).total_vm;
  EXPECT_EQ(kernel.mremap(row.pid, at + 1, kPage, kPage, 0, 0).error(), Error::invalid);
  EXPECT_EQ(row.mremap(at, 1, 1, 8).error(), Error::invalid);
  EXPECT_EQ(row.mremap(at, 1, 1, kMremapFixed, far).error(), Error::invalid);
  EXPECT_EQ(row.mremap(at, 1, 1, kMremapFixed | kMremapMaymove, far + 1).error(), Error::invalid);
  EXPECT_EQ(row.mremap(at, 3, 3, kMremapFixed | kMremapMaymove, at + 2 * kPage).error(),
            Error::invalid);
  EXPECT_EQ(row.mremap(at, 1, 0, 0).error(), Error::invalid);
  EXPECT_EQ(row.mremap(at, 6, 6, kMremapFixed | kMremapMaymove, far).error(), Error::fault);
  EXPECT_EQ(row.mremap(at + 3 * kPage, 1, 1, 0).error(), Error::fault);
  EXPECT_EQ(row.mremap(at, 4, 5, kMremapMaymove).error(), Error::fault);
  limit(Limit::as, total + 3);
  EXPECT_EQ(row.mremap(at + 4 * kPage, 2, 6, 0).error(), Error::no_memory);
  EXPECT_EQ(row.mremap(at, 3, 7, kMremapMaymove).error(), Error::no_memory);
  kernel.set_limit(row.pid, Limit::as, kUnlimited);
  EXPECT_EQ(row.mremap(at + 4 * kPage, 2, 1 << 18, kMremapMaymove).error(), Error::no_memory);
  EXPECT_EQ(row.bed.state(row.pid), before);
  // The place of a fixed move keeps what it has when the call is refused.
  ASSERT_TRUE(row.bed.wait_for([&] { return kernel.mlock(row.pid, at, 3 * kPage); }).ok());
  limit(Limit::memlock, 4);
  const std::string locked = row.bed.state(row.pid);
  EXPECT_EQ(row.mremap(at, 3, 5, kMremapMaymove).error(), Error::again);
  EXPECT_EQ(row.mremap(at, 3, 5, kMremapMaymove | kMremapFixed, at + 4 * kPage).error(),
            Error::again);
  EXPECT_EQ(row.bed.state(row.pid), locked);
  const u64 moved = row.mremap(at, 3, 4, kMremapMaymove).value();
  EXPECT_EQ(row.bed.task(row.pid).locked_vm, 4U);
  EXPECT_EQ(row.bed.frame(row.pid, moved + 3 * kPage).queue, PageQueue::locked);  // populated
  EXPECT_TRUE(row.bed.holds(row.pid, moved, 3));
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsAreas, row_51_what_nobody_may_touch_moves_as_well) {
  AreaRow row;
  const Mixed mixed(row, kPrivateAnon, -1);
  ASSERT_TRUE(row.bed.kernel().mprotect(row.pid, mixed.at, 8 * kPage, kProtNone).ok());
  const u64 to = mixed.at + 1000 * kPage;
  ASSERT_EQ(row.mremap(mixed.at, 8, 8, kMremapMaymove | kMremapFixed, to).value(), to);
  EXPECT_EQ(row.bed.quiet(), "");
  EXPECT_EQ(row.bed.load(row.pid, to), -1);
  ASSERT_TRUE(row.bed.kernel().mprotect(row.pid, to, 8 * kPage, kProtRw).ok());
  for (u64 i = 0; i < 8; ++i) EXPECT_EQ(row.bed.load(row.pid, to + i * kPage), mixed.bytes[i]);
  EXPECT_EQ(row.bed.quiet(), "");
}

}  // namespace
}  // namespace spillway
