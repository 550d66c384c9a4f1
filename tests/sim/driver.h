// Driver: runs the operations of a case on a System over a SimMachine and compares every answer
// with the model. A difference throws CaseFailed; a panic of the core ends the process, which the
// runner (runner.h) expects.
//
// A task whose call must wait keeps it and goes on at its next `retry`, or before its next own
// operation, while the others run: this is how operations interleave.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench.h"
#include "predict.h"
#include "sim_case.h"
#include "space_model.h"

namespace spillway::sim {

class Driver : public harness::Bench<Setup> {
 public:
  explicit Driver(const Setup& setup);

  // False: the machine is too small and the System said so; there is nothing to run.
  bool boot();
  void run(const Op& op);
  // Ends what is pending, reads every byte back, takes everything down and looks for leaks.
  void finish();

  const SpaceModel& model_of(u32 task) const { return *spaces_[tasks_[task].space].model; }
  bool waiting(u32 task) const { return tasks_[task].waiting.has_value(); }
  SimMachine& machine() { return sim_; }
  System& system() { return *system_; }
  // The System's own numbers in one line, for failure reports.
  std::string describe_state() const;
  u64 fired(Failure failure) const { return sim_.failures().fired(failure); }
  // Pages with contents that the machine can surely hold, and pages that it must hold now.
  u64 supply() const;
  u64 demand() const;
  // Of these, in frames; and locked pages.
  u64 frame_supply() const;
  u64 locked() const;

 private:
  struct Space {
    SpaceId id;
    std::unique_ptr<SpaceModel> model;
  };
  struct Task {
    u32 space = 0;
    u32 cpu = 0;
    std::optional<Op> waiting;
    u64 progress = 0;  // bytes of a load or store that are done
    u32 attempt = 0;
  };
  // How one try of an operation ended.
  enum class Step { done, wait };

  // driver.cc: tasks, time and the machine.
  void create_space(Space* space);
  void run_task_op(Task* task, const Op& op);
  void try_once(Task* task);
  void drive(Task* task);
  void let_something_happen(u32 round);
  void run_machine_op(const Op& op);
  void settle();
  void exit_space(Task* task);
  void fork_relative();

  // driver_calls.cc: one operation against the model.
  Step perform(Task* task, const Op& op);
  Step perform_call(Task* task, const Op& op);
  Step perform_brk(Task* task, const Op& op);
  Step perform_mincore(Task* task, const Op& op);
  Step perform_access(Task* task, const Op& op);
  Result<u64> call(Space& space, const Op& op);
  void check_foreign(const Space& space, const Op& op) const;
  void check_error(Task* task, const Op& op, const Prediction& p, Error error);
  void after_partial_failure(Task* task, const Op& op);
  void check_outcome(const Task& task, const Op& op, u64 page, Access access, SimAccess a);
  bool resource_error_is_right(Error error) const;

  // driver_checks.cc: what must hold whatever happened.
  void audit();
  void check_given_back() const;
  void verify_all();
  void verify_page(u32 task, u64 page);
  void check_nothing_is_left();
  bool shortage_is_possible() const;
  bool failed_at_least_once(std::initializer_list<Failure> kinds) const;

  VirtAddr base() const { return addr_of(kBase); }
  SpaceModel& model(const Task& task) { return *spaces_[task.space].model; }

  // Every space has the same addresses, so that mixing spaces up shows.
  static constexpr Vpn kBase{0x5500'0000};

  System* system_ = nullptr;
  std::vector<Space> spaces_;
  std::vector<Task> tasks_;
  std::vector<u64> relatives_;  // segments that forked relatives refer to
  u64 least_budget_ = 0;
  u64 least_disk_ = 0;         // pages
  bool inconclusive_ = false;  // a failure left the model behind: nothing more can be compared
};

}  // namespace spillway::sim
