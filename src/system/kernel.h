// Kernel: processes on top of a System, for machines whose frames can be shared (simulated ones).
// It is the facade that scenarios, the differential test and the property test drive: system calls
// by process with Linux's errors, the fault entry, the daemons, and views of all that there is.
//
// Nothing blocks: a call that must wait returns Error::wait (a fault: FaultOutcome::wait) and is
// made again with the same arguments after an I/O has completed or, with none in flight, after a
// daemon has run. A call that returned wait has done nothing that its repetition would do twice.
// Thread safety: the engine lock.
#pragma once

#include "machine/fault_sink.h"
#include "machine/machine.h"
#include "observe/observe.h"
#include "system/kernel_config.h"
#include "system/kernel_view.h"
#include "system/system.h"
#include "vfs/flusher.h"
#include "vfs/vfs.h"

namespace spillway {

struct Pid {
  u32 v = 0;
  constexpr auto operator<=>(const Pid&) const = default;
  constexpr bool valid() const { return v != 0; }
};

enum class Signal : u8 { none = 0, bus = 7, kill = 9, segv = 11, term = 15 };
// Linux's si_code of SIGSEGV and SIGBUS.
inline constexpr i32 kSegvMaperr = 1;
inline constexpr i32 kSegvAccerr = 2;
inline constexpr i32 kBusAdrerr = 2;

struct SignalInfo {
  Signal signo = Signal::none;
  i32 code = 0;
  VirtAddr addr;
};

// Linux's values.
inline constexpr u32 kMapShared = 0x01, kMapPrivate = 0x02, kMapFixed = 0x10, kMapAnonymous = 0x20,
                     kMapGrowsdown = 0x100, kMapDenywrite = 0x800, kMapLocked = 0x2000,
                     kMapNoreserve = 0x4000, kMapPopulate = 0x8000, kMapFixedNoreplace = 0x100000;
inline constexpr u32 kMremapMaymove = 1, kMremapFixed = 2, kMremapDontunmap = 4;
inline constexpr u32 kMsAsync = 1, kMsInvalidate = 2, kMsSync = 4;
inline constexpr u32 kMclCurrent = 1, kMclFuture = 2;
inline constexpr u32 kOpenRead = 0, kOpenWrite = 1, kOpenReadWrite = 2, kOpenCreate = 0x40,
                     kOpenExclusive = 0x80, kOpenTruncate = 0x200, kOpenAppend = 0x400;
inline constexpr u32 kIpcCreate = 01000, kIpcExclusive = 02000, kIpcRmid = 0, kShmLock = 11,
                     kShmUnlock = 12, kShmRdonly = 010000, kShmRnd = 020000;
inline constexpr u32 kIpcPrivate = 0;

enum class Daemon : u8 {
  kswapd,     // balances free memory; ages
  kreclaimd,  // linux24: turns inactive_clean pages into free ones
  flush,      // writes old dirty file pages (bdflush, kupdate)
  reaper,     // takes the memory of a killed process away
};

class KernelImpl;

class Kernel final : public FaultSink {
 public:
  static constexpr u32 kTasksMax = 128;
  static constexpr u32 kOpenFilesMax = 32;  // of one process
  static constexpr u32 kObjectCachesMax = 16;

  // As System::boot. `walk` may be null.
  static Result<Kernel*> boot(Machine& machine, const KernelConfig& config, Counters& counters,
                              TraceSink& trace, WalkSink* walk);
  System& system();
  const KernelConfig& config() const;
  void set_walk(WalkSink* walk);

  // --- Processes --------------------
  // Every task has a kernel stack: two frames, aligned to their size, from here until it is reaped.
  // At most a quarter as many tasks as there are frames are made, so that stacks take at most half
  // of RAM (MECHANISMS 13.1).
  static constexpr u32 kStackOrder = 1;
  static constexpr u64 kStackBytes = kPageSize << kStackOrder;
  u32 max_threads() const;
  // The task whose kernel stack holds the address, by masking it; 0 if it is in no stack.
  Pid task_of_stack(const void* address) const;

  // A process with nothing but a stack of one page and an empty heap. again: too many tasks;
  // no_memory: no frames, or no pair of frames for its kernel stack.
  Result<Pid> spawn(const char* name);
  // Replaces the image by that of the ELF file at `path`; argv and envp are null-terminated. Before
  // the point of no return errors leave the old image (no_entry, access, no_exec, too_big,
  // text_busy, no_memory, io); after it the process is killed. Returns the entry point.
  Result<u64> exec(Pid pid, const char* path, const char* const* argv, const char* const* envp);
  // The same with lists of 64-bit addresses that lie in the process's own memory, as a program
  // calls it; 0 = an empty list. fault: it could not read them.
  Result<u64> execve(Pid pid, const char* path, VirtAddr argv, VirtAddr envp);
  // A child whose pages are shared copy-on-write. no_memory, again: nothing has changed.
  Result<Pid> fork(Pid pid);
  // A task that shares the parent's address space (CLONE_VM).
  Result<Pid> clone_thread(Pid pid);
  void exit(Pid pid, i32 code);
  void kill(Pid pid, Signal signo);
  // Removes a dead child's record; its exit code, 128+signal if a signal ended it.
  // no_process; again: it lives.
  Result<u64> reap(Pid pid);
  bool alive(Pid pid) const;
  SpaceId space_of(Pid pid) const;

