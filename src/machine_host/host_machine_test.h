// For tests of this room: a HostMachine in the test process, with a core that is as small as the
// test wants it.
#pragma once

#include <gtest/gtest.h>
#include <sys/uio.h>
#include <unistd.h>

#include "machine_host/engine_fds.h"
#include "machine_host/engine_lock.h"
#include "machine_host/host_machine.h"
#include "machine_host/syscalls.h"

namespace spillway {

// Refuses every fault unless the test gives a sink.
class TestPort : public EnginePort {
 public:
  FaultSink* sink = nullptr;
  Counters* counters = nullptr;
  bool background_step() override { return false; }
  bool background_wanted() override { return false; }
  Status prepare_fork() override { return kOk; }
  void finish_fork() override {}
  Snapshot snapshot() override { return Snapshot{}; }
  void set_counters(Counters& c) override { counters = &c; }
  FaultOutcome on_fault(SpaceId space, VirtAddr va, Access access, u32 attempt) override {
    return sink == nullptr ? FaultOutcome::maperr : sink->on_fault(space, va, access, attempt);
  }
};

struct TestMachine {
  Ledger* ledger = nullptr;
  LedgerProcess* self = nullptr;
  HostMachine host;
  TestPort port;

  explicit TestMachine(u64 frames, u64 swap_bytes = 0, const char* swap_dir = "/tmp",
                       u64 reserve = u64{1} << 30, IoWay io = IoWay::best) {
    int fd = -1;
    ledger = ledger_create(frames, 0, swap_bytes, &fd);
    EXPECT_NE(ledger, nullptr);
    engine_fd_adopt(FdRole::ledger, fd, FdExec::keep);
    self = ledger_join(*ledger, getpid(), "test");
    HostOptions options;
    options.ledger = ledger;
    options.self = self;
    options.swap_dir = swap_bytes > 0 ? swap_dir : nullptr;
    options.reserve_bytes = reserve;
    options.paranoid = true;
    options.io = io;
    Message why;
    EXPECT_TRUE(host.boot(options, why)) << why.c_str();
    EXPECT_TRUE(host.start(port, SpaceId(1), why)) << why.c_str();
  }
  ~TestMachine() {
    host.shut_down();
    ledger_leave(*ledger, *self);
    engine_fd_close(FdRole::ledger);
    sys::munmap(reinterpret_cast<u64>(ledger), sizeof(Ledger));
  }
  u64 base() const { return addr_of(host.region().start).v; }
};

// Accesses as a system call makes them: refused ones return false instead of raising a signal.
inline bool try_write(u64 to, const void* from, u64 bytes) {
  iovec local = {const_cast<void*>(from), bytes};
  iovec remote = {reinterpret_cast<void*>(to), bytes};
  return process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == static_cast<ssize_t>(bytes);
}
inline bool try_read(u64 from, void* to, u64 bytes) {
  iovec local = {to, bytes};
  iovec remote = {reinterpret_cast<void*>(from), bytes};
  return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == static_cast<ssize_t>(bytes);
}

}  // namespace spillway
