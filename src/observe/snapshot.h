// A consistent picture of a System, taken under its lock: what `--stats`, reports and tests read.
// Everything is counted in pages unless its name says bytes.
#pragma once

#include "base/types.h"

namespace spillway {

struct Snapshot {
  u64 frames_total;      // size of the arena
  u64 frames_online;     // frames backed by memory now
  u64 frames_free;       // in buddy and per-CPU lists
  u64 frames_reserved;   // never allocated or freed
  u64 frames_kernel;     // slabs and other objects of the manager
  u64 frames_tables;     // page tables
  u64 frames_swap_meta;  // slot tables
  u64 frames_pool;       // segments of the compressed pool
  u64 frames_user;       // pages of programs: mapped + unmapped + in transit
  u64 mapped;            // present in a page table
  u64 unmapped;          // resident but unmapped (queue U)
  u64 probation;         // queue S
  u64 main;              // queue M
  u64 locked;            // mlocked or pinned, on no queue
  u64 watermark_min;
  u64 watermark_low;
  u64 watermark_high;
  u64 slots_used;       // swap slots in use
  u64 pool_bytes_live;  // bytes of live objects in the pool
  u64 disk_segments_used;
  u64 disk_segments_total;
  u64 areas;
  u64 total_vm;
};

}  // namespace spillway
