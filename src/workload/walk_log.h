// WalkLog: keeps what a walk tells, as a list in the order of the calls, with depths. Accesses that
// took the same way as an earlier one of the same operation are only counted: a hundred first
// touches read like one.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "observe/walk.h"

namespace spillway {

struct WalkItem {
  enum class Kind : u8 {
    call,    // a function was entered: function, text
    step,    // it came to a decision: text
    remark,  // of the runner: what was waited for
    more,    // count calls more like those above
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
  // More are only counted: a walk that long is not read.
  static constexpr std::size_t kItemsMax = 2000;

  void enter(const char* function, const char* text, u64 a, u64 b, u64 c) override;
  void leave() override;
  void step(const char* text, u64 a, u64 b, u64 c) override;
  void remark(const std::string& text);

  // One access or call begins and ends; its way is compared with earlier ones.
  void begin();
  void end();
  // What was kept since the last call.
  std::vector<WalkItem> take();

  // How often a function was entered since clear_calls().
  u64 calls(const std::string& function) const;
  void clear_calls() { calls_.clear(); }

  // The text of a report with its values filled in.
  static std::string format(const char* text, u64 a, u64 b, u64 c);

 private:
  void add(WalkItem item, const char* shape);

  std::vector<WalkItem> items_;  // of the groups that ended
  std::vector<WalkItem> group_;  // of the one that goes on
  std::string shape_;            // its functions and texts without values
  std::map<std::string, u64> shapes_;
  std::map<std::string, u64> calls_;
  u32 depth_ = 0;
  u64 dropped_ = 0;
};

}  // namespace spillway
