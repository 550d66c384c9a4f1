// Goal: the walk-through shows the path of a call, what changed and nothing else, folds what
// repeats, and uses colour only where it is asked to. Method: a step made by hand.
#include "scenario/text_view.h"

#include <gtest/gtest.h>

namespace spillway {
namespace {

StepRecord sample() {
  StepRecord record;
  record.number = 3;
  record.title = "A step";
  record.narrative = "One paragraph.\nAnother.";
  WalkLog log;
  {
    const WalkScope outer(&log, "do_page_fault", "write at {a:x}", 0x4000);
    log.step("found it", 0, 0, 0);
    const WalkScope inner(&log, "handle_mm_fault");
  }
  record.operations.push_back({{7, 3}, "write A buf 1", "", false, false, log.take(), 2});
  record.operations.push_back({{8, 3}, "expect rss A = 1", "1", true, false, {}, 1});
  for (int i = 0; i < 20; ++i) {
    record.changes.push_back({FactGroup::frames,
                              Change::Kind::changed,
                              "frame " + std::to_string(i),
                              {{"age", "2", "5"}, {"flags", "none", "dirty"}}});
  }
  record.changes.push_back(
      {FactGroup::counters, Change::Kind::changed, "pgfault", {{"value", "10", "13"}}});
  return record;
}

std::string shown(const TextStyle& style) {
  std::string out;
  TextView view(
      style, [&](const std::string& text) { out += text; }, nullptr);
  EXPECT_TRUE(view.step(sample(), {}, {}));
  return out;
}

TEST(TextView, shows_path_and_changes) {
  const std::string text = shown({});
  EXPECT_NE(text.find("One paragraph.\n\nAnother.\n\n3. A step\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  write A buf 1   2 times\n"
                      "      do_page_fault  write at 0x4000\n"
                      "        - found it\n"
                      "        handle_mm_fault\n"
                      "  holds: expect rss A = 1\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("frames         ~ frame 0  age 2 -> 5, flags none -> dirty\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("  ... 19 more like it, up to frame 19\n"), std::string::npos) << text;
  EXPECT_NE(text.find("counters       pgfault +3\n"), std::string::npos) << text;
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

TEST(TextView, colour_adds_nothing_but_colour) {
  std::string coloured = shown({.colour = true});
  EXPECT_NE(coloured.find('\x1b'), std::string::npos);
  for (std::size_t at = 0; (at = coloured.find('\x1b')) != std::string::npos;) {
    coloured.erase(at, coloured.find('m', at) - at + 1);
  }
  EXPECT_EQ(coloured, shown({}));
}

TEST(TextView, a_pause_can_end_the_run) {
  TextView view(
      {}, [](const std::string&) {}, [] { return false; });
  EXPECT_FALSE(view.step(sample(), {}, {}));
}

}  // namespace
}  // namespace spillway
