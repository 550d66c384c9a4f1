// The state machine of a page: every step that the table allows happens, every other is a panic;
// docs/page-states.md shows the same table.
#include "page/page.h"

#include <gtest/gtest.h>

#include <csetjmp>
#include <fstream>
#include <sstream>
#include <string>

namespace spillway {
namespace {

std::jmp_buf g_back;

// Whether fn() panics. For code without destructors and locks only: it is left by longjmp.
template <class Fn>
bool panics(Fn fn) {
  set_panic_hook([](const PanicInfo&) { std::longjmp(g_back, 1); });
  if (setjmp(g_back) != 0) {
    set_panic_hook(nullptr);
    return true;
  }
  fn();
  set_panic_hook(nullptr);
  return false;
}

constexpr Vpn kLastVpn{(u64{1} << 36) - 1};

PageState state(u32 i) { return static_cast<PageState>(i); }

TEST(PageState, every_step_is_done_or_refused_as_the_table_says) {
  Page page;
  FrameTable frames;
  frames.init(&page, PageCount(1));
  for (u32 from = 0; from < kPageStateCount; ++from) {
    for (u32 to = 0; to < kPageStateCount; ++to) {
      page.state = state(from);
      const bool refused = panics([&] { frames.transition(Pfn(0), state(from), state(to)); });
      EXPECT_EQ(refused, !page_may_go(state(from), state(to)))
          << name_of(state(from)) << " -> " << name_of(state(to));
      EXPECT_EQ(page.state, refused ? state(from) : state(to));
    }
  }
}

TEST(PageState, a_page_in_another_state_than_expected_is_a_panic) {
  Page page;
  FrameTable frames;
  frames.init(&page, PageCount(1));
  page.state = PageState::mapped;
  EXPECT_TRUE(panics([&] { frames.transition(Pfn(0), PageState::unmapped, PageState::mapped); }));
}

// The shape of the table: what it must never allow, whatever else is added to it.
TEST(PageState, frames_change_hands_only_through_isolated) {
  for (u32 from = 0; from < kPageStateCount; ++from) {
    EXPECT_FALSE(page_may_go(state(from), state(from)));
    if (state(from) != PageState::isolated && state(from) != PageState::offline) {
      EXPECT_TRUE(page_may_go(state(from), PageState::isolated)) << name_of(state(from));
    }
  }
  for (PageState used :
       {PageState::kernel, PageState::mapped, PageState::unmapped, PageState::reading}) {
    EXPECT_FALSE(page_may_go(used, PageState::free));
    EXPECT_FALSE(page_may_go(used, PageState::pcp));
    EXPECT_FALSE(page_may_go(used, PageState::offline));
    EXPECT_FALSE(page_may_go(PageState::free, used));
    EXPECT_FALSE(page_may_go(PageState::pcp, used));
    EXPECT_FALSE(page_may_go(PageState::offline, used));
  }
  EXPECT_FALSE(page_may_go(PageState::reading, PageState::mapped));
  EXPECT_FALSE(page_may_go(PageState::reserved, PageState::free));
  // A frame that comes online is nobody's yet.
  EXPECT_FALSE(page_may_go(PageState::offline, PageState::isolated));
  EXPECT_TRUE(page_may_go(PageState::offline, PageState::reserved));
}

TEST(Page, reverse_map_keeps_space_and_page_apart) {
  Page page;
  page.set_rmap(SpaceId(0xffff), kLastVpn);
  EXPECT_EQ(page.rmap_space(), SpaceId(0xffff));
  EXPECT_EQ(page.rmap_vpn(), kLastVpn);
  page.clear_rmap();
  EXPECT_EQ(page.rmap, 0U);
}

TEST(Page, states_and_owners_have_different_names) {
  for (u32 i = 0; i < kPageStateCount; ++i) {
    for (u32 k = 0; k < i; ++k) EXPECT_STRNE(name_of(state(i)), name_of(state(k)));
  }
  for (u32 i = 0; i < kPageOwnerCount; ++i) {
    for (u32 k = 0; k < i; ++k) {
      EXPECT_STRNE(name_of(static_cast<PageOwner>(i)), name_of(static_cast<PageOwner>(k)));
    }
  }
}

std::string expected_table() {
  std::ostringstream out;
  out << "| from \\ to |";
  for (u32 to = 0; to < kPageStateCount; ++to) out << ' ' << name_of(state(to)) << " |";
  out << "\n|---|";
  for (u32 to = 0; to < kPageStateCount; ++to) out << "---|";
  out << '\n';
  for (u32 from = 0; from < kPageStateCount; ++from) {
    out << "| **" << name_of(state(from)) << "** |";
    for (u32 to = 0; to < kPageStateCount; ++to) {
      out << (page_may_go(state(from), state(to)) ? " yes |" : " |");
    }
    out << '\n';
  }
  return out.str();
}

TEST(PageState, the_document_shows_the_table_of_the_code) {
  std::ifstream file(SPW_SOURCE_DIR "/docs/page-states.md");
  std::stringstream text;
  text << file.rdbuf();
  ASSERT_FALSE(text.str().empty()) << "docs/page-states.md is missing";
  EXPECT_NE(text.str().find(expected_table()), std::string::npos)
      << "docs/page-states.md is out of date; its table should be:\n\n"
      << expected_table();
  for (u32 i = 0; i < kPageStateCount; ++i) {
    EXPECT_NE(text.str().find("`" + std::string(name_of(state(i))) + "`"), std::string::npos)
        << "docs/page-states.md does not explain " << name_of(state(i));
  }
}

}  // namespace
}  // namespace spillway
