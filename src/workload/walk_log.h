// WalkLog: keeps what a walk tells, as a list in the order of the calls, with depths. A call that
// took the same way as an earlier one of the same caller is only counted, and so are decisions of
// the same words beyond the first few: a hundred first touches read like one.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "observe/walk.h"

namespace spillway {

struct WalkItem {
  enum class Kind : u8 {
    call,    // a function was entered: function, text
    step,    // it came to a decision: text
    remark,  // of the runner: what was waited for
    more,    // count calls or decisions more like those above
  };
  Kind kind = Kind::call;
  u32 depth = 0;
  std::string function;
  std::string text;
  u64 count = 0;
  bool operator==(const WalkItem&) const = default;
};

class WalkLog final : public WalkSink {
 public:
  WalkLog() { callers_.emplace_back(); }

  // More are only counted: a walk that long is not read.
  static constexpr std::size_t kItemsMax = 2000;
  // Decisions of the same words in one call: so many show what changes between them.
  static constexpr u64 kStepsMax = 6;

  void enter(const char* function, const char* text, u64 a, u64 b, u64 c) override;
  void leave() override;
  void step(const char* text, u64 a, u64 b, u64 c) override;
  void remark(const std::string& text);

  // What was kept since the last call of this.
  std::vector<WalkItem> take();

  // How often a function was entered since clear_calls().
  u64 calls(const std::string& function) const;
  void clear_calls() { calls_.clear(); }

  // The text of a report with its values filled in.
  static std::string format(const char* text, u64 a, u64 b, u64 c);

 private:
  // A call that goes on; the first is the operation itself.
  struct Caller {
    std::size_t first = 0;       // its own item
    std::set<std::string> ways;  // of the calls that it made
    std::map<std::string, u64> steps;
  };
  u32 depth() const { return static_cast<u32>(callers_.size() - 1); }
  void add(WalkItem item, std::string shape);
  void count_more();

  std::vector<WalkItem> items_;
  std::vector<std::string> shapes_;  // of each item: its words without values
  std::vector<Caller> callers_;
  std::map<std::string, u64> calls_;
  u64 dropped_ = 0;
};

}  // namespace spillway
