// Goal: a walk is kept in order and depth, values are filled in, and repetition is folded.
#include "workload/walk_log.h"

#include <gtest/gtest.h>

namespace spillway {
namespace {

std::string text_of(const std::vector<WalkItem>& items) {
  std::string out;
  for (const WalkItem& item : items) {
    out += std::string(item.depth, '.');
    out += item.kind == WalkItem::Kind::call   ? item.function + "(" + item.text + ")"
           : item.kind == WalkItem::Kind::more ? "+" + std::to_string(item.count)
                                               : item.text;
    out += ";";
  }
  return out;
}

void fault(WalkLog& log, u64 address, bool major) {
  {
    const WalkScope outer(&log, "do_page_fault", "at {a:x}", address);
    const WalkScope inner(&log, "handle_mm_fault");
    log.step(major ? "slot {a}: read" : "{b:s} page, frame {a}", address >> 12,
             walk_string("fresh"), 0);
  }
}

TEST(WalkLog, fills_in_values) {
  EXPECT_EQ(WalkLog::format("{a} {b:x} {c:s} {d} {", 7, 255, walk_string("x")), "7 0xff x {d} {");
  EXPECT_EQ(WalkLog::format("{a:s}{b:q}", 0, 1, 0), "{b:q}");
}

TEST(WalkLog, keeps_order_and_depth) {
  WalkLog log;
  fault(log, 0x3000, false);
  log.remark("done");
  log.remark("done");
  EXPECT_EQ(text_of(log.take()),
            "do_page_fault(at 0x3000);.handle_mm_fault();..fresh page, frame 3;done;");
  EXPECT_TRUE(log.take().empty());
  EXPECT_EQ(log.calls("handle_mm_fault"), 1U);
  log.clear_calls();
  EXPECT_EQ(log.calls("handle_mm_fault"), 0U);
}

TEST(WalkLog, folds_what_went_the_same_way) {
  WalkLog log;
  for (u64 i = 0; i < 5; ++i) fault(log, i << 12, false);
  fault(log, 0x9000, true);
  for (u64 i = 0; i < 3; ++i) fault(log, i << 12, i == 1);
  const std::string text = text_of(log.take());
  EXPECT_EQ(text,
            "do_page_fault(at 0x0);.handle_mm_fault();..fresh page, frame 0;+4;"
            "do_page_fault(at 0x9000);.handle_mm_fault();..slot 9: read;+3;");
  // A new operation tells its way anew.
  fault(log, 0x1000, false);
  EXPECT_EQ(log.take().size(), 3U);
  EXPECT_EQ(log.calls("do_page_fault"), 10U);
}

TEST(WalkLog, folds_at_every_depth_and_decisions_too) {
  WalkLog log;
  {
    const WalkScope outer(&log, "swap_out");
    for (u64 i = 0; i < 9; ++i) {
      const WalkScope inner(&log, "try_to_swap_out", "page {a}", i);
      log.step(i == 4 ? "taken" : "age {a}", i, 0, 0);
    }
    for (u64 i = 0; i < WalkLog::kStepsMax + 3; ++i) log.step("mm {a}", i, 0, 0);
  }
  EXPECT_EQ(text_of(log.take()),
            "swap_out();.try_to_swap_out(page 0);..age 0;.+3;.try_to_swap_out(page 4);..taken;.+4;"
            ".mm 0;.mm 1;.mm 2;.mm 3;.mm 4;.mm 5;.+3;");
}

TEST(WalkLog, has_a_limit) {
  WalkLog log;
  std::vector<std::string> names;
  for (u64 i = 0; i < 3 * WalkLog::kItemsMax; ++i) names.push_back("f" + std::to_string(i));
  for (const std::string& name : names) const WalkScope scope(&log, name.c_str());
  const auto items = log.take();
  ASSERT_EQ(items.size(), WalkLog::kItemsMax + 1);
  EXPECT_EQ(items.back().text,
            std::to_string(2 * WalkLog::kItemsMax) + " more calls and decisions are not kept");
}

}  // namespace
}  // namespace spillway
