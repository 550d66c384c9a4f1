// Processes: birth, fork, threads, death.
#include "system/kernel_impl.h"

namespace spillway {
namespace {

constexpr u64 kClassicTop = u64{3} << 30;               // PAGE_OFFSET of i386
constexpr u64 kClassicMmap = kClassicTop / 3;           // TASK_UNMAPPED_BASE
constexpr u64 kClassicBrk = 0x0804'a000;                // after a small program at 0x08048000
constexpr u64 kModernTop = (u64{1} << 47) - kPageSize;  // TASK_SIZE of x86-64
constexpr u64 kModernBrk = 0x5555'5556'0000;
constexpr u64 kModernStackRoom = u64{128} << 20;  // Linux keeps at least so much below the top
constexpr u64 kMinAddress = 65536;                // vm.mmap_min_addr
constexpr u64 kStackLimit = u64{8} << 20;         // RLIMIT_STACK

void copy_name(char (&to)[16], const char* from) {
  u32 i = 0;
  for (; i + 1 < sizeof(to) && from[i] != 0; ++i) to[i] = from[i];
  to[i] = 0;
}

}  // namespace

u64 KernelImpl::task_top() const {
  return config.layout == Layout::classic ? kClassicTop : kModernTop;
}

u32 KernelImpl::max_threads() const {
  const u64 quarter = sys.allocator.managed().v / 4;
  return quarter < Kernel::kTasksMax ? static_cast<u32>(quarter) : Kernel::kTasksMax;
}

Result<Task*> KernelImpl::new_task(const char* name) {
  Task* found = nullptr;
  u32 used = 0;
  for (u32 i = 0; i < Kernel::kTasksMax; ++i) {
    if (tasks[i].used) ++used;
    if (!tasks[i].used && found == nullptr) found = &tasks[i];
  }
  if (found == nullptr || used >= max_threads()) return Error::again;
  SPW_TRY_ASSIGN(stack, alloc_stack());
  Task& task = *found;
  task = Task{};
  task.used = true;
  task.stack = stack;
  task.pid = next_pid++;
  task.leader = task.pid;
  copy_name(task.name, name);
  mark_stack(task);
  return &task;
}

void KernelImpl::free_task(Task& task) {
  free_stack(task.stack);
  task.stack = kNoPfn;
  task.used = false;
}

Result<SpaceId> KernelImpl::new_space() {
  const bool classic = config.layout == Layout::classic;
  const VpnRange range{VirtAddr(kMinAddress).vpn(), VirtAddr(task_top()).vpn()};
  SPW_TRY_ASSIGN(id, sys.spaces.create(range, PageCount(0)));
  AddressSpace& made = sys.spaces.at(id);
  SpaceLayout layout;
  layout.top_down = !classic;
  layout.mmap_low = classic ? VirtAddr(kClassicMmap).vpn() : range.start;
  layout.mmap_high = classic ? range.end : VirtAddr(kModernTop - kModernStackRoom).vpn();
  made.set_layout(layout);
  made.set_brk_start(VirtAddr(classic ? kClassicBrk : kModernBrk).vpn());
  SpaceLimits& limits = made.limits();
  limits.stack = pages_in(kStackLimit);
  limits.stack_guard_gap = config.stack_guard_gap;
  limits.map_count = config.map_count_max;
  limits.memlock = sys.config.mlock_max;
  mms[id.v] = MmInfo{};
  mms[id.v].users = 1;
  mms[id.v].start_stack = VirtAddr(task_top());
  return id;
}

Status KernelImpl::map_stack(AddressSpace& made, PageCount pages) {
  MapParams params;
  const Vpn top = VirtAddr(task_top()).vpn();
  params.range = {top - pages.v, top};
  params.prot = Prot::read_write;
  params.fixed = true;
  params.growsdown = true;
  params.stack = true;
  SPW_TRY_ASSIGN(start, made.map(params));
  (void)start;
  return kOk;
}

Result<Pid> Kernel::spawn(const char* name) {
  SPW_TRY_ASSIGN(task, impl_.new_task(name));
  const Result<SpaceId> space = impl_.new_space();
  if (!space.ok()) {
    impl_.free_task(*task);
    return space.error();
  }
  task->space = space.value();
  const Status stack = impl_.map_stack(impl_.space(*task), PageCount(1));
  if (!stack.ok()) {
    impl_.sys.spaces.destroy(task->space);
    impl_.free_task(*task);
    return stack.error();
  }
  task->sp = VirtAddr(impl_.task_top());
  return Pid{task->pid};
}

Result<Pid> Kernel::fork(Pid pid) {
  SPW_TRY_ASSIGN(parent, impl_.live(pid));
  const WalkScope walk(impl_.sys.observer.walk, "do_fork", "pid {a}", pid.v);
  SPW_TRY_ASSIGN(child, impl_.new_task(parent->name));
  const Result<SpaceId> made = impl_.new_space();
  if (!made.ok()) {
    impl_.free_task(*child);
    return made.error();
  }
  const Status copied = impl_.sys.spaces.at(made.value()).fork_from(impl_.space(*parent));
  if (!copied.ok()) {
    impl_.sys.spaces.destroy(made.value());
    impl_.free_task(*child);
    return copied.error();
  }
  const u32 child_pid = child->pid;
  const Pfn child_stack = child->stack;
  *child = *parent;
  child->stack = child_stack;
  child->pid = child->leader = child_pid;
  child->parent = parent->pid;
  child->space = made.value();
  child->pending = PendingCall{};
  child->min_flt = child->maj_flt = 0;
  child->last_signal = SignalInfo{};
  const u32 users = impl_.mm_info(made.value()).users;
  impl_.mm_info(made.value()) = impl_.mm_info(parent->space);
  impl_.mm_info(made.value()).users = users;
  for (OpenFile& file : child->files) {
    if (file.inode == nullptr) continue;
    impl_.sys.vfs.hold(*file.dentry);
    if (file.can_write()) ++file.inode->writers;
  }
  impl_.sys.observer.step("child is pid {a}", child_pid);
  return Pid{child_pid};
}

Result<Pid> Kernel::clone_thread(Pid pid) {
  SPW_TRY_ASSIGN(parent, impl_.live(pid));
  SPW_TRY_ASSIGN(thread, impl_.new_task(parent->name));
  thread->leader = parent->leader;
  thread->parent = parent->parent;
  thread->space = parent->space;
  thread->sp = parent->sp;
  thread->catches = parent->catches;
  thread->oom_score_adj = parent->oom_score_adj;
  ++impl_.mm_info(parent->space).users;
  return Pid{thread->pid};
}

void KernelImpl::drop_space(Task& task) {
  MmInfo& info = mm_info(task.space);
  SPW_ASSERT_LT(0u, info.users);
  if (--info.users == 0) {
    const WalkScope walk(sys.observer.walk, "exit_mmap", "pid {a}", task.pid);
    sys.spaces.destroy(task.space);
  }
  task.space = SpaceId{};
}

void KernelImpl::end_task(Task& task, i32 code) {
  if (task.state == TaskState::dead) return;
  for (OpenFile& file : task.files) {
    if (file.inode == nullptr) continue;
    if (file.can_write()) --file.inode->writers;
    sys.vfs.put(*file.dentry);
    file = OpenFile{};
  }
  drop_space(task);
  task.state = TaskState::dead;
  task.exit_code = code;
  task.pending = PendingCall{};
}

void KernelImpl::end_process(u32 leader, i32 code) {
  const WalkScope walk(sys.observer.walk, "do_exit", "pid {a}", leader);
  for (u32 i = 0; i < Kernel::kTasksMax; ++i) {
    if (tasks[i].used && tasks[i].leader == leader) end_task(tasks[i], code);
  }
}

// What exec does to a process of several tasks (de_thread): `task` goes on alone. It keeps its
// number, where Linux would give it that of the first task.
void KernelImpl::end_other_threads(Task& task) {
  for (u32 i = 0; i < Kernel::kTasksMax; ++i) {
    if (tasks[i].used && tasks[i].leader == task.leader && &tasks[i] != &task) {
      end_task(tasks[i], 0);
    }
  }
  task.leader = task.pid;
}

void Kernel::exit(Pid pid, i32 code) {
  Task* task = impl_.find(pid);
  if (task == nullptr) return;
  if (task->pid == task->leader) {
    impl_.end_process(task->leader, code);
  } else {
    impl_.end_task(*task, code);
  }
}

void Kernel::kill(Pid pid, Signal signo) {
  Task* task = impl_.find(pid);
  if (task == nullptr || task->state == TaskState::dead || signo == Signal::none) return;
  task->last_signal = SignalInfo{signo, 0, VirtAddr(0)};
  const bool caught = task->catches && (signo == Signal::segv || signo == Signal::bus);
  if (!caught) {
    impl_.end_process(task->leader, 128 + static_cast<i32>(signo));
  }
}

Result<u64> Kernel::reap(Pid pid) {
  Task* task = impl_.find(pid);
  if (task == nullptr) return Error::no_process;
  if (task->state != TaskState::dead) return Error::again;
  const u64 code = static_cast<u64>(task->exit_code);
  impl_.free_task(*task);
  return code;
}

}  // namespace spillway
