// Goal: what changed between two pictures is told once, with the values before and after, and what
// did not change is not told. Method: pictures made by hand.
#include "workload/picture.h"

#include <gtest/gtest.h>

#include <cstring>

namespace spillway {
namespace {

Picture sample() {
  Picture p;
  p.queues.resize(kPageQueueCount);
  for (u32 i = 0; i < 4; ++i) {
    FrameView frame{};
    frame.state = PageState::free;
    p.frames.push_back(frame);
  }
  PictureTask task{};
  task.name = "A";
  task.view.pid = 2;
  task.view.leader = 2;
  AreaView stack{};
  stack.range.start = Vpn(0x1fe);
  stack.range.end = Vpn(0x200);
  stack.growsdown = true;
  std::strcpy(stack.name, "[stack]");
  AreaView area{};
  area.range.start = Vpn(0x100);
  area.range.end = Vpn(0x104);
  area.prot = Prot::read_write;
  task.areas = {area, stack};
  task.names.emplace_back(VirtAddr(0x100000), "buf");
  p.tasks.push_back(task);
  return p;
}

std::string text_of(const std::vector<Change>& changes) {
  std::string out;
  for (const Change& change : changes) {
    out += std::string(name_of(change.group)) + ": " + change.subject + ":";
    for (const Field& field : change.fields) {
      out += " " + field.name + "(" + field.before + ">" + field.after + ")";
    }
    out += "\n";
  }
  return out;
}

TEST(Picture, equal_pictures_have_no_changes) {
  EXPECT_EQ(text_of(changes_between(sample(), sample())), "");
}

TEST(Picture, a_stack_that_grows_is_the_same_area) {
  Picture after = sample();
  after.tasks[0].areas[1].range.start = Vpn(0x1fd);
  EXPECT_EQ(text_of(changes_between(sample(), after)),
            "areas: A [stack]: range(0x1fe000..0x200000>0x1fd000..0x200000) pages(2>3)\n");
}

TEST(Picture, pages_frames_lists_and_counters) {
  Picture after = sample();
  PteView pte{};
  pte.kind = Pte::Kind::present;
  pte.pfn = Pfn(2);
  pte.writable = true;
  after.tasks[0].entries.push_back({Vpn(0x102), pte});
  FrameView& frame = after.frames[2];
  frame.state = PageState::mapped;
  frame.owner = PageOwner::user;
  frame.count = 1;
  frame.age = 2;
  frame.queue = PageQueue::active;
  after.queues[static_cast<u32>(PageQueue::active)].push_back(Pfn(2));
  after.counters[Counter::pgfault] = 3;
  EXPECT_EQ(text_of(changes_between(sample(), after)),
            "page table: A buf+2p: entry(>present) frame(>2) bits(>writable)\n"
            "frames: frame 2: state(free>mapped) owner(>user) count(>1) mapcount(>0) age(>2) "
            "list(>active) flags(>none)\n"
            "lists: active: length(0>1)\n"
            "counters: pgfault: value(0>3)\n");
}

TEST(Picture, what_goes_is_told_with_what_it_was) {
  Picture before = sample();
  PictureSwap swap{"swap0", {}, {}};
  swap.slots.resize(3);
  swap.slots[1].used = true;
  swap.slots[1].count = 2;
  before.swaps.push_back(swap);
  Picture after = before;
  after.swaps[0].slots[1] = SlotView{};
  after.tasks.clear();
  const std::string text = text_of(changes_between(before, after));
  EXPECT_NE(text.find("areas: A buf: range(0x100000..0x104000>)"), std::string::npos) << text;
  EXPECT_NE(text.find("swap slots: swap0:2: count(2>)"), std::string::npos) << text;
}

TEST(Picture, places_have_names) {
  const Picture p = sample();
  const PictureTask& task = p.tasks[0];
  EXPECT_EQ(place_name(task, Vpn(0x100)), "buf");
  EXPECT_EQ(place_name(task, Vpn(0x103)), "buf+3p");
  EXPECT_EQ(place_name(task, Vpn(0x1ff)), "stack-1p");
  EXPECT_EQ(place_name(task, Vpn(0x300)), "0x300000");
  EXPECT_EQ(slot_text(SlotId(1, 7)), "swap0:7");
}

}  // namespace
}  // namespace spillway
