#include "mount/stats_text.h"

#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include "mount/engine.h"
#include "mount/node_ids.h"

namespace spillway {
namespace {

constexpr u64 kKibPerPage = kPageSize / 1024;

std::string kib(const char* name, u64 pages) {
  return fmt::format("{:<20}{:>12} kB\n", fmt::format("{}:", name), pages * kKibPerPage);
}

std::string number(const char* name, u64 n) { return fmt::format("{} {}\n", name, n); }

std::string slab(const KmemCache& cache) {
  const SlabInfo info = cache.info();
  return fmt::format("{:<20} {:>9} {:>9} {:>6} {:>4} {:>3} {:>8} {:>8}\n", info.name,
                     info.objects_active, info.objects_total, info.object_size,
                     info.objects_per_slab, info.pages_per_slab, info.slabs_total, info.reaped);
}

std::string memory_of(MountEngine& engine) {
  SystemImpl& system = engine.system();
  const Snapshot snapshot = system.system.snapshot();
  const PageCache& cache = system.cache;
  const u64 total = system.frames.count().v;
  std::string out = "# memory: everything counted against --ram\n";
  out += kib("MemTotal", total);
  out += kib("MemFree", snapshot.frames_free);
  out += kib("MemUsed", snapshot.frames_online - snapshot.frames_free);
  out += kib("Cached", cache.pages());
  out += kib("Dirty", cache.dirty());
  out += kib("Writeback", cache.writeback());
  out += kib("Slab", snapshot.frames_kernel);
  out += kib("Active(file)", system.reclaim.queue_size(PageQueue::active_file));
  out += kib("Inactive(file)", system.reclaim.queue_size(PageQueue::inactive_file));
  out += kib("MemUsedMax", engine.frames_used_max());
  return out;
}

std::string caches_of(MountEngine& engine) {
  const VfsStats v = engine.vfs().stats();
  std::string out = "# caches\n";
  out += number("dentry_objects", v.dentries);
  out += number("dentry_unused", v.dentries_unused);
  out += number("dentry_negative", v.dentries_negative);
  out += number("dentry_hits", v.dentry_hits);
  out += number("dentry_misses", v.dentry_misses);
  out += number("dentry_pruned", v.dentries_pruned);
  out += number("inode_objects", v.inodes);
  out += number("inode_unused", v.inodes_unused);
  out += number("inode_dirty", v.inodes_dirty);
  out += number("inode_hits", v.inode_hits);
  out += number("inode_misses", v.inode_misses);
  out += number("inode_pruned", v.inodes_pruned);
  out += number("inode_written", v.inodes_written);
  return out;
}

std::string buffers_of(const BufferCache& buffers) {
  const BufferCacheStats b = buffers.stats();
  std::string out = number("buffer_objects", b.buffers);
  out += number("buffer_dirty", b.dirty);
  out += number("buffer_pages", b.pages);
  out += number("buffer_hits", b.hits);
  out += number("buffer_misses", b.misses);
  out += number("buffer_reads", b.reads);
  out += number("buffer_writes", b.writes);
  out += number("buffer_released", b.released);
  return out;
}

std::string outside_of(MountEngine& engine, const NodeIds& ids) {
  std::string out = "# outside of --ram\n";
  out += number("boot_bytes", engine.arena().boot().bytes());
  // All of malloc's, large pieces (the bitmaps of an image) too: libext2fs, libfuse, buffers of the
  // threads.
  const struct mallinfo2 heap = ::mallinfo2();
  out += number("heap_bytes", heap.uordblks + heap.hblkhd);
  out += number("node_ids_held", ids.held());
  out += number("node_ids_bytes", ids.bytes());
  if (FsHost* host = engine.host_directory()) {
    const FsHostStats stats = host->node_stats();
    out += number("host_nodes", stats.nodes);
    out += number("host_nodes_bytes", stats.nodes_bytes);
    out += number("host_open_fds", stats.open_fds);
    out += number("host_fds_reopened", stats.reopened);
  }
  return out;
}

}  // namespace

std::string stats_text_of(MountEngine& engine, const NodeIds& ids) {
  SystemImpl& system = engine.system();
  std::string out = number("pid", static_cast<u64>(::getpid()));
  out += memory_of(engine);
  out += caches_of(engine);
  if (engine.image() != nullptr) out += buffers_of(engine.image()->buffers());
  out += "# slabs: name, active_objs, num_objs, objsize, objperslab, pagesperslab, slabs, reaped\n";
  out += slab(engine.vfs().dentries().objects());
  out += slab(engine.vfs().dentries().long_names());
  out += slab(engine.vfs().inodes().objects());
  if (engine.image() != nullptr) out += slab(engine.image()->buffers().heads());
  out += slab(system.cache.nodes());
  out += outside_of(engine, ids);
  out += "# counters\n";
  system.allocator.fold_counts();
  for (u32 i = 0; i < kCounterCount; ++i) {
    const u64 value = system.observer.counters->value[i];
    if (value != 0) out += number(name_of(static_cast<Counter>(i)), value);
  }
  return out;
}

}  // namespace spillway
