// TextView: the walk-through on a terminal or in a file, as the run goes on.
#pragma once

#include <cstdio>
#include <functional>
#include <string>

#include "workload/runner.h"

namespace spillway {

struct TextStyle {
  bool colour = false;
  std::size_t width = 96;
  // More changes of one kind, or more equal operations, are only counted.
  std::size_t changes_max = 8;
};

class TextView final : public RunListener {
 public:
  // Writes pieces of text by `write`. `pause`, if given, is called after each step; false ends
  // the run.
  TextView(const TextStyle& style, std::function<void(const std::string&)> write,
           std::function<bool()> pause);

  void begin(const Scenario& scenario, const Stage& stage, const Picture& picture) override;
  bool step(const StepRecord& record, const Picture& before, const Picture& after) override;

 private:
  std::string paint(const char* code, const std::string& text) const;
  // `text` in lines of the width; the first begins at column `column`.
  std::string wrapped(const std::string& text, std::size_t indent, std::size_t column) const;
  std::string operation_text(const OperationRecord& operation) const;
  std::string walk_text(const std::vector<WalkItem>& walk) const;
  std::string changes_text(const std::vector<Change>& changes) const;
  std::string one_change(const Change& change, std::size_t subject_width) const;
  std::string line_of_group(FactGroup group, const std::vector<const Change*>& changes) const;

  TextStyle style_;
  std::function<void(const std::string&)> write_;
  std::function<bool()> pause_;
};

// "64 frames, 2 CPUs, policy linux24, watermarks 4 8 12".
std::string machine_text(const Stage& stage);
const char* name_of(Policy policy);

}  // namespace spillway
