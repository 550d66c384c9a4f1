// Processes: birth, threads, programs, death.

#include <algorithm>

#include "driver.h"
#include "programs.h"

namespace spillway::ksim {

void Driver::born(u32 slot, Pid pid, SpacePtr space) {
  Proc proc;
  proc.pid = pid;
  proc.leader = slot;
  proc.space = std::move(space);
  proc.cpu = static_cast<u32>(slot % setup_.cpus);
  proc.sp = top();
  world_.procs[slot] = proc;
}

void Driver::spawn(u32 slot) {
  const Result<Pid> pid = to_the_end("spawn", [&] { return kernel_->spawn("test"); });
  if (!pid.ok()) {
    const u64 limit = kernel_->meminfo().commit_limit;
    const bool committed = setup_.overcommit == 2 && world_.committed() + 1 > limit;
    if (!committed && !resource_error_is_right(pid.error())) fail("spawn refused");
    return;
  }
  auto space = std::make_shared<Space>();
  space->limits = {2048, kUnlimited, kUnlimited, setup_.mlock_max};
  ModelArea stack;
  stack.range = {top() / kPageSize - 1, top() / kPageSize};
  stack.prot = Prot::read_write;
  stack.growsdown = stack.stack = true;
  space->map(stack);
  std::vector<TaskView> tasks(Kernel::kTasksMax);
  const u32 count = kernel_->tasks(tasks.data(), Kernel::kTasksMax);
  for (u32 i = 0; i < count; ++i) {
    if (tasks[i].pid == pid.value().v) space->brk_start = space->brk = tasks[i].start_brk.v;
  }
  born(slot, pid.value(), space);
}

void Driver::fork(u32 slot, u32 child) {
  if (child >= setup_.slots || world_.at(child) != nullptr) return;
  Proc& parent = *world_.at(slot);
  const Result<Pid> pid = to_the_end("fork", [&] { return kernel_->fork(parent.pid); });
  const Context c = context(parent);
  u64 committed = 0;
  for (const ModelArea& a : parent.space->areas()) {
    if (!a.dontcopy && a.accounted()) committed += a.range.pages();
  }
  const bool refused = commit_refuses(c, committed);
  if (!pid.ok()) {
    const bool right =
        resource_error_is_right(pid.error()) || (refused && pid.error() == Error::no_memory);
    if (!right) fail(std::string("fork refused with ") + spillway::name_of(pid.error()));
    return;
  }
  if (refused) fail("fork succeeds beyond what may be committed");
  auto space = std::make_shared<Space>(*parent.space);
  space->lock_future = false;
  for (const ModelArea& a : parent.space->areas()) {
    if (a.dontcopy) space->unmap(a.range);
  }
  space->change({0, kVpnEnd.v}, [](ModelArea& a) { a.locked = false; });
  born(child, pid.value(), space);
  Proc& made = *world_.at(child);
  made.sp = parent.sp;
  made.catches = parent.catches;
  made.oom_adj = parent.oom_adj;
  for (u32 i = 0; i < kFilesMax; ++i) {
    made.files[i] = parent.files[i];
    if (made.files[i].write) ++made.files[i].object->writers;
  }
}

void Driver::clone(u32 slot, u32 thread) {
  if (thread >= setup_.slots || world_.at(thread) != nullptr) return;
  Proc& parent = *world_.at(slot);
  // A thread needs a kernel stack, and that needs frames.
  const Result<Pid> pid = to_the_end("clone", [&] { return kernel_->clone_thread(parent.pid); });
  if (!pid.ok()) {
    if (!resource_error_is_right(pid.error())) {
      fail(std::string("clone refused with ") + spillway::name_of(pid.error()));
    }
    return;
  }
  born(thread, pid.value(), parent.space);
  Proc& made = *world_.at(thread);
  made.leader = parent.leader;
  made.sp = parent.sp;
  made.catches = parent.catches;
  made.oom_adj = parent.oom_adj;
}

void Driver::exec(u32 slot, const Op& op) {
  Proc& proc = *world_.at(slot);
  // What becomes of other threads is not described here.
  if (op.file < kFirstProgram || op.file >= kFilesMax || world_.threads_of(proc.leader) != 1) {
    return;
  }
  const std::string path = "f" + std::to_string(op.file);
  const Arguments args = draw_arguments(op.seed);
  std::vector<const char*> argv;
  std::vector<const char*> envp;
  for (const std::string& word : args.argv) argv.push_back(word.c_str());
  for (const std::string& word : args.envp) envp.push_back(word.c_str());
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  const ObjectPtr file = world_.files[op.file];
  const std::vector<u8> bytes = make_stack(path, args, top());
  Prediction p;
  p.refuse_if(file == nullptr, Error::no_entry);
  p.refuse_if(file != nullptr && file->writers > 0, Error::text_busy);
  if (p.success) p.refuse_if(bytes.empty(), Error::too_big);
  p.also(Error::no_memory);  // limits of the process, and what may be committed
  const Result<u64> entry = to_the_end(
      "exec", [&] { return kernel_->exec(proc.pid, path.c_str(), argv.data(), envp.data()); });
  note(entry);
  if (!entry.ok()) {
    if (p.allows(entry.error())) return;
    if (entry.error() == Error::io) {
      read_error_told(op);
      return;
    }
    fail(std::string("exec refused with ") + spillway::name_of(entry.error()) + ": " + print(op));
  }
  if (!p.success) fail("exec succeeds where it must not: " + print(op));
  const WrittenElf image = make_elf(program_parts(op.file - kFirstProgram));
  if (entry.value() != image.entry) fail("exec returns a wrong entry point: " + print(op));
  auto space = std::make_shared<Space>();
  space->limits = proc.space->limits;
  proc.sp = top() - bytes.size();
  ModelArea a;
  a.range = {proc.sp / kPageSize, top() / kPageSize};
  a.prot = Prot::read_write;
  a.growsdown = a.stack = true;
  space->map(a);
  for (u64 at = proc.sp; at < top();) {
    const u64 n = std::min(kPageSize - (at & kPageMask), top() - at);
    space->store(at / kPageSize, static_cast<u32>(at & kPageMask), &bytes[at - proc.sp], n);
    at += n;
  }
  a = ModelArea{};
  a.object = file;
  a.executable = true;
  a.range = {image.code / kPageSize, image.data / kPageSize};
  a.prot = Prot::read_exec;
  space->map(a);
  a.range = {image.data / kPageSize, pages_for(image.bss).v};
  a.prot = Prot::read_write;
  a.pgoff = image.data_offset / kPageSize;
  space->map(a);
  // The page in which the file's bytes end and zeros begin is the process's from the start.
  if ((image.bss & kPageMask) != 0) {
    const u64 last = image.bss / kPageSize;
    const u64 n = image.bss & kPageMask;
    std::vector<u8> tail(kPageSize, 0);
    const PageBytes whole = file->page(a.index_of(last));
    if (whole.bytes != nullptr) std::copy_n(whole.bytes->begin(), n, tail.begin());
    space->store(last, 0, tail.data(), kPageSize);
  }
  if (pages_for(image.end).v > pages_for(image.bss).v) {
    ModelArea bss;
    bss.range = {pages_for(image.bss).v, pages_for(image.end).v};
    bss.prot = Prot::read_write;
    space->map(bss);
  }
  space->brk_start = space->brk = pages_for(image.end).v * kPageSize;
  proc.space = space;
  proc.catches = false;
  if (kernel_->stack_pointer(proc.pid).v != proc.sp) fail("exec leaves a wrong stack pointer");
}

void Driver::set_limit(Proc* proc, const Op& op) {
  Limits& limits = proc->space->limits;
  const u64 pages = op.number == kUnlimited ? kUnlimited : op.number / kPageSize;
  switch (op.which) {
    case 0: limits.stack = pages; break;
    case 1: limits.as = pages; break;
    case 2: limits.data_bytes = op.number; break;
    case 3: limits.memlock = pages; break;
    default: return;
  }
  kernel_->set_limit(proc->pid, static_cast<Limit>(op.which), op.number);
}

void Driver::run_process_op(u32 slot, const Op& op) {
  Proc& proc = *world_.at(slot);
  switch (op.kind) {
    case OpKind::fork: fork(slot, op.other); return;
    case OpKind::clone: clone(slot, op.other); return;
    case OpKind::exec: exec(slot, op); return;
    case OpKind::exit: {
      const u64 code = ops_run_ % 100;
      kernel_->exit(proc.pid, static_cast<i32>(code));
      if (proc.leader == slot) {
        process_ended(slot, code);
      } else {
        buried(slot, code);
      }
      return;
    }
    case OpKind::kill: {
      if (op.number == 0 || op.number > 15) return;
      kernel_->kill(proc.pid, static_cast<Signal>(op.number));
      const bool caught = proc.catches && (op.number == 7 || op.number == 11);
      if (!caught) process_ended(proc.leader, 128 + op.number);
      return;
    }
    case OpKind::catches:
      proc.catches = op.number != 0;
      kernel_->set_catches(proc.pid, proc.catches);
      return;
    case OpKind::migrate: proc.cpu = static_cast<u32>(op.cpu % setup_.cpus); return;
    case OpKind::limit: set_limit(&proc, op); return;
    case OpKind::oom_adj:
      proc.oom_adj = static_cast<i32>(op.number % 2001) - 1000;
      kernel_->set_oom_score_adj(proc.pid, proc.oom_adj);
      return;
    case OpKind::sp:
      proc.sp = op.at;
      kernel_->set_stack_pointer(proc.pid, VirtAddr(op.at));
      return;
    case OpKind::pin: sim_.mmu().pin(kernel_->space_of(proc.pid), VirtAddr(op.at).vpn()); return;
    default: fail("not an operation of a task: " + print(op));
  }
}

void Driver::buried(u32 slot, u64 code) {
  Proc& proc = *world_.at(slot);
  if (kernel_->alive(proc.pid)) fail("death: a process lives on that must be dead");
  const Result<u64> reaped = kernel_->reap(proc.pid);
  if (!reaped.ok() || reaped.value() != code) {
    fail("death: a wrong exit code: " + std::to_string(reaped.ok() ? reaped.value() : ~u64{0}) +
         " instead of " + std::to_string(code));
  }
  for (Descriptor& d : proc.files) world_.close(d);
  world_.procs[slot].reset();
  waiting_[slot].reset();
}

void Driver::process_ended(u32 leader, u64 code) {
  for (u32 slot = 0; slot < kSlotsMax; ++slot) {
    if (world_.at(slot) != nullptr && world_.at(slot)->leader == leader) buried(slot, code);
  }
}

// One process for each kill that the kernel counts, and never one that asked not to be.
void Driver::find_victims() {
  for (u32 slot = 0; slot < kSlotsMax; ++slot) {
    if (!world_.is_leader(slot) || kernel_->alive(world_.at(slot)->pid)) continue;
    if (world_.at(slot)->oom_adj == -1000) fail("oom: a process is killed that never must be");
    if (!resource_error_is_right(Error::no_memory)) {
      fail("oom: a process is killed although memory suffices: needs " + std::to_string(demand()) +
           " pages of " + std::to_string(supply()));
    }
    ++victims_;
    process_ended(slot, 128 + static_cast<u64>(Signal::kill));
  }
  // A victim that is the faulting process itself is ended by its signal.
  const u64 kills = counters_[Counter::oom_kill];
  if (victims_ > kills || kills > victims_ + 1) {
    fail("oom: " + std::to_string(kills) + " kills and " + std::to_string(victims_) + " victims");
  }
}

}  // namespace spillway::ksim
