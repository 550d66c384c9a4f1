// Row 25 of the acceptance table: every protection against every access, on every kind of page.
// Method: a page of each kind is made, its protection changed to each value in turn, and each
// access tried. Refusals must be SIGSEGV with SEGV_ACCERR and change nothing; whatever the
// protection was, the contents are there when it is given back.
#include "system/rows_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kPage = RowsBed::kPage;

// What lies at the page when its protection changes.
enum class Kind : u8 {
  untouched,
  zero_page,
  written,
  copy_on_write,
  swapped,
  in_swap_cache,
  file_untouched,
  file_cached,
  file_copied,
  file_shared,
  shared_memory,
  shared_memory_swapped,
};
constexpr Kind kKinds[] = {Kind::untouched,      Kind::zero_page,     Kind::written,
                           Kind::copy_on_write,  Kind::swapped,       Kind::in_swap_cache,
                           Kind::file_untouched, Kind::file_cached,   Kind::file_copied,
                           Kind::file_shared,    Kind::shared_memory, Kind::shared_memory_swapped};

struct Made {
  u64 at;
  int first_byte;
};

struct ProtectRow {
  ProtectRow() : pid(bed.spawn()), fd(bed.make_file(pid, "data", 4)) {}
  Made make(Kind kind) {
    const u32 shared_anon = kMapShared | kMapAnonymous;
    switch (kind) {
      case Kind::untouched: return {bed.map(pid, 1), 0};
      case Kind::zero_page: {
        const u64 at = bed.map(pid, 1);
        EXPECT_EQ(bed.load(pid, at), 0);
        EXPECT_EQ(bed.entry(pid, at).kind, Pte::Kind::zero);
        return {at, 0};
      }
      case Kind::written: return {stored(bed.map(pid, 1)), 5};
      case Kind::copy_on_write: {
        const u64 at = stored(bed.map(pid, 1));
        bed.fork(pid);
        EXPECT_FALSE(bed.entry(pid, at).writable);
        return {at, 5};
      }
      case Kind::swapped: {
        const u64 at = stored(bed.map(pid, 1));
        bed.push_out(pid, at, 1);
        EXPECT_EQ(bed.entry(pid, at).kind, Pte::Kind::swapped);
        return {at, 5};
      }
      case Kind::in_swap_cache: {
        const u64 at = stored(bed.map(pid, 1));
        bed.push_out(pid, at, 1);
        EXPECT_EQ(bed.load(pid, at), 5);
        EXPECT_TRUE(bed.frame(pid, at).slot.valid());
        EXPECT_FALSE(bed.entry(pid, at).writable);
        return {at, 5};
      }
      case Kind::file_untouched: return {file(kMapPrivate), file_byte()};
      case Kind::file_cached: {
        const u64 at = file(kMapPrivate);
        EXPECT_EQ(bed.load(pid, at), file_byte());
        return {at, file_byte()};
      }
      case Kind::file_copied: return {stored(file(kMapPrivate)), 5};
      case Kind::file_shared: {
        const u64 at = file(kMapShared);
        EXPECT_EQ(bed.load(pid, at), file_byte());
        return {at, file_byte()};
      }
      case Kind::shared_memory: return {stored(bed.map(pid, 1, kProtRw, shared_anon)), 5};
      case Kind::shared_memory_swapped: {
        const u64 at = stored(bed.map(pid, 1, kProtRw, shared_anon));
        bed.push_out(pid, at, 1);
        EXPECT_EQ(bed.entry(pid, at).kind, Pte::Kind::none);
        return {at, 5};
      }
    }
    return {};
  }
  u64 stored(u64 at) {
    EXPECT_EQ(bed.store(pid, at, 5).signo, Signal::none);
    return at;
  }
  u64 file(u32 how) { return bed.mmap(pid, 0, 1, kProtRw, how, fd).value(); }
  int file_byte() const { return KernelBed::mark(pid, 0, 0); }
  void protect(u64 at, u32 prot) {
    ASSERT_TRUE(bed.wait_for([&] { return bed.kernel().mprotect(pid, at, kPage, prot); }).ok());
  }
  // Tries the access; the byte there afterwards must be `byte` unless a write went through.
  void try_access(const Made& page, u32 prot, Access how, int byte) {
    const bool allowed = how == Access::read    ? prot != kProtNone
                         : how == Access::write ? (prot & kProtWrite) != 0
                                                : (prot & kProtExec) != 0;
    const std::string before = bed.state(pid);
    u8 value = static_cast<u8>(byte);
    const SignalInfo signal = bed.access(pid, page.at, &value, 1, how);
    if (allowed) {
      EXPECT_EQ(signal.signo, Signal::none);
      EXPECT_EQ(value, byte);
      return;
    }
    EXPECT_EQ(signal.signo, Signal::segv);
    EXPECT_EQ(signal.code, kSegvAccerr);
    EXPECT_EQ(signal.addr.v, page.at);
    EXPECT_EQ(bed.state(pid), before);
  }
  RowsBed bed;
  Pid pid;
  i32 fd;
};

