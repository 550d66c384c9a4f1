// Runner: plays a scenario on a machine, checks what it expects, and tells a listener each step:
// the call path, and a picture of everything before and after.
//
// Invariants: every byte that a read returns equals what MemoryModel says; after each step the
// kernel's audit() holds. The first thing that does not hold ends the run. A run is determined
// by the scenario and its seed.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/prng.h"
#include "script/verbs.h"
#include "workload/hardware.h"
#include "workload/memory_model.h"
#include "workload/picture.h"
#include "workload/walk_log.h"

namespace spillway {

// One operation that was carried out.
struct OperationRecord {
  Position at;
  std::string text;          // as the scenario says it
  std::string result;        // "0x40000000", "ENOMEM", "SEGV_MAPERR at 0x...", "" for nothing
  bool expectation = false;  // then `result` is what was found
  bool failed = false;       // the run ended here
  std::vector<WalkItem> walk;
  u64 times = 1;  // in a row, with an equal walk
};

struct StepRecord {
  u32 number = 0;  // from 1
  std::string title;
  std::string narrative;  // paragraphs, parted by line ends
  std::vector<OperationRecord> operations;
  std::vector<Change> changes;
};

enum class RunEnd : u8 {
  good,         // everything held
  expectation,  // something expected did not hold
  scenario,     // the scenario asks for what cannot be done
  invariant,    // the audit found the memory manager broken
};

struct RunResult {
  RunEnd end = RunEnd::good;
  Position at;
  std::string what;      // the expectation, or what went wrong
  std::string expected;  // of an expectation
  std::string actual;
  u64 steps = 0;
  u64 operations = 0;
  u64 expectations = 0;
};
// `name:line:column: ...` for people; empty when the run was good.
std::string describe(const RunResult& result, std::string_view name);

// "SEGV_MAPERR", or "none".
std::string name_of_signal(SignalInfo info);

class RunListener {
 public:
  // The stage is set; nothing has happened.
  virtual void begin(const Scenario& scenario, const Stage& stage, const Picture& picture) = 0;
  // False ends the run as if the scenario ended here.
  virtual bool step(const StepRecord& record, const Picture& before, const Picture& after) = 0;

 protected:
  ~RunListener() = default;
};

// What replaces the scenario's own choice.
struct RunOverrides {
  std::optional<u64> seed;
  std::optional<Policy> policy;
};

class Runner {
 public:
  // Operations of one run at most, repetitions counted.
  static constexpr u64 kOperationsMax = 1'000'000;
  // Tries of one call or access at most: a page that many I/Os cannot bring is never coming.
  static constexpr u32 kAttemptsMax = 10'000;

  Runner(const Scenario& scenario, Hardware& hardware, RunListener& listener,
         const RunOverrides& overrides = {});
  RunResult run();

 private:
  struct Space {
    MemoryModel::SpaceKey key;
    std::map<std::string, VirtAddr> places;
  };
  struct Process {
    std::string name;
    Pid pid;
    u32 cpu = 0;
    std::shared_ptr<Space> space;
  };
  struct File {
    MemoryModel::ObjectKey object;
    u64 size = 0;
    u64 number = 0;              // of its inode
    std::optional<u32> program;  // index in programs_
  };
  struct Program {
    u64 code = 0, data = 0, bss = 0;  // addresses
    u64 code_pages = 0, data_bytes = 0, bss_end = 0;
    u64 data_offset = 0;  // in the file
  };
  struct Segment {
    u32 id = 0;
    u64 size = 0;
    MemoryModel::ObjectKey object;
  };

  struct Disk {
    MemoryModel::ObjectKey object;
    u64 block_size = 1024;
  };
  struct ObjectCache {
    u64 number = 0;
    std::vector<u64> objects;  // in the order of their allocation
  };

  struct KernelArea {
    VirtAddr at;
    u64 pages = 0;
    std::map<u64, u8> written;  // by offset
  };

  // What a system call or an access came to.
  struct Outcome {
    bool gave_up = false;
    Result<u64> value = u64{0};
  };

  // runner.cc: steps, blocks, waiting.
  bool play(const std::vector<Statement>& statements);
  bool play_one(const Statement& s);
  bool step(const std::string& title, const std::function<bool()>& body);
  bool operation(const Statement& s);
  void record(const Statement& s, std::string result);
  bool finish_step();
  bool wait_a_little();
  bool run_wanted_daemons();
  bool settle(const Statement& s);
  Outcome call(const std::function<Result<u64>(u32 attempt)>& attempt_call);
  Subject subject() const;
  Picture picture() const { return take_picture(subject()); }

