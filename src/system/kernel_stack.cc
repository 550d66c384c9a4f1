// Kernel stacks (MECHANISMS 13.1): two adjacent frames for each task, the task's record at the
// bottom and the stack from the top downward. The buddy allocator aligns them to their size, so the
// task that runs is found by masking the stack pointer.
//
// No task of a simulated kernel runs on its stack; the frames are what matters, and the record that
// lies in them, which the audit compares with the task.
#include "system/kernel_impl.h"

namespace spillway {
namespace {

constexpr u64 kStackMagic = 0x5752'4b53'7453'6b4b;
constexpr u64 kReclaimFirst = 8;  // frames; each round asks for twice as many
constexpr u32 kStackFrames = 1U << Kernel::kStackOrder;

// At the lowest address of a kernel stack.
struct StackBottom {
  u64 magic;
  u32 pid;
};

constexpr AuditReport kGood{true, "", 0, 0};

}  // namespace

// A task is worth more than one round of reclaim: while there is progress, larger and larger pieces
// of memory are freed, because two free frames need not be neighbours. Linux 2.4 gives up after the
// first round; later versions try on for small orders as long as anything can be freed.
Result<Pfn> KernelImpl::alloc_stack() {
  for (u64 want = kReclaimFirst;; want *= 2) {
    const Result<Pfn> stack =
        sys.allocator.alloc_kernel(PageOwner::stack, kAllocKernel, Kernel::kStackOrder);
    if (stack.ok()) {
      sys.stack_frames += kStackFrames;
      return stack;
    }
    if (stack.error() != Error::no_memory) return stack.error();
    const bool last = want > sys.allocator.managed().v;
    switch (last ? ReclaimOutcome::exhausted : sys.reclaim.reclaim(PageCount(want))) {
      case ReclaimOutcome::progress: break;
      case ReclaimOutcome::wait: return Error::wait;
      case ReclaimOutcome::exhausted:
        if (!give_up_swapoff()) return Error::no_memory;
    }
  }
}

void KernelImpl::free_stack(Pfn stack) {
  *reinterpret_cast<StackBottom*>(sys.machine.frames.bytes(stack)) = StackBottom{};
  sys.allocator.free_kernel(stack, PageOwner::stack, Kernel::kStackOrder);
  sys.stack_frames -= kStackFrames;
}

void KernelImpl::mark_stack(const Task& task) {
  *reinterpret_cast<StackBottom*>(sys.machine.frames.bytes(task.stack)) = {kStackMagic, task.pid};
}

Pid KernelImpl::task_of_stack(Pfn pfn) const {
  const Pfn bottom{pfn.v & ~(kStackFrames - 1)};
  if (bottom.v >= sys.frames.count().v) return Pid{};
  const Page& page = sys.frames[bottom];
  if (page.state != PageState::kernel || page.owner != PageOwner::stack) return Pid{};
  const auto* record = reinterpret_cast<const StackBottom*>(sys.machine.frames.bytes(bottom));
  return record->magic == kStackMagic ? Pid{record->pid} : Pid{};
}

AuditReport KernelImpl::audit_stacks() const {
  u64 frames = 0;
  for (u32 i = 0; i < Kernel::kTasksMax; ++i) {
    const Task& task = tasks[i];
    if (!task.used) continue;
    frames += kStackFrames;
    for (u32 k = 0; k < kStackFrames; ++k) {
      const Pfn pfn = task.stack + k;
      if (task_of_stack(pfn).v != task.pid) return {false, "task of a stack", task.pid, pfn.v};
      if (sys.frames[pfn].owner != PageOwner::stack) return {false, "half a stack", task.pid, k};
    }
  }
  if (frames != sys.stack_frames) return {false, "I32 two frames a task", frames, sys.stack_frames};
  return kGood;
}

u32 Kernel::max_threads() const { return impl_.max_threads(); }

Pid Kernel::task_of_stack(const void* address) const {
  const Frames& memory = impl_.sys.machine.frames;
  const u8* masked =
      reinterpret_cast<const u8*>(reinterpret_cast<u64>(address) & ~(kStackBytes - 1));
  if (masked < memory.bytes(Pfn(0))) return Pid{};
  const u64 frame = static_cast<u64>(masked - memory.bytes(Pfn(0))) >> kPageShift;
  if (frame >= memory.count().v) return Pid{};
  return impl_.task_of_stack(Pfn(static_cast<u32>(frame)));
}

}  // namespace spillway
