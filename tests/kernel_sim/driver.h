// Driver: runs the operations of a case on a Kernel over a SimMachine and compares every answer
// with the model. A difference throws CaseFailed; a panic of the core ends the process, which the
// runner expects.
//
// Accesses, read, write, fsync, msync and swapoff that must wait stay with their task and go on at
// its next `retry`, or before its next own operation, while others run: this is how operations
// interleave. All other calls are repeated until they end, while I/O completes and daemons run.
#pragma once

#include <initializer_list>

#include "bench.h"
#include "predict.h"
#include "world.h"

namespace spillway::ksim {

class Driver : public harness::Bench<Setup> {
 public:
  explicit Driver(const Setup& setup);

  // False: the machine is too small, or refuses the setup, and the Kernel said so.
  bool boot();
  void run(const Op& op);
  // Ends what is pending, reads every byte back, takes everything down and looks for leaks.
  void finish();

  const World& world() const { return world_; }
  bool waiting(u32 slot) const { return waiting_[slot].has_value(); }
  bool swapoff_waits() const { return swapoff_.has_value(); }
  bool swap_is_on(u32 device) const { return swap_on_[device]; }
  u64 top() const { return setup_.modern != 0 ? kModernTop : kClassicTop; }
  // Pages that need room of their own, and those that there is room for.
  u64 demand() const;
  u64 supply() const;
  std::string describe_state() const;
  u64 fired(Failure failure) const;

 private:
  struct Waiting {
    Op op;
    u64 progress = 0;  // bytes of an access, read or write that are done
    u32 attempt = 0;
  };
  // How one try of an operation ended.
  enum class Step { done, wait };

  // driver.cc: slots, waiting and the machine.
  void prepare_programs();
  void run_task_op(u32 slot, const Op& op);
  void try_once(u32 slot);
  void drive(u32 slot);
  Step perform(u32 slot, Waiting* w);
  void let_something_happen(u32 round);
  void run_machine_op(const Op& op);
  void run_daemon(Daemon daemon, u64 steps);
  void settle();
  void arm(const Op& op);
  template <class Call>
  auto to_the_end(const char* what, Call call);
  using Bench::note;
  void note(const Result<u64>& result);

  // driver_memory.cc: calls on address spaces.
  void run_memory_call(u32 slot, const Op& op);
  Result<u64> call(const Proc& proc, const Op& op);
  void run_brk(u32 slot, const Op& op);
  void run_mincore(u32 slot, const Op& op);
  Step perform_msync(u32 slot, Waiting* w);
  void check_error(const Op& op, const Prediction& p, Error error);
  void after_failed_lock(u32 slot, const Op& op);
  void after_failed_remap(u32 slot, const Op& op);
  void after_failed_advice(u32 slot, const Op& op, Error error, const Prediction& p);
  Context context(const Proc& proc) const;
  std::vector<AreaView> kernel_areas(Pid pid) const;

  // driver_access.cc: loads, stores and fetches.
  Step perform_access(u32 slot, Waiting* w);
  bool access_page(u32 slot, Waiting* w, u64 at, u64 bytes, Step* step);
  FaultOutcome predict_access(const Proc& proc, u64 at, Access access);
  void check_outcome(u32 slot, const Op& op, u64 at, FaultOutcome want, FaultOutcome got);
  void check_bytes(u32 slot, const Op& op, u64 at, const u8* data, u64 bytes);

  // driver_process.cc: birth and death.
  void run_process_op(u32 slot, const Op& op);
  void spawn(u32 slot);
  void fork(u32 slot, u32 child);
  void clone(u32 slot, u32 thread);
  void exec(u32 slot, const Op& op);
  void born(u32 slot, Pid pid, SpacePtr space);
  void set_limit(Proc* proc, const Op& op);
  // The process in the slot is dead, with this exit code.
  void buried(u32 slot, u64 code);
  void process_ended(u32 leader, u64 code);
  // Finds whom the OOM killer has killed.
  void find_victims();

  // driver_files.cc: files, segments and swap areas.
  void run_file_op(u32 slot, const Op& op);
  void open_file(u32 slot, const Op& op);
  void create_file(const Op& op);
  void truncate_file(u32 slot, const Op& op);
  Step perform_pread(u32 slot, Waiting* w);
  Step perform_pwrite(u32 slot, Waiting* w);
  Step perform_fsync(u32 slot, Waiting* w);
  void check_sync_error(const Op& op, Error error);
  void check_on_device(const Object& object, PageRange pages, const Op& op);
  void run_segment_op(u32 slot, const Op& op);
  void attach(u32 slot, const Op& op);
  void detach(u32 slot, const Op& op);
  void forget_removed_segments();
  void swap_on(const Op& op);
  Step try_swapoff();
  bool swapoff_lacks_memory() const;

  // driver_checks.cc: what must hold whatever happened.
  void audit();
  void check_areas(u32 slot);
  void check_views();
  u32 mapping_id_of(const Object& object) const;
  void read_error_told(const Op& op);
  u64 damaged() const;
  bool shortage_is_possible() const;
  bool resource_error_is_right(Error error) const;
  u64 fired_on(std::initializer_list<Failure> kinds, u32 first_device, u32 last_device) const;
  void verify_all();
  void verify_space(u32 slot);
  void verify_page(u32 slot, u64 page);
  void verify_files();
  void end_everything();
  void check_nothing_is_left();

  Kernel* kernel_ = nullptr;
  World world_;
  std::optional<Waiting> waiting_[kSlotsMax];
  std::optional<u32> swapoff_;  // device
  bool swapoff_short_ = false;  // memory may have been short since it began
  bool swap_on_[4] = {};
  u64 read_errors_told_ = 0;
  u64 write_errors_told_ = 0;
  u64 victims_ = 0;
  MemInfo at_boot_{};
};

// Repeats the call until it has another answer than wait.
template <class Call>
auto Driver::to_the_end(const char* what, Call call) {
  constexpr u32 kRoundsMax = 4'000;
  auto result = call();
  for (u32 round = 0; !result.ok() && result.error() == Error::wait; ++round) {
    if (round == kRoundsMax) fail(std::string("no progress: ") + what);
    let_something_happen(round);
    result = call();
  }
  return result;
}

}  // namespace spillway::ksim
