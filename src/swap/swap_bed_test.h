// SwapBed: the floor of swap tests: a page bed with all frames online, pages to store, and a sink
// for pages that were read.
#pragma once

#include <cstring>
#include <map>

#include "page/page_bed_test.h"
#include "swap/swap.h"

namespace spillway {

enum class Bytes { zero, same, text, half, random };
inline constexpr Bytes kAllBytes[] = {Bytes::zero, Bytes::same, Bytes::text, Bytes::half,
                                      Bytes::random};

// The contents that `id` stands for; different ids give different pages, except for zero pages.
inline void make_page(u8* out, u64 id, Bytes kind) {
  std::memset(out, 0, kPageSize);
  Prng prng(id);
  switch (kind) {
    case Bytes::zero: break;
    case Bytes::same:
      for (u64 i = 0; i < kPageSize; i += 4) {
        const u32 word = static_cast<u32>(id) * 2654435761U + 1;
        std::memcpy(out + i, &word, 4);
      }
      break;
    case Bytes::text:
      for (u64 i = 0; i < kPageSize; i += 32) std::memcpy(out + i, &id, 8);
      break;
    case Bytes::half:
    case Bytes::random:
      for (u64 i = 0; i < kPageSize / (kind == Bytes::half ? 2 : 1); i += 8) {
        const u64 word = prng.next();
        std::memcpy(out + i, &word, 8);
      }
  }
}
inline bool is_page(const u8* bytes, u64 id, Bytes kind) {
  u8 want[kPageSize];
  make_page(want, id, kind);
  return std::memcmp(bytes, want, kPageSize) == 0;
}

struct SwapBed : PageBed {
  explicit SwapBed(const SimConfig& config) : PageBed(config) { grow_all(); }
  explicit SwapBed(u64 frame_count, u64 disk_pages = 0)
      : SwapBed(with_disk(frame_count, disk_pages)) {}
  static SimConfig with_disk(u64 frame_count, u64 disk_pages) {
    SimConfig config = config_of(frame_count);
    config.disk_pages = PageCount(disk_pages);
    return config;
  }
  Machine& machine() { return sim.machine(); }
  u8* bytes(Pfn pfn) { return machine().frames.bytes(pfn); }
  Pfn take() { return allocator.alloc(0, kAllocReclaim).value(); }
};

}  // namespace spillway
