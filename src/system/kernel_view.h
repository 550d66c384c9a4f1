// What can be seen of a Kernel: plain records, computed from the structures when asked for, under
// the names of /proc/meminfo, /proc/PID/maps, smaps and /proc/swaps. Counts are pages unless a
// name says bytes.
#pragma once

#include "machine/pte.h"
#include "page/page.h"
#include "slab/slab.h"
#include "vmalloc/vmalloc.h"

namespace spillway {

enum class TaskState : u8 { running, dead };

struct TaskView {
  u32 pid;
  u32 parent;
  u32 leader;  // the process that the task is a thread of; itself otherwise
  char name[16];
  TaskState state;
  SpaceId space;
  i32 exit_code;  // when dead: code, or 128 + signal
  VirtAddr sp;
  u64 total_vm;      // VmSize
  u64 locked_vm;     // VmLck
  u64 rss;           // VmRSS: present entries, the zero page not counted
  u64 swap_entries;  // VmSwap
  u64 page_tables;   // frames
  u64 stack_vm;      // VmStk
  u64 min_flt;
  u64 maj_flt;
  u64 badness;  // what the OOM killer would see
  VirtAddr start_brk;
  VirtAddr brk;
  VirtAddr start_stack;
  Pfn kernel_stack;  // the lower of its two frames
};

// A line of maps, with its smaps.
struct AreaView {
  VpnRange range;
  Prot prot;
  bool shared;
  bool growsdown;
  bool locked;
  bool noreserve;
  u64 pgoff;      // in pages; 0 for anonymous areas
  u32 mapping;    // id of the file's or segment's mapping, 0 = anonymous
  char name[64];  // file name, "[heap]", "[stack]", "SYSV00000001", "/dev/zero", or ""
  u64 rss;
  u64 pss_x256;  // sum of 256/mapcount over present pages
  u64 shared_clean, shared_dirty, private_clean, private_dirty;
  u64 referenced;
  u64 anonymous;  // present pages that are anonymous
  u64 swap;       // swap entries
};

// One entry of a page table.
struct PteView {
  Pte::Kind kind;  // none where a table is missing
  bool has_table;  // whether a leaf table covers the address
  Pfn pfn;         // present or unmapped
  SlotId slot;     // swapped
  bool writable, accessed, dirty, executable;
};

struct FrameView {
  PageState state;
  PageOwner owner;
  PageQueue queue;
  u32 count;  // rule R1
  u32 mapcount;
  u32 age;
  bool dirty, referenced, writeback, uptodate, error;
  SlotId slot;  // in the swap cache under it
  u32 mapping;  // id, 0 = none
  u32 index;
  // One place that maps it, if any.
  SpaceId space;
  Vpn vpn;
};

struct SlotView {
  bool used;
  u32 count;
  Pfn cached;
};

struct SwapView {
  u32 device;
  i32 priority;
  u64 size;  // usable slots
  u64 used;
};

struct FileView {
  char name[64];
  u64 number;   // of its inode
  bool linked;  // has a name
  u32 mapping;  // 0 while its inode is not in memory
  u64 size_bytes;
  u64 cached, dirty, writeback;
  u32 opens;
  u64 first_block;  // of its run of blocks on the file device
};

struct StatView {
  u64 number;
  u32 mode;
  u32 nlink;
  u64 size_bytes;
};

struct ShmView {
  u32 id;
  u32 key;
  u32 mapping;
  u64 size_bytes;
  u32 attached;
  bool dest, locked;
  u64 resident, swapped;
};

// A device with a buffer cache.
struct DiskView {
  u32 device;
  u32 block_size;
  u64 blocks;
  u64 buffers, dirty, pages, writeback;  // pages: cached; writeback: of these
  u64 hits, misses, reads, writes, released;
};

struct BlockView {
  bool found;  // it has a buffer
  u32 count;   // holders
  bool dirty;
  u64 flush_ns;  // while dirty: when it is to be written
  Pfn pfn;
};

// A line of slabinfo.
using SlabView = SlabInfo;

// /proc/meminfo, in pages.
struct MemInfo {
  u64 mem_total, mem_free, buffers, cached, swap_cached;
  u64 active, inactive, inactive_dirty, inactive_clean, unevictable;
  u64 dirty, writeback, anon_pages, mapped, shmem, slab, page_tables;
  u64 kernel_stack;  // frames, two for each task that is not reaped
  u64 vmalloc_used;  // frames of vmalloc areas, those that wait to be unmapped included
  u64 swap_total, swap_free, commit_limit, committed_as;
  u64 reserved, swap_meta, pool, inactive_target;
  u64 watermark_min, watermark_low, watermark_high;
  // Of `reserved`: static memory by kind (init: until booting has ended). mem_total is without it.
  u64 reserved_code, reserved_data, reserved_init, reserved_bootmem;
};

}  // namespace spillway
