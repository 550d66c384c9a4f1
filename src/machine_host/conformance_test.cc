// The host machine against the suite that every machine must pass (machine/conformance.h). The
// test plays the core: it holds the engine lock except while it plays the program.
#include "machine/conformance.h"

#include "machine_host/host_machine_test.h"

namespace spillway {
namespace {

class HostEnvironment {
 public:
  HostEnvironment() : test_(128, u64{256} << 10) { g_engine_lock.lock(); }
  ~HostEnvironment() { g_engine_lock.unlock(); }

  Machine& machine() { return test_.host.machine(); }
  SpaceId space() { return SpaceId(1); }
  VirtAddr user_base() { return VirtAddr(test_.base() + (u64{1} << 20)); }
  void set_pte(VirtAddr va, Pte pte) { ptes_[index(va)] = pte; }
  Pte pte(VirtAddr va) { return ptes_[index(va)]; }
  void set_sink(FaultSink* sink) { test_.port.sink = sink; }
  bool user_write(VirtAddr va, const void* data, u64 bytes) {
    Outside outside;
    return try_write(va.v, data, bytes);
  }
  bool user_read(VirtAddr va, void* data, u64 bytes) {
    Outside outside;
    return try_read(va.v, data, bytes);
  }
  void wait_for_io() {
    const u32 before = test_.host.device()->in_flight();
    while (test_.host.device()->in_flight() == before) {
      const u32 seen = test_.host.handler().progress();
      Outside outside;
      test_.host.handler().wait_for_progress(seen);
    }
  }

 private:
  struct Outside {
    Outside() { g_engine_lock.unlock(); }
    ~Outside() { g_engine_lock.lock(); }
  };
  u64 index(VirtAddr va) { return (va.v - user_base().v) / kPageSize; }

  TestMachine test_;
  Pte ptes_[256];
};

SPW_MACHINE_CONFORMANCE(Host, HostEnvironment);

}  // namespace
}  // namespace spillway