class RowsProtect : public testing::TestWithParam<Kind> {};
std::string kind_name(const testing::TestParamInfo<Kind>& param) {
  constexpr const char* kNames[] = {"untouched",      "zero_page",     "written",
                                    "copy_on_write",  "swapped",       "in_swap_cache",
                                    "file_untouched", "file_cached",   "file_copied",
                                    "file_shared",    "shared_memory", "shared_memory_swapped"};
  return kNames[static_cast<u32>(param.param)];
}
INSTANTIATE_TEST_SUITE_P(All, RowsProtect, testing::ValuesIn(kKinds), kind_name);

TEST_P(RowsProtect, row_25_every_protection_against_every_access) {
  for (u32 prot = 0; prot < 8; ++prot) {
    for (const Access how : {Access::read, Access::write, Access::exec}) {
      SCOPED_TRACE("prot " + std::to_string(prot) + " access " +
                   std::to_string(static_cast<u32>(how)));
      ProtectRow row;
      const Made page = row.make(GetParam());
      row.protect(page.at, prot);
      ASSERT_EQ(row.bed.quiet(), "");
      row.try_access(page, prot, how, page.first_byte);
      ASSERT_EQ(row.bed.quiet(), "");
      row.protect(page.at, kProtRw);
      EXPECT_EQ(row.bed.load(row.pid, page.at), page.first_byte);
      EXPECT_EQ(row.bed.store(row.pid, page.at, 123).signo, Signal::none);
      EXPECT_EQ(row.bed.load(row.pid, page.at), 123);
      ASSERT_EQ(row.bed.quiet(), "");
      // A private write never shows in the file, a shared one does.
      const bool shows = GetParam() == Kind::file_shared;
      const int in_file = row.bed.read_bytes(row.pid, row.fd, 0, 1).at(0);
      EXPECT_EQ(in_file, shows ? 123 : row.file_byte());
    }
  }
}

TEST_P(RowsProtect, row_25_no_right_at_all_keeps_the_page) {
  ProtectRow row;
  const Made page = row.make(GetParam());
  row.protect(page.at, kProtNone);
  // Neither fork nor reclaim nor locking minds that nobody may look.
  const Pid child = row.bed.fork(row.pid);
  row.bed.push_out(row.pid, page.at, 1);
  ASSERT_EQ(row.bed.quiet(), "");
  EXPECT_EQ(row.bed.load(row.pid, page.at), -1);
  EXPECT_EQ(row.bed.kernel().last_signal(row.pid).code, kSegvAccerr);
  row.protect(page.at, kProtRead);
  EXPECT_EQ(row.bed.load(row.pid, page.at), page.first_byte);
  ASSERT_TRUE(row.bed.kernel().mprotect(child, page.at, kPage, kProtRw).ok());
  EXPECT_EQ(row.bed.load(child, page.at), page.first_byte);
  EXPECT_EQ(row.bed.store(child, page.at, 124).signo, Signal::none);
  const bool shared = GetParam() == Kind::file_shared || GetParam() == Kind::shared_memory ||
                      GetParam() == Kind::shared_memory_swapped;
  EXPECT_EQ(row.bed.load(row.pid, page.at), shared ? 124 : page.first_byte);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsProtectCalls, row_25_a_new_mapping_has_its_protection_from_the_start) {
  for (u32 prot = 0; prot < 8; ++prot) {
    for (const Access how : {Access::read, Access::write, Access::exec}) {
      ProtectRow row;
      const u64 at = row.bed.map(row.pid, 1, prot);
      row.try_access({at, 0}, prot, how, 0);
      EXPECT_EQ(row.bed.quiet(), "");
    }
  }
}

