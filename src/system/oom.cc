// Out of memory: the one place that decides who dies (MECHANISMS 15 and 19.1). The victim's memory
// is taken away at once, by what later kernels call the OOM reaper, so that the allocation that
// failed can be tried again.
//
// Badness follows Linux since 2.6.36: resident pages, swap entries and page tables, adjusted by
// oom_score_adj thousandths of all memory; -1000 is never chosen.
#include "system/kernel_impl.h"

namespace spillway {

SpaceUsage KernelImpl::usage(const AddressSpace& target) const {
  SpaceUsage found;
  PageTable::Span span;
  for (Vpn at{0}; target.table().next_span(at, kVpnEnd, &span); at = span.start + span.count) {
    for (u32 i = 0; i < span.count; ++i) {
      if (span.ptes[i].resident()) ++found.resident;
      if (span.ptes[i].is(Pte::Kind::swapped)) ++found.swapped;
    }
  }
  return found;
}

u64 KernelImpl::badness(const Task& task, const SpaceUsage& used) {
  if (task.state == TaskState::dead || task.oom_score_adj <= -1000) return 0;
  const u64 points = space(task).table().tables() + used.resident + used.swapped;
  const i64 total = static_cast<i64>(sys.allocator.managed().v + sys.swap.areas().total_pages().v);
  const i64 adjusted = static_cast<i64>(points) + task.oom_score_adj * total / 1000;
  return adjusted > 0 ? static_cast<u64>(adjusted) : 1;
}

Task* KernelImpl::choose_victim() {
  Task* worst = nullptr;
  u64 most = 0;
  for (u32 i = 0; i < Kernel::kTasksMax; ++i) {
    Task& task = tasks[i];
    if (!task.used || task.state == TaskState::dead || task.pid != task.leader) continue;
    const u64 points = badness(task, usage(space(task)));
    sys.observer.step("badness of pid {a}: {b}", task.pid, points);
    if (points > most) {
      most = points;
      worst = &task;
    }
  }
  return worst;
}

bool KernelImpl::give_up_swapoff() {
  if (area_going_off == 0 || !sys.swap.areas().cancel_off(area_going_off).ok()) return false;
  sys.observer.step("swapoff of area {a} is given up instead of a process", area_going_off);
  swapoff_given_up = area_going_off;
  area_going_off = 0;
  update_commit();
  return true;
}

bool KernelImpl::out_of_memory(Task* faulting) {
  const WalkScope walk(sys.observer.walk, "out_of_memory", "{a} frames free, {b} slots free",
                       sys.allocator.free_pages().v, sys.swap.areas().free_pages().v);
  if (give_up_swapoff()) return true;
  Task* victim = choose_victim();
  if (victim == nullptr) return false;
  ++oom_kills;
  sys.observer.count(Counter::oom_kill);
  sys.observer.step("oom_kill: pid {a}", victim->pid);
  if (faulting != nullptr && faulting->leader == victim->leader) return false;
  victim->last_signal = SignalInfo{Signal::kill, 0, VirtAddr(0)};
  end_process(victim->leader, 128 + static_cast<i32>(Signal::kill));
  return true;
}

}  // namespace spillway
