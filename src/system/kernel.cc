#include "system/kernel.h"

#include <new>

#include "system/kernel_impl.h"

namespace spillway {

Status KernelImpl::boot() {
  void* memory = sys.machine.boot.alloc(Kernel::kTasksMax * sizeof(Task), alignof(Task));
  if (memory == nullptr) return Error::no_memory;
  tasks = static_cast<Task*>(memory);
  for (u32 i = 0; i < Kernel::kTasksMax; ++i) ::new (static_cast<void*>(&tasks[i])) Task;
  // A kernel owns its RAM from the start: it does not share a budget with others.
  while (sys.allocator.grow(PageAllocator::kGrowBatch) > 0) {
  }
  update_commit();
  return kOk;
}

Result<Kernel*> Kernel::boot(Machine& machine, const KernelConfig& config, Counters& counters,
                             TraceSink& trace, WalkSink* walk) {
  // Processes share frames; without that there is nothing for a kernel to do.
  if (!machine.features.shared_frames) return Error::not_supported;
  void* below = machine.boot.alloc(sizeof(SystemImpl), alignof(SystemImpl));
  void* above = machine.boot.alloc(sizeof(KernelImpl), alignof(KernelImpl));
  if (below == nullptr || above == nullptr) return Error::no_memory;
  Config mm = config.mm;
  mm.file_device = config.file_device;
  SystemImpl* system = ::new (below) SystemImpl(machine, mm, counters, trace);
  system->observer.walk = walk;
  SPW_TRY(system->boot());
  KernelImpl* impl = ::new (above) KernelImpl(*system, config);
  SPW_TRY(impl->boot());
  system->finish_boot();
  impl->update_commit();
  return &impl->kernel;
}

System& Kernel::system() { return impl_.sys.system; }
const KernelConfig& Kernel::config() const { return impl_.config; }
void Kernel::set_walk(WalkSink* walk) { impl_.sys.observer.walk = walk; }

Task* KernelImpl::find(Pid pid) {
  for (u32 i = 0; i < Kernel::kTasksMax; ++i) {
    if (tasks[i].used && tasks[i].pid == pid.v) return &tasks[i];
  }
  return nullptr;
}

Result<Task*> KernelImpl::live(Pid pid) {
  Task* task = find(pid);
  if (task == nullptr || task->state == TaskState::dead) return Error::no_process;
  return task;
}

bool Kernel::alive(Pid pid) const {
  const Task* task = impl_.find(pid);
  return task != nullptr && task->state == TaskState::running;
}

SpaceId Kernel::space_of(Pid pid) const {
  const Task* task = impl_.find(pid);
  return task == nullptr ? SpaceId{} : task->space;
}

void Kernel::run_on(u32 cpu, Pid pid) {
  SPW_ASSERT_LT(cpu, PageAllocator::kCpusMax);
  impl_.current[cpu] = pid.v;
}

Pid Kernel::current(u32 cpu) const {
  SPW_ASSERT_LT(cpu, PageAllocator::kCpusMax);
  return Pid{impl_.current[cpu]};
}

void Kernel::set_stack_pointer(Pid pid, VirtAddr sp) {
  if (Task* task = impl_.find(pid)) task->sp = sp;
}

VirtAddr Kernel::stack_pointer(Pid pid) const {
  const Task* task = impl_.find(pid);
  return task == nullptr ? VirtAddr(0) : task->sp;
}

void Kernel::set_limit(Pid pid, Limit limit, u64 value) {
  Task* task = impl_.find(pid);
  if (task == nullptr || task->state == TaskState::dead) return;
  SpaceLimits& limits = impl_.space(*task).limits();
  const PageCount pages = KernelImpl::limit_pages(value);
  switch (limit) {
    case Limit::stack: limits.stack = pages; return;
    case Limit::as: limits.as = pages; return;
    case Limit::data: limits.data_bytes = value; return;
    case Limit::memlock: limits.memlock = pages; return;
  }
}

void Kernel::set_nice(Pid pid, i32 nice) {
  if (Task* task = impl_.find(pid)) task->nice = nice;
}

void Kernel::set_oom_score_adj(Pid pid, i32 adj) {
  if (Task* task = impl_.find(pid)) task->oom_score_adj = adj;
}

void Kernel::set_catches(Pid pid, bool catches) {
  if (Task* task = impl_.find(pid)) task->catches = catches;
}

SignalInfo Kernel::last_signal(Pid pid) const {
  const Task* task = impl_.find(pid);
  return task == nullptr ? SignalInfo{} : task->last_signal;
}

FaultOutcome Kernel::on_fault(SpaceId id, VirtAddr va, Access access, u32 attempt) {
  SystemImpl& sys = impl_.sys;
  const u32 cpu = sys.machine.cpus.current();
  Task* task = impl_.find(Pid{impl_.current[cpu]});
  if (task != nullptr && task->space != id) task = nullptr;
  AddressSpace* space = sys.spaces.find(id);
  if (space == nullptr) return FaultOutcome::maperr;
  FaultTask about;
  if (task != nullptr) about = {impl_.config.strict_stack, task->sp};
  sys.observer.event(EventKind::fault_begin, va.v, static_cast<u64>(access));
  const u64 majors = (*sys.observer.counters)[Counter::pgmajfault];
  FaultOutcome outcome = sys.fault.handle(*space, va, access, attempt, about);
  if (task != nullptr) {
    const u64 more = (*sys.observer.counters)[Counter::pgmajfault] - majors;
    task->maj_flt += more;
    if (attempt == 0 && more == 0) ++task->min_flt;
  }
  if (outcome == FaultOutcome::oom && impl_.out_of_memory(task)) outcome = FaultOutcome::done;
  sys.observer.event(EventKind::fault_end, va.v, static_cast<u64>(outcome));
  return outcome;
}

SignalInfo Kernel::raise(Pid pid, FaultOutcome outcome, VirtAddr va) {
  Task* task = impl_.find(pid);
  SignalInfo info;
  info.addr = va;
  switch (outcome) {
    case FaultOutcome::done:
    case FaultOutcome::wait: return info;
    case FaultOutcome::maperr:
      info.signo = Signal::segv;
      info.code = kSegvMaperr;
      break;
    case FaultOutcome::accerr:
      info.signo = Signal::segv;
      info.code = kSegvAccerr;
      break;
    case FaultOutcome::bus:
    case FaultOutcome::corrupt:
      info.signo = Signal::bus;
      info.code = kBusAdrerr;
      break;
    case FaultOutcome::oom: info.signo = Signal::kill; break;
  }
  if (task == nullptr || task->state == TaskState::dead) return info;
  task->last_signal = info;
  const bool caught = task->catches && info.signo != Signal::kill;
  impl_.sys.observer.step(caught ? "signal {a} to pid {b}, caught" : "signal {a} ends pid {b}",
                          static_cast<u64>(info.signo), pid.v);
  if (!caught) impl_.end_process(task->leader, 128 + static_cast<i32>(info.signo));
  return info;
}

AuditReport Kernel::audit() {
  for (u32 device = 0; device < Machine::kBlockDevicesMax; ++device) {
    const BufferCache* disk = impl_.blocks_of(device);
    if (disk != nullptr && !disk->validate()) return {false, "I34 buffers", device, 0};
  }
  const AuditReport report = impl_.sys.audit();
  return report.ok ? impl_.audit_stacks() : report;
}

}  // namespace spillway
