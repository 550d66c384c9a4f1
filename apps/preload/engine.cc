#include "preload/engine.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <new>

#include "machine_host/engine_fds.h"
#include "machine_host/process_id.h"
#include "machine_host/syscalls.h"
#include "preload/libc_patch.h"
#include "preload/stats_table.h"

namespace spillway {
namespace {

// Passes what the wing asks for on to System.
class SystemPort final : public EnginePort {
 public:
  explicit SystemPort(System& system) : system_(system) {}
  bool background_step() override { return system_.background_step().more; }
  bool background_wanted() override { return system_.background_wanted(); }
  Status prepare_fork() override { return system_.prepare_fork(); }
  void finish_fork() override { system_.finish_fork(); }
  Snapshot snapshot() override { return system_.snapshot(); }
  void set_counters(Counters& counters) override { system_.set_counters(counters); }
  FaultOutcome on_fault(SpaceId in, VirtAddr va, Access access, u32 attempt) override {
    return system_.on_fault(in, va, access, attempt);
  }

 private:
  System& system_;
};

// A brk heap of this part of the region; the rest is for mappings.
constexpr u64 kBrkShare = 16;
// One call into the engine that waits this often, a millisecond each, is stuck.
constexpr u32 kCallWaitsMax = 60'000;
constexpr int kAncestorsMax = 32;
// Giving frames back may need pages to be written to a slow disk.
constexpr u64 kQuotaPatienceNs = 10'000'000'000;

template <class T>
struct Place {
  alignas(T) unsigned char bytes[sizeof(T)];
  T* get() { return reinterpret_cast<T*>(bytes); }
};

// In zeroed memory and built by hand: neither constructors nor destructors may run at times
// that the loader chooses.
Place<HostMachine> g_host_place;
Place<SystemPort> g_port_place;
Place<EventRing> g_ring_place;
Settings g_settings;
System* g_system = nullptr;
SpaceId g_space;
Ledger* g_ledger = nullptr;
VpnRange g_region;
AuditReport g_audit = {};
bool g_ready = false;
int g_own_ledger_fd = -1;

[[noreturn]] void refuse(Message& why) {
  why.print();
  sys::exit_group(kExitStartFailed);
}

void on_panic(const PanicInfo& info) {
  Message m;
  m.text("internal error, please report it: ").text(info.file).text(":");
  m.number(static_cast<u64>(info.line)).text(": ").text(info.expression);
  if (info.has_values) m.text(" (").hex(info.left).text(", ").hex(info.right).text(")");
  EventRing& ring = *g_ring_place.get();
  // The last decisions, newest last: what the report needs first.
  constexpr u32 kEvents = 8;
  const u32 count = ring.size() < kEvents ? ring.size() : kEvents;
  for (u32 i = ring.size() - count; i < ring.size(); ++i) {
    const Event& e = ring.at(i);
    m.text(i == ring.size() - count ? "; last: " : ", ");
    m.text(name_of(e.kind)).text(" ").hex(e.a).text(" ").hex(e.b);
  }
  stop_program(StopReason::internal, m);
}

const char* basename_of(const char* path) {
  const char* base = path;
  for (const char* p = path; p != nullptr && *p != '\0'; ++p) {
    if (*p == '/') base = p + 1;
  }
  return base;
}

i32 parent_of(i32 pid) {
  Message path;
  path.text("/proc/").number(static_cast<u64>(pid)).text("/stat");
  const i64 fd = sys::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (sys::failed(fd)) return 0;
  char text[1024];
  const i64 got = sys::read(static_cast<int>(fd), text, sizeof(text) - 1);
  sys::close(static_cast<int>(fd));
  text[got > 0 ? got : 0] = '\0';
  constexpr u32 kParent = 4;
  return static_cast<i32>(stat_field(text, kParent));
}

// A program that closed "all" descriptors before exec lost the ledger's; an ancestor has it.
Ledger* attach_from_ancestors(int& fd) {
  i32 pid = parent_of(sys::getpid());
  for (int i = 0; i < kAncestorsMax && pid > 1; ++i, pid = parent_of(pid)) {
    Message path;
    path.text("/proc/").number(static_cast<u64>(pid)).text("/fd/").number(static_cast<u64>(fd));
    const i64 opened = sys::open(path.c_str(), O_RDWR);
    if (sys::failed(opened)) continue;
    Ledger* ledger = ledger_attach(static_cast<int>(opened));
    if (ledger != nullptr) {
      // Back under its old number, which our own children are told.
      const i64 moved = sys::call(SYS_dup3, opened, fd, 0);
      sys::close(static_cast<int>(opened));
      return sys::failed(moved) ? nullptr : ledger;
    }
    sys::close(static_cast<int>(opened));
  }
  return nullptr;
}

void get_ledger(Message& why) {
  if (g_settings.ledger_fd >= 0) {
    g_ledger = ledger_attach(g_settings.ledger_fd);
    if (g_ledger == nullptr) g_ledger = attach_from_ancestors(g_settings.ledger_fd);
    if (g_ledger == nullptr) {
      why.text("the shared RAM budget is lost: descriptor ");
      why.number(static_cast<u64>(g_settings.ledger_fd));
      why.text(" (SPILLWAY_LEDGER_FD) was closed, or belongs to another version of Spillway");
      refuse(why);
    }
    engine_fd_note(FdRole::ledger, g_settings.ledger_fd);
    return;
  }
  OwnBudget budget = {};
  if (!compute_own_budget(g_settings, budget, why)) refuse(why);
  int fd = -1;
  g_ledger = ledger_create(budget.frames_total, budget.pool_frames_max, budget.swap_max_bytes, &fd);
  if (g_ledger == nullptr) {
    why.text("no memory for the shared RAM budget");
    refuse(why);
  }
  g_own_ledger_fd = engine_fd_adopt(FdRole::ledger, fd, FdExec::keep);
}

void boot_core(Message& why) {
  Config config;
  config.pool_max = PageCount(g_ledger->pool_frames_max);
  rlimit locked = {};
  if (sys::call(SYS_prlimit64, 0, RLIMIT_MEMLOCK, nullptr, &locked) == 0) {
    config.mlock_max = pages_in(locked.rlim_cur);
  }
  ::new (static_cast<void*>(g_ring_place.get())) EventRing();
  // A new process of a tree that uses all of its budget waits until the others have moved up.
  const PageCount first(System::minimum_frames().v * 2);
  const bool granted = host().frames().wait_for_quota(first, kQuotaPatienceNs);
  EngineGuard guard;
  const Result<System*> system =
      System::boot(host().machine(), config, host().self().counters, *g_ring_place.get());
  if (!system.ok() || !granted) {
    why.text("the RAM budget of ").size(g_ledger->frames_total << kPageShift);
    why.text(" is too small, or other processes of this tree hold it; it must be at least ");
    why.size(System::minimum_frames().bytes()).text(" for each process");
    refuse(why);
  }
  g_system = system.value();
  const PageCount brk_pages(g_region.pages().v / kBrkShare);
  const Result<SpaceId> made = g_system->create_space(g_region, brk_pages);
  if (!made.ok()) {
    why.text("no address space for the program: ").text(name_of(made.error()));
    refuse(why);
  }
  g_space = made.value();
}

}  // namespace

void start_engine(char** argv, char** environment) {
  Message why;
  set_panic_hook(on_panic);
  if (!read_settings(environment, g_settings, why)) refuse(why);
  if (!examine_libc(why)) refuse(why);
  get_ledger(why);
  if (g_settings.uffd_fd >= 0 && !sys::failed(sys::call(SYS_fcntl, g_settings.uffd_fd, F_GETFD))) {
    engine_fd_note(FdRole::uffd_device, g_settings.uffd_fd);
  }
  HostOptions options;
  options.ledger = g_ledger;
  options.self = ledger_join(*g_ledger, sys::getpid(), basename_of(argv[0]));
  if (options.self == nullptr) {
    why.text("more than ").number(kLedgerProcesses).text(" processes share this RAM budget");
    refuse(why);
  }
  if (!reserve_bytes(g_settings, options.reserve_bytes, why)) refuse(why);
  if (g_ledger->swap_max_bytes >= (u64{kIoFramesMax} << kPageShift)) {
    options.swap_dir = g_settings.swap_dir;
  }
  options.paranoid = g_settings.paranoid;
  options.allow_copy_backend = g_settings.allow_copy_backend;
  options.io = g_settings.io_threads ? IoWay::threads : IoWay::best;
  HostMachine* machine = ::new (static_cast<void*>(g_host_place.get())) HostMachine();
  if (!machine->boot(options, why)) refuse(why);
  g_region = machine->region();
  boot_core(why);
  SystemPort* port = ::new (static_cast<void*>(g_port_place.get())) SystemPort(*g_system);
  if (!machine->start(*port, g_space, why)) refuse(why);
  machine->handler().follower().pair().set_enabled(g_settings.pair);
  g_ready = true;
  if (!redirect_libc(why)) refuse(why);
}

void finish_engine() {
  if (!g_ready) return;
  if (g_settings.paranoid) {
    locked_call([](u64, u64, u64, u64, u64) -> LockedResult {
      g_audit = g_system->audit();
      return {0, 0};
    });
    if (!g_audit.ok) {
      Message m;
      m.text("audit at exit: ").text(g_audit.what);
      m.text(" (").hex(g_audit.left).text(", ").hex(g_audit.right).text(")");
      stop_program(StopReason::internal, m);
    }
  }
  // Under a launcher the launcher reports, once for the whole tree.
  if (g_settings.stats && g_own_ledger_fd >= 0 && host().self().pid == sys::getpid()) {
    print_stats(*g_ledger);
  }
}

int own_ledger_fd() { return g_own_ledger_fd; }
bool engine_ready() { return g_ready; }
HostMachine& host() { return *g_host_place.get(); }
System& core() { return *g_system; }
SpaceId space() { return g_space; }

bool is_managed(u64 addr, u64 length) {
  const u64 start = addr_of(g_region.start).v;
  const u64 end = addr_of(g_region.end).v;
  return addr >= start && addr < end && length <= end - addr;
}

bool touches_managed(u64 addr, u64 length) {
  const u64 start = addr_of(g_region.start).v;
  const u64 end = addr_of(g_region.end).v;
  return addr < end && addr + length > start;
}

LockedResult locked_result(const Result<u64>& result) {
  if (result.ok()) return {result.value(), 0};
  if (result.error() == Error::wait) return {host().handler().progress(), kMustWait};
  return {0, static_cast<u64>(errno_of(result.error()))};
}

i64 call_engine(LockedFunction fn, u64 a, u64 b, u64 c, u64 d, u64 e) {
  for (u32 waits = 0; waits < kCallWaitsMax; ++waits) {
    const LockedResult result = locked_call(fn, a, b, c, d, e);
    if (result.status == 0) return static_cast<i64>(result.value);
    if (result.status != kMustWait) return -static_cast<i64>(result.status);
    host().handler().wait_for_progress(static_cast<u32>(result.value));
  }
  stop_internal("a memory call of the program waits for ever", a, b);
}

}  // namespace spillway