  // The ways to end.
  bool fail(RunEnd end, const Statement& s, std::string what, std::string expected = "",
            std::string actual = "");
  bool unmet(const Statement& s, std::string expected, std::string actual) {
    return fail(RunEnd::expectation, s, print_statement(s), std::move(expected), std::move(actual));
  }

  // runner_stage.cc
  bool set_stage();
  bool make_files();
  bool make_swaps();
  bool make_disks();
  bool make_file(const Statement& s, const std::vector<u8>& contents, u64 capacity);
  std::vector<u8> program_image(const Statement& s);

  // runner_process.cc
  bool do_process(const Statement& s);
  bool do_fork(const Statement& s);
  bool do_exec(const Statement& s);
  void add_process(const std::string& name, Pid pid, std::shared_ptr<Space> space);

  // runner_access.cc
  bool do_access(const Statement& s);
  bool access_range(const Statement& s, Process& p, Access access, VirtAddr at, u8* bytes,
                    u64 count, std::string* signal);
  bool do_touch(const Statement& s);
  bool do_fill(const Statement& s);

  // runner_calls.cc, runner_objects.cc
  bool do_call(const Statement& s);
  // Checks the result against `fails`; true if the scenario goes on. `*value`: that of success.
  bool judge(const Statement& s, const Outcome& outcome, std::optional<u64>* value);
  bool do_mmap(const Statement& s);
  bool do_mremap(const Statement& s);
  bool do_range(const Statement& s);
  bool do_brk(const Statement& s);
  bool do_file(const Statement& s);
  bool do_shm(const Statement& s);
  bool do_swap(const Statement& s);
  bool do_machine(const Statement& s);
  Outcome with_file(Process& p, const std::string& name, u32 flags,
                    const std::function<Result<u64>(i32 fd, u32 attempt)>& body);

  // runner_kernel.cc
  bool do_disk(const Statement& s);
  bool do_slab(const Statement& s);
  bool do_vmalloc(const Statement& s);
  bool do_vaccess(const Statement& s);
  bool do_pass(const Statement& s);
  bool do_blocks(const Statement& s, const std::function<Outcome(u64 block)>& one);

  // runner_names.cc
  bool do_names(const Statement& s);
  Result<u64> name_call(const Statement& s, const std::string& path, const std::string& to);
  void follow_names(const Statement& s, const std::string& path, const std::string& to, u64 result);
  File* file_at(const std::string& path);
  void add_file(const std::string& path, const File& file);

  // runner_expect.cc
  bool do_expect(const Statement& s);
  struct Answer {
    bool ok = false;
    i64 number = 0;
    std::string word;
  };
  Answer ask(const Statement& s);
  Answer ask_process(const Statement& s);
  Answer ask_area(const Statement& s);
  Answer ask_page(const Statement& s);
  Answer ask_machine(const Statement& s);
  Answer ask_kernel(const Statement& s);
  std::optional<Pfn> frame_of(const Statement& s, const Operand& target);
  std::optional<SlotId> slot_of(const Statement& s, const Operand& target);

  // Look-ups; each ends the run when there is nothing.
  Process* process(const Statement& s, const Operand& operand);
  std::optional<VirtAddr> place(const Statement& s, Process& p, const Place& place);
  u32 device(const Operand& operand) const;
  TaskView task_view(Pid pid) const;
  std::vector<AreaView> areas_of(Pid pid) const;

  const Scenario& scenario_;
  Hardware& hardware_;
  RunListener& listener_;
  const RunOverrides overrides_;
  Kernel* kernel_ = nullptr;
  Counters counters_{};
  EventRing events_;
  WalkLog walk_;
  Stage stage_;
  bool daemons_auto_ = false;
  MemoryModel model_;
  std::map<std::string, Process> processes_;
  std::vector<std::string> process_order_;
  std::map<std::string, File> files_;  // by canonical path
  bool names_ = false;                 // the scenario makes files by path
  std::vector<Program> programs_;
  std::map<std::string, Segment> segments_;
  std::map<std::string, Disk> disks_;
  std::map<std::string, ObjectCache> caches_;
  std::map<std::string, KernelArea> vareas_;
  std::map<std::string, i64> notes_;
  std::vector<std::string> devices_;
  Pid stage_pid_;  // the process that writes the files; gone before the first step

  std::optional<StepRecord> step_;  // open until something else than a question follows
  bool in_block_ = false;
  std::string narrative_;
  Picture before_;  // when the current step began
  bool stopped_ = false;
  RunResult result_;
};

}  // namespace spillway
