#include "machine_host/host_machine.h"

#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "machine_host/engine_fds.h"
#include "machine_host/engine_lock.h"
#include "machine_host/syscalls.h"

namespace spillway {
namespace {

// Counters of a machine whose ledger entry is not there yet; nothing reads them.
Counters g_no_counters;

// Small requests share pieces of this size; memory is backed only where it is touched.
constexpr u64 kBootPiece = u64{8} << 20;
// The region must at least hold several times the budget, or swapping makes no sense.
constexpr u64 kReserveMin = u64{256} << 20;
constexpr u32 kCpusMax = 1024;
// A few hundred round trips, so that a kernel whose MOVE does not do as it says is found before
// the program's data depend on it.
constexpr u64 kStartTestNs = 1'000'000;

}  // namespace

void HostCpus::count_them() {
  u64 mask[kCpusMax / 64] = {};
  const i64 bytes = sys::call(SYS_sched_getaffinity, 0, sizeof(mask), mask);
  u32 count = 0;
  for (i64 i = 0; i < bytes / 8; ++i) count += static_cast<u32>(__builtin_popcountll(mask[i]));
  count_ = count > 0 ? count : 1;
}

u32 HostCpus::current() {
  // The segment limit that the kernel sets per CPU: what the vdso's getcpu reads. libc's
  // sched_getcpu would read the thread block, which may be managed memory.
  constexpr u32 kCpuNodeSegment = 0x7b;
  u32 limit = 0;
  asm volatile("lsl %1, %0" : "+r"(limit) : "r"(kCpuNodeSegment));
  const u32 cpu = limit & 0xfff;
  return cpu < count_ ? cpu : cpu % count_;
}

void* HostBootMemory::alloc(u64 bytes, u64 align) {
  SPW_ASSERT(align != 0 && align <= kPageSize && (align & (align - 1)) == 0);
  if (bytes == 0 || bytes > (u64{1} << 46)) return nullptr;
  u64 at = (next_ + align - 1) & ~(align - 1);
  if (next_ == 0 || at + bytes > end_) {
    const u64 piece = bytes > kBootPiece / 4 ? (bytes + kPageMask) & ~kPageMask : kBootPiece;
    const i64 got =
        sys::mmap(0, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    if (sys::failed(got)) return nullptr;
    if (piece != kBootPiece) return reinterpret_cast<void*>(got);
    at = static_cast<u64>(got);
    end_ = at + piece;
  }
  next_ = at + bytes;
  return reinterpret_cast<void*>(at);
}

HostMachine::HostMachine()
    : mmu_(frames_, g_no_counters), device_(frames_), machine_{Features{}, frames_, mmu_,   clock_,
                                                               cpus_,      boot_,   nullptr} {}

bool HostMachine::open_uffd(UserModeOnly user_mode_only, Message& why) {
  uffd_ = uffd_open(engine_fd(FdRole::uffd_device), user_mode_only);
  if (uffd_.fd < 0) {
    why.text("no permission to use userfaultfd: ").error(uffd_.error);
    why.text(
        "; run as root, or give this user access to /dev/userfaultfd"
        " (`spillway doctor` tells how)");
    return false;
  }
  if (uffd_.way == UffdWay::device) {
    const int kept = engine_fd_adopt(FdRole::uffd_device, uffd_.device_fd, FdExec::close);
    if (kept < 0) sys::close(uffd_.device_fd);
  }
  const int moved = engine_fd_adopt(FdRole::uffd, uffd_.fd, FdExec::close);
  if (moved < 0) {
    why.text("no room for file descriptors: ").error(moved).text("; raise ulimit -n");
    return false;
  }
  uffd_.fd = moved;
  return true;
}

bool HostMachine::check_move(u64 test_ns, Message& why) {
  if ((uffd_.features & kUffdFeatureMove) == 0) {
    if (options_.allow_copy_backend) return true;
    why.text("this kernel has no UFFDIO_MOVE; Linux 6.8 or newer is needed");
    return false;
  }
  if (test_ns == 0) return true;
  const MoveSelfTest test = move_self_test(uffd_.fd, test_ns);
  if (test.supported && test.correct) return true;
  why.text("UFFDIO_MOVE of this kernel does not work: ").error(test.error);
  why.text("; `spillway doctor` shows the details");
  return false;
}

bool HostMachine::register_all(Message& why) {
  i64 result = frames_.register_with(uffd_.fd);
  if (result == 0) result = mmu_.register_with(uffd_);
  if (result == 0) return true;
  why.text("the managed region cannot be put under userfaultfd: ").error(result);
  return false;
}

bool HostMachine::boot(const HostOptions& options, Message& why) {
  options_ = options;
  set_stop_entry(options_.self);
  if (!prepare_entry_stack()) {
    why.text("no memory for the engine");
    return false;
  }
  if (!open_uffd(options_.allow_user_mode_only ? UserModeOnly::allow : UserModeOnly::refuse, why)) {
    return false;
  }
  // The first engine of a tree tests the kernel for all.
  const bool first = options_.ledger->engines_started.load(std::memory_order_relaxed) <= 1;
  if (!check_move(first ? kStartTestNs : 0, why)) return false;
  const PageCount frames(options_.ledger->frames_total);
  mmu_.set_counters(options_.self->counters);
  mmu_.set_paranoid(options_.paranoid);
  if (!frames_.prepare(frames, *options_.ledger, *options_.self).ok() ||
      !mmu_.prepare(options_.reserve_bytes, kReserveMin).ok()) {
    why.text("no address space for the engine; raise ulimit -v or lower SPILLWAY_RESERVE");
    return false;
  }
  set_managed_range(mmu_.region());
  if (!register_all(why)) return false;
  const i64 event = sys::call(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (sys::failed(event) ||
      engine_fd_adopt(FdRole::event, static_cast<int>(event), FdExec::close) < 0) {
    why.text("no room for file descriptors; raise ulimit -n");
    return false;
  }
  if (options_.swap_dir != nullptr) {
    if (!device_.prepare(options_.swap_dir, options_.ledger->swap_max_bytes, why)) return false;
    device_.set_way(options_.io);
    device_ready_ = true;
    machine_.swap_device = &device_;
  }
  cpus_.count_them();
  return true;
}

bool HostMachine::start(EnginePort& port, SpaceId space, Message& why) {
  port_ = &port;
  space_ = space;
  handler_.follower().learn_main_thread(addr_of(region().start).v, addr_of(region().end).v);
  return start_threads(why);
}

bool HostMachine::start_threads(Message& why) {
  HandlerThreads::Parts parts = {};
  parts.port = port_;
  parts.mmu = &mmu_;
  parts.device = device();
  parts.ledger = options_.ledger;
  parts.self = options_.self;
  parts.counters = &options_.self->counters;
  parts.space = space_;
  parts.budget_bytes = options_.ledger->frames_total << kPageShift;
  if ((device_ready_ && !device_.start(engine_fd(FdRole::event)).ok()) ||
      !handler_.start(parts).ok()) {
    why.text("the engine's threads cannot be started; raise ulimit -u");
    return false;
  }
  return true;
}

void HostMachine::shut_down() {
  if (port_ != nullptr) {
    handler_.stop();
    if (device_ready_) device_.stop();
  }
  if (device_ready_) device_.unprepare();
  mmu_.unprepare();
  frames_.unprepare();
  set_managed_range({});
  engine_fd_close(FdRole::uffd);
  engine_fd_close(FdRole::uffd_device);
  engine_fd_close(FdRole::event);
  set_stop_entry(nullptr);
}

i64 HostMachine::fork(u64 flags, bool* wait) {
  *wait = false;
  if (!port_->prepare_fork().ok() || (device_ready_ && device_.in_flight() > 0)) {
    *wait = true;
    return sys::kAgain;
  }
  const i64 result = fork_prepared(flags);
  port_->finish_fork();
  return result;
}

i64 HostMachine::fork_prepared(u64 flags) {
  // Everything that can fail is reserved first; a fork that cannot have an engine fails as fork
  // does when there are too many processes.
  LedgerProcess* entry = ledger_join(*options_.ledger, 0, options_.self->command);
  if (entry == nullptr) return sys::kAgain;
  if (device_ready_ && !device_.segments().fork_prepare().ok()) {
    ledger_abandon(*entry);
    return sys::kAgain;
  }
  const u64 held = options_.self->frames_held.load(std::memory_order_relaxed);
  i64 result = mmu_.set_fork(true);
  if (result == 0) {
    // Thread ids that the kernel would write into the child's memory are left to the caller:
    // here, where the child has no engine yet, such a write could make a page out of nothing.
    constexpr u64 kSignalMask = 0xff;
    result = sys::call(SYS_clone, flags & kSignalMask, 0, 0, 0, 0);
  }
  if (result == 0) {
    become_child(entry, held);
    return 0;
  }
  mmu_.set_fork(false);
  if (result < 0) {
    ledger_abandon(*entry);
    if (device_ready_) device_.segments().fork_failed();
    return result;
  }
  options_.ledger->forked.fetch_add(1, std::memory_order_relaxed);
  return result;
}

// In the child nothing but this thread exists, and the kernel has dropped the registrations:
// until they are back, no managed page may be touched.
void HostMachine::become_child(LedgerProcess* entry, u64 frames_held) {
  Message why;
  mmu_.set_fork(false);
  handler_.fork_child();
  if (device_ready_) device_.fork_child();
  options_.self = entry;
  set_stop_entry(entry);
  frames_.set_process(*entry);
  mmu_.set_counters(entry->counters);
  engine_fd_close(FdRole::uffd);
  engine_fd_close(FdRole::event);
  const i64 event = sys::call(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
  bool ok = !sys::failed(event) &&
            engine_fd_adopt(FdRole::event, static_cast<int>(event), FdExec::close) >= 0;
  if (!ok) why.text("no room for file descriptors; raise ulimit -n");
  const UserModeOnly user_mode =
      uffd_.way == UffdWay::user_mode_only ? UserModeOnly::allow : UserModeOnly::refuse;
  ok = ok && open_uffd(user_mode, why) && register_all(why);
  if (ok) {
    ledger_confirm(*options_.ledger, *entry, sys::getpid(), frames_held);
    port_->set_counters(entry->counters);
    handler_.follower().fork_child(addr_of(region().start).v, addr_of(region().end).v);
    ok = start_threads(why);
  }
  if (ok) return;
  // The program never runs without its budget.
  why.print();
  sys::exit_group(kExitStartFailed);
}

}  // namespace spillway
