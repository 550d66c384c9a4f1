// Checks of mmap, munmap, mprotect, mremap, madvise, mlock, mincore, brk and the heap.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <vector>

#include "semantics_support.h"

namespace programs {
namespace {

constexpr std::size_t kPages = 64;

bool keeps_contents() {
  unsigned char* p = map_pages(kPages);
  EXPECT_OR_FAIL(all_zero(p, kPages * kPageBytes));
  stamp(p, kPages, 11);
  press();
  EXPECT_OR_FAIL(stamped(p, kPages, 11));
  stamp(p, kPages / 2, 12);
  press();
  EXPECT_OR_FAIL(stamped(p, kPages / 2, 12));
  EXPECT_OR_FAIL(page_is(p + (kPages - 1) * kPageBytes, mix(11) + kPages - 1));
  unmap_pages(p, kPages);
  return true;
}

bool read_only_pages() {
  unsigned char* p = map_pages(kPages);
  stamp(p, kPages, 21);
  EXPECT_OR_FAIL(mprotect(p, kPages * kPageBytes, PROT_READ) == 0);
  press();
  EXPECT_OR_FAIL(stamped(p, kPages, 21));
  EXPECT_OR_FAIL(write_faults(p + 5 * kPageBytes + 7));
  press();
  EXPECT_OR_FAIL(write_faults(p + 6 * kPageBytes));
  EXPECT_OR_FAIL(mprotect(p, kPages * kPageBytes, PROT_READ | PROT_WRITE) == 0);
  EXPECT_OR_FAIL(stamped(p, kPages, 21));
  stamp(p, kPages, 22);
  press();
  EXPECT_OR_FAIL(stamped(p, kPages, 22));
  unmap_pages(p, kPages);
  return true;
}

bool inaccessible_pages() {
  unsigned char* p = map_pages(kPages);
  stamp(p, kPages, 31);
  EXPECT_OR_FAIL(mprotect(p + 8 * kPageBytes, 8 * kPageBytes, PROT_NONE) == 0);
  press();
  EXPECT_OR_FAIL(read_faults(p + 8 * kPageBytes));
  EXPECT_OR_FAIL(write_faults(p + 16 * kPageBytes - 1));
  EXPECT_OR_FAIL(!read_faults(p + 8 * kPageBytes - 1));
  EXPECT_OR_FAIL(!read_faults(p + 16 * kPageBytes));
  press();
  EXPECT_OR_FAIL(mprotect(p + 8 * kPageBytes, 8 * kPageBytes, PROT_READ) == 0);
  EXPECT_OR_FAIL(stamped(p, kPages, 31));
  unmap_pages(p, kPages);
  return true;
}

bool guard_page() {
  unsigned char* p = map_pages(3);
  EXPECT_OR_FAIL(mprotect(p + kPageBytes, kPageBytes, PROT_NONE) == 0);
  stamp(p, 1, 41);
  stamp(p + 2 * kPageBytes, 1, 42);
  EXPECT_OR_FAIL(write_faults(p + kPageBytes));
  press();
  EXPECT_OR_FAIL(read_faults(p + 2 * kPageBytes - 1));
  EXPECT_OR_FAIL(stamped(p, 1, 41));
  EXPECT_OR_FAIL(stamped(p + 2 * kPageBytes, 1, 42));
  EXPECT_OR_FAIL(mprotect(p + kPageBytes, kPageBytes, PROT_READ | PROT_WRITE) == 0);
  EXPECT_OR_FAIL(all_zero(p + kPageBytes, kPageBytes));
  unmap_pages(p, 3);
  return true;
}

bool executable_pages() {
  // mov eax, 42; ret
  constexpr unsigned char kCode[] = {0xB8, 42, 0, 0, 0, 0xC3};
  unsigned char* p = map_pages(2);
  std::memcpy(p + kPageBytes, kCode, sizeof kCode);
  EXPECT_OR_FAIL(mprotect(p, 2 * kPageBytes, PROT_READ | PROT_EXEC) == 0);
  press();
  const auto function = reinterpret_cast<int (*)()>(p + kPageBytes);
  EXPECT_OR_FAIL(function() == 42);
  press();
  EXPECT_OR_FAIL(function() == 42);
  unmap_pages(p, 2);
  return true;
}

bool munmap_hole() {
  unsigned char* p = map_pages(kPages);
  stamp(p, kPages, 51);
  press();
  unmap_pages(p + 16 * kPageBytes, 16);
  EXPECT_OR_FAIL(read_faults(p + 16 * kPageBytes));
  EXPECT_OR_FAIL(write_faults(p + 32 * kPageBytes - 1));
  EXPECT_OR_FAIL(stamped(p, 16, 51));
  EXPECT_OR_FAIL(page_is(p + 32 * kPageBytes, mix(51) + 32));
  void* again = mmap(p + 16 * kPageBytes, 16 * kPageBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  EXPECT_OR_FAIL(again == p + 16 * kPageBytes);
  EXPECT_OR_FAIL(all_zero(p + 16 * kPageBytes, 16 * kPageBytes));
  unmap_pages(p, kPages);
  EXPECT_OR_FAIL(read_faults(p));
  return true;
}

bool mremap_grow() {
  unsigned char* p = map_pages(kPages);
  stamp(p, kPages, 61);
  press();
  void* grown = mremap(p, kPages * kPageBytes, 4 * kPages * kPageBytes, MREMAP_MAYMOVE);
  EXPECT_OR_FAIL(grown != MAP_FAILED);
  auto* q = static_cast<unsigned char*>(grown);
  EXPECT_OR_FAIL(stamped(q, kPages, 61));
  EXPECT_OR_FAIL(all_zero(q + kPages * kPageBytes, 3 * kPages * kPageBytes));
  stamp(q, 4 * kPages, 62);
  press();
  EXPECT_OR_FAIL(stamped(q, 4 * kPages, 62));
  unmap_pages(q, 4 * kPages);
  return true;
}

bool mremap_shrink() {
  unsigned char* p = map_pages(kPages);
  stamp(p, kPages, 71);
  press();
  EXPECT_OR_FAIL(mremap(p, kPages * kPageBytes, 8 * kPageBytes, 0) == p);
  EXPECT_OR_FAIL(stamped(p, 8, 71));
  EXPECT_OR_FAIL(read_faults(p + 8 * kPageBytes));
  unmap_pages(p, 8);
  return true;
}

bool mremap_fixed() {
  unsigned char* from = map_pages(kPages);
  unsigned char* to = map_pages(kPages);
  stamp(from, kPages, 81);
  stamp(to, kPages, 82);
  press();
  void* moved = mremap(from, 16 * kPageBytes, 16 * kPageBytes, MREMAP_MAYMOVE | MREMAP_FIXED,
                       to + 8 * kPageBytes);
  EXPECT_OR_FAIL(moved == to + 8 * kPageBytes);
  EXPECT_OR_FAIL(stamped(to + 8 * kPageBytes, 16, 81));
  EXPECT_OR_FAIL(stamped(to, 8, 82));
  EXPECT_OR_FAIL(page_is(to + 24 * kPageBytes, mix(82) + 24));
  EXPECT_OR_FAIL(read_faults(from));
  EXPECT_OR_FAIL(page_is(from + 16 * kPageBytes, mix(81) + 16));
  unmap_pages(from + 16 * kPageBytes, kPages - 16);
  unmap_pages(to, kPages);
  return true;
}

bool madvise_dontneed() {
  unsigned char* p = map_pages(kPages);
  stamp(p, kPages, 91);
  press();
  EXPECT_OR_FAIL(madvise(p + 8 * kPageBytes, 8 * kPageBytes, MADV_DONTNEED) == 0);
  EXPECT_OR_FAIL(all_zero(p + 8 * kPageBytes, 8 * kPageBytes));
  EXPECT_OR_FAIL(stamped(p, 8, 91));
  EXPECT_OR_FAIL(page_is(p + 16 * kPageBytes, mix(91) + 16));
  unmap_pages(p, kPages);
  return true;
}

bool madvise_free() {
  unsigned char* p = map_pages(kPages);
  stamp(p, kPages, 101);
  EXPECT_OR_FAIL(madvise(p, kPages * kPageBytes, MADV_FREE) == 0);
  press();
  // Each page is either still whole or all zero: Linux may free it any time until a write.
  for (std::size_t i = 0; i < kPages; ++i) {
    EXPECT_OR_FAIL(page_is(p + i * kPageBytes, mix(101) + i) ||
                   all_zero(p + i * kPageBytes, kPageBytes));
  }
  stamp(p, kPages, 102);
  press();
  EXPECT_OR_FAIL(stamped(p, kPages, 102));
  unmap_pages(p, kPages);
  return true;
}

bool madvise_hints() {
  unsigned char* p = map_pages(kPages);
  stamp(p, kPages, 111);
  for (const int advice :
       {MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_SEQUENTIAL, MADV_RANDOM, MADV_NORMAL}) {
    EXPECT_OR_FAIL(madvise(p, kPages * kPageBytes, advice) == 0);
    EXPECT_OR_FAIL(stamped(p, kPages, 111));
  }
  EXPECT_OR_FAIL(madvise(p, kPages * kPageBytes, MADV_PAGEOUT) == 0);
  press();
  EXPECT_OR_FAIL(madvise(p, kPages * kPageBytes, MADV_WILLNEED) == 0);
  EXPECT_OR_FAIL(stamped(p, kPages, 111));
  unmap_pages(p, kPages);
  return true;
}

bool file_over_managed() {
  char path[] = "/tmp/semantics.XXXXXX";
  const int file = mkstemp(path);
  EXPECT_OR_FAIL(file >= 0);
  unlink(path);
  unsigned char* p = map_pages(kPages);
  stamp(p, 8, 121);
  EXPECT_OR_FAIL(write(file, p, 8 * kPageBytes) == 8 * kPageBytes);
  stamp(p, kPages, 122);
  press();
  void* mapped = mmap(p + 8 * kPageBytes, 8 * kPageBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_FIXED, file, 0);
  EXPECT_OR_FAIL(mapped == p + 8 * kPageBytes);
  EXPECT_OR_FAIL(stamped(p + 8 * kPageBytes, 8, 121));
  EXPECT_OR_FAIL(stamped(p, 8, 122));
  stamp(p + 8 * kPageBytes, 1, 123);  // a private copy: the file must not see it
  unsigned char* read_back = map_pages(1);
  EXPECT_OR_FAIL(pread(file, read_back, kPageBytes, 0) == kPageBytes);
  EXPECT_OR_FAIL(stamped(read_back, 1, 121));
  press();
  mapped = mmap(p + 8 * kPageBytes, 8 * kPageBytes, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  EXPECT_OR_FAIL(mapped == p + 8 * kPageBytes);
  EXPECT_OR_FAIL(all_zero(p + 8 * kPageBytes, 8 * kPageBytes));
  stamp(p + 8 * kPageBytes, 8, 124);
  press();
  EXPECT_OR_FAIL(stamped(p + 8 * kPageBytes, 8, 124));
  EXPECT_OR_FAIL(page_is(p + 16 * kPageBytes, mix(122) + 16));
  unmap_pages(p, kPages);
  unmap_pages(read_back, 1);
  close(file);
  return true;
}

bool fixed_over_managed() {
  unsigned char* p = map_pages(kPages);
  stamp(p, kPages, 131);
  press();
  void* refused =
      mmap(p, kPageBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  EXPECT_OR_FAIL(refused == MAP_FAILED && errno == EEXIST);
  EXPECT_OR_FAIL(stamped(p, kPages, 131));
  void* replaced = mmap(p + kPageBytes, kPageBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  EXPECT_OR_FAIL(replaced == p + kPageBytes);
  EXPECT_OR_FAIL(all_zero(p + kPageBytes, kPageBytes));
  EXPECT_OR_FAIL(stamped(p, 1, 131));
  unmap_pages(p, kPages);
  return true;
}

bool error_codes() {
  unsigned char* p = map_pages(4);
  EXPECT_OR_FAIL(mmap(nullptr, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
  EXPECT_OR_FAIL(errno == EINVAL);
  EXPECT_OR_FAIL(munmap(p, 0) == -1 && errno == EINVAL);
  EXPECT_OR_FAIL(munmap(p + 1, kPageBytes) == -1 && errno == EINVAL);
  EXPECT_OR_FAIL(mprotect(p + 1, kPageBytes, PROT_READ) == -1 && errno == EINVAL);
  EXPECT_OR_FAIL(madvise(p + 1, kPageBytes, MADV_DONTNEED) == -1 && errno == EINVAL);
  EXPECT_OR_FAIL(madvise(p, kPageBytes, 9999) == -1 && errno == EINVAL);
  unmap_pages(p + kPageBytes, 1);
  EXPECT_OR_FAIL(mprotect(p, 4 * kPageBytes, PROT_READ) == -1 && errno == ENOMEM);
  EXPECT_OR_FAIL(madvise(p, 4 * kPageBytes, MADV_DONTNEED) == -1 && errno == ENOMEM);
  EXPECT_OR_FAIL(mremap(p + kPageBytes, kPageBytes, 2 * kPageBytes, MREMAP_MAYMOVE) == MAP_FAILED &&
                 errno == EFAULT);
  unmap_pages(p, 4);  // a range with a hole: allowed
  return true;
}

bool sparse_reservation() {
  constexpr std::size_t kBytes = std::size_t{4} << 30;
  constexpr std::size_t kStep = std::size_t{64} << 20;
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  EXPECT_OR_FAIL(memory != MAP_FAILED);
  auto* p = static_cast<unsigned char*>(memory);
  for (std::size_t at = 0; at < kBytes; at += kStep) {
    stamp(p + at, 1, at);
  }
  press();
  for (std::size_t at = 0; at < kBytes; at += kStep) {
    EXPECT_OR_FAIL(stamped(p + at, 1, at));
    EXPECT_OR_FAIL(all_zero(p + at + kPageBytes, kPageBytes));
  }
  unmap_pages(p, kBytes / kPageBytes);
  return true;
}

bool locked_pages() {
  unsigned char* p = map_pages(4);
  stamp(p, 4, 141);
  press();
  EXPECT_OR_FAIL(mlock(p, 2 * kPageBytes) == 0);
  press();
  EXPECT_OR_FAIL(stamped(p, 4, 141));
  stamp(p, 4, 142);
  EXPECT_OR_FAIL(munlock(p, 2 * kPageBytes) == 0);
  press();
  EXPECT_OR_FAIL(stamped(p, 4, 142));
  unmap_pages(p, 4);
  EXPECT_OR_FAIL(mlock(p, kPageBytes) == -1 && errno == ENOMEM);
  return true;
}

bool resident_pages() {
  unsigned char* p = map_pages(4);
  unsigned char resident[4] = {};
  // Every second page: a memory manager may bring in the pages behind two neighbours ahead of
  // their first touch, and then says so.
  stamp(p, 1, 151);
  stamp(p + 2 * kPageBytes, 1, 151);
  EXPECT_OR_FAIL(stamped(p, 1, 151) && stamped(p + 2 * kPageBytes, 1, 151));
  EXPECT_OR_FAIL(mincore(p, 4 * kPageBytes, resident) == 0);
  EXPECT_OR_FAIL((resident[0] & 1) == 1 && (resident[2] & 1) == 1);
  EXPECT_OR_FAIL((resident[1] & 1) == 0 && (resident[3] & 1) == 0);
  unmap_pages(p, 4);
  EXPECT_OR_FAIL(mincore(p, kPageBytes, resident) == -1 && errno == ENOMEM);
  return true;
}

bool program_break() {
  auto* start = static_cast<unsigned char*>(sbrk(0));
  // The heap's end need not be page aligned; the check wants whole pages of its own.
  const std::size_t slack = kPageBytes - reinterpret_cast<std::uintptr_t>(start) % kPageBytes;
  EXPECT_OR_FAIL(sbrk(static_cast<std::intptr_t>(slack + kPages * kPageBytes)) == start);
  unsigned char* p = start + slack;
  EXPECT_OR_FAIL(all_zero(p, kPages * kPageBytes));
  stamp(p, kPages, 161);
  press();
  EXPECT_OR_FAIL(stamped(p, kPages, 161));
  EXPECT_OR_FAIL(brk(p + 8 * kPageBytes) == 0);
  EXPECT_OR_FAIL(read_faults(p + 8 * kPageBytes));
  EXPECT_OR_FAIL(brk(p + 16 * kPageBytes) == 0);
  EXPECT_OR_FAIL(stamped(p, 8, 161));
  EXPECT_OR_FAIL(all_zero(p + 8 * kPageBytes, 8 * kPageBytes));
  EXPECT_OR_FAIL(brk(start) == 0);
  EXPECT_OR_FAIL(sbrk(0) == start);
  return true;
}

bool heap_growth() {
  std::size_t pages = 1;
  auto* p = static_cast<unsigned char*>(std::malloc(pages * kPageBytes));
  EXPECT_OR_FAIL(p != nullptr);
  stamp(p, pages, 171);
  while (pages < 4096) {
    auto* grown = static_cast<unsigned char*>(std::realloc(p, 2 * pages * kPageBytes));
    EXPECT_OR_FAIL(grown != nullptr);
    p = grown;
    pages *= 2;
    EXPECT_OR_FAIL(stamped(p, pages / 2, 171));
    stamp(p, pages, 171);
    if (pages % 1024 == 0) {
      press();
    }
  }
  EXPECT_OR_FAIL(stamped(p, pages, 171));
  std::free(p);
  // Recycled memory from calloc is zero, wherever it has been.
  auto* zeroed = static_cast<unsigned char*>(std::calloc(256, kPageBytes));
  EXPECT_OR_FAIL(zeroed != nullptr && all_zero(zeroed, 256 * kPageBytes));
  std::free(zeroed);
  return true;
}

bool small_blocks() {
  std::vector<std::vector<unsigned char>> blocks;
  for (std::size_t i = 0; i < 20'000; ++i) {
    blocks.emplace_back(16 + i % 500, static_cast<unsigned char>(i));
  }
  press();
  for (std::size_t i = 0; i < blocks.size(); i += 2) {
    blocks[i] = std::vector<unsigned char>(blocks[i].size() + 33, static_cast<unsigned char>(i));
  }
  press();
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    for (const unsigned char byte : blocks[i]) {
      EXPECT_OR_FAIL(byte == static_cast<unsigned char>(i));
    }
  }
  return true;
}

constexpr Check kChecks[] = {
    {"anonymous pages keep their contents", keeps_contents},
    {"PROT_READ: evicted pages read back, writes raise SIGSEGV", read_only_pages},
    {"PROT_NONE: accesses raise SIGSEGV, contents return with the rights", inaccessible_pages},
    {"guard page raises SIGSEGV, neighbours unharmed", guard_page},
    {"PROT_EXEC: code survives eviction", executable_pages},
    {"munmap in the middle: hole raises SIGSEGV, is zero when mapped again", munmap_hole},
    {"mremap grows, contents move along", mremap_grow},
    {"mremap shrinks, the tail raises SIGSEGV", mremap_shrink},
    {"mremap to a fixed place replaces what was there", mremap_fixed},
    {"MADV_DONTNEED makes zeros", madvise_dontneed},
    {"MADV_FREE keeps or zeroes whole pages, later writes stay", madvise_free},
    {"MADV_COLD, PAGEOUT, WILLNEED and friends change nothing", madvise_hints},
    {"MAP_FIXED file over anonymous pages and back", file_over_managed},
    {"MAP_FIXED and MAP_FIXED_NOREPLACE over anonymous pages", fixed_over_managed},
    {"wrong arguments get Linux's error codes", error_codes},
    {"4 GB sparse reservation", sparse_reservation},
    {"mlock and munlock", locked_pages},
    {"mincore", resident_pages},
    {"brk and sbrk grow, shrink and grow again with zeros", program_break},
    {"realloc growth and calloc zeros", heap_growth},
    {"20,000 small heap blocks", small_blocks},
};

}  // namespace

std::span<const Check> mapping_checks() { return kChecks; }

}  // namespace programs