  // The task that runs on `cpu` from now on: faults on that CPU are its own.
  void run_on(u32 cpu, Pid pid);
  Pid current(u32 cpu) const;
  void set_stack_pointer(Pid pid, VirtAddr sp);
  VirtAddr stack_pointer(Pid pid) const;
  void set_limit(Pid pid, Limit limit, u64 value);
  void set_nice(Pid pid, i32 nice);
  void set_oom_score_adj(Pid pid, i32 adj);  // -1000..1000; -1000 is never chosen
  // A process that catches SIGSEGV and SIGBUS lives on; others die of them.
  void set_catches(Pid pid, bool catches);

  // The fault entry (do_page_fault) of the task that runs on the machine's current CPU.
  FaultOutcome on_fault(SpaceId space, VirtAddr va, Access access, u32 attempt) override;
  // What a program's access that ended with `outcome` (not done, not wait) means for its task:
  // the signal, which kills a task that does not catch it.
  SignalInfo raise(Pid pid, FaultOutcome outcome, VirtAddr va);
  SignalInfo last_signal(Pid pid) const;

  // --- System calls on the address space --------------------
  Result<u64> mmap(Pid pid, u64 addr, u64 length, u32 prot, u32 flags, i32 fd, u64 offset);
  Result<u64> munmap(Pid pid, u64 addr, u64 length);
  Result<u64> mprotect(Pid pid, u64 addr, u64 length, u32 prot);
  Result<u64> mremap(Pid pid, u64 old_addr, u64 old_length, u64 new_length, u32 flags,
                     u64 new_addr);
  // `progress` here, in fsync and sync_disk: fresh at first, kept over Error::wait. Without it each
  // repetition begins anew, and who dirties the pages meanwhile can hold it.
  Result<u64> msync(Pid pid, u64 addr, u64 length, u32 flags, SyncProgress* progress = nullptr);
  Result<u64> mlock(Pid pid, u64 addr, u64 length);
  Result<u64> munlock(Pid pid, u64 addr, u64 length);
  Result<u64> mlockall(Pid pid, u32 flags);
  Result<u64> munlockall(Pid pid);
  Result<u64> madvise(Pid pid, u64 addr, u64 length, i32 advice);
  // vec: one byte for each page of the range.
  Result<u64> mincore(Pid pid, u64 addr, u64 length, u8* vec);
  Result<u64> brk(Pid pid, u64 addr);

  // --- Files (buffers are the caller's, not the process's) --------------------
  // A file made outside of any process, for setting the stage, and the directories above it.
  // capacity 0 = size rounded up. Paths begin at the root directory, with a '/' or without.
  Status create_file(const char* path, u64 size, u64 capacity);
  Result<u64> open(Pid pid, const char* path, u32 flags);
  Result<u64> close(Pid pid, i32 fd);
  // `done` as in Vfs::read: 0 at first, kept over Error::wait.
  Result<u64> pread(Pid pid, i32 fd, void* out, u64 bytes, u64 offset, u64* done);
  Result<u64> pwrite(Pid pid, i32 fd, const void* data, u64 bytes, u64 offset, u64* done);
  Result<u64> ftruncate(Pid pid, i32 fd, u64 size);
  Result<u64> fsync(Pid pid, i32 fd, SyncProgress* progress = nullptr);
  Result<u64> unlink(Pid pid, const char* path);
  Result<u64> mkdir(Pid pid, const char* path);
  Result<u64> rmdir(Pid pid, const char* path);
  Result<u64> link(Pid pid, const char* old_path, const char* path);
  Result<u64> symlink(Pid pid, const char* target, const char* path);
  Result<u64> rename(Pid pid, const char* old_path, const char* path);
  Result<u64> stat(Pid pid, const char* path, StatView* out);
  // As Vfs::read_directory.
  Result<u64> readdir(Pid pid, const char* path, u64 position, DirectorySink& sink);
  Result<u64> file_size(Pid pid, i32 fd) const;
  // Files' pages that are clean, unmapped and not in transfer leave the cache (as a 1 written to
  // /proc/sys/vm/drop_caches). Returns how many went; never an error.
  Result<u64> drop_caches();

  // --- Shared memory (System V) --------------------
  Result<u64> shmget(Pid pid, u32 key, u64 size, u32 flags);
  Result<u64> shmat(Pid pid, u32 id, u64 addr, u32 flags);
  Result<u64> shmdt(Pid pid, u64 addr);
  Result<u64> shmctl(Pid pid, u32 id, u32 command);

