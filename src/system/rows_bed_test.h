// RowsBed: a KernelBed with what the rows of the acceptance table are checked by: the state of a
// process as text, so that "unchanged" is one comparison, and the quiescent check after a row.
#pragma once

#include <sstream>

#include "page/buddy.h"
#include "system/kernel_bed_test.h"
#include "system/kernel_impl.h"

namespace spillway {

// Rows that do not depend on ages hold under each of these.
inline constexpr Policy kRowPolicies[] = {Policy::three_queue, Policy::two_list, Policy::linux24};
inline std::string policy_name(const testing::TestParamInfo<Policy>& info) {
  switch (info.param) {
    case Policy::three_queue: return "three_queue";
    case Policy::linux24: return "linux24";
    case Policy::two_list: return "two_list";
  }
  return "?";
}

inline constexpr u32 kProtNone = 0, kProtRead = 1, kProtWrite = 2, kProtRw = 3, kProtExec = 4;
inline constexpr u32 kPrivateAnon = kMapPrivate | kMapAnonymous;

class RowsBed : public KernelBed {
 public:
  static constexpr u64 kStackTop = u64{3} << 30;  // layout classic
  static constexpr u64 kPage = kPageSize;

  explicit RowsBed(const KernelBedConfig& config = {}) : KernelBed(config) {
    // Caches that keep an empty slab in reserve have it from now on, so that frames can be counted.
    const Pid first = spawn("first");
    const Pid child = fork(first);
    EXPECT_EQ(store(first, kernel().stack_pointer(first).v - 1, 1).signo, Signal::none);
    kernel().exit(child, 0);
    kernel().exit(first, 0);
    EXPECT_TRUE(kernel().reap(child).ok());
    EXPECT_TRUE(kernel().reap(first).ok());
  }

  // "" if, with nothing in flight, every invariant holds and the machine agrees with the tables.
  std::string quiet() {
    settle();
    const std::string broken = audit();
    return broken.empty() ? sim().mmu().mirror_difference() : broken;
  }

  // What a refused call leaves as it was: areas, totals, frames, slots and promises.
  std::string state(Pid pid) {
    std::ostringstream out;
    out << std::hex;
    for (const AreaView& a : areas(pid)) {
      out << a.range.start.v << "-" << a.range.end.v << " prot " << u32{static_cast<u8>(a.prot)}
          << " shared " << a.shared << " down " << a.growsdown << " locked " << a.locked << " off "
          << a.pgoff << " of " << a.mapping << " rss " << a.rss << " swap " << a.swap << "\n";
    }
    const TaskView t = task(pid);
    out << "vm " << t.total_vm << " locked " << t.locked_vm << " rss " << t.rss << " swap "
        << t.swap_entries << " tables " << t.page_tables << " brk " << t.brk.v << "\n";
    const MemInfo m = kernel().meminfo();
    out << "free " << m.mem_free << " committed " << m.committed_as << " cached " << m.cached
        << " anon " << m.anon_pages << " swap free " << m.swap_free << "\n";
    return out.str();
  }

  PageAllocator& allocator() { return kernel().impl_.sys.allocator; }

