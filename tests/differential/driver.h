// Driver: runs a case on two sides in step and compares. What may differ for a good reason is
// brought to the same state on both sides at once; README.md lists these normalisations.
#pragma once

#include <array>
#include <functional>
#include <optional>

#include "areas.h"
#include "side.h"

namespace spillway::diff {

struct Difference {
  std::string kind;  // one line that stays the same while the case is made shorter
  std::string text;  // details
};

// What the cases reached: for --stats.
struct Reached {
  static constexpr u32 kErrnos = 134;
  u64 answers[kOpKindCount][kErrnos] = {};  // by errno, 0 = done
  u64 signals[3] = {};                      // SEGV_MAPERR, SEGV_ACCERR, SIGBUS
  u64 skipped = 0;
  u64 normalised = 0;
  u64 checks = 0;
  u64 pages_compared = 0;
  u64 swapped_out = 0;  // by the model
};

class Driver {
 public:
  // `left` is the reference.
  Driver(Side& left, Side& right) : left_(left), right_(right) { processes_[0].alive = true; }

  // Runs one operation and compares; after the last one call finish().
  std::optional<Difference> run(const Op& op);
  std::optional<Difference> finish();
  const Reached& reached() const { return reached_; }
  bool alive(u32 process) const { return processes_[process].alive; }

 private:
  struct Process {
    bool alive = false;
    std::vector<AreaLine> left_areas;  // after the operation before
    std::vector<AreaLine> left_raw;    // not merged
    std::vector<AreaLine> right_raw;
  };
  struct Answers {
    Answer left;
    Answer right;
  };
  using Outcome = std::optional<Difference>;

  bool can_run(const Op& op) const;
  void count(const Op& op, const Answer& a);
  Answers on_both(const Op& op) { return {left_.perform(op), right_.perform(op)}; }
  // The same call, each side at its own address.
  Answers on_both_at(const Op& op, u64 left_at, u64 right_at);
  Difference differs(const Op& op, const std::string& what, const Answers& a) const;
  Outcome compare(const Op& op, const Answers& a);
  Outcome compare_places(const Op& op, const Answers& a) const;
  Outcome compare_access(const Op& op, const Answers& a) const;
  Outcome compare_resident(const Op& op, const Answers& a);
  bool only_zeros(u32 process, Place page);
  Outcome compare_bytes(const Op& op, const Answers& a) const;
  Outcome settle(const Op& op, const Answers& a);
  Outcome bring_home(const Op& op, const Answers& a, u64 length);
  Outcome after_refusal(const Op& op);
  void clear_tails(const Op& op, const Answers& a);
  Outcome compare_areas(const Op& op);
  Outcome compare_all_bytes(const Op& op);
  Outcome compare_pages(const Op& op, u32 process, u64 start, u64 end);
  Outcome compare_files(const Op& op);
  void wipe(u32 process, Place at, u64 length);
  void remember_process(const Op& op);
  bool excused(const Op& op, const Answers& a);
  bool multi_area_move(const Op& op, const Answers& a) const;
  bool split_differently(const Op& op, const Answers& a) const;
  bool break_over_hole(const Op& op, const Answers& a) const;

  Side& left_;
  Side& right_;
  std::array<Process, kProcessesMax> processes_;
  Reached reached_;
  bool paged_out_ = false;  // pages may be in swap on one side only
  bool ended_ = false;      // nothing after this can be compared
};

}  // namespace spillway::diff