  // --- Swap areas --------------------
  // Writes a fresh swap header to block device `device` (mkswap).
  Status mkswap(u32 device);
  // priority < 0: the next lower default.
  Result<u64> swapon(u32 device, i32 priority);
  // no_memory: it cannot be emptied, or (Overcommit::never) more would be promised than there is.
  Result<u64> swapoff(u32 device);

  // --- Block devices, read and written by block through a buffer cache --------------------
  // Puts a buffer cache over a machine's device, which is used for nothing else. invalid: another
  // block size, no such device; busy: it has one.
  Status open_disk(u32 device, u32 block_size);
  // Copies a block out. Errors as BufferCache::bread; no_device: it was not opened.
  Result<u64> bread(u32 device, u64 block, u8* out);
  // Fills a block and marks it dirty. `done`: false at first, kept over Error::wait, which may also
  // mean that a writer must let some writes end (Flusher::balance_dirty).
  Result<u64> write_block(u32 device, u64 block, const u8* bytes, bool* done);
  Result<u64> forget_block(u32 device, u64 block);
  Result<u64> sync_disk(u32 device, SyncProgress* progress = nullptr);
  u32 disks(DiskView* out, u32 max) const;
  BlockView block(u32 device, u64 block) const;
  Flusher& flusher();

  // --- Names of the file device, as the kernel itself uses them: without a process --------------
  // By path from the root directory; no_entry: there is no file device. A file of `size` bytes, all
  // zeros, has room for these; the result is the inode's number.
  Result<u64> name_make(const char* path, bool directory, u64 size);
  Result<u64> name_lookup(const char* path);           // the inode's number
  Result<u64> name_chmod(const char* path, u32 mode);  // makes its inode dirty
  Result<u64> name_remove(const char* path, bool directory);
  Result<u64> name_rename(const char* old_path, const char* path);
  // prune_dcache, or prune_icache; returns how many went.
  Result<u64> name_prune(bool inodes, u64 count);

  // --- Object caches of the caller's own (kmem_cache) --------------------
  // `name` has at most 18 characters. Returns the cache's number. exists; again: too many; invalid:
  // a size that no slab can have.
  Result<u64> kmem_cache_create(const char* name, u32 size, bool with_ctor);
  // no_entry: no such cache.
  Result<u64> kmem_cache_alloc(u64 cache);  // the object's address
  void kmem_cache_free(u64 cache, u64 object);
  Result<u64> kmem_cache_shrink(u64 cache);   // slabs that went
  Result<u64> kmem_cache_destroy(u64 cache);  // busy: objects are in use
  u64 kmem_cache_reap();                      // frames that went
  // Ends all areas of vmalloc that were given back; returns their pages.
  u64 vmalloc_purge();

  // --- Daemons --------------------
  // One bounded piece of the daemon's work; true if it has more to do at once.
  bool step(Daemon daemon);
  // Whether the daemon would run now: it was woken, or its time has come.
  bool wanted(Daemon daemon) const;
  // Gives back what is only kept in case somebody asks again (as a 2 written to
  // /proc/sys/vm/drop_caches): unused dentries and inodes, then empty slabs and the frames in CPUs'
  // lists.
  void drop_slabs();
  // Ageing in the background, as a busy kernel would do it once in a while: linux24 scans 1/64
  // of the active list and one round of swap_out, even without shortage.
  void age();
  // One look of the policy at every page that the process has mapped (linux24: one turn of swap_out
  // through the whole space). Returns how many entries it unmapped; 0 under other policies.
  u64 visit(Pid pid);

  // --- Views --------------------
  // Each fills up to `max` records and returns how many there are.
  u32 tasks(TaskView* out, u32 max) const;
  u32 areas(Pid pid, AreaView* out, u32 max) const;
  u32 swaps(SwapView* out, u32 max) const;
  u32 files(FileView* out, u32 max) const;
  u32 segments(ShmView* out, u32 max) const;
  PteView entry(Pid pid, Vpn vpn) const;
  FrameView frame(Pfn pfn) const;
  // Frames of a queue from its head.
  u32 queue(PageQueue queue, Pfn* out, u32 max) const;
  // References of a slot: entries, shared memory's table, the swap cache.
  SlotView slot(SlotId slot) const;
  MemInfo meminfo() const;
  // Before counters are read: pgalloc and pgfree are counted per CPU and exact only then.
  void fold_counters() const;
  // Free blocks of 2^order frames (buddyinfo); frames in CPUs' lists are in none.
  u64 free_blocks(u32 order) const;
  // /proc/vmallocinfo, by address.
  u32 vmalloc_areas(VmallocView* out, u32 max) const;
  u32 slabs(SlabView* out, u32 max) const;
  VfsStats vfs_stats() const;
  AuditReport audit();

 private:
  friend class KernelImpl;
  friend class RowsBed;  // tests
  explicit Kernel(KernelImpl& impl) : impl_(impl) {}
  KernelImpl& impl_;
};

}  // namespace spillway
