// HostMachine: one Linux process as a machine, put together from the parts of this room. Owner:
// the preload library, or a test. Thread safety: boot, start and stop by one thread; the rest
// under the engine lock.
//
// An open descriptor of /dev/userfaultfd that the launcher handed down is adopted into
// engine_fds before boot; the ledger's likewise.
//
//   boot()   userfaultfd, arena, region, swap file: then machine() is ready for System::boot
//   start()  the threads; from then on the program may touch the region
//   fork()   a copy of the process, with an engine of its own in the child
#pragma once

#include "machine/machine.h"
#include "machine_host/handler_threads.h"

namespace spillway {

class HostClock final : public Clock {
 public:
  u64 now_ns() override { return host_now_ns(); }
};

class HostCpus final : public Cpus {
 public:
  void count_them();
  u32 current() override;
};

// Memory straight from the kernel, in large pieces.
class HostBootMemory final : public BootMemory {
 public:
  void* alloc(u64 bytes, u64 align) override;

 private:
  u64 next_ = 0;
  u64 end_ = 0;
};

struct HostOptions {
  Ledger* ledger = nullptr;
  LedgerProcess* self = nullptr;
  const char* swap_dir = nullptr;  // null: no disk tier
  u64 reserve_bytes = u64{1} << 40;
  bool allow_user_mode_only = false;
  bool allow_copy_backend = false;  // run without UFFDIO_MOVE
  bool paranoid = false;
  IoWay io = IoWay::best;
};

class HostMachine {
 public:
  HostMachine();

  // On failure `why` holds one sentence that names the thing and the remedy.
  bool boot(const HostOptions& options, Message& why);
  bool start(EnginePort& port, SpaceId space, Message& why);
  // For tests: ends the threads and unmaps everything. Boot memory stays.
  void shut_down();

  Machine& machine() { return machine_; }
  VpnRange region() const { return mmu_.region(); }
  HostMmu& mmu() { return mmu_; }
  HostFrames& frames() { return frames_; }
  HostBlockDevice* device() { return device_ready_ ? &device_ : nullptr; }
  HandlerThreads& handler() { return handler_; }
  UffdWay uffd_way() const { return uffd_.way; }
  LedgerProcess& self() { return *options_.self; }

  // Forks as clone(2) with `flags` does, of which only the signal counts. Called by a program
  // thread under the engine lock, on the entry stack (locked_call). In the child it returns 0
  // when the child's own engine runs, still under the lock. Negative errno on failure; -EAGAIN
  // with `*wait` set: nothing was done, call again after some progress.
  i64 fork(u64 flags, bool* wait);

 private:
  i64 fork_prepared(u64 flags);
  bool open_uffd(UserModeOnly user_mode_only, Message& why);
  bool check_move(u64 test_ns, Message& why);
  bool register_all(Message& why);
  bool start_threads(Message& why);
  void become_child(LedgerProcess* entry, u64 frames_held);

  HostOptions options_;
  HostFrames frames_;
  HostMmu mmu_;
  HostBlockDevice device_;
  HostClock clock_;
  HostCpus cpus_;
  HostBootMemory boot_;
  HandlerThreads handler_;
  Machine machine_;
  Uffd uffd_;
  EnginePort* port_ = nullptr;
  SpaceId space_;
  bool device_ready_ = false;
};

}  // namespace spillway