  Pid fork(Pid pid) {
    const Pid child = wait_for([&] { return kernel().fork(pid); }).value();
    kernel().set_catches(child, true);
    return child;
  }
  Result<u64> mmap(Pid pid, u64 addr, u64 pages, u32 prot, u32 flags, i32 fd = -1, u64 page = 0) {
    return wait_for(
        [&] { return kernel().mmap(pid, addr, pages * kPage, prot, flags, fd, page * kPage); });
  }
  i32 open(Pid pid, const char* path, u32 flags) {
    return static_cast<i32>(kernel().open(pid, path, flags).value());
  }
  // A file of so many pages with the bytes of mark(owner, page, round), written out; its
  // descriptor.
  i32 make_file(Pid owner, const char* path, u64 pages, u64 round = 0) {
    EXPECT_TRUE(kernel().create_file(path, 0, (pages + 16) * kPage).ok());
    const i32 fd = open(owner, path, kOpenReadWrite);
    for (u64 i = 0; i < pages; ++i) {
      write_bytes(owner, fd, i * kPage, std::vector<u8>(kPage, mark(owner, i, round)));
    }
    EXPECT_TRUE(wait_for([&] { return kernel().fsync(owner, fd); }).ok());
    return fd;
  }
  void write_bytes(Pid pid, i32 fd, u64 offset, const std::vector<u8>& bytes) {
    u64 done = 0;
    const Result<u64> wrote = wait_for(
        [&] { return kernel().pwrite(pid, fd, bytes.data(), bytes.size(), offset, &done); });
    EXPECT_TRUE(wrote.ok() && wrote.value() == bytes.size()) << "at " << offset;
  }
  std::vector<u8> read_bytes(Pid pid, i32 fd, u64 offset, u64 size) {
    std::vector<u8> bytes(size);
    u64 done = 0;
    const Result<u64> got =
        wait_for([&] { return kernel().pread(pid, fd, bytes.data(), size, offset, &done); });
    bytes.resize(got.ok() ? got.value() : 0);
    return bytes;
  }
  // Takes the file's pages out of the page cache, which are clean.
  void make_cold(Pid pid, i32 fd, u64 pages) {
    const u64 at = mmap(pid, 0, pages, kProtRead, kMapShared, fd).value();
    for (u64 i = 0; i < pages; ++i) EXPECT_GE(load(pid, at + i * kPage), 0);
    push_out(pid, at, pages);
    EXPECT_TRUE(kernel().munmap(pid, at, pages * kPage).ok());
  }
  FileView file(const char* name) {
    std::vector<FileView> all(64);
    all.resize(kernel().files(all.data(), 64));
    for (const FileView& f : all) {
      if (std::string(f.name) == name) return f;
    }
    ADD_FAILURE() << "no file " << name;
    return {};
  }
  // Takes the pages away until their entries are swap entries, or empty for pages of the cache.
  void push_out(Pid pid, u64 addr, u64 pages) {
    constexpr i32 kPageout = 21;
    for (u64 i = 0; i < pages; ++i) {
      for (u32 round = 0; round < 100; ++round) {
        const PteView e = entry(pid, addr + i * kPage);
        if (e.kind != Pte::Kind::present && e.kind != Pte::Kind::unmapped) break;
        (void)wait_for([&] { return kernel().madvise(pid, addr + i * kPage, kPage, kPageout); });
        settle();
      }
    }
  }
  // What is there when everything that is kept in reserve was given back: free blocks by order,
  // objects, frames by use, slots, promises.
  std::string remains() {
    settle();
    (void)kernel().drop_caches();
    kernel().drop_slabs();
    std::ostringstream out;
    out << "blocks";
    for (u32 order = 0; order <= kOrderMax; ++order) out << " " << kernel().free_blocks(order);
    SlabView slabs[16];
    const u32 count = kernel().slabs(slabs, 16);
    EXPECT_LE(count, 16U);
    for (u32 i = 0; i < count; ++i) {
      out << "\n"
          << slabs[i].name << " " << slabs[i].objects_active << " in " << slabs[i].slabs_total;
    }
    const MemInfo m = kernel().meminfo();
    out << "\nfree " << m.mem_free << " reserved " << m.reserved << " cached " << m.cached
        << " swap cached " << m.swap_cached << " aged " << m.active + m.inactive + m.unevictable
        << " dirty " << m.dirty << " writeback " << m.writeback << " anon " << m.anon_pages
        << " mapped " << m.mapped << " shmem " << m.shmem << " slab " << m.slab << " tables "
        << m.page_tables << " stacks " << m.kernel_stack << " vmalloc " << m.vmalloc_used
        << " pool " << m.pool << " swap meta " << m.swap_meta << " slots free " << m.swap_free
        << " of " << m.swap_total << " committed " << m.committed_as << "\n";
    return out.str();
  }
  u64 used_slots() {
    const MemInfo m = kernel().meminfo();
    return m.swap_total - m.swap_free;
  }
  Error error_of(const Result<u64>& result) const {
    return result.ok() ? Error::wait : result.error();  // wait: never an answer here
  }
};

}  // namespace spillway
