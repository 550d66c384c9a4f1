// The state of a Kernel: tasks, what each address space belongs to, and the System below.
// Lives in boot memory.
#pragma once

#include "system/kernel.h"
#include "system/system_impl.h"
#include "vfs/buffer_cache.h"

namespace spillway {

class ExecStrings;

struct OpenFile {
  Dentry* dentry = nullptr;  // held
  Inode* inode = nullptr;    // the dentry's; null: the descriptor is free
  u32 flags = 0;
  FileReadahead readahead;
  bool can_read() const { return (flags & 3) != kOpenWrite; }
  bool can_write() const { return (flags & 3) != kOpenRead; }
};

// A call that had done its work and is only bringing pages in: its repetition goes on there.
struct PendingCall {
  const char* name = nullptr;  // null: none
  u64 a = 0;
  u64 b = 0;
  u64 c = 0;
  u64 result = 0;
  VpnRange range{};

  // Whether this is the call with these arguments.
  bool is(const char* call, u64 x, u64 y = 0, u64 z = 0) const {
    return name != nullptr && __builtin_strcmp(name, call) == 0 && a == x && b == y && c == z;
  }
};

struct Task {
  bool used = false;
  TaskState state = TaskState::running;
  u32 pid = 0;
  u32 parent = 0;
  u32 leader = 0;
  char name[16] = {};
  SpaceId space;
  Pfn stack;  // the lower of the two frames of its kernel stack
  i32 exit_code = 0;
  VirtAddr sp;
  SignalInfo last_signal;
  bool catches = false;
  i32 nice = 0;
  i32 oom_score_adj = 0;
  u64 min_flt = 0;
  u64 maj_flt = 0;
  PendingCall pending;
  u32 exec_waits = 0;   // in a row, without more of the arguments being copied
  u64 exec_copied = 0;  // most bytes of arguments that a try has copied so far
  OpenFile files[Kernel::kOpenFilesMax];
};

// An object cache that a caller made; the number of its objects' constructions is in ctors.
struct ObjectSlot {
  KmemCache* cache = nullptr;  // in `memory`; null: free
  char name[20] = {};
  alignas(KmemCache) unsigned char memory[sizeof(KmemCache)];
  u64 ctors = 0;
};

// What is known of a space beside its areas.
struct MmInfo {
  u32 users = 0;  // tasks
  VirtAddr start_stack;
  VirtAddr start_code;
  VirtAddr end_code;
};

// Entries of a page table.
struct SpaceUsage {
  u64 resident = 0;
  u64 swapped = 0;
};

class KernelImpl {
 public:
  KernelImpl(SystemImpl& system_in, const KernelConfig& config_in)
      : sys(system_in), config(config_in), kernel(*this) {}

  Status boot();

  Task* find(Pid pid);
  const Task* find(Pid pid) const { return const_cast<KernelImpl*>(this)->find(pid); }
  // The live task, or an error: no_process.
  Result<Task*> live(Pid pid);
  AddressSpace& space(const Task& task) { return sys.spaces.at(task.space); }
  MmInfo& mm_info(SpaceId id) { return mms[id.v]; }

  // process.cc
  // A task with a pid and a kernel stack, in the table. Its record goes with free_task.
  Result<Task*> new_task(const char* name);
  void free_task(Task& task);
  // kernel_stack.cc
  Result<Pfn> alloc_stack();
  void free_stack(Pfn stack);
  void mark_stack(const Task& task);  // writes the record at the stack's bottom
  Pid task_of_stack(Pfn pfn) const;
  u32 max_threads() const;
  AuditReport audit_stacks() const;
  Result<SpaceId> new_space();
  Status map_stack(AddressSpace& space, PageCount pages);
  void drop_space(Task& task);
  void end_task(Task& task, i32 code);
  void end_process(u32 leader, i32 code);
  void end_other_threads(Task& task);
  u64 task_top() const;  // end of user addresses (TASK_SIZE)

  // oom.cc
  SpaceUsage usage(const AddressSpace& space) const;  // O(tables)
  u64 badness(const Task& task, const SpaceUsage& used);
  Task* choose_victim();
  // No frame can be had for `faulting`: kills one process and takes its memory. True: another
  // one's, so that the allocation can be tried again.
  bool out_of_memory(Task* faulting);
  // Who switches a swap area off asks for more than all others: he gives up first (Linux makes him
  // the preferred victim). False: nobody does.
  bool give_up_swapoff();

  // kernel_memory.cc
  // The same for locked private areas that may be written, of those in the range.
  Result<u64> populate_locked(Task& task, VpnRange range);
  Result<u64> populate(Task& task, VpnRange range, u64 result, bool must, Vpn* reached = nullptr);
  Result<u64> finish_pending(Task& task, bool must);
  static PageCount limit_pages(u64 bytes) {
    return bytes == kUnlimited ? PageCount(~u64{0}) : pages_in(bytes);
  }

  // kernel_file.cc
  Result<OpenFile*> open_file(Task& task, i32 fd);
  Result<Dentry*> open_path(const char* path, u32 flags);

  // kernel_path.cc
  template <class Call>
  Result<u64> at_path(const char* path, bool directory, Call call);
  template <class Call>
  Result<u64> at_path(Pid pid, const char* path, bool directory, Call call);
  template <class Move>
  Result<u64> rename(const char* old_path, Move move);
  Status make_parents(const char* path);

  // exec.cc
  Result<u64> run_image(Task& task, const char* path, ExecStrings& strings, u64* copied);
  Result<u64> execve(Task& task, const char* path, ExecStrings& strings);

  // kernel_blocks.cc, kernel_objects.cc
  Result<BufferCache*> disk(u32 device);
  // For views: that of the file device too.
  const BufferCache* blocks_of(u32 device) const;
  Result<KmemCache*> object_cache(u64 number);

  // kernel_swap.cc
  Status empty_area(u32 area);
  Status empty_space(AddressSpace& space, u32 area);
  Status empty_shmem(u32 area);
  void leave_area(Pfn pfn);
  void keep_in(Pfn pfn, u32 area);
  Status forget_cached(u32 area);
  void update_commit();

  SystemImpl& sys;
  KernelConfig config;
  Task* tasks = nullptr;
  MmInfo mms[SpaceTable::kSpacesMax];
  u32 current[PageAllocator::kCpusMax] = {};  // pid by CPU, 0 = none
  u32 next_pid = 1;
  u32 area_going_off = 0;    // swapoff in progress, 0 = none
  u32 swapoff_given_up = 0;  // area whose swapoff ended for want of memory; its caller hears of it
  u32 oom_kills = 0;
  // kernel_blocks.cc, kernel_objects.cc
  BufferCache* disks[Machine::kBlockDevicesMax] = {};
  ObjectSlot objects[Kernel::kObjectCachesMax];
  Kernel kernel;
};

}  // namespace spillway
