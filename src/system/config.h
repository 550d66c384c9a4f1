// How a System is set up. Every number has its default and its reason here.
#pragma once

#include "base/units.h"

namespace spillway {

// Which pages leave first; each is a module of room reclaim.
enum class Policy : u8 {
  three_queue,  // for machines without accessed bits; see reclaim/three_queue.h
  linux24,      // ages on three lists, swap_out by process (Linux 2.4.0)
  two_list,     // active and inactive lists with refault distance (Linux since 2.6.28)
};

// How pages come back from swap beside the one that is wanted.
enum class SwapReadahead : u8 {
  streams,  // by address, where a stream of faults is recognised
  cluster,  // by slot: the aligned cluster of 2^page_cluster slots (Linux 2.4)
};

// Static memory (MECHANISMS 11): runs of frames that are reserved from boot on, as a kernel's own
// image is. Frames of kind init are given back, once, when booting ends.
enum class ReservedKind : u8 {
  code,
  data,     // with bss
  init,     // code and data that only booting needs
  bootmem,  // frame table, zero page, first page tables
};
inline constexpr u32 kReservedKindCount = 4;
struct ReservedRun {
  ReservedKind kind = ReservedKind::bootmem;
  u32 first = 0;  // frame number
  u32 count = 0;
};

struct Config {
  Policy policy = Policy::three_queue;
  SwapReadahead swap_readahead = SwapReadahead::streams;
  // log2 of the pages of a swap or file read cluster (vm.page-cluster).
  u32 page_cluster = 3;
  // Watermarks in frames; all 0 = from the number of frames (page/page_allocator.h).
  PageCount watermark_min{0};
  PageCount watermark_low{0};
  PageCount watermark_high{0};
  // Most frames that the compressed pool may take. 0 = no compressed tier.
  PageCount pool_max{0};
  // Swap slots at most; bounds the slot tables. 2^26 slots = 256 GiB of swapped memory.
  u64 slots_max = u64{1} << 26;
  // Pages that may be committed in one request beyond all RAM and swap (heuristic overcommit,
  // as Linux's mode 0): requests larger than this are refused with ENOMEM.
  PageCount commit_max{u64{1} << 36};
  // Readahead window, in pages: doubles from min to max while a stream goes on.
  u32 readahead_min = 4;
  u32 readahead_max = 32;
  // First-touch windows for sequential streams (0 = one page at a time).
  u32 fresh_around_max = 16;
  // Whether background_step reclaims up to the high watermark when few frames are free. Off where
  // unmapping from another CPU costs more than it saves (HOST.md 2.2).
  bool background_reclaim = true;
  // Which of Machine::block_devices holds files; none by default.
  u32 file_device = ~u32{0};
  // Whether inodes and directories lie there too, through the buffer cache; else in boot memory.
  bool file_metadata_on_device = false;
  // Disjoint, inside the arena: else boot fails with invalid. None by default: on the host our own
  // image and tables lie outside the arena.
  static constexpr u32 kReservedRunsMax = 8;
  ReservedRun reserved[kReservedRunsMax];
  u32 reserved_runs = 0;
  // Where vmalloc areas may lie. Empty: a space of the kernel's own where the machine has several
  // (shared_frames); elsewhere none. A range that is given is part of no other space.
  VpnRange vmalloc_range{Vpn(0), Vpn(0)};
  // Limit of mlock in pages (RLIMIT_MEMLOCK).
  PageCount mlock_max{2048};
};

}  // namespace spillway
