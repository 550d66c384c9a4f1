// Event counters of one System, under the names of Linux's /proc/vmstat where one exists.
// They live in memory that the machine supplies (on the host: the ledger page that the launcher
// reads), so they are plain 64-bit words. Increments happen under the engine lock; readers in
// other processes may see values that are a moment old.
#pragma once

#include <atomic>

#include "base/types.h"

namespace spillway {

// X(name, what it counts)
#define SPW_COUNTERS(X)                                                                 \
  X(pgfault, "faults served, of any kind")                                              \
  X(pgmajfault, "faults that had to decompress a page or read the disk")                \
  X(pgsoftfault, "faults on a page that was resident but unmapped")                     \
  X(pgfresh, "pages given out zero-filled on first touch")                              \
  X(oom_kill, "processes killed for want of memory")                                    \
  X(pgcow, "pages copied because somebody wrote to a shared one")                       \
  X(pgreuse, "write-protected pages made writable without a copy")                      \
  X(pgfault_retry, "faults tried again after a wait")                                   \
  X(pgfault_around, "pages mapped beside the one that faulted")                         \
  X(pswpin, "pages brought back from swap")                                             \
  X(pswpout, "pages sent to swap")                                                      \
  X(pswpin_ra, "pages of pswpin brought back ahead of their first touch")               \
  X(swap_ra_hit, "pages read ahead from disk that were mapped afterwards")              \
  X(swap_clean, "pages evicted without a write because their swap copy was still good") \
  X(swap_same_filled, "pages swapped out as one repeated value, without any bytes")     \
  X(swap_incompressible, "pages swapped out that did not compress")                     \
  X(swap_bytes_in, "bytes of pages given to the compressor")                            \
  X(swap_bytes_out, "bytes that the compressor made of them")                           \
  X(disk_write_bytes, "bytes written to swap devices")                                  \
  X(disk_read_bytes, "bytes read from swap devices")                                    \
  X(disk_writes, "write requests to swap devices")                                      \
  X(disk_reads, "read requests to swap devices")                                        \
  X(pool_cleaned, "segments of the compressed pool that were cleaned")                  \
  X(pool_spilled, "segments of the compressed pool that went to disk")                  \
  X(disk_cleaned, "segments of the swap file that were cleaned")                        \
  X(pgscan, "pages that reclaim looked at")                                             \
  X(pgsteal, "pages that reclaim freed")                                                \
  X(pgdeactivate, "pages unmapped but kept resident, or made inactive")                 \
  X(pgactivate, "pages moved from an inactive list back to the active one")             \
  X(slabs_scanned, "unused objects of caches that reclaim looked at")                   \
  X(pgrotated, "pages that could not be unmapped because somebody held them")           \
  X(workingset_refault, "pages faulted back soon after eviction (ghost hit)")           \
  X(workingset_activate, "refaulted pages that went straight to the main queue")        \
  X(workingset_restore, "activated refaults of pages that had been active before")      \
  X(allocstall, "allocations that had to reclaim")                                      \
  X(pgalloc, "frames given out")                                                        \
  X(pgfree, "frames taken back")                                                        \
  X(pgfree_reserved, "frees of reserved frames, which change nothing")                  \
  X(quota_grow, "frames obtained from the shared budget")                               \
  X(quota_shrink, "frames returned to the shared budget")                               \
  X(limit_hit, "times a named limit ended a loop early")                                \
  X(pgpgin, "pages of files read from their device")                                    \
  X(pgpgout, "pages of files written to their device")                                  \
  X(io_error, "I/O requests that failed")                                               \
  X(move_retry, "page moves that had to be tried again")                                \
  X(move_fallback, "page moves done by copying")                                        \
  X(move_eexist, "moves reported as EEXIST although the page was moved")                \
  X(nr_dirtied, "pages of files and block devices that became dirty")                   \
  X(nr_written, "pages of files and block devices that were written")                   \
  X(bdflush_wakeup, "times that bdflush was woken")                                     \
  X(kupdate_run, "times that kupdate looked for what has been dirty for long")          \
  X(balance_dirty_throttled, "times that a writer had to write himself")                \
  X(wait_ns, "nanoseconds that faulting threads waited for the engine")                 \
  X(frames_online_max, "most frames that were online at once")

enum class Counter : u16 {
#define X(name, text) name,
  SPW_COUNTERS(X)
#undef X
      kCount
};
inline constexpr u32 kCounterCount = static_cast<u32>(Counter::kCount);

const char* name_of(Counter c);
const char* describe(Counter c);

struct Counters {
  u64 value[kCounterCount];

  u64& operator[](Counter c) { return value[static_cast<u32>(c)]; }
  u64 operator[](Counter c) const { return value[static_cast<u32>(c)]; }
  // Threads that do not hold the engine lock may lose each other's counts, never spoil them:
  // relaxed accesses cost no more than plain ones. Frames, which such threads do allocate and free,
  // are counted per CPU and added here under the zone lock (PageAllocator::fold_counts).
  void add(Counter c, u64 n = 1) {
    const std::atomic_ref<u64> word(value[static_cast<u32>(c)]);
    word.store(word.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void raise_to(Counter c, u64 n) {
    if (value[static_cast<u32>(c)] < n) value[static_cast<u32>(c)] = n;
  }
};

}  // namespace spillway