TEST(RowsProtectCalls, row_25_a_hole_is_maperr_for_every_access) {
  ProtectRow row;
  const u64 at = row.bed.map(row.pid, 3);
  ASSERT_TRUE(row.bed.kernel().munmap(row.pid, at + kPage, kPage).ok());
  row.bed.kernel().set_stack_pointer(row.pid, VirtAddr(0));  // were it a stack, it could grow
  const std::string before = row.bed.state(row.pid);
  for (const Access how : {Access::read, Access::write, Access::exec}) {
    u8 value = 0;
    const SignalInfo signal = row.bed.access(row.pid, at + kPage + 9, &value, 1, how);
    EXPECT_EQ(signal.signo, Signal::segv);
    EXPECT_EQ(signal.code, kSegvMaperr);
    EXPECT_EQ(signal.addr.v, at + kPage + 9);
  }
  EXPECT_EQ(row.bed.state(row.pid), before);
  // A task that does not catch the signal dies of it.
  row.bed.kernel().set_catches(row.pid, false);
  EXPECT_EQ(row.bed.load(row.pid, at + kPage), -1);
  EXPECT_FALSE(row.bed.kernel().alive(row.pid));
  EXPECT_EQ(row.bed.kernel().reap(row.pid).value(), 128U + 11);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsProtectCalls, row_25_what_a_descriptor_does_not_allow_mprotect_does_not_grant) {
  ProtectRow row;
  const i32 readonly = row.bed.open(row.pid, "data", kOpenRead);
  const u64 at = row.bed.mmap(row.pid, 0, 1, kProtRead, kMapShared, readonly).value();
  const std::string before = row.bed.state(row.pid);
  EXPECT_EQ(row.bed.kernel().mprotect(row.pid, at, kPage, kProtRw).error(), Error::access);
  EXPECT_EQ(row.bed.state(row.pid), before);
  EXPECT_EQ(row.bed.mmap(row.pid, 0, 1, kProtRw, kMapShared, readonly).error(), Error::access);
  const u64 own = row.bed.mmap(row.pid, 0, 1, kProtRead, kMapPrivate, readonly).value();
  ASSERT_TRUE(row.bed.kernel().mprotect(row.pid, own, kPage, kProtRw).ok());
  EXPECT_EQ(row.bed.store(row.pid, own, 7).signo, Signal::none);
  EXPECT_EQ(row.bed.read_bytes(row.pid, row.fd, 0, 1).at(0), row.file_byte());
  const i32 writeonly = row.bed.open(row.pid, "data", kOpenWrite);
  EXPECT_EQ(row.bed.mmap(row.pid, 0, 1, kProtRead, kMapPrivate, writeonly).error(), Error::access);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsProtectCalls, row_25_refusals_of_mprotect_change_nothing) {
  ProtectRow row;
  const u64 at = row.bed.map(row.pid, 6);
  ASSERT_TRUE(row.bed.kernel().munmap(row.pid, at + 3 * kPage, kPage).ok());
  const std::string before = row.bed.state(row.pid);
  Kernel& kernel = row.bed.kernel();
  EXPECT_EQ(kernel.mprotect(row.pid, at + 1, kPage, kProtRead).error(), Error::invalid);
  EXPECT_EQ(kernel.mprotect(row.pid, at, kPage, 0x40).error(), Error::invalid);
  EXPECT_EQ(kernel.mprotect(row.pid, at, 6 * kPage, kProtRead).error(), Error::no_memory);
  EXPECT_EQ(kernel.mprotect(row.pid, at + 3 * kPage, kPage, kProtRead).error(), Error::no_memory);
  EXPECT_EQ(kernel.mprotect(row.pid, at, ~u64{0} - kPage, kProtRead).error(), Error::no_memory);
  EXPECT_EQ(kernel.mprotect(row.pid, at, 0, kProtRead).value(), 0U);
  EXPECT_EQ(row.bed.state(row.pid), before);
  EXPECT_EQ(row.bed.quiet(), "");
}

}  // namespace
}  // namespace spillway
